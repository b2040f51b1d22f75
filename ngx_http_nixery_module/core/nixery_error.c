
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <stdio.h>
#include "nixery_error.h"
#include "nixery_text.h"


static int nixery_error_vset(nixery_error_t *err, nixery_error_e kind,
    int errnum, const char *fmt, va_list args);


static char  nixery_error_no_memory[] = "out of memory";


int
nixery_error_set(nixery_error_t *err, nixery_error_e kind, const char *fmt,
    ...)
{
    va_list  args;

    va_start(args, fmt);
    (void) nixery_error_vset(err, kind, 0, fmt, args);
    va_end(args);

    return NIXERY_ERROR;
}


int
nixery_error_errno(nixery_error_t *err, nixery_error_e kind, int errnum,
    const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    (void) nixery_error_vset(err, kind, errnum, fmt, args);
    va_end(args);

    return NIXERY_ERROR;
}


int
nixery_error_nomem(nixery_error_t *err)
{
    if (err->kind == NIXERY_ERROR_NONE) {
        err->kind = NIXERY_ERROR_SYSTEM;
        err->message = nixery_error_no_memory;
    }

    return NIXERY_ERROR;
}


void
nixery_error_free(nixery_error_t *err)
{
    if (err->message != nixery_error_no_memory) {
        free(err->message);
    }

    free(err->log);
    memset(err, 0, sizeof(nixery_error_t));
}


static int
nixery_error_vset(nixery_error_t *err, nixery_error_e kind, int errnum,
    const char *fmt, va_list args)
{
    char  *text, *message, buf[128];

    if (err->kind != NIXERY_ERROR_NONE) {
        return NIXERY_ERROR;
    }

    if (vasprintf(&text, fmt, args) == -1) {
        return nixery_error_nomem(err);
    }

    message = text;

    if (errnum != 0) {
        if (asprintf(&message, "%s: %s", text,
                     strerror_r(errnum, buf, sizeof(buf)))
            == -1)
        {
            free(text);
            return nixery_error_nomem(err);
        }

        free(text);
    }

    /* names of files, and what a builder wrote, may be anything */

    nixery_text_line(message);

    err->kind = kind;
    err->message = message;

    return NIXERY_ERROR;
}
