
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_download_dir.h"
#include "nixery_file.h"
#include "nixery_sha256.h"


static int nixery_download_publish(nixery_download_t *d, const char *work,
    const char *sha256, int *fd, nixery_error_t *err);
static int nixery_download_intact(int fd, const char *path,
    const char *sha256, uint64_t *size, nixery_error_t *err);
static int nixery_download_hash(int fd, const char *path,
    char hex[NIXERY_HEX_LEN + 1], nixery_error_t *err);


int
nixery_download_hold(nixery_download_t *d, const char *sha256, uint64_t size,
    nixery_error_t *err)
{
    int    fd, rc;
    char  *path;

    path = nixery_download_path(d, sha256, "", err);
    if (path == NULL) {
        return NIXERY_ERROR;
    }

    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd == -1) {
        rc = (errno == ENOENT || errno == ELOOP)
                 ? NIXERY_DECLINED
                 : nixery_download_error(err, "open", path);
        goto done;
    }

    if (nixery_file_lock(fd, LOCK_SH) == -1) {
        rc = nixery_download_error(err, "lock", path);
        goto done;
    }

    /* it may have been removed before it was locked */

    if (!nixery_file_is_at(fd, path)) {
        rc = NIXERY_DECLINED;
        goto done;
    }

    rc = nixery_download_intact(fd, path, sha256, &size, err);

done:

    if (rc != NIXERY_OK) {
        if (fd != -1) {
            (void) close(fd);
        }

        free(path);

        return rc;
    }

    /* when it was used at last: the oldest go first */

    (void) futimens(fd, NULL);

    d->path = path;
    d->size = size;
    d->fd = fd;

    memcpy(d->sha256, sha256, NIXERY_HEX_LEN + 1);

    return NIXERY_OK;
}


void
nixery_download_release(nixery_download_t *d)
{
    if (d->path == NULL) {
        return;
    }

    (void) close(d->fd);
    free(d->path);

    d->path = NULL;
    d->sha256[0] = '\0';
    d->size = 0;
    d->fd = -1;
}


/*
 * Whoever changes the directory locks it; whoever reads holds what is read.
 * After a crash there may be a content that no entry names, or, where the file
 * system orders names differently, an entry without its content: both do no
 * harm.
 */

int
nixery_download_store(nixery_download_t *d, const char *work, int *fd,
    nixery_error_t *err)
{
    int   dir, rc;
    char  sha256[NIXERY_HEX_LEN + 1];

    nixery_download_release(d);

    if (lseek(*fd, 0, SEEK_SET) == -1 || fsync(*fd) == -1) {
        return nixery_download_error(err, "fsync a file in", work);
    }

    if (nixery_download_hash(*fd, work, sha256, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    dir = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir == -1 || nixery_file_lock(dir, LOCK_EX) == -1) {
        rc = nixery_download_error(err, "lock", d->dir);
        goto done;
    }

    rc = nixery_download_publish(d, work, sha256, fd, err);

    if (rc == NIXERY_OK) {
        rc = nixery_entry_remember(d, work, err);
    }

    if (rc == NIXERY_OK && fsync(dir) == -1) {
        rc = nixery_download_error(err, "fsync", d->dir);
    }

    if (rc == NIXERY_OK) {
        nixery_download_evict(d);
    }

done:

    if (dir != -1) {
        (void) close(dir);
    }

    return rc;
}


int
nixery_download_name_valid(const char *name, const char *suffix)
{
    return strspn(name, "0123456789abcdef") == NIXERY_HEX_LEN
           && strcmp(name + NIXERY_HEX_LEN, suffix) == 0;
}


char *
nixery_download_path(nixery_download_t *d, const char *name,
    const char *suffix, nixery_error_t *err)
{
    char  *path;

    if (asprintf(&path, "%s/%s%s", d->dir, name, suffix) == -1) {
        (void) nixery_error_nomem(err);
        return NULL;
    }

    return path;
}


int
nixery_download_error(nixery_error_t *err, const char *operation,
    const char *path)
{
    return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno, "%s \"%s\"",
                              operation, path);
}


/* What is there already stays: others may hold it. */

static int
nixery_download_publish(nixery_download_t *d, const char *work,
    const char *sha256, int *fd, nixery_error_t *err)
{
    int    rc;
    char  *path, *file;

    rc = nixery_download_hold(d, sha256, d->http.size, err);

    if (rc != NIXERY_DECLINED) {
        return rc;
    }

    path = nixery_download_path(d, sha256, "", err);
    if (path == NULL) {
        return NIXERY_ERROR;
    }

    if (asprintf(&file, "%s/content", work) == -1) {
        free(path);
        return nixery_error_nomem(err);
    }

    if (nixery_file_lock(*fd, LOCK_SH) == -1 || rename(file, path) == -1) {
        rc = nixery_download_error(err, "store", path);
        free(path);

    } else {
        rc = NIXERY_OK;

        d->path = path;
        d->size = d->http.size;
        d->fd = *fd;
        *fd = -1;

        memcpy(d->sha256, sha256, NIXERY_HEX_LEN + 1);
    }

    free(file);

    return rc;
}


static int
nixery_download_intact(int fd, const char *path, const char *sha256,
    uint64_t *size, nixery_error_t *err)
{
    char         hex[NIXERY_HEX_LEN + 1];
    struct stat  sb;

    if (fstat(fd, &sb) == -1 || !S_ISREG(sb.st_mode)) {
        return NIXERY_DECLINED;
    }

    if (*size != NIXERY_DOWNLOAD_ANY && (uint64_t) sb.st_size != *size) {
        return NIXERY_DECLINED;
    }

    if (nixery_download_hash(fd, path, hex, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    *size = sb.st_size;

    return strcmp(hex, sha256) == 0 ? NIXERY_OK : NIXERY_DECLINED;
}


static int
nixery_download_hash(int fd, const char *path, char hex[NIXERY_HEX_LEN + 1],
    nixery_error_t *err)
{
    int               rc;
    char             *buf;
    ssize_t           n;
    nixery_sha256_t  *sha;

    buf = malloc(NIXERY_FILE_CHUNK);
    sha = nixery_sha256_new();

    if (buf == NULL || sha == NULL) {
        rc = nixery_error_nomem(err);
        goto done;
    }

    for ( ;; ) {
        n = nixery_file_read(fd, buf, NIXERY_FILE_CHUNK);

        if (n == 0) {
            nixery_sha256_final(sha, hex);
            rc = NIXERY_OK;
            break;
        }

        if (n == -1) {
            rc = nixery_download_error(err, "read", path);
            break;
        }

        nixery_sha256_update(sha, buf, n);
    }

done:

    nixery_sha256_free(sha);
    free(buf);

    return rc;
}
