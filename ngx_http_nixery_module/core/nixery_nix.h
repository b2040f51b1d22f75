
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_NIX_H_INCLUDED_
#define _NIXERY_NIX_H_INCLUDED_


#include "nixery_image.h"
#include "nixery_source.h"


/* How Nix and git are called; strings belong to the caller. */

typedef struct {
    const char              *program;    /* nix-build, absolute path */
    const char              *git;        /* absolute path, or NULL */
    const char              *prefetch;   /* nix-prefetch-url, or NULL */
    const char              *builder;    /* Nix expression, absolute path */
    const nixery_source_t   *source;
    const char              *system;     /* of images that ask for none, Nix's
                                            name */
    char *const             *env;        /* NAME=VALUE, NULL at the end; or
                                            NULL */
    char *const             *options;    /* NAME, VALUE, ..., NULL at the end;
                                            or NULL */
    uint64_t                 timeout;    /* milliseconds of one build */
} nixery_nix_t;


typedef struct nixery_fetch_s  nixery_fetch_t;


/* What is to be built, and of what. */

typedef struct {
    const nixery_image_t      *image;
    const nixery_revision_t   *revision;
    const char                *channel_url;    /* of a tarball that is here; */
    const char                *channel_hash;   /* Nix's, of what is in it */
    const char                *root;           /* the out-link to be made */
} nixery_nix_request_t;


/*
 * Realises the builder's expression for an image.  As long as request->root
 * stands, the garbage collector keeps the result and all that it refers to.
 * *path: the result's store path, checked to be one that exists; the caller
 * frees it.
 * Errors: NIXERY_ERROR_NIX (with err->log), _NOT_FOUND or _PACKAGE (what Nix
 * could not catch itself), _REF (no such commit), _SOURCE, _RESULT, _TIMEOUT,
 * _CANCELED, _SYSTEM.
 */
int nixery_nix_build(const nixery_fetch_t *fetch,
    const nixery_nix_request_t *request, char **path, nixery_error_t *err);

/* The line of what Nix printed that says why it failed; malloc'ed, or NULL. */
char *nixery_nix_cause(const char *text);

/* "/nix/store/<32 of Nix's base 32>-<name>", nothing below it. */
int nixery_store_path_valid(const char *path);


#endif /* _NIXERY_NIX_H_INCLUDED_ */
