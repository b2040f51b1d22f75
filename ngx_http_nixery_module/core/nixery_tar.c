
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "nixery_file.h"
#include "nixery_tar_top.h"
#include "nixery_tar_writer.h"


static int nixery_tar_store(const nixery_tar_t *tar, nixery_tar_writer_t *w,
    nixery_error_t *err);
static int nixery_tar_copy(const nixery_tar_t *tar, nixery_tar_sink_pt sink,
    void *data, nixery_error_t *err);
static int nixery_tar_open(const nixery_tar_t *tar, nixery_error_t *err);


int
nixery_tar_write(const nixery_tar_t *tar, nixery_tar_sink_pt sink, void *data,
    nixery_error_t *err)
{
    int                   rc;
    nixery_tar_writer_t  *w;

    if (tar->tarball != NULL) {
        return nixery_tar_copy(tar, sink, data, err);
    }

    w = nixery_tar_writer_new(tar, sink, data, err);
    if (w == NULL) {
        return NIXERY_ERROR;
    }

    rc = tar->contents != NULL ? nixery_tar_top(tar, w, err)
                               : nixery_tar_store(tar, w, err);

    if (rc == NIXERY_OK) {
        rc = nixery_tar_writer_close(w, err);
    }

    nixery_tar_writer_free(w);

    return rc;
}


static int
nixery_tar_store(const nixery_tar_t *tar, nixery_tar_writer_t *w,
    nixery_error_t *err)
{
    int     rc;
    char   *path;
    size_t  i;

    if (nixery_tar_add_directory(w, "nix", 0755, err) != NIXERY_OK
        || nixery_tar_add_directory(w, "nix/store", 0755, err) != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    for (i = 0; i < tar->npaths; i++) {
        if (asprintf(&path, "%s%s", tar->root, tar->paths[i]) == -1) {
            return nixery_error_nomem(err);
        }

        rc = nixery_tar_add_path(w, AT_FDCWD, path, tar->paths[i] + 1, err);
        free(path);

        if (rc != NIXERY_OK) {
            return rc;
        }
    }

    return NIXERY_OK;
}


static int
nixery_tar_copy(const nixery_tar_t *tar, nixery_tar_sink_pt sink, void *data,
    nixery_error_t *err)
{
    int      fd, rc;
    char    *buf;
    ssize_t  n;

    fd = nixery_tar_open(tar, err);
    if (fd == -1) {
        return NIXERY_ERROR;
    }

    buf = malloc(NIXERY_FILE_CHUNK);
    rc = buf != NULL ? NIXERY_OK : nixery_error_nomem(err);

    while (rc == NIXERY_OK) {
        n = nixery_file_read(fd, buf, NIXERY_FILE_CHUNK);

        if (n == 0) {
            break;
        }

        if (n == -1) {
            rc = nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                    "can't read layer \"%s\"", tar->tarball);

        } else if (nixery_canceled(tar->cancel)) {
            rc = nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                  "the build was canceled");

        } else {
            rc = sink(data, buf, n, err);
        }
    }

    free(buf);
    (void) close(fd);

    return rc;
}


static int
nixery_tar_open(const nixery_tar_t *tar, nixery_error_t *err)
{
    int           fd, saved;
    char         *path;
    struct stat   sb;

    if (asprintf(&path, "%s%s", tar->root, tar->tarball) == -1) {
        (void) nixery_error_nomem(err);
        return -1;
    }

    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    saved = errno;

    free(path);

    if (fd == -1 && saved != ELOOP) {
        (void) nixery_error_errno(err, (saved == EMFILE || saved == ENFILE)
                                           ? NIXERY_ERROR_SYSTEM
                                           : NIXERY_ERROR_RESULT,
                                  saved, "the builder names layer \"%s\", which"
                                  " can't be read", tar->tarball);
        return -1;
    }

    /* a tar of nothing has two blocks at its end */

    if (fd == -1 || fstat(fd, &sb) == -1 || !S_ISREG(sb.st_mode)
        || sb.st_size == 0)
    {
        (void) nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "the builder names layer \"%s\", which is not"
                                " a regular file with something in it",
                                tar->tarball);

        if (fd != -1) {
            (void) close(fd);
        }

        return -1;
    }

    return fd;
}
