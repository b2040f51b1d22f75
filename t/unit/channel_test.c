
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include "server.h"
#include "nixery_channel.h"
#include "nixery_sha256.h"


/*
 * The server is a real one, and so is git, whose repository the server has as
 * files; nix-prefetch-url is a shell script that each test writes.
 */


#define THREADS  4
#define ROUNDS   10

/* no test comes near to it */
#define MINUTE   60000

#define HASH     "0123456789abcdfghijklmnpqrsvwxyz0123456789abcdfghijk"
#define OTHER    "1123456789abcdfghijklmnpqrsvwxyz0123456789abcdfghijk"

#define STATED   "00112233445566778899aabbccddeeff00112233"
#define NOWHERE  "ffffffffffffffffffffffffffffffffffffffff"

#define OK_HEAD  "HTTP/1.1 200 OK\r\n"

#define count_of(array)  (sizeof(array) / sizeof(array[0]))


typedef struct {
    char                *dir;      /* of work files */
    char                *work;
    char                *prefetch;
    char                *url;
    char                *shown;
    nixery_nix_t         nix;
    nixery_source_t      source;
    nixery_fetch_t       fetch;
    nixery_cancel_t      cancel;
    nixery_revision_t    revision;
    nixery_channel_t     channel;
    nixery_error_t       err;
    char                *message;  /* of the last error */
} fixture_t;


/* Whoever cancels as soon as there is something to be ended. */

typedef struct {
    nixery_cancel_t     *cancel;
    atomic_int          *requests;
    char                *file;
} canceler_t;


typedef struct {
    fixture_t           *fixture;
    nixery_revision_t    revision;
    int                  wrong;
} user_t;


static int start_server(void **state);
static int stop_server(void **state);
static int make_fixture(void **state);
static int remove_fixture(void **state);
static void set_source(fixture_t *f, const char *url, const char *name);
static void set_place(fixture_t *f, const char *path, const char *name);
static void set_prefetch(fixture_t *f, const char *body);
static size_t prefetched(fixture_t *f);
static void hash_of(const char *text, char id[NIXERY_REVISION_LEN + 1]);
static void resolves(fixture_t *f, const char *id, const char *ref);
static void resolves_to_hash(fixture_t *f, const char *text);
static void opens(fixture_t *f, const char *text);
static void no_revision(fixture_t *f, nixery_error_e kind, const char *text);
static void no_tarball(fixture_t *f, nixery_error_e kind, const char *text);
static void assert_no(fixture_t *f, nixery_error_e kind, const char *text,
    int rc);
static char *read_text(const char *path);
static void repository(void);
static char *note(fixture_t *f);
static void *cancel_soon(void *data);
static void *use(void *data);


static char      *commit;      /* of the repository's branch and tag */
static server_t   server;


static void
archive_with_a_repository(void **state)
{
    char       *text;
    fixture_t  *f;

    f = *state;

    set_place(f, "/set/archive/$channel.tar", "main");
    resolves(f, commit, "refs/heads/main");
    opens(f, "of the commit\n");

    text = format("file://%s/downloads/", f->dir);
    assert_memory_equal(f->channel.url, text, strlen(text));
    assert_string_equal(f->channel.url + 7, f->channel.download.path);
    assert_string_equal(f->channel.hash, HASH);
    free(text);

    set_place(f, "/set/archive/$channel.tar", "v1");
    resolves(f, commit, "refs/tags/v1");

    /* what a commit is never changes: it is not asked for again */

    unit_shell("mv '%s/html/set/archive' '%s/html/set/gone'", server.dir,
          server.dir);
    opens(f, "of the commit\n");

    nixery_channel_close(&f->channel);
    unit_shell("rm -r '%s/downloads'", f->dir);

    text = format("there is no channel \"%s\" at \"%s\"", commit, f->shown);
    no_tarball(f, NIXERY_ERROR_REF, text);
    free(text);

    unit_shell("mv '%s/html/set/gone' '%s/html/set/archive'", server.dir,
          server.dir);

    text = format("git repository \"%s\" has no branch or tag \"none\"",
                  f->shown);
    set_place(f, "/set/archive/$channel.tar", "none");
    no_revision(f, NIXERY_ERROR_REF, text);
    free(text);
}


