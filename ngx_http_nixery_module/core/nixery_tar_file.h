
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_TAR_FILE_H_INCLUDED_
#define _NIXERY_TAR_FILE_H_INCLUDED_


#include <archive.h>
#include <archive_entry.h>
#include "nixery_tar_links.h"
#include "nixery_tar_writer.h"


/* What the two files that make up the writer share. */

struct nixery_tar_writer_s {
    struct archive         *archive;
    struct archive_entry   *entry;
    nixery_tar_sink_pt      sink;
    void                   *data;
    nixery_cancel_t        *cancel;
    nixery_error_t         *err;        /* of the call under way */
    const char             *root;
    char                   *buf;
    nixery_tar_links_t     *links;      /* or NULL: nothing is linked */
    unsigned                depth;
    unsigned                held:1;     /* buf has the whole of a small file */
    unsigned                failed:1;
};


/*
 * The entry for a name, to be completed and then written; type is one of
 * libarchive's AE_IF...
 */
int nixery_tar_header(nixery_tar_writer_t *w, const char *name, mode_t type,
    mode_t mode, nixery_error_t *err);
int nixery_tar_header_write(nixery_tar_writer_t *w, nixery_error_t *err);

/* Sets what libarchive has to say, unless the sink's error is there. */
int nixery_tar_failed(nixery_tar_writer_t *w, const char *name,
    nixery_error_t *err);

/* The file dir/base, sb as fstatat() gave it. */
int nixery_tar_add_file(nixery_tar_writer_t *w, int dir, const char *base,
    const char *name, const struct stat *sb, nixery_error_t *err);


#endif /* _NIXERY_TAR_FILE_H_INCLUDED_ */
