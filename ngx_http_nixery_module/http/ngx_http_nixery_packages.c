
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include "nixery_url.h"


#define NGX_HTTP_NIXERY_CHANNEL_SCHEMES  "https http"

/* a password, a user that is one, a query, and NULL */
#define NGX_HTTP_NIXERY_SECRETS  4


static char *ngx_http_nixery_packages_kind(ngx_conf_t *cf,
    ngx_http_nixery_packages_t *packages, ngx_str_t *kind, ngx_str_t *name);
static char *ngx_http_nixery_packages_parameter(ngx_conf_t *cf,
    ngx_http_nixery_packages_t *packages, ngx_str_t *value);
static ngx_int_t ngx_http_nixery_valid_channel(ngx_str_t *name);
static ngx_int_t ngx_http_nixery_valid_ref(ngx_str_t *ref);
static char *ngx_http_nixery_check_url(ngx_conf_t *cf, ngx_str_t *directive,
    ngx_str_t *value, const char *schemes);
static ngx_int_t ngx_http_nixery_source_path(nixery_source_t *source);
static ngx_int_t ngx_http_nixery_source_url(ngx_conf_t *cf,
    nixery_source_t *source, ngx_str_t *value, const char *schemes);
static ngx_int_t ngx_http_nixery_source_secrets(ngx_conf_t *cf,
    nixery_source_t *source, nixery_url_t *url);
static ngx_int_t ngx_http_nixery_source_shown(ngx_conf_t *cf,
    nixery_source_t *source, const char *shown);
static char *ngx_http_nixery_source_archive(char *url);
static char *ngx_http_nixery_copy(ngx_conf_t *cf, const char *text);
static const char *ngx_http_nixery_file(ngx_str_t *name);


char *
ngx_http_nixery_set_packages(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_nixery_loc_conf_t *nlcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    if (nlcf->packages.name.value.data != NULL) {
        return "is duplicate";
    }

    rv = ngx_http_nixery_packages_kind(cf, &nlcf->packages, &value[1],
                                       &value[2]);

    for (i = 3; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {
        rv = ngx_http_nixery_packages_parameter(cf, &nlcf->packages,
                                                &value[i]);
    }

    return rv;
}


char *
ngx_http_nixery_set_channel_url(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_nixery_loc_conf_t *nlcf = conf;

    char       *p, *slash;
    ngx_str_t  *value;

    static const char  place[] = NIXERY_CHANNEL_NAME;

    value = cf->args->elts;

    p = ngx_strstr(value[1].data, place);
    slash = ngx_strstr(value[1].data, "://");

    if (slash != NULL) {
        slash += 3 + strcspn(slash + 3, "/?#");
    }

    if (p == NULL || slash == NULL || *slash != '/' || slash > p
        || ngx_strstr(p + sizeof(place) - 1, place) != NULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"nixery_channel_url\" must have \"%s\" once "
                           "behind its host, in place of the channel's name",
                           place);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_nixery_check_url(cf, &cmd->name, &value[1],
                                  NGX_HTTP_NIXERY_CHANNEL_SCHEMES)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_http_nixery_set_value(cf, &nlcf->channel_url, &value[1]);
}


static char *
ngx_http_nixery_packages_kind(ngx_conf_t *cf,
    ngx_http_nixery_packages_t *packages, ngx_str_t *kind, ngx_str_t *name)
{
    char       *rv;
    ngx_str_t   directive;

    ngx_str_set(&directive, "nixery_packages");

    /* which may have a password, that the errors below would show */

    if (ngx_strstr(kind->data, "://") != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"nixery_packages\" needs a kind before its URL, "
                           "which \"git\" is");
        return NGX_CONF_ERROR;
    }

    if (ngx_strstr(name->data, "://") != NULL
        && (ngx_strcmp(kind->data, "path") == 0
            || ngx_strcmp(kind->data, "channel") == 0))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"nixery_packages %V\" takes no URL, "
                           "\"nixery_packages git\" does", kind);
        return NGX_CONF_ERROR;
    }

    if (ngx_strcmp(kind->data, "path") == 0) {
        packages->kind = NIXERY_SOURCE_PATH;

        if (name->len == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "empty path in \"nixery_packages\"");
            return NGX_CONF_ERROR;
        }

        rv = ngx_http_nixery_set_value(cf, &packages->name, name);

        return rv == NGX_CONF_OK ? ngx_http_nixery_full_path(cf,
                                                       &packages->name.value)
                                 : rv;
    }

    if (ngx_strcmp(kind->data, "channel") == 0) {
        packages->kind = NIXERY_SOURCE_CHANNEL;

        if (ngx_http_nixery_valid_channel(name) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid channel \"%V\", a channel, branch or "
                               "commit has letters, digits, \"-\", \"_\" and "
                               "\".\", and begins with a letter or digit",
                               name);
            return NGX_CONF_ERROR;
        }

        return ngx_http_nixery_set_value(cf, &packages->name, name);
    }

    if (ngx_strcmp(kind->data, "git") == 0) {
        packages->kind = NIXERY_SOURCE_GIT;

        rv = ngx_http_nixery_check_url(cf, &directive, name,
                                       NGX_HTTP_NIXERY_GIT_SCHEMES);

        return rv == NGX_CONF_OK ? ngx_http_nixery_set_value(cf,
                                                       &packages->name, name)
                                 : rv;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "unknown kind \"%V\" of \"nixery_packages\", known are "
                       "\"path\", \"git\" and \"channel\"", kind);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_nixery_packages_parameter(ngx_conf_t *cf,
    ngx_http_nixery_packages_t *packages, ngx_str_t *value)
{
    size_t       len;
    ngx_str_t   *file;
    ngx_uint_t   i;

    static ngx_str_t  files[] = {
        ngx_string("credentials="),
        ngx_string("key="),
        ngx_string("known_hosts=")
    };

    if (packages->kind != NIXERY_SOURCE_GIT) {
        goto invalid;
    }

    if (ngx_strcmp(value->data, "submodules=on") == 0) {
        packages->submodules = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value->data, "submodules=off") == 0) {
        packages->submodules = 0;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "ref=", 4) == 0) {
        packages->ref.data = value->data + 4;
        packages->ref.len = value->len - 4;

        if (ngx_http_nixery_valid_ref(&packages->ref) == NGX_OK) {
            return NGX_CONF_OK;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\", it is a branch, a tag, "
                           "\"refs/...\" or the 40 digits of a commit", value);
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < 3; i++) {
        if (ngx_strncmp(value->data, files[i].data, files[i].len) != 0
            || value->len == files[i].len)
        {
            continue;
        }

        file = i == 0   ? &packages->credentials
               : i == 1 ? &packages->key
                        : &packages->known_hosts;

        file->data = value->data + files[i].len;
        file->len = value->len - files[i].len;

        return ngx_http_nixery_full_path(cf, file);
    }

