
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_POPULARITY_SOURCE_H_INCLUDED_
#define _NIXERY_POPULARITY_SOURCE_H_INCLUDED_


#include <pthread.h>
#include <sys/stat.h>
#include "nixery_popularity.h"


#define NIXERY_POPULARITY_TIMEOUT   10000   /* milliseconds */
#define NIXERY_POPULARITY_INTERVAL  60000


/* Where a location's table comes from, and the one that is in use. */

typedef struct {
    /* set before it is initialized, constant; strings of the caller */
    const char            *file;        /* absolute path, or NULL */
    const char            *url;         /* without user and password; or NULL */
    const char            *user;        /* or NULL */
    const char            *password;    /* or NULL */
    const char            *what;        /* file or URL, quoted, as people may
                                           see it: in messages */
    char *const           *env;         /* of the download: proxies, CAs */
    const char            *dir;         /* where downloads are kept */
    uint64_t               timeout;     /* milliseconds of a download */
    uint64_t               interval;    /* milliseconds between two */

    /* its own */
    pthread_mutex_t        lock;
    pthread_cond_t         ended;
    unsigned               busy;        /* a thread refreshes it */
    unsigned               known;       /* one of them has */
    nixery_popularity_t   *table;       /* the last good one, or NULL */
    struct stat            seen;        /* the file that it was read from */
    uint64_t               next;        /* when the URL may be asked again */
    char                  *warned;      /* the last warning, unless mended */
    nixery_error_e         warned_kind;
} nixery_popularity_source_t;


/* Of a zeroed struct but for what is set; those that fork may go on with it. */
void nixery_popularity_source_init(nixery_popularity_source_t *source);

/* When no thread uses it any more. */
void nixery_popularity_source_free(nixery_popularity_source_t *source);

/*
 * The table to plan an image with, for nixery_build_key() and nixery_build_t;
 * the caller has to release it.  NULL: there is none.  Blocks: a file is read
 * if it is another one than last time; a URL is asked whether its content is,
 * once in an interval, whether it answers or not.
 *
 * An error is a warning, the image can be made nevertheless: with the last good
 * table (which a URL has from before a restart, too), or without any.  The same
 * one is not told twice in a row.  But NIXERY_ERROR_CANCELED means that it was
 * the caller who was canceled.
 *
 * Safe in several threads: one of them refreshes, the others take what there is
 * or, if that is nothing yet, wait for the one.
 */
nixery_popularity_t *nixery_popularity_refresh(
    nixery_popularity_source_t *source, nixery_cancel_t *cancel,
    nixery_error_t *err);


#endif /* _NIXERY_POPULARITY_SOURCE_H_INCLUDED_ */
