
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include <sys/random.h>


#define NGX_HTTP_NIXERY_BUILD_POOL  1024
#define NGX_HTTP_NIXERY_BUILD_TICK  1000   /* milliseconds */

/* an image's key within one registry */
#define NGX_HTTP_NIXERY_KEY_LEN                                              \
    (NIXERY_HEX_LEN + sizeof(ngx_http_nixery_registry_t *))

#define ngx_http_nixery_build_of(n)                                          \
    ngx_rbtree_data(n, ngx_http_nixery_build_t, node)


static ngx_int_t ngx_http_nixery_start(ngx_http_request_t *r,
    ngx_http_nixery_build_t **start, nixery_image_t *image, ngx_str_t *key,
    uint32_t hash);
static ngx_http_nixery_build_t *ngx_http_nixery_create_build(
    ngx_http_request_t *r, ngx_str_t *key);
static void ngx_http_nixery_destroy_build(ngx_http_nixery_build_t *build);
static ngx_int_t ngx_http_nixery_wait(ngx_http_request_t *r,
    ngx_http_nixery_build_t *build);
static void ngx_http_nixery_cleanup(void *data);
static void ngx_http_nixery_abandoned(ngx_http_nixery_build_t *build);
static void ngx_http_nixery_timer(ngx_event_t *ev);
static void ngx_http_nixery_thread(void *data, ngx_log_t *log);
static void ngx_http_nixery_done(ngx_event_t *ev);
static void ngx_http_nixery_wake(ngx_http_nixery_build_t *build);
static ngx_uint_t ngx_http_nixery_was_stored(ngx_http_nixery_build_t *build);
static void ngx_http_nixery_log_build(ngx_http_nixery_build_t *build);
static void ngx_http_nixery_log_failure(ngx_http_nixery_build_t *build);
static void ngx_http_nixery_last_line(const char *log, ngx_str_t *line);
static void ngx_http_nixery_cancel(ngx_http_nixery_build_t *build);


ngx_int_t
ngx_http_nixery_build(ngx_http_request_t *r, nixery_image_t *image)
{
    u_char                        id[NGX_HTTP_NIXERY_KEY_LEN];
    char                          hex[NIXERY_HEX_LEN + 1];
    uint32_t                      hash;
    ngx_int_t                     rc;
    ngx_str_t                     key;
    ngx_str_node_t               *sn;
    ngx_http_nixery_ctx_t        *ctx;
    ngx_http_nixery_build_t      *build;
    ngx_http_nixery_loc_conf_t   *nlcf;
    ngx_http_nixery_main_conf_t  *nmcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);
    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);
    nmcf = ngx_http_get_module_main_conf(r, ngx_http_nixery_module);

    if (nixery_build_key(&nlcf->registry->settings, image, NULL, hex)
        != NIXERY_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    key.data = id;
    key.len = NGX_HTTP_NIXERY_KEY_LEN;

    ngx_memcpy(id, hex, NIXERY_HEX_LEN);
    ngx_memcpy(id + NIXERY_HEX_LEN, &nlcf->registry,
               sizeof(ngx_http_nixery_registry_t *));

    hash = ngx_crc32_long(key.data, key.len);

    sn = ngx_str_rbtree_lookup(&nmcf->builds, &key, hash);

    if (sn != NULL) {
        build = ngx_http_nixery_build_of(&sn->node);

        ctx->cache_status = NGX_HTTP_NIXERY_CACHE_WAIT;

    } else {
        rc = ngx_http_nixery_start(r, &build, image, &key, hash);

        if (rc != NGX_OK) {
            return rc;
        }

        ctx->cache_status = NGX_HTTP_NIXERY_CACHE_MISS;
    }

    return ngx_http_nixery_wait(r, build);
}


void
ngx_http_nixery_cancel_builds(ngx_http_nixery_main_conf_t *nmcf)
{
    ngx_rbtree_node_t  *node;

    if (nmcf->builds.root == nmcf->builds.sentinel) {
        return;
    }

    for (node = ngx_rbtree_min(nmcf->builds.root, nmcf->builds.sentinel);
         node != NULL;
         node = ngx_rbtree_next(&nmcf->builds, node))
    {
        ngx_http_nixery_cancel(ngx_http_nixery_build_of(node));
    }
}


