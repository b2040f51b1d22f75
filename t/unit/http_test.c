
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "server.h"
#include "nixery_http.h"


#define THREADS  8
#define ROUNDS   20

/* no test comes near to it */
#define LONG_TIME  60000

#define OK_HEAD  "HTTP/1.1 200 OK\r\n"


typedef struct {
    char  *url;
    int    wrong;
} client_t;


static int start_server(void **state);
static int stop_server(void **state);
static void set_up(nixery_http_t *http, const char *url);
static int get(nixery_http_t *http, nixery_error_t *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void assert_got(const char *text, nixery_http_t *http,
    nixery_error_t *err, int rc);
static void assert_no(nixery_error_e kind, const char *text,
    nixery_error_t *err, int rc);
static void *client(void *data);
static void *cancel_later(void *data);
static void wait_for_tasks(int n);
static int tasks(void);


static int        unused;       /* a port that refuses */
static int        unused_fd;
static char      *trusted[2];   /* an environment with the server's CA */
static server_t   server;


static void
body_and_etag(void **state)
{
    int             rc, before;
    char           *etag;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    before = unit_descriptors();

    rc = get(&http, &err, "http://127.0.0.1:%d/file", server.port[0]);
    assert_int_equal(http.status, 200);
    assert_non_null(http.new_etag);
    assert_string_equal(http.host, "127.0.0.1");
    etag = strdup(http.new_etag);
    assert_got("some bytes\n", &http, &err, rc);

    rc = get(&http, &err, "http://127.0.0.1:%d/empty", server.port[0]);
    assert_int_equal(http.status, 200);
    assert_got("", &http, &err, rc);

    rc = get(&http, &err, "http://127.0.0.1:%d/no-etag/file", server.port[0]);
    assert_int_equal(http.status, 200);
    assert_null(http.new_etag);
    assert_got("some bytes\n", &http, &err, rc);

    /* the same again: nothing is sent */

    set_up(&http, NULL);
    http.etag = etag;
    http.url = format("http://127.0.0.1:%d/file", server.port[0]);
    assert_int_equal(nixery_http_get(&http, &err), NIXERY_OK);
    assert_int_equal(http.status, 304);
    assert_string_equal(http.new_etag, etag);
    assert_int_equal(http.body.len, 0);
    nixery_http_free(&http);

    /* a change */

    server_file(&server, "file", "other bytes\n");
    rc = nixery_http_get(&http, &err);
    assert_int_equal(http.status, 200);
    assert_string_not_equal(http.new_etag, etag);
    free((char *) http.url);
    assert_got("other bytes\n", &http, &err, rc);

    server_file(&server, "file", "some bytes\n");
    free(etag);

    assert_int_equal(unit_descriptors(), before);
}


static void
body_to_a_file(void **state)
{
    int             fd;
    char            buf[64], path[] = "/tmp/nixery-http-test.XXXXXX";
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    fd = mkstemp(path);
    assert_int_not_equal(fd, -1);
    assert_int_equal(unlink(path), 0);

    set_up(&http, format("http://127.0.0.1:%d/file", server.port[0]));
    http.fd = fd;

    assert_int_equal(nixery_http_get(&http, &err), NIXERY_OK);
    assert_int_equal(http.size, 11);
    assert_null(http.body.data);
    assert_int_equal(pread(fd, buf, sizeof(buf), 0), 11);
    assert_memory_equal(buf, "some bytes\n", 11);

    free((char *) http.url);
    nixery_http_free(&http);
    (void) close(fd);

    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_not_equal(fd, -1);

    set_up(&http, format("http://127.0.0.1:%d/file?token=secret",
                         server.port[0]));
    http.fd = fd;

    assert_no(NIXERY_ERROR_SYSTEM, "/file\" has: No space left on device",
              &err, nixery_http_get(&http, &err));
    assert_null(http.what);

    free((char *) http.url);
    (void) close(fd);
}


static void
status_without_a_body(void **state)
{
    int             i, rc;
    char           *text;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    static const struct {
        const char  *path;
        int          status;
    } answers[] = {
        { "none", 404 },
        { "gone", 410 },
        { "forbidden", 403 },
        { "broken", 500 },
        { "away?x", 502 }
    };

    (void) state;

    for (i = 0; i < (int) (sizeof(answers) / sizeof(answers[0])); i++) {
        rc = get(&http, &err, "http://127.0.0.1:%d/%s", server.port[0],
                 answers[i].path);

        assert_int_equal(http.status, answers[i].status);
        assert_int_equal(http.size, 0);

        (void) nixery_http_refused(&http, &err);
        text = format("can't get \"http://127.0.0.1:%d/%.*s\": 127.0.0.1 "
                      "answered %d", server.port[0],
                      (int) strcspn(answers[i].path, "?"), answers[i].path,
                      answers[i].status);
        assert_int_equal(err.kind, NIXERY_ERROR_SOURCE);
        assert_string_equal(err.message, text);
        free(text);
        nixery_error_free(&err);

        assert_got("", &http, &err, rc);
    }
}


static void
user_and_password(void **state)
{
    int             rc;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    set_up(&http, format("http://127.0.0.1:%d/private/file", server.port[0]));

    rc = nixery_http_get(&http, &err);
    assert_int_equal(http.status, 401);
    (void) nixery_http_refused(&http, &err);
    assert_non_null(strstr(err.message, " answered 401; it wants a user and a "
                                        "password in the URL"));
    nixery_error_free(&err);
    assert_got("", &http, &err, rc);

    http.user = "me";
    http.password = "wrong";
    rc = nixery_http_get(&http, &err);
    assert_int_equal(http.status, 401);
    (void) nixery_http_refused(&http, &err);
    assert_null(strstr(err.message, "wrong"));
    assert_non_null(strstr(err.message, "; the URL's user and password are no "
                                        "good there"));
    nixery_error_free(&err);
    assert_got("", &http, &err, rc);

    http.password = "secret";
    rc = nixery_http_get(&http, &err);
    assert_int_equal(http.status, 200);
    assert_got("some bytes\n", &http, &err, rc);

    free((char *) http.url);

    /* a token that needs no user */

    http.url = format("http://127.0.0.1:%d/token/file", server.port[0]);
    http.user = NULL;
    rc = nixery_http_get(&http, &err);
    assert_int_equal(http.status, 200);
    assert_got("some bytes\n", &http, &err, rc);

    free((char *) http.url);
}


static void
urls_that_cannot_be(void **state)
{
    size_t          i;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    static const struct {
        const char  *url;
        const char  *message;
    } bad[] = {
        { "", "the URL can't be used: " },
        { "127.0.0.1/secret", "the URL can't be used: " },
        { "gopherx://127.0.0.1/secret", "Unsupported URL scheme" },
        { "http://127.0.0.1:99999/secret", "Port number" },
        { "http://me:secret@127.0.0.1/", "the URL can't be used: Credentials" },
        { "http://secret@127.0.0.1/", "the URL can't be used: Credentials" },
        { "http://127.0.0.1/a b", "the URL can't be used: " },
        { "ftp://127.0.0.1/file?secret", "\"ftp://127.0.0.1/file\": Protocol" },
        { "file:///etc/passwd#secret", "\"file:///etc/passwd\": Protocol" },
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        set_up(&http, bad[i].url);
        assert_no(NIXERY_ERROR_SOURCE, bad[i].message, &err,
                  nixery_http_get(&http, &err));
    }
}


static void
redirects(void **state)
{
    int             rc;
    char           *text;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    rc = get(&http, &err, "http://127.0.0.1:%d/to/relative", server.port[0]);
    assert_int_equal(http.status, 200);
    text = format("\"http://127.0.0.1:%d/to/relative\", which leads to "
                  "\"http://127.0.0.1:%d/file\"", server.port[0],
                  server.port[0]);
    assert_string_equal(http.what, text);
    free(text);
    assert_got("some bytes\n", &http, &err, rc);

    rc = get(&http, &err, "http://127.0.0.1:%d/to/303", server.port[0]);
    assert_got("some bytes\n", &http, &err, rc);

    rc = get(&http, &err, "http://127.0.0.1:%d/to/307", server.port[0]);
    assert_got("some bytes\n", &http, &err, rc);

    /* ten of them, and eleven */

    rc = get(&http, &err, "http://127.0.0.1:%d/hop/10", server.port[0]);
    assert_int_equal(http.status, 200);
    assert_got("some bytes\n", &http, &err, rc);

    rc = get(&http, &err, "http://127.0.0.1:%d/hop/11", server.port[0]);
    assert_no(NIXERY_ERROR_SOURCE, "/hop/11\", which leads to \"http://", &err,
              rc);

    rc = get(&http, &err, "http://127.0.0.1:%d/to/itself", server.port[0]);
    assert_no(NIXERY_ERROR_SOURCE, ": more than 10 redirects", &err, rc);

    /* not everywhere */

    rc = get(&http, &err, "http://127.0.0.1:%d/to/a-file", server.port[0]);
    assert_no(NIXERY_ERROR_SOURCE, "which leads to \"file:///etc/passwd\": "
              "Protocol \"file\"", &err, rc);

    rc = get(&http, &err, "http://127.0.0.1:%d/to/ftp", server.port[0]);
    assert_no(NIXERY_ERROR_SOURCE, "Protocol \"ftp\"", &err, rc);

    rc = get(&http, &err, "http://127.0.0.1:%d/to/nonsense", server.port[0]);
    assert_no(NIXERY_ERROR_SOURCE, "it leads to a URL that can't be used: "
              "Unsupported URL scheme", &err, rc);

    rc = get(&http, &err, "http://127.0.0.1:%d/to/password", server.port[0]);
    assert_no(NIXERY_ERROR_SOURCE, "it leads to a URL that can't be used: "
              "Credentials", &err, rc);

    /* it is the second URL that refuses; neither's query is shown */

    rc = get(&http, &err, "http://127.0.0.1:%d/to/forbidden?token=secret",
             server.port[0]);
    assert_int_equal(http.status, 403);
    (void) nixery_http_refused(&http, &err);
    text = format("can't get \"http://127.0.0.1:%d/to/forbidden\", which leads "
                  "to \"http://127.0.0.1:%d/forbidden\": 127.0.0.1 answered "
                  "403", server.port[0], server.port[0]);
    assert_string_equal(err.message, text);
    free(text);
    nixery_error_free(&err);
    assert_got("", &http, &err, rc);
}


static void
redirect_with_nowhere_to_go(void **state)
{
    int             rc;
    fake_t          fake;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    fake_start(&fake, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
               FAKE_CLOSE);
    rc = get(&http, &err, "http://127.0.0.1:%d/", fake.port);
    assert_int_equal(http.status, 302);
    assert_got("", &http, &err, rc);
    fake_stop(&fake);

    /* not for these, whatever they say */

    fake_start(&fake, "HTTP/1.1 404 Not Found\r\nLocation: /\r\n"
               "Content-Length: 0\r\n\r\n", FAKE_CLOSE);
    rc = get(&http, &err, "http://127.0.0.1:%d/", fake.port);
    assert_int_equal(http.status, 404);
    assert_got("", &http, &err, rc);
    fake_stop(&fake);
}


static void
credentials_stay_with_the_host(void **state)
{
    int             rc;
    char           *answer;
    fake_t          fake;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    /* the port is a part of what a host is */

    answer = format("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n"
                    "Location: http://127.0.0.1:%d/seen\r\n\r\n",
                    server.port[0]);
    fake_start(&fake, answer, FAKE_CLOSE);

    set_up(&http, format("http://127.0.0.1:%d/start", fake.port));
    http.user = "me";
    http.password = "secret";

    rc = nixery_http_get(&http, &err);
    assert_got("[]", &http, &err, rc);

    fake_stop(&fake);
    assert_non_null(strstr(fake.request, "\r\nAuthorization: Basic "
                                         "bWU6c2VjcmV0\r\n"));
    free((char *) http.url);
    free(answer);

    /* there and back again: the first host gets them twice */

    answer = format("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n"
                    "Location: http://127.0.0.1:%d/seen\r\n\r\n",
                    server.port[0]);
    fake_start(&fake, answer, FAKE_CLOSE);

    set_up(&http, format("http://127.0.0.1:%d/leave?%d", server.port[0],
                         fake.port));
    http.user = "me";
    http.password = "secret";

    rc = nixery_http_get(&http, &err);
    assert_got("[Basic bWU6c2VjcmV0]", &http, &err, rc);

    fake_stop(&fake);
    assert_null(strstr(fake.request, "Authorization"));
    free((char *) http.url);
    free(answer);

    /* within one host, and to its other scheme */

    set_up(&http, format("http://127.0.0.1:%d/stay", server.port[0]));
    http.user = "me";
    http.password = "secret";

    rc = nixery_http_get(&http, &err);
    assert_got("[Basic bWU6c2VjcmV0]", &http, &err, rc);
    free((char *) http.url);

    set_up(&http, format("http://127.0.0.1:%d/to/tls", server.port[0]));
    http.env = trusted;
    http.user = "me";
    http.password = "secret";

    rc = nixery_http_get(&http, &err);
    assert_got("[]", &http, &err, rc);
    free((char *) http.url);
}


static void
tls(void **state)
{
    int             rc;
    char           *path, *env[3] = { NULL };
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    set_up(&http, format("https://127.0.0.1:%d/file?token=secret",
                         server.port[1]));

    assert_no(NIXERY_ERROR_SOURCE, "/file\": SSL certificate problem: ", &err,
              nixery_http_get(&http, &err));

    /* the CA, by either name; Nix's own wins */

    env[0] = format("SSL_CERT_FILE=%s/tls/ca.pem", server.dir);
    http.env = env;
    rc = nixery_http_get(&http, &err);
    assert_int_equal(http.status, 200);
    assert_got("some bytes\n", &http, &err, rc);

    env[1] = format("NIX_SSL_CERT_FILE=%s/tls/other.pem", server.dir);
    assert_no(NIXERY_ERROR_SOURCE, "; \"nixery_nix_env NIX_SSL_CERT_FILE\" "
              "says which authorities are trusted", &err,
              nixery_http_get(&http, &err));

    free(env[0]);
    free(env[1]);
    env[1] = NULL;

    env[0] = format("NIX_SSL_CERT_FILE=%s/tls/ca.pem", server.dir);
    rc = nixery_http_get(&http, &err);
    assert_got("some bytes\n", &http, &err, rc);
    free(env[0]);

    env[0] = format("NIX_SSL_CERT_FILE=%s/tls/nothing.pem", server.dir);
    path = format("%s/tls/nothing.pem", server.dir);
    assert_no(NIXERY_ERROR_SOURCE, path, &err, nixery_http_get(&http, &err));
    free(path);
    free(env[0]);
    free((char *) http.url);

    /* it is for 127.0.0.1 alone */

    set_up(&http, format("https://other.test:%d/file", server.port[1]));
    http.env = trusted;
    assert_int_equal(nixery_http_get(&http, &err), NIXERY_ERROR);
    assert_null(strstr(err.message, "authorities"));
    assert_no(NIXERY_ERROR_SOURCE, "SSL: no alternative certificate subject "
              "name matches target host name 'other.test'", &err,
              NIXERY_ERROR);
    free((char *) http.url);
}


/* Where Debian's libcurl looks for them, both as a file and by name. */

static void
certificates_of_the_system(void **state)
{
    int             rc;
    char           *command, *path, *env[2] = { NULL };
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    path = format("%s/system", server.dir);
    command = format("mkdir '%1$s' && cp '%2$s/tls/ca.pem' '%1$s' "
                     "&& openssl rehash '%1$s' "
                     "&& cp '%2$s/tls/ca.pem' '%1$s/ca-certificates.crt'",
                     path, server.dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(mount(path, "/etc/ssl/certs", NULL, MS_BIND, NULL), 0);

    set_up(&http, format("https://127.0.0.1:%d/file", server.port[1]));
    rc = nixery_http_get(&http, &err);
    assert_got("some bytes\n", &http, &err, rc);

    /* a bundle of one's own is instead of them */

    env[0] = format("NIX_SSL_CERT_FILE=%s/tls/other.pem", server.dir);
    http.env = env;
    assert_no(NIXERY_ERROR_SOURCE, "SSL certificate problem: ", &err,
              nixery_http_get(&http, &err));

    assert_int_equal(umount("/etc/ssl/certs"), 0);

    free((char *) http.url);
    free(env[0]);
    free(command);
    free(path);
}


static void
environment_of_the_process(void **state)
{
    int             i, rc;
    char           *proxy, *cert;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    static const char  *proxies[] = {
        "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
        "no_proxy"
    };

    static const char  *certs[] = {
        "NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"
    };

    (void) state;

    proxy = format("http://127.0.0.1:%d", unused);
    cert = format("%s/tls/ca.pem", server.dir);

    for (i = 0; i < 6; i++) {
        assert_int_equal(setenv(proxies[i], proxy, 1), 0);
    }

    for (i = 0; i < 3; i++) {
        assert_int_equal(setenv(certs[i], cert, 1), 0);
    }

    /* no proxy is used */

    rc = get(&http, &err, "http://127.0.0.1:%d/file", server.port[0]);
    assert_got("some bytes\n", &http, &err, rc);

    set_up(&http, format("https://127.0.0.1:%d/file", server.port[1]));
    http.env = trusted;
    rc = nixery_http_get(&http, &err);
    assert_got("some bytes\n", &http, &err, rc);

    /* nor a CA */

    http.env = NULL;
    assert_no(NIXERY_ERROR_SOURCE, "SSL certificate problem: ", &err,
              nixery_http_get(&http, &err));
    free((char *) http.url);

    /* nor an exception of what env has */

    for (i = 0; i < 5; i++) {
        assert_int_equal(unsetenv(proxies[i]), 0);
    }

    assert_int_equal(setenv("no_proxy", "127.0.0.1", 1), 0);
    assert_int_equal(setenv("NO_PROXY", "127.0.0.1", 1), 0);

    char  *env[] = { format("http_proxy=%s", proxy), NULL };

    set_up(&http, format("http://127.0.0.1:%d/file", server.port[0]));
    http.env = env;
    assert_no(NIXERY_ERROR_SOURCE, "Connection refused", &err,
              nixery_http_get(&http, &err));
    free((char *) http.url);
    free(env[0]);

    assert_int_equal(unsetenv("no_proxy"), 0);
    assert_int_equal(unsetenv("NO_PROXY"), 0);

    for (i = 0; i < 3; i++) {
        assert_int_equal(unsetenv(certs[i]), 0);
    }

    free(proxy);
    free(cert);
}


static void
proxies(void **state)
{
    int             i, rc;
    char           *env[3], *line;
    fake_t          proxy;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    static const struct {
        const char  *first;
        const char  *second;     /* or NULL */
        const char  *url;
        int          asked;
    } tries[] = {
        { "http_proxy=http://%s", NULL, "http://source.test/file", 1 },
        { "http_proxy=%s", NULL, "http://source.test/file", 1 },
        { "all_proxy=http://%s", NULL, "http://source.test/file", 1 },
        { "ALL_PROXY=http://%s", "http_proxy=", "http://source.test/file", 1 },
        { "http_proxy=http://%s", "all_proxy=http://127.0.0.1:1",
          "http://source.test/file", 1 },
        { "http_proxy=http://%s", "no_proxy=127.0.0.2",
          "http://source.test/file", 1 },
        { "http_proxy=http://%s", "no_proxy=x.test,127.0.0.1", NULL, 0 },
        { "http_proxy=http://%s", "NO_PROXY=127.0.0.1", NULL, 0 },
        { "https_proxy=http://%s", NULL, NULL, 0 },
        { "HTTP_PROXY=http://%s", NULL, NULL, 0 },
        { "Xhttp_proxy=http://%s", "http_proxyX=http://127.0.0.1:1", NULL, 0 }
    };

    (void) state;

    for (i = 0; i < (int) (sizeof(tries) / sizeof(tries[0])); i++) {
        fake_start(&proxy, OK_HEAD "Content-Length: 2\r\n\r\nok", FAKE_CLOSE);

        line = format("127.0.0.1:%d", proxy.port);
        assert_int_not_equal(asprintf(&env[0], tries[i].first, line), -1);
        env[1] = (char *) tries[i].second;
        env[2] = NULL;
        free(line);

        set_up(&http, tries[i].url ? strdup(tries[i].url)
                                   : format("http://127.0.0.1:%d/file",
                                            server.port[0]));
        http.env = env;
        rc = nixery_http_get(&http, &err);
        assert_got(tries[i].asked ? "ok" : "some bytes\n", &http, &err, rc);

        fake_stop(&proxy);
        assert_int_equal(atomic_load(&proxy.requests), tries[i].asked);

        if (tries[i].asked) {
            line = format("GET %s HTTP/1.1\r\n", http.url);
            assert_memory_equal(proxy.request, line, strlen(line));
            assert_null(strstr(proxy.request, "Proxy-Authorization"));
            free(line);
        }

        free(env[0]);
        free((char *) http.url);
    }
}


static void
proxy_for_tls(void **state)
{
    int             i;
    char           *env[2] = { NULL };
    fake_t          proxy;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    static const char  *names[] = {
        "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"
    };

    (void) state;

    for (i = 0; i < 4; i++) {
        fake_start(&proxy, "HTTP/1.1 407 Who are you\r\nContent-Length: 0"
                   "\r\n\r\n", FAKE_CLOSE);

        env[0] = format("%s=http://127.0.0.1:%d", names[i], proxy.port);

        set_up(&http, "https://source.test/file?token=secret");
        http.env = env;
        assert_no(NIXERY_ERROR_SOURCE, "\"https://source.test/file\": "
                  "CONNECT tunnel failed, response 407", &err,
                  nixery_http_get(&http, &err));

        fake_stop(&proxy);
        assert_memory_equal(proxy.request, "CONNECT source.test:443 HTTP/1.1"
                            "\r\n", 34);
        free(env[0]);
    }
}


static void
proxy_by_the_scheme_of_each_redirect(void **state)
{
    char           *env[4], *answer;
    fake_t          plain, tunnel;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    answer = format("HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n"
                    "Location: https://other.test/file\r\n\r\n");

    fake_start(&plain, answer, FAKE_CLOSE);
    fake_start(&tunnel, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
               FAKE_CLOSE);

    env[0] = format("http_proxy=http://127.0.0.1:%d", plain.port);
    env[1] = format("https_proxy=http://127.0.0.1:%d", tunnel.port);
    env[2] = NULL;

    set_up(&http, "http://source.test/file");
    http.env = env;
    assert_no(NIXERY_ERROR_SOURCE, "\"http://source.test/file\", which leads "
              "to \"https://other.test/file\": CONNECT tunnel failed, response "
              "403", &err, nixery_http_get(&http, &err));

    fake_stop(&plain);
    fake_stop(&tunnel);

    assert_non_null(strstr(plain.request, "GET http://source.test/file "));
    assert_non_null(strstr(tunnel.request, "CONNECT other.test:443 "));

    free(env[0]);
    free(env[1]);
    free(answer);
}


static void
proxy_with_a_password(void **state)
{
    int             i, rc;
    char           *at, *env[2] = { NULL };
    fake_t          proxy;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    static const struct {
        const char  *proxy;
        const char  *message;
    } bad[] = {
        { "http_proxy=http://me:secret@%s", "127.0.0.1 port " },
        { "http_proxy=secret@%s9999", "the proxy that the environment names "
          "can't be used: Port number" },
        { "http_proxy=foo://me:secret@%s", "Unsupported proxy" },
        { "http_proxy=socks5://me:secret@%s", "Connection refused" }
    };

    (void) state;

    fake_start(&proxy, OK_HEAD "Content-Length: 2\r\n\r\nok", FAKE_CLOSE);

    env[0] = format("http_proxy=http://me:se%%63ret@127.0.0.1:%d", proxy.port);

    set_up(&http, "http://source.test/file");
    http.env = env;
    rc = nixery_http_get(&http, &err);
    assert_got("ok", &http, &err, rc);
    free(env[0]);

    fake_stop(&proxy);
    assert_non_null(strstr(proxy.request, "\r\nProxy-Authorization: Basic "
                                          "bWU6c2VjcmV0\r\n"));
    assert_null(strstr(proxy.request, "\r\nAuthorization"));

    fake_start(&proxy, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
               FAKE_CLOSE);
    env[0] = format("http_proxy=http://me:secret@127.0.0.1:%d", proxy.port);
    rc = nixery_http_get(&http, &err);
    (void) nixery_http_refused(&http, &err);
    assert_string_equal(err.message, "can't get \"http://source.test/file\": "
                        "the proxy answered 407");
    nixery_error_free(&err);
    assert_got("", &http, &err, rc);
    fake_stop(&proxy);
    free(env[0]);

    at = format("127.0.0.1:%d", unused);

    for (i = 0; i < (int) (sizeof(bad) / sizeof(bad[0])); i++) {
        assert_int_not_equal(asprintf(&env[0], bad[i].proxy, at), -1);
        assert_no(NIXERY_ERROR_SOURCE, bad[i].message, &err,
                  nixery_http_get(&http, &err));
        free(env[0]);
    }

    free(at);
}


static void
answers_that_are_not_whole(void **state)
{
    size_t          i;
    char           *url;
    fake_t          fake;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    static const struct {
        const char  *answer;
        const char  *message;
    } bad[] = {
        { OK_HEAD "Content-Length: 20\r\n\r\n0123456789",
          "transfer closed with 10 bytes remaining to read" },
        { OK_HEAD "Content-Length: 20\r\n\r\n",
          "transfer closed with 20 bytes remaining to read" },
        { OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n01",
          "transfer closed with outstanding read data remaining" },
        { OK_HEAD "Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", "hunk" },
        { "", "Empty reply from server" },
        { "HTTP/1.1 200 OK\r\nETag: \"1\"\r\n",
          "the answer ends in its head" },
        { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nETag",
          "the answer ends in its head" },
        { "nonsense\r\n\r\n", "Received HTTP/0.9 when not allowed" },
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fake_start(&fake, bad[i].answer, FAKE_CLOSE);

        url = format("http://127.0.0.1:%d/file?token=secret", fake.port);
        set_up(&http, url);
        assert_no(NIXERY_ERROR_SOURCE, bad[i].message,
                  &err, nixery_http_get(&http, &err));
        assert_null(http.body.data);
        free(url);

        fake_stop(&fake);
    }
}


static void
size_limit(void **state)
{
    int             rc;
    char           *url;
    fake_t          fake;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    set_up(&http, format("http://127.0.0.1:%d/file", server.port[0]));
    http.max = 11;
    rc = nixery_http_get(&http, &err);
    assert_got("some bytes\n", &http, &err, rc);

    http.max = 10;
    assert_no(NIXERY_ERROR_SOURCE, "/file\": it has more than 10 bytes", &err,
              nixery_http_get(&http, &err));

    /* whatever is of no use may be longer */

    free((char *) http.url);
    http.url = format("http://127.0.0.1:%d/none", server.port[0]);
    rc = nixery_http_get(&http, &err);
    assert_int_equal(http.status, 404);
    assert_got("", &http, &err, rc);
    free((char *) http.url);

    /* said beforehand, and then nothing comes */

    fake_start(&fake, OK_HEAD "Content-Length: 1001\r\n\r\n", FAKE_HOLD);
    url = format("http://127.0.0.1:%d/", fake.port);
    set_up(&http, url);
    http.max = 1000;
    assert_no(NIXERY_ERROR_SOURCE, "it has more than 1000 bytes", &err,
              nixery_http_get(&http, &err));
    free(url);
    fake_stop(&fake);

    /* not said, and without end: 200, an error, a redirect */

    fake_start(&fake, OK_HEAD "\r\n0123456789", FAKE_REPEAT);
    url = format("http://127.0.0.1:%d/", fake.port);
    set_up(&http, url);
    http.max = 1000000;
    assert_no(NIXERY_ERROR_SOURCE, "it has more than 1000000 bytes", &err,
              nixery_http_get(&http, &err));
    free(url);
    fake_stop(&fake);

    fake_start(&fake, "HTTP/1.1 500 Oops\r\n\r\n0123456789", FAKE_REPEAT);
    rc = get(&http, &err, "http://127.0.0.1:%d/", fake.port);
    assert_int_equal(http.status, 500);
    assert_got("", &http, &err, rc);
    fake_stop(&fake);

    url = format("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/file"
                 "\r\n\r\n0123456789", server.port[0]);
    fake_start(&fake, url, FAKE_REPEAT);
    rc = get(&http, &err, "http://127.0.0.1:%d/", fake.port);
    assert_int_equal(http.status, 200);
    assert_got("some bytes\n", &http, &err, rc);
    fake_stop(&fake);
    free(url);
}


static void
bytes_as_they_are(void **state)
{
    int             rc;
    fake_t          fake;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    fake_start(&fake, OK_HEAD "Content-Encoding: gzip\r\nETag: W/\"1\"\r\n"
               "Content-Length: 8\r\n\r\nnot gzip", FAKE_CLOSE);
    rc = get(&http, &err, "http://127.0.0.1:%d/", fake.port);
    assert_string_equal(http.new_etag, "W/\"1\"");
    assert_got("not gzip", &http, &err, rc);
    fake_stop(&fake);

    assert_null(strstr(fake.request, "Accept-Encoding"));
    assert_null(strstr(fake.request, "If-None-Match"));
    assert_non_null(strstr(fake.request, "User-Agent: nginx-nixery\r\n"));
}


static void
time_limit(void **state)
{
    int             i, fd, port;
    char           *url;
    fake_t          fake;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    static const char  *answers[] = {
        "", OK_HEAD, OK_HEAD "Content-Length: 20\r\n\r\n0123456789",
        OK_HEAD "\r\n0123456789"
    };

    (void) state;

    for (i = 0; i < (int) (sizeof(answers) / sizeof(answers[0])); i++) {
        fake_start(&fake, answers[i], FAKE_HOLD);
        url = format("http://127.0.0.1:%d/file?token=secret", fake.port);
        set_up(&http, url);
        http.timeout = 50;
        assert_no(NIXERY_ERROR_TIMEOUT, "/file\": Operation timed out after ",
                  &err, nixery_http_get(&http, &err));
        free(url);
        fake_stop(&fake);
    }

    /* it is for all redirects together, of which none is too slow */

    fake_start(&fake, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n"
               "Location: /\r\n\r\n", FAKE_LATE);
    url = format("http://127.0.0.1:%d/", fake.port);
    set_up(&http, url);
    http.timeout = 5 * FAKE_DELAY;
    assert_no(NIXERY_ERROR_TIMEOUT, "timed out after ", &err,
              nixery_http_get(&http, &err));
    free(url);
    fake_stop(&fake);

    /* nobody accepts: the queue of the socket is full */

    fd = server_listen(0, &port);
    url = format("http://127.0.0.1:%d/", port);

    for (i = 0; i < 3; i++) {
        set_up(&http, url);
        http.timeout = 50;
        assert_no(NIXERY_ERROR_TIMEOUT, "timed out after ", &err,
                  nixery_http_get(&http, &err));
    }

    free(url);
    (void) close(fd);
}


static void
cancellation(void **state)
{
    char            *url;
    fake_t           fake;
    pthread_t        thread;
    nixery_http_t    http;
    nixery_error_t   err = { 0 };
    nixery_cancel_t  cancel = { 0 };

    (void) state;

    /* silence, and a body that comes and comes */

    fake_start(&fake, "", FAKE_HOLD);
    url = format("http://127.0.0.1:%d/file?token=secret", fake.port);
    set_up(&http, url);
    http.cancel = &cancel;

    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &cancel), 0);
    assert_no(NIXERY_ERROR_CANCELED, "/file\": canceled", &err,
              nixery_http_get(&http, &err));
    assert_int_equal(pthread_join(thread, NULL), 0);
    free(url);
    fake_stop(&fake);

    atomic_store(&cancel.flag, 0);

    fake_start(&fake, OK_HEAD "\r\n0123456789", FAKE_REPEAT);
    url = format("http://127.0.0.1:%d/", fake.port);
    set_up(&http, url);
    http.cancel = &cancel;
    http.max = UINT64_MAX;
    http.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &cancel), 0);
    assert_no(NIXERY_ERROR_CANCELED, "canceled", &err,
              nixery_http_get(&http, &err));
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void) close(http.fd);
    fake_stop(&fake);

    /* beforehand: nobody is asked */

    fake_start(&fake, "", FAKE_HOLD);
    http.fd = -1;
    assert_no(NIXERY_ERROR_CANCELED, "canceled", &err,
              nixery_http_get(&http, &err));
    fake_stop(&fake);
    assert_int_equal(atomic_load(&fake.requests), 0);
    free(url);
}


