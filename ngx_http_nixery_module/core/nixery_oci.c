
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include "nixery_oci.h"


#define NIXERY_OCI_CREATED  "1970-01-01T00:00:01Z"


typedef struct {
    const char  *system;
    const char  *architecture;
    const char  *variant;
} nixery_platform_t;


static const nixery_platform_t *nixery_platform_find(const char *system);
static cJSON *nixery_oci_config_tree(const nixery_oci_image_t *image,
    const nixery_platform_t *platform);
static int nixery_oci_run_config(const nixery_oci_image_t *image,
    cJSON *parent);
static int nixery_oci_label(cJSON *labels, const char *name,
    const char *value);
static int nixery_oci_rootfs(const nixery_oci_image_t *image, cJSON *parent);
static int nixery_oci_history(const nixery_oci_image_t *image, cJSON *parent);
static int nixery_oci_has(const nixery_oci_image_t *image, const char *file,
    unsigned *has);
static int nixery_oci_descriptor(cJSON *descriptor, const char *type,
    const char *digest, uint64_t size);
static int nixery_oci_add_item(cJSON *array, cJSON *item);
static int nixery_oci_add_string(cJSON *array, const char *s);
static int nixery_oci_print(cJSON *tree, nixery_buf_t *json,
    nixery_error_t *err);


/* Nix's systems as OCI platforms, which are Go's GOARCH and GOARM. */

static const nixery_platform_t  nixery_platforms[] = {
    { "x86_64-linux",       "amd64",     NULL },
    { "aarch64-linux",      "arm64",     "v8" },
    { "i686-linux",         "386",       NULL },
    { "armv7l-linux",       "arm",       "v7" },
    { "armv6l-linux",       "arm",       "v6" },
    { "armv5tel-linux",     "arm",       "v5" },
    { "riscv64-linux",      "riscv64",   NULL },
    { "powerpc64le-linux",  "ppc64le",   NULL },
    { "powerpc64-linux",    "ppc64",     NULL },
    { "s390x-linux",        "s390x",     NULL },
    { "loongarch64-linux",  "loong64",   NULL },
    { "mips64el-linux",     "mips64le",  NULL },
    { "mipsel-linux",       "mipsle",    NULL },
    { NULL, NULL, NULL }
};


int
nixery_oci_config(const nixery_oci_image_t *image, nixery_buf_t *json,
    nixery_error_t *err)
{
    cJSON                    *tree;
    const nixery_platform_t  *platform;

    platform = nixery_platform_find(image->system);

    if (platform == NULL) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT, "system \"%s\" has "
                                "no platform in container images",
                                image->system);
    }

    tree = nixery_oci_config_tree(image, platform);
    if (tree == NULL) {
        return nixery_error_nomem(err);
    }

    return nixery_oci_print(tree, json, err);
}


int
nixery_oci_manifest(const nixery_oci_image_t *image,
    const char *config_digest, size_t config_size, nixery_buf_t *json,
    nixery_error_t *err)
{
    cJSON               *tree, *config, *layers, *layer;
    size_t               i;
    nixery_oci_layer_t  *l;

    tree = cJSON_CreateObject();

    if (cJSON_AddNumberToObject(tree, "schemaVersion", 2) == NULL
        || cJSON_AddStringToObject(tree, "mediaType", NIXERY_OCI_MANIFEST)
           == NULL)
    {
        goto nomem;
    }

    config = cJSON_AddObjectToObject(tree, "config");

    if (nixery_oci_descriptor(config, NIXERY_OCI_CONFIG, config_digest,
                              config_size)
        != NIXERY_OK)
    {
        goto nomem;
    }

    layers = cJSON_AddArrayToObject(tree, "layers");

    for (i = 0; i < image->nlayers; i++) {
        l = &image->layers[i];
        layer = cJSON_CreateObject();

        if (nixery_oci_add_item(layers, layer) != NIXERY_OK
            || nixery_oci_descriptor(layer, NIXERY_OCI_LAYER, l->digest,
                                     l->size)
               != NIXERY_OK)
        {
            goto nomem;
        }
    }

    if (layers == NULL) {
        goto nomem;
    }

    return nixery_oci_print(tree, json, err);

nomem:

    cJSON_Delete(tree);

    return nixery_error_nomem(err);
}


static const nixery_platform_t *
nixery_platform_find(const char *system)
{
    const nixery_platform_t  *platform;

    for (platform = nixery_platforms; platform->system != NULL; platform++) {
        if (strcmp(platform->system, system) == 0) {
            return platform;
        }
    }

    return NULL;
}


static cJSON *
nixery_oci_config_tree(const nixery_oci_image_t *image,
    const nixery_platform_t *platform)
{
    cJSON  *tree;

    tree = cJSON_CreateObject();

    if (cJSON_AddStringToObject(tree, "created", NIXERY_OCI_CREATED) == NULL
        || cJSON_AddStringToObject(tree, "architecture",
                                   platform->architecture)
           == NULL)
    {
        goto failed;
    }

    if (platform->variant != NULL
        && cJSON_AddStringToObject(tree, "variant", platform->variant) == NULL)
    {
        goto failed;
    }

    if (cJSON_AddStringToObject(tree, "os", "linux") == NULL
        || nixery_oci_run_config(image, tree) != NIXERY_OK
        || nixery_oci_rootfs(image, tree) != NIXERY_OK
        || nixery_oci_history(image, tree) != NIXERY_OK)
    {
        goto failed;
    }

    return tree;

failed:

    cJSON_Delete(tree);

    return NULL;
}


