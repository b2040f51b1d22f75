
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_buf.h"
#include "nixery_popularity.h"
#include "nixery_sha256.h"


#define HASH     "0123456789abcdfghijklmnpqrsvwxyz"
#define THREADS  4


static nixery_popularity_t *parse(const char *text);
static uint64_t count(const nixery_popularity_t *popularity,
    const char *name);
static void assert_bad(const char *text, size_t len, const char *message);
static void assert_unread(const char *path, nixery_error_e kind,
    const char *message);
static void *user(void *data);


static void
names(void **state)
{
    nixery_popularity_t  *p;

    (void) state;

    p = parse("{\"glibc-2.36-9\": 300000, \"bash-5.2\": 1e3, \"zlib\":0,\n"
              "\"python3.11-requests-2.28.1\": 7.0, \"gcc-12-lib\": 5,"
              "\"gcc-13-lib\":9, \"gcc-11-lib\": 2, \"\": 4}");

    assert_int_equal(count(p, "glibc-2.36-9"), 300000);
    assert_int_equal(count(p, "bash-5.2"), 1000);
    assert_int_equal(count(p, "zlib"), 0);
    assert_int_equal(count(p, "python3.11-requests-2.28.1"), 7);
    assert_int_equal(count(p, "gcc-12-lib"), 5);

    /* another version of it */

    assert_int_equal(count(p, "glibc-2.37"), 300000);
    assert_int_equal(count(p, "glibc"), 300000);
    assert_int_equal(count(p, "python3.11-requests-3"), 7);

    /* of several versions the most popular */

    assert_int_equal(count(p, "gcc-14"), 9);
    assert_int_equal(count(p, "gcc-11-lib"), 2);

    /* others */

    assert_int_equal(count(p, "bash-interactive-5.2"), 0);
    assert_int_equal(count(p, "glib-2.36-9"), 0);
    assert_int_equal(count(p, "glibcx-2.36-9"), 0);
    assert_int_equal(count(p, "python3.12-requests-2.28.1"), 0);
    assert_int_equal(count(p, "Bash-5.2"), 0);

    nixery_popularity_release(p);
}


static void
versions(void **state)
{
    nixery_popularity_t  *p;

    (void) state;

    /* a "-" and no letter, but at the end */

    p = parse("{\"a-1\": 1, \"b-c\": 2, \"d-_\": 3, \"e-\": 4, \"f--1\": 5,"
              "\"g-h-1-i-2\": 6, \"j-Z\": 7, \"k-\xc3\xa4\": 8, \"-5\": 9}");

    assert_int_equal(count(p, "a-2.0"), 1);
    assert_int_equal(count(p, "a"), 1);
    assert_int_equal(count(p, "b-1"), 0);
    assert_int_equal(count(p, "b-c-1"), 2);
    assert_int_equal(count(p, "d"), 3);
    assert_int_equal(count(p, "e-"), 4);
    assert_int_equal(count(p, "e"), 0);
    assert_int_equal(count(p, "f"), 5);
    assert_int_equal(count(p, "g-h"), 6);
    assert_int_equal(count(p, "g"), 0);
    assert_int_equal(count(p, "j-Z-1"), 7);
    assert_int_equal(count(p, "j-1"), 0);
    assert_int_equal(count(p, "k-1"), 8);
    assert_int_equal(count(p, "-6"), 9);

    nixery_popularity_release(p);

    /* sorted names need not be sorted without their versions */

    p = parse("{\"a\": 1, \"a+b-1\": 2, \"a-1\": 3, \"a-b-1\": 4, \"a-2\": 5,"
              "\"a.b-1\": 6}");

    assert_int_equal(count(p, "a-3"), 5);
    assert_int_equal(count(p, "a"), 1);
    assert_int_equal(count(p, "a+b-2"), 2);
    assert_int_equal(count(p, "a-b-2"), 4);
    assert_int_equal(count(p, "a.b-2"), 6);

    nixery_popularity_release(p);
}


static void
paths(void **state)
{
    nixery_popularity_t  *p;

    (void) state;

    p = parse("{\"a\": 1}");

    assert_int_equal(nixery_popularity_count(p, "/nix/store/" HASH "-a"), 1);
    assert_int_equal(nixery_popularity_count(p, "/elsewhere/" HASH "-a-2"), 1);
    assert_int_equal(nixery_popularity_count(p, HASH "-a"), 1);

    assert_int_equal(nixery_popularity_count(p, ""), 0);
    assert_int_equal(nixery_popularity_count(p, "/nix/store/"), 0);
    assert_int_equal(nixery_popularity_count(p, "/nix/store/a"), 0);
    assert_int_equal(nixery_popularity_count(p, "/nix/store/" HASH), 0);
    assert_int_equal(nixery_popularity_count(p, "/nix/store/" HASH "-"), 0);

    nixery_popularity_release(p);

    p = parse(" { } ");
    assert_int_equal(nixery_popularity_count(p, "/nix/store/" HASH "-a"), 0);
    nixery_popularity_release(p);
}