static void
flag_of_the_process(void **state)
{
    nixery_http_t          http;
    nixery_error_t         err = { 0 };
    nixery_cancel_t        cancel = { 0 };
    volatile sig_atomic_t  terminate = 1;

    (void) state;

    cancel.terminate = &terminate;

    set_up(&http, "http://127.0.0.1:1/");
    http.cancel = &cancel;
    assert_no(NIXERY_ERROR_CANCELED, "canceled", &err,
              nixery_http_get(&http, &err));
}


/*
 * The file of hosts is a pipe: whoever looks a name up waits until someone
 * writes.  The lookups that are given up go on behind it.
 */

static void
name_that_is_never_resolved(void **state)
{
    int              fd, before;
    char            *path;
    pthread_t        thread;
    nixery_http_t    http;
    nixery_error_t   err = { 0 };
    nixery_cancel_t  cancel = { 0 };

    (void) state;

    path = format("%s/hosts-pipe", server.dir);
    assert_int_equal(mkfifo(path, 0644), 0);
    assert_int_equal(mount(path, "/etc/hosts", NULL, MS_BIND, NULL), 0);

    before = tasks();

    set_up(&http, "http://source.test/file");
    http.timeout = 50;
    assert_no(NIXERY_ERROR_TIMEOUT, "Resolving timed out after ", &err,
              nixery_http_get(&http, &err));

    http.timeout = 0;
    http.cancel = &cancel;
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &cancel), 0);
    assert_no(NIXERY_ERROR_CANCELED, "canceled", &err,
              nixery_http_get(&http, &err));
    assert_int_equal(pthread_join(thread, NULL), 0);

    wait_for_tasks(before + 2);

    do {
        fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

        if (fd != -1) {
            (void) close(fd);
        }

        (void) poll(NULL, 0, 1);

    } while (tasks() != before);

    assert_int_equal(umount("/etc/hosts"), 0);

    set_up(&http, "http://source.test/file");
    assert_no(NIXERY_ERROR_SOURCE, "Could not resolve host: source.test", &err,
              nixery_http_get(&http, &err));

    free(path);
}


