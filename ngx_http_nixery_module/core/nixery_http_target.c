
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <stdio.h>
#include <strings.h>
#include "nixery_http_call.h"


static int nixery_http_show(nixery_http_call_t *call);
static int nixery_http_proxy(nixery_http_call_t *call);
static const char *nixery_http_env(char *const *env, const char *const *names);


/*
 * The names that libcurl looks for in an environment, in its order: there is
 * no HTTP_PROXY, which a client of a CGI program could set.
 */

static const char *const  nixery_http_proxies[] = {
    "http_proxy", "all_proxy", "ALL_PROXY", NULL
};

static const char *const  nixery_https_proxies[] = {
    "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL
};

static const char *const  nixery_no_proxies[] = {
    "no_proxy", "NO_PROXY", NULL
};

static const char *const  nixery_ca_bundles[] = {
    "NIX_SSL_CERT_FILE", "SSL_CERT_FILE", NULL
};


int
nixery_http_trust(nixery_http_call_t *call)
{
    int          bad;
    const char  *bundle;

    bundle = nixery_http_env(call->http->env, nixery_ca_bundles);

    if (bundle == NULL) {
        return NIXERY_OK;
    }

    /* it is instead of the system's, of which some are a directory */

    bad = curl_easy_setopt(call->easy, CURLOPT_CAINFO, bundle)
          || curl_easy_setopt(call->easy, CURLOPT_CAPATH, NULL);

    return bad ? nixery_error_nomem(call->err) : NIXERY_OK;
}


int
nixery_http_target(nixery_http_call_t *call)
{
    int             bad;
    char           *url;
    long            timeout;
    uint64_t        now;
    const char     *user, *password;
    nixery_http_t  *http;

    http = call->http;
    url = NULL;

    if (nixery_http_show(call) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    user = call->known ? http->user : NULL;
    password = call->known ? http->password : NULL;

    if (user == NULL && password != NULL) {
        user = "";
    }

    timeout = 0;

    if (call->deadline != 0) {
        now = nixery_now();

        /* 0 would be no limit */
        timeout = call->deadline <= now             ? 1
                  : call->deadline - now >= INT_MAX ? INT_MAX
                                                    : call->deadline - now;
    }

    bad = curl_url_get(call->url, CURLUPART_URL, &url, 0)
          || curl_easy_setopt(call->easy, CURLOPT_URL, url)
          || curl_easy_setopt(call->easy, CURLOPT_USERNAME, user)
          || curl_easy_setopt(call->easy, CURLOPT_PASSWORD, password)
          || curl_easy_setopt(call->easy, CURLOPT_TIMEOUT_MS, timeout);

    curl_free(url);

    return bad ? nixery_error_nomem(call->err) : nixery_http_proxy(call);
}


/* What the messages say of the URL, and whether it is the first one's host. */

static int
nixery_http_show(nixery_http_call_t *call)
{
    int             bad;
    char           *shown, *origin, *host;
    CURLU          *url;
    nixery_http_t  *http;

    http = call->http;

    free(http->what);
    free(http->host);

    http->what = NULL;
    http->host = NULL;

    shown = NULL;
    origin = NULL;
    host = NULL;

    url = curl_url_dup(call->url);

    bad = url == NULL || curl_url_set(url, CURLUPART_QUERY, NULL, 0)
          || curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0)
          || curl_url_get(url, CURLUPART_URL, &shown, 0)
          || curl_url_set(url, CURLUPART_PATH, NULL, 0)
          || curl_url_get(url, CURLUPART_URL, &origin, CURLU_DEFAULT_PORT);
    if (bad) {
        goto done;
    }

    /* that of a file has none */

    (void) curl_url_get(url, CURLUPART_HOST, &host, 0);

    http->host = strdup(host ? host : "");

    if (call->first == NULL) {
        bad = asprintf(&http->what, "\"%s\"", shown) == -1;

        call->known = 1;
        call->first = shown;
        call->origin = origin;

        shown = NULL;
        origin = NULL;

    } else {
        bad = asprintf(&http->what, "\"%s\", which leads to \"%s\"",
                       call->first, shown)
              == -1;

        call->known = strcasecmp(call->origin, origin) == 0;
    }

    if (bad) {
        http->what = NULL;
    }

done:

    curl_url_cleanup(url);
    curl_free(shown);
    curl_free(origin);
    curl_free(host);

    if (bad || http->host == NULL) {
        return nixery_error_nomem(call->err);
    }

    return NIXERY_OK;
}


