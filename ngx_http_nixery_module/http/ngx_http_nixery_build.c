
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


/* what the key of a build in this worker is made of */
#define NGX_HTTP_NIXERY_BUILD_KEY_LEN                                        \
    (NIXERY_HEX_LEN + sizeof(ngx_http_nixery_registry_t *))


static void ngx_http_nixery_build_run(ngx_http_nixery_job_t *data);
static void ngx_http_nixery_build_ended(ngx_http_nixery_job_t *data);
static ngx_int_t ngx_http_nixery_build_answer(ngx_http_request_t *r,
    ngx_http_nixery_job_t *data);
static void ngx_http_nixery_build_free(ngx_http_nixery_job_t *data);
static ngx_uint_t ngx_http_nixery_was_stored(ngx_http_nixery_build_t *build);
static void ngx_http_nixery_log_failure(ngx_http_nixery_build_t *build);
static void ngx_http_nixery_last_line(const char *log, ngx_str_t *line);


static const ngx_http_nixery_job_type_t  ngx_http_nixery_build_type = {
    sizeof(ngx_http_nixery_build_t),
    "building image",
    ngx_http_nixery_build_run,
    ngx_http_nixery_build_ended,
    ngx_http_nixery_build_answer,
    ngx_http_nixery_build_free
};