static void
nobody_listens(void **state)
{
    char            *url, *text;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    url = format("http://127.0.0.1:%d/a/file?token=secret#secret", unused);
    text = format("can't get \"http://127.0.0.1:%d/a/file\": Connection "
                  "refused", unused);

    set_up(&http, url);
    assert_int_equal(nixery_http_get(&http, &err), NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_SOURCE);
    assert_string_equal(err.message, text);

    nixery_error_free(&err);
    nixery_http_free(&http);
    free(url);
    free(text);
}


static void
no_descriptor_left(void **state)
{
    int             rc;
    char           *url;
    struct rlimit   rl, old;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    (void) state;

    url = format("http://127.0.0.1:%d/file", server.port[0]);
    set_up(&http, url);

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    rl = old;
    rl.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);

    rc = nixery_http_get(&http, &err);

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);

    assert_no(NIXERY_ERROR_SYSTEM, "/file\": Too many open files", &err, rc);
    free(url);
}


static void
many_at_once(void **state)
{
    int        i, before;
    char      *url;
    client_t   clients[THREADS];
    pthread_t  threads[THREADS];

    (void) state;

    before = unit_descriptors();
    url = format("http://127.0.0.1:%d/file", server.port[0]);

    for (i = 0; i < THREADS; i++) {
        clients[i].url = url;
        clients[i].wrong = 0;
        assert_int_equal(pthread_create(&threads[i], NULL, client,
                                        &clients[i]),
                         0);
    }

    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(clients[i].wrong, 0);
    }

    free(url);
    assert_int_equal(unit_descriptors(), before);
}


