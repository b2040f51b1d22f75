
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "server.h"
#include "nixery_popularity_source.h"


#define THREADS    8

/* no test comes near to it */
#define LONG_TIME  60000

#define PATH_A     "/nix/store/00000000000000000000000000000000-a-1"

#define REFUSED    "Connection refused"
#define NO_FILE    "can't open the file: No such file or directory"

#define ANSWER(n, body)                                                      \
    "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: " n "\r\n"            \
    "Connection: close\r\n\r\n" body


/* A source, and the folder with its file or its downloads. */

typedef struct {
    char                        *dir;
    char                        *file;
    char                        *url;
    nixery_cancel_t              cancel;
    nixery_popularity_source_t   source;
    int                          descriptors;
} fixture_t;


/* One that refreshes, in a thread of its own. */

typedef struct {
    pthread_t                    thread;
    nixery_popularity_source_t  *source;
    nixery_cancel_t              cancel;
    nixery_popularity_t         *table;
    nixery_error_t               err;
} caller_t;


static int make_fixture(void **state);
static int remove_fixture(void **state);
static void from_file(fixture_t *f);
static void from_url(fixture_t *f, int port, const char *path);
static void restart(fixture_t *f);
static void shell(const char *dir, const char *command);
static void assert_table(fixture_t *f, uint64_t count);
static void assert_warned(fixture_t *f, const char *message, uint64_t count);
static uint64_t refresh(fixture_t *f, nixery_error_t *err);
static void call(caller_t *caller, nixery_popularity_source_t *source);
static void *run(void *data);
static void ended(caller_t *caller, nixery_error_e kind, uint64_t count);
static void wait_for_requests(fake_t *fake, int n);
static uint64_t now(void);


static void
a_file_is_read_when_it_changes(void **state)
{
    fixture_t            *f;
    struct stat           sb;
    struct timespec       times[2];
    nixery_error_t        err = { 0 };
    nixery_popularity_t  *one, *two;

    f = *state;

    from_file(f);
    unit_write(f->file, "{\"a\":1}", 0644);
    assert_table(f, 1);

    /* the same one */

    one = nixery_popularity_refresh(&f->source, NULL, &err);
    two = nixery_popularity_refresh(&f->source, NULL, &err);
    assert_ptr_equal(one, two);
    nixery_popularity_release(one);
    nixery_popularity_release(two);

    unit_write(f->file, "{\"a\":2}", 0644);
    assert_table(f, 2);

    unit_write(f->file, "{\"a\":12}", 0644);
    assert_table(f, 12);

    /* in place, as long as before, and with the old time */

    assert_int_equal(stat(f->file, &sb), 0);

    shell(f->dir, "printf '{\"a\":34}' > file");

    times[0] = sb.st_atim;
    times[1] = sb.st_mtim;
    assert_int_equal(utimensat(AT_FDCWD, f->file, times, 0), 0);
    assert_table(f, 34);

    /* who has a table keeps it, whatever comes after it */

    one = nixery_popularity_refresh(&f->source, NULL, &err);
    unit_write(f->file, "{\"a\":5}", 0644);
    assert_table(f, 5);
    assert_int_equal(nixery_popularity_count(one, PATH_A), 34);
    nixery_popularity_release(one);
}


static void
a_file_that_is_no_good(void **state)
{
    fixture_t  *f;

    f = *state;

    /* none was ever there; it is told once */

    from_file(f);
    assert_warned(f, NO_FILE, 0);
    assert_table(f, 0);
    assert_table(f, 0);

    unit_write(f->file, "{\"a\":1", 0644);
    assert_warned(f, "the file is not valid JSON: \",\" or \"}\" is expected, "
                  "at byte 6", 0);
    assert_table(f, 0);

    unit_write(f->file, "{\"a\":1}", 0644);
    assert_table(f, 1);

    /* the last good table goes on */

    unit_write(f->file, "{\"a\":-1}", 0644);
    assert_warned(f, "the file has a count of \"a\" that is not a whole number "
                  "from 0 to 9007199254740992", 1);
    assert_table(f, 1);

    assert_int_equal(unlink(f->file), 0);
    assert_warned(f, NO_FILE, 1);
    assert_table(f, 1);

    assert_int_equal(mkdir(f->file, 0755), 0);
    assert_warned(f, "the file is not a regular file", 1);
    assert_table(f, 1);
    assert_int_equal(rmdir(f->file), 0);

    /* all was well for a moment: it is told again */

    unit_write(f->file, "{\"a\":1}", 0644);
    assert_table(f, 1);
    assert_int_equal(unlink(f->file), 0);
    assert_warned(f, NO_FILE, 1);

    /* but a restart forgets what is there no more */

    restart(f);
    assert_warned(f, NO_FILE, 0);

    /* one that can be opened and can't be read is tried each time */

    f->source.file = "/proc/self/mem";
    assert_warned(f, "can't read the file: Input/output error", 0);
    assert_table(f, 0);
    f->source.file = f->file;
    unit_write(f->file, "{\"a\":7}", 0644);
    assert_table(f, 7);
}


