
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


#define NGX_HTTP_NIXERY_PATH                                                 \
    "/usr/local/bin:/usr/bin:/bin:/nix/var/nix/profiles/default/bin"


static ngx_int_t ngx_http_nixery_init_location(ngx_conf_t *cf,
    ngx_http_nixery_main_conf_t *nmcf, ngx_http_nixery_loc_conf_t *nlcf);
static ngx_int_t ngx_http_nixery_required(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_value_t *value,
    const char *directive, const char *example);
static ngx_int_t ngx_http_nixery_defaults(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);
static ngx_http_nixery_registry_t *ngx_http_nixery_registry(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);
static const char *ngx_http_nixery_tool(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, const char *name);
static const char *ngx_http_nixery_system(ngx_conf_t *cf,
    ngx_array_t *options);
static char **ngx_http_nixery_env(ngx_conf_t *cf, ngx_array_t *pairs);
static char **ngx_http_nixery_options(ngx_conf_t *cf, ngx_array_t *pairs);
static ngx_uint_t ngx_http_nixery_alike(ngx_http_nixery_loc_conf_t *one,
    ngx_http_nixery_loc_conf_t *two);
static ngx_uint_t ngx_http_nixery_same(ngx_http_nixery_value_t *one,
    ngx_http_nixery_value_t *two);
static ngx_uint_t ngx_http_nixery_same_packages(
    ngx_http_nixery_packages_t *one, ngx_http_nixery_packages_t *two);
static ngx_uint_t ngx_http_nixery_same_string(ngx_str_t *one,
    ngx_str_t *two);
static ngx_uint_t ngx_http_nixery_same_pairs(ngx_array_t *one,
    ngx_array_t *two);
static ngx_thread_pool_t *ngx_http_nixery_thread_pool(ngx_conf_t *cf);


