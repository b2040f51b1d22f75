
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_FILE_H_INCLUDED_
#define _NIXERY_FILE_H_INCLUDED_


#include "nixery_core.h"


#define NIXERY_FILE_CHUNK  (256 * 1024)   /* bytes read or copied at once */


/*
 * read() and write() that signals do not interrupt; write() gets everything
 * out.  They return -1 with errno set, as those do.
 */
ssize_t nixery_file_read(int fd, void *data, size_t len);
int nixery_file_write(int fd, const void *data, size_t len);

/* flock() that signals do not interrupt. */
int nixery_file_lock(int fd, int operation);

/* Whether path still names the file that was opened. */
int nixery_file_is_at(int fd, const char *path);


#endif /* _NIXERY_FILE_H_INCLUDED_ */
