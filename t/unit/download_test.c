
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "server.h"
#include "nixery_download.h"
#include "nixery_sha256.h"


#define KEPT       8
#define THREADS    4
#define PROCESSES  3
#define ROUNDS     40
#define VERSIONS   12

#define OK_HEAD    "HTTP/1.1 200 OK\r\n"


typedef struct {
    char        *parent;
    char        *dir;
    const char  *url;
    int          wrong;
} fixture_t;


typedef struct {
    const char  *dir;
    const char  *sha256;
    int          rc;
} finder_t;


static int start_server(void **state);
static int stop_server(void **state);
static int make_fixture(void **state);
static int remove_fixture(void **state);
static void set_up(nixery_download_t *d, fixture_t *f, const char *url);
static void assert_content(nixery_download_t *d, const char *text);
static void assert_got(nixery_download_t *d, const char *text);
static void assert_no(nixery_error_e kind, const char *text,
    nixery_error_t *err, int rc);
static char *url_of(const char *path);
static char *entry_of(fixture_t *f, const char *url);
static char *read_text(const char *path);
static char *name(const char *dir, const char *text);
static int exists(const char *path);
static int count(const char *dir, const char *suffix);
static void age(const char *path, time_t mtime);
static void *reader(void *data);
static int is_whole(nixery_download_t *d);
static void *finder(void *data);
static void remove_doomed(void);
static int lock_waiters(const char *path);


static server_t     server;
static const char  *doomed;     /* a directory */


static void
kept_and_asked_again(void **state)
{
    char               *first, *entry, *text, *expected;
    fixture_t          *f;
    struct stat         sb;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;
    f->url = url_of("/file?token=secret");

    set_up(&d, f, f->url);
    assert_int_equal(nixery_download_kept(&d, &err), NIXERY_DECLINED);
    nixery_download_free(&d);
    assert_false(exists(f->dir));

    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_int_equal(d.http.status, 200);
    assert_content(&d, "some bytes\n");
    first = strdup(d.path);

    assert_int_equal(stat(d.path, &sb), 0);
    assert_int_equal(sb.st_mode, S_IFREG | 0600);
    assert_int_equal(stat(f->dir, &sb), 0);
    assert_int_equal(sb.st_mode, S_IFDIR | 0700);
    assert_true(fcntl(d.fd, F_GETFD) & FD_CLOEXEC);

    entry = entry_of(f, f->url);
    text = read_text(entry);
    expected = format("{\"sha256\":\"%s\",\"size\":11,\"etag\":\"\\\"",
                      d.sha256);
    assert_memory_equal(text, expected, strlen(expected));
    assert_int_equal(stat(entry, &sb), 0);
    assert_int_equal(sb.st_mode, S_IFREG | 0600);
    free(expected);
    free(text);
    free(entry);

    nixery_download_free(&d);
    assert_int_equal(count(f->dir, ""), 2);

    /* nothing new */

    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_int_equal(d.http.status, 304);
    assert_string_equal(d.path, first);
    assert_got(&d, "some bytes\n");

    /* something new; the other is still there */

    server_file(&server, "file", "other bytes\n");
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_int_equal(d.http.status, 200);
    assert_string_not_equal(d.path, first);
    assert_got(&d, "other bytes\n");

    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_int_equal(d.http.status, 304);
    assert_got(&d, "other bytes\n");
    assert_true(exists(first));

    /* without asking */

    server_file(&server, "file", "some bytes\n");
    assert_int_equal(nixery_download_kept(&d, &err), NIXERY_OK);
    assert_got(&d, "other bytes\n");

    free(first);
}


static void
nothing_there(void **state)
{
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;

    f->url = url_of("/none");
    set_up(&d, f, f->url);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_DECLINED);
    assert_int_equal(d.http.status, 404);
    assert_null(d.path);
    nixery_download_free(&d);
    free((char *) f->url);

    f->url = url_of("/gone");
    set_up(&d, f, f->url);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_DECLINED);
    assert_int_equal(d.http.status, 410);
    nixery_download_free(&d);
    free((char *) f->url);

    assert_int_equal(count(f->dir, ""), 0);

    /* what is gone may be back */

    server_file(&server, "fleeting", "here\n");
    f->url = url_of("/fleeting");
    set_up(&d, f, f->url);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_got(&d, "here\n");

    unit_shell("rm '%s/html/fleeting'", server.dir);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_DECLINED);
    assert_null(d.path);
    nixery_download_free(&d);

    assert_int_equal(nixery_download_kept(&d, &err), NIXERY_OK);
    assert_got(&d, "here\n");

    assert_int_equal(err.kind, NIXERY_ERROR_NONE);
}


