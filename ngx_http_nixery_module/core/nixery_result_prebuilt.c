
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_json.h"
#include "nixery_nix.h"
#include "nixery_result_form.h"


#define NIXERY_RESULT_LOCATIONS_MAX  1000


static int nixery_result_location(nixery_location_t *location,
    const cJSON *item, nixery_error_t *err);
static int nixery_result_needs(const nixery_result_t *result,
    const cJSON *descriptor, const char *what, nixery_error_t *err);
static int nixery_result_md5(const char *s);
static int nixery_result_file(const char *path);
static int nixery_result_compare_locations(const void *one, const void *two);


int
nixery_result_prebuilt(nixery_result_t *result, const cJSON *json,
    const char *text, size_t len, nixery_error_t *err)
{
    size_t        n, value_len;
    const char   *value;
    const cJSON  *manifest, *locations, *layers, *item;

    manifest = cJSON_GetObjectItemCaseSensitive(json, "manifest");
    locations = cJSON_GetObjectItemCaseSensitive(json, "layerLocations");

    if (!cJSON_IsObject(manifest)) {
        return nixery_result_bad(err, "\"manifest\" is not an object");
    }

    if (!cJSON_IsObject(locations)) {
        return nixery_result_bad(err, "\"layerLocations\" is not an object");
    }

    n = cJSON_GetArraySize(locations);

    if (n > NIXERY_RESULT_LOCATIONS_MAX) {
        return nixery_result_bad(err, "\"layerLocations\" has %zu entries, at"
                                 " most %d are taken", n,
                                 NIXERY_RESULT_LOCATIONS_MAX);
    }

    result->form = NIXERY_RESULT_PREBUILT;

    result->locations = calloc(n + 1, sizeof(nixery_location_t));
    if (result->locations == NULL) {
        return nixery_error_nomem(err);
    }

    cJSON_ArrayForEach(item, locations) {
        if (nixery_result_location(&result->locations[result->nlocations++],
                                   item, err)
            != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }
    }

    qsort(result->locations, n, sizeof(nixery_location_t),
          nixery_result_compare_locations);

    if (nixery_result_needs(result,
                            cJSON_GetObjectItemCaseSensitive(manifest,
                                                             "config"),
                            "config", err)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    layers = cJSON_GetObjectItemCaseSensitive(manifest, "layers");

    if (!cJSON_IsArray(layers)) {
        return nixery_result_bad(err, "the manifest's \"layers\" is not a"
                                 " list");
    }

    cJSON_ArrayForEach(item, layers) {
        if (nixery_result_needs(result, item, "layer", err) != NIXERY_OK) {
            return NIXERY_ERROR;
        }
    }

    if (nixery_json_locate(text, len, "manifest", &value, &value_len)
        != NIXERY_OK)
    {
        return nixery_result_bad(err, "the key \"manifest\" is written with"
                                 " escapes");
    }

    if (nixery_buf_append(&result->manifest, value, value_len) != NIXERY_OK) {
        return nixery_error_nomem(err);
    }

    return NIXERY_OK;
}


static int
nixery_result_location(nixery_location_t *location, const cJSON *item,
    nixery_error_t *err)
{
    const cJSON  *path, *md5;

    if (!nixery_result_hex(item->string)) {
        return nixery_result_bad(err, "\"layerLocations\" has \"%.80s\" as a"
                                 " key, which is not a SHA-256 in hexadecimal",
                                 item->string);
    }

    memcpy(location->digest, item->string, NIXERY_HEX_LEN + 1);

    path = cJSON_GetObjectItemCaseSensitive(item, "path");
    md5 = cJSON_GetObjectItemCaseSensitive(item, "md5");

    if (!cJSON_IsString(path) || !nixery_result_file(path->valuestring)) {
        return nixery_result_bad(err, "layer %s has no \"path\" below "
                                 NIXERY_STORE, item->string);
    }

    if (md5 != NULL
        && (!cJSON_IsString(md5) || !nixery_result_md5(md5->valuestring)))
    {
        return nixery_result_bad(err, "layer %s has an \"md5\" that is not 16"
                                 " bytes in base64", item->string);
    }

    location->path = strdup(path->valuestring);

    if (md5 != NULL) {
        location->md5 = strdup(md5->valuestring);
    }

    if (location->path == NULL || (md5 != NULL && location->md5 == NULL)) {
        return nixery_error_nomem(err);
    }

    return NIXERY_OK;
}


/* A blob that the manifest names must be one that the builder gave. */

static int
nixery_result_needs(const nixery_result_t *result, const cJSON *descriptor,
    const char *what, nixery_error_t *err)
{
    const char         *hex;
    const cJSON        *digest;
    nixery_location_t   key;

    digest = cJSON_GetObjectItemCaseSensitive(descriptor, "digest");

    if (!cJSON_IsString(digest)
        || strncmp(digest->valuestring, "sha256:", 7) != 0
        || !nixery_result_hex(digest->valuestring + 7))
    {
        return nixery_result_bad(err, "a %s of the manifest has no sha256"
                                 " digest", what);
    }

    hex = digest->valuestring + 7;

    memset(&key, 0, sizeof(nixery_location_t));
    memcpy(key.digest, hex, NIXERY_HEX_LEN + 1);

    if (bsearch(&key, result->locations, result->nlocations,
                sizeof(nixery_location_t), nixery_result_compare_locations)
        == NULL)
    {
        return nixery_result_bad(err, "%s %s of the manifest is missing in"
                                 " \"layerLocations\"", what, hex);
    }

    return NIXERY_OK;
}


static int
nixery_result_md5(const char *s)
{
    return strlen(s) == 24
           && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                        "0123456789+/") == 22
           && strcmp(s + 22, "==") == 0;
}


/* A store path, or a file somewhere below one. */

static int
nixery_result_file(const char *path)
{
    int          valid;
    char        *top;
    const char  *slash, *p;

    if (!nixery_in_store(path)) {
        return 0;
    }

    slash = strchrnul(path + sizeof(NIXERY_STORE), '/');

    top = strndup(path, slash - path);
    if (top == NULL) {
        return 0;
    }

    valid = nixery_store_path_valid(top);
    free(top);

    for (p = slash; valid && *p != '\0'; p = slash) {
        slash = strchrnul(p + 1, '/');

        if (slash == p + 1 || (slash == p + 2 && p[1] == '.')
            || (slash == p + 3 && p[1] == '.' && p[2] == '.'))
        {
            return 0;
        }
    }

    return valid;
}


static int
nixery_result_compare_locations(const void *one, const void *two)
{
    const nixery_location_t  *first, *second;

    first = one;
    second = two;

    return strcmp(first->digest, second->digest);
}
