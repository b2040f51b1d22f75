
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


static ngx_int_t ngx_http_nixery_locate(ngx_http_request_t *r,
    const char *hex, ngx_str_t *path);


static ngx_str_t  ngx_http_nixery_blob_type =
    ngx_string("application/octet-stream");


ngx_int_t
ngx_http_nixery_blob(ngx_http_request_t *r, const char *hex)
{
    ngx_int_t               rc;
    ngx_str_t               path;
    ngx_buf_t              *b;
    ngx_chain_t             out;
    ngx_open_file_info_t    of;
    ngx_http_nixery_ctx_t  *ctx;

    rc = ngx_http_nixery_open(r, hex, &path, &of);

    if (rc == NGX_DECLINED) {
        return ngx_http_nixery_error(r, NGX_HTTP_NOT_FOUND, "BLOB_UNKNOWN",
                                     "blob sha256:%s is not known to this "
                                     "registry", hex);
    }

    if (rc != NGX_OK) {
        return ngx_http_nixery_error(r, NGX_HTTP_BAD_GATEWAY, "UNKNOWN",
                                     "the storage can't open blob sha256:%s",
                                     hex);
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    ctx->cache_status = NGX_HTTP_NIXERY_CACHE_HIT;

    if (ngx_http_nixery_content(r, hex, 1) != NGX_OK
        || ngx_http_nixery_prepare(r, NGX_HTTP_OK, &ngx_http_nixery_blob_type,
                                   of.size)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->allow_ranges = 1;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->file = ngx_pcalloc(r->pool, sizeof(ngx_file_t));
    if (b->file == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->connection->log->action = "sending response to client";

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->file_pos = 0;
    b->file_last = of.size;

    b->in_file = b->file_last ? 1 : 0;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;
    b->sync = (b->last_buf || b->in_file) ? 0 : 1;

    b->file->fd = of.fd;
    b->file->name = path;
    b->file->log = r->connection->log;
    b->file->directio = of.is_directio;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_int_t
ngx_http_nixery_open(ngx_http_request_t *r, const char *hex, ngx_str_t *path,
    ngx_open_file_info_t *of)
{
    ngx_log_t                 *log;
    ngx_http_core_loc_conf_t  *clcf;

    if (ngx_http_nixery_locate(r, hex, path) != NGX_OK) {
        return NGX_ERROR;
    }

    log = r->connection->log;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_memzero(of, sizeof(ngx_open_file_info_t));

    of->read_ahead = clcf->read_ahead;
    of->directio = clcf->directio;
    of->valid = clcf->open_file_cache_valid;
    of->min_uses = clcf->open_file_cache_min_uses;
    of->errors = clcf->open_file_cache_errors;
    of->events = clcf->open_file_cache_events;

    if (ngx_http_set_disable_symlinks(r, clcf, path, of) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_open_cached_file(clcf->open_file_cache, path, of, r->pool)
        != NGX_OK)
    {
        if (of->err == NGX_ENOENT) {
            return NGX_DECLINED;
        }

        if (of->err != 0) {
            ngx_log_error(NGX_LOG_CRIT, log, of->err, "%s \"%s\" failed",
                          of->failed, path->data);
        }

        return NGX_ERROR;
    }

    if (!of->is_file) {
        ngx_log_error(NGX_LOG_CRIT, log, 0, "\"%s\" is not a regular file",
                      path->data);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_locate(ngx_http_request_t *r, const char *hex,
    ngx_str_t *path)
{
    nixery_buf_t                 buf;
    nixery_object_t              object;
    nixery_storage_t            *storage;
    ngx_http_nixery_loc_conf_t  *nlcf;

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);

    storage = nlcf->registry->settings.storage;

    ngx_memzero(&buf, sizeof(nixery_buf_t));

    if (storage->locate(storage, nixery_object_name(object, "layers", hex),
                        &buf)
        != NIXERY_OK)
    {
        nixery_buf_free(&buf);
        return NGX_ERROR;
    }

    /* nginx wants its names with a '\0' behind them */

    path->len = buf.len;
    path->data = ngx_pnalloc(r->pool, buf.len + 1);

    if (path->data != NULL) {
        ngx_memcpy(path->data, buf.data, buf.len + 1);
    }

    nixery_buf_free(&buf);

    return path->data ? NGX_OK : NGX_ERROR;
}
