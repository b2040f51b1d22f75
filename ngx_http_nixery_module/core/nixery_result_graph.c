
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_json.h"
#include "nixery_nix.h"
#include "nixery_result_form.h"


#define NIXERY_RESULT_NODES_MAX  100000


static int nixery_result_node(nixery_node_t *node, const cJSON *item,
    nixery_error_t *err);
static int nixery_result_references(nixery_result_t *result,
    nixery_node_t *node, const cJSON *item, nixery_error_t *err);
static int nixery_result_compare_nodes(const void *one, const void *two);
static int nixery_result_compare_indexes(const void *one, const void *two);


int
nixery_result_graph(nixery_result_t *result, const cJSON *graph,
    nixery_error_t *err)
{
    size_t           n, i;
    const cJSON     *item;
    nixery_node_t   *node;

    if (!cJSON_IsArray(graph)) {
        return nixery_result_bad(err, "\"graph\" is not a list");
    }

    n = cJSON_GetArraySize(graph);

    if (n > NIXERY_RESULT_NODES_MAX) {
        return nixery_result_bad(err, "\"graph\" has %zu paths, at most %d are"
                                 " taken", n, NIXERY_RESULT_NODES_MAX);
    }

    result->nodes = calloc(n + 1, sizeof(nixery_node_t));
    if (result->nodes == NULL) {
        return nixery_error_nomem(err);
    }

    cJSON_ArrayForEach(item, graph) {
        if (nixery_result_node(&result->nodes[result->nnodes++], item, err)
            != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }
    }

    qsort(result->nodes, n, sizeof(nixery_node_t), nixery_result_compare_nodes);

    for (i = 1; i < n; i++) {
        if (strcmp(result->nodes[i - 1].path, result->nodes[i].path) == 0) {
            return nixery_result_bad(err, "\"graph\" has \"%s\" twice",
                                     result->nodes[i].path);
        }
    }

    cJSON_ArrayForEach(item, graph) {
        node = nixery_result_find(result,
                   cJSON_GetObjectItemCaseSensitive(item, "path")->valuestring);

        if (nixery_result_references(result, node,
                cJSON_GetObjectItemCaseSensitive(item, "references"), err)
            != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }
    }

    return NIXERY_OK;
}


static int
nixery_result_node(nixery_node_t *node, const cJSON *item, nixery_error_t *err)
{
    const cJSON  *path, *references, *closure_size;

    path = cJSON_GetObjectItemCaseSensitive(item, "path");
    references = cJSON_GetObjectItemCaseSensitive(item, "references");
    closure_size = cJSON_GetObjectItemCaseSensitive(item, "closureSize");

    if (!cJSON_IsString(path) || !nixery_store_path_valid(path->valuestring)) {
        return nixery_result_bad(err, "an entry of \"graph\" has no \"path\""
                                 " that is a store path");
    }

    node->path = strdup(path->valuestring);
    if (node->path == NULL) {
        return nixery_error_nomem(err);
    }

    if (!cJSON_IsArray(references)) {
        return nixery_result_bad(err, "\"references\" of \"%s\" is not a list",
                                 node->path);
    }

    if (nixery_result_size(cJSON_GetObjectItemCaseSensitive(item, "narSize"),
                           "narSize", &node->nar_size, node->path, err)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    if (closure_size == NULL) {
        return NIXERY_OK;
    }

    return nixery_result_size(closure_size, "closureSize", &node->closure_size,
                              node->path, err);
}


static int
nixery_result_references(nixery_result_t *result, nixery_node_t *node,
    const cJSON *item, nixery_error_t *err)
{
    size_t          n, i;
    const cJSON    *reference;
    nixery_node_t  *other;

    n = cJSON_GetArraySize(item);

    node->references = calloc(n + 1, sizeof(uint32_t));
    if (node->references == NULL) {
        return nixery_error_nomem(err);
    }

    n = 0;

    cJSON_ArrayForEach(reference, item) {
        if (!cJSON_IsString(reference)) {
            return nixery_result_bad(err, "a reference of \"%s\" is not a"
                                     " string", node->path);
        }

        other = nixery_result_find(result, reference->valuestring);

        if (other == NULL) {
            return nixery_result_bad(err, "\"%s\" refers to \"%.255s\", which"
                                     " is not in the graph", node->path,
                                     reference->valuestring);
        }

        if (other != node) {
            node->references[n++] = (uint32_t) (other - result->nodes);
        }
    }

    qsort(node->references, n, sizeof(uint32_t), nixery_result_compare_indexes);

    for (i = 0; i < n; i++) {
        if (i == 0 || node->references[i] != node->references[i - 1]) {
            node->references[node->nreferences++] = node->references[i];
        }
    }

    return NIXERY_OK;
}


nixery_node_t *
nixery_result_find(const nixery_result_t *result, const char *path)
{
    nixery_node_t  key;

    memset(&key, 0, sizeof(nixery_node_t));
    key.path = (char *) path;

    return bsearch(&key, result->nodes, result->nnodes, sizeof(nixery_node_t),
                   nixery_result_compare_nodes);
}


int
nixery_result_size(const cJSON *item, const char *key, uint64_t *size,
    const char *what, nixery_error_t *err)
{
    double  n;

    n = cJSON_IsNumber(item) ? item->valuedouble : -1;

    if (n < 0 || n > NIXERY_JSON_WHOLE_MAX || n != (double) (uint64_t) n) {
        return nixery_result_bad(err, "\"%s\" of \"%s\" is not a size in bytes",
                                 key, what);
    }

    *size = (uint64_t) n;

    return NIXERY_OK;
}


static int
nixery_result_compare_nodes(const void *one, const void *two)
{
    const nixery_node_t  *first, *second;

    first = one;
    second = two;

    return strcmp(first->path, second->path);
}


static int
nixery_result_compare_indexes(const void *one, const void *two)
{
    const uint32_t  *first, *second;

    first = one;
    second = two;

    return (*first > *second) - (*first < *second);
}