static void
freed_twice(void **state)
{
    nixery_http_t  http;

    (void) state;

    memset(&http, 0, sizeof(nixery_http_t));
    nixery_http_free(&http);
    nixery_http_free(&http);
}


/* --- what the tests share */

static int
start_server(void **state)
{
    char  *path;

    static const char  text[] =
        "map $uri $next {\n"
        "    /hop/11 /hop/10;\n"
        "    /hop/10 /hop/9;\n"
        "    /hop/9  /hop/8;\n"
        "    /hop/8  /hop/7;\n"
        "    /hop/7  /hop/6;\n"
        "    /hop/6  /hop/5;\n"
        "    /hop/5  /hop/4;\n"
        "    /hop/4  /hop/3;\n"
        "    /hop/3  /hop/2;\n"
        "    /hop/2  /hop/1;\n"
        "    /hop/1  /file;\n"
        "}\n"
        "server {\n"
        "    listen 127.0.0.1:%1$d;\n"
        "    listen 127.0.0.1:%2$d ssl http2;\n"
        "    ssl_certificate tls/server.pem;\n"
        "    ssl_certificate_key tls/server.key;\n"
        "    location / {\n"
        "    }\n"
        "    location /no-etag/ {\n"
        "        alias html/;\n"
        "        etag off;\n"
        "    }\n"
        "    location /private/ {\n"
        "        alias html/;\n"
        "        auth_basic me;\n"
        "        auth_basic_user_file tls/users;\n"
        "    }\n"
        "    location /token/ {\n"
        "        alias html/;\n"
        "        if ($http_authorization != \"Basic OnNlY3JldA==\") {\n"
        "            return 401;\n"
        "        }\n"
        "    }\n"
        "    location = /gone { return 410; }\n"
        "    location = /forbidden { return 403; }\n"
        "    location = /broken { return 500; }\n"
        "    location = /away { return 502; }\n"
        "    location = /seen { return 200 \"[$http_authorization]\"; }\n"
        "    location = /leave { return 302 http://127.0.0.1:$args/; }\n"
        "    location = /stay { return 302 /seen; }\n"
        "    location /hop/ { return 302 $next; }\n"
        "    location = /to/relative { return 302 ../file; }\n"
        "    location = /to/303 { return 303 /file; }\n"
        "    location = /to/307 { return 307 /file; }\n"
        "    location = /to/itself { return 301 /to/itself; }\n"
        "    location = /to/a-file { return 302 file:///etc/passwd; }\n"
        "    location = /to/ftp { return 302 ftp://127.0.0.1/file; }\n"
        "    location = /to/nonsense { return 302 gopherx://secret/; }\n"
        "    location = /to/password { return 302 http://me:secret@x.test/; }\n"
        "    location = /to/forbidden { return 302 /forbidden?secret; }\n"
        "    location = /to/tls { return 302 https://127.0.0.1:%2$d/seen; }\n"
        "}\n";

    (void) state;

    server_init(&server);

    path = format("%s/nsswitch.conf", server.dir);
    unit_write(path, "hosts: files\n", 0644);
    assert_int_equal(mount(path, "/etc/nsswitch.conf", NULL, MS_BIND, NULL), 0);
    free(path);

    path = format("%s/hosts", server.dir);
    unit_write(path, "127.0.0.1 other.test\n", 0644);
    assert_int_equal(mount(path, "/etc/hosts", NULL, MS_BIND, NULL), 0);
    free(path);

    path = format("%s/tls/users", server.dir);
    unit_write(path, "me:{PLAIN}secret\n", 0644);
    free(path);

    server_file(&server, "file", "some bytes\n");
    server_file(&server, "empty", "");

    server_certificate(&server, "IP:127.0.0.1");

    trusted[0] = format("SSL_CERT_FILE=%s/tls/ca.pem", server.dir);

    server_start(&server, text);

    unused_fd = server_listen(-1, &unused);

    return 0;
}


