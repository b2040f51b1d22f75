
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_TAR_H_INCLUDED_
#define _NIXERY_TAR_H_INCLUDED_


#include "nixery_error.h"


/* Takes the next bytes of a tar stream; NIXERY_ERROR ends it, err set. */
typedef int (*nixery_tar_sink_pt)(void *data, const void *bytes, size_t len,
    nixery_error_t *err);


/*
 * What a layer's tar is made of.  Entries are sorted, mtime 1, uid and gid 0,
 * without owner names; GNU's format, where pax can't keep a name that is not
 * UTF-8 without a keyword that GNU tar warns of.
 */

typedef struct {
    const char          *root;       /* of "/nix/store": "" but in tests */
    const char *const   *paths;      /* store paths, sorted; or NULL */
    size_t               npaths;
    const char          *contents;   /* top layer: the symlink tree; or NULL */
    const char          *tarball;    /* a tar that goes as it is; or NULL */
    nixery_cancel_t     *cancel;
} nixery_tar_t;


/*
 * Writes the whole tar stream to the sink, reading files in small pieces:
 * memory does not depend on their size.
 * Errors: NIXERY_ERROR_SYSTEM (a path can't be read), _RESULT (the tarball is
 * none), _CANCELED, the sink's.
 */
int nixery_tar_write(const nixery_tar_t *tar, nixery_tar_sink_pt sink,
    void *data, nixery_error_t *err);


#endif /* _NIXERY_TAR_H_INCLUDED_ */