static void
commit_by_its_own_name(void **state)
{
    char       *text;
    fixture_t  *f;

    f = *state;

    set_place(f, "/set/archive/$channel.tar", commit);
    memset(&f->revision, 0, sizeof(nixery_revision_t));
    (void) stpcpy(f->revision.id, commit);
    opens(f, "of the commit\n");

    set_place(f, "/set/archive/$channel.tar", NOWHERE);
    (void) stpcpy(f->revision.id, NOWHERE);

    text = format("there is no channel \"" NOWHERE "\" at \"%s\"", f->shown);
    no_tarball(f, NIXERY_ERROR_REF, text);
    free(text);
}


static void
archive_without_a_repository(void **state)
{
    fixture_t  *f;

    f = *state;

    set_place(f, "/plain/archive/$channel.tar", "stable");
    resolves_to_hash(f, "plain\n");
    opens(f, "plain\n");

    set_place(f, "/plain/archive/$channel.tar", "none");
    no_revision(f, NIXERY_ERROR_REF, "there is no channel \"none\" at \"");

    /* nobody to ask a repository */

    f->nix.git = NULL;
    set_place(f, "/set/archive/$channel.tar", "main");
    resolves_to_hash(f, "of the branch\n");
    opens(f, "of the branch\n");
}


static void
revision_beside_the_tarball(void **state)
{
    size_t      i;
    fixture_t  *f;

    static const char  *others[] = {
        "", "\n", "no commit\n", "00112233445566778899AABBCCDDEEFF00112233\n",
        STATED "0\n", "0" STATED "\n", " " STATED "\n"
    };

    f = *state;

    set_place(f, "/$channel/nixexprs.tar", "stable");

    server_file(&server, "stable/git-revision", STATED);
    resolves(f, STATED, "stable");
    opens(f, "the channel\n");

    server_file(&server, "stable/git-revision", STATED "\r\n");
    resolves(f, STATED, "stable");

    for (i = 0; i < count_of(others); i++) {
        server_file(&server, "stable/git-revision", others[i]);
        resolves_to_hash(f, "the channel\n");
    }

    server_file(&server, "stable/git-revision", STATED "\n");
    resolves(f, STATED, "stable");

    /* a page in place of what is not there, as long as those are */

    set_place(f, "/$channel/nixexprs.tar", "page");
    resolves_to_hash(f, "a page\n");

    /* another one whenever it is asked for */

    set_place(f, "/$channel/nixexprs.tar", "moving");
    resolves_to_hash(f, "it moves\n");
    opens(f, "it moves\n");

    set_place(f, "/$channel/nixexprs.tar", "none");
    no_revision(f, NIXERY_ERROR_REF, "there is no channel \"none\" at \"");
}


static void
hash_of_the_tarball(void **state)
{
    fixture_t  *f;

    f = *state;

    set_place(f, "/files/$channel.tar", "hash");
    resolves_to_hash(f, "only this\n");
    opens(f, "only this\n");

    /* it is held by its hash: nobody is asked */

    set_source(f, "http://127.0.0.1:1/$channel.tar", "hash");
    opens(f, "only this\n");

    nixery_channel_close(&f->channel);
    set_place(f, "/files/$channel.tar", "hash");
    unit_shell("rm -r '%s/downloads'", f->dir);
    opens(f, "only this\n");

    unit_shell("mv '%s/html/files/hash.tar' '%s/html/files/gone'", server.dir,
          server.dir);
    no_revision(f, NIXERY_ERROR_REF, "there is no channel \"hash\" at \"");
    unit_shell("mv '%s/html/files/gone' '%s/html/files/hash.tar'", server.dir,
          server.dir);
}


static void
user_password_and_query(void **state)
{
    char       *text;
    fixture_t  *f;

    f = *state;

    /* all that is asked for has them, and a slash in a query is no folder */

    set_place(f, "/token/$channel/nixexprs.tar?token=a/secret", "stable");
    server_file(&server, "stable/git-revision", STATED "\n");
    resolves(f, STATED, "stable");
    opens(f, "the channel\n");

    set_place(f, "/token/$channel/nixexprs.tar?token=wrong", "stable");
    text = format("can't get \"http://127.0.0.1:%d/token/stable/nixexprs.tar\""
                  ": 127.0.0.1 answered 403", server.port[0]);
    no_revision(f, NIXERY_ERROR_SOURCE, text);
    free(text);

    f->source.user = "me";
    f->source.password = "secret";

    set_place(f, "/private/$channel/nixexprs.tar", "stable");
    resolves(f, STATED, "stable");
    opens(f, "the channel\n");

    nixery_fetch_close(&f->fetch);
    set_place(f, "/private/set/archive/$channel.tar", "main");
    assert_int_equal(nixery_fetch_open(&f->fetch, &f->err), NIXERY_OK);
    resolves(f, commit, "refs/heads/main");
    opens(f, "of the commit\n");

    f->source.password = "wrong";

    set_place(f, "/private/$channel/nixexprs.tar", "stable");
    no_revision(f, NIXERY_ERROR_SOURCE, "127.0.0.1 answered 401");

    nixery_fetch_close(&f->fetch);
    set_place(f, "/private/set/archive/$channel.tar", "main");
    assert_int_equal(nixery_fetch_open(&f->fetch, &f->err), NIXERY_OK);
    no_revision(f, NIXERY_ERROR_SOURCE, "the credentials are refused");
    no_tarball(f, NIXERY_ERROR_SOURCE, "127.0.0.1 answered 401");
}


