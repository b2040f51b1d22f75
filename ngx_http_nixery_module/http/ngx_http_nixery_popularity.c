
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include "nixery_url.h"


#define NGX_HTTP_NIXERY_POPULARITY_SCHEMES  "https http"


typedef struct {
    ngx_http_nixery_job_t         job;
    ngx_http_nixery_registry_t   *registry;
    nixery_cancel_t               cancel;
    nixery_popularity_t          *table;
    nixery_error_t                error;
} ngx_http_nixery_refresh_t;


static void ngx_http_nixery_refresh_run(ngx_http_nixery_job_t *data);
static void ngx_http_nixery_refresh_ended(ngx_http_nixery_job_t *data);
static ngx_int_t ngx_http_nixery_refresh_answer(ngx_http_request_t *r,
    ngx_http_nixery_job_t *data);
static void ngx_http_nixery_refresh_free(ngx_http_nixery_job_t *data);
static ngx_uint_t ngx_http_nixery_popularity_is_url(ngx_str_t *value);
static ngx_int_t ngx_http_nixery_popularity_url(ngx_conf_t *cf,
    nixery_popularity_source_t *source, ngx_str_t *value);
static ngx_int_t ngx_http_nixery_popularity_text(ngx_conf_t *cf,
    const char **to, const char *fmt, const char *text);


static const ngx_http_nixery_job_type_t  ngx_http_nixery_refresh_type = {
    sizeof(ngx_http_nixery_refresh_t),
    "fetching popularity",
    ngx_http_nixery_refresh_run,
    ngx_http_nixery_refresh_ended,
    ngx_http_nixery_refresh_answer,
    ngx_http_nixery_refresh_free
};


char *
ngx_http_nixery_set_popularity(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_nixery_loc_conf_t *nlcf = conf;

    ngx_str_t       *args;
    nixery_url_t     url;
    nixery_error_t   err;

    args = cf->args->elts;

    if (ngx_strcmp(args[1].data, "off") == 0) {
        return ngx_http_nixery_set_value(cf, &nlcf->popularity, &args[1]);
    }

    if (!ngx_http_nixery_popularity_is_url(&args[1])) {
        return ngx_http_nixery_set_path(cf, cmd, conf);
    }

    ngx_memzero(&err, sizeof(nixery_error_t));

    if (nixery_url_parse(&url, (char *) args[1].data,
                         NGX_HTTP_NIXERY_POPULARITY_SCHEMES, &err)
        != NIXERY_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid URL in \"%V\": %s",
                           &cmd->name, err.message);
        nixery_error_free(&err);
        return NGX_CONF_ERROR;
    }

    nixery_url_free(&url);

    return ngx_http_nixery_set_value(cf, &nlcf->popularity, &args[1]);
}