static int
nixery_oci_run_config(const nixery_oci_image_t *image, cJSON *parent)
{
    cJSON     *config, *env, *cmd, *labels;
    unsigned   ca, bash;

    ca = image->ca;
    bash = image->bash;

    if (image->contents != NULL
        && (nixery_oci_has(image, NIXERY_OCI_CA, &ca) != NIXERY_OK
            || nixery_oci_has(image, NIXERY_OCI_BASH, &bash) != NIXERY_OK))
    {
        return NIXERY_ERROR;
    }

    config = cJSON_AddObjectToObject(parent, "config");
    env = cJSON_AddArrayToObject(config, "Env");

    if (nixery_oci_add_string(env, "PATH=/bin:/usr/bin:/sbin:/usr/sbin")
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    if (ca
        && (nixery_oci_add_string(env, "SSL_CERT_FILE=/" NIXERY_OCI_CA)
            != NIXERY_OK
            || nixery_oci_add_string(env, "NIX_SSL_CERT_FILE=/" NIXERY_OCI_CA)
               != NIXERY_OK))
    {
        return NIXERY_ERROR;
    }

    if (bash) {
        cmd = cJSON_AddArrayToObject(config, "Cmd");

        if (nixery_oci_add_string(cmd, "/" NIXERY_OCI_BASH) != NIXERY_OK) {
            return NIXERY_ERROR;
        }
    }

    labels = cJSON_AddObjectToObject(config, "Labels");

    if (nixery_oci_label(labels, "title", image->title) != NIXERY_OK
        || nixery_oci_label(labels, "revision", image->revision) != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    return nixery_oci_label(labels, "source", image->source);
}


/* image-spec 1.1, "annotations.md" */

static int
nixery_oci_label(cJSON *labels, const char *name, const char *value)
{
    int    rc;
    char  *key;

    if (value == NULL) {
        return NIXERY_OK;
    }

    if (asprintf(&key, "org.opencontainers.image.%s", name) == -1) {
        return NIXERY_ERROR;
    }

    rc = cJSON_AddStringToObject(labels, key, value) != NULL ? NIXERY_OK
                                                             : NIXERY_ERROR;

    free(key);

    return rc;
}


static int
nixery_oci_rootfs(const nixery_oci_image_t *image, cJSON *parent)
{
    char    diff_id[sizeof("sha256:") + NIXERY_HEX_LEN];
    cJSON  *rootfs, *ids;
    size_t  i;

    rootfs = cJSON_AddObjectToObject(parent, "rootfs");

    if (cJSON_AddStringToObject(rootfs, "type", "layers") == NULL) {
        return NIXERY_ERROR;
    }

    ids = cJSON_AddArrayToObject(rootfs, "diff_ids");
    if (ids == NULL) {
        return NIXERY_ERROR;
    }

    for (i = 0; i < image->nlayers; i++) {
        (void) snprintf(diff_id, sizeof(diff_id), "sha256:%s",
                        image->layers[i].diff_id);

        if (nixery_oci_add_string(ids, diff_id) != NIXERY_OK) {
            return NIXERY_ERROR;
        }
    }

    return NIXERY_OK;
}


static int
nixery_oci_history(const nixery_oci_image_t *image, cJSON *parent)
{
    cJSON   *history, *entry;
    size_t   i;

    history = cJSON_AddArrayToObject(parent, "history");
    if (history == NULL) {
        return NIXERY_ERROR;
    }

    for (i = 0; i < image->nlayers; i++) {
        entry = cJSON_CreateObject();

        if (nixery_oci_add_item(history, entry) != NIXERY_OK
            || cJSON_AddStringToObject(entry, "created", NIXERY_OCI_CREATED)
               == NULL
            || cJSON_AddStringToObject(entry, "created_by", "nixery") == NULL)
        {
            return NIXERY_ERROR;
        }
    }

    return NIXERY_OK;
}


static int
nixery_oci_has(const nixery_oci_image_t *image, const char *file,
    unsigned *has)
{
    char  *path;

    if (asprintf(&path, "%s/%s", image->contents, file) == -1) {
        return NIXERY_ERROR;
    }

    *has = access(path, F_OK) == 0;

    free(path);

    return NIXERY_OK;
}


static int
nixery_oci_descriptor(cJSON *descriptor, const char *type, const char *digest,
    uint64_t size)
{
    char  text[sizeof("sha256:") + NIXERY_HEX_LEN];
    char  number[sizeof("18446744073709551615")];

    (void) snprintf(text, sizeof(text), "sha256:%s", digest);

    /* cJSON prints a large number with an exponent, and not exactly */

    (void) snprintf(number, sizeof(number), "%" PRIu64, size);

    if (cJSON_AddStringToObject(descriptor, "mediaType", type) == NULL
        || cJSON_AddStringToObject(descriptor, "digest", text) == NULL
        || cJSON_AddRawToObject(descriptor, "size", number) == NULL)
    {
        return NIXERY_ERROR;
    }

    return NIXERY_OK;
}


/* Takes the item over, also when it fails. */

static int
nixery_oci_add_item(cJSON *array, cJSON *item)
{
    if (cJSON_AddItemToArray(array, item)) {
        return NIXERY_OK;
    }

    cJSON_Delete(item);

    return NIXERY_ERROR;
}


static int
nixery_oci_add_string(cJSON *array, const char *s)
{
    return nixery_oci_add_item(array, cJSON_CreateString(s));
}


static int
nixery_oci_print(cJSON *tree, nixery_buf_t *json, nixery_error_t *err)
{
    int    rc;
    char  *text;

    text = cJSON_PrintUnformatted(tree);

    cJSON_Delete(tree);

    if (text == NULL) {
        return nixery_error_nomem(err);
    }

    rc = nixery_buf_puts(json, text);

    cJSON_free(text);

    return (rc == NIXERY_OK) ? NIXERY_OK : nixery_error_nomem(err);
}
