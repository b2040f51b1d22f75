
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include "nixery_resolve.h"
#include "nixery_sha256.h"


typedef struct {
    ngx_http_nixery_job_t         job;
    nixery_resolve_t              resolve;
    ngx_shm_zone_t               *zone;
    u_char                        key[NIXERY_HEX_LEN];
} ngx_http_nixery_resolve_t;


static ngx_int_t ngx_http_nixery_resolve_key(ngx_http_request_t *r,
    ngx_str_t *tag, u_char key[NIXERY_HEX_LEN]);
static ngx_int_t ngx_http_nixery_resolve_start(ngx_http_request_t *r,
    ngx_str_t *tag, u_char key[NIXERY_HEX_LEN]);
static void ngx_http_nixery_resolve_run(ngx_http_nixery_job_t *data);
static void ngx_http_nixery_resolve_ended(ngx_http_nixery_job_t *data);
static ngx_int_t ngx_http_nixery_resolve_answer(ngx_http_request_t *r,
    ngx_http_nixery_job_t *data);
static ngx_int_t ngx_http_nixery_resolve_stale(ngx_http_request_t *r,
    ngx_http_nixery_resolve_t *resolve);
static void ngx_http_nixery_resolve_free(ngx_http_nixery_job_t *data);


static const ngx_http_nixery_job_type_t  ngx_http_nixery_resolve_type = {
    sizeof(ngx_http_nixery_resolve_t),
    "resolving reference",
    ngx_http_nixery_resolve_run,
    ngx_http_nixery_resolve_ended,
    ngx_http_nixery_resolve_answer,
    ngx_http_nixery_resolve_free
};


ngx_int_t
ngx_http_nixery_resolve(ngx_http_request_t *r, ngx_str_t *tag)
{
    u_char                        key[NIXERY_HEX_LEN];
    ngx_int_t                     rc;
    nixery_error_t                err;
    nixery_revision_t             revision;
    ngx_http_nixery_ctx_t        *ctx;
    ngx_http_nixery_loc_conf_t   *nlcf;
    ngx_http_nixery_main_conf_t  *nmcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);
    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);

    if (ctx->resolved) {
        return NGX_DECLINED;
    }

    ngx_memzero(&err, sizeof(nixery_error_t));

    rc = nixery_source_pin(nlcf->registry->settings.nix.source,
                           (char *) tag->data, tag->len, &ctx->revision, &err);

    if (rc == NIXERY_OK) {
        return NGX_DECLINED;
    }

    if (rc != NIXERY_DECLINED) {
        rc = ngx_http_nixery_core_error(r, &err, NULL);
        nixery_error_free(&err);
        return rc;
    }

    if (ngx_http_nixery_resolve_key(r, tag, key) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    nmcf = ngx_http_get_module_main_conf(r, ngx_http_nixery_module);

    /* what it has moved from is still fresh */

    if (ctx->moves == 0
        && ngx_http_nixery_zone_get(nmcf->zone, key, nlcf->cache_valid,
                                    &revision)
           == NGX_OK)
    {
        ctx->revision = revision;
        ctx->resolved = 1;

        return NGX_DECLINED;
    }

    return ngx_http_nixery_resolve_start(r, tag, key);
}


ngx_int_t
ngx_http_nixery_resolve_again(ngx_http_request_t *r)
{
    ngx_http_nixery_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    ngx_memzero(&ctx->revision, sizeof(nixery_revision_t));

    ctx->resolved = 0;
    ctx->stale = 0;

    return ngx_http_nixery_request(r);
}


/* The tag of a channel's image says nothing: all of them are one channel. */

