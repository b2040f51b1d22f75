
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include "nixery_oci.h"
#include "nixery_sha256.h"


#define NGX_HTTP_NIXERY_ALIGN  4096   /* direct I/O on any file system */


static ngx_int_t ngx_http_nixery_read(ngx_http_request_t *r, ngx_str_t *path,
    ngx_open_file_info_t *of, ngx_str_t *body);
static ngx_int_t ngx_http_nixery_unknown(ngx_http_request_t *r,
    const char *hex);
static ngx_int_t ngx_http_nixery_unreadable(ngx_http_request_t *r,
    const char *hex);
static ngx_int_t ngx_http_nixery_set_type(ngx_http_request_t *r,
    ngx_str_t *type, const char *text);


ngx_int_t
ngx_http_nixery_manifest_tag(ngx_http_request_t *r, nixery_image_t *image,
    ngx_str_t *tag)
{
    ngx_int_t  rc;

    rc = ngx_http_nixery_resolve(r, tag);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_nixery_refresh(r);
    }

    if (rc == NGX_DECLINED) {
        rc = ngx_http_nixery_build(r, image);
    }

    if (rc == NGX_BUSY) {
        return ngx_http_nixery_error(r, NGX_HTTP_TOO_MANY_REQUESTS,
                                     "TOOMANYREQUESTS",
                                     "too many builds wait for their turn, "
                                     "try again");
    }

    return rc;
}


ngx_int_t
ngx_http_nixery_manifest_built(ngx_http_request_t *r,
    ngx_http_nixery_build_t *build)
{
    ngx_str_t        type, body;
    nixery_build_t  *job;

    job = &build->build;

    if (job->error.kind != NIXERY_ERROR_NONE) {
        return ngx_http_nixery_core_error(r, &job->error, &build->job.id);
    }

    if (ngx_http_nixery_set_type(r, &type, job->media_type) != NGX_OK
        || ngx_http_nixery_content(r, job->digest, 0) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* the build does not last as long as a slow client */

    body.len = job->manifest.len;
    body.data = ngx_pnalloc(r->pool, body.len);

    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(body.data, job->manifest.data, body.len);

    return ngx_http_nixery_send(r, NGX_HTTP_OK, &type, &body);
}


ngx_int_t
ngx_http_nixery_manifest_digest(ngx_http_request_t *r, const char *hex)
{
    int                     rv;
    char                    actual[NIXERY_HEX_LEN + 1], *media_type;
    ngx_int_t               rc;
    ngx_str_t               path, type, body;
    ngx_open_file_info_t    of;
    ngx_http_nixery_ctx_t  *ctx;

    rc = ngx_http_nixery_open(r, hex, &path, &of);

    if (rc == NGX_DECLINED
        || (rc == NGX_OK && (of.size == 0 || of.size > NIXERY_MANIFEST_MAX)))
    {
        return ngx_http_nixery_unknown(r, hex);
    }

    if (rc != NGX_OK
        || ngx_http_nixery_read(r, &path, &of, &body) != NGX_OK)
    {
        return ngx_http_nixery_unreadable(r, hex);
    }

    rv = nixery_oci_media_type((char *) body.data, body.len, &media_type);

    if (rv == NIXERY_DECLINED) {
        return ngx_http_nixery_unknown(r, hex);
    }

    if (rv != NIXERY_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_nixery_set_type(r, &type, media_type);

    free(media_type);

    if (rc != NGX_OK
        || nixery_sha256_hex(body.data, body.len, actual) != NIXERY_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_strcmp(actual, hex) != 0) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0,
                      "\"%V\" is corrupted: its SHA-256 is %s",
                      &path, actual);

        return ngx_http_nixery_unreadable(r, hex);
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    ctx->cache_status = NGX_HTTP_NIXERY_CACHE_HIT;

    if (ngx_http_nixery_content(r, hex, 1) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_nixery_send(r, NGX_HTTP_OK, &type, &body);
}


/*
 * A descriptor out of the cache may have been opened for direct I/O, which
 * wants whole blocks at aligned addresses.
 */

static ngx_int_t
ngx_http_nixery_read(ngx_http_request_t *r, ngx_str_t *path,
    ngx_open_file_info_t *of, ngx_str_t *body)
{
    size_t      size;
    ssize_t     n;
    ngx_file_t  file;

    size = ngx_align(of->size, NGX_HTTP_NIXERY_ALIGN);

    body->data = ngx_pmemalign(r->pool, size, NGX_HTTP_NIXERY_ALIGN);
    if (body->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&file, sizeof(ngx_file_t));

    file.fd = of->fd;
    file.name = *path;
    file.log = r->connection->log;

    n = ngx_read_file(&file, body->data, size, 0);

    if (n == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (n != of->size) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0,
                      ngx_read_file_n " \"%V\" returned %z bytes of %O",
                      path, n, of->size);
        return NGX_ERROR;
    }

    body->len = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_unknown(ngx_http_request_t *r, const char *hex)
{
    return ngx_http_nixery_error(r, NGX_HTTP_NOT_FOUND, "MANIFEST_UNKNOWN",
                                 "manifest sha256:%s is not known to this "
                                 "registry, ask for the image by a tag to "
                                 "have it built", hex);
}


static ngx_int_t
ngx_http_nixery_unreadable(ngx_http_request_t *r, const char *hex)
{
    return ngx_http_nixery_error(r, NGX_HTTP_BAD_GATEWAY, "UNKNOWN",
                                 "the storage can't read manifest sha256:%s",
                                 hex);
}


static ngx_int_t
ngx_http_nixery_set_type(ngx_http_request_t *r, ngx_str_t *type,
    const char *text)
{
    type->len = ngx_strlen(text);
    type->data = ngx_pnalloc(r->pool, type->len);

    if (type->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(type->data, text, type->len);

    return NGX_OK;
}
