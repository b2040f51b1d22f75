
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_PREPARED_H_INCLUDED_
#define _NIXERY_PREPARED_H_INCLUDED_


#include "nixery_oci.h"
#include "nixery_result.h"


/*
 * Reads the top layer that a builder packed, which must be what the builder
 * says of it, and finds out what the image's config depends on: image->bash
 * and image->ca.
 * Errors: NIXERY_ERROR_RESULT, _CANCELED, _SYSTEM.
 */
int nixery_prepared_look(const nixery_result_t *result,
    nixery_oci_image_t *image, nixery_cancel_t *cancel, nixery_error_t *err);


#endif /* _NIXERY_PREPARED_H_INCLUDED_ */
