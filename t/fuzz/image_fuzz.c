
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <regex.h>
#include "nixery_image.h"


static void fuzz_name(const char *text, size_t len);
static void fuzz_check(const char *regex, const char *text, size_t len, int rc,
    nixery_error_t *err);


/* Names, tags and digests, compared with the specification's own grammars. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char             hex[NIXERY_HEX_LEN + 1];
    nixery_error_t   err = { 0 };

    fuzz_name((const char *) data, size);

    fuzz_check("^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$", (const char *) data,
               size, nixery_tag_check((const char *) data, size, &err), &err);

    fuzz_check("^sha256:[a-f0-9]{64}$", (const char *) data, size,
               nixery_digest_parse((const char *) data, size, hex, &err),
               &err);

    return 0;
}


static void
fuzz_name(const char *text, size_t len)
{
    int             rc;
    size_t          i;
    nixery_error_t  err = { 0 };
    nixery_image_t  image;

    rc = nixery_image_parse(&image, text, len, &err);

    if (rc == NIXERY_OK) {
        if (len > NIXERY_NAME_MAX || image.npackages == 0
            || image.packages[image.npackages] != NULL)
        {
            abort();
        }

        for (i = 1; i < image.npackages; i++) {
            if (strcmp(image.packages[i - 1], image.packages[i]) >= 0) {
                abort();
            }
        }

        nixery_image_free(&image);

    } else if (len > NIXERY_NAME_MAX
               || (err.message != NULL
                   && strstr(err.message, "names no package") != NULL))
    {
        nixery_error_free(&err);
        return;
    }

    fuzz_check("^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*"
               "(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$",
               text, len, rc, &err);
}


static void
fuzz_check(const char *regex, const char *text, size_t len, int rc,
    nixery_error_t *err)
{
    int          matched;
    char        *s, *p;
    regex_t      re;

    if ((rc == NIXERY_OK) != (err->kind == NIXERY_ERROR_NONE)) {
        abort();
    }

    for (p = err->message; p != NULL && *p != '\0'; p++) {
        if (*p < 0x20 || *p > 0x7e) {
            abort();
        }
    }

    nixery_error_free(err);

    s = strndup(text, len);

    if (s == NULL || regcomp(&re, regex, REG_EXTENDED | REG_NOSUB) != 0) {
        abort();
    }

    matched = strlen(s) == len && regexec(&re, s, 0, NULL, 0) == 0;

    if (matched != (rc == NIXERY_OK)) {
        abort();
    }

    regfree(&re);
    free(s);
}
