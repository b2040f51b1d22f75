
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_IMAGE_H_INCLUDED_
#define _NIXERY_IMAGE_H_INCLUDED_


#include "nixery_meta.h"


#define NIXERY_NAME_MAX   255   /* bytes; bounds the components at 128 */
#define NIXERY_TAG_MAX    128

/* Bytes of a canonical name: as JSON it is one argument of a program. */
#define NIXERY_IMAGE_MAX  32768


/* What an image is made of: the canonical form of its name. */

typedef struct {
    char         *name;       /* the packages joined by "/" */
    char        **packages;   /* sorted bytewise, unique, NULL at the end */
    size_t        npackages;
    const char   *system;     /* "aarch64-linux" where asked for, or NULL */
} nixery_image_t;


/*
 * Takes an image name apart: grammar of the OCI distribution specification
 * 1.1 ("Pulling manifests"), meta-packages in the first components expanded:
 * those of the list (see nixery_meta_find(); or NULL), else shell and builder;
 * and arm64.  No I/O.
 * Errors: NIXERY_ERROR_NAME, NIXERY_ERROR_SYSTEM.
 */
int nixery_image_parse(nixery_image_t *image, const char *name, size_t len,
    const nixery_meta_t *metas, nixery_error_t *err);
void nixery_image_free(nixery_image_t *image);

/*
 * The grammar alone; what: how a message calls it.  Errors: NIXERY_ERROR_NAME.
 */
int nixery_name_check(const char *name, size_t len, const char *what,
    nixery_error_t *err);

/* Errors: NIXERY_ERROR_TAG. */
int nixery_tag_check(const char *tag, size_t len, nixery_error_t *err);

/*
 * "sha256:<64 lower-case hex digits>" only; hex gets the digits.
 * Errors: NIXERY_ERROR_DIGEST.
 */
int nixery_digest_parse(const char *digest, size_t len,
    char hex[NIXERY_HEX_LEN + 1], nixery_error_t *err);


#endif /* _NIXERY_IMAGE_H_INCLUDED_ */
