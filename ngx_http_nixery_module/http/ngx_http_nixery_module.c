
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include "nixery_work.h"


static ngx_int_t ngx_http_nixery_add_zone(ngx_conf_t *cf);
static ngx_int_t ngx_http_nixery_init_process(ngx_cycle_t *cycle);
static void ngx_http_nixery_exit_process(ngx_cycle_t *cycle);
static void ngx_http_nixery_exit_builds(ngx_cycle_t *cycle);

static void *ngx_http_nixery_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_nixery_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_nixery_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void ngx_http_nixery_merge_value(ngx_http_nixery_value_t *value,
    ngx_http_nixery_value_t *prev);


static ngx_conf_post_t  ngx_http_nixery_timeout_post = {
    ngx_http_nixery_check_timeout
};

static ngx_conf_post_t  ngx_http_nixery_layers_post = {
    ngx_http_nixery_check_layers
};

static ngx_conf_bitmask_t  ngx_http_nixery_use_stale[] = {
    { ngx_string("error"), NGX_HTTP_NIXERY_STALE_ERROR },
    { ngx_string("timeout"), NGX_HTTP_NIXERY_STALE_TIMEOUT },
    { ngx_string("off"), NGX_HTTP_NIXERY_STALE_OFF },
    { ngx_null_string, 0 }
};

static ngx_str_t  ngx_http_nixery_storage_kind = ngx_string("directory");

/* what may stand in a name besides letters and digits */
static ngx_str_t  ngx_http_nixery_env_chars = ngx_string("_");
static ngx_str_t  ngx_http_nixery_option_chars = ngx_string("-");


