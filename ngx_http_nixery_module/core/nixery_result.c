
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_json.h"
#include "nixery_nix.h"
#include "nixery_result.h"


#define NIXERY_RESULT_NODES_MAX      100000
#define NIXERY_RESULT_LOCATIONS_MAX  1000
#define NIXERY_RESULT_PACKAGES_MAX   1000                 /* of an error */
#define NIXERY_RESULT_MESSAGE_MAX    65536                /* bytes */
#define NIXERY_RESULT_SIZE_MAX       9007199254740992.0   /* 2^53 */


static int nixery_result_load(const char *path, nixery_buf_t *text,
    nixery_error_t *err);
static int nixery_result_error(const cJSON *json, nixery_error_t *err);
static int nixery_result_few(const cJSON *pkgs, const char *key,
    nixery_error_t *err);
static int nixery_result_list(nixery_buf_t *message, const char *one,
    const char *many, const cJSON *pkgs, const cJSON *leave,
    const cJSON *reasons);
static int nixery_result_has(const cJSON *array, const char *s);
static int nixery_result_prebuilt(nixery_result_t *result, const cJSON *json,
    const char *text, size_t len, nixery_error_t *err);
static int nixery_result_location(nixery_location_t *location,
    const cJSON *item, nixery_error_t *err);
static int nixery_result_needs(const nixery_result_t *result,
    const cJSON *descriptor, const char *what, nixery_error_t *err);
static int nixery_result_closure(nixery_result_t *result, const cJSON *json,
    nixery_error_t *err);
static int nixery_result_node(nixery_node_t *node, const cJSON *item,
    nixery_error_t *err);
static int nixery_result_references(nixery_result_t *result,
    nixery_node_t *node, const cJSON *item, nixery_error_t *err);
static nixery_node_t *nixery_result_find(const nixery_result_t *result,
    const char *path);
static int nixery_result_size(const cJSON *item, const char *key,
    uint64_t *size, const char *path, nixery_error_t *err);
