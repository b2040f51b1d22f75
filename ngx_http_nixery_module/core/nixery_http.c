
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include "nixery_file.h"
#include "nixery_http_call.h"


#define NIXERY_HTTP_REDIRECTS  10
#define NIXERY_HTTP_CONNECT    10000   /* milliseconds */
#define NIXERY_HTTP_TICK       200     /* milliseconds to see a cancellation */


static void nixery_http_init(void);
static int nixery_http_open(nixery_http_call_t *call);
static void nixery_http_close(nixery_http_call_t *call);
static int nixery_http_perform(nixery_http_call_t *call);
static int nixery_http_result(nixery_http_call_t *call, CURLcode code);
static curl_socket_t nixery_http_socket(void *userdata, curlsocktype purpose,
    struct curl_sockaddr *addr);
static size_t nixery_http_head(char *data, size_t size, size_t n,
    void *userdata);
static size_t nixery_http_body(char *data, size_t size, size_t n,
    void *userdata);
static int nixery_http_announced(nixery_http_call_t *call);
static int nixery_http_redirect(nixery_http_call_t *call, unsigned redirects);
static int nixery_http_answer(nixery_http_call_t *call);


static CURLcode        nixery_http_ready;
static pthread_once_t  nixery_http_once = PTHREAD_ONCE_INIT;


int
nixery_http_get(nixery_http_t *http, nixery_error_t *err)
{
    int                  rc;
    unsigned             redirects;
    nixery_http_call_t   call;

    memset(&http->body, 0, sizeof(nixery_buf_t));

    http->status = 0;
    http->new_etag = NULL;
    http->size = 0;
    http->what = NULL;
    http->host = NULL;

    memset(&call, 0, sizeof(nixery_http_call_t));

    call.http = http;
    call.err = err;

    rc = nixery_http_open(&call);

    for (redirects = 0; rc == NIXERY_OK; redirects++) {
        rc = nixery_http_target(&call);

        if (rc == NIXERY_OK) {
            rc = nixery_http_perform(&call);
        }

        if (rc == NIXERY_OK) {
            rc = nixery_http_redirect(&call, redirects);
        }
    }

    if (rc == NIXERY_DECLINED) {
        rc = nixery_http_answer(&call);
    }

    nixery_http_close(&call);

    if (rc != NIXERY_OK) {
        nixery_http_free(http);
    }

    return rc;
}


int
nixery_http_refused(const nixery_http_t *http, nixery_error_t *err)
{
    const char  *hint;

    hint = "";

    if (http->status == 401) {
        hint = http->user == NULL && http->password == NULL
                   ? "; it wants a user and a password in the URL"
                   : "; the URL's user and password are no good there";
    }

    return nixery_error_set(err, NIXERY_ERROR_SOURCE,
                            "can't get %s: %s answered %ld%s", http->what,
                            http->status == 407 ? "the proxy" : http->host,
                            http->status, hint);
}


void
nixery_http_free(nixery_http_t *http)
{
    nixery_buf_free(&http->body);
    free(http->new_etag);
    free(http->what);
    free(http->host);

    http->new_etag = NULL;
    http->what = NULL;
    http->host = NULL;
}


/*
 * A name is resolved in a thread of libcurl, which nobody waits for any more
 * when time is up: the library must stay where that thread returns to, even
 * if nginx unloads the module.
 */

static void
nixery_http_init(void)
{
    Dl_info  info;

    nixery_http_ready = curl_global_init(CURL_GLOBAL_DEFAULT);

    if (dladdr((void *) (uintptr_t) curl_global_init, &info) != 0) {
        (void) dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    }
}


static int
nixery_http_open(nixery_http_call_t *call)
{
    int             bad;
    char           *header;
    CURL           *easy;
    CURLUcode       uc;
    nixery_http_t  *http;

    http = call->http;

    if (http->timeout != 0) {
        call->deadline = nixery_now() + http->timeout;
    }

    (void) pthread_once(&nixery_http_once, nixery_http_init);

    if (nixery_http_ready != CURLE_OK) {
        return nixery_error_set(call->err, NIXERY_ERROR_SYSTEM,
                                "can't initialize libcurl: %s",
                                curl_easy_strerror(nixery_http_ready));
    }

    call->url = curl_url();
    call->multi = curl_multi_init();
    call->easy = curl_easy_init();

    if (call->url == NULL || call->multi == NULL || call->easy == NULL) {
        return nixery_error_nomem(call->err);
    }

    uc = curl_url_set(call->url, CURLUPART_URL, http->url,
                      CURLU_DISALLOW_USER);

    if (uc == CURLUE_OUT_OF_MEMORY) {
        return nixery_error_nomem(call->err);
    }

    if (uc != CURLUE_OK) {
        return nixery_error_set(call->err, NIXERY_ERROR_SOURCE,
                                "the URL can't be used: %s",
                                curl_url_strerror(uc));
    }

    if (http->etag != NULL) {
        if (asprintf(&header, "If-None-Match: %s", http->etag) == -1) {
            return nixery_error_nomem(call->err);
        }

        call->headers = curl_slist_append(NULL, header);
        free(header);

        if (call->headers == NULL) {
            return nixery_error_nomem(call->err);
        }
    }

    easy = call->easy;

    bad = curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L)
          || curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L)
          || curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https")
          || curl_easy_setopt(easy, CURLOPT_USERAGENT, "nginx-nixery")
          || curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers)
          || curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                              (long) NIXERY_HTTP_CONNECT)
          || curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION,
                              nixery_http_socket)
          || curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call)
          || curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L)
          || curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, nixery_http_head)
          || curl_easy_setopt(easy, CURLOPT_HEADERDATA, call)
          || curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, nixery_http_body)
          || curl_easy_setopt(easy, CURLOPT_WRITEDATA, call)
          || curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->reason);

    return bad ? nixery_error_nomem(call->err) : nixery_http_trust(call);
}