static void
refused(void **state)
{
    char        url[64], text[128];
    fake_t      fake;
    fixture_t  *f;

    f = *state;

    set_place(f, "/forbidden/$channel.tar", "stable");
    no_revision(f, NIXERY_ERROR_SOURCE, "127.0.0.1 answered 403");

    set_place(f, "/broken/$channel.tar", "stable");
    no_revision(f, NIXERY_ERROR_SOURCE, "127.0.0.1 answered 500");

    set_place(f, "/forbidden/archive/$channel.tar", "stable");
    no_revision(f, NIXERY_ERROR_SOURCE, "The requested URL returned error: "
                                        "403");

    set_place(f, "/broken/archive/$channel.tar", "stable");
    no_revision(f, NIXERY_ERROR_SOURCE, "The requested URL returned error: "
                                        "500");

    /* at once, by what it says */

    (void) snprintf(text, sizeof(text), OK_HEAD "Content-Length: %u\r\n\r\n",
                    512 * 1024 * 1024 + 1);
    fake_start(&fake, text, FAKE_HOLD);
    (void) snprintf(url, sizeof(url), "http://127.0.0.1:%d/$channel",
                    fake.port);
    set_source(f, url, "stable");
    no_revision(f, NIXERY_ERROR_SOURCE, "it has more than ");
    fake_stop(&fake);

    no_revision(f, NIXERY_ERROR_SOURCE, "Connection refused");

    (void) stpcpy(strrchr(url, '/'), "/archive/$channel");
    set_source(f, url, "stable");
    no_revision(f, NIXERY_ERROR_SOURCE, "can't ask git repository \"");
}


static void
no_place_for_downloads(void **state)
{
    char       *path;
    fixture_t  *f;

    f = *state;

    path = format("%s/downloads", f->dir);
    unit_write(path, "", 0600);
    free(path);

    set_place(f, "/files/$channel.tar", "hash");
    no_revision(f, NIXERY_ERROR_SYSTEM, "/downloads");

    set_place(f, "/set/archive/$channel.tar", "main");
    resolves(f, commit, "refs/heads/main");
    no_tarball(f, NIXERY_ERROR_SYSTEM, "/downloads");
}


static void
moved(void **state)
{
    char       *text;
    fixture_t  *f;

    f = *state;

    /* by its hash; what was is still here, until it is no more */

    server_file(&server, "files/moves.tar", "before\n");
    set_place(f, "/files/$channel.tar", "moves");
    resolves_to_hash(f, "before\n");
    opens(f, "before\n");

    server_file(&server, "files/moves.tar", "after\n");
    opens(f, "before\n");

    nixery_channel_close(&f->channel);
    unit_shell("rm -r '%s/downloads'", f->dir);

    text = format("channel \"moves\" moved from %s to sha256:",
                  f->revision.id);
    no_tarball(f, NIXERY_ERROR_MOVED, text);
    free(text);

    resolves_to_hash(f, "after\n");
    opens(f, "after\n");

    /* by what stands beside it */

    server_file(&server, "stable/git-revision", STATED "\n");
    set_place(f, "/$channel/nixexprs.tar", "stable");
    resolves(f, STATED, "stable");

    server_file(&server, "stable/git-revision", NOWHERE "\n");
    no_tarball(f, NIXERY_ERROR_MOVED, "channel \"stable\" moved from " STATED
               " to " NOWHERE " while it was built");

    resolves(f, NOWHERE, "stable");
    opens(f, "the channel\n");
}


