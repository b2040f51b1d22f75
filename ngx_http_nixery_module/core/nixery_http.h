
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_HTTP_H_INCLUDED_
#define _NIXERY_HTTP_H_INCLUDED_


#include "nixery_buf.h"
#include "nixery_error.h"


typedef struct {
    /* in */
    const char         *url;         /* http or https, no user or password */
    const char         *user;        /* or NULL; for the URL's own host alone */
    const char         *password;    /* or NULL */
    char *const        *env;         /* NAME=VALUE, NULL at the end; or NULL */
    const char         *etag;        /* as it was sent, or NULL */
    uint64_t            timeout;     /* milliseconds in all, 0: none */
    uint64_t            max;         /* bytes of a body */
    nixery_cancel_t    *cancel;      /* or NULL */
    int                 fd;          /* gets the body; -1: body does */

    /* out; released by nixery_http_free() */
    nixery_buf_t        body;
    long                status;      /* of the last answer: 200, 304, 404 */
    char               *new_etag;    /* as it was sent, or NULL */
    uint64_t            size;        /* bytes of the body */
    char               *what;        /* the URL and where it led to, quoted */
    char               *host;        /* that answered */
} nixery_http_t;


/*
 * One GET, redirects followed.  Of the process's environment nothing is used:
 * proxies and the CA bundle are those that env names, as git and Nix know them
 * (https_proxy, http_proxy, all_proxy, no_proxy, NIX_SSL_CERT_FILE,
 * SSL_CERT_FILE); else there are no proxies, and the system's CAs.
 *
 * NIXERY_OK: there was an answer, of whatever status; its body is kept if that
 * is 200.  Else NIXERY_ERROR_SOURCE, _TIMEOUT, _CANCELED or _SYSTEM; what was
 * written to fd is then of no use.  Neither the message nor "what" has a query
 * string, a fragment or a password in it.
 */
int nixery_http_get(nixery_http_t *http, nixery_error_t *err);

/* Sets NIXERY_ERROR_SOURCE for an answer that was of no use. */
int nixery_http_refused(const nixery_http_t *http, nixery_error_t *err);

/* Safe on a struct whose out fields are zeroed; twice, too. */
void nixery_http_free(nixery_http_t *http);


#endif /* _NIXERY_HTTP_H_INCLUDED_ */
