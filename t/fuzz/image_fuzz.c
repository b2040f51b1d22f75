
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/*
 * Names, tags and digests of requests, compared with the grammars that the
 * specification itself has; and the names of meta-packages and their packages.
 */

#include "grammar.h"
#include "nixery_image.h"


#define FUZZ_COMPONENT  "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*"
#define FUZZ_ATTRIBUTE  "[a-zA-Z0-9_+'-]+"


static int fuzz_name(const char *text, size_t len,
    const nixery_meta_t *metas, nixery_error_t *err);
static void fuzz_meta(const char *text, size_t len);


static fuzz_grammar_t  fuzz_names = {
    .text = "^" FUZZ_COMPONENT "(/" FUZZ_COMPONENT ")*$"
};

static fuzz_grammar_t  fuzz_tags = {
    .text = "^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$"
};

static fuzz_grammar_t  fuzz_digests = {
    .text = "^sha256:[a-f0-9]{64}$"
};


static fuzz_grammar_t  fuzz_meta_names = {
    .text = "^" FUZZ_COMPONENT "$"
};

static fuzz_grammar_t  fuzz_packages = {
    .text = "^[a-zA-Z0-9_+'](" FUZZ_ATTRIBUTE ")?(\\." FUZZ_ATTRIBUTE ")*$"
};


static const char *const  fuzz_shell[] = { "zsh", "a.B", NULL };
static const char *const  fuzz_other[] = { "zsh", "_1", "zsh", "a'+", NULL };

static const nixery_meta_t  fuzz_metas[] = {
    { "shell", fuzz_shell }, { "a", fuzz_other }, { NULL, NULL }
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int              rc;
    char             hex[NIXERY_HEX_LEN + 1];
    const char      *text;
    nixery_error_t   err = { 0 };

    text = (const char *) data;

    rc = fuzz_name(text, size, fuzz_metas, &err);

    fuzz_check(rc == fuzz_name(text, size, NULL, &err));
    fuzz_meta(text, size);

    /* longer ones, and those of a meta-package alone, are refused as well */

    if (size <= NIXERY_NAME_MAX
        && (err.message == NULL
            || strstr(err.message, "names no package") == NULL))
    {
        fuzz_compare(&fuzz_names, text, size, rc);
    }

    fuzz_check_error(rc, &err);

    rc = nixery_tag_check(text, size, &err);

    fuzz_compare(&fuzz_tags, text, size, rc);
    fuzz_check_error(rc, &err);

    rc = nixery_digest_parse(text, size, hex, &err);

    fuzz_compare(&fuzz_digests, text, size, rc);
    fuzz_check_error(rc, &err);
    fuzz_check(rc != NIXERY_OK || strlen(hex) == NIXERY_HEX_LEN);

    return 0;
}


static int
fuzz_name(const char *text, size_t len, const nixery_meta_t *metas,
    nixery_error_t *err)
{
    int             rc;
    size_t          i;
    nixery_image_t  image;

    rc = nixery_image_parse(&image, text, len, metas, err);

    if (rc != NIXERY_OK) {
        return rc;
    }

    fuzz_check(len <= NIXERY_NAME_MAX && image.npackages != 0
               && image.packages[image.npackages] == NULL);

    for (i = 1; i < image.npackages; i++) {
        fuzz_check(strcmp(image.packages[i - 1], image.packages[i]) < 0);
    }

    nixery_image_free(&image);

    return NIXERY_OK;
}


static void
fuzz_meta(const char *text, size_t len)
{
    int             rc;
    nixery_error_t  err = { 0 };

    rc = nixery_meta_check(text, len, &err);

    if (len <= NIXERY_NAME_MAX && nixery_meta_system(text, len) == NULL) {
        fuzz_compare(&fuzz_meta_names, text, len, rc);
    }

    fuzz_check_error(rc, &err);

    rc = nixery_package_check(text, len, &err);

    if (len <= NIXERY_PACKAGE_MAX) {
        fuzz_compare(&fuzz_packages, text, len, rc);
    }

    fuzz_check_error(rc, &err);
}