static void
nixery_http_close(nixery_http_call_t *call)
{
    curl_easy_cleanup(call->easy);
    (void) curl_multi_cleanup(call->multi);
    curl_url_cleanup(call->url);
    curl_slist_free_all(call->headers);
    curl_free(call->first);
    curl_free(call->origin);
}


/* Not by curl_easy_perform(), which looks up once in a second. */

static int
nixery_http_perform(nixery_http_call_t *call)
{
    int         running, left;
    CURLMsg    *msg;
    CURLcode    code;
    CURLMcode   mc;

    call->reason[0] = '\0';

    code = CURLE_OK;
    mc = curl_multi_add_handle(call->multi, call->easy);

    while (mc == CURLM_OK) {

        if (nixery_canceled(call->http->cancel)) {
            code = CURLE_ABORTED_BY_CALLBACK;
            break;
        }

        mc = curl_multi_perform(call->multi, &running);

        if (mc != CURLM_OK || nixery_http_announced(call) != NIXERY_OK) {
            break;
        }

        if (running == 0) {
            msg = curl_multi_info_read(call->multi, &left);
            code = msg ? msg->data.result : CURLE_OUT_OF_MEMORY;
            break;
        }

        mc = curl_multi_poll(call->multi, NULL, 0, NIXERY_HTTP_TICK, NULL);
    }

    (void) curl_multi_remove_handle(call->multi, call->easy);

    if (mc != CURLM_OK) {
        (void) snprintf(call->reason, CURL_ERROR_SIZE, "%s",
                        curl_multi_strerror(mc));
        return nixery_http_error(call, NIXERY_ERROR_SYSTEM);
    }

    return nixery_http_result(call, code);
}


static int
nixery_http_result(nixery_http_call_t *call, CURLcode code)
{
    long    errnum;
    size_t  len;
    char    buf[128];

    if (call->rc != NIXERY_OK) {
        return call->rc;
    }

    if (code == CURLE_OK && !call->whole) {
        (void) snprintf(call->reason, CURL_ERROR_SIZE,
                        "the answer ends in its head");
        return nixery_http_error(call, NIXERY_ERROR_SOURCE);
    }

    if (code == CURLE_OK || call->unwanted) {
        call->unwanted = 0;
        return NIXERY_OK;
    }

    if (call->reason[0] == '\0') {
        (void) snprintf(call->reason, CURL_ERROR_SIZE, "%s",
                        curl_easy_strerror(code));
    }

    switch (code) {

    case CURLE_ABORTED_BY_CALLBACK:
        (void) snprintf(call->reason, CURL_ERROR_SIZE, "canceled");
        return nixery_http_error(call, NIXERY_ERROR_CANCELED);

    case CURLE_OPERATION_TIMEDOUT:
        return nixery_http_error(call, NIXERY_ERROR_TIMEOUT);

    case CURLE_OUT_OF_MEMORY:
        return nixery_error_nomem(call->err);

    case CURLE_COULDNT_CONNECT:
        errnum = 0;
        (void) curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &errnum);

        if (errnum == 0) {
            errnum = call->errnum;
        }

        /* a proxy is named by libcurl */

        if (errnum != 0) {
            len = call->proxied ? strlen(call->reason) : 0;
            (void) snprintf(call->reason + len, CURL_ERROR_SIZE - len, "%s%s",
                            len ? ": " : "",
                            strerror_r(errnum, buf, sizeof(buf)));
        }

        return nixery_http_error(call, errnum == EMFILE || errnum == ENFILE
                                           ? NIXERY_ERROR_SYSTEM
                                           : NIXERY_ERROR_SOURCE);

    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:

        /* of this code is a certificate for another host, too */

        if (strstr(call->reason, "certificate subject name") == NULL) {
            len = strlen(call->reason);
            (void) snprintf(call->reason + len, CURL_ERROR_SIZE - len, "%s",
                            "; \"nixery_nix_env NIX_SSL_CERT_FILE\" says "
                            "which authorities are trusted");
        }

        return nixery_http_error(call, NIXERY_ERROR_SOURCE);

    default:
        return nixery_http_error(call, NIXERY_ERROR_SOURCE);
    }
}


