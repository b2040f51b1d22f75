
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <stdio.h>
#include "nixery_url.h"


/* Where the parts of a URL begin and end; all point into its text. */

typedef struct {
    const char    *authority;
    const char    *userinfo;    /* its end, at "@"; or NULL */
    const char    *host;
    const char    *path;
    const char    *query;       /* at "?" or "#", or at the end */
} nixery_url_parts_t;


static int nixery_url_scheme(nixery_url_t *url, const char *text,
    const char *schemes, nixery_error_t *err);
static int nixery_url_check(const nixery_url_t *url,
    const nixery_url_parts_t *parts, nixery_error_t *err);
static int nixery_url_host(const nixery_url_parts_t *parts,
    nixery_error_t *err);
static int nixery_url_port(const char *p, const char *end);
static int nixery_url_option(const char *p);
static int nixery_url_userinfo(nixery_url_t *url,
    const nixery_url_parts_t *parts, nixery_error_t *err);
static int nixery_url_decode(char **to, const char *p, const char *end,
    const char *what, nixery_error_t *err);
static int nixery_url_hex(char c);


int
nixery_url_parse(nixery_url_t *url, const char *text, const char *schemes,
    nixery_error_t *err)
{
    const char          *p;
    nixery_url_parts_t   parts;

    memset(url, 0, sizeof(nixery_url_t));

    for (p = text; *p != '\0'; p++) {
        if (*p <= ' ' || *p >= 0x7f || strchr("\"<>\\^`{|}", *p) != NULL) {
            return nixery_error_set(err, NIXERY_ERROR_SOURCE, "its byte %zu "
                                    "can't stand in a URL, %%%02X can",
                                    p - text + 1, (unsigned char) *p);
        }
    }

    if (nixery_url_scheme(url, text, schemes, err) != NIXERY_OK) {
        goto failed;
    }

    parts.authority = text + strlen(url->scheme) + 3;
    parts.path = parts.authority + strcspn(parts.authority, "/?#");
    parts.query = parts.path + strcspn(parts.path, "?#");

    /* a password may have an "@" that nobody encoded */

    parts.userinfo = memrchr(parts.authority, '@',
                             parts.path - parts.authority);
    parts.host = parts.userinfo ? parts.userinfo + 1 : parts.authority;

    if (nixery_url_check(url, &parts, err) != NIXERY_OK
        || nixery_url_userinfo(url, &parts, err) != NIXERY_OK)
    {
        goto failed;
    }

    p = url->user == NULL && parts.userinfo != NULL ? parts.authority
                                                    : parts.host;

    if (asprintf(&url->bare, "%s://%s", url->scheme, p) == -1) {
        url->bare = NULL;
        goto nomem;
    }

    if (asprintf(&url->shown, "%s://%.*s", url->scheme,
                 (int) (parts.query - p), p)
        == -1)
    {
        url->shown = NULL;
        goto nomem;
    }

    if (strcmp(url->scheme, "file") == 0
        && nixery_url_decode(&url->path, parts.path, parts.query, "path", err)
           != NIXERY_OK)
    {
        goto failed;
    }

    return NIXERY_OK;

nomem:

    (void) nixery_error_nomem(err);

failed:

    nixery_url_free(url);

    return NIXERY_ERROR;
}


void
nixery_url_free(nixery_url_t *url)
{
    free(url->scheme);
    free(url->user);
    free(url->password);
    free(url->bare);
    free(url->shown);
    free(url->path);
    memset(url, 0, sizeof(nixery_url_t));
}


static int
nixery_url_scheme(nixery_url_t *url, const char *text, const char *schemes,
    nixery_error_t *err)
{
    char         *p;
    size_t        len, n;
    const char   *s, *end;

    end = strstr(text, "://");

    if (end == NULL || strcspn(text, ":") != (size_t) (end - text)) {
        return nixery_error_set(err, NIXERY_ERROR_SOURCE, "it is no URL, which "
                                "begins with a protocol and \"://\" (one of: "
                                "%s)%s", schemes,
                                strchr(text, '@') && !strstr(text, "::")
                                    ? "; \"user@host:path\" is written "
                                      "ssh://user@host/path"
                                    : "");
    }

    len = end - text;

    url->scheme = strndup(text, len);
    if (url->scheme == NULL) {
        return nixery_error_nomem(err);
    }

    for (p = url->scheme; *p != '\0'; p++) {
        if (*p >= 'A' && *p <= 'Z') {
            *p |= 0x20;
        }
    }

    for (s = schemes; *s != '\0'; s += n + (s[n] == ' ')) {
        n = strcspn(s, " ");

        if (n == len && memcmp(s, url->scheme, n) == 0) {
            return NIXERY_OK;
        }
    }

    return nixery_error_set(err, NIXERY_ERROR_SOURCE, "its protocol is not one "
                            "of: %s", schemes);
}