static void
id(void **state)
{
    char                  hex[NIXERY_HEX_LEN + 1];
    const char           *text;
    nixery_popularity_t  *one, *two;

    (void) state;

    text = "{\"a\": 1}";
    assert_int_equal(nixery_sha256_hex(text, strlen(text), hex), NIXERY_OK);

    one = parse(text);
    two = parse("{\"a\": 2}");

    assert_string_equal(nixery_popularity_id(one), hex);
    assert_string_not_equal(nixery_popularity_id(two), hex);

    nixery_popularity_release(one);
    nixery_popularity_release(two);
}


static void
malformed(void **state)
{
    (void) state;

#define bad(text, message)  assert_bad(text, sizeof(text) - 1, message)

    bad("", "the table is not valid JSON: it ends too early, at byte 0");
    bad("{\"a\":1", "the table is not valid JSON: \",\" or \"}\" is expected, "
        "at byte 6");
    bad("{\"a\":1}x", "the table is not valid JSON: something stands behind "
        "the value, at byte 7");
    bad("{\"a\\u0000\":1}", "the table is not valid JSON: a string has a NUL, "
        "at byte 9");
    bad("{\"a\xff\":1}", "the table is not valid JSON: a string is not UTF-8, "
        "at byte 3");
    bad("{\"a\":1,\"a\":1}", "the table has the key \"a\" twice in one object");

    bad("[1]", "the table is not an object of names and counts");
    bad("7", "the table is not an object of names and counts");
    bad("null", "the table is not an object of names and counts");

#define bad_count(value)                                                     \
    bad("{\"good\":1,\"bash-5\":" value ",\"x\":2}",                         \
        "the table has a count of \"bash-5\" that is not a whole number from " \
        "0 to 9007199254740992")

    bad_count("-1");
    bad_count("-0.5");
    bad_count("0.5");
    bad_count("1e-9");
    bad_count("9007199254740994");
    bad_count("1e300");
    bad_count("\"1\"");
    bad_count("null");
    bad_count("true");
    bad_count("[]");
    bad_count("{\"a\":1}");

    /* what a person sees is one line, and no longer than it has to be */

    bad("{\"a\\nb\\u001b[31m\":-1}", "the table has a count of \"a b\" that is "
        "not a whole number from 0 to 9007199254740992");
    bad("{\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "0123456789\":-1}", "the table has a count of \"0123456789abcdef"
        "0123456789abcdef0123456789abcdef0123456789abcdef\" that is not a "
        "whole number from 0 to 9007199254740992");
}


static void
limits(void **state)
{
    int                   i;
    char                 *path;
    nixery_buf_t          text = { 0 };
    nixery_error_t        err = { 0 };
    nixery_popularity_t  *p;

    (void) state;

    p = parse("{\"a\": 9007199254740992, \"b\": 9007199254740991}");
    assert_int_equal(count(p, "a"), UINT64_C(9007199254740992));
    assert_int_equal(count(p, "b"), UINT64_C(9007199254740991));
    nixery_popularity_release(p);

    /* as many names as are taken, and one more */

    assert_int_equal(nixery_buf_puts(&text, "{\"n0-1\":0"), NIXERY_OK);

    for (i = 1; i < NIXERY_POPULARITY_NAMES_MAX; i++) {
        assert_int_equal(nixery_buf_printf(&text, ",\"n%d-1\":%d", i, i),
                         NIXERY_OK);
    }

    assert_int_equal(nixery_buf_puts(&text, "}"), NIXERY_OK);

    p = parse(text.data);
    assert_int_equal(count(p, "n0-1"), 0);
    assert_int_equal(count(p, "n123456-1"), 123456);
    assert_int_equal(count(p, "n999999-2"), 999999);
    assert_int_equal(count(p, "n1000000-1"), 0);
    nixery_popularity_release(p);

    text.len--;
    assert_int_equal(nixery_buf_puts(&text, ",\"x\":1}"), NIXERY_OK);
    assert_bad(text.data, text.len, "the table has 1000001 names, at most "
               "1000000 are taken");
    nixery_buf_free(&text);

    /* a file as long as one may be, nearly all of it blanks */

    path = format("/tmp/nixery-popularity-test.%d", (int) getpid());

    assert_int_equal(nixery_buf_printf(&text, "{\"a\":1}%*s",
                                       NIXERY_POPULARITY_MAX - 7, ""),
                     NIXERY_OK);
    assert_int_equal(text.len, NIXERY_POPULARITY_MAX);
    unit_write(path, text.data, 0644);

    p = nixery_popularity_read(path, "the table", &err);
    assert_non_null(p);
    assert_int_equal(count(p, "a"), 1);
    nixery_popularity_release(p);

    assert_int_equal(nixery_buf_puts(&text, " "), NIXERY_OK);
    unit_write(path, text.data, 0644);
    assert_unread(path, NIXERY_ERROR_RESULT,
                  "the table has more than 67108864 bytes");

    assert_int_equal(unlink(path), 0);
    nixery_buf_free(&text);
    free(path);
}