static void
refused(void **state)
{
    int                 i;
    char               *text, *answer;
    fake_t              fake;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    static const struct {
        int          status;
        const char  *text;
    } answers[] = {
        { 201, "Created" },
        { 300, "Choices" },
        { 304, "Not asked" },
        { 401, "Who" },
        { 403, "No" },
        { 429, "Later" },
        { 500, "Oops" }
    };

    f = *state;

    for (i = 0; i < (int) (sizeof(answers) / sizeof(answers[0])); i++) {
        answer = format("HTTP/1.1 %d %s\r\nContent-Length: 0\r\n\r\n",
                        answers[i].status, answers[i].text);
        fake_start(&fake, answer, FAKE_CLOSE);
        f->url = format("http://127.0.0.1:%d/a?token=secret", fake.port);
        text = format("can't get \"http://127.0.0.1:%d/a\": 127.0.0.1 answered "
                      "%d", fake.port, answers[i].status);

        set_up(&d, f, f->url);
        assert_no(NIXERY_ERROR_SOURCE, text, &err,
                  nixery_download_get(&d, &err));
        assert_null(d.path);
        assert_null(d.http.what);

        fake_stop(&fake);
        free((char *) f->url);
        free(answer);
        free(text);
    }

    assert_int_equal(count(f->dir, ""), 0);
    f->url = NULL;
}


static void
no_way_to_the_server(void **state)
{
    char               *body;
    fake_t              fake;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_cancel_t     cancel = { 0 };
    nixery_download_t   d;

    f = *state;

    fake_start(&fake, OK_HEAD "ETag: \"1\"\r\nContent-Length: 4\r\n\r\nbody",
               FAKE_CLOSE);
    f->url = format("http://127.0.0.1:%d/a?token=secret", fake.port);
    set_up(&d, f, f->url);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_got(&d, "body");

    /* half of another one is no harm to what is kept */

    fake.answer = OK_HEAD "Content-Length: 8\r\n\r\nhalf";
    assert_no(NIXERY_ERROR_SOURCE, "transfer closed with 4 bytes", &err,
              nixery_download_get(&d, &err));
    assert_null(d.path);

    fake.answer = body = format(OK_HEAD "Content-Length: 20\r\n\r\n"
                                "01234567890123456789");
    d.http.max = 10;
    assert_no(NIXERY_ERROR_SOURCE, "it has more than 10 bytes", &err,
              nixery_download_get(&d, &err));

    fake_stop(&fake);
    free(body);

    assert_no(NIXERY_ERROR_SOURCE, "Connection refused", &err,
              nixery_download_get(&d, &err));

    atomic_store(&cancel.flag, 1);
    d.http.cancel = &cancel;
    assert_no(NIXERY_ERROR_CANCELED, "canceled", &err,
              nixery_download_get(&d, &err));
    d.http.cancel = NULL;

    assert_int_equal(count(f->dir, ""), 2);
    assert_int_equal(nixery_download_kept(&d, &err), NIXERY_OK);
    assert_got(&d, "body");

    /* late */

    free((char *) f->url);
    fake_start(&fake, OK_HEAD, FAKE_HOLD);
    f->url = format("http://127.0.0.1:%d/b?token=secret", fake.port);
    set_up(&d, f, f->url);
    d.http.timeout = 50;
    assert_no(NIXERY_ERROR_TIMEOUT, "timed out after", &err,
              nixery_download_get(&d, &err));
    fake_stop(&fake);
}


static void
without_an_etag(void **state)
{
    int                 i;
    char               *entry, *text;
    fake_t              fake;
    ino_t               inode;
    fixture_t          *f;
    struct stat         sb;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    static char  long_etag[1100];

    static const char  *etags[] = {
        "", "ETag: \"\xc3\xa4\"\r\n", "ETag: \"a\tb\"\r\n", "ETag:\r\n",
        long_etag
    };

    f = *state;
    inode = 0;

    memset(long_etag, 'x', sizeof(long_etag));
    memcpy(long_etag, "ETag: \"", 7);
    memcpy(long_etag + sizeof(long_etag) - 4, "\"\r\n", 4);

    for (i = 0; i < (int) (sizeof(etags) / sizeof(etags[0])); i++) {
        text = format(OK_HEAD "%sLast-Modified: Wed, 25 Nov 2026 00:00:00 GMT"
                      "\r\nContent-Length: 4\r\n\r\nbody", etags[i]);
        fake_start(&fake, text, FAKE_CLOSE);
        f->url = format("http://127.0.0.1:%d/", fake.port);

        set_up(&d, f, f->url);
        assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
        assert_got(&d, "body");
        assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
        assert_int_equal(d.http.status, 200);

        /* it is the same file, held or not */

        assert_int_equal(fstat(d.fd, &sb), 0);
        assert_true(inode == 0 || sb.st_ino == inode);
        inode = sb.st_ino;
        assert_got(&d, "body");

        fake_stop(&fake);
        assert_int_equal(atomic_load(&fake.requests), 2);
        assert_null(strstr(fake.request, "If-None-Match"));
        assert_null(strstr(fake.request, "If-Modified-Since"));
        free(text);

        entry = entry_of(f, f->url);
        text = read_text(entry);
        assert_null(strstr(text, "etag"));
        free(text);
        free(entry);
        free((char *) f->url);
    }

    f->url = NULL;
    assert_int_equal(count(f->dir, ""), 1 + i);
    assert_int_equal(count(f->dir, ".json"), i);
}