static int
nixery_url_check(const nixery_url_t *url, const nixery_url_parts_t *parts,
    nixery_error_t *err)
{
    if (strcmp(url->scheme, "file") == 0) {
        if (parts->host != parts->path || *parts->path != '/') {
            return nixery_error_set(err, NIXERY_ERROR_SOURCE, "a file URL is "
                                    "\"file://\" and an absolute path");
        }

        return NIXERY_OK;
    }

    if (parts->host == parts->path || *parts->host == ':') {
        return nixery_error_set(err, NIXERY_ERROR_SOURCE, "it has no host");
    }

    return nixery_url_host(parts, err);
}


static int
nixery_url_host(const nixery_url_parts_t *parts, nixery_error_t *err)
{
    const char  *end;

    if (nixery_url_option(parts->host)) {
        return nixery_error_set(err, NIXERY_ERROR_SOURCE, "a host can't begin "
                                "with \"-\"");
    }

    end = parts->host + strcspn(parts->host, "[]:/?#");

    if (*parts->host == '[') {
        end = parts->host + strcspn(parts->host, "]/?#");

        if (*end++ != ']' || end - parts->host == 2) {
            return nixery_error_set(err, NIXERY_ERROR_SOURCE, "an address in "
                                    "\"[\" has no \"]\", or is empty");
        }

    } else if (*end == '[' || *end == ']') {
        return nixery_error_set(err, NIXERY_ERROR_SOURCE, "a host can't have "
                                "\"[\" or \"]\" in it");
    }

    /* else it may be a password, which would be shown as one */

    if (!nixery_url_port(end, parts->path)) {
        return nixery_error_set(err, NIXERY_ERROR_SOURCE, "behind its host is "
                                "no port; in a user or a password \"/\" is "
                                "written %%2F, \"?\" %%3F and \"#\" %%23");
    }

    return NIXERY_OK;
}


/* Nothing, or ":" and a number; RFC 3986 allows that to be empty. */

static int
nixery_url_port(const char *p, const char *end)
{
    size_t         n;
    unsigned long  port;

    if (p == end) {
        return 1;
    }

    n = strspn(p + 1, "0123456789");

    if (*p != ':' || p + 1 + n != end || n > sizeof("65535") - 1) {
        return 0;
    }

    port = strtoul(p + 1, NULL, 10);

    return n == 0 || (port > 0 && port <= 65535);
}


/*
 * What comes to a command line could be taken for an option, by git as well,
 * which decodes all of an ssh URL.
 */

static int
nixery_url_option(const char *p)
{
    return *p == '-' || strncasecmp(p, "%2d", 3) == 0;
}


static int
nixery_url_userinfo(nixery_url_t *url, const nixery_url_parts_t *parts,
    nixery_error_t *err)
{
    const char  *colon;

    if (parts->userinfo == NULL) {
        return NIXERY_OK;
    }

    colon = memchr(parts->authority, ':', parts->userinfo - parts->authority);

    if (strcmp(url->scheme, "ssh") == 0) {
        if (colon != NULL) {
            return nixery_error_set(err, NIXERY_ERROR_SOURCE, "ssh takes no "
                                    "password, it takes a key");
        }

        if (nixery_url_option(parts->authority)) {
            return nixery_error_set(err, NIXERY_ERROR_SOURCE, "a user can't "
                                    "begin with \"-\"");
        }

        return NIXERY_OK;
    }

    if (strcmp(url->scheme, "http") != 0 && strcmp(url->scheme, "https") != 0) {
        return nixery_error_set(err, NIXERY_ERROR_SOURCE, "%s has no users",
                                url->scheme);
    }

    if (nixery_url_decode(&url->user, parts->authority,
                          colon ? colon : parts->userinfo, "user", err)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    /* a token that stands alone is a user without a password */

    return nixery_url_decode(&url->password,
                             colon ? colon + 1 : parts->userinfo,
                             parts->userinfo, "password", err);
}


static int
nixery_url_decode(char **to, const char *p, const char *end, const char *what,
    nixery_error_t *err)
{
    int    high, low;
    char  *q;

    *to = malloc(end - p + 1);
    if (*to == NULL) {
        return nixery_error_nomem(err);
    }

    for (q = *to; p < end; p++) {

        if (*p != '%') {
            *q++ = *p;
            continue;
        }

        high = end - p > 2 ? nixery_url_hex(p[1]) : -1;
        low = end - p > 2 ? nixery_url_hex(p[2]) : -1;

        if (high == -1 || low == -1 || high * 16 + low < 0x20) {
            return nixery_error_set(err, NIXERY_ERROR_SOURCE, "its %s has a "
                                    "\"%%\" without two hexadecimal digits of "
                                    "a character", what);
        }

        *q++ = (char) (high * 16 + low);
        p += 2;
    }

    *q = '\0';

    return NIXERY_OK;
}


static int
nixery_url_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
