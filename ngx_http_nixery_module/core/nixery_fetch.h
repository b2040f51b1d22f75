
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_FETCH_H_INCLUDED_
#define _NIXERY_FETCH_H_INCLUDED_


#include "nixery_nix.h"
#include "nixery_process.h"


/* What programs that look at a source, Nix among them, are run with. */

struct nixery_fetch_s {
    const nixery_nix_t   *nix;
    const char           *work;       /* folder of this job alone */
    const char           *temp_path;  /* of downloads and Nix's caches */
    uint64_t              deadline;   /* ms of the monotonic clock */
    nixery_cancel_t      *cancel;
    char                **env;        /* made by nixery_fetch_open() */
    unsigned              git:1;      /* it may be run, and is configured */
};


/* The value of a variable in a list of NAME=VALUE, or NULL. */
const char *nixery_env_get(char *const *env, const char *name);

/*
 * Makes the environment, the folder of Nix's caches, and in the work folder
 * what git reads: its configuration and the credentials of the URL.
 * Errors: NIXERY_ERROR_SYSTEM.
 */
int nixery_fetch_open(nixery_fetch_t *fetch, nixery_error_t *err);
void nixery_fetch_close(nixery_fetch_t *fetch);

/*
 * Runs a program to its end and makes its standard error a clean text without
 * secrets, which the caller frees, as it frees the process.  Set are what the
 * caller wants of program, argv, grace, out_max and the excerpt.
 * NIXERY_OK: see process->status.  NIXERY_ERROR_TIMEOUT has the text's last
 * lines in err->log; NIXERY_ERROR_CANCELED, _NIX, _SYSTEM.
 */
int nixery_fetch_run(const nixery_fetch_t *fetch, nixery_process_t *process,
    nixery_buf_t *text, nixery_error_t *err);

/*
 * Always NIXERY_ERROR: the time limit has passed; text is what was printed
 * until then, or NULL.
 */
int nixery_fetch_late(const nixery_fetch_t *fetch, const nixery_buf_t *text,
    nixery_error_t *err);


#endif /* _NIXERY_FETCH_H_INCLUDED_ */
