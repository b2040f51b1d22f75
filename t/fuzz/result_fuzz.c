
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/* What a builder wrote: JSON, a result, and the layers that come of it. */

#include "fuzz.h"
#include "nixery_json.h"
#include "nixery_layers.h"


static cJSON *fuzz_json(const char *text, size_t len);
static void fuzz_result(const char *text, size_t len, const cJSON *json);
static void fuzz_prebuilt(const nixery_result_t *result);
static void fuzz_closure(const nixery_result_t *result);
static void fuzz_plan(const nixery_result_t *result, size_t max);
static int fuzz_compare(const void *one, const void *two);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cJSON  *json;

    json = fuzz_json((const char *) data, size);

    fuzz_result((const char *) data, size, json);

    cJSON_Delete(json);

    return 0;
}


/* Values that are found in the text are those of the tree. */

static cJSON *
fuzz_json(const char *text, size_t len)
{
    size_t           n;
    cJSON           *json, *part;
    const char      *value;
    const cJSON     *item;
    nixery_error_t   err = { 0 };

    json = nixery_json_parse(text, len, "the text", &err);

    fuzz_check_error(json != NULL ? NIXERY_OK : NIXERY_ERROR, &err);

    if (!cJSON_IsObject(json)) {
        return json;
    }

    cJSON_ArrayForEach(item, json) {
        if (nixery_json_locate(text, len, item->string, &value, &n)
            != NIXERY_OK)
        {
            continue;
        }

        fuzz_check(value > text && value + n < text + len);

        part = nixery_json_parse(value, n, "a part", &err);

        fuzz_check(part != NULL && cJSON_Compare(part, item, 1));
        cJSON_Delete(part);
    }

    return json;
}


static void
fuzz_result(const char *text, size_t len, const cJSON *json)
{
    int              rc;
    nixery_error_t   err = { 0 };
    nixery_result_t  result;

    rc = nixery_result_parse(&result, text, len, &err);

    fuzz_check(rc == NIXERY_OK || err.kind == NIXERY_ERROR_RESULT
               || (json != NULL && (err.kind == NIXERY_ERROR_NOT_FOUND
                                    || err.kind == NIXERY_ERROR_PACKAGE)));
    fuzz_check_error(rc, &err);

    if (rc != NIXERY_OK) {
        return;
    }

    fuzz_check(cJSON_IsObject(json));

    if (result.form == NIXERY_RESULT_PREBUILT) {
        fuzz_prebuilt(&result);

    } else {
        fuzz_closure(&result);
        fuzz_plan(&result, NIXERY_LAYERS_MIN);
        fuzz_plan(&result, NIXERY_LAYERS_MIN + 1);
        fuzz_plan(&result, NIXERY_LAYERS_MAX);
    }

    nixery_result_free(&result);
}


static void
fuzz_prebuilt(const nixery_result_t *result)
{
    size_t           i;
    cJSON           *json;
    nixery_error_t   err = { 0 };

    json = nixery_json_parse(result->manifest.data, result->manifest.len,
                             "the manifest", &err);

    fuzz_check(cJSON_IsObject(json));
    cJSON_Delete(json);

    for (i = 0; i < result->nlocations; i++) {
        fuzz_check(strncmp(result->locations[i].path, NIXERY_STORE "/",
                           sizeof(NIXERY_STORE))
                   == 0);
        fuzz_check(strstr(result->locations[i].path, "/../") == NULL);
        fuzz_check(i == 0 || strcmp(result->locations[i - 1].digest,
                                    result->locations[i].digest) < 0);
    }
}


static void
fuzz_closure(const nixery_result_t *result)
{
    int                   found;
    size_t                i, k;
    const nixery_node_t  *node;

    found = 0;

    for (i = 0; i < result->nnodes; i++) {
        node = &result->nodes[i];

        found += result->contents != NULL
                 && strcmp(node->path, result->contents) == 0;
        fuzz_check(i == 0 || strcmp(node[-1].path, node->path) < 0);

        for (k = 0; k < node->nreferences; k++) {
            fuzz_check(node->references[k] < result->nnodes
                       && node->references[k] != i);
            fuzz_check(k == 0
                       || node->references[k - 1] < node->references[k]);
        }
    }

    if (result->contents != NULL) {
        fuzz_check(found == 1 && result->tarball.path == NULL);
        return;
    }

    fuzz_check(strncmp(result->tarball.path, NIXERY_STORE "/",
                       sizeof(NIXERY_STORE))
               == 0);
    fuzz_check(strlen(result->tarball.hash) == NIXERY_HEX_LEN);
}


/* Each path but the contents is in one layer. */

static void
fuzz_plan(const nixery_result_t *result, size_t max)
{
    size_t           i, k, n, total;
    const char     **paths;
    nixery_plan_t    plan;
    nixery_error_t   err = { 0 };

    fuzz_check(nixery_plan_make(&plan, result, max, NULL, &err) == NIXERY_OK);
    fuzz_check(plan.nlayers < max);

    total = result->nnodes - (result->contents != NULL);

    paths = calloc(total + 1, sizeof(char *));
    fuzz_check(paths != NULL);

    n = 0;

    for (i = 0; i < plan.nlayers; i++) {
        fuzz_check(plan.layers[i].npaths != 0);

        for (k = 0; k < plan.layers[i].npaths; k++) {
            fuzz_check(n < total);
            paths[n++] = plan.layers[i].paths[k];
        }
    }

    fuzz_check(n == total);

    qsort(paths, n, sizeof(char *), fuzz_compare);

    for (i = 0; i < n; i++) {
        fuzz_check(result->contents == NULL
                   || strcmp(paths[i], result->contents) != 0);
        fuzz_check(i == 0 || strcmp(paths[i - 1], paths[i]) != 0);
    }

    free(paths);
    nixery_plan_free(&plan);
}


static int
fuzz_compare(const void *one, const void *two)
{
    return strcmp(*(const char *const *) one, *(const char *const *) two);
}