ngx_int_t
ngx_http_nixery_free_builds(ngx_http_nixery_main_conf_t *nmcf)
{
    ngx_http_nixery_build_t  *build;

    while (nmcf->builds.root != nmcf->builds.sentinel) {
        build = ngx_http_nixery_build_of(nmcf->builds.root);

        /* nginx does not wait for threads when their queue is full */

        if (!atomic_load_explicit(&build->ended, memory_order_acquire)) {
            return NGX_BUSY;
        }

        ngx_http_nixery_log_build(build);
        ngx_http_nixery_destroy_build(build);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_start(ngx_http_request_t *r, ngx_http_nixery_build_t **start,
    nixery_image_t *image, ngx_str_t *key, uint32_t hash)
{
    ngx_thread_task_t            *task;
    ngx_http_nixery_build_t      *build;
    ngx_http_nixery_loc_conf_t   *nlcf;
    ngx_http_nixery_main_conf_t  *nmcf;

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);
    nmcf = ngx_http_get_module_main_conf(r, ngx_http_nixery_module);

    build = ngx_http_nixery_create_build(r, key);
    if (build == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    build->node.node.key = hash;
    build->tree = &nmcf->builds;

    ngx_rbtree_insert(build->tree, &build->node.node);

    task = ngx_thread_task_alloc(build->pool, 0);

    if (task == NULL) {
        ngx_http_nixery_destroy_build(build);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    task->ctx = build;
    task->handler = ngx_http_nixery_thread;
    task->event.data = build;
    task->event.handler = ngx_http_nixery_done;
    task->event.log = build->log;

    build->job.settings = &nlcf->registry->settings;
    build->job.image = *image;
    ngx_memzero(image, sizeof(nixery_image_t));

    if (ngx_thread_task_post(nlcf->registry->thread_pool, task) != NGX_OK) {
        ngx_http_nixery_destroy_build(build);
        return NGX_BUSY;
    }

    /* keeps a worker that is told to quit from leaving the thread behind */

    ngx_add_timer(&build->timer, NGX_HTTP_NIXERY_BUILD_TICK);

    *start = build;

    return NGX_OK;
}


static ngx_http_nixery_build_t *
ngx_http_nixery_create_build(ngx_http_request_t *r, ngx_str_t *key)
{
    uint64_t                   random;
    ngx_pool_t                *pool;
    ngx_http_core_loc_conf_t  *clcf;
    ngx_http_nixery_build_t   *build;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, ngx_errno,
                      "getrandom() failed");
        return NULL;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    pool = ngx_create_pool(NGX_HTTP_NIXERY_BUILD_POOL, clcf->error_log);
    if (pool == NULL) {
        return NULL;
    }

    build = ngx_pcalloc(pool, sizeof(ngx_http_nixery_build_t));
    if (build == NULL) {
        goto failed;
    }

    build->fd = (ngx_socket_t) -1;
    build->pool = pool;
    build->log = clcf->error_log;
    build->start = ngx_current_msec;

    build->id.len = NIXERY_BUILD_ID_LEN;
    build->id.data = ngx_pnalloc(pool, NIXERY_BUILD_ID_LEN);

    if (build->id.data == NULL) {
        goto failed;
    }

    (void) ngx_sprintf(build->id.data, "%016xL", random);

    build->node.str.len = key->len;
    build->node.str.data = ngx_pstrdup(pool, key);

    if (build->node.str.data == NULL) {
        goto failed;
    }

    ngx_memcpy(build->job.key, key->data, NIXERY_HEX_LEN);

    build->job.cancel.terminate = &ngx_terminate;

    ngx_queue_init(&build->waiters);

    build->timer.handler = ngx_http_nixery_timer;
    build->timer.data = build;
    build->timer.log = build->log;

    return build;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


static void
ngx_http_nixery_destroy_build(ngx_http_nixery_build_t *build)
{
    if (build->timer.timer_set) {
        ngx_del_timer(&build->timer);
    }

    if (build->tree != NULL) {
        ngx_rbtree_delete(build->tree, &build->node.node);
    }

    nixery_build_free(&build->job);

    ngx_destroy_pool(build->pool);
}


static ngx_int_t
ngx_http_nixery_wait(ngx_http_request_t *r, ngx_http_nixery_build_t *build)
{
    ngx_connection_t       *c;
    ngx_http_cleanup_t     *cln;
    ngx_http_nixery_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    ctx->build_id.data = ngx_pstrdup(r->pool, &build->id);
    if (ctx->build_id.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->build_id.len = build->id.len;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_nixery_cleanup;
    cln->data = ctx;

    c = r->connection;

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);

    } else if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!r->discard_body) {
        r->read_event_handler = ngx_http_test_reading;
    }

    ngx_queue_insert_tail(&build->waiters, &ctx->queue);
    ctx->build = build;
    ctx->build_time = NGX_CONF_UNSET_MSEC;

    c->log->action = "building image";

    r->main->count++;

    return NGX_DONE;
}


/* A client went away: the build goes on. */

static void
ngx_http_nixery_cleanup(void *data)
{
    ngx_http_nixery_ctx_t *ctx = data;

    if (ctx->build == NULL) {
        return;
    }

    ngx_queue_remove(&ctx->queue);

    ngx_http_nixery_abandoned(ctx->build);

    ctx->build = NULL;
}


/* A worker that is told to quit waits for its clients, not for nobody. */

static void
ngx_http_nixery_abandoned(ngx_http_nixery_build_t *build)
{
    if (ngx_exiting && ngx_queue_empty(&build->waiters)) {
        ngx_http_nixery_cancel(build);
    }
}


static void
ngx_http_nixery_timer(ngx_event_t *ev)
{
    ngx_http_nixery_build_t *build = ev->data;

    ngx_http_nixery_abandoned(build);

    ngx_add_timer(ev, NGX_HTTP_NIXERY_BUILD_TICK);
}


/* The other room: nothing of nginx but the arguments may be touched here. */

static void
ngx_http_nixery_thread(void *data, ngx_log_t *log)
{
    ngx_http_nixery_build_t *build = data;

    (void) nixery_build_run(&build->job);

    atomic_store_explicit(&build->ended, 1, memory_order_release);
}


static void
ngx_http_nixery_done(ngx_event_t *ev)
{
    ngx_http_nixery_build_t *build = ev->data;

    ngx_http_nixery_log_build(build);

    /* who asks from now on starts another one */

    ngx_rbtree_delete(build->tree, &build->node.node);
    build->tree = NULL;

    ngx_http_nixery_wake(build);
    ngx_http_nixery_destroy_build(build);
}


static void
ngx_http_nixery_wake(ngx_http_nixery_build_t *build)
{
    ngx_int_t               rc;
    ngx_queue_t            *q;
    ngx_connection_t       *c;
    ngx_http_request_t     *r;
    ngx_http_nixery_ctx_t  *ctx;

    /* answering one may end others that wait */

    while (!ngx_queue_empty(&build->waiters)) {

        q = ngx_queue_head(&build->waiters);
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_http_nixery_ctx_t, queue);
        ctx->build = NULL;
        ctx->build_time = ngx_current_msec - build->start;

        if (ctx->cache_status == NGX_HTTP_NIXERY_CACHE_MISS
            && ngx_http_nixery_was_stored(build))
        {
            ctx->cache_status = NGX_HTTP_NIXERY_CACHE_HIT;
        }

        r = ctx->request;
        c = r->connection;

        ngx_http_set_log_request(c->log, r);

        rc = ngx_http_nixery_manifest_built(r, build);

        ngx_http_finalize_request(r, rc);
        ngx_http_run_posted_requests(c);
    }
}