static int
stop_server(void **state)
{
    (void) state;

    (void) close(unused_fd);
    assert_int_equal(umount("/etc/hosts"), 0);
    assert_int_equal(umount("/etc/nsswitch.conf"), 0);
    server_stop(&server);
    free(trusted[0]);

    return 0;
}


static void
set_up(nixery_http_t *http, const char *url)
{
    memset(http, 0, sizeof(nixery_http_t));

    http->url = url;
    http->timeout = LONG_TIME;
    http->max = 1024 * 1024;
    http->fd = -1;
}


static int
get(nixery_http_t *http, nixery_error_t *err, const char *fmt, ...)
{
    int       rc;
    char     *url;
    va_list   args;

    va_start(args, fmt);
    assert_int_not_equal(vasprintf(&url, fmt, args), -1);
    va_end(args);

    set_up(http, url);
    rc = nixery_http_get(http, err);
    free(url);

    return rc;
}


static void
assert_got(const char *text, nixery_http_t *http, nixery_error_t *err, int rc)
{
    if (rc != NIXERY_OK) {
        fail_msg("%s", err->message);
    }

    assert_int_equal(err->kind, NIXERY_ERROR_NONE);
    assert_string_equal(http->body.data, text);
    assert_int_equal(http->size, strlen(text));
    assert_int_equal(http->body.len, strlen(text));
    assert_null(strstr(http->what, "secret"));

    nixery_http_free(http);
}