static void
a_url(void **state)
{
    fixture_t            *f;
    server_t              server;
    nixery_error_t        err = { 0 };
    nixery_popularity_t  *one, *two;

    f = *state;

    server_init(&server);
    server_start(&server,
                 "server { listen 127.0.0.1:%d; root html; }"
                 "server { listen 127.0.0.1:%d; root html;"
                 " if ($http_authorization != 'Basic dXNlcjpzZWNyZXQ=')"
                 " { return 403; } }");

    from_url(f, server.port[0], "table.json?secret#secret");

    server_file(&server, "table.json", "{\"a\":1}");
    assert_table(f, 1);

    one = nixery_popularity_refresh(&f->source, NULL, &err);
    two = nixery_popularity_refresh(&f->source, NULL, &err);
    assert_ptr_equal(one, two);
    nixery_popularity_release(one);
    nixery_popularity_release(two);

    /* another content, another time, and nothing of the two */

    server_file(&server, "table.json", "{\"a\":2}");
    assert_table(f, 2);

    server_file(&server, "table.json", "{\"a\":2}");
    one = nixery_popularity_refresh(&f->source, NULL, &err);
    two = nixery_popularity_refresh(&f->source, NULL, &err);
    assert_ptr_equal(one, two);
    nixery_popularity_release(one);
    nixery_popularity_release(two);

    /* what is no table, and what is too much for one */

    server_file(&server, "table.json", "<html>");
    assert_warned(f, "the URL is not valid JSON: a value is expected, "
                  "at byte 0", 2);
    assert_table(f, 2);

    shell(server.dir, "truncate -s 67108865 html/table.json");
    assert_warned(f, "67108864", 2);
    assert_table(f, 2);

    shell(server.dir, "rm html/table.json");
    assert_warned(f, "404", 2);
    assert_table(f, 2);

    server_file(&server, "table.json", "{\"a\":3}");
    assert_table(f, 3);

    /* by its user */

    restart(f);
    from_url(f, server.port[1], "table.json");
    assert_warned(f, "403", 0);
    assert_table(f, 0);

    f->source.user = "user";
    f->source.password = "secret";
    assert_table(f, 3);

    server_stop(&server);
}


/* What was downloaded is used when the server is not there. */

static void
a_restart(void **state)
{
    int         port;
    fake_t      fake;
    fixture_t  *f;

    f = *state;

    fake_start(&fake, ANSWER("7", "{\"a\":9}"), FAKE_CLOSE);
    port = fake.port;

    from_url(f, port, "table.json");
    assert_table(f, 9);

    fake_stop(&fake);

    assert_warned(f, REFUSED, 9);
    assert_table(f, 9);

    restart(f);
    assert_warned(f, REFUSED, 9);
    assert_table(f, 9);

    /* another URL's is not taken for it */

    restart(f);
    from_url(f, port, "other.json");
    assert_warned(f, REFUSED, 0);
    assert_table(f, 0);

    /* nor what was kept of this one, and is damaged */

    restart(f);
    from_url(f, port, "table.json");
    shell(f->dir, "for i in downloads/*; do echo '{}' > $i; done");
    assert_warned(f, REFUSED, 0);
    assert_table(f, 0);
}


