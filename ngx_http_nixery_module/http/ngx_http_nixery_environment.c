
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include "nixery_url.h"


typedef struct ngx_http_nixery_environ_s  ngx_http_nixery_environ_t;

typedef ngx_int_t (*ngx_http_nixery_environ_pt)(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env,
    char *text);


/* A variable, and the directive that it stands in for. */

struct ngx_http_nixery_environ_s {
    char                        *name;
    ngx_str_t                    directive;
    ngx_str_t                    kind;      /* an argument before the value */
    size_t                       offset;
    ngx_http_nixery_environ_pt   take;
};


static ngx_uint_t ngx_http_nixery_environ_is_set(
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env);
static ngx_int_t ngx_http_nixery_environ_directive(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env,
    char *text);
static ngx_int_t ngx_http_nixery_environ_backend(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env,
    char *text);
static ngx_int_t ngx_http_nixery_environ_storage(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env,
    char *text);
static ngx_int_t ngx_http_nixery_environ_notice(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env,
    char *text);
static char *ngx_http_nixery_environ_get(const char *name);
static u_char *ngx_http_nixery_environ_place(ngx_log_t *log, u_char *buf,
    size_t len);


/* Of those with one directive the first that has a value counts. */

static ngx_http_nixery_environ_t  ngx_http_nixery_environ[] = {

    { "NIXERY_CHANNEL",
      ngx_string("nixery_packages"),
      ngx_string("channel"),
      offsetof(ngx_http_nixery_loc_conf_t, packages.name),
      ngx_http_nixery_environ_directive },

    { "NIXERY_PKGS_REPO",
      ngx_string("nixery_packages"),
      ngx_string("git"),
      offsetof(ngx_http_nixery_loc_conf_t, packages.name),
      ngx_http_nixery_environ_directive },

    { "NIXERY_PKGS_PATH",
      ngx_string("nixery_packages"),
      ngx_string("path"),
      offsetof(ngx_http_nixery_loc_conf_t, packages.name),
      ngx_http_nixery_environ_directive },

    { "NIX_BUILDER",
      ngx_string("nixery_builder"),
      ngx_null_string,
      offsetof(ngx_http_nixery_loc_conf_t, builder),
      ngx_http_nixery_environ_directive },

    { "NIX_TIMEOUT",
      ngx_string("nixery_build_timeout"),
      ngx_null_string,
      offsetof(ngx_http_nixery_loc_conf_t, build_timeout),
      ngx_http_nixery_environ_directive },

    { "NIX_POPULARITY_URL",
      ngx_string("nixery_popularity"),
      ngx_null_string,
      offsetof(ngx_http_nixery_loc_conf_t, popularity),
      ngx_http_nixery_environ_directive },

    { "NIXERY_STORAGE_BACKEND",
      ngx_string("nixery_storage"),
      ngx_null_string,
      offsetof(ngx_http_nixery_loc_conf_t, storage),
      ngx_http_nixery_environ_backend },

    { "STORAGE_PATH",
      ngx_string("nixery_storage"),
      ngx_string("directory"),
      offsetof(ngx_http_nixery_loc_conf_t, storage),
      ngx_http_nixery_environ_storage },

    { NULL, ngx_null_string, ngx_null_string, 0, NULL }
};


