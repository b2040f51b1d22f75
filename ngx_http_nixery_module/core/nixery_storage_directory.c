
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_file.h"
#include "nixery_storage.h"
#include "nixery_work.h"


typedef struct {
    nixery_storage_t    storage;
    char               *path;
} nixery_directory_t;


/* A file that is to become an object. */

typedef struct {
    nixery_work_t    work;
    char            *file;
    int              fd;
} nixery_temp_t;


static int nixery_directory_stat(nixery_storage_t *st, const char *object,
    uint64_t *size, nixery_error_t *err);
static int nixery_directory_put_file(nixery_storage_t *st, const char *object,
    const char *file, uint64_t size, const char *sha256, nixery_error_t *err);
static int nixery_directory_put_bytes(nixery_storage_t *st, const char *object,
    const void *data, size_t len, nixery_error_t *err);
static int nixery_directory_get(nixery_storage_t *st, const char *object,
    size_t max, nixery_buf_t *out, nixery_error_t *err);
static int nixery_directory_locate(nixery_storage_t *st, const char *object,
    nixery_buf_t *path);
static void nixery_directory_free(nixery_storage_t *st);

static int nixery_directory_make(nixery_directory_t *dir, nixery_error_t *err);
static int nixery_directory_move(nixery_directory_t *dir, const char *object,
    const char *file, nixery_error_t *err);
static int nixery_directory_copy(nixery_directory_t *dir, const char *object,
    int fd, uint64_t size, nixery_error_t *err);
static int nixery_directory_sync(nixery_directory_t *dir, const char *object,
    nixery_error_t *err);
static int nixery_directory_same(nixery_storage_t *st, const char *object,
    const void *data, size_t len);
static char *nixery_directory_path(nixery_directory_t *dir, const char *object,
    nixery_error_t *err);
static int nixery_object_error(nixery_error_t *err, int errnum,
    const char *object, const char *operation);

static int nixery_temp_open(nixery_temp_t *temp, nixery_directory_t *dir,
    const char *object, nixery_error_t *err);
static int nixery_temp_publish(nixery_temp_t *temp, nixery_directory_t *dir,
    const char *object, nixery_error_t *err);
static void nixery_temp_close(nixery_temp_t *temp);


static const struct {
    const char  *name;
    mode_t       mode;
} nixery_folders[] = {
    { "layers", 0755 },
    { "manifests", 0755 },
    { "builds", 0755 },
    { "tmp", 0700 },
};


nixery_storage_t *
nixery_storage_directory(const char *path, nixery_error_t *err)
{
    size_t               len;
    nixery_buf_t         tmp;
    nixery_directory_t  *dir;

    if (path[0] != '/') {
        (void) nixery_error_set(err, NIXERY_ERROR_STORAGE, "storage directory "
                                "\"%s\" is not an absolute path", path);
        return NULL;
    }

    dir = calloc(1, sizeof(nixery_directory_t));
    if (dir == NULL) {
        (void) nixery_error_nomem(err);
        return NULL;
    }

    dir->storage.stat = nixery_directory_stat;
    dir->storage.put_file = nixery_directory_put_file;
    dir->storage.put_bytes = nixery_directory_put_bytes;
    dir->storage.get = nixery_directory_get;
    dir->storage.locate = nixery_directory_locate;
    dir->storage.free = nixery_directory_free;

    for (len = strlen(path); len > 1 && path[len - 1] == '/'; len--) {
        /* void */
    }

    memset(&tmp, 0, sizeof(nixery_buf_t));

    dir->path = strndup(path, len);

    if (dir->path == NULL
        || nixery_buf_printf(&tmp, "%s/tmp", dir->path) != NIXERY_OK)
    {
        (void) nixery_error_nomem(err);
        goto failed;
    }

    if (nixery_directory_make(dir, err) != NIXERY_OK) {
        goto failed;
    }

    nixery_work_clean(tmp.data);
    nixery_buf_free(&tmp);

    return &dir->storage;

failed:

    nixery_buf_free(&tmp);
    nixery_directory_free(&dir->storage);

    return NULL;
}