static void
never_changes(void **state)
{
    fake_t              fake;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;

    fake_start(&fake, OK_HEAD "Content-Length: 4\r\n\r\nbody", FAKE_CLOSE);
    f->url = format("http://127.0.0.1:%d/", fake.port);

    set_up(&d, f, f->url);
    d.immutable = 1;
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_got(&d, "body");

    fake_stop(&fake);
    assert_int_equal(atomic_load(&fake.requests), 1);

    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_got(&d, "body");

    d.immutable = 0;
    assert_no(NIXERY_ERROR_SOURCE, "Connection refused", &err,
              nixery_download_get(&d, &err));
}


static void
found_by_content(void **state)
{
    char               *sha256;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;
    f->url = url_of("/file");
    set_up(&d, f, f->url);

    sha256 = name("x", "some bytes\n");
    assert_int_equal(nixery_download_find(&d, sha256 + 2, &err),
                     NIXERY_DECLINED);
    nixery_download_free(&d);

    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_got(&d, "some bytes\n");

    assert_int_equal(nixery_download_find(&d, sha256 + 2, &err), NIXERY_OK);
    assert_int_equal(d.size, 11);
    assert_got(&d, "some bytes\n");

    sha256[10] ^= 1;
    assert_int_equal(nixery_download_find(&d, sha256 + 2, &err),
                     NIXERY_DECLINED);
    nixery_download_free(&d);

    assert_int_equal(nixery_download_find(&d, "../file", &err),
                     NIXERY_DECLINED);
    nixery_download_free(&d);

    assert_int_equal(nixery_download_find(&d, "", &err), NIXERY_DECLINED);
    nixery_download_free(&d);

    free(sha256);
}


static void
content_that_changed(void **state)
{
    int                 i;
    char               *path, *text;
    fake_t              fake;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    static const char  *commands[] = {
        "printf some > '%s'",
        "printf 'SOME bytes\\n' > '%s'",
        "printf 'some bytes\\nx' > '%s'",
        "rm '%s'",
        "rm '%1$s'; ln -s /etc/passwd '%1$s'",
        "rm '%1$s'; mkfifo '%1$s'"
    };

    f = *state;

    fake_start(&fake, OK_HEAD "ETag: \"1\"\r\nContent-Length: 11\r\n\r\n"
               "some bytes\n", FAKE_CLOSE);
    f->url = format("http://127.0.0.1:%d/", fake.port);
    path = name(f->dir, "some bytes\n");

    set_up(&d, f, f->url);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_got(&d, "some bytes\n");

    for (i = 0; i < (int) (sizeof(commands) / sizeof(commands[0])); i++) {
        assert_int_not_equal(asprintf(&text, commands[i], path), -1);
        unit_shell("%s", text);
        free(text);

        assert_int_equal(nixery_download_find(&d, strrchr(path, '/') + 1, &err),
                         NIXERY_DECLINED);
        nixery_download_free(&d);
        assert_int_equal(nixery_download_kept(&d, &err), NIXERY_DECLINED);
        nixery_download_free(&d);

        d.immutable = i % 2;
        assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
        assert_string_equal(d.path, path);
        assert_got(&d, "some bytes\n");
    }

    /* it was never asked whether that is what it has */

    fake_stop(&fake);
    assert_int_equal(atomic_load(&fake.requests), 1 + i);
    assert_null(strstr(fake.request, "If-None-Match"));

    free(path);
}


