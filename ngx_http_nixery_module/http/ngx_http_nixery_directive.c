
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include "nixery_layers.h"


static ngx_int_t ngx_http_nixery_valid_name(ngx_str_t *name,
    ngx_str_t *chars);


char *
ngx_http_nixery_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_nixery_loc_conf_t *nlcf = conf;

    char                      *rv;
    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    value = cf->args->elts;

    rv = ngx_http_nixery_set_value(cf, &nlcf->nixery, &value[0]);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    clcf->handler = ngx_http_nixery_handler;

    if (clcf->name.len && clcf->name.data[clcf->name.len - 1] == '/') {
        clcf->auto_redirect = 1;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_nixery_set_kind(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t  *value, *kind;

    value = cf->args->elts;
    kind = cmd->post;

    if (value[1].len != kind->len
        || ngx_strncmp(value[1].data, kind->data, kind->len) != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "unknown kind \"%V\" of \"%V\", "
                           "the only one known is \"%V\"",
                           &value[1], &cmd->name, kind);
        return NGX_CONF_ERROR;
    }

    return ngx_http_nixery_set_path(cf, cmd, conf);
}


char *
ngx_http_nixery_set_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char *p = conf;

    char                     *rv;
    ngx_str_t                *args, *arg;
    ngx_http_nixery_value_t  *value;

    args = cf->args->elts;
    arg = &args[cf->args->nelts - 1];

    value = (ngx_http_nixery_value_t *) (p + cmd->offset);

    if (arg->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "empty path in \"%V\"", &cmd->name);
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_nixery_set_value(cf, value, arg);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    while (value->value.len > 1
           && value->value.data[value->value.len - 1] == '/')
    {
        value->value.data[--value->value.len] = '\0';
    }

    /* a program without a slash is looked up in PATH */

    if (cmd->offset == offsetof(ngx_http_nixery_loc_conf_t, nix_build)
        && ngx_strchr(value->value.data, '/') == NULL)
    {
        return NGX_CONF_OK;
    }

    if (ngx_conf_full_name(cf->cycle, &value->value, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_nixery_set_value(ngx_conf_t *cf, ngx_http_nixery_value_t *value,
    ngx_str_t *arg)
{
    if (value->value.data != NULL) {
        return "is duplicate";
    }

    value->value = *arg;
    value->file = cf->conf_file->file.name.data;
    value->line = cf->conf_file->line;

    return NGX_CONF_OK;
}


char *
ngx_http_nixery_set_pairs(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char *p = conf;

    ngx_str_t      *value;
    ngx_uint_t      i;
    ngx_array_t   **pairs;
    ngx_keyval_t   *pair;

    value = cf->args->elts;

    if (ngx_http_nixery_valid_name(&value[1], cmd->post) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" in \"%V\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    pairs = (ngx_array_t **) (p + cmd->offset);

    if (*pairs == NGX_CONF_UNSET_PTR) {
        *pairs = ngx_array_create(cf->pool, 4, sizeof(ngx_keyval_t));
        if (*pairs == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    pair = (*pairs)->elts;

    for (i = 0; i < (*pairs)->nelts; i++) {
        if (pair[i].key.len == value[1].len
            && ngx_strncmp(pair[i].key.data, value[1].data, value[1].len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate name \"%V\" in \"%V\"",
                               &value[1], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    pair = ngx_array_push(*pairs);
    if (pair == NULL) {
        return NGX_CONF_ERROR;
    }

    pair->key = value[1];
    pair->value = value[2];

    return NGX_CONF_OK;
}


char *
ngx_http_nixery_set_pool(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_nixery_loc_conf_t *nlcf = conf;

    ngx_str_t  *value;

    if (nlcf->thread_pool != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    /* the default pool, which nobody has to define */

    if (ngx_strcmp(value[1].data, NGX_HTTP_NIXERY_POOL) == 0) {
        nlcf->thread_pool = NULL;
        return NGX_CONF_OK;
    }

    nlcf->thread_pool = ngx_thread_pool_add(cf, &value[1]);

    if (nlcf->thread_pool == NULL) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_nixery_check_timeout(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t *timeout = data;

    if (*timeout == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a build must have a time limit, "
                           "\"nixery_build_timeout\" cannot be 0");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_nixery_check_layers(ngx_conf_t *cf, void *post, void *data)
{
    ngx_int_t *layers = data;

    if (*layers < NIXERY_LAYERS_MIN || *layers > NIXERY_LAYERS_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"nixery_max_layers\" must be between %d and %d, "
                           "which is what images can have",
                           NIXERY_LAYERS_MIN, NIXERY_LAYERS_MAX);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


void
ngx_http_nixery_conf_log(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_value_t *value,
    ngx_err_t err, const char *fmt, ...)
{
    u_char    errstr[NGX_MAX_CONF_ERRSTR], *p;
    va_list   args;

    va_start(args, fmt);
    p = ngx_vslprintf(errstr, errstr + NGX_MAX_CONF_ERRSTR, fmt, args);
    va_end(args);

    /* a default stands nowhere: then it is "nixery" that needs it */

    if (value->file == NULL) {
        value = &nlcf->nixery;
    }

    cf->conf_file->file.name.data = value->file;
    cf->conf_file->line = value->line;

    ngx_conf_log_error(level, cf, err, "%*s", (size_t) (p - errstr), errstr);
}


/* A letter or "_", then digits too, and what else this kind of name has. */

static ngx_int_t
ngx_http_nixery_valid_name(ngx_str_t *name, ngx_str_t *chars)
{
    u_char      c;
    ngx_uint_t  i;

    for (i = 0; i < name->len; i++) {
        c = ngx_tolower(name->data[i]);

        if ((c >= 'a' && c <= 'z') || c == '_') {
            continue;
        }

        if (i != 0
            && ((c >= '0' && c <= '9')
                || ngx_strlchr(chars->data, chars->data + chars->len, c)))
        {
            continue;
        }

        return NGX_ERROR;
    }

    return name->len ? NGX_OK : NGX_ERROR;
}
