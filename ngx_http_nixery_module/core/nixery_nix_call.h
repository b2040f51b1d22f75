
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_NIX_CALL_H_INCLUDED_
#define _NIXERY_NIX_CALL_H_INCLUDED_


#include "nixery_fetch.h"
#include "nixery_json.h"


/* How lines begin by which the bundled builder says what it evaluates. */
#define NIXERY_NIX_TRACE  "trace: nixery: evaluat"


/* One call of nix-build, and what stays the same over several. */

typedef struct {
    const nixery_fetch_t         *fetch;
    const nixery_nix_request_t   *request;
    char                         *packages;   /* JSON */
    nixery_buf_t                  source;     /* pkgSource */
    nixery_buf_t                  arguments;  /* srcArgs */
    cJSON                        *skip;       /* package: why; or NULL */
    nixery_process_t              process;
} nixery_nix_call_t;


/*
 * The bundled builder says by a trace which package it is about to evaluate.
 * When evaluation ended there, that package goes to the ones to be skipped, and
 * NIXERY_OK means: run once more.  NIXERY_DECLINED: it was none of them.
 */
int nixery_nix_culprit(nixery_nix_call_t *call, const char *text,
    nixery_error_t *err);

/* Always NIXERY_ERROR: why nix-build failed, by its status and its words. */
int nixery_nix_failed(nixery_nix_call_t *call, const char *text,
    nixery_error_t *err);

#endif /* _NIXERY_NIX_CALL_H_INCLUDED_ */
