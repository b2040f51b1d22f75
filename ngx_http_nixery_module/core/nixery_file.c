
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
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