static curl_socket_t
nixery_http_socket(void *userdata, curlsocktype purpose,
    struct curl_sockaddr *addr)
{
    int                  fd;
    nixery_http_call_t  *call;

    call = userdata;

    fd = socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);

    call->errnum = (fd == -1) ? errno : 0;

    return fd;
}


/* libcurl takes an answer for whole that ends between two of its headers. */

static size_t
nixery_http_head(char *data, size_t size, size_t n, void *userdata)
{
    nixery_http_call_t  *call;

    call = userdata;
    n *= size;

    if (n > 5 && strncmp(data, "HTTP/", 5) == 0) {
        call->whole = 0;

    } else if (n <= 2 && data[n - 1] == '\n') {
        call->whole = 1;
    }

    return n;
}


/* The body of a redirect or an error may be of any length, or without end. */

static size_t
nixery_http_body(char *data, size_t size, size_t n, void *userdata)
{
    long                 status;
    nixery_http_t       *http;
    nixery_http_call_t  *call;

    call = userdata;
    http = call->http;
    n *= size;

    status = 0;
    (void) curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);

    if (status != 200) {
        call->unwanted = 1;
        return CURL_WRITEFUNC_ERROR;
    }

    if (n > http->max - http->size) {
        (void) snprintf(call->reason, CURL_ERROR_SIZE,
                        "it has more than %ju bytes", (uintmax_t) http->max);
        call->rc = nixery_http_error(call, NIXERY_ERROR_SOURCE);

    } else if (http->fd == -1) {
        if (nixery_buf_append(&http->body, data, n) != NIXERY_OK) {
            call->rc = nixery_error_nomem(call->err);
        }

    } else if (nixery_file_write(http->fd, data, n) == -1) {
        call->rc = nixery_error_errno(call->err, NIXERY_ERROR_SYSTEM, errno,
                                      "keep what %s has", http->what);
    }

    if (call->rc != NIXERY_OK) {
        return CURL_WRITEFUNC_ERROR;
    }

    http->size += n;

    return n;
}


/* A body that is too large by its own account is not waited for. */

static int
nixery_http_announced(nixery_http_call_t *call)
{
    long        status;
    curl_off_t  len;

    status = 0;
    len = -1;

    (void) curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    (void) curl_easy_getinfo(call->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T,
                             &len);

    if (status != 200 || len < 0 || (uint64_t) len <= call->http->max) {
        return NIXERY_OK;
    }

    (void) snprintf(call->reason, CURL_ERROR_SIZE,
                    "it has more than %ju bytes", (uintmax_t) call->http->max);
    call->rc = nixery_http_error(call, NIXERY_ERROR_SOURCE);

    return call->rc;
}


/*
 * Not by libcurl, which would stay with the proxy of the first URL.
 * NIXERY_DECLINED: it is the answer, and no redirect.
 */

static int
nixery_http_redirect(nixery_http_call_t *call, unsigned redirects)
{
    long                 status;
    CURLUcode            uc;
    struct curl_header  *location;

    status = 0;
    (void) curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);

    call->http->status = status;

    if (status != 301 && status != 302 && status != 303 && status != 307
        && status != 308)
    {
        return NIXERY_DECLINED;
    }

    if (curl_easy_header(call->easy, "Location", 0, CURLH_HEADER, -1,
                         &location)
        != CURLHE_OK)
    {
        return NIXERY_DECLINED;
    }

    if (redirects == NIXERY_HTTP_REDIRECTS) {
        (void) snprintf(call->reason, CURL_ERROR_SIZE,
                        "more than %d redirects", NIXERY_HTTP_REDIRECTS);
        return nixery_http_error(call, NIXERY_ERROR_SOURCE);
    }

    uc = curl_url_set(call->url, CURLUPART_URL, location->value,
                      CURLU_DISALLOW_USER | CURLU_URLENCODE);

    if (uc == CURLUE_OUT_OF_MEMORY) {
        return nixery_error_nomem(call->err);
    }

    if (uc != CURLUE_OK) {
        (void) snprintf(call->reason, CURL_ERROR_SIZE,
                        "it leads to a URL that can't be used: %s",
                        curl_url_strerror(uc));
        return nixery_http_error(call, NIXERY_ERROR_SOURCE);
    }

    return NIXERY_OK;
}


static int
nixery_http_answer(nixery_http_call_t *call)
{
    nixery_http_t       *http;
    struct curl_header  *etag;

    http = call->http;

    /* an empty body is not NULL */

    if (http->fd == -1 && nixery_buf_append(&http->body, "", 0) != NIXERY_OK) {
        return nixery_error_nomem(call->err);
    }

    if (curl_easy_header(call->easy, "ETag", 0, CURLH_HEADER, -1, &etag)
        != CURLHE_OK)
    {
        return NIXERY_OK;
    }

    http->new_etag = strdup(etag->value);

    return http->new_etag ? NIXERY_OK : nixery_error_nomem(call->err);
}


int
nixery_http_error(nixery_http_call_t *call, nixery_error_e kind)
{
    return nixery_error_set(call->err, kind, "can't get %s: %s",
                            call->http->what, call->reason);
}
