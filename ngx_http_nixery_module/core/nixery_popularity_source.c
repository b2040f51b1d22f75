
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include "nixery_download.h"
#include "nixery_popularity_source.h"


#define NIXERY_POPULARITY_TICK  200   /* milliseconds between looks at cancel */


static int nixery_popularity_wait(nixery_popularity_source_t *source,
    nixery_cancel_t *cancel, nixery_error_t *err);
static nixery_popularity_t *nixery_popularity_from_file(
    nixery_popularity_source_t *source, nixery_error_t *err);
static int nixery_popularity_same_file(const struct stat *one,
    const struct stat *two);
static nixery_popularity_t *nixery_popularity_from_url(
    nixery_popularity_source_t *source, nixery_cancel_t *cancel,
    nixery_error_t *err);
static nixery_popularity_t *nixery_popularity_take(
    nixery_popularity_source_t *source, const nixery_download_t *download,
    nixery_error_t *err);
static void nixery_popularity_warn(nixery_popularity_source_t *source,
    nixery_error_t *err);


void
nixery_popularity_source_init(nixery_popularity_source_t *source)
{
    pthread_condattr_t  attr;

    /* here none of these needs memory, and so none can fail */

    (void) pthread_condattr_init(&attr);
    (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void) pthread_cond_init(&source->ended, &attr);
    (void) pthread_condattr_destroy(&attr);
    (void) pthread_mutex_init(&source->lock, NULL);
}


void
nixery_popularity_source_free(nixery_popularity_source_t *source)
{
    nixery_popularity_release(source->table);
    source->table = NULL;

    free(source->warned);
    source->warned = NULL;

    (void) pthread_mutex_destroy(&source->lock);
    (void) pthread_cond_destroy(&source->ended);
}


nixery_popularity_t *
nixery_popularity_refresh(nixery_popularity_source_t *source,
    nixery_cancel_t *cancel, nixery_error_t *err)
{
    nixery_popularity_t  *table;

    (void) pthread_mutex_lock(&source->lock);

    if (nixery_popularity_wait(source, cancel, err) != NIXERY_OK) {
        (void) pthread_mutex_unlock(&source->lock);
        return NULL;
    }

    if (source->busy
        || (source->url != NULL && nixery_now() < source->next))
    {
        table = nixery_popularity_share(source->table);
        (void) pthread_mutex_unlock(&source->lock);
        return table;
    }

    source->busy = 1;

    (void) pthread_mutex_unlock(&source->lock);

    table = source->url ? nixery_popularity_from_url(source, cancel, err)
                        : nixery_popularity_from_file(source, err);

    (void) pthread_mutex_lock(&source->lock);

    if (table != NULL) {
        nixery_popularity_release(source->table);
        source->table = table;
    }

    source->busy = 0;

    if (err->kind != NIXERY_ERROR_CANCELED) {
        source->known = 1;
        nixery_popularity_warn(source, err);
    }

    table = nixery_popularity_share(source->table);

    (void) pthread_cond_broadcast(&source->ended);
    (void) pthread_mutex_unlock(&source->lock);

    return table;
}


static int
nixery_popularity_wait(nixery_popularity_source_t *source,
    nixery_cancel_t *cancel, nixery_error_t *err)
{
    struct timespec  ts;

    while (source->busy && !source->known) {

        if (nixery_canceled(cancel)) {
            return nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                    "the build was canceled");
        }

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);

        ts.tv_nsec += NIXERY_POPULARITY_TICK * 1000000;

        if (ts.tv_nsec >= 1000000000) {
            ts.tv_nsec -= 1000000000;
            ts.tv_sec++;
        }

        (void) pthread_cond_timedwait(&source->ended, &source->lock, &ts);
    }

    return NIXERY_OK;
}


static nixery_popularity_t *
nixery_popularity_from_file(nixery_popularity_source_t *source,
    nixery_error_t *err)
{
    struct stat           sb;
    nixery_popularity_t  *table;

    if (stat(source->file, &sb) == -1) {
        (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't open %s", source->what);
        memset(&source->seen, 0, sizeof(struct stat));
        return NULL;
    }

    if (nixery_popularity_same_file(&sb, &source->seen)) {
        return NULL;
    }

    /* what it is while it is read may be seen again, and read once more */

    table = nixery_popularity_read(source->file, source->what, err);

    if (table != NULL || err->kind == NIXERY_ERROR_RESULT) {
        source->seen = sb;

    } else {
        memset(&source->seen, 0, sizeof(struct stat));
    }

    return table;
}


static int
nixery_popularity_same_file(const struct stat *one, const struct stat *two)
{
    return one->st_dev == two->st_dev
           && one->st_ino == two->st_ino
           && one->st_size == two->st_size
           && one->st_mtim.tv_sec == two->st_mtim.tv_sec
           && one->st_mtim.tv_nsec == two->st_mtim.tv_nsec
           && one->st_ctim.tv_sec == two->st_ctim.tv_sec
           && one->st_ctim.tv_nsec == two->st_ctim.tv_nsec;
}


static nixery_popularity_t *
nixery_popularity_from_url(nixery_popularity_source_t *source,
    nixery_cancel_t *cancel, nixery_error_t *err)
{
    int                   rc;
    nixery_error_t        why;
    nixery_download_t     download;
    nixery_popularity_t  *table;

    memset(&download, 0, sizeof(nixery_download_t));

    download.dir = source->dir;
    download.http.url = source->url;
    download.http.user = source->user;
    download.http.password = source->password;
    download.http.env = source->env;
    download.http.timeout = source->timeout;
    download.http.max = NIXERY_POPULARITY_MAX;
    download.http.cancel = cancel;

    table = NULL;

    rc = nixery_download_get(&download, err);

    if (rc == NIXERY_OK) {
        table = nixery_popularity_take(source, &download, err);
    }

    if (rc == NIXERY_DECLINED) {
        (void) nixery_http_refused(&download.http, err);
    }

    nixery_download_free(&download);

    /* one of before a restart; why there is no newer one is told already */

    if (rc != NIXERY_OK && source->table == NULL) {
        memset(&why, 0, sizeof(nixery_error_t));

        if (nixery_download_kept(&download, &why) == NIXERY_OK) {
            table = nixery_popularity_take(source, &download, &why);
        }

        nixery_error_free(&why);
        nixery_download_free(&download);
    }

    /* the next one has to ask where this was canceled */

    if (err->kind != NIXERY_ERROR_CANCELED) {
        source->next = nixery_now() + source->interval;
    }

    return table;
}


/* NULL without an error: it is the one that is in use. */

static nixery_popularity_t *
nixery_popularity_take(nixery_popularity_source_t *source,
    const nixery_download_t *download, nixery_error_t *err)
{
    if (source->table != NULL
        && strcmp(nixery_popularity_id(source->table), download->sha256) == 0)
    {
        return NULL;
    }

    return nixery_popularity_read(download->path, source->what, err);
}


/* A warning is for the caller once, not for each image. */

static void
nixery_popularity_warn(nixery_popularity_source_t *source,
    nixery_error_t *err)
{
    if (err->kind == NIXERY_ERROR_NONE) {
        free(source->warned);
        source->warned = NULL;
        return;
    }

    /* how long a server was silent is not the news */

    if (source->warned != NULL
        && (strcmp(source->warned, err->message) == 0
            || (err->kind == NIXERY_ERROR_TIMEOUT
                && source->warned_kind == NIXERY_ERROR_TIMEOUT)))
    {
        nixery_error_free(err);
        return;
    }

    free(source->warned);

    source->warned = strdup(err->message);
    source->warned_kind = err->kind;
}
