
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_META_H_INCLUDED_
#define _NIXERY_META_H_INCLUDED_


#include "nixery_error.h"


#define NIXERY_META_MAX     64    /* packages of one meta-package */
#define NIXERY_PACKAGE_MAX  255   /* bytes of a package's attribute path */


/* What a name stands for at the beginning of an image's. */

typedef struct {
    const char          *name;
    const char *const   *packages;   /* NULL at the end */
} nixery_meta_t;


/*
 * The meta-package of that name in a list (a name of NULL at the end; or NULL),
 * else among those that are there without any; or NULL.
 */
const nixery_meta_t *nixery_meta_find(const nixery_meta_t *metas,
    const char *name, size_t len);

/* Nix's system for the name of a platform, or NULL. */
const char *nixery_meta_system(const char *name, size_t len);

/* Whether a meta-package may be called so.  Errors: NIXERY_ERROR_NAME. */
int nixery_meta_check(const char *name, size_t len, nixery_error_t *err);

/*
 * Whether it is an attribute path as meta-packages may have: letters of either
 * case, digits, and some more.  Errors: NIXERY_ERROR_NAME.
 */
int nixery_package_check(const char *package, size_t len,
    nixery_error_t *err);


#endif /* _NIXERY_META_H_INCLUDED_ */
