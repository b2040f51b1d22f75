
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <stdio.h>
#include "nixery_channel.h"
#include "nixery_closure.h"
#include "nixery_git.h"
#include "nixery_json.h"
#include "nixery_oci.h"
#include "nixery_prebuilt.h"
#include "nixery_resolve.h"
#include "nixery_sha256.h"
#include "nixery_work.h"


static void nixery_build_key_list(nixery_sha256_t *sha, char *const *list);
static int nixery_build_stored(nixery_build_t *build);
static int nixery_build_make(nixery_build_t *build);
static int nixery_build_realise(nixery_build_t *build,
    const nixery_fetch_t *fetch, nixery_result_t *result);
static int nixery_build_checkout(nixery_build_t *build,
    const nixery_fetch_t *fetch);
static int nixery_build_moved(nixery_build_t *build,
    const nixery_fetch_t *fetch, const nixery_result_t *result, int rc);
static int nixery_build_pack(nixery_build_t *build, const nixery_work_t *work,
    nixery_result_t *result);
static int nixery_build_publish(nixery_build_t *build);
static int nixery_build_blobs(nixery_build_t *build, nixery_error_t *why);
static int nixery_build_blob(nixery_build_t *build, const cJSON *descriptor,
    nixery_error_t *why);
static int nixery_build_canceled(nixery_build_t *build);


int
nixery_build_key(const nixery_settings_t *settings,
    const nixery_image_t *image, const nixery_revision_t *revision,
    const nixery_popularity_t *popularity,
    char key[NIXERY_HEX_LEN + 1])
{
    char                    number[sizeof("18446744073709551615")];
    nixery_sha256_t        *sha;
    const nixery_source_t  *source;

    sha = nixery_sha256_new();
    if (sha == NULL) {
        return NIXERY_ERROR;
    }

    source = settings->nix.source;

    (void) snprintf(number, sizeof(number), "%d", (int) source->kind);

    nixery_sha256_string(sha, NIXERY_FORMAT);
    nixery_sha256_string(sha, number);
    nixery_sha256_string(sha, source->kind == NIXERY_SOURCE_CHANNEL
                                  ? source->url
                                  : source->name);
    nixery_sha256_string(sha, source->submodules ? "submodules" : "");
    nixery_sha256_string(sha, source->kind == NIXERY_SOURCE_PATH
                                  ? ""
                                  : revision->id);

    nixery_sha256_string(sha, image->system ? image->system
                                            : settings->nix.system);
    nixery_sha256_string(sha, settings->builder_id);

    (void) snprintf(number, sizeof(number), "%zu", settings->max_layers);
    nixery_sha256_string(sha, number);

    nixery_sha256_string(sha, popularity ? nixery_popularity_id(popularity)
                                         : "");

    /* what Nix is told may change what an expression means */

    nixery_build_key_list(sha, settings->nix.env);
    nixery_build_key_list(sha, settings->nix.options);

    nixery_build_key_list(sha, image->packages);

    nixery_sha256_final(sha, key);
    nixery_sha256_free(sha);

    return NIXERY_OK;
}


static void
nixery_build_key_list(nixery_sha256_t *sha, char *const *list)
{
    char    number[sizeof("18446744073709551615")];
    size_t  i, n;

    for (n = 0; list != NULL && list[n] != NULL; n++) {
        /* void */
    }

    (void) snprintf(number, sizeof(number), "%zu", n);
    nixery_sha256_string(sha, number);

    for (i = 0; i < n; i++) {
        nixery_sha256_string(sha, list[i]);
    }
}


int
nixery_build_run(nixery_build_t *build)
{
    int                     rc;
    const nixery_source_t  *source;

    rc = nixery_build_canceled(build);

    /* what was once made of a commit is what would be made of it again */

    if (rc == NIXERY_OK) {
        source = build->settings->nix.source;

        rc = source->immutable || source->kind != NIXERY_SOURCE_PATH
                 ? nixery_build_stored(build)
                 : NIXERY_DECLINED;
    }

    if (rc == NIXERY_DECLINED) {
        rc = nixery_build_make(build);
    }

    if (rc != NIXERY_OK) {
        nixery_buf_free(&build->manifest);
        free(build->media_type);
        build->media_type = NULL;
        build->digest[0] = '\0';
    }

    return rc;
}


