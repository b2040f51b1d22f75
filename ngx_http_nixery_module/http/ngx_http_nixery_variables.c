
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


static ngx_int_t ngx_http_nixery_string_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_nixery_revision_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_nixery_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_nixery_cache_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


static ngx_http_variable_t  ngx_http_nixery_vars[] = {

    { ngx_string("nixery_image"), NULL,
      ngx_http_nixery_string_variable,
      offsetof(ngx_http_nixery_ctx_t, image),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("nixery_digest"), NULL,
      ngx_http_nixery_string_variable,
      offsetof(ngx_http_nixery_ctx_t, digest),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("nixery_revision"), NULL,
      ngx_http_nixery_revision_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("nixery_build_id"), NULL,
      ngx_http_nixery_string_variable,
      offsetof(ngx_http_nixery_ctx_t, build_id),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("nixery_build_time"), NULL,
      ngx_http_nixery_time_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("nixery_cache"), NULL,
      ngx_http_nixery_cache_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


/* by NGX_HTTP_NIXERY_CACHE_... */

static ngx_str_t  ngx_http_nixery_cache_status[] = {
    ngx_null_string,
    ngx_string("MISS"),
    ngx_string("WAIT"),
    ngx_string("HIT"),
    ngx_string("STALE")
};


ngx_int_t
ngx_http_nixery_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_nixery_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_string_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t              *value;
    ngx_http_nixery_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    value = ctx ? (ngx_str_t *) ((char *) ctx + data) : NULL;

    if (value == NULL || value->len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = value->len;
    v->data = value->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_revision_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_nixery_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    if (ctx == NULL || ctx->revision.id[0] == '\0') {
        v->not_found = 1;
        return NGX_OK;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = ngx_strlen(ctx->revision.id);
    v->data = (u_char *) ctx->revision.id;

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    ngx_http_nixery_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    /* a client that went away does not know */

    if (ctx == NULL || ctx->build_id.len == 0
        || ctx->build_time == NGX_CONF_UNSET_MSEC)
    {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%T.%03M", (time_t) ctx->build_time / 1000,
                         ctx->build_time % 1000)
             - p;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = p;

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_cache_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_uint_t              status;
    ngx_http_nixery_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);

    if (ctx == NULL || ctx->cache_status == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    status = ctx->stale ? NGX_HTTP_NIXERY_CACHE_STALE : ctx->cache_status;

    v->len = ngx_http_nixery_cache_status[status].len;
    v->data = ngx_http_nixery_cache_status[status].data;

    return NGX_OK;
}
