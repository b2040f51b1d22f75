
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_CLOSURE_H_INCLUDED_
#define _NIXERY_CLOSURE_H_INCLUDED_


#include "nixery_build.h"
#include "nixery_result.h"


/*
 * Makes an image of a closure: plans its layers, packs those that the storage
 * does not have, stores them and the config, and leaves the manifest in
 * build->manifest.  work is a directory for the layers' files.  The counters
 * of the build are filled in.
 * Errors: NIXERY_ERROR_RESULT, _STORAGE, _CANCELED, _SYSTEM.
 */
int nixery_closure_store(nixery_build_t *build, const nixery_result_t *result,
    const char *work, nixery_error_t *err);


#endif /* _NIXERY_CLOSURE_H_INCLUDED_ */
