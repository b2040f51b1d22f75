
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "nixery_file.h"
#include "nixery_tar_file.h"
#include "nixery_tar_writer.h"


#define NIXERY_TAR_DEPTH_MAX  256             /* a descriptor each */
#define NIXERY_TAR_MTIME      1               /* as Nix has it */


static la_ssize_t nixery_tar_output(struct archive *a, void *data,
    const void *bytes, size_t len);
static int nixery_tar_add_tree(nixery_tar_writer_t *w, int dir,
    const char *base, const char *name, const struct stat *sb,
    nixery_error_t *err);
static int nixery_tar_compare_names(const void *one, const void *two);


nixery_tar_writer_t *
nixery_tar_writer_new(const nixery_tar_t *tar, nixery_tar_sink_pt sink,
    void *data, nixery_error_t *err)
{
    nixery_tar_writer_t  *w;

    w = calloc(1, sizeof(nixery_tar_writer_t));
    if (w == NULL) {
        (void) nixery_error_nomem(err);
        return NULL;
    }

    w->sink = sink;
    w->data = data;
    w->cancel = tar->cancel;
    w->root = tar->root;
    w->err = err;
    w->archive = archive_write_new();
    w->entry = archive_entry_new();
    w->buf = malloc(NIXERY_FILE_CHUNK);

    /* what is not in the store may be written to: names stay apart */

    if (tar->contents == NULL) {
        w->links = nixery_tar_links_new();
    }

    /*
     * GNU's format: ustar where that suffices, and names in whatever encoding
     * as they are, which libarchive's pax would take to the locale's
     */

    if (w->archive == NULL || w->entry == NULL || w->buf == NULL
        || (w->links == NULL && tar->contents == NULL)
        || archive_write_set_format_gnutar(w->archive) != ARCHIVE_OK
        || archive_write_add_filter_none(w->archive) != ARCHIVE_OK
        || archive_write_set_bytes_per_block(w->archive, 0) != ARCHIVE_OK
        || archive_write_set_bytes_in_last_block(w->archive, 1) != ARCHIVE_OK
        || archive_write_open(w->archive, w, NULL, nixery_tar_output, NULL)
           != ARCHIVE_OK)
    {
        (void) nixery_error_nomem(err);
        nixery_tar_writer_free(w);
        return NULL;
    }

    return w;
}


int
nixery_tar_writer_close(nixery_tar_writer_t *w, nixery_error_t *err)
{
    w->err = err;

    if (archive_write_close(w->archive) != ARCHIVE_OK) {
        return nixery_tar_failed(w, "the end", err);
    }

    return NIXERY_OK;
}


void
nixery_tar_writer_free(nixery_tar_writer_t *w)
{
    if (w->archive != NULL) {

        /*
         * A stream that failed is not to be ended; but unless it is closed,
         * libarchive keeps its memory
         */

        w->failed = 1;
        (void) archive_write_close(w->archive);
        (void) archive_write_free(w->archive);
    }

    archive_entry_free(w->entry);

    nixery_tar_links_free(w->links);
    free(w->buf);
    free(w);
}


int
nixery_tar_add_directory(nixery_tar_writer_t *w, const char *name, mode_t mode,
    nixery_error_t *err)
{
    int    rc;
    char  *slashed;

    if (asprintf(&slashed, "%s/", name) == -1) {
        return nixery_error_nomem(err);
    }

    rc = nixery_tar_header(w, slashed, AE_IFDIR, mode, err);

    free(slashed);

    return rc == NIXERY_OK ? nixery_tar_header_write(w, err) : rc;
}