static void
entries_of_no_use(void **state)
{
    size_t              i;
    char               *entry, *sha256, *text;
    fake_t              fake;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    static const char  *entries[] = {
        "",
        "{",
        "[]",
        "7",
        "{\"size\":4}",
        "{\"sha256\":\"%s\"}",
        "{\"sha256\":\"%s\",\"size\":5}",
        "{\"sha256\":\"%s\",\"size\":-4}",
        "{\"sha256\":\"%s\",\"size\":1e300}",
        "{\"sha256\":\"%s\",\"size\":\"4\"}",
        "{\"sha256\":\"%.63s\",\"size\":4}",
        "{\"sha256\":\"%s0\",\"size\":4}",
        "{\"sha256\":\"../../../../%s\",\"size\":4}",
        "{\"sha256\":\"0000%.60s\",\"size\":4}",
        "{\"sha256\":7,\"size\":4}"
    };

    static const char  *odd[] = {
        "{\"sha256\":\"%s\",\"size\":4,\"etag\":\"\"}",
        "{\"sha256\":\"%s\",\"size\":4,\"etag\":\"a\\r\\nX: secret\"}",
        "{\"sha256\":\"%s\",\"size\":4,\"etag\":7}"
    };

    f = *state;

    fake_start(&fake, OK_HEAD "ETag: \"1\"\r\nContent-Length: 4\r\n\r\nbody",
               FAKE_CLOSE);
    f->url = format("http://127.0.0.1:%d/", fake.port);
    set_up(&d, f, f->url);

    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    sha256 = strdup(d.sha256);
    assert_got(&d, "body");

    entry = entry_of(f, f->url);

    for (i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        assert_int_not_equal(asprintf(&text, entries[i], sha256), -1);
        unit_write(entry, text, 0600);
        free(text);

        assert_int_equal(nixery_download_kept(&d, &err), NIXERY_DECLINED);
        nixery_download_free(&d);
    }

    /* a directory can't be read */

    unit_shell("rm '%s'; mkdir '%s'", entry, entry);
    assert_int_equal(nixery_download_kept(&d, &err), NIXERY_DECLINED);
    nixery_download_free(&d);
    unit_shell("rmdir '%s'", entry);

    /* the content is what it says, but what the server has is not known */

    for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        assert_int_not_equal(asprintf(&text, odd[i], sha256), -1);
        unit_write(entry, text, 0600);
        free(text);

        assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
        assert_int_equal(d.http.status, 200);
        assert_got(&d, "body");
    }

    fake_stop(&fake);
    assert_null(strstr(fake.request, "If-None-Match"));
    assert_null(strstr(fake.request, "secret"));

    free(entry);
    free(sha256);
}


static void
one_content_of_two_urls(void **state)
{
    char               *url;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d, other;

    f = *state;
    f->url = url_of("/file");
    url = url_of("/file?2");

    set_up(&d, f, f->url);
    set_up(&other, f, url);

    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_int_equal(nixery_download_get(&other, &err), NIXERY_OK);
    assert_string_equal(d.path, other.path);

    assert_int_equal(count(f->dir, ".json"), 2);
    assert_int_equal(count(f->dir, ""), 3);

    assert_got(&d, "some bytes\n");
    assert_got(&other, "some bytes\n");

    free(url);
}


static void
the_oldest_go(void **state)
{
    int                 i;
    char               *urls[KEPT + 4], *paths[KEPT + 4], *text;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d, held, found;

    f = *state;

    for (i = 0; i < KEPT + 4; i++) {
        text = format("content %d\n", i);
        paths[i] = name(f->dir, text);

        urls[i] = format("file-%d", i);
        server_file(&server, urls[i], text);
        free(urls[i]);

        urls[i] = format("http://127.0.0.1:%d/file-%d", server.port[0], i);
        free(text);
    }

    /* as many as are kept: from the oldest, 0, to the newest */

    for (i = 0; i < KEPT; i++) {
        set_up(&d, f, urls[i]);
        assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
        assert_string_equal(d.path, paths[i]);
        nixery_download_free(&d);
        age(paths[i], 1000 + i);
    }

    assert_int_equal(count(f->dir, ""), 2 * KEPT);

    /* what is used is not the oldest: 1 by the server's word, 2 without it */

    set_up(&d, f, urls[1]);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_int_equal(d.http.status, 304);
    nixery_download_free(&d);

    set_up(&d, f, urls[2]);
    assert_int_equal(nixery_download_find(&d, strrchr(paths[2], '/') + 1, &err),
                     NIXERY_OK);
    nixery_download_free(&d);

    /* and what is held stays, whoever holds it */

    set_up(&held, f, urls[3]);
    assert_int_equal(nixery_download_kept(&held, &err), NIXERY_OK);
    age(paths[3], 1);

    set_up(&d, f, urls[KEPT]);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    nixery_download_free(&d);

    assert_true(exists(paths[3]));
    assert_true(exists(paths[0]));
    assert_int_equal(count(f->dir, ".json"), KEPT + 1);

    set_up(&d, f, urls[KEPT + 1]);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);

    assert_true(exists(paths[3]));
    assert_false(exists(paths[0]));
    assert_true(exists(paths[1]));
    assert_true(exists(paths[2]));
    assert_true(exists(paths[4]));
    assert_int_equal(count(f->dir, ".json"), KEPT + 1);
    assert_int_equal(count(f->dir, ""), 2 * (KEPT + 1));

    nixery_download_free(&d);
    nixery_download_free(&held);

    /* nobody holds it any more; broken entries go as well */

    text = entry_of(f, urls[5]);
    unit_write(text, "{", 0600);
    free(text);

    set_up(&d, f, urls[KEPT + 2]);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);

    assert_false(exists(paths[3]));
    assert_false(exists(paths[4]));
    assert_true(exists(paths[5]));
    assert_int_equal(count(f->dir, ".json"), KEPT - 1);
    assert_int_equal(count(f->dir, ""), 2 * KEPT - 1);

    nixery_download_free(&d);

    /* files of others are not touched */

    text = format("%s/some-file", f->dir);
    unit_write(text, "x", 0600);
    age(text, 1);

    set_up(&d, f, urls[KEPT + 3]);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    nixery_download_free(&d);
    assert_true(exists(text));
    free(text);

    set_up(&found, f, urls[0]);
    assert_int_equal(nixery_download_find(&found, strrchr(paths[0], '/') + 1,
                                          &err),
                     NIXERY_DECLINED);
    nixery_download_free(&found);

    for (i = 0; i < KEPT + 4; i++) {
        free(urls[i]);
        free(paths[i]);
    }
}


