
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include <sys/random.h>


#define NGX_HTTP_NIXERY_JOB_POOL  1024
#define NGX_HTTP_NIXERY_JOB_TICK  1000   /* milliseconds */

#define ngx_http_nixery_job_of(n)                                            \
    ngx_rbtree_data(n, ngx_http_nixery_job_t, node)


static void ngx_http_nixery_job_cleanup(void *data);
static void ngx_http_nixery_job_abandoned(ngx_http_nixery_job_t *job);
static void ngx_http_nixery_job_timer(ngx_event_t *ev);
static void ngx_http_nixery_job_thread(void *data, ngx_log_t *log);
static void ngx_http_nixery_job_done(ngx_event_t *ev);
static void ngx_http_nixery_job_wake(ngx_http_nixery_job_t *job);
static void ngx_http_nixery_job_cancel(ngx_http_nixery_job_t *job);


ngx_http_nixery_job_t *
ngx_http_nixery_job_find(ngx_http_request_t *r, ngx_str_t *key)
{
    ngx_str_node_t               *sn;
    ngx_http_nixery_main_conf_t  *nmcf;

    nmcf = ngx_http_get_module_main_conf(r, ngx_http_nixery_module);

    sn = ngx_str_rbtree_lookup(&nmcf->jobs, key,
                               ngx_crc32_long(key->data, key->len));

    return sn ? ngx_http_nixery_job_of(&sn->node) : NULL;
}


ngx_http_nixery_job_t *
ngx_http_nixery_job_create(ngx_http_request_t *r,
    const ngx_http_nixery_job_type_t *type, ngx_str_t *key)
{
    uint64_t                   random;
    ngx_pool_t                *pool;
    ngx_http_core_loc_conf_t  *clcf;
    ngx_http_nixery_job_t     *job;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, ngx_errno,
                      "getrandom() failed");
        return NULL;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    pool = ngx_create_pool(NGX_HTTP_NIXERY_JOB_POOL, clcf->error_log);
    if (pool == NULL) {
        return NULL;
    }

    job = ngx_pcalloc(pool, type->size);
    if (job == NULL) {
        goto failed;
    }

    job->fd = (ngx_socket_t) -1;
    job->type = type;
    job->pool = pool;
    job->log = clcf->error_log;
    job->start = ngx_current_msec;

    job->id.len = NIXERY_BUILD_ID_LEN;
    job->id.data = ngx_pnalloc(pool, NIXERY_BUILD_ID_LEN);

    if (job->id.data == NULL) {
        goto failed;
    }

    (void) ngx_sprintf(job->id.data, "%016xL", random);

    job->node.str.len = key->len;
    job->node.str.data = ngx_pstrdup(pool, key);

    if (job->node.str.data == NULL) {
        goto failed;
    }

    job->node.node.key = ngx_crc32_long(key->data, key->len);

    ngx_queue_init(&job->waiters);

    job->timer.handler = ngx_http_nixery_job_timer;
    job->timer.data = job;
    job->timer.log = job->log;

    return job;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


void
ngx_http_nixery_job_destroy(ngx_http_nixery_job_t *job)
{
    if (job->timer.timer_set) {
        ngx_del_timer(&job->timer);
    }

    if (job->tree != NULL) {
        ngx_rbtree_delete(job->tree, &job->node.node);
    }

    job->type->free(job);

    ngx_destroy_pool(job->pool);
}


ngx_int_t
ngx_http_nixery_job_start(ngx_http_request_t *r, ngx_http_nixery_job_t *job)
{
    ngx_thread_task_t            *task;
    ngx_http_nixery_loc_conf_t   *nlcf;
    ngx_http_nixery_main_conf_t  *nmcf;

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);
    nmcf = ngx_http_get_module_main_conf(r, ngx_http_nixery_module);

    job->cancel->terminate = &ngx_terminate;
    job->tree = &nmcf->jobs;

    ngx_rbtree_insert(job->tree, &job->node.node);

    task = ngx_thread_task_alloc(job->pool, 0);

    if (task == NULL) {
        ngx_http_nixery_job_destroy(job);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    task->ctx = job;
    task->handler = ngx_http_nixery_job_thread;
    task->event.data = job;
    task->event.handler = ngx_http_nixery_job_done;
    task->event.log = job->log;

    if (ngx_thread_task_post(nlcf->registry->thread_pool, task) != NGX_OK) {
        ngx_http_nixery_job_destroy(job);
        return NGX_BUSY;
    }

    /* keeps a worker that is told to quit from leaving the thread behind */

    ngx_add_timer(&job->timer, NGX_HTTP_NIXERY_JOB_TICK);

    return NGX_OK;
}