static ngx_int_t
ngx_http_nixery_resolve_key(ngx_http_request_t *r, ngx_str_t *tag,
    u_char key[NIXERY_HEX_LEN])
{
    char                         hex[NIXERY_HEX_LEN + 1];
    nixery_sha256_t             *sha;
    const nixery_source_t       *source;
    ngx_http_nixery_loc_conf_t  *nlcf;

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);
    source = nlcf->registry->settings.nix.source;

    sha = nixery_sha256_new();
    if (sha == NULL) {
        return NGX_ERROR;
    }

    nixery_sha256_string(sha, source->name);

    /* what one who is let in was told is not for everybody */

    nixery_sha256_string(sha, source->user ? source->user : "");
    nixery_sha256_string(sha, source->credentials ? source->credentials : "");
    nixery_sha256_string(sha, source->key ? source->key : "");

    if (source->kind == NIXERY_SOURCE_GIT) {
        nixery_sha256_string(sha, source->ref ? source->ref : "");
        nixery_sha256_item(sha, tag->data, tag->len);

    } else {
        nixery_sha256_string(sha, source->url);
    }

    nixery_sha256_final(sha, hex);
    nixery_sha256_free(sha);

    ngx_memcpy(key, hex, NIXERY_HEX_LEN);

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_resolve_start(ngx_http_request_t *r, ngx_str_t *tag,
    u_char hash[NIXERY_HEX_LEN])
{
    u_char                        text[NIXERY_HEX_LEN + sizeof(void *) + 1];
    ngx_int_t                     rc;
    ngx_str_t                     key;
    ngx_http_nixery_job_t        *job;
    ngx_http_nixery_resolve_t    *resolve;
    ngx_http_nixery_loc_conf_t   *nlcf;
    ngx_http_nixery_main_conf_t  *nmcf;

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);
    nmcf = ngx_http_get_module_main_conf(r, ngx_http_nixery_module);

    /* one byte more than the key of a build has */

    key.data = text;
    key.len = sizeof(text);

    ngx_memcpy(text, hash, NIXERY_HEX_LEN);
    ngx_memcpy(text + NIXERY_HEX_LEN, &nlcf->registry, sizeof(void *));
    text[key.len - 1] = 'r';

    job = ngx_http_nixery_job_find(r, &key);

    if (job != NULL) {
        return ngx_http_nixery_job_wait(r, job);
    }

    job = ngx_http_nixery_job_create(r, &ngx_http_nixery_resolve_type, &key);
    if (job == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    resolve = (ngx_http_nixery_resolve_t *) job;

    job->cancel = &resolve->resolve.cancel;

    resolve->zone = nmcf->zone;
    resolve->resolve.settings = &nlcf->registry->settings;
    resolve->resolve.tag = strndup((char *) tag->data, tag->len);

    ngx_memcpy(resolve->key, hash, NIXERY_HEX_LEN);

    if (resolve->resolve.tag == NULL) {
        ngx_http_nixery_job_destroy(job);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_nixery_job_start(r, job);

    return rc == NGX_OK ? ngx_http_nixery_job_wait(r, job) : rc;
}


static void
ngx_http_nixery_resolve_run(ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_resolve_t *resolve = (ngx_http_nixery_resolve_t *) data;

    (void) nixery_resolve_run(&resolve->resolve);
}


static void
ngx_http_nixery_resolve_ended(ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_resolve_t *resolve = (ngx_http_nixery_resolve_t *) data;

    const char             *what, *name;
    nixery_resolve_t       *job;
    const nixery_source_t  *source;

    job = &resolve->resolve;
    source = job->settings->nix.source;

    what = "tag";
    name = job->tag;

    if (source->kind == NIXERY_SOURCE_CHANNEL) {
        what = "channel";
        name = source->name;
    }

    if (job->error.kind == NIXERY_ERROR_NONE) {
        ngx_http_nixery_zone_put(resolve->zone, resolve->key, &job->revision);

        ngx_log_error(NGX_LOG_INFO, data->log, 0,
                      "nixery: %s \"%s\" is revision %s, build %V, %M ms",
                      what, name, job->revision.id, &data->id,
                      ngx_current_msec - data->start);
        return;
    }

    ngx_log_error(ngx_http_nixery_error_level(&job->error), data->log, 0,
                  "nixery: %s \"%s\" failed, build %V, %M ms: %s",
                  what, name, &data->id, ngx_current_msec - data->start,
                  job->error.message);
}


static ngx_int_t
ngx_http_nixery_resolve_answer(ngx_http_request_t *r,
    ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_resolve_t *resolve = (ngx_http_nixery_resolve_t *) data;

    nixery_resolve_t       *job;
    ngx_http_nixery_ctx_t  *ctx;

    job = &resolve->resolve;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    if (job->error.kind == NIXERY_ERROR_NONE) {
        ctx->revision = job->revision;

    } else if (ngx_http_nixery_resolve_stale(r, resolve) != NGX_OK) {
        return ngx_http_nixery_core_error(r, &job->error, &data->id);
    }

    ctx->resolve_time += job->time;
    ctx->resolved = 1;

    return ngx_http_nixery_request(r);
}


/* What it was when it could last be asked for, if the operator allows that. */

static ngx_int_t
ngx_http_nixery_resolve_stale(ngx_http_request_t *r,
    ngx_http_nixery_resolve_t *resolve)
{
    ngx_uint_t                   use;
    ngx_http_nixery_ctx_t       *ctx;
    ngx_http_nixery_loc_conf_t  *nlcf;

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);

    use = resolve->resolve.error.kind == NIXERY_ERROR_TIMEOUT
              ? NGX_HTTP_NIXERY_STALE_TIMEOUT
          : resolve->resolve.error.kind == NIXERY_ERROR_SOURCE
              ? NGX_HTTP_NIXERY_STALE_ERROR
              : 0;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    if ((nlcf->use_stale & NGX_HTTP_NIXERY_STALE_OFF)
        || !(nlcf->use_stale & use)
        || ngx_http_nixery_zone_get(resolve->zone, resolve->key, 0,
                                    &ctx->revision)
           == NGX_DECLINED)
    {
        return NGX_DECLINED;
    }

    ctx->stale = 1;

    return NGX_OK;
}


static void
ngx_http_nixery_resolve_free(ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_resolve_t *resolve = (ngx_http_nixery_resolve_t *) data;

    nixery_resolve_free(&resolve->resolve);
}