/* What a user has found out about a content, and keeps beside it. */

static void
notes_go_with_their_content(void **state)
{
    int                 i;
    char               *text, *url, *stray[3];
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d, held;

    f = *state;
    memset(&held, 0, sizeof(nixery_download_t));

    for (i = 0; i <= KEPT; i++) {
        text = format("noted-%d", i);
        url = format("http://127.0.0.1:%d/%s", server.port[0], text);
        server_file(&server, text, text);
        free(text);

        set_up(&d, f, url);
        assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);

        text = format("%s" NIXERY_DOWNLOAD_NOTE, d.path);
        unit_write(text, "", 0600);
        free(text);

        /* the oldest but one is held */

        if (i == 1) {
            set_up(&held, f, url);
            assert_int_equal(nixery_download_kept(&held, &err), NIXERY_OK);
        }

        age(d.path, 1000 + i);
        nixery_download_free(&d);
        free(url);
    }

    /* the last one came when the first was too much */

    assert_int_equal(count(f->dir, NIXERY_DOWNLOAD_NOTE), KEPT);
    text = name(f->dir, "noted-0");
    url = format("%s" NIXERY_DOWNLOAD_NOTE, text);
    assert_false(exists(text));
    assert_false(exists(url));
    free(url);
    free(text);

    /* of a content that someone has removed; what only looks like a note */

    stray[0] = format("%s/%064d" NIXERY_DOWNLOAD_NOTE, f->dir, 0);
    stray[1] = format("%s/%064d" NIXERY_DOWNLOAD_NOTE "x", f->dir, 0);
    stray[2] = format("%s/%063d" NIXERY_DOWNLOAD_NOTE, f->dir, 0);

    for (i = 0; i < 3; i++) {
        unit_write(stray[i], "", 0600);
    }

    server_file(&server, "noted-0", "another");
    url = url_of("/noted-0");
    set_up(&d, f, url);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    nixery_download_free(&d);
    free(url);

    for (i = 0; i < 3; i++) {
        assert_int_equal(exists(stray[i]), i != 0);
        free(stray[i]);
    }

    text = format("%s" NIXERY_DOWNLOAD_NOTE, held.path);
    assert_true(exists(text));
    free(text);

    nixery_download_free(&held);
}


static void
held_from_the_first(void **state)
{
    int                 i;
    char               *path, *url, *text;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d, held;

    f = *state;
    f->url = url_of("/file");

    set_up(&held, f, f->url);
    assert_int_equal(nixery_download_get(&held, &err), NIXERY_OK);
    assert_int_equal(held.http.status, 200);
    path = strdup(held.path);
    age(path, 1);

    for (i = 0; i < KEPT + 1; i++) {
        text = format("content %d\n", i);
        server_file(&server, "other", text);
        free(text);

        url = url_of("/other");
        set_up(&d, f, url);
        assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
        nixery_download_free(&d);
        free(url);

        assert_int_equal(exists(path), i < KEPT);

        if (i == KEPT - 1) {
            assert_got(&held, "some bytes\n");
        }
    }

    free(path);
}


static void
removed_before_it_is_held(void **state)
{
    int                 fd;
    char               *path;
    finder_t            args;
    fixture_t          *f;
    pthread_t           thread;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;
    f->url = url_of("/file");

    set_up(&d, f, f->url);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    path = strdup(d.path);
    nixery_download_free(&d);

    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_not_equal(fd, -1);
    assert_int_equal(flock(fd, LOCK_EX), 0);

    args.dir = f->dir;
    args.sha256 = strrchr(path, '/') + 1;
    args.rc = NIXERY_ERROR;
    assert_int_equal(pthread_create(&thread, NULL, finder, &args), 0);

    while (!lock_waiters(path)) {
        (void) poll(NULL, 0, 1);
    }

    assert_int_equal(unlink(path), 0);
    (void) close(fd);

    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(args.rc, NIXERY_DECLINED);

    free(path);
}


