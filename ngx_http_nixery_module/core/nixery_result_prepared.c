
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_nix.h"
#include "nixery_result_form.h"


/*
 * What Nixery's prepare-image.nix gives: the attributes of a derivation with
 * the packages' graph among them, and an uncompressed tar of links.
 */

int
nixery_result_prepared(nixery_result_t *result, const cJSON *json,
    nixery_error_t *err)
{
    const cJSON       *runtime, *layer, *path, *hash;
    nixery_tarball_t  *tarball;

    runtime = cJSON_GetObjectItemCaseSensitive(json, "runtimeGraph");
    layer = cJSON_GetObjectItemCaseSensitive(json, "symlinkLayer");

    if (!cJSON_IsObject(runtime)) {
        return nixery_result_bad(err, "\"runtimeGraph\" is not an object");
    }

    if (!cJSON_IsObject(layer)) {
        return nixery_result_bad(err, "\"symlinkLayer\" is not an object");
    }

    result->form = NIXERY_RESULT_CLOSURE;

    if (nixery_result_graph(result,
                            cJSON_GetObjectItemCaseSensitive(runtime, "graph"),
                            err)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    path = cJSON_GetObjectItemCaseSensitive(layer, "path");
    hash = cJSON_GetObjectItemCaseSensitive(layer, "tarHash");
    tarball = &result->tarball;

    if (!cJSON_IsString(path) || !nixery_store_path_valid(path->valuestring)) {
        return nixery_result_bad(err, "\"path\" of \"symlinkLayer\" is not a"
                                 " store path");
    }

    if (!cJSON_IsString(hash) || !nixery_result_hex(hash->valuestring)) {
        return nixery_result_bad(err, "\"tarHash\" of \"symlinkLayer\" is not"
                                 " a SHA-256 in hexadecimal");
    }

    if (nixery_result_size(cJSON_GetObjectItemCaseSensitive(layer, "size"),
                           "size", &tarball->size, "symlinkLayer", err)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    memcpy(tarball->hash, hash->valuestring, NIXERY_HEX_LEN + 1);

    tarball->path = strdup(path->valuestring);
    if (tarball->path == NULL) {
        return nixery_error_nomem(err);
    }

    return NIXERY_OK;
}
