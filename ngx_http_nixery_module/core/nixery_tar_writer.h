
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_TAR_WRITER_H_INCLUDED_
#define _NIXERY_TAR_WRITER_H_INCLUDED_


#include <sys/stat.h>
#include "nixery_tar.h"


/* A tar stream under way, by libarchive. */

typedef struct nixery_tar_writer_s  nixery_tar_writer_t;


nixery_tar_writer_t *nixery_tar_writer_new(const nixery_tar_t *tar,
    nixery_tar_sink_pt sink, void *data, nixery_error_t *err);

/* Ends the stream; NIXERY_ERROR as the others. */
int nixery_tar_writer_close(nixery_tar_writer_t *w, nixery_error_t *err);
void nixery_tar_writer_free(nixery_tar_writer_t *w);

/* Entries; name is the path in the archive, without a "/" in front. */
int nixery_tar_add_directory(nixery_tar_writer_t *w, const char *name,
    mode_t mode, nixery_error_t *err);
int nixery_tar_add_symlink(nixery_tar_writer_t *w, const char *name,
    const char *target, nixery_error_t *err);
int nixery_tar_add_bytes(nixery_tar_writer_t *w, const char *name, mode_t mode,
    const void *data, size_t len, nixery_error_t *err);

/*
 * What stands at dir/base (dir is a descriptor), under that name: a file with
 * its bytes, a link, or a directory with all that is in it.  Of store paths'
 * files with one content and mode the first is written, the others are hard
 * links to it.
 */
int nixery_tar_add_path(nixery_tar_writer_t *w, int dir, const char *base,
    const char *name, nixery_error_t *err);

/* The link at dir/base, malloc'ed, size as fstatat() gave it; NULL: err. */
char *nixery_tar_readlink(int dir, const char *base, off_t size,
    const char *name, nixery_error_t *err);

/*
 * Names in a directory, sorted bytewise, "." and ".." left out; fd stays open.
 * The caller frees the list by nixery_tar_names_free().
 */
int nixery_tar_names(int fd, const char *name, char ***names, size_t *n,
    nixery_error_t *err);
void nixery_tar_names_free(char **names, size_t n);


#endif /* _NIXERY_TAR_WRITER_H_INCLUDED_ */