/*
 * An empty proxy and an empty list keep libcurl from looking into the
 * process's environment.  It shows the URL of a proxy that it can't use, so
 * it gets user and password apart.
 */

static int
nixery_http_proxy(nixery_http_call_t *call)
{
    int          bad;
    char        *scheme, *proxy, *user, *password;
    CURLU       *url;
    CURLUcode    uc;
    const char  *text, *except;

    scheme = NULL;
    proxy = NULL;
    user = NULL;
    password = NULL;
    url = NULL;
    uc = CURLUE_OK;

    except = nixery_http_env(call->http->env, nixery_no_proxies);

    bad = curl_url_get(call->url, CURLUPART_SCHEME, &scheme, 0)
          || curl_easy_setopt(call->easy, CURLOPT_NOPROXY,
                              except ? except : "");
    if (bad) {
        goto done;
    }

    text = nixery_http_env(call->http->env, strcmp(scheme, "https") == 0
                                                ? nixery_https_proxies
                                                : nixery_http_proxies);
    call->proxied = (text != NULL);

    if (text == NULL) {
        bad = curl_easy_setopt(call->easy, CURLOPT_PROXY, "") != CURLE_OK;
        goto done;
    }

    url = curl_url();

    if (url == NULL) {
        bad = 1;
        goto done;
    }

    uc = curl_url_set(url, CURLUPART_URL, text,
                      CURLU_NON_SUPPORT_SCHEME | CURLU_GUESS_SCHEME);

    if (uc != CURLUE_OK) {
        (void) snprintf(call->reason, CURL_ERROR_SIZE, "the proxy that the "
                        "environment names can't be used: %s",
                        curl_url_strerror(uc));
        bad = uc == CURLUE_OUT_OF_MEMORY;
        goto done;
    }

    /* a proxy need not have them */

    (void) curl_url_get(url, CURLUPART_USER, &user, CURLU_URLDECODE);
    (void) curl_url_get(url, CURLUPART_PASSWORD, &password, CURLU_URLDECODE);

    bad = curl_url_set(url, CURLUPART_USER, NULL, 0)
          || curl_url_set(url, CURLUPART_PASSWORD, NULL, 0)
          || curl_url_get(url, CURLUPART_URL, &proxy, 0)
          || curl_easy_setopt(call->easy, CURLOPT_PROXY, proxy)
          || curl_easy_setopt(call->easy, CURLOPT_PROXYUSERNAME, user)
          || curl_easy_setopt(call->easy, CURLOPT_PROXYPASSWORD, password);

done:

    curl_url_cleanup(url);
    curl_free(scheme);
    curl_free(proxy);
    curl_free(user);
    curl_free(password);

    if (bad) {
        return nixery_error_nomem(call->err);
    }

    return uc == CURLUE_OK ? NIXERY_OK
                           : nixery_http_error(call, NIXERY_ERROR_SOURCE);
}


/* The first of the names that has a value. */

static const char *
nixery_http_env(char *const *env, const char *const *names)
{
    size_t        len;
    char *const  *var;

    if (env == NULL) {
        return NULL;
    }

    for (/* void */; *names != NULL; names++) {
        len = strlen(*names);

        for (var = env; *var != NULL; var++) {
            if (strncmp(*var, *names, len) == 0 && (*var)[len] == '='
                && (*var)[len + 1] != '\0')
            {
                return *var + len + 1;
            }
        }
    }

    return NULL;
}