/* An image of an immutable source that needed no Nix. */

static ngx_uint_t
ngx_http_nixery_was_stored(ngx_http_nixery_build_t *build)
{
    nixery_build_t  *job;

    job = &build->job;

    return job->error.kind == NIXERY_ERROR_NONE && job->nix_time == 0
           && job->layers_made == 0 && job->layers_reused == 0;
}


static void
ngx_http_nixery_log_build(ngx_http_nixery_build_t *build)
{
    nixery_build_t  *job;

    job = &build->job;

    if (job->error.kind != NIXERY_ERROR_NONE) {
        ngx_http_nixery_log_failure(build);
        return;
    }

    if (ngx_http_nixery_was_stored(build)) {
        ngx_log_error(NGX_LOG_INFO, build->log, 0,
                      "nixery: image \"%s\" was stored, build %V, "
                      "digest sha256:%s, %M ms",
                      job->image.name, &build->id, job->digest,
                      ngx_current_msec - build->start);
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, build->log, 0,
                  "nixery: image \"%s\" built, build %V, digest sha256:%s, "
                  "%M ms (nix %uL, packing %uL), layers: %uz new (%uL bytes), "
                  "%uz reused",
                  job->image.name, &build->id, job->digest,
                  ngx_current_msec - build->start, job->nix_time,
                  job->pack_time, job->layers_made, job->bytes_made,
                  job->layers_reused);
}


static void
ngx_http_nixery_log_failure(ngx_http_nixery_build_t *build)
{
    ngx_str_t        line;
    ngx_uint_t       level;
    nixery_error_t  *err;

    err = &build->job.error;

    switch (err->kind) {

    case NIXERY_ERROR_NOT_FOUND:
    case NIXERY_ERROR_PACKAGE:
        level = NGX_LOG_INFO;
        break;

    case NIXERY_ERROR_CANCELED:
        level = NGX_LOG_NOTICE;
        break;

    default:
        level = NGX_LOG_ERR;
    }

    ngx_http_nixery_last_line(err->log, &line);

    ngx_log_error(level, build->log, 0,
                  "nixery: image \"%s\" failed, build %V, %M ms: %s%s%V",
                  build->job.image.name, &build->id,
                  ngx_current_msec - build->start, err->message,
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


static void
ngx_http_nixery_cancel(ngx_http_nixery_build_t *build)
{
    atomic_store_explicit(&build->job.cancel.flag, 1, memory_order_relaxed);
}
