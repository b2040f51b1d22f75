
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_RESULT_H_INCLUDED_
#define _NIXERY_RESULT_H_INCLUDED_


#include "nixery_buf.h"
#include "nixery_error.h"


#define NIXERY_RESULT_MAX  (64 * 1024 * 1024)   /* bytes of a result file */


/* One store path of a closure. */

typedef struct {
    char        *path;
    uint64_t     nar_size;       /* bytes */
    uint64_t     closure_size;   /* bytes, 0 when the builder did not say */
    uint32_t    *references;     /* indexes of nodes, sorted, itself left out */
    size_t       nreferences;
} nixery_node_t;


/* One blob of a prebuilt image. */

typedef struct {
    char         digest[NIXERY_HEX_LEN + 1];
    char        *path;           /* a file below /nix/store */
    char        *md5;            /* base64 as the builder gave it, or NULL */
} nixery_location_t;


/* A top layer that the builder packed: an uncompressed tar, as it is. */

typedef struct {
    char        *path;           /* a store path; NULL: there is none */
    char         hash[NIXERY_HEX_LEN + 1];   /* its SHA-256 */
    uint64_t     size;           /* bytes */
} nixery_tarball_t;


typedef enum {
    NIXERY_RESULT_PREBUILT,
    NIXERY_RESULT_CLOSURE
} nixery_result_e;


typedef struct {
    nixery_result_e       form;

    /* prebuilt: the manifest's bytes as they stood in the file */
    nixery_buf_t          manifest;
    nixery_location_t    *locations;    /* sorted by digest */
    size_t                nlocations;

    /* closure */
    nixery_node_t        *nodes;        /* sorted by path, unique */
    size_t                nnodes;
    char                 *contents;     /* store path of the symlink tree */
    nixery_tarball_t      tarball;      /* or this, if contents is NULL */
    char                 *system;       /* of the image, or NULL */
    char                 *revision;     /* that it is made of, or NULL */
} nixery_result_t;


/*
 * Reads a builder's result file.  A result of the error form is turned into
 * NIXERY_ERROR_NOT_FOUND or NIXERY_ERROR_PACKAGE, all packages and reasons in
 * the message; NIXERY_ERROR_RESULT: malformed, the message says what.
 */
int nixery_result_read(nixery_result_t *result, const char *path,
    nixery_error_t *err);

/* The same from memory; for tests and fuzzers. */
int nixery_result_parse(nixery_result_t *result, const char *text, size_t len,
    nixery_error_t *err);
void nixery_result_free(nixery_result_t *result);

/* The node of a closure with that path, or NULL. */
nixery_node_t *nixery_result_find(const nixery_result_t *result,
    const char *path);


#endif /* _NIXERY_RESULT_H_INCLUDED_ */