static void
hash_is_noted(void **state)
{
    size_t      i;
    char       *path, *text;
    fixture_t  *f;

    static const char  *broken[] = {
        NULL, "", "0123", HASH "0", HASH "\n",
        "e123456789abcdfghijklmnpqrsvwxyz0123456789abcdfghijk",
        "../../../../../../../../../../../../../../etc/passwd"
    };

    f = *state;

    set_place(f, "/files/$channel.tar", "hash");
    resolves_to_hash(f, "only this\n");
    assert_int_equal(prefetched(f), 0);

    opens(f, "only this\n");
    assert_string_equal(f->channel.hash, HASH);
    assert_int_equal(prefetched(f), 1);

    path = note(f);
    text = read_text(path);
    assert_string_equal(text, HASH);
    free(text);

    /* from now on it is known */

    set_prefetch(f, "echo " OTHER);
    opens(f, "only this\n");
    assert_string_equal(f->channel.hash, HASH);
    assert_int_equal(prefetched(f), 0);

    /* unless nothing is noted that can be one */

    for (i = 0; i < count_of(broken); i++) {
        if (broken[i] != NULL) {
            unit_write(path, broken[i], 0600);

        } else {
            assert_int_equal(unlink(path), 0);
        }

        opens(f, "only this\n");
        assert_string_equal(f->channel.hash, OTHER);
        assert_int_equal(prefetched(f), i + 1);

        text = read_text(path);
        assert_string_equal(text, OTHER);
        free(text);
    }

    /* where none can be written it is found out each time */

    unit_shell("rm '%s'; mkdir '%s'", path, path);
    opens(f, "only this\n");
    opens(f, "only this\n");
    assert_string_equal(f->channel.hash, OTHER);
    assert_int_equal(prefetched(f), i + 2);

    free(path);
}


static void
prefetch_is_called(void **state)
{
    char       *path, *text, *expected;
    fixture_t  *f;

    f = *state;

    set_prefetch(f, "printf '%s\\n' \"$0\" \"$@\" > \"$dir/argv\"\n"
                    "echo \"path is '/nix/store/x'\" >&2\n"
                    "echo " HASH);
    set_place(f, "/files/$channel.tar", "hash");
    resolves_to_hash(f, "only this\n");
    opens(f, "only this\n");

    path = format("%s/argv", f->dir);
    text = read_text(path);
    expected = format("%s\n--unpack\n--name\nsource\n%s\n", f->prefetch,
                      f->channel.url);
    assert_string_equal(text, expected);

    free(expected);
    free(text);
    free(path);
}


static void
nobody_to_prefetch(void **state)
{
    fixture_t  *f;

    f = *state;

    f->nix.prefetch = NULL;
    set_place(f, "/files/$channel.tar", "hash");
    resolves_to_hash(f, "only this\n");
    opens(f, "only this\n");
    assert_null(f->channel.hash);

    /* it has gone meanwhile */

    nixery_channel_close(&f->channel);
    f->nix.prefetch = "/nonexistent/nix-prefetch-url";
    no_tarball(f, NIXERY_ERROR_NIX, "/nonexistent/nix-prefetch-url");
}


static void
what_is_no_tarball(void **state)
{
    size_t      i;
    char       *text;
    fixture_t  *f;

    static const struct {
        const char  *script;
        const char  *cause;
    } cases[] = {
        { "echo 'unpacking...' >&2; echo 'error: it is no archive' >&2; exit 1",
          "it is no archive" },
        { "echo 'http://me:secret@host/ is odd' >&2; exit 1", "is odd" },
        { "exit 1", "it printed nothing" },
        { "echo", "it printed nothing" },
        { "", "it printed nothing" },
        { "echo 0123", "it printed nothing" },
        { "echo " HASH "0", "it printed nothing" },
        { "echo " HASH "; echo 'error: after all' >&2; exit 1", "after all" },
        { "kill -KILL $$", "it printed nothing" },
    };

    f = *state;

    set_place(f, "/files/$channel.tar", "hash");
    resolves_to_hash(f, "only this\n");

    for (i = 0; i < count_of(cases); i++) {
        set_prefetch(f, cases[i].script);
        text = format("Nix can't unpack the tarball of channel \"hash\" from "
                      "\"%s\": ", f->shown);

        no_tarball(f, NIXERY_ERROR_SOURCE, text);
        assert_non_null(strstr(f->message, cases[i].cause));
        free(text);

        /* nothing is noted */

        assert_int_equal(prefetched(f), 1);
    }

    set_prefetch(f, "echo " HASH);
    opens(f, "only this\n");
}


