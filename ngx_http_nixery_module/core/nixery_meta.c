
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_image.h"


static const nixery_meta_t *nixery_meta_search(const nixery_meta_t *metas,
    const char *name, size_t len);
static int nixery_package_char(char c);


static const char *const  nixery_meta_shell[] = {
    "bashInteractive", "coreutils", "moreutils", "nano", NULL
};

static const char *const  nixery_meta_builder[] = {
    "bashInteractive", "coreutils", "moreutils", "nano", "stdenv", NULL
};

static const nixery_meta_t  nixery_metas[] = {
    { "shell", nixery_meta_shell },
    { "builder", nixery_meta_builder },
    { NULL, NULL }
};

static const struct {
    const char  *name;
    const char  *system;
} nixery_meta_platforms[] = {
    { "arm64", "aarch64-linux" },
    { NULL, NULL }
};


const nixery_meta_t *
nixery_meta_find(const nixery_meta_t *metas, const char *name, size_t len)
{
    const nixery_meta_t  *meta;

    meta = metas != NULL ? nixery_meta_search(metas, name, len) : NULL;

    return meta != NULL ? meta : nixery_meta_search(nixery_metas, name, len);
}


static const nixery_meta_t *
nixery_meta_search(const nixery_meta_t *metas, const char *name, size_t len)
{
    const nixery_meta_t  *meta;

    for (meta = metas; meta->name != NULL; meta++) {
        if (strlen(meta->name) == len && memcmp(meta->name, name, len) == 0) {
            return meta;
        }
    }

    return NULL;
}


const char *
nixery_meta_system(const char *name, size_t len)
{
    size_t  i;

    for (i = 0; nixery_meta_platforms[i].name != NULL; i++) {
        if (strlen(nixery_meta_platforms[i].name) == len
            && memcmp(nixery_meta_platforms[i].name, name, len) == 0)
        {
            return nixery_meta_platforms[i].system;
        }
    }

    return NULL;
}


int
nixery_meta_check(const char *name, size_t len, nixery_error_t *err)
{
    if (nixery_name_check(name, len, "meta-package", err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (memchr(name, '/', len) != NULL) {
        return nixery_error_set(err, NIXERY_ERROR_NAME, "meta-package \"%.*s\" "
                                "is more than one component of a name",
                                (int) len, name);
    }

    if (nixery_meta_system(name, len) != NULL) {
        return nixery_error_set(err, NIXERY_ERROR_NAME, "\"%.*s\" is a "
                                "platform and can't be a meta-package",
                                (int) len, name);
    }

    return NIXERY_OK;
}


int
nixery_package_check(const char *package, size_t len, nixery_error_t *err)
{
    char         c;
    size_t       i;
    const char  *reason;

    if (len == 0) {
        return nixery_error_set(err, NIXERY_ERROR_NAME,
                                "the name of a package is empty");
    }

    if (len > NIXERY_PACKAGE_MAX) {
        return nixery_error_set(err, NIXERY_ERROR_NAME, "package \"%.*s\" is "
                                "%zu bytes long, more than %d", (int) len,
                                package, len, NIXERY_PACKAGE_MAX);
    }

    reason = package[0] == '-' ? "begins with \"-\"" : NULL;

    for (i = 0; i < len && reason == NULL; i++) {
        c = package[i];

        if (nixery_package_char(c)) {
            continue;
        }

        if (c != '.') {
            reason = "is not made of letters, digits, \".\", \"_\", \"-\", "
                     "\"+\" and \"'\"";

        } else if (i == 0 || i + 1 == len || package[i + 1] == '.') {
            reason = "has an attribute without a name";
        }
    }

    if (reason == NULL) {
        return NIXERY_OK;
    }

    return nixery_error_set(err, NIXERY_ERROR_NAME, "package \"%.*s\" %s",
                            (int) len, package, reason);
}


static int
nixery_package_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
           || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '+'
           || c == '\'';
}