static void
silence(void **state)
{
    fake_t      fake;
    uint64_t    start;
    fixture_t  *f;

    f = *state;

    fake_start(&fake, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{",
               FAKE_HOLD);

    from_url(f, fake.port, "table.json");
    f->source.timeout = 300;

    start = now();
    assert_warned(f, "table.json", 0);
    assert_in_range(now() - start, 300, LONG_TIME);

    /* another number of milliseconds is the same warning */

    f->source.timeout = 200;
    assert_table(f, 0);
    assert_int_equal(atomic_load(&fake.requests), 2);

    fake_stop(&fake);
}


static void
an_interval(void **state)
{
    int         fd, port;
    char       *url;
    fake_t      fake;
    fixture_t  *f;

    f = *state;

    fake_start(&fake, ANSWER("7", "{\"a\":9}"), FAKE_CLOSE);

    from_url(f, fake.port, "table.json");
    f->source.interval = LONG_TIME;

    assert_table(f, 9);
    assert_table(f, 9);
    assert_int_equal(atomic_load(&fake.requests), 1);

    /* it also keeps a server that refuses from being asked for each image */

    fd = server_listen(-1, &port);
    url = format("http://127.0.0.1:%d/table.json", port);

    restart(f);
    f->source.url = url;
    assert_warned(f, REFUSED, 0);

    f->source.url = f->url;
    assert_table(f, 0);
    assert_int_equal(atomic_load(&fake.requests), 1);

    (void) close(fd);
    free(url);

    restart(f);
    f->source.interval = 0;
    assert_table(f, 9);
    assert_table(f, 9);
    assert_int_equal(atomic_load(&fake.requests), 3);

    fake_stop(&fake);
}


/* One of them asks; the others wait for it when there is no table yet. */

static void
many_threads(void **state)
{
    int         i;
    fake_t      fake;
    caller_t    callers[THREADS];
    fixture_t  *f;

    f = *state;

    fake_start(&fake, ANSWER("7", "{\"a\":9}"), FAKE_LATE);

    from_url(f, fake.port, "table.json");
    f->source.interval = LONG_TIME;

    for (i = 0; i < THREADS; i++) {
        call(&callers[i], &f->source);
    }

    for (i = 0; i < THREADS; i++) {
        ended(&callers[i], NIXERY_ERROR_NONE, 9);
    }

    assert_int_equal(atomic_load(&fake.requests), 1);
    fake_stop(&fake);

    /* with one they take it at once */

    fake_start(&fake, "", FAKE_HOLD);
    from_url(f, fake.port, "table.json");
    f->source.next = 0;

    call(&callers[0], &f->source);
    wait_for_requests(&fake, 1);

    assert_table(f, 9);
    assert_table(f, 9);

    atomic_store(&callers[0].cancel.flag, 1);
    ended(&callers[0], NIXERY_ERROR_CANCELED, 9);

    assert_int_equal(atomic_load(&fake.requests), 1);
    fake_stop(&fake);
}


static void
a_file_in_many_threads(void **state)
{
    int         i, round;
    char       *text;
    caller_t    callers[THREADS];
    fixture_t  *f;

    f = *state;

    from_file(f);

    for (round = 1; round <= 50; round++) {
        text = format("{\"a\":%d}", round);
        unit_write(f->file, text, 0644);
        free(text);

        for (i = 0; i < THREADS; i++) {
            call(&callers[i], &f->source);
        }

        for (i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
            assert_null(callers[i].err.message);
            assert_in_range(nixery_popularity_count(callers[i].table, PATH_A),
                            round == 1 ? 1 : round - 1, round);
            nixery_popularity_release(callers[i].table);
        }

        assert_table(f, round);
    }
}


static void
canceled(void **state)
{
    fake_t           fake;
    caller_t         first, second;
    fixture_t       *f;
    nixery_error_t   err = { 0 };

    f = *state;

    fake_start(&fake, "", FAKE_HOLD);

    from_url(f, fake.port, "table.json");
    f->source.interval = LONG_TIME;

    call(&first, &f->source);
    wait_for_requests(&fake, 1);

    /* who waits for another is canceled alone */

    call(&second, &f->source);
    atomic_store(&second.cancel.flag, 1);
    ended(&second, NIXERY_ERROR_CANCELED, 0);

    /* who takes over when the other is canceled asks once more */

    call(&second, &f->source);
    atomic_store(&first.cancel.flag, 1);
    ended(&first, NIXERY_ERROR_CANCELED, 0);

    wait_for_requests(&fake, 2);
    atomic_store(&second.cancel.flag, 1);
    ended(&second, NIXERY_ERROR_CANCELED, 0);

    fake_stop(&fake);

    /* nobody was warned, so somebody is */

    assert_int_equal(refresh(f, &err), 0);
    assert_non_null(strstr(err.message, REFUSED));
    nixery_error_free(&err);
}


static int
make_fixture(void **state)
{
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));
    assert_non_null(f);

    f->descriptors = unit_descriptors();

    f->dir = strdup("/tmp/nixery-popularity-test.XXXXXX");
    assert_non_null(f->dir);
    assert_non_null(mkdtemp(f->dir));

    f->file = format("%s/file", f->dir);

    nixery_popularity_source_init(&f->source);

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;

    nixery_popularity_source_free(&f->source);
    free((char *) f->source.dir);

    shell(f->dir, "rm -rf \"$PWD\"");
    assert_int_equal(unit_descriptors(), f->descriptors);

    free(f->dir);
    free(f->file);
    free(f->url);
    free(f);

    return 0;
}