static void
time_limit(void **state)
{
    char        url[64];
    fake_t      fake;
    fixture_t  *f;

    f = *state;

    f->nix.timeout = 2000;

    /* it has passed before anybody is asked */

    set_place(f, "/files/$channel.tar", "hash");
    resolves_to_hash(f, "only this\n");

    f->fetch.deadline = nixery_now();
    no_revision(f, NIXERY_ERROR_TIMEOUT, "the build did not finish within 2s");
    no_tarball(f, NIXERY_ERROR_TIMEOUT, "the build did not finish within 2s");
    assert_int_equal(prefetched(f), 0);

    set_place(f, "/set/archive/$channel.tar", "main");
    no_revision(f, NIXERY_ERROR_TIMEOUT, "the build did not finish within 2s");

    /* while somebody is silent */

    fake_start(&fake, "", FAKE_HOLD);
    (void) snprintf(url, sizeof(url), "http://127.0.0.1:%d/$channel",
                    fake.port);
    set_source(f, url, "stable");
    f->fetch.deadline = nixery_now() + 50;
    no_revision(f, NIXERY_ERROR_TIMEOUT, "timed out after ");

    (void) stpcpy(strrchr(url, '/'), "/archive/$channel");
    set_source(f, url, "stable");
    f->fetch.deadline = nixery_now() + 200;
    no_revision(f, NIXERY_ERROR_TIMEOUT, "the build did not finish within 2s");
    fake_stop(&fake);

    set_place(f, "/files/$channel.tar", "hash");
    f->fetch.deadline = nixery_now() + MINUTE;
    resolves_to_hash(f, "only this\n");

    set_prefetch(f, "echo 'it is slow' >&2; exec sleep 1000");
    f->fetch.deadline = nixery_now() + 200;
    no_tarball(f, NIXERY_ERROR_TIMEOUT, "the build did not finish within 2s");
}


static void
cancellation(void **state)
{
    char         url[64];
    fake_t       fake;
    fixture_t   *f;
    pthread_t    thread;
    canceler_t   canceler = { 0 };

    f = *state;

    canceler.cancel = &f->cancel;

    /* while a tarball, then a repository, is asked for */

    fake_start(&fake, "", FAKE_HOLD);
    canceler.requests = &fake.requests;
    (void) snprintf(url, sizeof(url), "http://127.0.0.1:%d/$channel",
                    fake.port);
    set_source(f, url, "stable");
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &canceler), 0);
    no_revision(f, NIXERY_ERROR_CANCELED, "canceled");
    assert_int_equal(pthread_join(thread, NULL), 0);
    fake_stop(&fake);

    fake_start(&fake, "", FAKE_HOLD);
    atomic_store(&f->cancel.flag, 0);
    (void) snprintf(url, sizeof(url), "http://127.0.0.1:%d/archive/$channel",
                    fake.port);
    set_source(f, url, "stable");
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &canceler), 0);
    no_revision(f, NIXERY_ERROR_CANCELED, "the build was canceled");
    assert_int_equal(pthread_join(thread, NULL), 0);
    fake_stop(&fake);

    /* before */

    set_place(f, "/files/$channel.tar", "hash");
    no_revision(f, NIXERY_ERROR_CANCELED, "canceled");

    /* while Nix unpacks */

    atomic_store(&f->cancel.flag, 0);
    resolves_to_hash(f, "only this\n");

    set_prefetch(f, "> \"$dir/started\"; exec sleep 1000");
    canceler.requests = NULL;
    canceler.file = format("%s/started", f->dir);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &canceler), 0);
    no_tarball(f, NIXERY_ERROR_CANCELED, "the build was canceled");
    assert_int_equal(pthread_join(thread, NULL), 0);
    free(canceler.file);

    atomic_store(&f->cancel.flag, 0);
    set_prefetch(f, "echo " HASH);
    opens(f, "only this\n");
}


/* Each with a job of its own; what is kept is one folder's. */

