
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_RESOLVE_H_INCLUDED_
#define _NIXERY_RESOLVE_H_INCLUDED_


#include "nixery_build.h"
#include "nixery_fetch.h"


/*
 * The job before a build: what a tag stands for now.  As nixery_build_t, it is
 * what passes between the event loop and a thread.
 */

typedef struct {
    /* in */
    const nixery_settings_t   *settings;
    char                      *tag;         /* malloc'ed; owned */
    nixery_cancel_t            cancel;

    /* out; released by nixery_resolve_free() */
    nixery_revision_t          revision;
    nixery_error_t             error;       /* kind NONE: it is resolved */
    uint64_t                   time;        /* milliseconds */
} nixery_resolve_t;


/* Returns NIXERY_OK, or NIXERY_ERROR with resolve->error set. */
int nixery_resolve_run(nixery_resolve_t *resolve);
void nixery_resolve_free(nixery_resolve_t *resolve);

/*
 * Asks where packages come from what a tag, or a reference by its full name,
 * stands for.
 * Errors: NIXERY_ERROR_REF, it is not there; NIXERY_ERROR_SOURCE, _TIMEOUT,
 * _CANCELED, _SYSTEM.
 */
int nixery_source_resolve(const nixery_fetch_t *fetch, const char *tag,
    nixery_revision_t *revision, nixery_error_t *err);


#endif /* _NIXERY_RESOLVE_H_INCLUDED_ */
