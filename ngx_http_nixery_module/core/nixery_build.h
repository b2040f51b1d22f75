
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_BUILD_H_INCLUDED_
#define _NIXERY_BUILD_H_INCLUDED_


#include "nixery_buf.h"
#include "nixery_nix.h"
#include "nixery_popularity_source.h"
#include "nixery_storage.h"


#define NIXERY_BUILD_ID_LEN  16   /* hexadecimal digits */


/* What all builds of a location share; constant while any of them runs. */

typedef struct {
    nixery_nix_t         nix;
    const char          *builder_id;      /* of the builder's content */
    const nixery_meta_t *metas;           /* NULL: the built-in ones */
    nixery_storage_t    *storage;
    const char          *temp_path;       /* work files, one folder a build */
    size_t               max_layers;
    unsigned             threads;         /* packing, 0: every core */
    nixery_popularity_source_t
                        *popularity;      /* or NULL */
} nixery_settings_t;


/*
 * The job: what passes between the event loop and a thread.  The inputs are
 * set before the thread starts, the outputs read after it ended; cancel is the
 * one thing touched in between.
 */

typedef struct {
    /* in */
    const nixery_settings_t   *settings;
    nixery_image_t             image;        /* owned */
    nixery_revision_t          revision;     /* of a path: made by the build */
    uint64_t                   waited;       /* ms spent on the revision */
    char                       key[NIXERY_HEX_LEN + 1];
    nixery_popularity_t       *popularity;   /* a reference, or NULL */
    nixery_cancel_t            cancel;

    /* out; released by nixery_build_free() */
    nixery_buf_t               manifest;
    char                       digest[NIXERY_HEX_LEN + 1];
    char                      *media_type;
    nixery_error_t             error;        /* kind NONE: an image */
    uint64_t                   nix_time;     /* milliseconds */
    uint64_t                   pack_time;
    size_t                     layers_made;
    size_t                     layers_reused;
    uint64_t                   bytes_made;   /* compressed */
} nixery_build_t;


/*
 * Cache key of an image: SHA-256 over source and revision (not how that was
 * named), system, builder, layer options, popularity (may be NULL), what Nix is
 * told, and packages, each with its length, each list with its number.  No I/O;
 * NIXERY_ERROR: memory.
 */
int nixery_build_key(const nixery_settings_t *settings,
    const nixery_image_t *image, const nixery_revision_t *revision,
    const nixery_popularity_t *popularity,
    char key[NIXERY_HEX_LEN + 1]);

/*
 * Builds one image: Nix, layers, storage, config, manifest.  Nothing is stored
 * under the image's key before all of its blobs are.  Returns NIXERY_OK, or
 * NIXERY_ERROR with build->error set.
 */
int nixery_build_run(nixery_build_t *build);
void nixery_build_free(nixery_build_t *build);


#endif /* _NIXERY_BUILD_H_INCLUDED_ */