static void
many_at_once(void **state)
{
    int         i, k;
    void       *states[THREADS];
    char       *path, *text;
    user_t      users[THREADS];
    fixture_t  *f, *first;
    pthread_t   threads[THREADS];

    first = *state;
    set_prefetch(first, "echo " HASH);

    for (i = 0; i < THREADS; i++) {
        assert_int_equal(make_fixture(&states[i]), 0);

        f = states[i];
        f->nix.prefetch = first->prefetch;
        f->fetch.temp_path = first->dir;

        set_place(f, i % 2 ? "/set/archive/$channel.tar"
                           : "/files/$channel.tar", i % 2 ? "main" : "hash");

        users[i].fixture = f;
    }

    for (k = 0; k < ROUNDS; k++) {

        for (i = 0; i < THREADS; i++) {
            users[i].wrong = 0;
            assert_int_equal(pthread_create(&threads[i], NULL, use, &users[i]),
                             0);
        }

        for (i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);

            if (users[i].wrong) {
                fail_msg("%s", users[i].fixture->err.message);
            }
        }

        for (i = 0; i < THREADS; i++) {
            f = users[i].fixture;
            assert_string_equal(f->channel.hash, HASH);

            path = note(f);
            text = read_text(path);
            assert_string_equal(text, HASH);
            free(text);
            free(path);

            text = read_text(f->channel.download.path);
            assert_string_equal(text, i % 2 ? "of the commit\n"
                                            : "only this\n");
            free(text);
        }

        for (i = 0; i < THREADS; i++) {
            nixery_channel_close(&users[i].fixture->channel);
        }

        if (k % 2) {
            unit_shell("rm -r '%s/downloads'", first->dir);
        }
    }

    for (i = 0; i < THREADS; i++) {
        users[i].fixture->nix.prefetch = NULL;
        assert_int_equal(remove_fixture(&states[i]), 0);
    }
}


static void
closed_twice(void **state)
{
    int         before;
    fixture_t  *f;

    f = *state;

    nixery_channel_close(&f->channel);

    set_place(f, "/files/$channel.tar", "hash");
    resolves_to_hash(f, "only this\n");

    before = unit_descriptors();

    opens(f, "only this\n");
    nixery_channel_close(&f->channel);
    assert_null(f->channel.url);
    assert_null(f->channel.hash);
    nixery_channel_close(&f->channel);

    set_place(f, "/files/$channel.tar", "none");
    no_revision(f, NIXERY_ERROR_REF, "there is no channel \"none\" at \"");

    set_prefetch(f, "exit 1");
    unit_shell("rm '%s'/downloads/*.nix", f->dir);
    (void) stpcpy(f->revision.ref, "refs/heads/x");
    (void) stpcpy(f->revision.id, "hash");
    no_tarball(f, NIXERY_ERROR_SOURCE, "can't unpack");

    assert_int_equal(unit_descriptors(), before);
}


static int
start_server(void **state)
{
    char  *path;

    static const char  text[] =
        "server {\n"
        "    listen 127.0.0.1:%d;\n"
        "    listen 127.0.0.1:%d;\n"
        "    location / {\n"
        "    }\n"
        "    location /private/ {\n"
        "        alias html/;\n"
        "        auth_basic me;\n"
        "        auth_basic_user_file users;\n"
        "    }\n"
        "    location /token/ {\n"
        "        alias html/;\n"
        "        if ($arg_token != \"a/secret\") {\n"
        "            return 403;\n"
        "        }\n"
        "    }\n"
        "    location /moving/git-revision {\n"
        "        return 200 \"00000000$request_id\\n\";\n"
        "    }\n"
        "    location /page/ {\n"
        "        error_page 404 =200 /page.html;\n"
        "    }\n"
        "    location /forbidden/ {\n"
        "        return 403;\n"
        "    }\n"
        "    location /broken/ {\n"
        "        return 500;\n"
        "    }\n"
        "}\n";

    (void) state;

    server_init(&server);

    path = format("%s/users", server.dir);
    unit_write(path, "me:{PLAIN}secret\n", 0644);
    free(path);

    unit_shell("cd '%s/html'"
               " && mkdir -p files stable page moving plain/archive",
          server.dir);

    server_file(&server, "files/hash.tar", "only this\n");
    server_file(&server, "stable/nixexprs.tar", "the channel\n");
    server_file(&server, "page/nixexprs.tar", "a page\n");
    server_file(&server, "moving/nixexprs.tar", "it moves\n");
    server_file(&server, "plain/archive/stable.tar", "plain\n");

    unit_shell("head -c 100000 /dev/zero | tr '\\0' ' ' > '%s/html/page.html'",
          server.dir);

    repository();

    server_start(&server, text);

    return 0;
}


static int
stop_server(void **state)
{
    (void) state;

    server_stop(&server);
    free(commit);

    return 0;
}


/* As any web server can have one: files, and what git lists them in. */