char *
ngx_http_nixery_init_conf(ngx_cycle_t *cycle, void *conf)
{
    ngx_uint_t                     i;
    ngx_conf_t                     cf;
    ngx_conf_file_t                file;
    ngx_http_nixery_loc_conf_t   **location;
    ngx_http_nixery_main_conf_t   *nmcf;

    nmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_nixery_module);

    /* "nginx -s" reads the configuration only to learn where the pid is */

    if (nmcf == NULL || ngx_process == NGX_PROCESS_SIGNALLER) {
        return NGX_CONF_OK;
    }

    ngx_memzero(&cf, sizeof(ngx_conf_t));
    ngx_memzero(&file, sizeof(ngx_conf_file_t));

    cf.cycle = cycle;
    cf.pool = cycle->pool;
    cf.log = cycle->log;
    cf.ctx = cycle->conf_ctx;
    cf.conf_file = &file;
    cf.conf_file->file.name = cycle->conf_file;

    location = nmcf->locations.elts;

    for (i = 0; i < nmcf->locations.nelts; i++) {
        if (ngx_http_nixery_init_location(&cf, nmcf, location[i]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_nixery_init_location(ngx_conf_t *cf,
    ngx_http_nixery_main_conf_t *nmcf, ngx_http_nixery_loc_conf_t *nlcf)
{
    ngx_uint_t                     i;
    ngx_http_nixery_loc_conf_t   **location;
    ngx_http_nixery_registry_t   **registry;

    if (ngx_http_nixery_environment(cf, nmcf, nlcf) != NGX_OK
        || ngx_http_nixery_required(cf, nlcf, &nlcf->storage,
                                    "nixery_storage", "directory PATH")
           != NGX_OK
        || ngx_http_nixery_defaults(cf, nlcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    location = nmcf->locations.elts;

    for (i = 0; location[i] != nlcf; i++) {
        if (ngx_http_nixery_alike(location[i], nlcf)) {
            nlcf->registry = location[i]->registry;
            return NGX_OK;
        }
    }

    registry = ngx_array_push(&nmcf->registries);
    if (registry == NULL) {
        return NGX_ERROR;
    }

    *registry = ngx_http_nixery_registry(cf, nlcf);
    if (*registry == NULL) {
        return NGX_ERROR;
    }

    nlcf->registry = *registry;

    return ngx_http_nixery_check(cf, nlcf);
}


static ngx_int_t
ngx_http_nixery_required(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf,
    ngx_http_nixery_value_t *value, const char *directive, const char *example)
{
    if (value->value.data != NULL) {
        return NGX_OK;
    }

    ngx_http_nixery_conf_error(cf, nlcf, &nlcf->nixery, 0,
                               "\"nixery\" needs \"%s\", "
                               "add \"%s %s;\" to this location or around it",
                               directive, directive, example);
    return NGX_ERROR;
}


static ngx_int_t
ngx_http_nixery_defaults(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf)
{
    char  *path;

    if (nlcf->builder.value.data == NULL) {
        ngx_str_set(&nlcf->builder.value, NGX_HTTP_NIXERY_BUILDER);

        if (ngx_conf_full_name(cf->cycle, &nlcf->builder.value, 0) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (nlcf->temp_path.value.data == NULL) {
        ngx_str_set(&nlcf->temp_path.value, NGX_HTTP_NIXERY_TEMP_PATH);

        if (ngx_conf_full_name(cf->cycle, &nlcf->temp_path.value, 0)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    /* not when merged: the environment comes before */

    if (nlcf->build_timeout == NGX_CONF_UNSET_MSEC) {
        nlcf->build_timeout = NGX_HTTP_NIXERY_TIMEOUT;
    }

    if (nlcf->nix_build.value.data == NULL) {
        ngx_str_set(&nlcf->nix_build.value, "nix-build");
    }

    if (nlcf->packages.name.value.data == NULL) {
        nlcf->packages.kind = NIXERY_SOURCE_CHANNEL;
        ngx_str_set(&nlcf->packages.name.value, NGX_HTTP_NIXERY_CHANNEL);

        ngx_http_nixery_conf_log(NGX_LOG_NOTICE, cf, nlcf, &nlcf->nixery, 0,
                                 "no \"nixery_packages\" is set, packages "
                                 "come from channel \"%V\"",
                                 &nlcf->packages.name.value);
    }

    if (nlcf->channel_url.value.data == NULL) {
        ngx_str_set(&nlcf->channel_url.value, NGX_HTTP_NIXERY_CHANNEL_URL);
    }

    if (nlcf->nix_build.value.data[0] == '/') {
        return NGX_OK;
    }

    path = ngx_http_nixery_find_program(cf, &nlcf->nix_build.value);

    if (path == NULL) {
        ngx_http_nixery_conf_error(cf, nlcf, &nlcf->nix_build, 0,
                                   "no program \"%V\" in PATH, install Nix "
                                   "or set \"nixery_nix_build\" to its full "
                                   "path", &nlcf->nix_build.value);
        return NGX_ERROR;
    }

    nlcf->nix_build.value.data = (u_char *) path;
    nlcf->nix_build.value.len = ngx_strlen(path);

    return NGX_OK;
}


/* As execvp() would do it, which the workers can't: they have no PATH. */

char *
ngx_http_nixery_find_program(ngx_conf_t *cf, ngx_str_t *name)
{
    char             *path;
    u_char           *p, *end, *last, *file;
    ngx_file_info_t   fi;

    path = getenv("PATH");

    /* a binary that was upgraded on the fly has got no environment */

    if (path == NULL || *path == '\0') {
        path = NGX_HTTP_NIXERY_PATH;
    }

    last = (u_char *) path + ngx_strlen(path);

    for (p = (u_char *) path; p <= last; p = end + 1) {
        end = ngx_strlchr(p, last, ':');

        if (end == NULL) {
            end = last;
        }

        if (*p != '/') {
            continue;
        }

        file = ngx_pnalloc(cf->pool, end - p + 1 + name->len + 1);
        if (file == NULL) {
            return NULL;
        }

        (void) ngx_sprintf(file, "%*s/%V%Z", (size_t) (end - p), p, name);

        if (access((char *) file, X_OK) == 0
            && ngx_file_info(file, &fi) != NGX_FILE_ERROR && ngx_is_file(&fi))
        {
            return (char *) file;
        }
    }

    return NULL;
}


static ngx_http_nixery_registry_t *
ngx_http_nixery_registry(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf)
{
    nixery_settings_t           *settings;
    ngx_http_nixery_registry_t  *registry;

    registry = ngx_pcalloc(cf->pool, sizeof(ngx_http_nixery_registry_t));
    if (registry == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     registry->error = { NIXERY_ERROR_NONE };
     *     registry->settings.storage = NULL;
     *     registry->settings.builder_id = NULL;
     *     registry->settings.metas = NULL;
     *     registry->settings.threads = 0;
     *     registry->settings.popularity = NULL;
     */

    registry->directory = (char *) nlcf->storage.value.data;

    registry->thread_pool = nlcf->thread_pool
                                ? nlcf->thread_pool
                                : ngx_http_nixery_thread_pool(cf);

    if (registry->thread_pool == NULL) {
        return NULL;
    }

    settings = &registry->settings;

    settings->nix.program = (char *) nlcf->nix_build.value.data;
    settings->nix.builder = (char *) nlcf->builder.value.data;
    settings->nix.timeout = nlcf->build_timeout;
    settings->temp_path = (char *) nlcf->temp_path.value.data;
    settings->max_layers = nlcf->max_layers;

    settings->nix.system = ngx_http_nixery_system(cf, nlcf->options);
    if (settings->nix.system == NULL) {
        return NULL;
    }

    if (nlcf->env != NULL) {
        settings->nix.env = ngx_http_nixery_env(cf, nlcf->env);
        if (settings->nix.env == NULL) {
            return NULL;
        }
    }

    if (nlcf->options != NULL) {
        settings->nix.options = ngx_http_nixery_options(cf, nlcf->options);
        if (settings->nix.options == NULL) {
            return NULL;
        }
    }

    if (nlcf->metas != NULL) {
        settings->metas = ngx_http_nixery_metas(cf, nlcf->metas);
        if (settings->metas == NULL) {
            return NULL;
        }
    }

    settings->nix.source = ngx_http_nixery_source(cf, nlcf);
    if (settings->nix.source == NULL) {
        return NULL;
    }

    settings->nix.prefetch = ngx_http_nixery_tool(cf, nlcf,
                                                  "nix-prefetch-url");
    settings->nix.git = ngx_http_nixery_tool(cf, nlcf, "git");

    if (settings->nix.git == NULL && nlcf->packages.kind == NIXERY_SOURCE_GIT)
    {
        ngx_http_nixery_conf_error(cf, nlcf, &nlcf->packages.name, 0,
                                   "no program \"git\" in PATH, which "
                                   "\"nixery_packages git\" needs");
        return NULL;
    }

    if (ngx_http_nixery_popularity(cf, nlcf, settings) != NGX_OK) {
        return NULL;
    }

    return registry;
}


/* As Nix itself looks for it: beside nix-build, else in PATH; NULL: nowhere. */

static const char *
ngx_http_nixery_tool(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf,
    const char *name)
{
    char       *slash;
    u_char     *path;
    size_t      len;
    ngx_str_t   tool;

    slash = strrchr((char *) nlcf->nix_build.value.data, '/');
    len = (u_char *) slash + 1 - nlcf->nix_build.value.data;

    tool.data = (u_char *) name;
    tool.len = ngx_strlen(name);

    path = ngx_pnalloc(cf->pool, len + tool.len + 1);
    if (path == NULL) {
        return NULL;
    }

    (void) ngx_sprintf(path, "%*s%V%Z", len, nlcf->nix_build.value.data,
                       &tool);

    if (access((char *) path, X_OK) == 0) {
        return (char *) path;
    }

    return ngx_http_nixery_find_program(cf, &tool);
}


/* What Nix builds for unless it is told: its setting, or this machine. */

static const char *
ngx_http_nixery_system(ngx_conf_t *cf, ngx_array_t *options)
{
    u_char          *system;
    size_t           len;
    ngx_uint_t       i;
    ngx_keyval_t    *option;
    struct utsname   u;

    option = options != NULL ? options->elts : NULL;

    for (i = 0; options != NULL && i < options->nelts; i++) {
        if (ngx_strcmp(option[i].key.data, "system") == 0) {
            return (char *) option[i].value.data;
        }
    }

    if (uname(&u) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, ngx_errno, "uname() failed");
        return NULL;
    }

    len = ngx_strlen(u.machine);

    system = ngx_pnalloc(cf->pool, len + sizeof("-linux"));
    if (system == NULL) {
        return NULL;
    }

    (void) ngx_sprintf(system, "%s-linux%Z", u.machine);

    return (char *) system;
}


static char **
ngx_http_nixery_env(ngx_conf_t *cf, ngx_array_t *pairs)
{
    char          **env;
    u_char         *p;
    ngx_uint_t      i;
    ngx_keyval_t   *pair;

    env = ngx_pcalloc(cf->pool, (pairs->nelts + 1) * sizeof(char *));
    if (env == NULL) {
        return NULL;
    }

    pair = pairs->elts;

    for (i = 0; i < pairs->nelts; i++) {
        p = ngx_pnalloc(cf->pool, pair[i].key.len + pair[i].value.len + 2);
        if (p == NULL) {
            return NULL;
        }

        (void) ngx_sprintf(p, "%V=%V%Z", &pair[i].key, &pair[i].value);

        env[i] = (char *) p;
    }

    return env;
}


static char **
ngx_http_nixery_options(ngx_conf_t *cf, ngx_array_t *pairs)
{
    char          **options;
    ngx_uint_t      i;
    ngx_keyval_t   *pair;

    options = ngx_pcalloc(cf->pool, (2 * pairs->nelts + 1) * sizeof(char *));
    if (options == NULL) {
        return NULL;
    }

    pair = pairs->elts;

    for (i = 0; i < pairs->nelts; i++) {
        options[2 * i] = (char *) pair[i].key.data;
        options[2 * i + 1] = (char *) pair[i].value.data;
    }

    return options;
}


static ngx_uint_t
ngx_http_nixery_alike(ngx_http_nixery_loc_conf_t *one,
    ngx_http_nixery_loc_conf_t *two)
{
    return ngx_http_nixery_same_pairs(one->env, two->env)
           && ngx_http_nixery_same_pairs(one->options, two->options)
           && ngx_http_nixery_same_metas(one->metas, two->metas)
           && one->build_timeout == two->build_timeout
           && one->max_layers == two->max_layers
           && one->thread_pool == two->thread_pool
           && ngx_http_nixery_same_packages(&one->packages, &two->packages)
           && ngx_http_nixery_same(&one->channel_url, &two->channel_url)
           && ngx_http_nixery_same(&one->builder, &two->builder)
           && ngx_http_nixery_same(&one->storage, &two->storage)
           && ngx_http_nixery_same(&one->nix_build, &two->nix_build)
           && ngx_http_nixery_same(&one->temp_path, &two->temp_path)
           && ngx_http_nixery_same(&one->popularity, &two->popularity);
}


static ngx_uint_t
ngx_http_nixery_same(ngx_http_nixery_value_t *one,
    ngx_http_nixery_value_t *two)
{
    if (one->value.data == NULL || two->value.data == NULL) {
        return one->value.data == two->value.data;
    }

    return ngx_strcmp(one->value.data, two->value.data) == 0;
}


static ngx_uint_t
ngx_http_nixery_same_packages(ngx_http_nixery_packages_t *one,
    ngx_http_nixery_packages_t *two)
{
    return one->kind == two->kind
           && one->submodules == two->submodules
           && ngx_http_nixery_same(&one->name, &two->name)
           && ngx_http_nixery_same_string(&one->ref, &two->ref)
           && ngx_http_nixery_same_string(&one->credentials,
                                          &two->credentials)
           && ngx_http_nixery_same_string(&one->key, &two->key)
           && ngx_http_nixery_same_string(&one->known_hosts,
                                          &two->known_hosts);
}


static ngx_uint_t
ngx_http_nixery_same_string(ngx_str_t *one, ngx_str_t *two)
{
    return one->len == two->len
           && ngx_memcmp(one->data, two->data, one->len) == 0;
}


/* In the same order, as a file that is included twice has them. */

static ngx_uint_t
ngx_http_nixery_same_pairs(ngx_array_t *one, ngx_array_t *two)
{
    ngx_uint_t     i;
    ngx_keyval_t  *a, *b;

    if (one == NULL || two == NULL || one->nelts != two->nelts) {
        return one == two;
    }

    a = one->elts;
    b = two->elts;

    for (i = 0; i < one->nelts; i++) {
        if (ngx_strcmp(a[i].key.data, b[i].key.data) != 0
            || ngx_strcmp(a[i].value.data, b[i].value.data) != 0)
        {
            return 0;
        }
    }

    return 1;
}


/*
 * Defines the default pool, unless the operator did, by the directive that an
 * operator would: only its own module knows what a pool looks like.
 */

static ngx_thread_pool_t *
ngx_http_nixery_thread_pool(ngx_conf_t *cf)
{
    u_char              threads[sizeof("threads=") + NGX_INT_T_LEN];
    ngx_str_t           args[4], name;
    ngx_conf_t          pcf;
    ngx_uint_t          i;
    ngx_array_t         array;
    ngx_module_t      **modules;
    ngx_command_t      *cmd;
    ngx_thread_pool_t  *tp;

    ngx_str_set(&name, NGX_HTTP_NIXERY_POOL);

    tp = ngx_thread_pool_get(cf->cycle, &name);

    if (tp != NULL) {
        return tp;
    }

    modules = cf->cycle->modules;

    for (i = 0; ngx_strcmp(modules[i]->name, "ngx_thread_pool_module") != 0;
         i++)
    {
        /* void */
    }

    cmd = modules[i]->commands;

    args[0] = cmd->name;
    args[1] = name;
    args[2].data = threads;
    args[2].len = ngx_sprintf(threads, "threads=%i", 2 * ngx_ncpu) - threads;
    ngx_str_set(&args[3], "max_queue=100");

    ngx_memzero(&array, sizeof(ngx_array_t));

    array.elts = args;
    array.nelts = 4;

    pcf = *cf;
    pcf.args = &array;

    if (cmd->set(&pcf, cmd, NULL) != NGX_CONF_OK) {
        return NULL;
    }

    return ngx_thread_pool_get(cf->cycle, &name);
}