static int nixery_result_hex(const char *s);
static int nixery_result_md5(const char *s);
static int nixery_result_file(const char *path);
static int nixery_result_bad(nixery_error_t *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static int nixery_result_compare_locations(const void *one, const void *two);
static int nixery_result_compare_nodes(const void *one, const void *two);
static int nixery_result_compare_indexes(const void *one, const void *two);


int
nixery_result_read(nixery_result_t *result, const char *path,
    nixery_error_t *err)
{
    int           rc;
    nixery_buf_t  text;

    memset(&text, 0, sizeof(nixery_buf_t));
    memset(result, 0, sizeof(nixery_result_t));

    rc = nixery_result_load(path, &text, err);

    if (rc == NIXERY_OK) {
        rc = nixery_result_parse(result, text.data, text.len, err);
    }

    nixery_buf_free(&text);

    return rc;
}


int
nixery_result_parse(nixery_result_t *result, const char *text, size_t len,
    nixery_error_t *err)
{
    int     rc;
    cJSON  *json;

    memset(result, 0, sizeof(nixery_result_t));

    json = nixery_json_parse(text, len, "the builder's result", err);
    if (json == NULL) {
        return NIXERY_ERROR;
    }

    if (!cJSON_IsObject(json)) {
        rc = nixery_result_bad(err, "it is not an object");

    } else if (cJSON_GetObjectItemCaseSensitive(json, "error") != NULL) {
        rc = nixery_result_error(json, err);

    } else if (cJSON_GetObjectItemCaseSensitive(json, "manifest") != NULL) {
        rc = nixery_result_prebuilt(result, json, text, len, err);

    } else if (cJSON_GetObjectItemCaseSensitive(json, "graph") != NULL) {
        rc = nixery_result_closure(result, json, err);

    } else {
        rc = nixery_result_bad(err, "it has none of the keys \"error\","
                               " \"manifest\" and \"graph\"");
    }

    cJSON_Delete(json);

    if (rc != NIXERY_OK) {
        nixery_result_free(result);
    }

    return rc;
}


void
nixery_result_free(nixery_result_t *result)
{
    size_t  i;

    for (i = 0; i < result->nlocations; i++) {
        free(result->locations[i].path);
        free(result->locations[i].md5);
    }

    for (i = 0; i < result->nnodes; i++) {
        free(result->nodes[i].path);
        free(result->nodes[i].references);
    }

    free(result->locations);
    free(result->nodes);
    free(result->contents);
    free(result->system);
    nixery_buf_free(&result->manifest);

    memset(result, 0, sizeof(nixery_result_t));
}


static int
nixery_result_load(const char *path, nixery_buf_t *text, nixery_error_t *err)
{
    int          fd, rc;
    char        *buf;
    ssize_t      n;
    struct stat  sb;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd == -1) {
        return nixery_error_errno(err,
                                  errno == EMFILE || errno == ENFILE
                                      ? NIXERY_ERROR_SYSTEM
                                      : NIXERY_ERROR_RESULT,
                                  errno, "can't open the builder's result"
                                  " \"%s\"", path);
    }

    buf = NULL;
    rc = NIXERY_ERROR;

    if (fstat(fd, &sb) == -1) {
        (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't stat \"%s\"", path);

    } else if (!S_ISREG(sb.st_mode)) {
        (void) nixery_result_bad(err, "\"%s\" is not a regular file", path);

    } else if (sb.st_size > NIXERY_RESULT_MAX) {
        (void) nixery_result_bad(err, "it has %lld bytes, at most %d are read",
                                 (long long) sb.st_size, NIXERY_RESULT_MAX);

    } else if ((buf = malloc(65536)) == NULL) {
        (void) nixery_error_nomem(err);

    } else {
        while ((n = read(fd, buf, 65536)) > 0 || (n == -1 && errno == EINTR)) {
            if (n > 0 && nixery_buf_append(text, buf, n) != NIXERY_OK) {
                break;
            }
        }

        if (n == 0) {
            rc = nixery_buf_append(text, "", 0);
        }

        if (rc != NIXERY_OK && n == -1) {
            (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                      "can't read \"%s\"", path);

        } else if (rc != NIXERY_OK) {
            (void) nixery_error_nomem(err);
        }
    }

    free(buf);
    (void) close(fd);

    return rc;
}


/*
 * {"error": kind, "pkgs": [...], "reasons": {package: text}, "message": text},
 * the last two may be left out.
 */

static int
nixery_result_error(const cJSON *json, nixery_error_t *err)
{
    int              rc, missing;
    const cJSON     *kind, *pkgs, *reasons, *message, *item;
    nixery_buf_t     text;
    nixery_error_e   e;

    kind = cJSON_GetObjectItemCaseSensitive(json, "error");
    pkgs = cJSON_GetObjectItemCaseSensitive(json, "pkgs");
    reasons = cJSON_GetObjectItemCaseSensitive(json, "reasons");
    message = cJSON_GetObjectItemCaseSensitive(json, "message");

    if (!cJSON_IsString(kind)) {
        return nixery_result_bad(err, "\"error\" is not a string");
    }

    if (pkgs != NULL && !cJSON_IsArray(pkgs)) {
        return nixery_result_bad(err, "\"pkgs\" is not a list");
    }

    if (reasons != NULL && !cJSON_IsObject(reasons)) {
        return nixery_result_bad(err, "\"reasons\" is not an object");
    }

    if (message != NULL && !cJSON_IsString(message)) {
        return nixery_result_bad(err, "\"message\" is not a string");
    }

    if (nixery_result_few(pkgs, "pkgs", err) != NIXERY_OK
        || nixery_result_few(reasons, "reasons", err) != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    cJSON_ArrayForEach(item, pkgs) {
        if (!cJSON_IsString(item)) {
            return nixery_result_bad(err, "\"pkgs\" has what is not a string");
        }
    }

    cJSON_ArrayForEach(item, reasons) {
        if (!cJSON_IsString(item)) {
            return nixery_result_bad(err, "a reason is not a string");
        }
    }

    missing = strcmp(kind->valuestring, "not_found") == 0;
    e = missing ? NIXERY_ERROR_NOT_FOUND : NIXERY_ERROR_PACKAGE;

    memset(&text, 0, sizeof(nixery_buf_t));
    rc = NIXERY_OK;

    if (message != NULL) {
        rc = nixery_buf_printf(&text, "%s", message->valuestring);
    }

    if (rc == NIXERY_OK && missing) {
        rc = nixery_result_list(&text, "package not found",
                                "packages not found", pkgs, NULL, NULL);
    }

    if (rc == NIXERY_OK && (reasons != NULL || !missing)) {
        rc = nixery_result_list(&text, "package can't be used",
                                "packages can't be used",
                                reasons != NULL ? reasons : pkgs,
                                missing ? pkgs : NULL, reasons);
    }

    if (rc == NIXERY_OK && text.len == 0) {
        rc = nixery_buf_printf(&text, "the builder says \"%s\"",
                               kind->valuestring);
    }

    if (rc != NIXERY_OK) {
        nixery_buf_free(&text);
        return nixery_error_nomem(err);
    }

    if (text.len > NIXERY_RESULT_MESSAGE_MAX) {
        rc = nixery_result_bad(err, "its error has more than %d bytes",
                               NIXERY_RESULT_MESSAGE_MAX);

    } else {
        rc = nixery_error_set(err, e, "%s", text.data);
    }

    nixery_buf_free(&text);

    return rc;
}


/* Each of them is looked for among the others. */

static int
nixery_result_few(const cJSON *pkgs, const char *key, nixery_error_t *err)
{
    int  n;

    n = cJSON_GetArraySize(pkgs);

    if (n <= NIXERY_RESULT_PACKAGES_MAX) {
        return NIXERY_OK;
    }

    return nixery_result_bad(err, "\"%s\" has %d entries, at most %d are taken",
                             key, n, NIXERY_RESULT_PACKAGES_MAX);
}


/* Adds 'title: "a", "b" (reason)', without those that stand in leave. */

static int
nixery_result_list(nixery_buf_t *message, const char *one, const char *many,
    const cJSON *pkgs, const cJSON *leave, const cJSON *reasons)
{
    size_t        n, left;
    const char   *name;
    const cJSON  *item, *reason;

    left = 0;

    cJSON_ArrayForEach(item, pkgs) {
        name = item->string != NULL ? item->string : item->valuestring;
        left += !nixery_result_has(leave, name);
    }

    if (left == 0) {
        return NIXERY_OK;
    }

    if (nixery_buf_printf(message, "%s%s: ", message->len ? "; " : "",
                          left == 1 ? one : many)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    n = 0;

    cJSON_ArrayForEach(item, pkgs) {
        name = item->string != NULL ? item->string : item->valuestring;

        if (nixery_result_has(leave, name)) {
            continue;
        }

        reason = cJSON_GetObjectItemCaseSensitive(reasons, name);

        if (nixery_buf_printf(message, "%s\"%s\"", n++ ? ", " : "", name)
            != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }

        if (reason != NULL
            && nixery_buf_printf(message, " (%s)", reason->valuestring)
               != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }
    }

    return NIXERY_OK;
}


static int
nixery_result_has(const cJSON *array, const char *s)
{
    const cJSON  *item;

    cJSON_ArrayForEach(item, array) {
        if (strcmp(item->valuestring, s) == 0) {
            return 1;
        }
    }

    return 0;
}


static int
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
nixery_result_closure(nixery_result_t *result, const cJSON *json,
    nixery_error_t *err)
{
    size_t           n, i;
    const cJSON     *graph, *contents, *system, *item;
    nixery_node_t   *node;

    graph = cJSON_GetObjectItemCaseSensitive(json, "graph");
    contents = cJSON_GetObjectItemCaseSensitive(json, "contents");
    system = cJSON_GetObjectItemCaseSensitive(json, "imageSystem");

    if (!cJSON_IsArray(graph)) {
        return nixery_result_bad(err, "\"graph\" is not a list");
    }

    if (!cJSON_IsString(contents)
        || !nixery_store_path_valid(contents->valuestring))
    {
        return nixery_result_bad(err, "\"contents\" is not a store path");
    }

    if (system != NULL && !cJSON_IsString(system)) {
        return nixery_result_bad(err, "\"imageSystem\" is not a string");
    }

    n = cJSON_GetArraySize(graph);

    if (n > NIXERY_RESULT_NODES_MAX) {
        return nixery_result_bad(err, "\"graph\" has %zu paths, at most %d are"
                                 " taken", n, NIXERY_RESULT_NODES_MAX);
    }

    result->form = NIXERY_RESULT_CLOSURE;
    result->contents = strdup(contents->valuestring);
    result->nodes = calloc(n + 1, sizeof(nixery_node_t));

    if (system != NULL) {
        result->system = strdup(system->valuestring);
    }

    if (result->contents == NULL || result->nodes == NULL
        || (system != NULL && result->system == NULL))
    {
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

    if (nixery_result_find(result, result->contents) == NULL) {
        return nixery_result_bad(err, "\"contents\" is not in the graph");
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


static nixery_node_t *
nixery_result_find(const nixery_result_t *result, const char *path)
{
    nixery_node_t  key;

    memset(&key, 0, sizeof(nixery_node_t));
    key.path = (char *) path;

    return bsearch(&key, result->nodes, result->nnodes, sizeof(nixery_node_t),
                   nixery_result_compare_nodes);
}


static int
nixery_result_size(const cJSON *item, const char *key, uint64_t *size,
    const char *path, nixery_error_t *err)
{
    double  n;

    n = cJSON_IsNumber(item) ? item->valuedouble : -1;

    if (n < 0 || n > NIXERY_RESULT_SIZE_MAX || n != (double) (uint64_t) n) {
        return nixery_result_bad(err, "\"%s\" of \"%s\" is not a size in bytes",
                                 key, path);
    }

    *size = (uint64_t) n;

    return NIXERY_OK;
}


static int
nixery_result_hex(const char *s)
{
    return strlen(s) == NIXERY_HEX_LEN
           && strspn(s, "0123456789abcdef") == NIXERY_HEX_LEN;
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

    if (strncmp(path, NIXERY_STORE "/", sizeof(NIXERY_STORE)) != 0) {
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
nixery_result_bad(nixery_error_t *err, const char *fmt, ...)
{
    int       rc;
    char     *text;
    va_list   args;

    va_start(args, fmt);
    rc = vasprintf(&text, fmt, args);
    va_end(args);

    if (rc == -1) {
        return nixery_error_nomem(err);
    }

    rc = nixery_error_set(err, NIXERY_ERROR_RESULT,
                          "the builder's result is malformed: %s", text);
    free(text);

    return rc;
}


static int
nixery_result_compare_locations(const void *one, const void *two)
{
    const nixery_location_t  *first, *second;

    first = one;
    second = two;

    return strcmp(first->digest, second->digest);
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
