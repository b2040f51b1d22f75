
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "nixery_tar_top.h"
#include "nixery_tar_writer.h"


static int nixery_tar_store(const nixery_tar_t *tar, nixery_tar_writer_t *w,
    nixery_error_t *err);


int
nixery_tar_write(const nixery_tar_t *tar, nixery_tar_sink_pt sink, void *data,
    nixery_error_t *err)
{
    int                   rc;
    nixery_tar_writer_t  *w;

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
