
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_image.h"


#define NIXERY_QUOTE_MAX  64   /* bytes of a name that a message shows */


/* Each byte may become "\xNN", then "..." and '\0'. */

typedef char  nixery_quote_t[NIXERY_QUOTE_MAX * 4 + 4];


static int nixery_name_error(nixery_error_t *err, const char *what,
    const char *name, size_t len, size_t pos, const char *reason);
static int nixery_image_expand(nixery_image_t *image, const char *name,
    size_t len, const nixery_meta_t *metas, unsigned *leading);
static int nixery_image_add(nixery_image_t *image, const char *name,
    size_t len);
static int nixery_image_join(nixery_image_t *image);
static int nixery_package_cmp(const void *one, const void *two);
static int nixery_is_alnum(char c);
static const char *nixery_quote(nixery_quote_t quote, const char *s,
    size_t len);


int
nixery_image_parse(nixery_image_t *image, const char *name, size_t len,
    const nixery_meta_t *metas, nixery_error_t *err)
{
    size_t       n;
    unsigned     leading;
    const char  *p, *end, *slash;

    memset(image, 0, sizeof(nixery_image_t));

    if (nixery_name_check(name, len, "image name", err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    leading = 1;
    end = name + len;

    for (p = name; p < end; p += n + 1) {
        slash = memchr(p, '/', end - p);
        n = (slash ? slash : end) - p;

        if (nixery_image_expand(image, p, n, metas, &leading) != NIXERY_OK) {
            goto nomem;
        }
    }

    if (image->npackages == 0) {
        nixery_image_free(image);

        return nixery_error_set(err, NIXERY_ERROR_NAME, "image name \"%.*s\" "
                                "names no package, only a platform", (int) len,
                                name);
    }

    if (nixery_image_join(image) != NIXERY_OK) {
        goto nomem;
    }

    if (strlen(image->name) > NIXERY_IMAGE_MAX) {
        (void) nixery_error_set(err, NIXERY_ERROR_NAME, "image name \"%.*s\" "
                                "stands for %zu packages, whose names are "
                                "longer than %d bytes", (int) len, name,
                                image->npackages, NIXERY_IMAGE_MAX);
        nixery_image_free(image);

        return NIXERY_ERROR;
    }

    return NIXERY_OK;

nomem:

    nixery_image_free(image);

    return nixery_error_nomem(err);
}


/* A component; meta-packages lead, and the first that is none ends them. */

static int
nixery_image_expand(nixery_image_t *image, const char *name, size_t len,
    const nixery_meta_t *metas, unsigned *leading)
{
    const char            *system;
    const char *const     *package;
    const nixery_meta_t   *meta;

    system = *leading ? nixery_meta_system(name, len) : NULL;

    if (system != NULL) {
        image->system = system;
        return NIXERY_OK;
    }

    meta = *leading ? nixery_meta_find(metas, name, len) : NULL;

    if (meta == NULL) {
        *leading = 0;
        return nixery_image_add(image, name, len);
    }

    for (package = meta->packages; *package != NULL; package++) {
        if (nixery_image_add(image, *package, strlen(*package)) != NIXERY_OK) {
            return NIXERY_ERROR;
        }
    }

    return NIXERY_OK;
}


void
nixery_image_free(nixery_image_t *image)
{
    size_t  i;

    for (i = 0; i < image->npackages; i++) {
        free(image->packages[i]);
    }

    free(image->packages);
    free(image->name);
    memset(image, 0, sizeof(nixery_image_t));
}


int
nixery_tag_check(const char *tag, size_t len, nixery_error_t *err)
{
    char            c;
    size_t          i;
    nixery_quote_t  quote, byte;

    if (len == 0) {
        return nixery_error_set(err, NIXERY_ERROR_TAG, "the tag is empty");
    }

    if (len > NIXERY_TAG_MAX) {
        return nixery_error_set(err, NIXERY_ERROR_TAG,
                                "tag \"%s\" is %zu bytes long, more than %d",
                                nixery_quote(quote, tag, len), len,
                                NIXERY_TAG_MAX);
    }

    for (i = 0; i < len; i++) {
        c = tag[i];

        if (nixery_is_alnum(c) || (c >= 'A' && c <= 'Z') || c == '_'
            || (i > 0 && (c == '.' || c == '-')))
        {
            continue;
        }

        return nixery_error_set(err, NIXERY_ERROR_TAG,
                                "tag \"%s\": \"%s\" at byte %zu: %s",
                                nixery_quote(quote, tag, len),
                                nixery_quote(byte, tag + i, 1), i + 1,
                                (c == '.' || c == '-')
                                    ? "a tag begins with a letter, a digit or "
                                      "\"_\""
                                    : "a tag is made of letters, digits, "
                                      "\"_\", \".\" and \"-\"");
    }

    return NIXERY_OK;
}


int
nixery_digest_parse(const char *digest, size_t len,
    char hex[NIXERY_HEX_LEN + 1], nixery_error_t *err)
{
    char               c;
    size_t             i, n;
    const char        *colon;
    nixery_quote_t     quote, byte;
    static const char  prefix[] = "sha256:";

    colon = memchr(digest, ':', len);

    if (colon == NULL) {
        return nixery_error_set(err, NIXERY_ERROR_DIGEST,
                                "digest \"%s\" is not \"sha256:\" and %d "
                                "hexadecimal digits",
                                nixery_quote(quote, digest, len),
                                NIXERY_HEX_LEN);
    }

    n = colon - digest + 1;

    if (n != sizeof(prefix) - 1 || memcmp(digest, prefix, n) != 0) {
        return nixery_error_set(err, NIXERY_ERROR_DIGEST,
                                "digest \"%s\": only sha256 is served",
                                nixery_quote(quote, digest, len));
    }

    if (len - n != NIXERY_HEX_LEN) {
        return nixery_error_set(err, NIXERY_ERROR_DIGEST,
                                "digest \"%s\" has %zu digits, not %d",
                                nixery_quote(quote, digest, len), len - n,
                                NIXERY_HEX_LEN);
    }

    for (i = 0; i < NIXERY_HEX_LEN; i++) {
        c = digest[n + i];

        if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) {
            return nixery_error_set(err, NIXERY_ERROR_DIGEST,
                                    "digest \"%s\": \"%s\" at byte %zu is no "
                                    "lower-case hexadecimal digit",
                                    nixery_quote(quote, digest, len),
                                    nixery_quote(byte, digest + n + i, 1),
                                    n + i + 1);
        }
    }

    memcpy(hex, digest + n, NIXERY_HEX_LEN);
    hex[NIXERY_HEX_LEN] = '\0';

    return NIXERY_OK;
}


/*
 * [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, such components joined by "/": the
 * position after a letter or digit, after a run of one separator, or at the
 * start of a component is all that has to be known.
 */

int
nixery_name_check(const char *name, size_t len, const char *what,
    nixery_error_t *err)
{
    char            c, prev;
    size_t          i, run;
    nixery_quote_t  quote;

    if (len == 0) {
        return nixery_error_set(err, NIXERY_ERROR_NAME,
                                "the %s is empty", what);
    }

    if (len > NIXERY_NAME_MAX) {
        return nixery_error_set(err, NIXERY_ERROR_NAME, "%s \"%s\" is %zu "
                                "bytes long, more than %d", what,
                                nixery_quote(quote, name, len), len,
                                NIXERY_NAME_MAX);
    }

    run = 0;
    prev = '/';

    for (i = 0; i < len; i++) {
        c = name[i];

        if (nixery_is_alnum(c)) {
            prev = 'a';
            run = 0;
            continue;
        }

        switch (c) {

        case '/':
            if (prev == '/') {
                return nixery_name_error(err, what, name, len, i,
                                         "a component is empty");
            }

            if (prev != 'a') {
                return nixery_name_error(err, what, name, len, i - 1,
                                         "a component ends with a letter or "
                                         "a digit");
            }

            break;

        case '.':
        case '_':
        case '-':
            if (prev == '/') {
                return nixery_name_error(err, what, name, len, i,
                                         "a component begins with a letter "
                                         "or a digit");
            }

            run++;

            if (prev != 'a'
                && (c != prev || c == '.' || (c == '_' && run > 2)))
            {
                return nixery_name_error(err, what, name, len, i,
                                         "only \".\", \"_\", \"__\" or dashes "
                                         "stand between letters and digits");
            }

            break;

        default:
            return nixery_name_error(err, what, name, len, i,
                                     (c >= 'A' && c <= 'Z')
                                         ? "names are lower-case"
                                         : "names are made of lower-case "
                                           "letters, digits, \".\", \"_\", "
                                           "\"-\" and \"/\"");
        }

        prev = c;
    }

    if (prev == '/') {
        return nixery_name_error(err, what, name, len, len - 1,
                                 "a component is empty");
    }

    if (prev != 'a') {
        return nixery_name_error(err, what, name, len, len - 1,
                                 "a component ends with a letter or a digit");
    }

    return NIXERY_OK;
}


static int
nixery_name_error(nixery_error_t *err, const char *what, const char *name,
    size_t len, size_t pos, const char *reason)
{
    nixery_quote_t  quote, byte;

    return nixery_error_set(err, NIXERY_ERROR_NAME,
                            "%s \"%s\": \"%s\" at byte %zu: %s", what,
                            nixery_quote(quote, name, len),
                            nixery_quote(byte, name + pos, 1), pos + 1,
                            reason);
}


static int
nixery_image_add(nixery_image_t *image, const char *name, size_t len)
{
    char  *package, **packages;

    packages = realloc(image->packages,
                       (image->npackages + 2) * sizeof(char *));
    if (packages == NULL) {
        return NIXERY_ERROR;
    }

    image->packages = packages;

    package = strndup(name, len);
    if (package == NULL) {
        return NIXERY_ERROR;
    }

    packages[image->npackages++] = package;
    packages[image->npackages] = NULL;

    return NIXERY_OK;
}


static int
nixery_image_join(nixery_image_t *image)
{
    char    *p, **packages;
    size_t   i, n, len;

    packages = image->packages;

    qsort(packages, image->npackages, sizeof(char *), nixery_package_cmp);

    n = 1;
    len = strlen(packages[0]) + 1;

    for (i = 1; i < image->npackages; i++) {
        if (strcmp(packages[i], packages[n - 1]) == 0) {
            free(packages[i]);
            continue;
        }

        len += strlen(packages[i]) + 1;
        packages[n++] = packages[i];
    }

    packages[n] = NULL;
    image->npackages = n;

    image->name = malloc(len);
    if (image->name == NULL) {
        return NIXERY_ERROR;
    }

    p = stpcpy(image->name, packages[0]);

    for (i = 1; i < n; i++) {
        *p++ = '/';
        p = stpcpy(p, packages[i]);
    }

    return NIXERY_OK;
}


static int
nixery_package_cmp(const void *one, const void *two)
{
    return strcmp(*(char *const *) one, *(char *const *) two);
}


static int
nixery_is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}


/* What a client sent is shown as printable ASCII, and never much of it. */

static const char *
nixery_quote(nixery_quote_t quote, const char *s, size_t len)
{
    char               *p;
    size_t              i;
    unsigned char       c;
    static const char   digits[] = "0123456789abcdef";

    p = quote;

    for (i = 0; i < len && i < NIXERY_QUOTE_MAX; i++) {
        c = (unsigned char) s[i];

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            *p++ = (char) c;
            continue;
        }

        *p++ = '\\';
        *p++ = 'x';
        *p++ = digits[c >> 4];
        *p++ = digits[c & 0xf];
    }

    (void) stpcpy(p, len > NIXERY_QUOTE_MAX ? "..." : "");

    return quote;
}