static void
files(void **state)
{
    int                   open_before;
    char                 *path, *dir;
    nixery_error_t        err = { 0 };
    nixery_popularity_t  *p;

    (void) state;

    open_before = unit_descriptors();

    dir = format("/tmp/nixery-popularity-test.%d", (int) getpid());
    assert_int_equal(mkdir(dir, 0755), 0);

    path = format("%s/table", dir);

    assert_unread(path, NIXERY_ERROR_SYSTEM,
                  "can't open the table: No such file or directory");
    assert_unread(dir, NIXERY_ERROR_RESULT,
                  "the table is not a regular file");

    assert_int_equal(mkfifo(path, 0644), 0);
    assert_unread(path, NIXERY_ERROR_RESULT,
                  "the table is not a regular file");

    unit_write(path, "", 0644);
    assert_unread(path, NIXERY_ERROR_RESULT,
                  "the table is not valid JSON: it ends too early, at byte 0");

    unit_write(path, "{\"a\":1}\n", 0644);
    p = nixery_popularity_read(path, "the table", &err);
    assert_non_null(p);
    assert_int_equal(count(p, "a"), 1);
    nixery_popularity_release(p);

    /* memory of a process can be opened, but not read at its beginning */

    assert_unread("/proc/self/mem", NIXERY_ERROR_SYSTEM,
                  "can't read the table: Input/output error");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    free(path);
    free(dir);

    assert_int_equal(unit_descriptors(), open_before);
}


/* Whoever releases a table last frees it; nobody reads it afterwards. */

static void
many_threads(void **state)
{
    int                   i;
    pthread_t             threads[THREADS];
    nixery_popularity_t  *p;

    (void) state;

    p = parse("{\"a\": 5}");

    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, user,
                                        nixery_popularity_share(p)),
                         0);
    }

    nixery_popularity_release(p);

    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }

    assert_null(nixery_popularity_share(NULL));
    nixery_popularity_release(NULL);
}


static nixery_popularity_t *
parse(const char *text)
{
    nixery_error_t        err = { 0 };
    nixery_popularity_t  *p;

    p = nixery_popularity_parse(text, strlen(text), "the table", &err);

    assert_null(err.message);
    assert_non_null(p);

    return p;
}


static uint64_t
count(const nixery_popularity_t *popularity, const char *name)
{
    char      *path;
    uint64_t   n;

    path = format("/nix/store/" HASH "-%s", name);
    n = nixery_popularity_count(popularity, path);
    free(path);

    return n;
}


static void
assert_bad(const char *text, size_t len, const char *message)
{
    nixery_error_t  err = { 0 };

    assert_null(nixery_popularity_parse(text, len, "the table", &err));
    assert_int_equal(err.kind, NIXERY_ERROR_RESULT);
    assert_string_equal(err.message, message);
    nixery_error_free(&err);
}


static void
assert_unread(const char *path, nixery_error_e kind, const char *message)
{
    nixery_error_t  err = { 0 };

    assert_null(nixery_popularity_read(path, "the table", &err));
    assert_int_equal(err.kind, kind);
    assert_string_equal(err.message, message);
    nixery_error_free(&err);
}


static void *
user(void *data)
{
    int                   i;
    nixery_popularity_t  *p, *mine;

    p = data;

    for (i = 0; i < 1000; i++) {
        mine = nixery_popularity_share(p);

        if (nixery_popularity_count(mine, HASH "-a") != 5) {
            abort();
        }

        nixery_popularity_release(mine);
    }

    nixery_popularity_release(p);

    return NULL;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(versions),
        cmocka_unit_test(paths),
        cmocka_unit_test(id),
        cmocka_unit_test(malformed),
        cmocka_unit_test(limits),
        cmocka_unit_test(files),
        cmocka_unit_test(many_threads),
    };

    return cmocka_run_group_tests_name("popularity", tests, NULL, NULL);
}
