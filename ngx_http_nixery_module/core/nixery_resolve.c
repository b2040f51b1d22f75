
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_channel.h"
#include "nixery_git.h"
#include "nixery_resolve.h"
#include "nixery_work.h"


int
nixery_resolve_run(nixery_resolve_t *resolve)
{
    int              rc;
    uint64_t         start;
    nixery_work_t    work;
    nixery_fetch_t   fetch;

    if (nixery_canceled(&resolve->cancel)) {
        return nixery_error_set(&resolve->error, NIXERY_ERROR_CANCELED,
                                "the build was canceled");
    }

    start = nixery_now();

    if (nixery_work_open(&work, resolve->settings->temp_path, &resolve->error)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    memset(&fetch, 0, sizeof(nixery_fetch_t));

    fetch.nix = &resolve->settings->nix;
    fetch.temp_path = resolve->settings->temp_path;
    fetch.work = work.path;
    fetch.deadline = start + fetch.nix->timeout;
    fetch.cancel = &resolve->cancel;

    rc = nixery_fetch_open(&fetch, &resolve->error);

    if (rc == NIXERY_OK) {
        rc = nixery_source_resolve(&fetch, resolve->tag, &resolve->revision,
                                   &resolve->error);
    }

    nixery_fetch_close(&fetch);
    nixery_work_close(&work);

    resolve->time = nixery_now() - start;

    return rc;
}


void
nixery_resolve_free(nixery_resolve_t *resolve)
{
    nixery_error_free(&resolve->error);
    free(resolve->tag);
    resolve->tag = NULL;
}


int
nixery_source_resolve(const nixery_fetch_t *fetch, const char *tag,
    nixery_revision_t *revision, nixery_error_t *err)
{
    int                     rc;
    const nixery_source_t  *source;

    source = fetch->nix->source;

    if (source->kind == NIXERY_SOURCE_CHANNEL) {
        return nixery_channel_resolve(fetch, revision, err);
    }

    /* the default branch, as "latest" or as what a detached one is called */

    if (strcmp(tag, "latest") == 0 || strcmp(tag, "HEAD") == 0) {
        tag = source->ref;
    }

    rc = nixery_git_resolve(fetch, source->name, source->shown, tag, revision,
                            err);

    if (rc == NIXERY_DECLINED) {
        rc = nixery_error_set(err, NIXERY_ERROR_SOURCE, "there is no git "
                              "repository at \"%s\"", source->shown);
    }

    return rc;
}