invalid:

    len = strcspn((char *) value->data, "=:/@");

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%*s%s\" of \"nixery_packages\"",
                       len, value->data, len < value->len ? "..." : "");

    return NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_nixery_valid_channel(ngx_str_t *name)
{
    u_char      c;
    ngx_uint_t  i;

    for (i = 0; i < name->len; i++) {
        c = name->data[i];

        if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
            || (i > 0 && (c == '-' || c == '_' || c == '.')))
        {
            continue;
        }

        return NGX_ERROR;
    }

    return name->len > 0 && name->len <= NIXERY_REF_MAX ? NGX_OK : NGX_ERROR;
}


/* A short name is one of a branch or a tag. */

static ngx_int_t
ngx_http_nixery_valid_ref(ngx_str_t *ref)
{
    char    full[NIXERY_REF_MAX + 1];
    size_t  len;

    if (ngx_strncmp(ref->data, "refs/", 5) == 0) {
        return nixery_ref_valid((char *) ref->data, ref->len) ? NGX_OK
                                                              : NGX_ERROR;
    }

    len = sizeof("refs/heads/") - 1 + ref->len;

    if (ref->len == 0 || ref->data[0] == '-' || len > NIXERY_REF_MAX) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf((u_char *) full, "refs/heads/%V%Z", ref);

    return nixery_ref_valid(full, len) ? NGX_OK : NGX_ERROR;
}


static char *
ngx_http_nixery_check_url(ngx_conf_t *cf, ngx_str_t *directive,
    ngx_str_t *value, const char *schemes)
{
    char            *rv;
    nixery_url_t     url;
    nixery_error_t   err;

    ngx_memzero(&err, sizeof(nixery_error_t));

    if (nixery_url_parse(&url, (char *) value->data, schemes, &err)
        != NIXERY_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid URL in \"%V\": %s",
                           directive, err.message);
        nixery_error_free(&err);
        return NGX_CONF_ERROR;
    }

    rv = NGX_CONF_OK;

    /* git puts its own behind it, and would show this one */

    if (ngx_strcmp(schemes, NGX_HTTP_NIXERY_GIT_SCHEMES) == 0
        && ngx_strcmp(url.bare, url.shown) != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid URL in \"%V\": a git "
                           "repository's has no \"?\" and no \"#\"", directive);
        rv = NGX_CONF_ERROR;
    }

    nixery_url_free(&url);

    return rv;
}


const nixery_source_t *
ngx_http_nixery_source(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf)
{
    ngx_int_t                    rc;
    nixery_source_t             *source;
    ngx_http_nixery_packages_t  *packages;

    packages = &nlcf->packages;

    source = ngx_pcalloc(cf->pool, sizeof(nixery_source_t));
    if (source == NULL) {
        return NULL;
    }

    source->kind = packages->kind;
    source->name = (char *) packages->name.value.data;
    source->ref = ngx_http_nixery_file(&packages->ref);
    source->credentials = ngx_http_nixery_file(&packages->credentials);
    source->key = ngx_http_nixery_file(&packages->key);
    source->known_hosts = ngx_http_nixery_file(&packages->known_hosts);
    source->submodules = packages->submodules;

    switch (source->kind) {

    case NIXERY_SOURCE_PATH:
        rc = ngx_http_nixery_source_path(source);
        break;

    case NIXERY_SOURCE_CHANNEL:
        rc = ngx_http_nixery_source_url(cf, source, &nlcf->channel_url.value,
                                        NGX_HTTP_NIXERY_CHANNEL_SCHEMES);
        break;

    default: /* NIXERY_SOURCE_GIT */
        rc = ngx_http_nixery_source_url(cf, source, &packages->name.value,
                                        NGX_HTTP_NIXERY_GIT_SCHEMES);
    }

    return rc == NGX_OK ? source : NULL;
}


