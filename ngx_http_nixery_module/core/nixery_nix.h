
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_NIX_H_INCLUDED_
#define _NIXERY_NIX_H_INCLUDED_


#include "nixery_image.h"


/* How Nix is called; strings belong to the caller. */

typedef struct {
    const char     *program;    /* nix-build, absolute path */
    const char     *builder;    /* Nix expression, absolute path */
    const char     *source;     /* "path!/dir" */
    const char     *system;     /* of images that ask for none, Nix's name */
    char *const    *env;        /* NAME=VALUE, NULL at the end; or NULL */
    char *const    *options;    /* NAME, VALUE, ..., NULL at the end; or NULL */
    uint64_t        timeout;    /* milliseconds of one nix-build */
} nixery_nix_t;


/*
 * Realises the builder's expression for an image.  root is the out-link to be
 * made: as long as it stands, the garbage collector keeps the result and all
 * that it refers to; Nix's temporary files go beside it.  home is a directory
 * that Nix may write its caches to.
 * *path: the result's store path, checked to be one that exists; the caller
 * frees it.
 * Errors: NIXERY_ERROR_NIX (with err->log), _NOT_FOUND or _PACKAGE (what Nix
 * could not catch itself), _RESULT, _TIMEOUT, _CANCELED, _SYSTEM.
 */
int nixery_nix_build(const nixery_nix_t *nix, const nixery_image_t *image,
    const char *root, const char *home, nixery_cancel_t *cancel, char **path,
    nixery_error_t *err);

/* "/nix/store/<32 of Nix's base 32>-<name>", nothing below it. */
int nixery_store_path_valid(const char *path);


#endif /* _NIXERY_NIX_H_INCLUDED_ */
