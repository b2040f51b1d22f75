
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


static char *ngx_http_nixery_meta_error(ngx_conf_t *cf, ngx_command_t *cmd,
    nixery_error_t *err);


char *
ngx_http_nixery_set_meta(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_nixery_loc_conf_t *nlcf = conf;

    ngx_str_t        *value;
    ngx_uint_t        i, n;
    const char      **packages;
    nixery_meta_t    *meta;
    nixery_error_t    err;

    ngx_memzero(&err, sizeof(nixery_error_t));

    value = cf->args->elts;
    n = cf->args->nelts - 2;

    if (nixery_meta_check((char *) value[1].data, value[1].len, &err)
        != NIXERY_OK)
    {
        return ngx_http_nixery_meta_error(cf, cmd, &err);
    }

    if (n > NIXERY_META_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has %ui packages in \"%V\", "
                           "at most %d are taken",
                           &value[1], n, &cmd->name, NIXERY_META_MAX);
        return NGX_CONF_ERROR;
    }

    if (nlcf->metas == NGX_CONF_UNSET_PTR) {
        nlcf->metas = ngx_array_create(cf->pool, 2, sizeof(nixery_meta_t));
        if (nlcf->metas == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    meta = nlcf->metas->elts;

    for (i = 0; i < nlcf->metas->nelts; i++) {
        if (ngx_strcmp(meta[i].name, value[1].data) == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate name \"%V\" in \"%V\"",
                               &value[1], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    packages = ngx_pcalloc(cf->pool, (n + 1) * sizeof(char *));
    if (packages == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < n; i++) {
        packages[i] = (char *) value[i + 2].data;

        if (nixery_package_check(packages[i], value[i + 2].len, &err)
            != NIXERY_OK)
        {
            return ngx_http_nixery_meta_error(cf, cmd, &err);
        }
    }

    meta = ngx_array_push(nlcf->metas);
    if (meta == NULL) {
        return NGX_CONF_ERROR;
    }

    meta->name = (char *) value[1].data;
    meta->packages = packages;

    return NGX_CONF_OK;
}


static char *
ngx_http_nixery_meta_error(ngx_conf_t *cf, ngx_command_t *cmd,
    nixery_error_t *err)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s in \"%V\"", err->message,
                       &cmd->name);
    nixery_error_free(err);

    return NGX_CONF_ERROR;
}


nixery_meta_t *
ngx_http_nixery_metas(ngx_conf_t *cf, ngx_array_t *metas)
{
    nixery_meta_t  *list;

    list = ngx_pcalloc(cf->pool, (metas->nelts + 1) * sizeof(nixery_meta_t));
    if (list == NULL) {
        return NULL;
    }

    ngx_memcpy(list, metas->elts, metas->nelts * sizeof(nixery_meta_t));

    return list;
}


ngx_uint_t
ngx_http_nixery_same_metas(ngx_array_t *one, ngx_array_t *two)
{
    ngx_uint_t            i;
    nixery_meta_t        *a, *b;
    const char *const    *p, *const *q;

    if (one == NULL || two == NULL || one->nelts != two->nelts) {
        return one == two;
    }

    a = one->elts;
    b = two->elts;

    for (i = 0; i < one->nelts; i++) {
        if (ngx_strcmp(a[i].name, b[i].name) != 0) {
            return 0;
        }

        p = a[i].packages;
        q = b[i].packages;

        while (*p != NULL && *q != NULL && ngx_strcmp(*p, *q) == 0) {
            p++;
            q++;
        }

        if (*p != *q) {
            return 0;
        }
    }

    return 1;
}
