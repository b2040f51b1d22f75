
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include "nixery_closure.h"
#include "nixery_json.h"
#include "nixery_layers.h"
#include "nixery_oci.h"
#include "nixery_pack.h"
#include "nixery_prepared.h"
#include "nixery_sha256.h"


#define NIXERY_RECORD_MAX  4096   /* bytes */


typedef char  nixery_hex_t[NIXERY_HEX_LEN + 1];


/* An image's layers: the plan's, and the top one behind them. */

typedef struct {
    nixery_build_t          *build;
    const nixery_result_t   *result;
    const char              *work;

    nixery_plan_t            plan;
    size_t                   nlayers;
    nixery_oci_layer_t      *layers;
    nixery_hex_t            *keys;
    nixery_oci_image_t       image;

    nixery_pack_t           *packs;      /* of the layers that are missing */
    size_t                  *missing;    /* packs[i] is layers[missing[i]] */
    size_t                   npacks;
} nixery_closure_t;


static int nixery_closure_layers(nixery_closure_t *c, nixery_error_t *err);
static int nixery_closure_key(nixery_closure_t *c, size_t i);
static int nixery_closure_pack(nixery_closure_t *c, size_t i,
    nixery_error_t *err);
static int nixery_closure_done(nixery_pack_t *pack, void *data,
    nixery_error_t *err);
static int nixery_closure_image(nixery_closure_t *c, nixery_error_t *err);
static void nixery_closure_free(nixery_closure_t *c);

static int nixery_record_find(nixery_storage_t *st, const char *key,
    nixery_oci_layer_t *layer, nixery_error_t *err);
static int nixery_record_parse(const nixery_buf_t *buf, const char *key,
    nixery_oci_layer_t *layer);
static int nixery_record_hash(const cJSON *json, const char *name,
    nixery_hex_t hex);
static int nixery_record_size(const cJSON *json, const char *name,
    uint64_t *size);
static int nixery_record_put(nixery_storage_t *st, const char *key,
    const nixery_pack_t *pack, nixery_error_t *err);


int
nixery_closure_store(nixery_build_t *build, const nixery_result_t *result,
    const char *work, nixery_error_t *err)
{
    int               rc;
    nixery_closure_t  c;

    memset(&c, 0, sizeof(nixery_closure_t));

    c.build = build;
    c.result = result;
    c.work = work;

    rc = NIXERY_OK;

    if (result->contents == NULL) {
        rc = nixery_prepared_look(result, &c.image, &build->cancel, err);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_closure_layers(&c, err);
    }

    if (rc == NIXERY_OK && c.npacks > 0) {
        rc = nixery_pack(c.packs, c.npacks, build->settings->threads,
                         nixery_closure_done, &c, &build->cancel, err);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_closure_image(&c, err);
    }

    nixery_closure_free(&c);

    return rc;
}