ngx_int_t
ngx_http_nixery_job_wait(ngx_http_request_t *r, ngx_http_nixery_job_t *job)
{
    ngx_connection_t       *c;
    ngx_http_cleanup_t     *cln;
    ngx_http_nixery_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    ctx->build_id.data = ngx_pstrdup(r->pool, &job->id);
    if (ctx->build_id.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->build_id.len = job->id.len;

    if (!ctx->waited) {
        cln = ngx_http_cleanup_add(r, 0);
        if (cln == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        cln->handler = ngx_http_nixery_job_cleanup;
        cln->data = ctx;

        ctx->waited = 1;
    }

    c = r->connection;

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);

    } else if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!r->discard_body) {
        r->read_event_handler = ngx_http_test_reading;
    }

    ngx_queue_insert_tail(&job->waiters, &ctx->queue);
    ctx->job = job;
    ctx->build_time = NGX_CONF_UNSET_MSEC;

    c->log->action = (char *) job->type->action;

    r->main->count++;

    return NGX_DONE;
}


void
ngx_http_nixery_job_cancel_all(ngx_http_nixery_main_conf_t *nmcf)
{
    ngx_rbtree_node_t  *node;

    if (nmcf->jobs.root == nmcf->jobs.sentinel) {
        return;
    }

    for (node = ngx_rbtree_min(nmcf->jobs.root, nmcf->jobs.sentinel);
         node != NULL;
         node = ngx_rbtree_next(&nmcf->jobs, node))
    {
        ngx_http_nixery_job_cancel(ngx_http_nixery_job_of(node));
    }
}


ngx_int_t
ngx_http_nixery_job_free_all(ngx_http_nixery_main_conf_t *nmcf)
{
    ngx_http_nixery_job_t  *job;

    while (nmcf->jobs.root != nmcf->jobs.sentinel) {
        job = ngx_http_nixery_job_of(nmcf->jobs.root);

        /* nginx does not wait for threads when their queue is full */

        if (!atomic_load_explicit(&job->ended, memory_order_acquire)) {
            return NGX_BUSY;
        }

        job->type->ended(job);
        ngx_http_nixery_job_destroy(job);
    }

    return NGX_OK;
}


/* A client went away: the job goes on. */

static void
ngx_http_nixery_job_cleanup(void *data)
{
    ngx_http_nixery_ctx_t *ctx = data;

    if (ctx->job == NULL) {
        return;
    }

    ngx_queue_remove(&ctx->queue);

    ngx_http_nixery_job_abandoned(ctx->job);

    ctx->job = NULL;
}


/* A worker that is told to quit waits for its clients, not for nobody. */

static void
ngx_http_nixery_job_abandoned(ngx_http_nixery_job_t *job)
{
    if (ngx_exiting && ngx_queue_empty(&job->waiters)) {
        ngx_http_nixery_job_cancel(job);
    }
}


static void
ngx_http_nixery_job_timer(ngx_event_t *ev)
{
    ngx_http_nixery_job_t *job = ev->data;

    ngx_http_nixery_job_abandoned(job);

    ngx_add_timer(ev, NGX_HTTP_NIXERY_JOB_TICK);
}


/* The other room: nothing of nginx but the arguments may be touched here. */

static void
ngx_http_nixery_job_thread(void *data, ngx_log_t *log)
{
    ngx_http_nixery_job_t *job = data;

    job->type->run(job);

    atomic_store_explicit(&job->ended, 1, memory_order_release);
}


static void
ngx_http_nixery_job_done(ngx_event_t *ev)
{
    ngx_http_nixery_job_t *job = ev->data;

    job->type->ended(job);

    /* who asks from now on starts another one */

    ngx_rbtree_delete(job->tree, &job->node.node);
    job->tree = NULL;

    ngx_http_nixery_job_wake(job);
    ngx_http_nixery_job_destroy(job);
}


static void
ngx_http_nixery_job_wake(ngx_http_nixery_job_t *job)
{
    ngx_int_t               rc;
    ngx_queue_t            *q;
    ngx_connection_t       *c;
    ngx_http_request_t     *r;
    ngx_http_nixery_ctx_t  *ctx;

    /* answering one may end others that wait */

    while (!ngx_queue_empty(&job->waiters)) {

        q = ngx_queue_head(&job->waiters);
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_http_nixery_ctx_t, queue);
        ctx->job = NULL;
        ctx->build_time = ngx_current_msec - job->start;

        r = ctx->request;
        c = r->connection;

        ngx_http_set_log_request(c->log, r);

        rc = job->type->answer(r, job);

        ngx_http_finalize_request(r, rc);
        ngx_http_run_posted_requests(c);
    }
}


static void
ngx_http_nixery_job_cancel(ngx_http_nixery_job_t *job)
{
    atomic_store_explicit(&job->cancel->flag, 1, memory_order_relaxed);
}
