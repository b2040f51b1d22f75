
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_BUF_H_INCLUDED_
#define _NIXERY_BUF_H_INCLUDED_


#include "nixery_core.h"


/* A growing byte buffer; zeroed is empty.  data has a '\0' behind len. */

typedef struct {
    char     *data;
    size_t    len;
    size_t    size;
} nixery_buf_t;


/* All return NIXERY_OK, or NIXERY_ERROR when memory ran out (b unchanged). */
int nixery_buf_append(nixery_buf_t *b, const void *data, size_t len);
int nixery_buf_puts(nixery_buf_t *b, const char *s);
int nixery_buf_printf(nixery_buf_t *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

void nixery_buf_free(nixery_buf_t *b);


#endif /* _NIXERY_BUF_H_INCLUDED_ */