static int
nixery_directory_stat(nixery_storage_t *st, const char *object,
    uint64_t *size, nixery_error_t *err)
{
    int                  rc, saved;
    char                *path;
    struct stat          sb;
    nixery_directory_t  *dir;

    dir = (nixery_directory_t *) st;

    path = nixery_directory_path(dir, object, err);
    if (path == NULL) {
        return NIXERY_ERROR;
    }

    rc = lstat(path, &sb);
    saved = errno;

    free(path);

    if (rc == -1) {
        if (saved == ENOENT) {
            return NIXERY_DECLINED;
        }

        return nixery_error_errno(err, NIXERY_ERROR_STORAGE, saved,
                                  "look up \"%s\"", object);
    }

    if (!S_ISREG(sb.st_mode)) {
        return nixery_error_set(err, NIXERY_ERROR_STORAGE,
                                "look up \"%s\": not a regular file", object);
    }

    *size = sb.st_size;

    return NIXERY_OK;
}


static int
nixery_directory_put_file(nixery_storage_t *st, const char *object,
    const char *file, uint64_t size, const char *sha256, nixery_error_t *err)
{
    int                  fd, rc;
    uint64_t             there;
    struct stat          sb;
    nixery_directory_t  *dir;

    dir = (nixery_directory_t *) st;
    there = 0;

    rc = nixery_directory_stat(st, object, &there, err);

    if (rc == NIXERY_ERROR) {
        return NIXERY_ERROR;
    }

    if (rc == NIXERY_OK && there == size) {
        return NIXERY_OK;
    }

    fd = open(file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd == -1) {
        return nixery_error_errno(err, NIXERY_ERROR_STORAGE, errno,
                                  "store \"%s\": open \"%s\"", object, file);
    }

    if (fstat(fd, &sb) == -1) {
        rc = nixery_object_error(err, errno, object, "fstat");
        goto done;
    }

    if (!S_ISREG(sb.st_mode) || (uint64_t) sb.st_size != size) {
        rc = nixery_error_set(err, NIXERY_ERROR_STORAGE, "store \"%s\": \"%s\" "
                              "is not a file of %ju bytes", object, file,
                              (uintmax_t) size);
        goto done;
    }

    rc = nixery_directory_make(dir, err);
    if (rc != NIXERY_OK) {
        goto done;
    }

    if (fchmod(fd, 0644) == -1) {
        rc = nixery_object_error(err, errno, object, "chmod");
        goto done;
    }

    if (fsync(fd) == -1) {
        rc = nixery_object_error(err, errno, object, "fsync");
        goto done;
    }

    rc = nixery_directory_move(dir, object, file, err);

    if (rc == NIXERY_DECLINED) {
        rc = nixery_directory_copy(dir, object, fd, size, err);
    }

done:

    (void) close(fd);

    return rc;
}