static void
from_file(fixture_t *f)
{
    f->source.file = f->file;
    f->source.what = "the file";
}


static void
from_url(fixture_t *f, int port, const char *path)
{
    free(f->url);
    f->url = format("http://127.0.0.1:%d/%s", port, path);

    free((char *) f->source.dir);
    f->source.dir = format("%s/downloads", f->dir);

    f->source.url = f->url;
    f->source.what = "the URL";
    f->source.timeout = LONG_TIME;
    f->source.interval = 0;
}


/* As another process has it: what was read is gone, what was kept is not. */

static void
restart(fixture_t *f)
{
    nixery_popularity_source_t  next;

    memset(&next, 0, sizeof(nixery_popularity_source_t));

    next.file = f->source.file;
    next.url = f->source.url;
    next.what = f->source.what;
    next.dir = f->source.dir;
    next.timeout = f->source.timeout;
    next.interval = f->source.interval;

    nixery_popularity_source_free(&f->source);

    f->source = next;
    nixery_popularity_source_init(&f->source);
}


static void
shell(const char *dir, const char *command)
{
    char  *text;

    text = format("cd '%s' && { %s; }", dir, command);
    assert_int_equal(system(text), 0);
    free(text);
}


static void
assert_table(fixture_t *f, uint64_t count)
{
    uint64_t        n;
    nixery_error_t  err = { 0 };

    n = refresh(f, &err);

    assert_null(err.message);
    assert_int_equal(n, count);
}


/* There is a warning with that text in it, and nothing secret. */

static void
assert_warned(fixture_t *f, const char *message, uint64_t count)
{
    uint64_t        n;
    nixery_error_t  err = { 0 };

    n = refresh(f, &err);

    assert_non_null(err.message);

    if (strstr(err.message, message) == NULL) {
        fail_msg("\"%s\" is not in: %s", message, err.message);
    }

    assert_null(strstr(err.message, "secret"));
    assert_int_equal(n, count);

    nixery_error_free(&err);
}


/* How popular "a" is, 0 without a table. */

static uint64_t
refresh(fixture_t *f, nixery_error_t *err)
{
    uint64_t              n;
    nixery_popularity_t  *table;

    table = nixery_popularity_refresh(&f->source, &f->cancel, err);
    n = table ? nixery_popularity_count(table, PATH_A) : 0;
    nixery_popularity_release(table);

    return n;
}


static void
call(caller_t *caller, nixery_popularity_source_t *source)
{
    memset(caller, 0, sizeof(caller_t));
    caller->source = source;

    assert_int_equal(pthread_create(&caller->thread, NULL, run, caller), 0);
}


static void *
run(void *data)
{
    caller_t  *caller;

    caller = data;
    caller->table = nixery_popularity_refresh(caller->source, &caller->cancel,
                                              &caller->err);

    return NULL;
}


static void
ended(caller_t *caller, nixery_error_e kind, uint64_t count)
{
    assert_int_equal(pthread_join(caller->thread, NULL), 0);
    assert_int_equal(caller->err.kind, kind);

    assert_int_equal(caller->table
                         ? nixery_popularity_count(caller->table, PATH_A) : 0,
                     count);

    nixery_popularity_release(caller->table);
    nixery_error_free(&caller->err);
}


static void
wait_for_requests(fake_t *fake, int n)
{
    uint64_t  start;

    start = now();

    while (atomic_load(&fake->requests) < n) {
        assert_true(now() - start < LONG_TIME);
        (void) usleep(1000);
    }
}


static uint64_t
now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}


int
main(void)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_fixture, remove_fixture)

    const struct CMUnitTest  tests[] = {
        test(a_file_is_read_when_it_changes),
        test(a_file_that_is_no_good),
        test(a_file_in_many_threads),
        test(a_url),
        test(a_restart),
        test(silence),
        test(an_interval),
        test(many_threads),
        test(canceled),
    };

    return cmocka_run_group_tests_name("popularity_source", tests, NULL, NULL);
}