static void
killed_process(void **state)
{
    int                 status;
    pid_t               pid;
    fake_t              fake;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;

    fake_start(&fake, OK_HEAD "Content-Length: 8\r\n\r\nhalf", FAKE_HOLD);
    f->url = format("http://127.0.0.1:%d/", fake.port);
    set_up(&d, f, f->url);

    pid = fork();
    assert_int_not_equal(pid, -1);

    if (pid == 0) {
        (void) nixery_download_get(&d, &err);
        _exit(0);
    }

    while (atomic_load(&fake.requests) == 0) {
        (void) poll(NULL, 0, 1);
    }

    /* it runs: what it has is left alone */

    free((char *) f->url);
    f->url = url_of("/none");
    set_up(&d, f, f->url);
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_DECLINED);
    nixery_download_free(&d);
    assert_int_equal(count(f->dir, ""), 1);

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(count(f->dir, ""), 1);

    assert_int_equal(nixery_download_get(&d, &err), NIXERY_DECLINED);
    nixery_download_free(&d);
    assert_int_equal(count(f->dir, ""), 0);

    fake_stop(&fake);
}


/*
 * What the server has changes all the time, more often than contents are kept;
 * whatever anyone holds is whole, and stays so.
 */

static void
many_at_once(void **state)
{
    int         i, j, status, running;
    char       *text;
    pid_t       pids[PROCESSES];
    fixture_t  *f, readers[THREADS];
    pthread_t   threads[THREADS];

    f = *state;
    server_file(&server, "moving", "version 0\n");
    f->url = url_of("/moving");

    for (i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_int_not_equal(pids[i], -1);

        if (pids[i] == 0) {
            f->wrong = 0;
            (void) reader(f);
            _exit(f->wrong != 0);
        }
    }

    for (i = 0; i < THREADS; i++) {
        readers[i] = *f;
        readers[i].wrong = 0;
        assert_int_equal(pthread_create(&threads[i], NULL, reader,
                                        &readers[i]),
                         0);
    }

    running = PROCESSES;

    for (i = 1; running != 0; i++) {
        text = format("version %d\n", i % VERSIONS);
        server_file(&server, "next", text);
        unit_shell("cd '%s/html' && mv next moving", server.dir);
        free(text);

        for (j = 0; j < PROCESSES; j++) {
            if (pids[j] != 0 && waitpid(pids[j], &status, WNOHANG) == pids[j]) {
                assert_int_equal(status, 0);
                pids[j] = 0;
                running--;
            }
        }
    }

    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(readers[i].wrong, 0);
    }

    /* no work directories, and hardly more contents than are kept */

    assert_true(count(f->dir, "") - count(f->dir, ".json") <= VERSIONS);
    assert_int_equal(count(f->dir, "0000"), 0);
}


static void
places_that_cannot_be(void **state)
{
    char               *path;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;
    f->url = url_of("/file");

    set_up(&d, f, f->url);
    d.dir = "/no/such/directory";
    assert_no(NIXERY_ERROR_SYSTEM, "make directory \"/no/such/directory\": No "
              "such file", &err, nixery_download_get(&d, &err));

    path = format("%s/file", f->parent);
    unit_write(path, "", 0600);
    d.dir = path;
    assert_no(NIXERY_ERROR_SYSTEM, "Not a directory", &err,
              nixery_download_get(&d, &err));
    assert_no(NIXERY_ERROR_SYSTEM, "Not a directory", &err,
              nixery_download_find(&d, "0123456789abcdef0123456789abcdef0123456"
                                   "789abcdef0123456789abcdef", &err));
    free(path);

    /* where the content is to be, and its entry */

    set_up(&d, f, f->url);
    path = name(f->dir, "some bytes\n");
    unit_shell("mkdir -p '%s/x'", path);
    assert_no(NIXERY_ERROR_SYSTEM, ": Is a directory", &err,
              nixery_download_get(&d, &err));
    unit_shell("rm -r '%s'", path);
    free(path);

    path = entry_of(f, f->url);
    unit_shell("mkdir -p '%s/x'", path);
    assert_no(NIXERY_ERROR_SYSTEM, ".json\": Is a directory", &err,
              nixery_download_get(&d, &err));
    assert_null(d.path);
    unit_shell("rm -r '%s'", path);
    free(path);
}


static void
directory_that_goes_away(void **state)
{
    fake_t              fake;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;
    doomed = f->dir;

    fake_start(&fake, OK_HEAD "Content-Length: 4\r\n\r\nbody", FAKE_CLOSE);
    fake.hook = remove_doomed;
    f->url = format("http://127.0.0.1:%d/", fake.port);

    set_up(&d, f, f->url);
    assert_no(NIXERY_ERROR_SYSTEM, "/downloads\": No such file or directory",
              &err, nixery_download_get(&d, &err));
    assert_null(d.path);

    fake.hook = NULL;
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_got(&d, "body");

    fake_stop(&fake);
}