static void
repository(void)
{
    char  *path;

    unit_shell("cd '%s/html' && HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 "
          "GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=x "
          "GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=x@example.org "
          "&& export HOME GIT_CONFIG_NOSYSTEM GIT_CONFIG_COUNT "
          "GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0 GIT_CONFIG_KEY_1 "
          "GIT_CONFIG_VALUE_1 "
          "&& git -c init.defaultBranch=main init -q --bare set && cd set "
          "&& git commit-tree -m x $(git mktree < /dev/null) > commit "
          "&& git update-ref refs/heads/main $(cat commit) "
          "&& git tag -a -m x v1 main && git update-server-info "
          "&& mkdir archive", server.dir);

    path = format("%s/html/set/commit", server.dir);
    commit = read_text(path);
    free(path);

    *strchrnul(commit, '\n') = '\0';
    assert_int_equal(strlen(commit), NIXERY_COMMIT_LEN);

    server_file(&server, "set/archive/main.tar", "of the branch\n");

    path = format("set/archive/%s.tar", commit);
    server_file(&server, path, "of the commit\n");
    free(path);
}


static int
make_fixture(void **state)
{
    char        template[] = "/tmp/nixery-channel-XXXXXX";
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));
    assert_non_null(f);
    assert_non_null(mkdtemp(template));

    f->dir = format("%s", template);
    f->work = format("%s/work", f->dir);
    f->prefetch = format("%s/nix-prefetch-url", f->dir);

    assert_int_equal(mkdir(f->work, 0700), 0);

    f->source.kind = NIXERY_SOURCE_CHANNEL;

    f->nix.program = "/usr/bin/nix-build";
    f->nix.git = "/usr/bin/git";
    f->nix.prefetch = f->prefetch;
    f->nix.source = &f->source;
    f->nix.timeout = MINUTE;

    f->fetch.nix = &f->nix;
    f->fetch.temp_path = f->dir;
    f->fetch.work = f->work;
    f->fetch.cancel = &f->cancel;
    f->fetch.deadline = nixery_now() + MINUTE;

    set_place(f, "/files/$channel.tar", "hash");
    set_prefetch(f, "echo " HASH);

    assert_int_equal(nixery_fetch_open(&f->fetch, &f->err), NIXERY_OK);

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;

    nixery_channel_close(&f->channel);
    nixery_fetch_close(&f->fetch);
    nixery_error_free(&f->err);
    unit_shell("rm -rf '%s'", f->dir);

    free(f->message);
    free(f->shown);
    free(f->url);
    free(f->prefetch);
    free(f->work);
    free(f->dir);
    free(f);

    return 0;
}


/* As the configuration makes one. */

static void
set_source(fixture_t *f, const char *url, const char *name)
{
    char  *end;

    free(f->url);
    free(f->shown);

    f->url = format("%s", url);
    f->shown = format("%s", url);

    end = strstr(f->shown, "/archive/");
    f->source.archive = end != NULL;
    *(end ? end : strstr(f->shown, NIXERY_CHANNEL_NAME)) = '\0';

    f->source.name = name;
    f->source.url = f->url;
    f->source.shown = f->shown;
}


/* Somewhere on the server. */

static void
set_place(fixture_t *f, const char *path, const char *name)
{
    char  *url;

    url = format("http://127.0.0.1:%d%s", server.port[0], path);
    set_source(f, url, name);
    free(url);
}


static void
set_prefetch(fixture_t *f, const char *body)
{
    char  *text;

    text = format("#!/bin/sh\n"
                  "dir='%s'\n"
                  "printf x >> \"$dir/runs\"\n"
                  "%s\n", f->dir, body);
    unit_write(f->prefetch, text, 0755);
    free(text);

    text = format("%s/runs", f->dir);
    (void) unlink(text);
    free(text);
}


/* How often the script was run. */

static size_t
prefetched(fixture_t *f)
{
    char         *path;
    size_t        n;
    struct stat   sb;

    path = format("%s/runs", f->dir);
    n = stat(path, &sb) == 0 ? (size_t) sb.st_size : 0;
    free(path);

    return n;
}


static void
hash_of(const char *text, char id[NIXERY_REVISION_LEN + 1])
{
    assert_int_equal(nixery_sha256_hex(text, strlen(text),
                                       stpcpy(id, "sha256:")),
                     NIXERY_OK);
}


