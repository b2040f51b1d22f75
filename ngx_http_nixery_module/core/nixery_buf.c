
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <stdio.h>
#include "nixery_buf.h"


static int nixery_buf_reserve(nixery_buf_t *b, size_t len);


int
nixery_buf_append(nixery_buf_t *b, const void *data, size_t len)
{
    if (nixery_buf_reserve(b, len) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (len != 0) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
    }

    b->data[b->len] = '\0';

    return NIXERY_OK;
}


int
nixery_buf_puts(nixery_buf_t *b, const char *s)
{
    return nixery_buf_append(b, s, strlen(s));
}


int
nixery_buf_printf(nixery_buf_t *b, const char *fmt, ...)
{
    int      rc;
    char    *text;
    va_list  args;

    va_start(args, fmt);
    rc = vasprintf(&text, fmt, args);
    va_end(args);

    if (rc == -1) {
        return NIXERY_ERROR;
    }

    rc = nixery_buf_append(b, text, rc);

    free(text);

    return rc;
}


void
nixery_buf_free(nixery_buf_t *b)
{
    free(b->data);
    memset(b, 0, sizeof(nixery_buf_t));
}


static int
nixery_buf_reserve(nixery_buf_t *b, size_t len)
{
    char    *data;
    size_t   size;

    if (len >= SIZE_MAX / 2 - b->len) {
        return NIXERY_ERROR;
    }

    if (b->len + len < b->size) {
        return NIXERY_OK;
    }

    size = b->size ? b->size : 256;

    while (size <= b->len + len) {
        size *= 2;
    }

    data = realloc(b->data, size);
    if (data == NULL) {
        return NIXERY_ERROR;
    }

    b->data = data;
    b->size = size;

    return NIXERY_OK;
}
