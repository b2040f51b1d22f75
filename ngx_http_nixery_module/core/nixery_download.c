
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_download_dir.h"
#include "nixery_work.h"


static void nixery_download_init(nixery_download_t *d);
static int nixery_download_open(nixery_download_t *d, nixery_entry_t *entry,
    nixery_error_t *err);
static int nixery_download_fetch(nixery_download_t *d, const char *etag,
    nixery_error_t *err);
static int nixery_download_answer(nixery_download_t *d, const char *work,
    int *fd, nixery_error_t *err);


int
nixery_download_get(nixery_download_t *d, nixery_error_t *err)
{
    int             rc;
    nixery_entry_t  entry;

    nixery_download_init(d);

    if (mkdir(d->dir, 0700) == -1 && errno != EEXIST) {
        return nixery_download_error(err, "make directory", d->dir);
    }

    nixery_work_clean(d->dir);

    rc = nixery_download_open(d, &entry, err);

    if (rc == NIXERY_DECLINED || (rc == NIXERY_OK && !d->immutable)) {
        rc = nixery_download_fetch(d, rc == NIXERY_OK ? entry.etag : NULL, err);
    }

    free(entry.etag);

    if (rc == NIXERY_ERROR) {
        nixery_download_free(d);
    }

    return rc;
}


int
nixery_download_kept(nixery_download_t *d, nixery_error_t *err)
{
    int             rc;
    nixery_entry_t  entry;

    nixery_download_init(d);

    rc = nixery_download_open(d, &entry, err);

    free(entry.etag);

    return rc;
}


int
nixery_download_find(nixery_download_t *d, const char *sha256,
    nixery_error_t *err)
{
    nixery_download_init(d);

    if (!nixery_download_name_valid(sha256, "")) {
        return NIXERY_DECLINED;
    }

    return nixery_download_hold(d, sha256, NIXERY_DOWNLOAD_ANY, err);
}


void
nixery_download_free(nixery_download_t *d)
{
    nixery_download_release(d);
    nixery_http_free(&d->http);
}


static void
nixery_download_init(nixery_download_t *d)
{
    memset(&d->http.body, 0, sizeof(nixery_buf_t));

    d->http.new_etag = NULL;
    d->http.what = NULL;
    d->http.host = NULL;

    d->path = NULL;
    d->sha256[0] = '\0';
    d->size = 0;
    d->fd = -1;
}


/* What is kept of the URL, held; NIXERY_DECLINED: nothing that is intact. */

static int
nixery_download_open(nixery_download_t *d, nixery_entry_t *entry,
    nixery_error_t *err)
{
    int  rc;

    rc = nixery_entry_recall(d, entry, err);

    if (rc != NIXERY_OK) {
        return rc;
    }

    return nixery_download_hold(d, entry->sha256, entry->size, err);
}


static int
nixery_download_fetch(nixery_download_t *d, const char *etag,
    nixery_error_t *err)
{
    int             fd, rc;
    char           *file;
    nixery_work_t   work;

    if (nixery_work_open(&work, d->dir, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    rc = NIXERY_ERROR;
    fd = -1;

    if (asprintf(&file, "%s/content", work.path) == -1) {
        file = NULL;
        (void) nixery_error_nomem(err);
        goto done;
    }

    fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd == -1) {
        (void) nixery_download_error(err, "make", file);
        goto done;
    }

    d->http.fd = fd;
    d->http.etag = etag;

    rc = nixery_http_get(&d->http, err);

    if (rc == NIXERY_OK) {
        rc = nixery_download_answer(d, work.path, &fd, err);
    }

    d->http.fd = -1;
    d->http.etag = NULL;

done:

    if (fd != -1) {
        (void) close(fd);
    }

    free(file);
    nixery_work_close(&work);

    return rc;
}


static int
nixery_download_answer(nixery_download_t *d, const char *work, int *fd,
    nixery_error_t *err)
{
    switch (d->http.status) {

    case 200:
        return nixery_download_store(d, work, fd, err);

    case 304:
        if (d->http.etag == NULL) {
            break;
        }

        return NIXERY_OK;

    case 404:
    case 410:
        nixery_download_release(d);
        return NIXERY_DECLINED;

    default:
        break;
    }

    return nixery_http_refused(&d->http, err);
}
