
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_HTTP_CALL_H_INCLUDED_
#define _NIXERY_HTTP_CALL_H_INCLUDED_


/* One call of nixery_http_get(): what its files share. */

#include <curl/curl.h>
#include "nixery_http.h"


typedef struct {
    nixery_http_t       *http;
    nixery_error_t      *err;
    CURLM               *multi;
    CURL                *easy;
    CURLU               *url;         /* that is asked for */
    char                *first;       /* that was asked for first, as shown */
    char                *origin;      /* its scheme, host and port */
    struct curl_slist   *headers;
    uint64_t             deadline;    /* 0: none */
    int                  rc;          /* of what took the body */
    int                  errnum;      /* of socket() */
    unsigned             whole:1;     /* the answer's head, to its end */
    unsigned             unwanted:1;  /* a body of no use, not read */
    unsigned             known:1;     /* the host that was asked first */
    unsigned             proxied:1;
    char                 reason[CURL_ERROR_SIZE];
} nixery_http_call_t;


/* Whom to trust, by the environment of the call. */
int nixery_http_trust(nixery_http_call_t *call);

/*
 * Makes call->url what is asked next: by which proxy, with which credentials,
 * for how long, and as what messages name it.
 */
int nixery_http_target(nixery_http_call_t *call);

/* Sets an error with call->reason. */
int nixery_http_error(nixery_http_call_t *call, nixery_error_e kind);


#endif /* _NIXERY_HTTP_CALL_H_INCLUDED_ */