/* What is secret in these tests is spelled so. */

static void
assert_no(nixery_error_e kind, const char *text, nixery_error_t *err, int rc)
{
    assert_int_equal(rc, NIXERY_ERROR);
    assert_non_null(err->message);

    if (strstr(err->message, text) == NULL || err->kind != kind
        || strstr(err->message, "secret") != NULL)
    {
        fail_msg("\"%s\" (%d) instead of \"%s\" (%d)", err->message, err->kind,
                 text, kind);
    }

    nixery_error_free(err);
}


static void *
client(void *data)
{
    int             i;
    client_t       *ctx;
    nixery_http_t   http;
    nixery_error_t  err = { 0 };

    ctx = data;

    for (i = 0; i < ROUNDS; i++) {
        set_up(&http, ctx->url);
        http.env = trusted;

        if (nixery_http_get(&http, &err) != NIXERY_OK || http.status != 200
            || strcmp(http.body.data, "some bytes\n") != 0)
        {
            ctx->wrong++;
        }

        nixery_http_free(&http);
        nixery_error_free(&err);
    }

    return NULL;
}


static void *
cancel_later(void *data)
{
    nixery_cancel_t  *cancel = data;

    (void) poll(NULL, 0, 50);
    atomic_store(&cancel->flag, 1);

    return NULL;
}


