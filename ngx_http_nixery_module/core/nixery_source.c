
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_image.h"
#include "nixery_source.h"


#define NIXERY_REFS   "refs/"
#define NIXERY_HEADS  "refs/heads/"


int
nixery_source_pin(const nixery_source_t *source, const char *tag, size_t len,
    nixery_revision_t *revision, nixery_error_t *err)
{
    const char  *name;

    memset(revision, 0, sizeof(nixery_revision_t));

    if (source->kind == NIXERY_SOURCE_GIT && len > sizeof(NIXERY_REFS) - 1
        && memcmp(tag, NIXERY_REFS, sizeof(NIXERY_REFS) - 1) == 0)
    {
        if (nixery_ref_valid(tag, len)) {
            return NIXERY_DECLINED;
        }

        return nixery_error_set(err, NIXERY_ERROR_TAG, "the tag is no name of "
                                "a git reference, see git-check-ref-format");
    }

    if (nixery_tag_check(tag, len, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (source->kind == NIXERY_SOURCE_PATH) {
        return NIXERY_OK;
    }

    /* the tag of a channel's image says nothing, its own name does */

    name = source->kind == NIXERY_SOURCE_GIT ? tag : source->name;

    if (source->kind == NIXERY_SOURCE_CHANNEL) {
        len = strlen(name);

    } else if (source->ref != NULL
               && ((len == sizeof("latest") - 1
                    && memcmp(tag, "latest", len) == 0)
                   || (len == sizeof("HEAD") - 1
                       && memcmp(tag, "HEAD", len) == 0)))
    {
        name = source->ref;
        len = strlen(name);
    }

    if (!nixery_commit_valid(name, len)) {
        return NIXERY_DECLINED;
    }

    memcpy(revision->id, name, NIXERY_COMMIT_LEN);

    return NIXERY_OK;
}


int
nixery_ref_valid(const char *ref, size_t len)
{
    char    c;
    size_t  i;

    if (len <= sizeof(NIXERY_REFS) - 1 || len > NIXERY_REF_MAX
        || memcmp(ref, NIXERY_REFS, sizeof(NIXERY_REFS) - 1) != 0
        || ref[len - 1] == '.')
    {
        return 0;
    }

    for (i = 1; i <= len; i++) {
        c = i < len ? ref[i] : '/';

        if (c == '/') {
            if (ref[i - 1] == '/'
                || (i >= 5 && memcmp(ref + i - 5, ".lock", 5) == 0))
            {
                return 0;
            }

            continue;
        }

        if (c <= ' ' || c >= 0x7f || strchr("~^:?*[\\", c) != NULL
            || (c == '.' && strchr("./", ref[i - 1]) != NULL)
            || (c == '{' && ref[i - 1] == '@'))
        {
            return 0;
        }
    }

    return 1;
}


int
nixery_commit_valid(const char *commit, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if ((commit[i] < '0' || commit[i] > '9')
            && (commit[i] < 'a' || commit[i] > 'f'))
        {
            return 0;
        }
    }

    return len == NIXERY_COMMIT_LEN;
}


int
nixery_source_argument(const nixery_source_t *source,
    const nixery_revision_t *revision, nixery_buf_t *text)
{
    size_t       n;
    const char  *ref;

    switch (source->kind) {

    case NIXERY_SOURCE_PATH:
        return nixery_buf_printf(text, "path!%s", source->name);

    case NIXERY_SOURCE_CHANNEL:
        return nixery_buf_printf(text, "nixpkgs!%s", source->name);

    default: /* NIXERY_SOURCE_GIT */
        n = sizeof(NIXERY_HEADS) - 1;
        ref = revision->ref[0] != '\0' ? revision->ref : revision->id;

        if (strncmp(ref, NIXERY_HEADS, n) == 0) {
            ref += n;
        }

        return nixery_buf_printf(text, "git!%s!%s", source->name, ref);
    }
}
