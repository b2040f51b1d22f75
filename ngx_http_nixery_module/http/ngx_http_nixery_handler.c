
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


static ngx_int_t ngx_http_nixery_image(ngx_http_request_t *r,
    ngx_http_nixery_route_t *route);
static ngx_int_t ngx_http_nixery_reference(ngx_http_request_t *r,
    ngx_http_nixery_route_t *route, nixery_image_t *image);
static ngx_int_t ngx_http_nixery_not_allowed(ngx_http_request_t *r);
static ngx_int_t ngx_http_nixery_answer_error(ngx_http_request_t *r,
    nixery_error_t *err);


static ngx_str_t  ngx_http_nixery_json = ngx_string("application/json");
static ngx_str_t  ngx_http_nixery_empty = ngx_string("{}");


ngx_int_t
ngx_http_nixery_handler(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_http_nixery_ctx_t  *ctx;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_nixery_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->request = r;

    ngx_http_set_ctx(r, ctx, ngx_http_nixery_module);

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_nixery_not_allowed(r);
    }

    return ngx_http_nixery_request(r);
}


ngx_int_t
ngx_http_nixery_request(ngx_http_request_t *r)
{
    ngx_http_nixery_route_t  route;

    ngx_http_nixery_route(&r->uri, &route);

    switch (route.kind) {

    case NGX_HTTP_NIXERY_BASE:
        return ngx_http_nixery_send(r, NGX_HTTP_OK, &ngx_http_nixery_json,
                                    &ngx_http_nixery_empty);

    case NGX_HTTP_NIXERY_MANIFEST:
    case NGX_HTTP_NIXERY_BLOB:
        return ngx_http_nixery_image(r, &route);

    case NGX_HTTP_NIXERY_UPLOAD:
        return ngx_http_nixery_not_allowed(r);

    default: /* NGX_HTTP_NIXERY_UNKNOWN */
        return ngx_http_nixery_error(r, NGX_HTTP_NOT_FOUND, "UNSUPPORTED",
                                     "this registry has manifests and blobs "
                                     "only, nothing is at this path");
    }
}


static ngx_int_t
ngx_http_nixery_image(ngx_http_request_t *r, ngx_http_nixery_route_t *route)
{
    ngx_int_t                    rc;
    nixery_error_t               err;
    nixery_image_t               image;
    ngx_http_nixery_ctx_t       *ctx;
    ngx_http_nixery_loc_conf_t  *nlcf;

    ngx_memzero(&err, sizeof(nixery_error_t));

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);

    if (nixery_image_parse(&image, (char *) route->name.data, route->name.len,
                           nlcf->registry->settings.metas, &err)
        != NIXERY_OK)
    {
        return ngx_http_nixery_answer_error(r, &err);
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    ctx->image.len = ngx_strlen(image.name);
    ctx->image.data = ngx_pnalloc(r->pool, ctx->image.len);

    if (ctx->image.data == NULL) {
        ctx->image.len = 0;
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

    } else {
        ngx_memcpy(ctx->image.data, image.name, ctx->image.len);
        rc = ngx_http_nixery_reference(r, route, &image);
    }

    nixery_image_free(&image);

    return rc;
}


static ngx_int_t
ngx_http_nixery_reference(ngx_http_request_t *r,
    ngx_http_nixery_route_t *route, nixery_image_t *image)
{
    char                         hex[NIXERY_HEX_LEN + 1], *reference;
    size_t                       len;
    ngx_uint_t                   tag;
    nixery_error_t               err;
    ngx_http_nixery_loc_conf_t  *nlcf;

    ngx_memzero(&err, sizeof(nixery_error_t));

    reference = (char *) route->reference.data;
    len = route->reference.len;

    /* no tag has a colon, every digest has one */

    tag = route->kind == NGX_HTTP_NIXERY_MANIFEST
          && memchr(reference, ':', len) == NULL;

    if (!tag && nixery_digest_parse(reference, len, hex, &err) != NIXERY_OK) {
        return ngx_http_nixery_answer_error(r, &err);
    }

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);

    if (ngx_http_nixery_storage(nlcf->registry) != NGX_OK) {
        return ngx_http_nixery_core_error(r, &nlcf->registry->error, NULL);
    }

    if (tag) {
        return ngx_http_nixery_manifest_tag(r, image, &route->reference);
    }

    if (route->kind == NGX_HTTP_NIXERY_MANIFEST) {
        return ngx_http_nixery_manifest_digest(r, hex);
    }

    return ngx_http_nixery_blob(r, hex);
}


static ngx_int_t
ngx_http_nixery_not_allowed(ngx_http_request_t *r)
{
    if (ngx_http_nixery_header(r, "Allow", (u_char *) "GET, HEAD",
                               sizeof("GET, HEAD") - 1)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_nixery_error(r, NGX_HTTP_NOT_ALLOWED, "UNSUPPORTED",
                                 "images are built from their names and can "
                                 "only be pulled, not pushed or deleted");
}


static ngx_int_t
ngx_http_nixery_answer_error(ngx_http_request_t *r, nixery_error_t *err)
{
    ngx_int_t  rc;

    rc = ngx_http_nixery_core_error(r, err, NULL);

    nixery_error_free(err);

    return rc;
}