ngx_int_t
ngx_http_nixery_build(ngx_http_request_t *r, nixery_image_t *image)
{
    u_char                       text[NGX_HTTP_NIXERY_BUILD_KEY_LEN];
    char                         hex[NIXERY_HEX_LEN + 1];
    ngx_int_t                    rc;
    ngx_str_t                    key;
    ngx_http_nixery_ctx_t       *ctx;
    ngx_http_nixery_job_t       *job;
    ngx_http_nixery_build_t     *build;
    ngx_http_nixery_loc_conf_t  *nlcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);
    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);

    if (nixery_build_key(&nlcf->registry->settings, image, &ctx->revision,
                         nlcf->registry->popularity, hex)
        != NIXERY_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    key.data = text;
    key.len = NGX_HTTP_NIXERY_BUILD_KEY_LEN;

    ngx_memcpy(text, hex, NIXERY_HEX_LEN);
    ngx_memcpy(text + NIXERY_HEX_LEN, &nlcf->registry,
               sizeof(ngx_http_nixery_registry_t *));

    job = ngx_http_nixery_job_find(r, &key);

    if (job != NULL) {
        ctx->cache_status = NGX_HTTP_NIXERY_CACHE_WAIT;

        return ngx_http_nixery_job_wait(r, job);
    }

    job = ngx_http_nixery_job_create(r, &ngx_http_nixery_build_type, &key);
    if (job == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    build = (ngx_http_nixery_build_t *) job;

    job->cancel = &build->build.cancel;

    build->build.settings = &nlcf->registry->settings;
    build->build.image = *image;
    build->build.revision = ctx->revision;
    build->build.popularity = nixery_popularity_share(
                                  nlcf->registry->popularity);
    build->build.waited = ctx->resolve_time;

    ngx_memcpy(build->build.key, hex, sizeof(hex));
    ngx_memzero(image, sizeof(nixery_image_t));

    rc = ngx_http_nixery_job_start(r, job);

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->cache_status = NGX_HTTP_NIXERY_CACHE_MISS;

    return ngx_http_nixery_job_wait(r, job);
}


static void
ngx_http_nixery_build_run(ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_build_t *build = (ngx_http_nixery_build_t *) data;

    (void) nixery_build_run(&build->build);
}


static ngx_int_t
ngx_http_nixery_build_answer(ngx_http_request_t *r,
    ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_build_t *build = (ngx_http_nixery_build_t *) data;

    ngx_http_nixery_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    if (ctx->cache_status == NGX_HTTP_NIXERY_CACHE_MISS
        && ngx_http_nixery_was_stored(build))
    {
        ctx->cache_status = NGX_HTTP_NIXERY_CACHE_HIT;
    }

    /* what a branch is at now is built, unless it moves all the time */

    if (build->build.error.kind == NIXERY_ERROR_MOVED
        && ctx->moves++ < NGX_HTTP_NIXERY_MOVES)
    {
        return ngx_http_nixery_resolve_again(r);
    }

    /* a commit that is not there is none */

    if (build->build.error.kind == NIXERY_ERROR_REF) {
        ctx->revision.id[0] = '\0';

    } else {
        ctx->revision = build->build.revision;
    }

    return ngx_http_nixery_manifest_built(r, build);
}


static void
ngx_http_nixery_build_free(ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_build_t *build = (ngx_http_nixery_build_t *) data;

    nixery_build_free(&build->build);
}


/* An image of an immutable source that needed no Nix. */

static ngx_uint_t
ngx_http_nixery_was_stored(ngx_http_nixery_build_t *build)
{
    nixery_build_t  *job;

    job = &build->build;

    return job->error.kind == NIXERY_ERROR_NONE && job->nix_time == 0
           && job->layers_made == 0 && job->layers_reused == 0;
}


static void
ngx_http_nixery_build_ended(ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_build_t *build = (ngx_http_nixery_build_t *) data;

    nixery_build_t  *job;

    job = &build->build;

    if (job->error.kind != NIXERY_ERROR_NONE) {
        ngx_http_nixery_log_failure(build);
        return;
    }

    if (ngx_http_nixery_was_stored(build)) {
        ngx_log_error(NGX_LOG_INFO, build->job.log, 0,
                      "nixery: image \"%s\"%s%s was stored, build %V, "
                      "digest sha256:%s, %M ms",
                      job->image.name, *job->revision.id ? " of " : "",
                      job->revision.id, &build->job.id, job->digest,
                      ngx_current_msec - build->job.start);
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, build->job.log, 0,
                  "nixery: image \"%s\"%s%s built, build %V, "
                  "digest sha256:%s, %M ms (nix %uL, packing %uL), "
                  "layers: %uz new (%uL bytes), %uz reused",
                  job->image.name, *job->revision.id ? " of " : "",
                  job->revision.id, &build->job.id, job->digest,
                  ngx_current_msec - build->job.start, job->nix_time,
                  job->pack_time, job->layers_made, job->bytes_made,
                  job->layers_reused);
}


static void
ngx_http_nixery_log_failure(ngx_http_nixery_build_t *build)
{
    ngx_str_t        line;
    nixery_build_t  *job;
    nixery_error_t  *err;

    job = &build->build;
    err = &job->error;

    ngx_http_nixery_last_line(err->log, &line);

    ngx_log_error(ngx_http_nixery_error_level(err), build->job.log, 0,
                  "nixery: image \"%s\"%s%s failed, build %V, %M ms: %s%s%V",
                  job->image.name, *job->revision.id ? " of " : "",
                  job->revision.id, &build->job.id,
                  ngx_current_msec - build->job.start, err->message,
                  line.len ? "; last line: " : "", &line);
}


/*
 * The last line of what Nix printed; when a builder failed, the last of its
 * own, as Nix repeats them at the end.
 */

static void
ngx_http_nixery_last_line(const char *log, ngx_str_t *line)
{
    const char  *p, *end;

    static const char  quote[] = "\n       > ";

    ngx_str_null(line);

    if (log == NULL) {
        return;
    }

    end = log + ngx_strlen(log);

    for (p = log; (p = ngx_strstr(p, quote)) != NULL; /* void */) {
        p += sizeof(quote) - 1;

        line->data = (u_char *) p;
        line->len = strchrnul(p, '\n') - p;
    }

    if (line->len) {
        return;
    }

    while (end > log && end[-1] == '\n') {
        end--;
    }

    for (p = end; p > log && p[-1] != '\n'; p--) {
        /* void */
    }

    line->data = (u_char *) p;
    line->len = end - p;
}
