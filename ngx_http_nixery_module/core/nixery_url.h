
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_URL_H_INCLUDED_
#define _NIXERY_URL_H_INCLUDED_


#include "nixery_error.h"


/* A URL taken apart (RFC 3986), so that what is secret in it stays apart. */

typedef struct {
    char     *scheme;      /* lower case */
    char     *user;        /* decoded, or NULL; an ssh URL keeps its own */
    char     *password;    /* decoded, or NULL */
    char     *bare;        /* without user and password, for programs */
    char     *shown;       /* nor with query and fragment, for a person */
    char     *path;        /* decoded, of a file URL; or NULL */
} nixery_url_t;


/*
 * Takes "scheme://..." of one of the schemes, which are separated by spaces.
 * No I/O.  Errors: NIXERY_ERROR_SOURCE, whose message begins with what is
 * wrong and shows nothing of a user, password or query; NIXERY_ERROR_SYSTEM.
 */
int nixery_url_parse(nixery_url_t *url, const char *text, const char *schemes,
    nixery_error_t *err);
void nixery_url_free(nixery_url_t *url);


#endif /* _NIXERY_URL_H_INCLUDED_ */
