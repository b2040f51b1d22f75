
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


/* What the master gives up to look at files as its workers will. */

typedef struct {
    gid_t           gid;
    int             ngroups;
    gid_t          *groups;
    ngx_uint_t      changed;
} ngx_http_nixery_identity_t;


static ngx_int_t ngx_http_nixery_make_directory(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_value_t *value,
    const char *directive);
static ngx_int_t ngx_http_nixery_check_all(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);
static ngx_int_t ngx_http_nixery_check_packages(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);
static ngx_int_t ngx_http_nixery_check_files(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);
static ngx_int_t ngx_http_nixery_check_builder(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);
static ngx_int_t ngx_http_nixery_check_program(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);
static ngx_int_t ngx_http_nixery_check_storage(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);
static ngx_int_t ngx_http_nixery_check_directory(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_value_t *value,
    const char *path, const char *what);
static ngx_err_t ngx_http_nixery_check_file(const char *path, int mode);
static ngx_int_t ngx_http_nixery_access(const char *path, int mode);
static ngx_int_t ngx_http_nixery_refuse(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_value_t *value,
    ngx_err_t err, const char *path, const char *what);
static ngx_uint_t ngx_http_nixery_has_user(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_nixery_become_worker(ngx_conf_t *cf,
    ngx_http_nixery_identity_t *id);
static void ngx_http_nixery_become_master(ngx_conf_t *cf,
    ngx_http_nixery_identity_t *id);


ngx_int_t
ngx_http_nixery_check(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf)
{
    ngx_int_t                   rc;
    ngx_http_nixery_identity_t  id;

    if (ngx_http_nixery_make_directory(cf, nlcf, &nlcf->storage,
                                       "nixery_storage")
        != NGX_OK
        || ngx_http_nixery_make_directory(cf, nlcf, &nlcf->temp_path,
                                          "nixery_temp_path")
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_nixery_become_worker(cf, &id) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_nixery_check_all(cf, nlcf);

    ngx_http_nixery_become_master(cf, &id);

    return rc;
}


/* Unlike ngx_create_paths() it leaves alone what exists already. */

static ngx_int_t
ngx_http_nixery_make_directory(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_value_t *value,
    const char *directive)
{
    char             *path;
    ngx_core_conf_t  *ccf;

    path = (char *) value->value.data;

    if (mkdir(path, 0700) == -1) {
        if (ngx_errno == NGX_EEXIST || access(path, F_OK) == 0) {
            return NGX_OK;
        }

        ngx_http_nixery_conf_error(cf, nlcf, value, ngx_errno,
                                   "\"%s\" can't make directory \"%s\", "
                                   "make it or name another one",
                                   directive, path);
        return NGX_ERROR;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);

    if (ngx_http_nixery_has_user(cf->cycle)
        && chown(path, ccf->user, (gid_t) -1) == -1)
    {
        ngx_http_nixery_conf_error(cf, nlcf, value, ngx_errno,
                                   "chown(\"%s\", %d) failed",
                                   path, ccf->user);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_check_all(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf)
{
    if (ngx_http_nixery_check_packages(cf, nlcf) != NGX_OK
        || ngx_http_nixery_check_builder(cf, nlcf) != NGX_OK
        || ngx_http_nixery_check_program(cf, nlcf) != NGX_OK
        || ngx_http_nixery_check_storage(cf, nlcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_nixery_check_popularity(cf, nlcf);

    return ngx_http_nixery_check_directory(cf, nlcf, &nlcf->temp_path,
                                   (char *) nlcf->temp_path.value.data,
                                   "\"nixery_temp_path\" must be a directory "
                                   "that the workers' user can write");
}


static ngx_int_t
ngx_http_nixery_check_packages(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf)
{
    char             *path;
    u_char           *file;
    ngx_err_t         err;
    ngx_str_t        *name;
    ngx_file_info_t   fi;

    if (nlcf->packages.kind != NIXERY_SOURCE_PATH) {
        return ngx_http_nixery_check_files(cf, nlcf);
    }

    name = &nlcf->packages.name.value;
    path = (char *) name->data;

    if (ngx_file_info(path, &fi) != NGX_FILE_ERROR && ngx_is_dir(&fi)) {

        file = ngx_pnalloc(cf->pool, name->len + sizeof("/default.nix"));
        if (file == NULL) {
            return NGX_ERROR;
        }

        (void) ngx_sprintf(file, "%V/default.nix%Z", name);

        path = (char *) file;
    }

    err = ngx_http_nixery_check_file(path, R_OK);

    if (err == 0) {
        return NGX_OK;
    }

    return ngx_http_nixery_refuse(cf, nlcf, &nlcf->packages.name, err, path,
                                  "\"nixery_packages path\" must be a "
                                  "directory with a default.nix, or a Nix "
                                  "file, that the workers' user can read");
}


/* What git and ssh are to read. */

static ngx_int_t
ngx_http_nixery_check_files(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf)
{
    ngx_str_t                   *file;
    ngx_err_t                    err;
    ngx_uint_t                   i;
    ngx_file_info_t              fi;
    ngx_http_nixery_packages_t  *packages;

    packages = &nlcf->packages;

    for (i = 0; i < 3; i++) {
        file = i == 0   ? &packages->credentials
               : i == 1 ? &packages->key
                        : &packages->known_hosts;

        if (file->len == 0) {
            continue;
        }

        err = ngx_http_nixery_check_file((char *) file->data, R_OK);

        if (err != 0) {
            return ngx_http_nixery_refuse(cf, nlcf, &packages->name, err,
                                          (char *) file->data,
                                          "\"nixery_packages git\" must name "
                                          "files that the workers' user can "
                                          "read");
        }
    }

    /* ssh refuses such a key, but its own user's only */

    if (packages->key.len
        && ngx_file_info(packages->key.data, &fi) != NGX_FILE_ERROR
        && fi.st_uid == geteuid() && (fi.st_mode & 077))
    {
        ngx_http_nixery_conf_error(cf, nlcf, &packages->name, 0,
                                   "ssh takes no key that others can read: "
                                   "\"%V\", run chmod 600", &packages->key);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_check_builder(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf)
{
    char  *path, *id;

    path = (char *) nlcf->builder.value.data;

    id = ngx_pnalloc(cf->pool, NIXERY_HEX_LEN + 1);
    if (id == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_nixery_builder_id(path, id) != NGX_OK) {
        return ngx_http_nixery_refuse(cf, nlcf, &nlcf->builder, ngx_errno,
                                      path, "\"nixery_builder\" must be a Nix "
                                      "file that the workers' user can read");
    }

    nlcf->registry->settings.builder_id = id;

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_check_program(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf)
{
    char       *path;
    ngx_err_t   err;

    path = (char *) nlcf->nix_build.value.data;

    err = ngx_http_nixery_check_file(path, X_OK);

    if (err == 0) {
        return NGX_OK;
    }

    return ngx_http_nixery_refuse(cf, nlcf, &nlcf->nix_build, err, path,
                                  "\"nixery_nix_build\" must be a program "
                                  "that the workers' user can execute");
}


/* Opening it makes its folders, as the user that is to write there. */

static ngx_int_t
ngx_http_nixery_check_storage(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf)
{
    char               *path;
    u_char              folder[NGX_MAX_PATH];
    ngx_uint_t          i;
    nixery_error_t      error;
    nixery_storage_t   *storage;

    static const char  *folders[] = {
        "/layers", "/manifests", "/builds", "/tmp"
    };
    static const char   what[] = "\"nixery_storage directory\" must be a "
                                 "directory that the workers' user can write";

    path = (char *) nlcf->storage.value.data;

    if (ngx_http_nixery_check_directory(cf, nlcf, &nlcf->storage, path, what)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_memzero(&error, sizeof(nixery_error_t));

    storage = nixery_storage_directory(path, &error);

    if (storage == NULL) {
        ngx_http_nixery_conf_error(cf, nlcf, &nlcf->storage, 0, "%s: %s", what,
                                   error.message);
        nixery_error_free(&error);
        return NGX_ERROR;
    }

    storage->free(storage);

    for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {

        (void) ngx_snprintf(folder, NGX_MAX_PATH, "%s%s%Z", path, folders[i]);
        folder[NGX_MAX_PATH - 1] = '\0';

        if (ngx_http_nixery_check_directory(cf, nlcf, &nlcf->storage,
                                            (char *) folder, what)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_nixery_check_directory(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_value_t *value,
    const char *path, const char *what)
{
    ngx_err_t        err;
    ngx_file_info_t  fi;

    err = 0;

    if (ngx_file_info(path, &fi) == NGX_FILE_ERROR) {
        err = ngx_errno;
    }

    if (err == 0 && !ngx_is_dir(&fi)) {
        err = NGX_ENOTDIR;
    }

    if (err == 0
        && ngx_http_nixery_access(path, R_OK|W_OK|X_OK) != NGX_OK)
    {
        err = ngx_errno;
    }

    if (err == 0) {
        return NGX_OK;
    }

    return ngx_http_nixery_refuse(cf, nlcf, value, err, path, what);
}


/* 0 for a regular file that can be used like that, else why not. */

static ngx_err_t
ngx_http_nixery_check_file(const char *path, int mode)
{
    ngx_file_info_t  fi;

    if (ngx_file_info(path, &fi) == NGX_FILE_ERROR) {
        return ngx_errno;
    }

    if (!ngx_is_file(&fi)) {
        return ngx_is_dir(&fi) ? NGX_EISDIR : NGX_EINVAL;
    }

    return ngx_http_nixery_access(path, mode) == NGX_OK ? 0 : ngx_errno;
}


/* With the effective ids, which are the workers'. */

static ngx_int_t
ngx_http_nixery_access(const char *path, int mode)
{
    return faccessat(AT_FDCWD, path, mode, AT_EACCESS) == 0 ? NGX_OK
                                                            : NGX_ERROR;
}


/* Says which folder on the way is the one that the user cannot enter. */

static ngx_int_t
ngx_http_nixery_refuse(ngx_conf_t *cf, ngx_http_nixery_loc_conf_t *nlcf,
    ngx_http_nixery_value_t *value, ngx_err_t err, const char *path,
    const char *what)
{
    char             *p;
    u_char           *parent;
    const char       *user;
    ngx_str_t         name;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);

    user = ngx_http_nixery_has_user(cf->cycle) ? ccf->username : "";

    name.data = (u_char *) path;
    name.len = ngx_strlen(path);

    parent = ngx_pstrdup(cf->pool, &name);

    if (err == NGX_EACCES && parent != NULL) {

        for (p = strchr(path + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
            ngx_memcpy(parent, path, p - path);
            parent[p - path] = '\0';

            if (ngx_http_nixery_access((char *) parent, X_OK) != NGX_OK) {
                ngx_http_nixery_conf_error(cf, nlcf, value, err,
                                           "%s: \"%s\", user \"%s\" can't "
                                           "enter \"%s\"",
                                           what, path, user, parent);
                return NGX_ERROR;
            }
        }
    }

    if (*user != '\0') {
        ngx_http_nixery_conf_error(cf, nlcf, value, err,
                                   "%s: \"%s\", user \"%s\"",
                                   what, path, user);

    } else {
        ngx_http_nixery_conf_error(cf, nlcf, value, err, "%s: \"%s\"", what,
                                   path);
    }

    return NGX_ERROR;
}


/* The conditions under which ngx_worker_process_init() changes the user. */

static ngx_uint_t
ngx_http_nixery_has_user(ngx_cycle_t *cycle)
{
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    return getuid() == 0 && ccf->master;
}


static ngx_int_t
ngx_http_nixery_become_worker(ngx_conf_t *cf, ngx_http_nixery_identity_t *id)
{
    ngx_core_conf_t  *ccf;

    ngx_memzero(id, sizeof(ngx_http_nixery_identity_t));

    if (!ngx_http_nixery_has_user(cf->cycle)) {
        return NGX_OK;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);

    id->gid = getegid();
    id->ngroups = getgroups(0, NULL);

    if (id->ngroups == -1) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, ngx_errno, "getgroups() failed");
        return NGX_ERROR;
    }

    id->groups = ngx_palloc(cf->pool, (id->ngroups + 1) * sizeof(gid_t));
    if (id->groups == NULL) {
        return NGX_ERROR;
    }

    id->ngroups = getgroups(id->ngroups, id->groups);

    if (id->ngroups == -1) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, ngx_errno, "getgroups() failed");
        return NGX_ERROR;
    }

    id->changed = 1;

    if (initgroups(ccf->username, ccf->group) == -1
        || setegid(ccf->group) == -1
        || seteuid(ccf->user) == -1)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, ngx_errno,
                      "can't become user \"%s\" to see what it may do",
                      ccf->username);
        ngx_http_nixery_become_master(cf, id);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_nixery_become_master(ngx_conf_t *cf, ngx_http_nixery_identity_t *id)
{
    if (!id->changed) {
        return;
    }

    if (seteuid(0) == -1
        || setegid(id->gid) == -1
        || setgroups(id->ngroups, id->groups) == -1)
    {
        ngx_log_error(NGX_LOG_ALERT, cf->log, ngx_errno,
                      "can't become root again");
        /* fatal */
        exit(2);
    }
}
