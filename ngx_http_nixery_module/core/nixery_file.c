
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_file.h"


ssize_t
nixery_file_read(int fd, void *data, size_t len)
{
    ssize_t  n;

    do {
        n = read(fd, data, len);
    } while (n == -1 && errno == EINTR);

    return n;
}


int
nixery_file_write(int fd, const void *data, size_t len)
{
    ssize_t      n;
    const char  *p;

    for (p = data; len > 0; p += n, len -= n) {

        do {
            n = write(fd, p, len);
        } while (n == -1 && errno == EINTR);

        if (n == -1) {
            return -1;
        }
    }

    return 0;
}


int
nixery_file_lock(int fd, int operation)
{
    int  rc;

    do {
        rc = flock(fd, operation);
    } while (rc == -1 && errno == EINTR);

    return rc;
}


int
nixery_file_is_at(int fd, const char *path)
{
    struct stat  at, held;

    return lstat(path, &at) == 0 && fstat(fd, &held) == 0
           && at.st_dev == held.st_dev && at.st_ino == held.st_ino;
}
