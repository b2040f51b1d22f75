
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_LAYERS_H_INCLUDED_
#define _NIXERY_LAYERS_H_INCLUDED_


#include "nixery_popularity.h"
#include "nixery_result.h"


#define NIXERY_LAYERS_MIN  2     /* one of store paths, and the top one */
#define NIXERY_LAYERS_MAX  125   /* overlayfs of older kernels mounts 128 */


typedef struct {
    const char     **paths;       /* sorted bytewise; of the result's nodes */
    size_t           npaths;
    uint64_t         nar_size;    /* bytes in all */
} nixery_layer_t;


typedef struct {
    nixery_layer_t   *layers;    /* the lowest first, without the top one */
    size_t            nlayers;
    const char      **paths;     /* what the layers' paths point into */
} nixery_plan_t;


/*
 * Spreads a closure over at most max - 1 layers (the top layer is the max'th).
 * popularity (may be NULL) tells which paths other images have as well.
 * A total order: the same nodes and table give the same plan whatever their
 * order.
 * The contents path itself is left out, the top layer holds what is in it.
 * Errors: NIXERY_ERROR_SYSTEM.
 */
int nixery_plan_make(nixery_plan_t *plan, const nixery_result_t *result,
    size_t max, const nixery_popularity_t *popularity, nixery_error_t *err);
void nixery_plan_free(nixery_plan_t *plan);

/*
 * Layer key: SHA-256 over what decides a layer's bytes: the format, the
 * compression, and the store paths.  The top layer's has "top" and the contents
 * path; that of a tar which a builder packed, "tar" and its SHA-256.
 * NIXERY_ERROR when memory ran out.
 */
int nixery_layer_key(const nixery_layer_t *layer,
    char key[NIXERY_HEX_LEN + 1]);
int nixery_layer_key_top(const char *contents, char key[NIXERY_HEX_LEN + 1]);
int nixery_layer_key_tarball(const char *hash, char key[NIXERY_HEX_LEN + 1]);


#endif /* _NIXERY_LAYERS_H_INCLUDED_ */
