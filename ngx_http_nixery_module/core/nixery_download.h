
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_DOWNLOAD_H_INCLUDED_
#define _NIXERY_DOWNLOAD_H_INCLUDED_


#include "nixery_http.h"


/*
 * Behind the name of a content: what whoever uses it has found out about it,
 * while it was held; that goes when the content does.
 */
#define NIXERY_DOWNLOAD_NOTE  ".nix"


/*
 * What a URL has, as a file that is kept for the next time, and for other
 * threads and processes.  In the directory there are contents by their hash,
 * "<sha256>", and what is known of URLs, "<sha256 of the URL>.json": which
 * content, and its ETag.  A content that someone uses is held by flock();
 * of those that nobody does, the eight used last are kept.
 */

typedef struct {
    /* in */
    const char      *dir;            /* made when missing; its parent is not */
    nixery_http_t    http;           /* in fields, but for etag and fd */
    unsigned         immutable:1;    /* what is kept is not asked for again */

    /* out; released by nixery_download_free() */
    char            *path;           /* of the content; there until then */
    char             sha256[NIXERY_HEX_LEN + 1];
    uint64_t         size;
    int              fd;             /* of the content, if path is not NULL */
} nixery_download_t;


/*
 * Asks the server, unless that is not needed, and gets what has changed.
 * NIXERY_DECLINED: it says that there is nothing (404, 410); errors are those
 * of nixery_http_get(), NIXERY_ERROR_SOURCE for every other refusal.
 */
int nixery_download_get(nixery_download_t *d, nixery_error_t *err);

/* What is kept of the URL, whatever the server has now; or NIXERY_DECLINED. */
int nixery_download_kept(nixery_download_t *d, nixery_error_t *err);

/* A content that is kept, whatever URL it is from; or NIXERY_DECLINED. */
int nixery_download_find(nixery_download_t *d, const char *sha256,
    nixery_error_t *err);

/* Needed after NIXERY_OK and NIXERY_DECLINED, harmless after NIXERY_ERROR. */
void nixery_download_free(nixery_download_t *d);


#endif /* _NIXERY_DOWNLOAD_H_INCLUDED_ */
