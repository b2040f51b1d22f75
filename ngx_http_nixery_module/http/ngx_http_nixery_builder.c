
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"
#include "nixery_sha256.h"


#define NGX_HTTP_NIXERY_BUILDER_MAX  (16 * 1024 * 1024)   /* bytes of a file */


static ngx_int_t ngx_http_nixery_hash_file(nixery_sha256_t *sha,
    const char *path);
static ngx_int_t ngx_http_nixery_hash_fd(nixery_sha256_t *sha, ngx_fd_t fd);
static ngx_int_t ngx_http_nixery_hash_folder(nixery_sha256_t *sha,
    const char *folder);
static int ngx_http_nixery_is_source(const struct dirent *de);
static int ngx_http_nixery_cmp_names(const struct dirent **one,
    const struct dirent **two);


ngx_int_t
ngx_http_nixery_builder_id(const char *path, char id[NIXERY_HEX_LEN + 1])
{
    char             *real;
    ngx_int_t         rc;
    ngx_err_t         err;
    nixery_sha256_t  *sha;

    rc = NGX_ERROR;

    real = realpath(path, NULL);
    sha = nixery_sha256_new();

    if (real != NULL && sha != NULL) {
        nixery_sha256_string(sha, real);

        rc = ngx_http_nixery_hash_file(sha, real);

        /* nothing in the store ever changes */

        if (rc == NGX_OK && !nixery_in_store(real)) {
            *strrchr(real, '/') = '\0';
            rc = ngx_http_nixery_hash_folder(sha, real);
        }

        nixery_sha256_final(sha, id);
    }

    err = ngx_errno;

    nixery_sha256_free(sha);
    free(real);

    ngx_set_errno(err);

    return rc;
}


static ngx_int_t
ngx_http_nixery_hash_file(nixery_sha256_t *sha, const char *path)
{
    ngx_fd_t   fd;
    ngx_int_t  rc;
    ngx_err_t  err;

    /* a named pipe must not stop nginx */

    fd = ngx_open_file(path, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK, NGX_FILE_OPEN,
                       0);
    if (fd == NGX_INVALID_FILE) {
        return NGX_ERROR;
    }

    rc = ngx_http_nixery_hash_fd(sha, fd);

    err = ngx_errno;
    (void) ngx_close_file(fd);
    ngx_set_errno(err);

    return rc;
}


static ngx_int_t
ngx_http_nixery_hash_fd(nixery_sha256_t *sha, ngx_fd_t fd)
{
    void             *text;
    ssize_t           n;
    ngx_file_info_t   fi;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        return NGX_ERROR;
    }

    if (!ngx_is_file(&fi)) {
        ngx_set_errno(ngx_is_dir(&fi) ? NGX_EISDIR : NGX_EINVAL);
        return NGX_ERROR;
    }

    if (ngx_file_size(&fi) > NGX_HTTP_NIXERY_BUILDER_MAX) {
        ngx_set_errno(EFBIG);
        return NGX_ERROR;
    }

    text = malloc(NGX_HTTP_NIXERY_BUILDER_MAX);
    if (text == NULL) {
        return NGX_ERROR;
    }

    n = ngx_read_fd(fd, text, NGX_HTTP_NIXERY_BUILDER_MAX);

    if (n != -1) {
        nixery_sha256_item(sha, text, n);
    }

    free(text);

    return n == -1 ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_http_nixery_hash_folder(nixery_sha256_t *sha, const char *folder)
{
    int              i, n;
    char            *path;
    ngx_int_t        rc;
    struct dirent  **names;

    n = scandir(*folder ? folder : "/", &names, ngx_http_nixery_is_source,
                ngx_http_nixery_cmp_names);

    /* the user may be allowed to enter it, but not to list it */

    if (n == -1) {
        return NGX_OK;
    }

    rc = NGX_OK;

    for (i = 0; i < n; i++) {
        nixery_sha256_string(sha, names[i]->d_name);

        if (asprintf(&path, "%s/%s", folder, names[i]->d_name) != -1) {

            /* what the user can't read no builder of its can import */

            (void) ngx_http_nixery_hash_file(sha, path);

            free(path);

        } else {
            rc = NGX_ERROR;
        }

        free(names[i]);
    }

    free(names);

    return rc;
}


static int
ngx_http_nixery_is_source(const struct dirent *de)
{
    size_t  len;

    len = ngx_strlen(de->d_name);

    return (len > 4 && ngx_strcmp(de->d_name + len - 4, ".nix") == 0)
           || (len > 3 && ngx_strcmp(de->d_name + len - 3, ".sh") == 0);
}


/* alphasort() would depend on the locale. */

static int
ngx_http_nixery_cmp_names(const struct dirent **one,
    const struct dirent **two)
{
    return ngx_strcmp((*one)->d_name, (*two)->d_name);
}