static int
nixery_directory_put_bytes(nixery_storage_t *st, const char *object,
    const void *data, size_t len, nixery_error_t *err)
{
    int                  rc;
    nixery_temp_t        temp;
    nixery_directory_t  *dir;

    dir = (nixery_directory_t *) st;

    if (nixery_directory_same(st, object, data, len)) {
        return NIXERY_OK;
    }

    if (nixery_temp_open(&temp, dir, object, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (nixery_file_write(temp.fd, data, len) == -1) {
        rc = nixery_object_error(err, errno, object, "write");

    } else {
        rc = nixery_temp_publish(&temp, dir, object, err);
    }

    nixery_temp_close(&temp);

    return rc;
}


static int
nixery_directory_get(nixery_storage_t *st, const char *object, size_t max,
    nixery_buf_t *out, nixery_error_t *err)
{
    int                  fd, rc;
    char                *path, buf[16384];
    ssize_t              n;
    nixery_directory_t  *dir;

    dir = (nixery_directory_t *) st;

    path = nixery_directory_path(dir, object, err);
    if (path == NULL) {
        return NIXERY_ERROR;
    }

    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    rc = errno;

    free(path);

    if (fd == -1) {
        if (rc == ENOENT) {
            return NIXERY_DECLINED;
        }

        return nixery_error_errno(err, NIXERY_ERROR_STORAGE, rc,
                                  "read \"%s\"", object);
    }

    /* an empty object is not NULL */

    rc = nixery_buf_append(out, "", 0);

    if (rc != NIXERY_OK) {
        (void) nixery_error_nomem(err);
    }

    while (rc == NIXERY_OK) {
        n = nixery_file_read(fd, buf, sizeof(buf));

        if (n == 0) {
            break;
        }

        if (n == -1) {
            rc = nixery_error_errno(err, NIXERY_ERROR_STORAGE, errno,
                                    "read \"%s\"", object);

        } else if ((size_t) n > max - out->len) {
            rc = nixery_error_set(err, NIXERY_ERROR_STORAGE, "read \"%s\": it "
                                  "has more than %zu bytes", object, max);

        } else if (nixery_buf_append(out, buf, n) != NIXERY_OK) {
            rc = nixery_error_nomem(err);
        }
    }

    (void) close(fd);

    if (rc != NIXERY_OK) {
        nixery_buf_free(out);
    }

    return rc;
}


static int
nixery_directory_locate(nixery_storage_t *st, const char *object,
    nixery_buf_t *path)
{
    nixery_directory_t  *dir;

    dir = (nixery_directory_t *) st;

    if (!nixery_object_valid(object)) {
        return NIXERY_ERROR;
    }

    return nixery_buf_printf(path, "%s/%s", dir->path, object);
}


static void
nixery_directory_free(nixery_storage_t *st)
{
    nixery_directory_t  *dir;

    dir = (nixery_directory_t *) st;

    free(dir->path);
    free(dir);
}


/*
 * The folders are looked for at every write: a storage may be wiped while
 * it is in use.
 */

static int
nixery_directory_make(nixery_directory_t *dir, nixery_error_t *err)
{
    int           rc;
    char         *path;
    size_t        i;
    mode_t        mode;
    struct stat   sb;

    rc = NIXERY_OK;

    for (i = 0; i < sizeof(nixery_folders) / sizeof(nixery_folders[0]); i++) {
        mode = nixery_folders[i].mode;

        if (asprintf(&path, "%s/%s", dir->path, nixery_folders[i].name)
            == -1)
        {
            return nixery_error_nomem(err);
        }

        if (mkdir(path, mode) == 0) {

            /* whatever umask has taken away */

            if (chmod(path, mode) == -1) {
                rc = nixery_error_errno(err, NIXERY_ERROR_STORAGE, errno,
                                        "chmod \"%s\"", path);
            }

        } else if (errno != EEXIST) {
            rc = nixery_error_errno(err, NIXERY_ERROR_STORAGE, errno,
                                    "make directory \"%s\"", path);

        } else if (stat(path, &sb) == 0 && !S_ISDIR(sb.st_mode)) {
            rc = nixery_error_set(err, NIXERY_ERROR_STORAGE,
                                  "\"%s\" is not a directory", path);
        }

        free(path);

        if (rc != NIXERY_OK) {
            break;
        }
    }

    return rc;
}


/* NIXERY_DECLINED: the file is on another file system. */

static int
nixery_directory_move(nixery_directory_t *dir, const char *object,
    const char *file, nixery_error_t *err)
{
    int    rc, saved;
    char  *path;

    path = nixery_directory_path(dir, object, err);
    if (path == NULL) {
        return NIXERY_ERROR;
    }

    rc = rename(file, path);
    saved = errno;

    free(path);

    if (rc == 0) {
        return nixery_directory_sync(dir, object, err);
    }

    if (saved == EXDEV) {
        return NIXERY_DECLINED;
    }

    return nixery_object_error(err, saved, object, "rename");
}


static int
nixery_directory_copy(nixery_directory_t *dir, const char *object, int fd,
    uint64_t size, nixery_error_t *err)
{
    int             rc;
    char           *buf;
    ssize_t         n;
    uint64_t        copied;
    nixery_temp_t   temp;

    if (nixery_temp_open(&temp, dir, object, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    buf = malloc(NIXERY_FILE_CHUNK);
    if (buf == NULL) {
        rc = nixery_error_nomem(err);
        goto done;
    }

    for (copied = 0; /* void */ ; copied += n) {
        n = nixery_file_read(fd, buf, NIXERY_FILE_CHUNK);

        if (n == 0) {
            break;
        }

        if (n == -1) {
            rc = nixery_object_error(err, errno, object, "read the work file");
            goto done;
        }

        if (nixery_file_write(temp.fd, buf, n) == -1) {
            rc = nixery_object_error(err, errno, object, "write");
            goto done;
        }
    }

    if (copied == size) {
        rc = nixery_temp_publish(&temp, dir, object, err);

    } else {
        rc = nixery_error_set(err, NIXERY_ERROR_STORAGE, "store \"%s\": the "
                              "work file has changed", object);
    }

done:

    free(buf);
    nixery_temp_close(&temp);

    return rc;
}


/* The new name is on the disk when its folder is. */

static int
nixery_directory_sync(nixery_directory_t *dir, const char *object,
    nixery_error_t *err)
{
    int    fd, rc;
    char  *path;

    if (asprintf(&path, "%s/%.*s", dir->path,
                 (int) (strchr(object, '/') - object), object)
        == -1)
    {
        return nixery_error_nomem(err);
    }

    rc = NIXERY_OK;

    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd == -1 || fsync(fd) == -1) {
        rc = nixery_object_error(err, errno, object, "fsync the folder");
    }

    if (fd != -1) {
        (void) close(fd);
    }

    free(path);

    return rc;
}


static int
nixery_directory_same(nixery_storage_t *st, const char *object,
    const void *data, size_t len)
{
    int             same;
    uint64_t        size;
    nixery_buf_t    buf;
    nixery_error_t  err;

    memset(&buf, 0, sizeof(nixery_buf_t));
    memset(&err, 0, sizeof(nixery_error_t));

    size = 0;

    same = nixery_directory_stat(st, object, &size, &err) == NIXERY_OK
           && size == len
           && nixery_directory_get(st, object, len, &buf, &err) == NIXERY_OK
           && buf.len == len
           && (len == 0 || memcmp(buf.data, data, len) == 0);

    nixery_buf_free(&buf);
    nixery_error_free(&err);

    return same;
}


static char *
nixery_directory_path(nixery_directory_t *dir, const char *object,
    nixery_error_t *err)
{
    char  *path;

    if (!nixery_object_valid(object)) {
        (void) nixery_error_set(err, NIXERY_ERROR_STORAGE,
                                "\"%.80s\" is not the name of an object",
                                object);
        return NULL;
    }

    if (asprintf(&path, "%s/%s", dir->path, object) == -1) {
        (void) nixery_error_nomem(err);
        return NULL;
    }

    return path;
}


static int
nixery_object_error(nixery_error_t *err, int errnum, const char *object,
    const char *operation)
{
    return nixery_error_errno(err, NIXERY_ERROR_STORAGE, errnum,
                              "store \"%s\": %s", object, operation);
}


static int
nixery_temp_open(nixery_temp_t *temp, nixery_directory_t *dir,
    const char *object, nixery_error_t *err)
{
    char            *tmp;
    nixery_error_t   work_err;

    memset(temp, 0, sizeof(nixery_temp_t));
    memset(&work_err, 0, sizeof(nixery_error_t));

    temp->fd = -1;

    if (!nixery_object_valid(object)) {
        free(nixery_directory_path(dir, object, err));
        return NIXERY_ERROR;
    }

    if (nixery_directory_make(dir, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (asprintf(&tmp, "%s/tmp", dir->path) == -1) {
        return nixery_error_nomem(err);
    }

    if (nixery_work_open(&temp->work, tmp, &work_err) != NIXERY_OK) {
        (void) nixery_error_set(err, NIXERY_ERROR_STORAGE, "store \"%s\": %s",
                                object, work_err.message);
        nixery_error_free(&work_err);
        free(tmp);
        return NIXERY_ERROR;
    }

    free(tmp);

    if (asprintf(&temp->file, "%s/object", temp->work.path) == -1) {
        temp->file = NULL;
        nixery_temp_close(temp);
        return nixery_error_nomem(err);
    }

    temp->fd = open(temp->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (temp->fd == -1 || fchmod(temp->fd, 0644) == -1) {
        (void) nixery_object_error(err, errno, object,
                                   "make a temporary file");
        nixery_temp_close(temp);
        return NIXERY_ERROR;
    }

    return NIXERY_OK;
}


static int
nixery_temp_publish(nixery_temp_t *temp, nixery_directory_t *dir,
    const char *object, nixery_error_t *err)
{
    if (fsync(temp->fd) == -1) {
        return nixery_object_error(err, errno, object, "fsync");
    }

    if (nixery_directory_move(dir, object, temp->file, err) != NIXERY_OK) {
        return nixery_error_set(err, NIXERY_ERROR_STORAGE, "store \"%s\": its "
                                "folder is on another file system than "
                                "\"%s/tmp\"", object, dir->path);
    }

    return NIXERY_OK;
}


static void
nixery_temp_close(nixery_temp_t *temp)
{
    if (temp->fd != -1) {
        (void) close(temp->fd);
    }

    free(temp->file);
    nixery_work_close(&temp->work);
}