static void
resolves(fixture_t *f, const char *id, const char *ref)
{
    if (nixery_channel_resolve(&f->fetch, &f->revision, &f->err)
        != NIXERY_OK)
    {
        fail_msg("%s", f->err.message);
    }

    assert_int_equal(f->err.kind, NIXERY_ERROR_NONE);
    assert_string_equal(f->revision.id, id);
    assert_string_equal(f->revision.ref, ref);
}


static void
resolves_to_hash(fixture_t *f, const char *text)
{
    char  id[NIXERY_REVISION_LEN + 1];

    hash_of(text, id);
    resolves(f, id, f->source.name);
}


/* The channel stays open until the next one is. */

static void
opens(fixture_t *f, const char *text)
{
    char  *content;

    nixery_channel_close(&f->channel);

    if (nixery_channel_open(&f->fetch, &f->revision, &f->channel, &f->err)
        != NIXERY_OK)
    {
        fail_msg("%s", f->err.message);
    }

    assert_int_equal(f->err.kind, NIXERY_ERROR_NONE);

    content = read_text(f->channel.download.path);
    assert_string_equal(content, text);
    free(content);
}


static void
no_revision(fixture_t *f, nixery_error_e kind, const char *text)
{
    assert_no(f, kind, text,
              nixery_channel_resolve(&f->fetch, &f->revision, &f->err));
}


static void
no_tarball(fixture_t *f, nixery_error_e kind, const char *text)
{
    nixery_channel_close(&f->channel);

    assert_no(f, kind, text,
              nixery_channel_open(&f->fetch, &f->revision, &f->channel,
                                  &f->err));

    assert_null(f->channel.url);
    assert_null(f->channel.hash);
    assert_null(f->channel.download.path);
}


static void
assert_no(fixture_t *f, nixery_error_e kind, const char *text, int rc)
{
    assert_int_equal(rc, NIXERY_ERROR);
    assert_non_null(f->err.message);

    if (f->err.kind != kind || strstr(f->err.message, text) == NULL) {
        fail_msg("error of kind %d: %s", f->err.kind, f->err.message);
    }

    assert_null(strstr(f->err.message, "secret"));

    free(f->message);
    f->message = format("%s", f->err.message);
    nixery_error_free(&f->err);
}


static char *
read_text(const char *path)
{
    char    *text;
    FILE    *fp;
    size_t   n;

    fp = fopen(path, "re");
    assert_non_null(fp);

    text = calloc(1, 4096);
    assert_non_null(text);

    n = fread(text, 1, 4095, fp);
    assert_int_equal(ferror(fp), 0);
    text[n] = '\0';

    (void) fclose(fp);

    return text;
}


/* Where the hash of what is in the tarball is noted. */

static char *
note(fixture_t *f)
{
    return format("%s.nix", f->channel.download.path);
}


static void *
cancel_soon(void *data)
{
    canceler_t  *c;

    c = data;

    while (c->requests != NULL ? atomic_load(c->requests) == 0
                               : access(c->file, F_OK) == -1)
    {
        (void) poll(NULL, 0, 1);
    }

    atomic_store(&c->cancel->flag, 1);

    return NULL;
}


static void *
use(void *data)
{
    user_t     *user;
    fixture_t  *f;

    user = data;
    f = user->fixture;

    user->wrong = nixery_channel_resolve(&f->fetch, &f->revision, &f->err)
                  != NIXERY_OK
                  || nixery_channel_open(&f->fetch, &f->revision, &f->channel,
                                         &f->err)
                     != NIXERY_OK;

    return NULL;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(archive_with_a_repository,
                                        make_fixture, remove_fixture),
        cmocka_unit_test_setup_teardown(commit_by_its_own_name, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(archive_without_a_repository,
                                        make_fixture, remove_fixture),
        cmocka_unit_test_setup_teardown(revision_beside_the_tarball,
                                        make_fixture, remove_fixture),
        cmocka_unit_test_setup_teardown(hash_of_the_tarball, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(user_password_and_query, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(refused, make_fixture, remove_fixture),
        cmocka_unit_test_setup_teardown(no_place_for_downloads, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(moved, make_fixture, remove_fixture),
        cmocka_unit_test_setup_teardown(hash_is_noted, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(prefetch_is_called, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(nobody_to_prefetch, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(what_is_no_tarball, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(time_limit, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(cancellation, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(many_at_once, make_fixture,
                                        remove_fixture),
        cmocka_unit_test_setup_teardown(closed_twice, make_fixture,
                                        remove_fixture),
    };

    return cmocka_run_group_tests_name("channel", tests, start_server,
                                       stop_server);
}
