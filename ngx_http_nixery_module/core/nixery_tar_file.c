
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdio.h>
#include <unistd.h>
#include "nixery_file.h"
#include "nixery_tar_file.h"


static int nixery_tar_add_link(nixery_tar_writer_t *w, int fd,
    const char *name, const struct stat *sb, nixery_error_t *err);
static int nixery_tar_add_content(nixery_tar_writer_t *w, int fd,
    const char *name, const struct stat *sb, nixery_error_t *err);
static int nixery_tar_read(nixery_tar_writer_t *w, int fd, const char *name,
    off_t size, int emit, uint32_t *crc, nixery_error_t *err);
static int nixery_tar_compare(nixery_tar_writer_t *w, int fd, const char *name,
    const char *first, const struct stat *sb, nixery_error_t *err);
static ssize_t nixery_tar_fill(int fd, char *buf, size_t size, off_t left,
    off_t offset);
static int nixery_tar_short(ssize_t n, const char *name, nixery_error_t *err);


int
nixery_tar_add_file(nixery_tar_writer_t *w, int dir, const char *base,
    const char *name, const struct stat *sb, nixery_error_t *err)
{
    int  fd, rc;

    fd = openat(dir, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd == -1) {
        return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't open \"/%s\"", name);
    }

    w->held = 0;

    rc = nixery_tar_add_link(w, fd, name, sb, err);

    if (rc == NIXERY_DECLINED) {
        rc = nixery_tar_add_content(w, fd, name, sb, err);
    }

    (void) close(fd);

    return rc;
}


/*
 * A file that is the same as one before becomes a hard link to that;
 * NIXERY_DECLINED: it is the first.  A large one is read for this only when
 * there is another of its size, a small one stays in the buffer.
 */

static int
nixery_tar_add_link(nixery_tar_writer_t *w, int fd, const char *name,
    const struct stat *sb, nixery_error_t *err)
{
    int          rc;
    uint32_t     crc;
    uint64_t     size;
    const char  *first;

    size = (uint64_t) sb->st_size;

    if (w->links == NULL
        || !nixery_tar_links_may(w->links, size, sb->st_mode))
    {
        return NIXERY_DECLINED;
    }

    if (nixery_tar_read(w, fd, name, sb->st_size, 0, &crc, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    first = nixery_tar_links_find(w->links, size, sb->st_mode, crc);

    if (first == NULL) {
        return NIXERY_DECLINED;
    }

    rc = nixery_tar_compare(w, fd, name, first, sb, err);

    if (rc != NIXERY_OK) {
        return rc;
    }

    if (nixery_tar_header(w, name, AE_IFREG, sb->st_mode, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    archive_entry_set_hardlink(w->entry, first);
    nixery_tar_links_count(w->links, size, sb->st_mode, crc);

    return nixery_tar_header_write(w, err);
}


static int
nixery_tar_add_content(nixery_tar_writer_t *w, int fd, const char *name,
    const struct stat *sb, nixery_error_t *err)
{
    uint32_t  crc;

    if (nixery_tar_header(w, name, AE_IFREG, sb->st_mode, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    archive_entry_set_size(w->entry, sb->st_size);

    if (nixery_tar_header_write(w, err) != NIXERY_OK
        || nixery_tar_read(w, fd, name, sb->st_size, 1, &crc, err) != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    if (w->links != NULL
        && nixery_tar_links_add(w->links, (uint64_t) sb->st_size, sb->st_mode,
                                crc, name)
           != NIXERY_OK)
    {
        return nixery_error_nomem(err);
    }

    return NIXERY_OK;
}


/* Reads a whole file, for its CRC or (emit) into the archive as well. */

static int
nixery_tar_read(nixery_tar_writer_t *w, int fd, const char *name, off_t size,
    int emit, uint32_t *crc, nixery_error_t *err)
{
    char     byte;
    off_t    offset;
    ssize_t  n;

    *crc = 0;

    for (offset = 0; offset < size; offset += n) {

        if (nixery_canceled(w->cancel)) {
            return nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                    "the build was canceled");
        }

        n = w->held ? (ssize_t) size
                    : nixery_tar_fill(fd, w->buf, NIXERY_FILE_CHUNK,
                                      size - offset, offset);

        if (n <= 0) {
            return nixery_tar_short(n, name, err);
        }

        *crc = libdeflate_crc32(*crc, w->buf, (size_t) n);

        if (emit && archive_write_data(w->archive, w->buf, (size_t) n) != n) {
            return nixery_tar_failed(w, name, err);
        }
    }

    /* neither less nor more than what the header promises */

    if (!w->held) {
        n = nixery_tar_fill(fd, &byte, 1, 1, size);

        if (n != 0) {
            return nixery_tar_short(n, name, err);
        }
    }

    w->held = size <= NIXERY_FILE_CHUNK;

    return NIXERY_OK;
}


static int
nixery_tar_compare(nixery_tar_writer_t *w, int fd, const char *name,
    const char *first, const struct stat *sb, nixery_error_t *err)
{
    int          other, rc;
    char        *path;
    off_t        offset;
    size_t       half;
    ssize_t      n, m;
    struct stat  osb;

    if (asprintf(&path, "%s/%s", w->root, first) == -1) {
        return nixery_error_nomem(err);
    }

    other = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    free(path);

    if (other == -1 || fstat(other, &osb) == -1) {
        (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't open \"/%s\"", first);
        if (other != -1) {
            (void) close(other);
        }

        return NIXERY_ERROR;
    }

    rc = NIXERY_OK;
    half = NIXERY_FILE_CHUNK / 2;

    if (osb.st_dev != sb->st_dev || osb.st_ino != sb->st_ino) {
        w->held = 0;

        for (offset = 0; rc == NIXERY_OK && offset < sb->st_size; offset += n) {
            n = nixery_tar_fill(fd, w->buf, half, sb->st_size - offset, offset);
            m = nixery_tar_fill(other, w->buf + half, half,
                                sb->st_size - offset, offset);

            if (n <= 0 || m != n) {
                rc = nixery_tar_short(n <= 0 ? n : m, n <= 0 ? name : first,
                                      err);

            } else if (nixery_canceled(w->cancel)) {
                rc = nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                      "the build was canceled");

            } else if (memcmp(w->buf, w->buf + half, (size_t) n) != 0) {
                rc = NIXERY_DECLINED;
            }
        }
    }

    (void) close(other);

    return rc;
}


/* As much of the buffer as there is of the file, less only at its end. */

static ssize_t
nixery_tar_fill(int fd, char *buf, size_t size, off_t left, off_t offset)
{
    size_t   len;
    ssize_t  n;

    if (left < (off_t) size) {
        size = (size_t) left;
    }

    for (len = 0; len < size; len += (size_t) n) {

        do {
            n = pread(fd, buf + len, size - len, offset + (off_t) len);
        } while (n == -1 && errno == EINTR);

        if (n == -1) {
            return -1;
        }

        if (n == 0) {
            break;
        }
    }

    return (ssize_t) len;
}


static int
nixery_tar_short(ssize_t n, const char *name, nixery_error_t *err)
{
    if (n == -1) {
        return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't read \"/%s\"", name);
    }

    return nixery_error_set(err, NIXERY_ERROR_SYSTEM,
                            "\"/%s\" changed its size while it was read",
                            name);
}
