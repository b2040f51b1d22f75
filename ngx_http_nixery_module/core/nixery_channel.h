
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_CHANNEL_H_INCLUDED_
#define _NIXERY_CHANNEL_H_INCLUDED_


#include "nixery_download.h"
#include "nixery_fetch.h"


/* A channel's tarball, as it is held for a build. */

typedef struct {
    nixery_download_t    download;
    char                *dir;     /* where downloads are */
    char                *url;     /* of the file */
    char                *hash;    /* Nix's SHA-256 of what is in it, or NULL */
} nixery_channel_t;


/*
 * What a channel is at: the commit that its repository says when the URL is one
 * of an archive, or that stands beside the tarball ("git-revision", as where
 * NixOS keeps its channels), else the tarball's own hash.
 * Errors: NIXERY_ERROR_REF, there is no such channel; NIXERY_ERROR_SOURCE,
 * _TIMEOUT, _CANCELED, _SYSTEM.
 */
int nixery_channel_resolve(const nixery_fetch_t *fetch,
    nixery_revision_t *revision, nixery_error_t *err);

/*
 * Makes the tarball of a revision a file that is there until the channel is
 * freed, and its content one that the Nix store has.
 * Errors: as above; NIXERY_ERROR_MOVED, the channel is at another revision.
 */
int nixery_channel_open(const nixery_fetch_t *fetch,
    const nixery_revision_t *revision, nixery_channel_t *channel,
    nixery_error_t *err);

/* Safe on a zeroed struct. */
void nixery_channel_close(nixery_channel_t *channel);


#endif /* _NIXERY_CHANNEL_H_INCLUDED_ */
