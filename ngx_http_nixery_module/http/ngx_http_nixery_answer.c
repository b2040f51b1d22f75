
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


#define NGX_HTTP_NIXERY_ETAG_LEN                                             \
    (sizeof("\"sha256:\"") - 1 + NIXERY_HEX_LEN)


static ngx_table_elt_t *ngx_http_nixery_push(ngx_http_request_t *r,
    const char *name, u_char *value, size_t len);


static u_char  ngx_http_nixery_immutable[] =
    "public, max-age=31536000, immutable";
static u_char  ngx_http_nixery_no_cache[] = "no-cache";


ngx_int_t
ngx_http_nixery_header(ngx_http_request_t *r, const char *name, u_char *value,
    size_t len)
{
    return ngx_http_nixery_push(r, name, value, len) ? NGX_OK : NGX_ERROR;
}


static ngx_table_elt_t *
ngx_http_nixery_push(ngx_http_request_t *r, const char *name, u_char *value,
    size_t len)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    h->hash = 1;
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif
    h->key.len = ngx_strlen(name);
    h->key.data = (u_char *) name;
    h->value.len = len;
    h->value.data = value;

    return h;
}


ngx_int_t
ngx_http_nixery_content(ngx_http_request_t *r, const char *hex,
    ngx_uint_t immutable)
{
    u_char                 *etag;
    ngx_int_t               rc;
    ngx_http_nixery_ctx_t  *ctx;

    etag = ngx_pnalloc(r->pool, NGX_HTTP_NIXERY_ETAG_LEN);
    if (etag == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf(etag, "\"sha256:%*s\"", (size_t) NIXERY_HEX_LEN, hex);

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    ctx->digest.data = etag + 1;
    ctx->digest.len = NGX_HTTP_NIXERY_ETAG_LEN - 2;

    if (ngx_http_nixery_header(r, "Docker-Content-Digest", ctx->digest.data,
                               ctx->digest.len)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (immutable) {
        rc = ngx_http_nixery_header(r, "Cache-Control",
                                    ngx_http_nixery_immutable,
                                    sizeof(ngx_http_nixery_immutable) - 1);

    } else {
        rc = ngx_http_nixery_header(r, "Cache-Control",
                                    ngx_http_nixery_no_cache,
                                    sizeof(ngx_http_nixery_no_cache) - 1);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    r->headers_out.etag = ngx_http_nixery_push(r, "ETag", etag,
                                               NGX_HTTP_NIXERY_ETAG_LEN);

    return r->headers_out.etag ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_nixery_prepare(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, off_t length)
{
    ngx_table_elt_t        *h;
    ngx_http_nixery_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    if (ctx->revision.id[0] != '\0'
        && ngx_http_nixery_header(r, "Nixery-Revision",
                                  (u_char *) ctx->revision.id,
                                  ngx_strlen(ctx->revision.id))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_nixery_header(r, "Docker-Distribution-Api-Version",
                               (u_char *) "registry/2.0",
                               sizeof("registry/2.0") - 1)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /*
     * what has an encoding is left alone by gzip and all like it; this one
     * is not in the list, so it is never sent
     */

    h = ngx_pcalloc(r->pool, sizeof(ngx_table_elt_t));
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&h->key, "Content-Encoding");
    ngx_str_set(&h->value, "identity");

    r->headers_out.content_encoding = h;

    r->headers_out.status = status;
    r->headers_out.content_length_n = length;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    return NGX_OK;
}


ngx_int_t
ngx_http_nixery_send(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t *type,
    ngx_str_t *body)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    if (ngx_http_nixery_prepare(r, status, type, body->len) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->connection->log->action = "sending response to client";

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->pos = body->data;
    b->last = body->data + body->len;
    b->memory = 1;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}