ngx_int_t
ngx_http_nixery_popularity(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf,
    nixery_settings_t *settings)
{
    ngx_int_t                    rc;
    ngx_str_t                   *value;
    nixery_popularity_source_t  *source;

    value = &nlcf->popularity.value;

    if (value->data == NULL || ngx_strcmp(value->data, "off") == 0) {
        return NGX_OK;
    }

    source = ngx_pcalloc(cf->pool, sizeof(nixery_popularity_source_t));
    if (source == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_nixery_popularity_is_url(value)) {
        rc = ngx_http_nixery_popularity_url(cf, source, value);

        if (rc == NGX_OK) {
            rc = ngx_http_nixery_popularity_text(cf, &source->dir,
                                                 "%s/downloads%Z",
                                                 settings->temp_path);
        }

    } else {
        source->file = (char *) value->data;

        rc = ngx_http_nixery_popularity_text(cf, &source->what, "\"%s\"%Z",
                                             source->file);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    source->env = settings->nix.env;
    source->timeout = NIXERY_POPULARITY_TIMEOUT;
    source->interval = NIXERY_POPULARITY_INTERVAL;

    nixery_popularity_source_init(source);

    settings->popularity = source;

    return NGX_OK;
}


/* What can't be read now may be there when an image is made. */

void
ngx_http_nixery_check_popularity(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf)
{
    nixery_error_t               err;
    nixery_popularity_t         *table;
    nixery_popularity_source_t  *source;

    source = nlcf->registry->settings.popularity;

    if (source == NULL || source->file == NULL) {
        return;
    }

    ngx_memzero(&err, sizeof(nixery_error_t));

    table = nixery_popularity_read(source->file, source->what, &err);

    if (table == NULL) {
        ngx_http_nixery_conf_log(NGX_LOG_WARN, cf, nlcf, &nlcf->popularity, 0,
                                 "\"nixery_popularity\" is not used, "
                                 "until this is mended: %s", err.message);
    }

    nixery_popularity_release(table);
    nixery_error_free(&err);
}


/* Only the first one waits for it; nobody waits for a newer one. */

ngx_int_t
ngx_http_nixery_refresh(ngx_http_request_t *r)
{
    u_char                       text[sizeof(void *) + 1];
    ngx_str_t                    key;
    ngx_http_nixery_ctx_t       *ctx;
    ngx_http_nixery_job_t       *job;
    ngx_http_nixery_refresh_t   *refresh;
    ngx_http_nixery_loc_conf_t  *nlcf;
    ngx_http_nixery_registry_t  *registry;

    ctx = ngx_http_get_module_ctx(r, ngx_http_nixery_module);
    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_nixery_module);

    registry = nlcf->registry;

    if (registry->settings.popularity == NULL || ctx->refreshed
        || (registry->refreshed
            && ngx_current_msec - registry->refresh_time
               < NIXERY_POPULARITY_INTERVAL))
    {
        return NGX_DECLINED;
    }

    key.data = text;
    key.len = sizeof(text);

    ngx_memcpy(text, &registry, sizeof(void *));
    text[key.len - 1] = 'p';

    job = ngx_http_nixery_job_find(r, &key);

    if (job == NULL) {
        job = ngx_http_nixery_job_create(r, &ngx_http_nixery_refresh_type,
                                         &key);
        if (job == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        refresh = (ngx_http_nixery_refresh_t *) job;

        refresh->registry = registry;
        job->cancel = &refresh->cancel;

        /* an image is not refused for it */

        if (ngx_http_nixery_job_start(r, job) != NGX_OK) {
            return NGX_DECLINED;
        }
    }

    if (registry->refreshed) {
        return NGX_DECLINED;
    }

    ctx->refreshed = 1;

    return ngx_http_nixery_job_wait(r, job);
}


static void
ngx_http_nixery_refresh_run(ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_refresh_t *refresh = (ngx_http_nixery_refresh_t *) data;

    refresh->table = nixery_popularity_refresh(
                         refresh->registry->settings.popularity,
                         &refresh->cancel, &refresh->error);
}


static void
ngx_http_nixery_refresh_ended(ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_refresh_t *refresh = (ngx_http_nixery_refresh_t *) data;

    ngx_http_nixery_registry_t  *registry;

    if (refresh->error.kind == NIXERY_ERROR_CANCELED) {
        return;
    }

    if (refresh->error.kind != NIXERY_ERROR_NONE) {
        ngx_log_error(NGX_LOG_WARN, data->log, 0,
                      "nixery: popularity is not up to date, build %V: %s",
                      &data->id, refresh->error.message);
    }

    registry = refresh->registry;

    nixery_popularity_release(registry->popularity);

    registry->popularity = refresh->table;
    registry->refresh_time = ngx_current_msec;
    registry->refreshed = 1;

    refresh->table = NULL;
}


static ngx_int_t
ngx_http_nixery_refresh_answer(ngx_http_request_t *r,
    ngx_http_nixery_job_t *data)
{
    return ngx_http_nixery_request(r);
}


static void
ngx_http_nixery_refresh_free(ngx_http_nixery_job_t *data)
{
    ngx_http_nixery_refresh_t *refresh = (ngx_http_nixery_refresh_t *) data;

    nixery_popularity_release(refresh->table);
    nixery_error_free(&refresh->error);
}


static ngx_uint_t
ngx_http_nixery_popularity_is_url(ngx_str_t *value)
{
    return ngx_strstr(value->data, "://") != NULL;
}


static ngx_int_t
ngx_http_nixery_popularity_url(ngx_conf_t *cf,
    nixery_popularity_source_t *source, ngx_str_t *value)
{
    ngx_int_t       rc;
    nixery_url_t    url;
    nixery_error_t  err;

    ngx_memzero(&err, sizeof(nixery_error_t));

    /* it was taken when the directive was read: what is missing is memory */

    if (nixery_url_parse(&url, (char *) value->data,
                         NGX_HTTP_NIXERY_POPULARITY_SCHEMES, &err)
        != NIXERY_OK)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s", err.message);
        nixery_error_free(&err);
        return NGX_ERROR;
    }

    rc = ngx_http_nixery_popularity_text(cf, &source->url, "%s%Z", url.bare);

    if (rc == NGX_OK) {
        rc = ngx_http_nixery_popularity_text(cf, &source->what, "\"%s\"%Z",
                                             url.shown);
    }

    if (rc == NGX_OK && url.user != NULL) {
        rc = ngx_http_nixery_popularity_text(cf, &source->user, "%s%Z",
                                             url.user);
    }

    if (rc == NGX_OK && url.password != NULL) {
        rc = ngx_http_nixery_popularity_text(cf, &source->password, "%s%Z",
                                             url.password);
    }

    nixery_url_free(&url);

    return rc;
}


/* A copy in the pool; fmt has one "%s", and "%Z" at its end. */

static ngx_int_t
ngx_http_nixery_popularity_text(ngx_conf_t *cf, const char **to,
    const char *fmt, const char *text)
{
    u_char  *p;

    p = ngx_pnalloc(cf->pool, ngx_strlen(fmt) + ngx_strlen(text));
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf(p, fmt, text);

    *to = (char *) p;

    return NGX_OK;
}
