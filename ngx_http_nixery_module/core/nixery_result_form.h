
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_RESULT_FORM_H_INCLUDED_
#define _NIXERY_RESULT_FORM_H_INCLUDED_


#include <cjson/cJSON.h>
#include "nixery_result.h"


/*
 * The forms of a builder's result, from its JSON.  What they put into
 * the result is released by nixery_result_free(), also when they fail.
 */

/* Always NIXERY_ERROR: what the builder says, or what is malformed in it. */
int nixery_result_error(const cJSON *json, nixery_error_t *err);

/* text: the JSON as it was read, where the manifest's bytes are taken from. */
int nixery_result_prebuilt(nixery_result_t *result, const cJSON *json,
    const char *text, size_t len, nixery_error_t *err);
int nixery_result_closure(nixery_result_t *result, const cJSON *json,
    nixery_error_t *err);
int nixery_result_prepared(nixery_result_t *result, const cJSON *json,
    nixery_error_t *err);

/* The nodes, from what Nix writes for exportReferencesGraph. */
int nixery_result_graph(nixery_result_t *result, const cJSON *graph,
    nixery_error_t *err);

/* A whole number of bytes; what: whose it is, for the message. */
int nixery_result_size(const cJSON *item, const char *key, uint64_t *size,
    const char *what, nixery_error_t *err);

/* Whether it is a SHA-256 in hexadecimal. */
int nixery_result_hex(const char *s);

/* NIXERY_ERROR_RESULT, "the builder's result is malformed: ...". */
int nixery_result_bad(nixery_error_t *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));


#endif /* _NIXERY_RESULT_FORM_H_INCLUDED_ */
