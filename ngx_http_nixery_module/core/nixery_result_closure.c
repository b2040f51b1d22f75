
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_nix.h"
#include "nixery_result_form.h"


int
nixery_result_closure(nixery_result_t *result, const cJSON *json,
    nixery_error_t *err)
{
    const cJSON  *graph, *contents, *system, *revision;

    graph = cJSON_GetObjectItemCaseSensitive(json, "graph");
    contents = cJSON_GetObjectItemCaseSensitive(json, "contents");
    system = cJSON_GetObjectItemCaseSensitive(json, "imageSystem");
    revision = cJSON_GetObjectItemCaseSensitive(json, "revision");

    result->form = NIXERY_RESULT_CLOSURE;

    if (nixery_result_graph(result, graph, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (!cJSON_IsString(contents)
        || !nixery_store_path_valid(contents->valuestring))
    {
        return nixery_result_bad(err, "\"contents\" is not a store path");
    }

    if (nixery_result_find(result, contents->valuestring) == NULL) {
        return nixery_result_bad(err, "\"contents\" is not in the graph");
    }

    result->contents = strdup(contents->valuestring);
    if (result->contents == NULL) {
        return nixery_error_nomem(err);
    }

    if (revision != NULL && !cJSON_IsString(revision)) {
        return nixery_result_bad(err, "\"revision\" is not a string");
    }

    /* of a path it is empty */

    if (revision != NULL && *revision->valuestring != '\0') {
        result->revision = strdup(revision->valuestring);
        if (result->revision == NULL) {
            return nixery_error_nomem(err);
        }
    }

    if (system == NULL) {
        return NIXERY_OK;
    }

    if (!cJSON_IsString(system)) {
        return nixery_result_bad(err, "\"imageSystem\" is not a string");
    }

    result->system = strdup(system->valuestring);
    if (result->system == NULL) {
        return nixery_error_nomem(err);
    }

    return NIXERY_OK;
}