static void
no_space(void **state)
{
    int                 i;
    char               *options;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    static const char  *messages[] = {
        "make directory \"", "make work directory \"", "/content\": ",
        ".json\": "
    };

    f = *state;
    f->url = url_of("/large");

    unit_shell("head -c 1000000 /dev/zero > '%s/html/large'", server.dir);

    assert_int_equal(mount("tmpfs", f->parent, "tmpfs", 0, "size=64k"), 0);
    set_up(&d, f, f->url);
    assert_no(NIXERY_ERROR_SYSTEM, "/large\" has: No space left on device",
              &err, nixery_download_get(&d, &err));
    assert_int_equal(count(f->dir, ""), 0);
    assert_int_equal(umount(f->parent), 0);

    /* nor for files, of which the mount's own directory is one */

    for (i = 0; i < (int) (sizeof(messages) / sizeof(messages[0])); i++) {
        options = format("nr_inodes=%d", i + 1);
        assert_int_equal(mount("tmpfs", f->parent, "tmpfs", 0, options), 0);

        assert_no(NIXERY_ERROR_SYSTEM, messages[i], &err,
                  nixery_download_get(&d, &err));
        assert_null(d.path);

        assert_int_equal(umount(f->parent), 0);
        free(options);
    }
}


static void
no_descriptors(void **state)
{
    int                 n, rc, before;
    fixture_t          *f;
    struct rlimit       rl, old;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;
    f->url = url_of("/file");

    before = unit_descriptors();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);

    for (n = 0; n < 128; n++) {
        rl = old;
        rl.rlim_cur = n;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);

        set_up(&d, f, f->url);
        rc = nixery_download_get(&d, &err);

        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);

        if (rc == NIXERY_OK) {
            break;
        }

        assert_no(NIXERY_ERROR_SYSTEM, ": Too many open files", &err, rc);
        assert_int_equal(unit_descriptors(), before);
    }

    assert_true(n > 3 && n < 128);
    assert_got(&d, "some bytes\n");
    assert_int_equal(unit_descriptors(), before);
}


static void
no_secrets_on_the_disk(void **state)
{
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = *state;
    f->url = url_of("/file?token=secret");

    set_up(&d, f, f->url);
    d.http.user = "secret";
    d.http.password = "secret";
    assert_int_equal(nixery_download_get(&d, &err), NIXERY_OK);
    assert_got(&d, "some bytes\n");

    unit_shell("! { find '%s'; cat '%s'/*; } | grep secret", f->dir, f->dir);
}


static int
start_server(void **state)
{
    static const char  text[] =
        "server {\n"
        "    listen 127.0.0.1:%1$d;\n"
        "    location / {\n"
        "    }\n"
        "    location = /gone { return 410; }\n"
        "}\n";

    (void) state;

    server_init(&server);
    server_file(&server, "file", "some bytes\n");
    server_start(&server, text);

    return 0;
}


static int
stop_server(void **state)
{
    (void) state;

    server_stop(&server);

    return 0;
}


static int
make_fixture(void **state)
{
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));
    assert_non_null(f);

    f->parent = strdup("/tmp/nixery-download-test.XXXXXX");
    assert_non_null(f->parent);
    assert_non_null(mkdtemp(f->parent));

    f->dir = format("%s/downloads", f->parent);

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;

    unit_shell("rm -rf '%s'", f->parent);

    free((char *) f->url);
    free(f->dir);
    free(f->parent);
    free(f);

    return 0;
}


static void
set_up(nixery_download_t *d, fixture_t *f, const char *url)
{
    memset(d, 0, sizeof(nixery_download_t));

    d->dir = f->dir;
    d->http.url = url;
    d->http.timeout = 60000;
    d->http.max = 1024 * 1024;
}


static void
assert_content(nixery_download_t *d, const char *text)
{
    char  *path, *there;

    assert_non_null(d->path);
    assert_int_equal(d->size, strlen(text));

    there = read_text(d->path);
    assert_string_equal(there, text);
    free(there);

    path = name(d->dir, text);
    assert_string_equal(d->path, path);
    assert_string_equal(d->sha256, strrchr(path, '/') + 1);
    free(path);
}