ngx_int_t
ngx_http_nixery_environment(ngx_conf_t *cf, ngx_http_nixery_main_conf_t *nmcf,
    ngx_http_nixery_loc_conf_t *nlcf)
{
    char                       *text;
    ngx_uint_t                  told;
    ngx_http_nixery_environ_t  *env, *last;

    last = NULL;

    for (env = ngx_http_nixery_environ; env->name != NULL; env++) {

        text = ngx_http_nixery_environ_get(env->name);

        if (text == NULL) {
            continue;
        }

        told = nmcf->environ_told & (1 << (env - ngx_http_nixery_environ));

        if (ngx_http_nixery_environ_is_set(nlcf, env)) {

            if (last == NULL || last->offset != env->offset) {
                continue;
            }

            if (!told) {
                ngx_http_nixery_conf_log(NGX_LOG_NOTICE, cf, nlcf,
                                         &nlcf->nixery, 0,
                                         "%s of the environment is not used, "
                                         "%s is set too",
                                         env->name, last->name);
            }

        } else {

            if (env->take(cf, nlcf, env, text) != NGX_OK) {
                return NGX_ERROR;
            }

            if (!told
                && ngx_http_nixery_environ_notice(cf, nlcf, env, text)
                   != NGX_OK)
            {
                return NGX_ERROR;
            }

            last = env;
        }

        nmcf->environ_told |= 1 << (env - ngx_http_nixery_environ);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_nixery_environ_is_set(ngx_http_nixery_loc_conf_t *nlcf,
    ngx_http_nixery_environ_t *env)
{
    ngx_http_nixery_value_t  *value;

    if (env->offset == offsetof(ngx_http_nixery_loc_conf_t, build_timeout)) {
        return nlcf->build_timeout != NGX_CONF_UNSET_MSEC;
    }

    value = (ngx_http_nixery_value_t *) ((char *) nlcf + env->offset);

    return value->value.data != NULL;
}


/* As if the directive stood in the location. */

static ngx_int_t
ngx_http_nixery_environ_directive(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env,
    char *text)
{
    char           *rv;
    ngx_log_t       log;
    ngx_str_t       args[3], value;
    ngx_conf_t      ecf;
    ngx_array_t     array;
    ngx_command_t  *cmd;

    value.data = (u_char *) text;
    value.len = ngx_strlen(text) + 1;

    value.data = ngx_pstrdup(cf->pool, &value);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len--;

    ngx_memzero(&array, sizeof(ngx_array_t));

    array.elts = args;

    args[array.nelts++] = env->directive;

    if (env->kind.len) {
        args[array.nelts++] = env->kind;
    }

    args[array.nelts++] = value;

    ngx_http_nixery_environ_conf(&ecf, &log, cf, env->name);

    ecf.args = &array;

    cmd = ngx_http_nixery_module.commands;

    while (ngx_strcmp(cmd->name.data, env->directive.data) != 0) {
        cmd++;
    }

    rv = cmd->set(&ecf, cmd, nlcf);

    if (rv == NGX_CONF_OK) {
        return NGX_OK;
    }

    if (rv != NGX_CONF_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, &ecf, 0, "\"%V\" directive %s",
                           &env->directive, rv);
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_nixery_environ_backend(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env,
    char *text)
{
    if (ngx_strcmp(text, "gcs") == 0 || ngx_strcmp(text, "s3") == 0) {
        ngx_http_nixery_conf_error(cf, nlcf, &nlcf->nixery, 0,
                                   "%s=\"%s\" does not work yet, "
                                   "\"filesystem\" does", env->name, text);
        return NGX_ERROR;
    }

    if (ngx_strcmp(text, "filesystem") != 0) {
        ngx_http_nixery_conf_error(cf, nlcf, &nlcf->nixery, 0,
                                   "%s=\"%s\" is unknown, "
                                   "the only one known is \"filesystem\"",
                                   env->name, text);
        return NGX_ERROR;
    }

    if (ngx_http_nixery_environ_get("STORAGE_PATH") == NULL) {
        ngx_http_nixery_conf_error(cf, nlcf, &nlcf->nixery, 0,
                                   "%s=\"%s\" needs STORAGE_PATH beside it, "
                                   "no \"nixery_storage\" is set",
                                   env->name, text);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* A name that others use too: it does not count alone. */

static ngx_int_t
ngx_http_nixery_environ_storage(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env,
    char *text)
{
    if (ngx_http_nixery_environ_get("NIXERY_STORAGE_BACKEND") == NULL) {
        ngx_http_nixery_conf_error(cf, nlcf, &nlcf->nixery, 0,
                                   "%s=\"%s\" needs "
                                   "NIXERY_STORAGE_BACKEND=\"filesystem\" "
                                   "beside it, no \"nixery_storage\" is set",
                                   env->name, text);
        return NGX_ERROR;
    }

    return ngx_http_nixery_environ_directive(cf, nlcf, env, text);
}


static ngx_int_t
ngx_http_nixery_environ_notice(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_environ_t *env,
    char *text)
{
    nixery_url_t    url;
    nixery_error_t  err;

    ngx_memzero(&url, sizeof(nixery_url_t));
    ngx_memzero(&err, sizeof(nixery_error_t));

    /* what the directive took for a URL is one, else it is a path */

    if (ngx_strstr(text, "://") != NULL
        && nixery_url_parse(&url, text, NGX_HTTP_NIXERY_GIT_SCHEMES, &err)
           != NIXERY_OK
        && err.kind == NIXERY_ERROR_SYSTEM)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s", err.message);
        nixery_error_free(&err);
        return NGX_ERROR;
    }

    ngx_http_nixery_conf_log(NGX_LOG_NOTICE, cf, nlcf, &nlcf->nixery, 0,
                             "%s=\"%s\" is taken from the environment, "
                             "no \"%V\" is set",
                             env->name, url.shown ? url.shown : text,
                             &env->directive);

    nixery_url_free(&url);
    nixery_error_free(&err);

    return NGX_OK;
}


static char *
ngx_http_nixery_environ_get(const char *name)
{
    char  *text;

    text = getenv(name);

    return text != NULL && *text != '\0' ? text : NULL;
}


void
ngx_http_nixery_environ_conf(ngx_conf_t *ecf, ngx_log_t *log, ngx_conf_t *cf,
    char *name)
{
    *log = *cf->log;

    log->handler = ngx_http_nixery_environ_place;
    log->data = name;

    *ecf = *cf;

    ecf->conf_file = NULL;
    ecf->log = log;
}


static u_char *
ngx_http_nixery_environ_place(ngx_log_t *log, u_char *buf, size_t len)
{
    return ngx_snprintf(buf, len, " in %s environment variable", log->data);
}