/* A thread that was joined may be seen for a moment. */

static void
wait_for_tasks(int n)
{
    int  i;

    for (i = 0; i < 10000; i++) {
        if (tasks() == n) {
            return;
        }

        (void) poll(NULL, 0, 1);
    }

    assert_int_equal(tasks(), n);
}


static int
tasks(void)
{
    int   n;
    DIR  *dir;

    n = 0;
    dir = opendir("/proc/self/task");
    assert_non_null(dir);

    while (readdir(dir) != NULL) {
        n++;
    }

    (void) closedir(dir);

    return n - 2;
}


int
main(int argc, char *const *argv)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(body_and_etag),
        cmocka_unit_test(body_to_a_file),
        cmocka_unit_test(status_without_a_body),
        cmocka_unit_test(user_and_password),
        cmocka_unit_test(urls_that_cannot_be),
        cmocka_unit_test(redirects),
        cmocka_unit_test(redirect_with_nowhere_to_go),
        cmocka_unit_test(credentials_stay_with_the_host),
        cmocka_unit_test(tls),
        cmocka_unit_test(certificates_of_the_system),
        cmocka_unit_test(environment_of_the_process),
        cmocka_unit_test(proxies),
        cmocka_unit_test(proxy_for_tls),
        cmocka_unit_test(proxy_by_the_scheme_of_each_redirect),
        cmocka_unit_test(proxy_with_a_password),
        cmocka_unit_test(answers_that_are_not_whole),
        cmocka_unit_test(size_limit),
        cmocka_unit_test(bytes_as_they_are),
        cmocka_unit_test(time_limit),
        cmocka_unit_test(cancellation),
        cmocka_unit_test(flag_of_the_process),
        cmocka_unit_test(name_that_is_never_resolved),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(no_descriptor_left),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(freed_twice),
    };

    (void) argc;

    if (unit_namespace(argv) == -1) {
        return 1;
    }

    return cmocka_run_group_tests_name("http", tests, start_server,
                                       stop_server);
}
