
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_OCI_H_INCLUDED_
#define _NIXERY_OCI_H_INCLUDED_


#include "nixery_buf.h"
#include "nixery_error.h"


/* In bytes: clients read no more. */
#define NIXERY_MANIFEST_MAX  (4 * 1024 * 1024)

#define NIXERY_OCI_MANIFEST  "application/vnd.oci.image.manifest.v1+json"
#define NIXERY_OCI_INDEX     "application/vnd.oci.image.index.v1+json"
#define NIXERY_OCI_CONFIG    "application/vnd.oci.image.config.v1+json"
#define NIXERY_OCI_LAYER     "application/vnd.oci.image.layer.v1.tar+gzip"

/* What an image's config depends on, at its root. */
#define NIXERY_OCI_BASH      "bin/bash"
#define NIXERY_OCI_CA        "etc/ssl/certs/ca-bundle.crt"


typedef struct {
    char          digest[NIXERY_HEX_LEN + 1];
    char          diff_id[NIXERY_HEX_LEN + 1];
    uint64_t      size;
} nixery_oci_layer_t;


typedef struct {
    const char           *system;     /* Nix's, "x86_64-linux" */
    const char           *title;      /* the image's canonical name */
    const char           *revision;   /* of the package set, or NULL */
    const char           *source;     /* URL of the package set, or NULL */
    const char           *contents;   /* path of the symlink tree: looked into
                                         for bash and ca; or NULL */
    nixery_oci_layer_t   *layers;     /* the lowest first */
    size_t                nlayers;
    unsigned              bash:1;     /* NIXERY_OCI_BASH is in it */
    unsigned              ca:1;       /* NIXERY_OCI_CA is */
} nixery_oci_image_t;


/*
 * The image config (image-spec 1.1, "config.md") and the manifest
 * ("manifest.md") as JSON without white space, in an order of keys that never
 * changes.  The caller frees the buffers.
 * Errors: NIXERY_ERROR_SYSTEM, and NIXERY_ERROR_RESULT for a system that has
 * no OCI platform.
 */
int nixery_oci_config(const nixery_oci_image_t *image, nixery_buf_t *json,
    nixery_error_t *err);
int nixery_oci_manifest(const nixery_oci_image_t *image,
    const char *config_digest, size_t config_size, nixery_buf_t *json,
    nixery_error_t *err);

/*
 * The type to serve a manifest with: its mediaType, else what its shape says
 * (an OCI manifest or index, Docker's schema 2).  *type is malloc'ed.  Takes
 * any bytes: no recursion past NIXERY_JSON_DEPTH_MAX, no memory, one pass.
 * NIXERY_DECLINED when the text is no manifest; NIXERY_ERROR: memory.
 */
int nixery_oci_media_type(const char *json, size_t len, char **type);


#endif /* _NIXERY_OCI_H_INCLUDED_ */
