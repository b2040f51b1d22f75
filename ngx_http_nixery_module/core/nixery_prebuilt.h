
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_PREBUILT_H_INCLUDED_
#define _NIXERY_PREBUILT_H_INCLUDED_


#include "nixery_build.h"
#include "nixery_result.h"


/*
 * Stores the blobs of a prebuilt image, each checked against its digest on the
 * way, and leaves the manifest in build->manifest.  work is a directory for
 * the copies.  The counters of the build are filled in.
 * Errors: NIXERY_ERROR_RESULT (names the layer), _STORAGE, _CANCELED, _SYSTEM.
 */
int nixery_prebuilt_store(nixery_build_t *build, nixery_result_t *result,
    const char *work, nixery_error_t *err);


#endif /* _NIXERY_PREBUILT_H_INCLUDED_ */