static int
nixery_closure_layers(nixery_closure_t *c, nixery_error_t *err)
{
    int                       rc;
    size_t                    i, n;
    const nixery_settings_t  *settings;

    settings = c->build->settings;

    if (nixery_plan_make(&c->plan, c->result, settings->max_layers,
                         c->build->popularity, err)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    n = c->plan.nlayers + 1;

    c->nlayers = n;
    c->layers = calloc(n, sizeof(nixery_oci_layer_t));
    c->keys = calloc(n, sizeof(nixery_hex_t));
    c->packs = calloc(n, sizeof(nixery_pack_t));
    c->missing = calloc(n, sizeof(size_t));

    if (c->layers == NULL || c->keys == NULL || c->packs == NULL
        || c->missing == NULL)
    {
        return nixery_error_nomem(err);
    }

    for (i = 0; i < n; i++) {
        if (nixery_closure_key(c, i) != NIXERY_OK) {
            return nixery_error_nomem(err);
        }

        rc = nixery_record_find(settings->storage, c->keys[i], &c->layers[i],
                                err);

        if (rc == NIXERY_OK) {
            c->build->layers_reused++;
            continue;
        }

        if (rc == NIXERY_ERROR || nixery_closure_pack(c, i, err) != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }
    }

    return NIXERY_OK;
}


static int
nixery_closure_key(nixery_closure_t *c, size_t i)
{
    if (i < c->plan.nlayers) {
        return nixery_layer_key(&c->plan.layers[i], c->keys[i]);
    }

    if (c->result->contents != NULL) {
        return nixery_layer_key_top(c->result->contents, c->keys[i]);
    }

    return nixery_layer_key_tarball(c->result->tarball.hash, c->keys[i]);
}


static int
nixery_closure_pack(nixery_closure_t *c, size_t i, nixery_error_t *err)
{
    char           *file;
    nixery_pack_t  *pack;

    if (asprintf(&file, "%s/%s", c->work, c->keys[i]) == -1) {
        return nixery_error_nomem(err);
    }

    c->missing[c->npacks] = i;
    pack = &c->packs[c->npacks++];

    pack->file = file;
    pack->tar.root = "";
    pack->tar.cancel = &c->build->cancel;

    if (i < c->plan.nlayers) {
        pack->tar.paths = c->plan.layers[i].paths;
        pack->tar.npaths = c->plan.layers[i].npaths;

    } else {
        pack->tar.contents = c->result->contents;
        pack->tar.tarball = c->result->tarball.path;
    }

    return NIXERY_OK;
}


/*
 * Several threads are here at once, each with a layer of its own.  The record
 * follows its blob, so that it never names one that is not there.
 */

static int
nixery_closure_done(nixery_pack_t *pack, void *data, nixery_error_t *err)
{
    size_t               i;
    nixery_object_t      object;
    nixery_closure_t    *c;
    nixery_storage_t    *st;
    nixery_oci_layer_t  *layer;

    c = data;
    st = c->build->settings->storage;
    i = c->missing[pack - c->packs];
    layer = &c->layers[i];

    memcpy(layer->digest, pack->digest, sizeof(layer->digest));
    memcpy(layer->diff_id, pack->diff_id, sizeof(layer->diff_id));
    layer->size = pack->size;

    if (st->put_file(st, nixery_object_name(object, "layers", pack->digest),
                     pack->file, pack->size, pack->digest, err)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    (void) unlink(pack->file);

    return nixery_record_put(st, c->keys[i], pack, err);
}


static int
nixery_closure_image(nixery_closure_t *c, nixery_error_t *err)
{
    int                  rc;
    char                 hex[NIXERY_HEX_LEN + 1];
    size_t               i;
    nixery_buf_t         config;
    nixery_build_t      *build;
    nixery_object_t      object;
    nixery_storage_t    *st;
    nixery_oci_image_t   image;

    build = c->build;
    st = build->settings->storage;

    for (i = 0; i < c->npacks; i++) {
        build->layers_made++;
        build->bytes_made += c->packs[i].size;
    }

    memset(&config, 0, sizeof(nixery_buf_t));

    image = c->image;

    image.system = build->image.system ? build->image.system
                                       : build->settings->nix.system;

    if (c->result->system != NULL) {
        image.system = c->result->system;
    }

    image.title = build->image.name;
    image.revision = build->revision.id[0] != '\0' ? build->revision.id : NULL;
    image.source = build->settings->nix.source->shown;
    image.contents = c->result->contents;
    image.layers = c->layers;
    image.nlayers = c->nlayers;

    rc = nixery_oci_config(&image, &config, err);

    if (rc == NIXERY_OK
        && nixery_sha256_hex(config.data, config.len, hex) != NIXERY_OK)
    {
        rc = nixery_error_nomem(err);
    }

    if (rc == NIXERY_OK) {
        rc = st->put_bytes(st, nixery_object_name(object, "layers", hex),
                           config.data, config.len, err);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_oci_manifest(&image, hex, config.len, &build->manifest,
                                 err);
    }

    nixery_buf_free(&config);

    return rc;
}


static void
nixery_closure_free(nixery_closure_t *c)
{
    size_t  i;

    for (i = 0; i < c->npacks; i++) {
        free((char *) c->packs[i].file);
    }

    free(c->packs);
    free(c->missing);
    free(c->layers);
    free(c->keys);
    nixery_plan_free(&c->plan);
}


/* A record that is no good, or has outlived its blob, is as none. */

static int
nixery_record_find(nixery_storage_t *st, const char *key,
    nixery_oci_layer_t *layer, nixery_error_t *err)
{
    int              rc;
    uint64_t         size;
    nixery_buf_t     buf;
    nixery_object_t  object;

    nixery_object_name(object, "builds", key);

    rc = st->stat(st, object, &size, err);

    if (rc != NIXERY_OK) {
        return rc;
    }

    if (size > NIXERY_RECORD_MAX) {
        return NIXERY_DECLINED;
    }

    memset(&buf, 0, sizeof(nixery_buf_t));

    rc = st->get(st, object, NIXERY_RECORD_MAX, &buf, err);

    if (rc == NIXERY_OK) {
        rc = nixery_record_parse(&buf, key, layer);
    }

    nixery_buf_free(&buf);

    if (rc != NIXERY_OK) {
        return rc;
    }

    rc = st->stat(st, nixery_object_name(object, "layers", layer->digest),
                  &size, err);

    if (rc == NIXERY_OK && size != layer->size) {
        rc = NIXERY_DECLINED;
    }

    return rc;
}


static int
nixery_record_parse(const nixery_buf_t *buf, const char *key,
    nixery_oci_layer_t *layer)
{
    int              rc;
    cJSON           *json;
    uint64_t         tar_size;
    nixery_hex_t     hex;
    nixery_error_t   ignored;

    memset(&ignored, 0, sizeof(nixery_error_t));

    json = nixery_json_parse(buf->data, buf->len, "layer record", &ignored);

    nixery_error_free(&ignored);

    rc = NIXERY_DECLINED;

    if (cJSON_IsObject(json)
        && nixery_record_hash(json, "key", hex) == NIXERY_OK
        && strcmp(hex, key) == 0
        && nixery_record_hash(json, "digest", layer->digest) == NIXERY_OK
        && nixery_record_hash(json, "diffId", layer->diff_id) == NIXERY_OK
        && nixery_record_size(json, "size", &layer->size) == NIXERY_OK
        && nixery_record_size(json, "tarSize", &tar_size) == NIXERY_OK)
    {
        rc = NIXERY_OK;
    }

    cJSON_Delete(json);

    return rc;
}


static int
nixery_record_hash(const cJSON *json, const char *name, nixery_hex_t hex)
{
    int              rc;
    const cJSON     *item;
    nixery_error_t   ignored;

    item = cJSON_GetObjectItemCaseSensitive(json, name);

    if (!cJSON_IsString(item)) {
        return NIXERY_DECLINED;
    }

    memset(&ignored, 0, sizeof(nixery_error_t));

    rc = nixery_digest_parse(item->valuestring, strlen(item->valuestring), hex,
                             &ignored);

    nixery_error_free(&ignored);

    return rc;
}


static int
nixery_record_size(const cJSON *json, const char *name, uint64_t *size)
{
    const cJSON  *item;

    item = cJSON_GetObjectItemCaseSensitive(json, name);

    if (!cJSON_IsNumber(item) || item->valuedouble < 1
        || item->valuedouble > NIXERY_JSON_WHOLE_MAX)
    {
        return NIXERY_DECLINED;
    }

    *size = (uint64_t) item->valuedouble;

    return ((double) *size == item->valuedouble) ? NIXERY_OK : NIXERY_DECLINED;
}


static int
nixery_record_put(nixery_storage_t *st, const char *key,
    const nixery_pack_t *pack, nixery_error_t *err)
{
    int              rc;
    nixery_buf_t     json;
    nixery_object_t  object;

    memset(&json, 0, sizeof(nixery_buf_t));

    if (nixery_buf_printf(&json, "{\"key\":\"sha256:%s\","
                          "\"digest\":\"sha256:%s\",\"size\":%" PRIu64 ","
                          "\"diffId\":\"sha256:%s\",\"tarSize\":%" PRIu64 "}",
                          key, pack->digest, pack->size, pack->diff_id,
                          pack->tar_size)
        != NIXERY_OK)
    {
        return nixery_error_nomem(err);
    }

    rc = st->put_bytes(st, nixery_object_name(object, "builds", key),
                       json.data, json.len, err);

    nixery_buf_free(&json);

    return rc;
}