int
nixery_tar_add_symlink(nixery_tar_writer_t *w, const char *name,
    const char *target, nixery_error_t *err)
{
    if (nixery_tar_header(w, name, AE_IFLNK, 0777, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    archive_entry_set_symlink(w->entry, target);

    return nixery_tar_header_write(w, err);
}


int
nixery_tar_add_bytes(nixery_tar_writer_t *w, const char *name, mode_t mode,
    const void *data, size_t len, nixery_error_t *err)
{
    if (nixery_tar_header(w, name, AE_IFREG, mode, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    archive_entry_set_size(w->entry, (la_int64_t) len);

    if (nixery_tar_header_write(w, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (archive_write_data(w->archive, data, len) != (la_ssize_t) len) {
        return nixery_tar_failed(w, name, err);
    }

    return NIXERY_OK;
}


int
nixery_tar_add_path(nixery_tar_writer_t *w, int dir, const char *base,
    const char *name, nixery_error_t *err)
{
    int          rc;
    char        *target;
    struct stat  sb;

    if (nixery_canceled(w->cancel)) {
        return nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                "the build was canceled");
    }

    if (fstatat(dir, base, &sb, AT_SYMLINK_NOFOLLOW) == -1) {
        return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't pack \"/%s\"", name);
    }

    switch (sb.st_mode & S_IFMT) {

    case S_IFREG:
        return nixery_tar_add_file(w, dir, base, name, &sb, err);

    case S_IFDIR:
        return nixery_tar_add_tree(w, dir, base, name, &sb, err);

    case S_IFLNK:
        target = nixery_tar_readlink(dir, base, sb.st_size, name, err);
        if (target == NULL) {
            return NIXERY_ERROR;
        }

        rc = nixery_tar_add_symlink(w, name, target, err);
        free(target);

        return rc;

    default:
        return nixery_error_set(err, NIXERY_ERROR_SYSTEM,
                                "can't pack \"/%s\": it is neither a file nor"
                                " a directory nor a link",
                                name);
    }
}


char *
nixery_tar_readlink(int dir, const char *base, off_t size, const char *name,
    nixery_error_t *err)
{
    char     *target;
    ssize_t   n;

    target = malloc((size_t) size + 1);
    if (target == NULL) {
        (void) nixery_error_nomem(err);
        return NULL;
    }

    n = readlinkat(dir, base, target, (size_t) size + 1);

    if (n == -1 || n > size) {
        (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM,
                                  n == -1 ? errno : EAGAIN,
                                  "can't read link \"/%s\"", name);
        free(target);
        return NULL;
    }

    target[n] = '\0';

    return target;
}


int
nixery_tar_names(int fd, const char *name, char ***names, size_t *n,
    nixery_error_t *err)
{
    int             copy;
    DIR            *dir;
    char          **list;
    size_t          size;
    struct dirent  *de;

    *names = NULL;
    *n = 0;
    size = 0;

    /* closedir() is going to close it */
    copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dir = copy == -1 ? NULL : fdopendir(copy);

    if (dir == NULL) {
        (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't read directory \"/%s\"", name);

        if (copy != -1) {
            (void) close(copy);
        }

        return NIXERY_ERROR;
    }

    for ( ;; ) {
        errno = 0;
        de = readdir(dir);

        if (de == NULL) {
            if (errno != 0) {
                (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                          "can't read directory \"/%s\"", name);
                goto failed;
            }

            break;
        }

        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0) {
            continue;
        }

        if (*n == size) {
            size = size ? size * 2 : 16;

            list = realloc(*names, size * sizeof(char *));
            if (list == NULL) {
                (void) nixery_error_nomem(err);
                goto failed;
            }

            *names = list;
        }

        (*names)[*n] = strdup(de->d_name);

        if ((*names)[*n] == NULL) {
            (void) nixery_error_nomem(err);
            goto failed;
        }

        (*n)++;
    }

    (void) closedir(dir);

    if (*n > 1) {
        qsort(*names, *n, sizeof(char *), nixery_tar_compare_names);
    }

    return NIXERY_OK;

failed:

    (void) closedir(dir);
    nixery_tar_names_free(*names, *n);

    return NIXERY_ERROR;
}


void
nixery_tar_names_free(char **names, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        free(names[i]);
    }

    free(names);
}


static la_ssize_t
nixery_tar_output(struct archive *a, void *data, const void *bytes, size_t len)
{
    nixery_tar_writer_t  *w = data;

    (void) a;

    if (w->failed) {
        return -1;
    }

    if (nixery_canceled(w->cancel)) {
        return nixery_error_set(w->err, NIXERY_ERROR_CANCELED,
                                "the build was canceled");
    }

    if (w->sink(w->data, bytes, len, w->err) != NIXERY_OK) {
        return -1;
    }

    return (la_ssize_t) len;
}


int
nixery_tar_header(nixery_tar_writer_t *w, const char *name, mode_t type,
    mode_t mode, nixery_error_t *err)
{
    struct archive_entry  *e;

    w->err = err;

    e = archive_entry_clear(w->entry);

    archive_entry_copy_pathname(e, name);
    archive_entry_set_filetype(e, type);
    archive_entry_set_perm(e, mode & 07777);
    archive_entry_set_mtime(e, NIXERY_TAR_MTIME, 0);
    archive_entry_set_size(e, 0);

    return NIXERY_OK;
}


int
nixery_tar_header_write(nixery_tar_writer_t *w, nixery_error_t *err)
{
    if (archive_write_header(w->archive, w->entry) != ARCHIVE_OK) {
        return nixery_tar_failed(w, archive_entry_pathname(w->entry), err);
    }

    return NIXERY_OK;
}


int
nixery_tar_failed(nixery_tar_writer_t *w, const char *name,
    nixery_error_t *err)
{
    const char  *why;

    why = archive_error_string(w->archive);

    return nixery_error_set(err, NIXERY_ERROR_SYSTEM, "can't pack \"/%s\": %s",
                            name, why != NULL ? why : "no reason is known");
}


static int
nixery_tar_add_tree(nixery_tar_writer_t *w, int dir, const char *base,
    const char *name, const struct stat *sb, nixery_error_t *err)
{
    int      fd, rc;
    char   **names, *below;
    size_t   n, i;

    if (w->depth == NIXERY_TAR_DEPTH_MAX) {
        return nixery_error_set(err, NIXERY_ERROR_SYSTEM,
                                "can't pack \"/%s\": it is nested too deeply",
                                name);
    }

    if (nixery_tar_add_directory(w, name, sb->st_mode, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    fd = openat(dir, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd == -1) {
        return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't open \"/%s\"", name);
    }

    rc = nixery_tar_names(fd, name, &names, &n, err);

    if (rc != NIXERY_OK) {
        (void) close(fd);
        return rc;
    }

    w->depth++;

    for (i = 0; i < n && rc == NIXERY_OK; i++) {
        if (asprintf(&below, "%s/%s", name, names[i]) == -1) {
            rc = nixery_error_nomem(err);
            break;
        }

        rc = nixery_tar_add_path(w, fd, names[i], below, err);
        free(below);
    }

    w->depth--;

    nixery_tar_names_free(names, n);
    (void) close(fd);

    return rc;
}


static int
nixery_tar_compare_names(const void *one, const void *two)
{
    return strcmp(*(const char *const *) one, *(const char *const *) two);
}
