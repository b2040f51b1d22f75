
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/* Media types of stored manifests, compared with what the tree says. */

#include "fuzz.h"
#include "nixery_json.h"
#include "nixery_oci.h"


#define FUZZ_CONFIG    "application/vnd.docker.container.image.v1+json"
#define FUZZ_MANIFEST  "application/vnd.docker.distribution.manifest.v2+json"


static int fuzz_type_valid(const char *type);
static void fuzz_tree(const cJSON *json, const char *type);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int              rc;
    char            *type;
    cJSON           *json;
    nixery_error_t   err = { 0 };

    rc = nixery_oci_media_type((const char *) data, size, &type);

    fuzz_check(rc == NIXERY_OK || rc == NIXERY_DECLINED);
    fuzz_check((rc == NIXERY_OK) == (type != NULL));

    fuzz_check(type == NULL || fuzz_type_valid(type));

    /* stricter: UTF-8, no key twice; strings with escapes compare as written */

    json = nixery_json_parse((const char *) data, size, "the text", &err);

    if (json != NULL && memchr(data, '\\', size) == NULL) {
        fuzz_tree(json, type);
    }

    cJSON_Delete(json);
    nixery_error_free(&err);
    free(type);

    return 0;
}


/* It becomes a header of an answer: RFC 6838, section 4.2. */

static int
fuzz_type_valid(const char *type)
{
    size_t  n;

    n = sizeof("application/") - 1;

    if (strncmp(type, "application/", n) != 0) {
        return 0;
    }

    type += n;
    n = strlen(type);

    return n > 0 && n < 128
           && strspn(type, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                           "abcdefghijklmnopqrstuvwxyz0123456789!#$&-^_.+")
              == n;
}


static void
fuzz_tree(const cJSON *json, const char *type)
{
    const char   *expected;
    const cJSON  *media_type, *config;

    media_type = cJSON_GetObjectItemCaseSensitive(json, "mediaType");

    if (media_type != NULL) {
        expected = cJSON_GetStringValue(media_type);

        if (expected == NULL || !fuzz_type_valid(expected)) {
            fuzz_check(type == NULL);

        } else {
            fuzz_check(type != NULL && strcmp(type, expected) == 0);
        }

        return;
    }

    if (type == NULL) {
        return;
    }

    fuzz_check(cJSON_GetNumberValue(
                   cJSON_GetObjectItemCaseSensitive(json, "schemaVersion"))
               == 2);

    config = cJSON_GetObjectItemCaseSensitive(json, "config");

    if (cJSON_IsObject(config)
        && cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(json, "layers")))
    {
        media_type = cJSON_GetObjectItemCaseSensitive(config, "mediaType");

        expected = cJSON_IsString(media_type)
                           && strcmp(media_type->valuestring, FUZZ_CONFIG) == 0
                       ? FUZZ_MANIFEST
                       : NIXERY_OCI_MANIFEST;

    } else {
        fuzz_check(cJSON_IsArray(
            cJSON_GetObjectItemCaseSensitive(json, "manifests")));
        expected = NIXERY_OCI_INDEX;
    }

    fuzz_check(strcmp(type, expected) == 0);
}
