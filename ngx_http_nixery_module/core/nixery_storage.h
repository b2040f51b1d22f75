
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_STORAGE_H_INCLUDED_
#define _NIXERY_STORAGE_H_INCLUDED_


#include "nixery_buf.h"
#include "nixery_error.h"


/*
 * The name of an object: "layers", "manifests" or "builds", and a SHA-256 in
 * hexadecimal.  nixery_object_name() makes one and returns it.
 */

typedef char  nixery_object_t[sizeof("manifests/") + NIXERY_HEX_LEN];

const char *nixery_object_name(nixery_object_t object, const char *folder,
    const char *hex);
int nixery_object_valid(const char *object);


/*
 * Where images are kept: objects with names such as "layers/<sha256 hex>",
 * which appear whole or not at all.  The functions may be called by several
 * threads at once; all but locate() block.  Errors: NIXERY_ERROR_STORAGE, the
 * message names the operation and the object.
 */

typedef struct nixery_storage_s  nixery_storage_t;

struct nixery_storage_s {

    /* Size in bytes of an object; NIXERY_DECLINED when it is not there. */
    int      (*stat)(nixery_storage_t *st, const char *object, uint64_t *size,
                 nixery_error_t *err);

    /*
     * Stores a work file of that size and hash.  An object that is there with
     * this size is kept, any other is replaced.  The file may be moved away.
     */
    int      (*put_file)(nixery_storage_t *st, const char *object,
                 const char *file, uint64_t size, const char *sha256,
                 nixery_error_t *err);

    /* Stores bytes, replacing what is there unless it is the same. */
    int      (*put_bytes)(nixery_storage_t *st, const char *object,
                 const void *data, size_t len, nixery_error_t *err);

    /* Reads an object of at most max bytes; NIXERY_DECLINED: not there. */
    int      (*get)(nixery_storage_t *st, const char *object, size_t max,
                 nixery_buf_t *out, nixery_error_t *err);

    /* The file that an object is served from, into a buffer; no I/O. */
    int      (*locate)(nixery_storage_t *st, const char *object,
                 nixery_buf_t *path);

    void     (*free)(nixery_storage_t *st);
};


/*
 * Objects as files below a directory that exists.  Temporary files stand in
 * "<path>/tmp" until they are renamed.
 */
nixery_storage_t *nixery_storage_directory(const char *path,
    nixery_error_t *err);


#endif /* _NIXERY_STORAGE_H_INCLUDED_ */
