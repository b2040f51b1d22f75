
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_ERROR_H_INCLUDED_
#define _NIXERY_ERROR_H_INCLUDED_


#include "nixery_core.h"


typedef enum {
    NIXERY_ERROR_NONE = 0,
    NIXERY_ERROR_NAME,        /* malformed image name */
    NIXERY_ERROR_TAG,         /* malformed tag */
    NIXERY_ERROR_DIGEST,      /* malformed digest */
    NIXERY_ERROR_NOT_FOUND,   /* packages that do not exist */
    NIXERY_ERROR_PACKAGE,     /* packages that exist but can't be used */
    NIXERY_ERROR_NIX,         /* nix-build could not be run, or failed */
    NIXERY_ERROR_RESULT,      /* the builder's result is malformed */
    NIXERY_ERROR_TIMEOUT,     /* the build's time limit has passed */
    NIXERY_ERROR_CANCELED,    /* ended from outside: shutdown */
    NIXERY_ERROR_STORAGE,     /* the storage failed: which operation on what */
    NIXERY_ERROR_SOURCE,      /* where packages come from: no way, or refused */
    NIXERY_ERROR_SYSTEM       /* memory, descriptors, work files, threads */
} nixery_error_e;


/*
 * Filled once, by the function that met the error; whoever owns the struct
 * releases it by nixery_error_free().  Zeroed is "no error".
 */

typedef struct {
    nixery_error_e    kind;
    char             *message;   /* one line, for a person; never NULL if set */
    char             *log;       /* last lines of what Nix printed, or NULL */
} nixery_error_t;


/*
 * Sets kind and message (printf format) and returns NIXERY_ERROR, so that a
 * caller can "return nixery_error_set(...)".  A message that is already there
 * is kept: the first error is the cause.
 */
int nixery_error_set(nixery_error_t *err, nixery_error_e kind,
    const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same, with ": " and strerror(errnum) behind the message. */
int nixery_error_errno(nixery_error_t *err, nixery_error_e kind, int errnum,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Sets NIXERY_ERROR_SYSTEM, "out of memory"; returns NIXERY_ERROR. */
int nixery_error_nomem(nixery_error_t *err);

void nixery_error_free(nixery_error_t *err);


#endif /* _NIXERY_ERROR_H_INCLUDED_ */