static void
assert_got(nixery_download_t *d, const char *text)
{
    assert_content(d, text);
    nixery_download_free(d);
    assert_null(d->path);
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


static char *
url_of(const char *path)
{
    return format("http://127.0.0.1:%d%s", server.port[0], path);
}


static char *
entry_of(fixture_t *f, const char *url)
{
    char  *path, *entry;

    path = name(f->dir, url);
    entry = format("%s.json", path);
    free(path);

    return entry;
}


static char *
read_text(const char *path)
{
    FILE    *fp;
    char    *text;
    size_t   n;

    text = calloc(1, 65536);
    assert_non_null(text);

    fp = fopen(path, "re");
    assert_non_null(fp);

    n = fread(text, 1, 65535, fp);
    assert_true(n < 65535);

    (void) fclose(fp);

    return text;
}


/* What a file with this text is called in the directory. */

static char *
name(const char *dir, const char *text)
{
    char  hex[NIXERY_HEX_LEN + 1];

    assert_int_equal(nixery_sha256_hex(text, strlen(text), hex), NIXERY_OK);

    return format("%s/%s", dir, hex);
}


static int
exists(const char *path)
{
    struct stat  sb;

    return lstat(path, &sb) == 0;
}


static int
count(const char *dir, const char *suffix)
{
    int             n;
    DIR            *d;
    size_t          len;
    struct dirent  *de;

    n = 0;
    d = opendir(dir);
    assert_non_null(d);

    while ((de = readdir(d)) != NULL) {
        len = strlen(de->d_name);

        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0
            && len >= strlen(suffix)
            && strcmp(de->d_name + len - strlen(suffix), suffix) == 0)
        {
            n++;
        }
    }

    (void) closedir(d);

    return n;
}


static void
age(const char *path, time_t mtime)
{
    struct timespec  times[2];

    times[0].tv_sec = mtime;
    times[0].tv_nsec = 0;
    times[1] = times[0];

    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}


static void *
reader(void *data)
{
    int                 i;
    fixture_t          *f;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    f = data;

    for (i = 0; i < ROUNDS; i++) {
        set_up(&d, f, f->url);

        if (nixery_download_get(&d, &err) != NIXERY_OK) {
            (void) fprintf(stderr, "%s\n", err.message);
            nixery_error_free(&err);
            f->wrong++;
            continue;
        }

        (void) poll(NULL, 0, i % 3);

        if (!is_whole(&d)) {
            f->wrong++;
        }

        nixery_download_free(&d);
    }

    return NULL;
}


static int
is_whole(nixery_download_t *d)
{
    int      fd;
    char     buf[64], hex[NIXERY_HEX_LEN + 1];
    ssize_t  n;

    fd = open(d->path, O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
        return 0;
    }

    n = read(fd, buf, sizeof(buf));
    (void) close(fd);

    return n > 0 && nixery_sha256_hex(buf, n, hex) == NIXERY_OK
           && strcmp(hex, d->sha256) == 0 && (uint64_t) n == d->size;
}


static void *
finder(void *data)
{
    finder_t           *args;
    nixery_error_t      err = { 0 };
    nixery_download_t   d;

    args = data;

    memset(&d, 0, sizeof(nixery_download_t));
    d.dir = args->dir;

    args->rc = nixery_download_find(&d, args->sha256, &err);

    nixery_download_free(&d);
    nixery_error_free(&err);

    return NULL;
}


static void
remove_doomed(void)
{
    unit_shell("rm -rf '%s'", doomed);
}


/* Whether somebody waits for a lock of the file. */

static int
lock_waiters(const char *path)
{
    int          found;
    char         line[256], *inode;
    FILE        *fp;
    struct stat  sb;

    assert_int_equal(stat(path, &sb), 0);
    inode = format(":%ju ", (uintmax_t) sb.st_ino);

    fp = fopen("/proc/locks", "re");
    assert_non_null(fp);

    found = 0;

    while (fgets(line, sizeof(line), fp) != NULL) {
        if (strstr(line, "->") != NULL && strstr(line, inode) != NULL) {
            found = 1;
        }
    }

    (void) fclose(fp);
    free(inode);

    return found;
}


int
main(int argc, char *const *argv)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(kept_and_asked_again, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(nothing_there, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(refused, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(no_way_to_the_server, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(without_an_etag, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(never_changes, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(found_by_content, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(content_that_changed, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(entries_of_no_use, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(one_content_of_two_urls, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(the_oldest_go, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(held_from_the_first, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(notes_go_with_their_content,
                                        make_fixture, remove_fixture),
        cmocka_unit_test_setup_teardown(removed_before_it_is_held,
                                        make_fixture, remove_fixture),
        cmocka_unit_test_setup_teardown(killed_process, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(many_at_once, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(places_that_cannot_be, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(directory_that_goes_away,
                                        make_fixture, remove_fixture),
        cmocka_unit_test_setup_teardown(no_space, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(no_descriptors, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(no_secrets_on_the_disk, make_fixture,
                                        remove_fixture),
    };

    (void) argc;

    if (unit_namespace(argv) == -1) {
        return 1;
    }

    return cmocka_run_group_tests_name("download", tests, start_server,
                                       stop_server);
}