static ngx_int_t
ngx_http_nixery_source_path(nixery_source_t *source)
{
    char  *real;

    /* a link from elsewhere may lead to another set tomorrow */

    if (nixery_in_store(source->name)) {
        real = realpath(source->name, NULL);

        source->immutable = real != NULL && nixery_in_store(real);

        free(real);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_source_url(ngx_conf_t *cf, nixery_source_t *source,
    ngx_str_t *value, const char *schemes)
{
    ngx_int_t       rc;
    nixery_url_t    url;
    nixery_error_t  err;

    ngx_memzero(&err, sizeof(nixery_error_t));

    if (nixery_url_parse(&url, (char *) value->data, schemes, &err)
        != NIXERY_OK)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s", err.message);
        nixery_error_free(&err);
        return NGX_ERROR;
    }

    rc = ngx_http_nixery_source_secrets(cf, source, &url);

    if (rc == NGX_OK) {
        rc = ngx_http_nixery_source_shown(cf, source, url.shown);
    }

    if (rc == NGX_OK) {
        if (source->kind == NIXERY_SOURCE_CHANNEL) {
            source->url = ngx_http_nixery_copy(cf, url.bare);
            rc = source->url ? NGX_OK : NGX_ERROR;

        } else {
            source->name = ngx_http_nixery_copy(cf, url.bare);
            rc = source->name ? NGX_OK : NGX_ERROR;
        }
    }

    nixery_url_free(&url);

    return rc;
}


static ngx_int_t
ngx_http_nixery_source_secrets(ngx_conf_t *cf, nixery_source_t *source,
    nixery_url_t *url)
{
    size_t        len;
    ngx_uint_t    n;
    const char  **secrets;

    secrets = ngx_pcalloc(cf->pool, NGX_HTTP_NIXERY_SECRETS * sizeof(char *));
    if (secrets == NULL) {
        return NGX_ERROR;
    }

    n = 0;

    if (url->user != NULL) {
        source->user = ngx_http_nixery_copy(cf, url->user);
        source->password = ngx_http_nixery_copy(cf, url->password);

        if (source->user == NULL || source->password == NULL) {
            return NGX_ERROR;
        }

        secrets[n++] = *source->password ? source->password : source->user;
    }

    len = ngx_strlen(url->shown);

    if (url->bare[len] != '\0') {
        secrets[n] = ngx_http_nixery_copy(cf, url->bare + len + 1);

        if (secrets[n++] == NULL) {
            return NGX_ERROR;
        }
    }

    source->secrets = secrets;

    return NGX_OK;
}


/*
 * A channel's is the same whatever its name: the repository that has an
 * archive, else the folder where channels are.
 */

static ngx_int_t
ngx_http_nixery_source_shown(ngx_conf_t *cf, nixery_source_t *source,
    const char *shown)
{
    char  *copy, *place, *end;

    copy = ngx_http_nixery_copy(cf, shown);
    if (copy == NULL) {
        return NGX_ERROR;
    }

    source->shown = copy;

    if (source->kind != NIXERY_SOURCE_CHANNEL) {
        return NGX_OK;
    }

    place = strstr(copy, NIXERY_CHANNEL_NAME);

    /* its name stands in the query */

    if (place == NULL) {
        return NGX_OK;
    }

    *place = '\0';

    end = ngx_http_nixery_source_archive(copy);

    if (end != NULL) {
        *end = '\0';
        source->archive = 1;
    }

    return NGX_OK;
}


/*
 * Where the URL of a repository ends in that of its archives, ".../archive/" or
 * GitLab's ".../-/archive/"; NULL: it is none of them.
 */

static char *
ngx_http_nixery_source_archive(char *url)
{
    char  *p, *path, *end;

    static const char  archive[] = "/archive/";

    path = strchr(strstr(url, "://") + 3, '/');
    end = NULL;

    for (p = strstr(path + 1, archive); p != NULL; p = strstr(p + 1, archive)) {
        end = p;
    }

    if (end != NULL && end - path > 2 && ngx_strncmp(end - 2, "/-", 2) == 0) {
        end -= 2;
    }

    return end;
}


static char *
ngx_http_nixery_copy(ngx_conf_t *cf, const char *text)
{
    u_char     *p;
    ngx_str_t   s;

    s.data = (u_char *) text;
    s.len = ngx_strlen(text) + 1;

    p = ngx_pstrdup(cf->pool, &s);

    return (char *) p;
}


static const char *
ngx_http_nixery_file(ngx_str_t *name)
{
    return name->len ? (char *) name->data : NULL;
}