static ngx_command_t  ngx_http_nixery_commands[] = {

    { ngx_string("nixery"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_nixery_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("nixery_packages"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_2MORE,
      ngx_http_nixery_set_packages,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("nixery_channel_url"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_nixery_set_channel_url,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("nixery_builder"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_nixery_set_path,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, builder),
      NULL },

    { ngx_string("nixery_storage"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_nixery_set_kind,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, storage),
      &ngx_http_nixery_storage_kind },

    { ngx_string("nixery_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_nixery_set_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("nixery_cache_valid"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, cache_valid),
      NULL },

    { ngx_string("nixery_cache_use_stale"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_conf_set_bitmask_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, use_stale),
      &ngx_http_nixery_use_stale },

    { ngx_string("nixery_thread_pool"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_nixery_set_pool,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("nixery_nix_build"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_nixery_set_path,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, nix_build),
      NULL },

    { ngx_string("nixery_nix_env"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_nixery_set_pairs,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, env),
      &ngx_http_nixery_env_chars },

    { ngx_string("nixery_nix_option"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_nixery_set_pairs,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, options),
      &ngx_http_nixery_option_chars },

    { ngx_string("nixery_meta"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_2MORE,
      ngx_http_nixery_set_meta,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("nixery_build_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, build_timeout),
      &ngx_http_nixery_timeout_post },

    { ngx_string("nixery_max_layers"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, max_layers),
      &ngx_http_nixery_layers_post },

    { ngx_string("nixery_popularity"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_nixery_set_popularity,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, popularity),
      NULL },

    { ngx_string("nixery_temp_path"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_nixery_set_path,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_nixery_loc_conf_t, temp_path),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_nixery_module_ctx = {
    ngx_http_nixery_add_variables,         /* preconfiguration */
    ngx_http_nixery_add_zone,              /* postconfiguration */

    ngx_http_nixery_create_main_conf,      /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_nixery_create_loc_conf,       /* create location configuration */
    ngx_http_nixery_merge_loc_conf         /* merge location configuration */
};


ngx_module_t  ngx_http_nixery_module = {
    NGX_MODULE_V1,
    &ngx_http_nixery_module_ctx,           /* module context */
    ngx_http_nixery_commands,              /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_nixery_init_process,          /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_nixery_exit_process,          /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/*
 * What an http module has no hook for: looking at the configuration when all
 * of it is known, "user" and thread pools too, and ending builds before the
 * thread pools are waited for.
 */

static ngx_core_module_t  ngx_http_nixery_cycle_module_ctx = {
    ngx_string("nixery"),
    NULL,                                  /* create configuration */
    ngx_http_nixery_init_conf              /* init configuration */
};


ngx_module_t  ngx_http_nixery_cycle_module = {
    NGX_MODULE_V1,
    &ngx_http_nixery_cycle_module_ctx,     /* module context */
    NULL,                                  /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_nixery_exit_builds,           /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* The default one; where no location is a registry nothing is shared. */

static ngx_int_t
ngx_http_nixery_add_zone(ngx_conf_t *cf)
{
    ngx_str_t                     name;
    ngx_http_nixery_main_conf_t  *nmcf;

    nmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_nixery_module);

    if (nmcf->zone != NULL || nmcf->locations.nelts == 0) {
        return NGX_OK;
    }

    ngx_str_set(&name, NGX_HTTP_NIXERY_ZONE);

    nmcf->zone = ngx_http_nixery_zone_add(cf, &name,
                                          NGX_HTTP_NIXERY_ZONE_SIZE);

    return nmcf->zone ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_nixery_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                     i;
    ngx_http_nixery_registry_t   **registry;
    ngx_http_nixery_main_conf_t   *nmcf;

    /* the processes that look after caches have no use for us */

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    nmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_nixery_module);

    if (nmcf == NULL) {
        return NGX_OK;
    }

    registry = nmcf->registries.elts;

    for (i = 0; i < nmcf->registries.nelts; i++) {
        nixery_work_clean(registry[i]->settings.temp_path);

        /* a worker that ends here would be started again and again */

        if (ngx_http_nixery_storage(registry[i]) != NGX_OK) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "nixery: %s",
                          registry[i]->error.message);
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_nixery_storage(ngx_http_nixery_registry_t *registry)
{
    nixery_settings_t  *settings;

    settings = &registry->settings;

    if (settings->storage == NULL) {
        nixery_error_free(&registry->error);

        settings->storage = nixery_storage_directory(registry->directory,
                                                     &registry->error);
    }

    return settings->storage ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_nixery_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                     i;
    nixery_storage_t              *storage;
    ngx_http_nixery_registry_t   **registry;
    ngx_http_nixery_main_conf_t   *nmcf;

    nmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_nixery_module);

    if (nmcf == NULL || ngx_http_nixery_job_free_all(nmcf) != NGX_OK) {
        return;
    }

    registry = nmcf->registries.elts;

    for (i = 0; i < nmcf->registries.nelts; i++) {
        storage = registry[i]->settings.storage;

        if (storage != NULL) {
            storage->free(storage);
        }

        nixery_popularity_release(registry[i]->popularity);

        if (registry[i]->settings.popularity != NULL) {
            nixery_popularity_source_free(registry[i]->settings.popularity);
        }

        nixery_error_free(&registry[i]->error);
    }
}


static void
ngx_http_nixery_exit_builds(ngx_cycle_t *cycle)
{
    ngx_http_nixery_main_conf_t  *nmcf;

    nmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_nixery_module);

    if (nmcf != NULL) {
        ngx_http_nixery_job_cancel_all(nmcf);
    }
}


static void *
ngx_http_nixery_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_nixery_main_conf_t  *nmcf;

    nmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_nixery_main_conf_t));
    if (nmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&nmcf->locations, cf->pool, 4,
                       sizeof(ngx_http_nixery_loc_conf_t *))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&nmcf->registries, cf->pool, 4,
                       sizeof(ngx_http_nixery_registry_t *))
        != NGX_OK)
    {
        return NULL;
    }

    ngx_rbtree_init(&nmcf->jobs, &nmcf->sentinel,
                    ngx_str_rbtree_insert_value);

    return nmcf;
}


static void *
ngx_http_nixery_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_nixery_loc_conf_t  *nlcf;

    nlcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_nixery_loc_conf_t));
    if (nlcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     nlcf->nixery = { { 0, NULL }, NULL, NULL, 0 };
     *     nlcf->packages = { { { 0, NULL }, NULL, NULL, 0 }, 0, ... };
     *     nlcf->channel_url = { { 0, NULL }, NULL, NULL, 0 };
     *     nlcf->builder = { { 0, NULL }, NULL, NULL, 0 };
     *     nlcf->storage = { { 0, NULL }, NULL, NULL, 0 };
     *     nlcf->nix_build = { { 0, NULL }, NULL, NULL, 0 };
     *     nlcf->temp_path = { { 0, NULL }, NULL, NULL, 0 };
     *     nlcf->use_stale = 0;
     *     nlcf->popularity = { { 0, NULL }, NULL, NULL, 0 };
     *     nlcf->registry = NULL;
     */

    nlcf->env = NGX_CONF_UNSET_PTR;
    nlcf->options = NGX_CONF_UNSET_PTR;
    nlcf->metas = NGX_CONF_UNSET_PTR;
    nlcf->build_timeout = NGX_CONF_UNSET_MSEC;
    nlcf->cache_valid = NGX_CONF_UNSET_MSEC;
    nlcf->max_layers = NGX_CONF_UNSET;
    nlcf->thread_pool = NGX_CONF_UNSET_PTR;

    return nlcf;
}


static char *
ngx_http_nixery_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_nixery_loc_conf_t *prev = parent;
    ngx_http_nixery_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_nixery_loc_conf_t   **location;
    ngx_http_nixery_main_conf_t   *nmcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* "if" and "limit_except" are a part of the location they stand in */

    if (clcf->noname && conf->nixery.value.data == NULL) {
        conf->nixery = prev->nixery;

        if (clcf->lmt_excpt && clcf->handler == NULL
            && conf->nixery.value.data != NULL)
        {
            clcf->handler = ngx_http_nixery_handler;
        }
    }

    if (conf->packages.name.value.data == NULL) {
        conf->packages = prev->packages;
    }

    ngx_http_nixery_merge_value(&conf->channel_url, &prev->channel_url);
    ngx_http_nixery_merge_value(&conf->builder, &prev->builder);
    ngx_http_nixery_merge_value(&conf->storage, &prev->storage);
    ngx_http_nixery_merge_value(&conf->nix_build, &prev->nix_build);
    ngx_http_nixery_merge_value(&conf->temp_path, &prev->temp_path);
    ngx_http_nixery_merge_value(&conf->popularity, &prev->popularity);

    ngx_conf_merge_ptr_value(conf->env, prev->env, NULL);
    ngx_conf_merge_ptr_value(conf->options, prev->options, NULL);
    ngx_conf_merge_ptr_value(conf->metas, prev->metas, NULL);
    ngx_conf_merge_msec_value(conf->build_timeout, prev->build_timeout,
                              NGX_CONF_UNSET_MSEC);
    ngx_conf_merge_msec_value(conf->cache_valid, prev->cache_valid,
                              5 * 60 * 1000);
    ngx_conf_merge_bitmask_value(conf->use_stale, prev->use_stale,
                                 NGX_HTTP_NIXERY_STALE_OFF);

    ngx_conf_merge_value(conf->max_layers, prev->max_layers,
                         NGX_HTTP_NIXERY_LAYERS);
    ngx_conf_merge_ptr_value(conf->thread_pool, prev->thread_pool, NULL);

    if (conf->nixery.value.data == NULL) {
        return NGX_CONF_OK;
    }

    nmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_nixery_module);

    location = ngx_array_push(&nmcf->locations);
    if (location == NULL) {
        return NGX_CONF_ERROR;
    }

    *location = conf;

    return NGX_CONF_OK;
}


static void
ngx_http_nixery_merge_value(ngx_http_nixery_value_t *value,
    ngx_http_nixery_value_t *prev)
{
    if (value->value.data == NULL) {
        *value = *prev;
    }
}
