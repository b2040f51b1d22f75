
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_file.h"
#include "nixery_work.h"


#define NIXERY_WORK_PREFIX  "nixery-work."
#define NIXERY_WORK_DIGITS  16


static int nixery_work_lock(const char *path, int operation);
static int nixery_work_name_valid(const char *name);
static void nixery_work_empty(DIR *dir);


int
nixery_work_open(nixery_work_t *work, const char *parent, nixery_error_t *err)
{
    char      *path;
    uint64_t   n;

    memset(work, 0, sizeof(nixery_work_t));

    /*
     * the first name that is free: for each that it ever saw, Nix keeps a link
     * until it collects garbage
     */

    for (n = 0; /* void */ ; n++) {

        if (asprintf(&path, "%s/" NIXERY_WORK_PREFIX "%016jx", parent,
                     (uintmax_t) n)
            == -1)
        {
            return nixery_error_nomem(err);
        }

        if (mkdir(path, 0700) == -1) {
            if (errno == EEXIST) {
                free(path);
                continue;
            }

            (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                      "make work directory \"%s\"", path);
            goto failed;
        }

        work->fd = nixery_work_lock(path, LOCK_EX | LOCK_NB);

        if (work->fd != -1) {
            work->path = path;
            return NIXERY_OK;
        }

        /* someone who cleans up took the new directory for a left-over one */

        if (errno != EWOULDBLOCK && errno != ENOENT) {
            (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                      "lock work directory \"%s\"", path);
            (void) rmdir(path);
            goto failed;
        }

        free(path);
    }

failed:

    free(path);

    return NIXERY_ERROR;
}


void
nixery_work_close(nixery_work_t *work)
{
    DIR  *dir;

    if (work->path == NULL) {
        return;
    }

    /* the lock's own descriptor: there may be no other left */

    dir = fdopendir(work->fd);

    if (dir != NULL) {
        nixery_work_empty(dir);
    }

    (void) rmdir(work->path);

    if (dir != NULL) {
        (void) closedir(dir);

    } else {
        (void) close(work->fd);
    }

    free(work->path);
    memset(work, 0, sizeof(nixery_work_t));
}


void
nixery_work_clean(const char *parent)
{
    DIR            *dir;
    nixery_work_t   work;
    struct dirent  *de;

    dir = opendir(parent);
    if (dir == NULL) {
        return;
    }

    for ( ;; ) {
        de = readdir(dir);
        if (de == NULL) {
            break;
        }

        if (!nixery_work_name_valid(de->d_name)) {
            continue;
        }

        if (asprintf(&work.path, "%s/%s", parent, de->d_name) == -1) {
            break;
        }

        work.fd = nixery_work_lock(work.path, LOCK_EX | LOCK_NB);

        if (work.fd == -1) {
            free(work.path);
            continue;
        }

        nixery_work_close(&work);
    }

    (void) closedir(dir);
}


/*
 * Between opening and locking, the lock's former holder may have removed the
 * directory: then the lock is on nothing, which is ENOENT.
 */

static int
nixery_work_lock(const char *path, int operation)
{
    int  fd, saved;

    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd == -1) {
        return -1;
    }

    if (nixery_file_lock(fd, operation) == 0) {
        if (nixery_file_is_at(fd, path)) {
            return fd;
        }

        errno = ENOENT;
    }

    saved = errno;
    (void) close(fd);
    errno = saved;

    return -1;
}


static int
nixery_work_name_valid(const char *name)
{
    size_t  n;

    n = sizeof(NIXERY_WORK_PREFIX) - 1;

    return strncmp(name, NIXERY_WORK_PREFIX, n) == 0
           && strlen(name + n) == NIXERY_WORK_DIGITS
           && strspn(name + n, "0123456789abcdef") == NIXERY_WORK_DIGITS;
}


/* Every step is relative to an open directory and follows no link. */

static void
nixery_work_empty(DIR *dir)
{
    int             fd, child;
    DIR            *sub;
    struct dirent  *de;

    fd = dirfd(dir);

    for ( ;; ) {
        de = readdir(dir);
        if (de == NULL) {
            break;
        }

        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0) {
            continue;
        }

        if (unlinkat(fd, de->d_name, 0) == 0
            || (errno != EISDIR && errno != EPERM))
        {
            continue;
        }

        child = openat(fd, de->d_name,
                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child == -1) {
            continue;
        }

        sub = fdopendir(child);

        if (sub == NULL) {
            (void) close(child);
            continue;
        }

        nixery_work_empty(sub);

        (void) closedir(sub);
        (void) unlinkat(fd, de->d_name, AT_REMOVEDIR);
    }
}