void
nixery_build_free(nixery_build_t *build)
{
    nixery_image_free(&build->image);
    nixery_popularity_release(build->popularity);
    build->popularity = NULL;
    nixery_buf_free(&build->manifest);
    nixery_error_free(&build->error);
    free(build->media_type);
    build->media_type = NULL;
}


/*
 * An image that was stored before, if it still has all of its blobs: someone
 * may have cleaned the storage up.
 */

static int
nixery_build_stored(nixery_build_t *build)
{
    int                rc;
    nixery_error_t     why;
    nixery_object_t    object;
    nixery_storage_t  *st;

    st = build->settings->storage;

    rc = st->get(st, nixery_object_name(object, "manifests", build->key),
                 NIXERY_MANIFEST_MAX, &build->manifest, &build->error);

    if (rc != NIXERY_OK) {
        return rc;
    }

    memset(&why, 0, sizeof(nixery_error_t));

    rc = nixery_build_blobs(build, &why);

    nixery_error_free(&why);

    if (rc == NIXERY_OK) {
        rc = nixery_build_publish(build);
    }

    if (rc == NIXERY_DECLINED) {
        nixery_buf_free(&build->manifest);
    }

    return rc;
}


static int
nixery_build_make(nixery_build_t *build)
{
    int              rc;
    uint64_t         start;
    nixery_work_t    work;
    nixery_fetch_t   fetch;
    nixery_result_t  result;

    memset(&result, 0, sizeof(nixery_result_t));
    memset(&fetch, 0, sizeof(nixery_fetch_t));

    start = nixery_now();

    if (nixery_work_open(&work, build->settings->temp_path, &build->error)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    fetch.nix = &build->settings->nix;
    fetch.temp_path = build->settings->temp_path;
    fetch.work = work.path;
    fetch.cancel = &build->cancel;
    fetch.deadline = start;

    /* the limit is one for all that a client waits for */

    if (build->waited < fetch.nix->timeout) {
        fetch.deadline += fetch.nix->timeout - build->waited;
    }

    rc = nixery_fetch_open(&fetch, &build->error);

    if (rc == NIXERY_OK) {
        rc = nixery_build_realise(build, &fetch, &result);
        build->nix_time = nixery_now() - start;
    }

    if (rc == NIXERY_OK) {
        rc = nixery_build_pack(build, &work, &result);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_build_canceled(build);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_build_publish(build);

        if (rc == NIXERY_DECLINED) {
            rc = nixery_error_set(&build->error, NIXERY_ERROR_RESULT,
                                  "the builder's manifest has neither the "
                                  "type nor the shape of one");
        }
    }

    nixery_result_free(&result);
    nixery_fetch_close(&fetch);

    /* with the out-link in it goes what kept the garbage collector away */

    nixery_work_close(&work);

    return rc;
}


static int
nixery_build_realise(nixery_build_t *build, const nixery_fetch_t *fetch,
    nixery_result_t *result)
{
    int                    rc;
    char                  *root, *path;
    nixery_channel_t       channel;
    nixery_nix_request_t   request;

    if (asprintf(&root, "%s/result", fetch->work) == -1) {
        return nixery_error_nomem(&build->error);
    }

    path = NULL;

    memset(&request, 0, sizeof(nixery_nix_request_t));

    request.image = &build->image;
    request.revision = &build->revision;
    request.root = root;

    memset(&channel, 0, sizeof(nixery_channel_t));

    rc = nixery_build_checkout(build, fetch);

    if (rc == NIXERY_OK && fetch->nix->source->kind == NIXERY_SOURCE_CHANNEL) {
        rc = nixery_channel_open(fetch, &build->revision, &channel,
                                 &build->error);

        request.channel_url = channel.url;
        request.channel_hash = channel.hash;
    }

    if (rc == NIXERY_OK) {
        rc = nixery_nix_build(fetch, &request, &path, &build->error);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_build_canceled(build);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_result_read(result, path, &build->error);
    }

    if (rc == NIXERY_OK || build->error.kind == NIXERY_ERROR_REF
        || build->error.kind == NIXERY_ERROR_SOURCE)
    {
        rc = nixery_build_moved(build, fetch, result, rc);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_build_checkout(build, fetch);
    }

    nixery_channel_close(&channel);
    free(path);
    free(root);

    return rc;
}


/* Called before and after Nix looked at a path: one commit, or it is dirty. */

static int
nixery_build_checkout(nixery_build_t *build, const nixery_fetch_t *fetch)
{
    nixery_revision_t       revision;
    const nixery_source_t  *source;

    source = fetch->nix->source;

    if (source->kind != NIXERY_SOURCE_PATH || source->immutable) {
        return NIXERY_OK;
    }

    if (nixery_git_checkout(fetch, source->name, &revision, &build->error)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    if (build->revision.id[0] != '\0' && revision.id[0] != '\0'
        && strcmp(build->revision.id, revision.id) != 0)
    {
        (void) stpcpy(revision.id + NIXERY_COMMIT_LEN, NIXERY_GIT_DIRTY);
    }

    build->revision = revision;

    return NIXERY_OK;
}


/*
 * A builder that knows nothing of revisions fetches by name, and a branch may
 * be moved by force before Nix has its commit: then this is not what the key
 * says.
 */

static int
nixery_build_moved(nixery_build_t *build, const nixery_fetch_t *fetch,
    const nixery_result_t *result, int rc)
{
    nixery_error_t      why;
    nixery_revision_t   now, *revision;

    revision = &build->revision;

    if (result->revision != NULL
        && fetch->nix->source->kind != NIXERY_SOURCE_PATH)
    {
        if (strcmp(result->revision, revision->id) == 0) {
            return NIXERY_OK;
        }

        return nixery_error_set(&build->error, NIXERY_ERROR_RESULT,
                                "the builder's result is of revision "
                                "\"%.255s\", not of \"%s\"",
                                result->revision, revision->id);
    }

    if (revision->ref[0] == '\0') {
        return rc;
    }

    memset(&why, 0, sizeof(nixery_error_t));

    if (nixery_source_resolve(fetch, revision->ref, &now, &why) == NIXERY_OK) {

        if (strcmp(now.id, revision->id) == 0) {
            return rc;
        }

        (void) nixery_error_set(&why, NIXERY_ERROR_MOVED,
                                "\"%s\" moved from %s to %s while it was "
                                "built", revision->ref, revision->id, now.id);
    }

    /* it says more than that a commit can't be had */

    nixery_error_free(&build->error);
    build->error = why;

    return NIXERY_ERROR;
}


static int
nixery_build_pack(nixery_build_t *build, const nixery_work_t *work,
    nixery_result_t *result)
{
    int             rc;
    uint64_t        start;
    nixery_error_t  why;

    rc = nixery_build_canceled(build);

    if (rc != NIXERY_OK) {
        return rc;
    }

    start = nixery_now();

    if (result->form == NIXERY_RESULT_CLOSURE) {
        rc = nixery_closure_store(build, result, work->path, &build->error);

    } else {
        rc = nixery_prebuilt_store(build, result, work->path, &build->error);

        /* someone else wrote this manifest: clients rely on what it says */

        if (rc == NIXERY_OK) {
            memset(&why, 0, sizeof(nixery_error_t));

            rc = nixery_build_blobs(build, &why);

            if (rc == NIXERY_DECLINED) {
                rc = nixery_error_set(&build->error, NIXERY_ERROR_RESULT,
                                      "%s", why.message);
            }

            nixery_error_free(&why);
        }
    }

    build->pack_time = nixery_now() - start;

    return rc;
}


/* The name that clients ask for comes last, when all behind it is stored. */

static int
nixery_build_publish(nixery_build_t *build)
{
    int                rc;
    nixery_buf_t      *manifest;
    nixery_object_t    object;
    nixery_storage_t  *st;

    st = build->settings->storage;
    manifest = &build->manifest;

    rc = nixery_oci_media_type(manifest->data, manifest->len,
                               &build->media_type);

    if (rc == NIXERY_DECLINED) {
        return NIXERY_DECLINED;
    }

    if (rc != NIXERY_OK
        || nixery_sha256_hex(manifest->data, manifest->len, build->digest)
           != NIXERY_OK)
    {
        return nixery_error_nomem(&build->error);
    }

    rc = st->put_bytes(st, nixery_object_name(object, "layers", build->digest),
                       manifest->data, manifest->len, &build->error);

    if (rc != NIXERY_OK) {
        return rc;
    }

    return st->put_bytes(st,
                         nixery_object_name(object, "manifests", build->key),
                         manifest->data, manifest->len, &build->error);
}


/*
 * Whether the storage has all that the manifest names; NIXERY_DECLINED and
 * why, when it does not.
 */

static int
nixery_build_blobs(nixery_build_t *build, nixery_error_t *why)
{
    int           rc;
    cJSON        *json;
    const cJSON  *layer;

    if (build->manifest.len > NIXERY_MANIFEST_MAX) {
        (void) nixery_error_set(why, NIXERY_ERROR_RESULT, "the manifest has "
                                "more than %d bytes", NIXERY_MANIFEST_MAX);
        return NIXERY_DECLINED;
    }

    json = nixery_json_parse(build->manifest.data, build->manifest.len,
                             "the manifest", why);
    if (json == NULL) {
        return NIXERY_DECLINED;
    }

    rc = nixery_build_blob(build,
                           cJSON_GetObjectItemCaseSensitive(json, "config"),
                           why);

    cJSON_ArrayForEach(layer, cJSON_GetObjectItemCaseSensitive(json, "layers"))
    {
        if (rc != NIXERY_OK) {
            break;
        }

        rc = nixery_build_blob(build, layer, why);
    }

    cJSON_Delete(json);

    return rc;
}


static int
nixery_build_blob(nixery_build_t *build, const cJSON *descriptor,
    nixery_error_t *why)
{
    int                rc;
    char               hex[NIXERY_HEX_LEN + 1];
    uint64_t           size;
    const cJSON       *digest, *length;
    nixery_object_t    object;
    nixery_storage_t  *st;

    st = build->settings->storage;

    digest = cJSON_GetObjectItemCaseSensitive(descriptor, "digest");
    length = cJSON_GetObjectItemCaseSensitive(descriptor, "size");

    if (!cJSON_IsString(digest) || !cJSON_IsNumber(length)) {
        (void) nixery_error_set(why, NIXERY_ERROR_RESULT,
                                "the manifest has a blob without digest and "
                                "size");
        return NIXERY_DECLINED;
    }

    if (nixery_digest_parse(digest->valuestring, strlen(digest->valuestring),
                            hex, why)
        != NIXERY_OK)
    {
        return NIXERY_DECLINED;
    }

    rc = st->stat(st, nixery_object_name(object, "layers", hex), &size,
                  &build->error);

    if (rc == NIXERY_DECLINED) {
        (void) nixery_error_set(why, NIXERY_ERROR_RESULT,
                                "the manifest names blob %s, which is not "
                                "there", hex);
    }

    if (rc == NIXERY_OK && (double) size != length->valuedouble) {
        (void) nixery_error_set(why, NIXERY_ERROR_RESULT,
                                "the manifest says blob %s has %.0f bytes, "
                                "but it has %ju", hex, length->valuedouble,
                                (uintmax_t) size);
        rc = NIXERY_DECLINED;
    }

    return rc;
}


static int
nixery_build_canceled(nixery_build_t *build)
{
    if (!nixery_canceled(&build->cancel)) {
        return NIXERY_OK;
    }

    return nixery_error_set(&build->error, NIXERY_ERROR_CANCELED,
                            "the build was canceled");
}
