
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_git.h"
#include "nixery_resolve.h"


/*
 * The repositories are real ones, and so is git, but for what that doesn't do
 * on demand: then it is a shell script that each test writes.
 */


#define A  "0123456789abcdef0123456789abcdef01234567"
#define B  "89abcdef0123456789abcdef0123456789abcdef"
#define C  "fedcba9876543210fedcba9876543210fedcba98"

#define MINUTE  60000

#define count_of(array)  (sizeof(array) / sizeof(array[0]))


typedef struct {
    char               *dir;
    char               *git;        /* the real one */
    char               *script;     /* in its place */
    char               *url;        /* of the repository "repo" */
    char               *program;
    nixery_nix_t        nix;
    nixery_source_t     source;
    nixery_cancel_t     cancel;
    nixery_revision_t   revision;
    nixery_error_t      err;
} fixture_t;


/* In the fixture's directory; fmt is of a command, its output is returned. */

static char *
shell(fixture_t *f, const char *fmt, ...)
{
    char      *body, *command, *text;
    FILE      *fp;
    size_t     n;
    va_list    args;

    va_start(args, fmt);
    assert_int_not_equal(vasprintf(&body, fmt, args), -1);
    va_end(args);

    command = format("set -e; cd '%s'; exec 2>&1; export HOME=/nonexistent"
                     " GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a"
                     " GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a"
                     " GIT_COMMITTER_EMAIL=a; %s", f->dir, body);

    text = calloc(1, 65536);
    assert_non_null(text);

    fp = popen(command, "re");
    assert_non_null(fp);
    n = fread(text, 1, 65535, fp);

    if (pclose(fp) != 0) {
        fail_msg("%s: %s", body, text);
    }

    while (n != 0 && text[n - 1] == '\n') {
        text[--n] = '\0';
    }

    free(command);
    free(body);

    return text;
}


static void
run(fixture_t *f, const char *command)
{
    free(shell(f, "%s", command));
}


static void
set_script(fixture_t *f, const char *body)
{
    char  *text;

    text = format("#!/bin/sh\n"
                  "dir='%s'\n"
                  "printf '%%s\\n' \"$@\" > \"$dir/argv\"\n"
                  "tr '\\0' '\\n' < /proc/$$/environ > \"$dir/env\"\n"
                  "pwd > \"$dir/cwd\"\n"
                  "printf x >> \"$dir/runs\"\n"
                  "%s\n", f->dir, body);
    unit_write(f->script, text, 0755);
    free(text);

    f->nix.git = f->script;
}


static void
open_fetch(fixture_t *f, nixery_fetch_t *fetch)
{
    nixery_error_free(&f->err);
    memset(fetch, 0, sizeof(nixery_fetch_t));

    fetch->nix = &f->nix;
    fetch->work = f->dir;
    fetch->temp_path = f->dir;
    fetch->cancel = &f->cancel;
    fetch->deadline = nixery_now() + f->nix.timeout;

    if (nixery_fetch_open(fetch, &f->err) != NIXERY_OK) {
        fail_msg("%s", f->err.message);
    }
}


static int
resolve(fixture_t *f, const char *name)
{
    int             rc;
    nixery_fetch_t  fetch;

    open_fetch(f, &fetch);

    rc = nixery_git_resolve(&fetch, f->url, "file://shown", name,
                            &f->revision, &f->err);

    nixery_fetch_close(&fetch);

    return rc;
}


static void
resolves(fixture_t *f, const char *name, const char *ref, const char *commit)
{
    char  *id;

    if (resolve(f, name) != NIXERY_OK) {
        fail_msg("\"%s\": %s", name ? name : "HEAD", f->err.message);
    }

    id = shell(f, "git -C repo rev-parse '%s^{commit}'", commit);

    assert_int_equal(f->err.kind, NIXERY_ERROR_NONE);
    assert_string_equal(f->revision.ref, ref);
    assert_string_equal(f->revision.id, id);

    free(id);
}


static void
refuses(fixture_t *f, const char *name, nixery_error_e kind,
    const char *message)
{
    assert_int_equal(resolve(f, name), NIXERY_ERROR);
    assert_string_equal(f->err.message, message);
    assert_int_equal(f->err.kind, kind);
}


static int
checkout(fixture_t *f, const char *directory)
{
    int             rc;
    char           *path;
    nixery_fetch_t  fetch;

    path = format("%s/%s", f->dir, directory);
    f->source.kind = NIXERY_SOURCE_PATH;
    f->source.name = path;

    open_fetch(f, &fetch);

    memset(&f->revision, 'x', sizeof(nixery_revision_t));

    rc = nixery_git_checkout(&fetch, path, &f->revision, &f->err);

    nixery_fetch_close(&fetch);
    free(path);

    f->source.kind = NIXERY_SOURCE_GIT;
    f->source.name = f->url;

    return rc;
}


/* What the expression of git is in the directory "repo", and suffix. */

static void
assert_checkout(fixture_t *f, const char *directory, const char *commit,
    const char *suffix)
{
    char  *id, *expected;

    if (checkout(f, directory) != NIXERY_OK) {
        fail_msg("\"%s\": %s", directory, f->err.message);
    }

    id = *commit != '\0' ? shell(f, "git -C repo rev-parse '%s'", commit)
                         : format("%s", "");
    expected = format("%s%s", id, suffix);

    assert_int_equal(f->err.kind, NIXERY_ERROR_NONE);
    assert_string_equal(f->revision.ref, "");
    assert_string_equal(f->revision.id, expected);

    free(expected);
    free(id);
}


static int
make_fixture(void **state)
{
    char        template[] = "/tmp/nixery-git-XXXXXX";
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));

    if (f == NULL || mkdtemp(template) == NULL) {
        return -1;
    }

    f->dir = format("%s", template);
    f->git = shell(f, "command -v git");
    f->script = format("%s/a script", f->dir);
    f->url = format("file://%s/repo", f->dir);
    f->program = format("%s/nix-build", f->dir);

    f->source.kind = NIXERY_SOURCE_GIT;
    f->source.name = f->url;
    f->source.shown = "file://shown";

    f->nix.git = f->git;
    f->nix.program = f->program;
    f->nix.source = &f->source;
    f->nix.timeout = MINUTE;

    run(f, "git init -q -b main repo; cd repo; echo one > file;"
           "git add file; git commit -qm one");

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;

    unit_shell("rm -rf '%s'", f->dir);

    nixery_error_free(&f->err);
    free(f->program);
    free(f->url);
    free(f->script);
    free(f->git);
    free(f->dir);
    free(f);

    return 0;
}


/* --- what ls-remote prints */

static void
list(void **state)
{
    int                rc;
    size_t             i;
    nixery_revision_t  revision;

    static const struct {
        const char  *text;
        const char  *name;
        const char  *ref;
        const char  *id;
    } cases[] = {
        /* the default branch */

        { "ref: refs/heads/main\tHEAD\n" A "\tHEAD\n", NULL,
          "refs/heads/main", A },
        { A "\tHEAD\n", NULL, "HEAD", A },
        { A "\tHEAD\nref: refs/heads/main\tHEAD\n", NULL,
          "refs/heads/main", A },
        { "ref: refs/remotes/origin/main\trefs/remotes/origin/HEAD\n"
          "ref: refs/heads/a/b\tHEAD\n" A "\tHEAD\n"
          B "\trefs/remotes/origin/HEAD\n", NULL, "refs/heads/a/b", A },
        { "ref: refs/heads/longer\tHEAD\nref: refs/heads/b\tHEAD\n"
          A "\tHEAD\n", NULL, "refs/heads/b", A },

        /* what it refers to is no name of a reference */

        { "ref: refs/heads/a..b\tHEAD\n" A "\tHEAD\n", NULL, "HEAD", A },
        { "ref: main\tHEAD\n" A "\tHEAD\n", NULL, "HEAD", A },

        /* branch, tag, annotated tag; in any order */

        { A "\trefs/heads/main\n", "main", "refs/heads/main", A },
        { A "\trefs/heads/a/b\n", "a/b", "refs/heads/a/b", A },
        { A "\trefs/tags/v1\n", "v1", "refs/tags/v1", A },
        { A "\trefs/tags/v1\n" B "\trefs/tags/v1^{}\n", "v1",
          "refs/tags/v1", B },
        { B "\trefs/tags/v1^{}\n" A "\trefs/tags/v1\n", "v1",
          "refs/tags/v1", B },
        { A "\trefs/tags/x\n" B "\trefs/tags/x^{}\n" C "\trefs/heads/x\n",
          "x", "refs/heads/x", C },
        { C "\trefs/heads/x\n" A "\trefs/tags/x\n" B "\trefs/tags/x^{}\n",
          "x", "refs/heads/x", C },

        /* by its full name */

        { A "\trefs/heads/x\n" B "\trefs/tags/x\n", "refs/tags/x",
          "refs/tags/x", B },
        { B "\trefs/tags/x\n" C "\trefs/tags/x^{}\n", "refs/tags/x",
          "refs/tags/x", C },
        { A "\trefs/pull/1/head\n", "refs/pull/1/head", "refs/pull/1/head",
          A },

        /* what only ends like it, begins like it, or is like it */

        { A "\trefs/remotes/x/refs/heads/main\n" B "\trefs/heads/main\n",
          "main", "refs/heads/main", B },
        { A "\trefs/heads/main2\n" A "\trefs/heads/mai\n"
          A "\trefs/heads/Main\n" B "\trefs/heads/main\n",
          "main", "refs/heads/main", B },

        /* the first of two that are the same */

        { A "\trefs/heads/x\n" B "\trefs/heads/x\n", "x", "refs/heads/x", A },

        /* a branch that is called like something else */

        { A "\trefs/heads/HEAD\n", "HEAD", "refs/heads/HEAD", A },
        { A "\trefs/heads/" B "\n", B, "refs/heads/" B, A },
        { "ref: refs/heads/main\tHEAD\n" B "\tHEAD\n"
          A "\trefs/heads/main\n", "main", "refs/heads/main", A },

        /* not there */

        { "", NULL, NULL, NULL },
        { "", "main", NULL, NULL },
        { "ref: refs/heads/main\tHEAD\n", NULL, NULL, NULL },
        { "ref: refs/heads/main\trefs/heads/x\n", "x", NULL, NULL },
        { A "\trefs/heads/main\n", NULL, NULL, NULL },
        { A "\tHEAD\n", "main", NULL, NULL },
        { A "\trefs/heads/main2\n", "main", NULL, NULL },
        { A "\trefs/heads/main\n", "refs/heads/mai", NULL, NULL },
        { A "\trefs/heads/x^{}\n", "x", NULL, NULL },
        { A "\t\n", NULL, NULL, NULL },
    };

    static const char  *malformed[] = {
        "x", "\n", "\t\n", "\tHEAD\n", A, A "\n", A "\tHEAD", A " HEAD\n",
        A "0\tHEAD\n", A B "\tHEAD\n", "0\tHEAD\n",
        "0123456789ABCDEF0123456789ABCDEF01234567\tHEAD\n",
        " " A "\tHEAD\n", A "\tHEAD\n\n", A "\tHEAD\nwarning: x\n",
        A "\tHEAD\n" A, "ref: refs/heads/main HEAD\n", "ref: refs/heads/main",
        "ref:\tHEAD\n", "ref: \tHEAD\n" A "\tHEAD\n",
        "<html>\t</html>\n", "0000\r\n"
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        memset(&revision, 'x', sizeof(nixery_revision_t));

        rc = nixery_git_refs(cases[i].text, strlen(cases[i].text),
                             cases[i].name, &revision);

        if (rc != (cases[i].id ? NIXERY_OK : NIXERY_DECLINED)) {
            fail_msg("%d of \"%s\"", rc, cases[i].text);
        }

        assert_string_equal(revision.ref, cases[i].ref ? cases[i].ref : "");
        assert_string_equal(revision.id, cases[i].id ? cases[i].id : "");
    }

    for (i = 0; i < count_of(malformed); i++) {
        if (nixery_git_refs(malformed[i], strlen(malformed[i]), NULL,
                            &revision)
            != NIXERY_ERROR)
        {
            fail_msg("\"%s\" is a list", malformed[i]);
        }
    }

    /* a NUL anywhere; and nothing behind the length counts */

    assert_int_equal(nixery_git_refs(A "\tHE\0D\n", 46, NULL, &revision),
                     NIXERY_ERROR);
    assert_int_equal(nixery_git_refs("ref: refs/\0\tHEAD\n", 17, NULL,
                                     &revision),
                     NIXERY_ERROR);
    assert_int_equal(nixery_git_refs(A "\tHEAD\n" B, 46, NULL, &revision),
                     NIXERY_OK);
}


/* Of the greatest length, and longer than what there is room for. */

static void
long_names(void **state)
{
    char               *name, *text;
    nixery_revision_t   revision;

    (void) state;

    name = format("refs/%0*d", NIXERY_REF_MAX - 5, 0);
    text = format(A "\t%s\n" B "\t%s^{}\n" C "\t%s0\n", name, name, name);
    assert_int_equal(nixery_git_refs(text, strlen(text), name, &revision),
                     NIXERY_OK);
    assert_string_equal(revision.ref, name);
    assert_string_equal(revision.id, B);
    free(text);

    text = format("ref: %s\tHEAD\n" A "\tHEAD\n", name);
    assert_int_equal(nixery_git_refs(text, strlen(text), NULL, &revision),
                     NIXERY_OK);
    assert_string_equal(revision.ref, name);
    free(text);

    text = format("ref: %s0\tHEAD\n" A "\tHEAD\n", name);
    assert_int_equal(nixery_git_refs(text, strlen(text), NULL, &revision),
                     NIXERY_OK);
    assert_string_equal(revision.ref, "HEAD");
    free(text);
    free(name);

    name = format("%0*d", 244, 0);
    text = format(A "\trefs/tags/%s^{}\n", name);
    assert_int_equal(nixery_git_refs(text, strlen(text), name, &revision),
                     NIXERY_OK);
    assert_string_equal(revision.id, A);
    assert_int_equal(strlen(revision.ref), 254);
    free(text);
    free(name);
}


static void
causes(void **state)
{
    char    *text, *cause;
    size_t   i;

    static const char  nothing[] = "fatal: Could not read from remote "
                                   "repository.\n\nPlease make sure you have "
                                   "the correct access rights\nand the "
                                   "repository exists.\n";

    static const struct {
        const char  *text;
        const char  *cause;
    } cases[] = {
        { "", "it printed nothing" },
        { "\n\n", "it printed nothing" },
        { "oops", "oops" },
        { "one\ntwo\n\n", "two" },
        { "fatal: no", "no" },
        { "fatal: ", "" },
        { "fatal: no\nhint: x\n", "no" },
        { "fatal: one\nfatal: two\n", "two" },
        { "warning: x\nfatal: unable to access 'http://h/': y\n",
          "unable to access 'http://h/': y" },
        { " fatal: within\nlast", "last" },

        /* the line that ssh, or a server, wrote */

        { "Host key verification failed.\n%s",
          "Host key verification failed" },
        { "a@h: Permission denied (publickey).\n%s",
          "a@h: Permission denied (publickey)" },
        { "fatal: protocol error\n%s", "protocol error" },
        { "one\n\ntwo\n\n%s", "two" },
        { "%s", "Could not read from remote repository" },
        { "\n\n%s", "Could not read from remote repository" },
        { "first\n%sfatal: later", "first" },

        /* which submodule it was says no more than why */

        { "fatal: unable to access 'u'\nfatal: clone of 'u' into 'p' failed\n",
          "unable to access 'u'" },
        { "fatal: one\nfatal: clone of 'u'\nfatal: two\n", "two" },
        { "fatal: clone of 'u' into 'p' failed\n",
          "clone of 'u' into 'p' failed" },

        /* whom it can't connect to has a line of its own */

        { "fatal: unable to connect to h:\nh[0: ::1]: errno=x\n\n",
          "unable to connect to h: h[0: ::1]: errno=x" },
        { "fatal: unable to connect to h:\n", "unable to connect to h: " },
        { "fatal: unable to connect to h:", "unable to connect to h:" },
        { "fatal: no.", "no" },
        { "fatal: .", "" },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        text = strstr(cases[i].text, "%s") != NULL
                   ? format("%.*s%s%s",
                            (int) (strstr(cases[i].text, "%s")
                                   - cases[i].text),
                            cases[i].text, nothing,
                            strstr(cases[i].text, "%s") + 2)
                   : format("%s", cases[i].text);

        cause = nixery_git_cause(text);
        assert_non_null(cause);
        assert_string_equal(cause, cases[i].cause);

        free(cause);
        free(text);
    }

    /* no more than is of use, and no half of a character */

    text = format("fatal: %0600d", 0);
    cause = nixery_git_cause(text);
    assert_int_equal(strlen(cause), 512);
    free(cause);
    free(text);

    text = format("fatal: %0511d\xe2\x82\xac", 0);
    cause = nixery_git_cause(text);
    assert_int_equal(strlen(cause), 511);
    free(cause);
    free(text);

    text = format("fatal: %0509d\xe2\x82\xac", 0);
    cause = nixery_git_cause(text);
    assert_int_equal(strlen(cause), 512);
    free(cause);
    free(text);
}


/* --- real repositories */

static void
names(void **state)
{
    fixture_t  *f;

    f = *state;

    run(f, "cd repo; git tag light; echo two > file; git commit -qam two;"
           "git tag -am v1 v1; git tag -am nested nested v1;"
           "echo three > file; git commit -qam three; git branch a/b;"
           "git tag both HEAD^; git branch both; git branch latest;"
           "git update-ref refs/pull/1/head HEAD^; git branch -f dotted.x;"
           "git update-ref refs/remotes/o/refs/heads/far HEAD^;"
           "git tag tree HEAD:; git checkout -qb feature;"
           "echo four > file; git commit -qam four; git checkout -q main");

    resolves(f, NULL, "refs/heads/main", "main");
    resolves(f, "main", "refs/heads/main", "main");
    resolves(f, "feature", "refs/heads/feature", "feature");
    resolves(f, "a/b", "refs/heads/a/b", "main");
    resolves(f, "latest", "refs/heads/latest", "main");
    resolves(f, "dotted.x", "refs/heads/dotted.x", "main");
    resolves(f, "light", "refs/tags/light", "main~2");
    resolves(f, "v1", "refs/tags/v1", "main~1");
    resolves(f, "nested", "refs/tags/nested", "main~1");
    resolves(f, "both", "refs/heads/both", "main");
    resolves(f, "refs/tags/both", "refs/tags/both", "main~1");
    resolves(f, "refs/heads/both", "refs/heads/both", "main");
    resolves(f, "refs/tags/v1", "refs/tags/v1", "main~1");
    resolves(f, "refs/pull/1/head", "refs/pull/1/head", "main~1");
    resolves(f, "refs/heads/a/b", "refs/heads/a/b", "main");

    /* the default branch moves, is another one, is none */

    run(f, "cd repo; echo five > file; git commit -qam five");
    resolves(f, NULL, "refs/heads/main", "main");
    run(f, "cd repo; git symbolic-ref HEAD refs/heads/a/b");
    resolves(f, NULL, "refs/heads/a/b", "a/b");
    run(f, "cd repo; git update-ref --no-deref HEAD light");
    resolves(f, NULL, "HEAD", "light");

    /* as bytes of the URL need it */

    run(f, "mv repo 'a b'; ln -s 'a b' repo");
    free(f->url);
    f->url = format("file://%s/a%%20b", f->dir);
    f->source.name = f->url;
    resolves(f, "main", "refs/heads/main", "main");
}


static void
unknown(void **state)
{
    char       *message;
    size_t      i;
    fixture_t  *f;

    static const struct {
        const char  *name;
        const char  *hint;
    } cases[] = {
        { "nope", "" },
        { "mai", "" },
        { "heads/main", "" },
        { "refs/heads/nope", "" },
        { "refs/heads", "" },
        { "HEAD", "" },
        { "abcdef", "" },
        { "abcdef0", "; a commit is named by all of its 40 digits" },
        { A, "; a commit is named by all of its 40 digits" },
        { "ABCDEF01", "" },
        { "abcdef0g", "" },

        /* what a pattern of git's would find */

        { "a..b", "" },
        { "x.lock", "" },
    };

    f = *state;

    for (i = 0; i < count_of(cases); i++) {
        message = format("git repository \"file://shown\" has no branch or "
                         "tag \"%s\"%s", cases[i].name, cases[i].hint);
        refuses(f, cases[i].name, NIXERY_ERROR_REF, message);
        free(message);
    }

    /* nothing was committed yet */

    run(f, "rm -rf repo; git init -q repo");
    refuses(f, NULL, NIXERY_ERROR_REF, "git repository \"file://shown\" has "
                                       "no default branch");
    refuses(f, "main", NIXERY_ERROR_REF, "git repository \"file://shown\" has "
                                         "no branch or tag \"main\"");
}


static void
no_repository(void **state)
{
    char       *message;
    fixture_t  *f;

    f = *state;

    message = format("can't ask git repository \"file://shown\": "
                     "'%s/repo' does not appear to be a git repository",
                     f->dir);

    run(f, "rm -rf repo");
    refuses(f, NULL, NIXERY_ERROR_SOURCE, message);
    run(f, "mkdir repo; touch repo/HEAD");
    refuses(f, NULL, NIXERY_ERROR_SOURCE, message);

    free(message);
}


/* Git knows of more than a source may have. */

static void
protocols(void **state)
{
    char       *message;
    size_t      i;
    fixture_t  *f;

    static const char  *urls[][2] = {
        { "ext::sh -c 'echo x > ran'", "ext" },
        { "ftp://127.0.0.1/a", "ftp" },
        { "fd::0", "fd" },
        { "--upload-pack=echo x > ran", NULL },
    };

    /* as git has it when no user named the URL */

    static char  *from_elsewhere[] = {
        (char *) "GIT_PROTOCOL_FROM_USER=0", NULL
    };

    f = *state;

    for (i = 0; i < count_of(urls); i++) {
        free(f->url);
        f->url = format("%s", urls[i][0]);
        f->source.name = f->url;

        message = format("can't ask git repository \"file://shown\": "
                         "transport '%s' not allowed", urls[i][1]);

        assert_int_equal(resolve(f, "main"), NIXERY_ERROR);
        assert_int_equal(f->err.kind, NIXERY_ERROR_SOURCE);

        if (urls[i][1] != NULL) {
            assert_string_equal(f->err.message, message);
        }

        free(message);
        run(f, "test ! -e ran; test ! -e /ran");
    }

    /* a submodule that is a file is for a source that is one */

    free(f->url);
    f->url = format("file://%s/repo", f->dir);
    f->source.name = "https://host/a";
    f->nix.env = from_elsewhere;
    refuses(f, "main", NIXERY_ERROR_SOURCE,
            "can't ask git repository \"file://shown\": "
            "transport 'file' not allowed");

    f->source.name = f->url;
    resolves(f, "main", "refs/heads/main", "main");
}


/* --- what a script does in place of git */

static void
call(void **state)
{
    char       *text, *expected;
    size_t      i;
    fixture_t  *f;

    static const struct {
        const char  *name;
        const char  *refs;
    } cases[] = {
        { NULL, "HEAD" },
        { "main", "refs/heads/main\nrefs/tags/main^{}\nrefs/tags/main" },
        { "refs/tags/v1", "refs/tags/v1^{}\nrefs/tags/v1" },
    };

    f = *state;

    set_script(f, "echo '" A "\tHEAD'; echo '" A "\trefs/heads/main';"
                  "echo '" A "\trefs/tags/v1'");

    for (i = 0; i < count_of(cases); i++) {
        assert_int_equal(resolve(f, cases[i].name), NIXERY_OK);

        expected = format("ls-remote\n--symref\n--\n%s\n%s", f->url,
                          cases[i].refs);
        text = shell(f, "cat argv");
        assert_string_equal(text, expected);
        free(text);
        free(expected);
    }

    text = shell(f, "cat cwd");
    assert_string_equal(text, "/");
    free(text);

    /* nobody is there to be asked, and nothing of this process's is known */

    text = shell(f, "grep -c '^GIT_TERMINAL_PROMPT=0$\\|^LC_ALL=C$' env");
    assert_string_equal(text, "2");
    free(text);
}


static void
refused(void **state)
{
    char       *message;
    size_t      i;
    fixture_t  *f;

    static const struct {
        const char  *body;
        const char  *message;
    } cases[] = {
        { "exit 1", "it printed nothing" },
        { "echo '" A "\tHEAD'; exit 128", "it printed nothing" },
        { "kill -KILL $$", "it printed nothing" },
        { "echo 'fatal: no' >&2; kill -TERM $$", "no" },
        { "printf 'fatal: \\033[31mred\\377\\n' >&2; exit 128", "red?" },

        /* what to do about it */

        { "echo \"fatal: Authentication failed for 'http://h/'\" >&2;"
          " exit 128", "Authentication failed for 'http://h/';"
          " the credentials are refused" },
        { "echo \"fatal: could not read Username for 'http://h':"
          " terminal prompts disabled\" >&2; exit 128",
          "could not read Username for 'http://h': terminal prompts disabled;"
          " it wants credentials, and has none" },
        { "printf 'Host key verification failed.\\r\\nfatal: Could not read"
          " from remote repository.\\n' >&2; exit 128",
          "Host key verification failed; \"known_hosts=\" has to have the"
          " host's key" },
        { "printf 'a@h: Permission denied (publickey,password).\\r\\nfatal:"
          " Could not read from remote repository.\\n' >&2; exit 128",
          "a@h: Permission denied (publickey,password); \"key=\" has to be a"
          " key that the host knows" },
        { "echo '@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @' >&2;"
          "printf 'Host key verification failed.\\r\\nfatal: Could not read"
          " from remote repository.\\n' >&2; exit 128",
          "Host key verification failed; the host's key is not the one that"
          " \"known_hosts=\" has" },
        { "echo \"fatal: unable to access 'u': SSL: no alternative certificate"
          " subject name matches target host name 'h'\" >&2; exit 128",
          "unable to access 'u': SSL: no alternative certificate subject name"
          " matches target host name 'h'; its certificate is another host's" },
        { "echo \"fatal: unable to access 'u': Problem with the SSL CA cert"
          " (path? access rights?)\" >&2; exit 128",
          "unable to access 'u': Problem with the SSL CA cert (path? access"
          " rights?); \"nixery_nix_env NIX_SSL_CERT_FILE\" has to name a file"
          " that workers can read" },
        { "echo 'fatal: server certificate verification failed.' >&2;"
          " exit 128", "server certificate verification failed;"
          " \"nixery_nix_env NIX_SSL_CERT_FILE\" says which authorities are"
          " trusted" },

        /* what is secret */

        { "echo 'fatal: hunter2 at https://ann:pw@h/?t=sesame' >&2; exit 128",
          "******* at https://h/?t=******" },

        /* more than is kept of it */

        { "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2;"
          " echo 'fatal: late' >&2; exit 128", "late" },
        { "echo 'fatal: early' >&2; yes | head -c 30000 >&2; exit 128",
          "early" },
    };

    static const char *const  secrets[] = { "hunter2", "sesame", NULL };

    f = *state;
    f->source.secrets = secrets;

    for (i = 0; i < count_of(cases); i++) {
        set_script(f, cases[i].body);
        message = format("can't ask git repository \"file://shown\": %s",
                         cases[i].message);
        refuses(f, "main", NIXERY_ERROR_SOURCE, message);
        assert_null(f->err.log);
        free(message);
    }
}


/* A server answers, and has no repository at that URL. */

static void
none_there(void **state)
{
    size_t      i;
    fixture_t  *f;

    static const char  *bodies[] = {
        "echo \"fatal: repository 'http://h/a/' not found\" >&2; exit 128",
        "echo 'fatal: http://h/a/info/refs not valid: is this a git"
        " repository?' >&2; exit 128",
    };

    f = *state;

    for (i = 0; i < count_of(bodies); i++) {
        set_script(f, bodies[i]);
        assert_int_equal(resolve(f, "main"), NIXERY_DECLINED);
        assert_int_equal(f->err.kind, NIXERY_ERROR_NONE);
    }
}


static void
no_list(void **state)
{
    size_t      i;
    fixture_t  *f;

    /* the last two: one line that is cut, and as many whole ones as are kept */

    static const char  *bodies[] = {
        "echo x", "printf " A, "echo '" A "'", "printf '" A "\\tHEAD'",
        "printf '" A "\\trefs/heads/main\\0\\n'", "head -c 100 /dev/zero",
        "head -c 100000 /dev/urandom",
        "printf '" A "\\trefs/heads/main\\n'; yes '" B "\trefs/heads/x'"
        " | head -n 2000",
        "printf '" A "\\t'; head -c 100000 /dev/zero | tr '\\0' x; echo",
        "yes '" B "\trefs/heads/01234567890' | head -n 1024;"
        " printf '" A "\\trefs/heads/main\\n'"
    };

    f = *state;

    for (i = 0; i < count_of(bodies); i++) {
        set_script(f, bodies[i]);
        refuses(f, "main", NIXERY_ERROR_SOURCE,
                "what git repository \"file://shown\" answers is no list of "
                "references");
    }

    set_script(f, "exit 0");
    refuses(f, "main", NIXERY_ERROR_REF, "git repository \"file://shown\" has "
                                         "no branch or tag \"main\"");

    /* warnings are none of it */

    set_script(f, "echo 'warning: x' >&2; printf '" A "\\trefs/heads/main\\n'");
    assert_int_equal(resolve(f, "main"), NIXERY_OK);
    assert_string_equal(f->revision.id, A);
}


static void
cannot_be_run(void **state)
{
    char       *message;
    fixture_t  *f;

    f = *state;
    f->nix.git = f->script;

    message = format("can't run \"%s\": No such file or directory", f->script);
    refuses(f, "main", NIXERY_ERROR_NIX, message);
    free(message);

    unit_write(f->script, "#!/bin/sh\n", 0644);
    message = format("can't run \"%s\": Permission denied", f->script);
    refuses(f, "main", NIXERY_ERROR_NIX, message);
    assert_int_equal(checkout(f, "repo"), NIXERY_ERROR);
    assert_string_equal(f->err.message, message);
    free(message);
}


static void
time_limit(void **state)
{
    fixture_t  *f;

    f = *state;

    f->nix.timeout = 300;
    set_script(f, "echo 'asking hunter2' >&2; exec sleep 1000");

    static const char *const  secrets[] = { "hunter2", NULL };

    f->source.secrets = secrets;

    refuses(f, "main", NIXERY_ERROR_TIMEOUT,
            "git repository \"file://shown\" did not answer in time: the "
            "build did not finish within 300ms");

    /* a git that does not want to end, and what it leaves behind */

    f->nix.timeout = 2000;
    set_script(f, "trap '' TERM; sleep 1000 & echo 'asking hunter2' >&2;"
                  "while :; do sleep 0.1; done");
    refuses(f, "main", NIXERY_ERROR_TIMEOUT,
            "git repository \"file://shown\" did not answer in time: the "
            "build did not finish within 2s");
    assert_non_null(f->err.log);
    assert_string_equal(f->err.log, "asking *******");

    f->nix.timeout = 100;
    assert_int_equal(checkout(f, "repo"), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_TIMEOUT);
}


static void *
canceler(void *data)
{
    char        *path;
    fixture_t   *f;
    struct stat  sb;

    f = data;
    path = format("%s/runs", f->dir);

    while (stat(path, &sb) == -1 || sb.st_size == 0) {
        (void) poll(NULL, 0, 1);
    }

    free(path);
    atomic_store(&f->cancel.flag, 1);

    return NULL;
}


static void
canceled(void **state)
{
    pthread_t               thread;
    fixture_t              *f;
    volatile sig_atomic_t   terminate;

    f = *state;

    set_script(f, "exec sleep 1000");

    assert_int_equal(pthread_create(&thread, NULL, canceler, f), 0);
    refuses(f, "main", NIXERY_ERROR_CANCELED, "the build was canceled");
    assert_int_equal(pthread_join(thread, NULL), 0);

    /* before it begins, and as the whole process ends */

    refuses(f, "main", NIXERY_ERROR_CANCELED, "the build was canceled");
    assert_int_equal(checkout(f, "repo"), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_CANCELED);

    terminate = 1;
    atomic_store(&f->cancel.flag, 0);
    f->cancel.terminate = &terminate;
    refuses(f, "main", NIXERY_ERROR_CANCELED, "the build was canceled");

    terminate = 0;
    f->nix.git = f->git;
    resolves(f, "main", "refs/heads/main", "main");
}


/* --- checkouts */

static void
clean_and_dirty(void **state)
{
    fixture_t  *f;

    f = *state;

    assert_checkout(f, "repo", "main", "");

    /* a stranger's, a link to it, no branch, a submodule's or a worktree's */

    run(f, "ln -s repo link");
    assert_checkout(f, "link", "main", "");
    assert_checkout(f, "link/.", "main", "");
    run(f, "git -C repo worktree add -q ../tree -b side");
    assert_checkout(f, "tree", "side", "");
    run(f, "git -C tree checkout -q --detach; echo x > tree/file;"
           "git -C tree commit -qam detached; git -C repo branch -f side"
           " $(git -C tree rev-parse HEAD)");
    assert_checkout(f, "tree", "side", "");

    /* nothing that is committed is changed by a look, nor by a touch */

    run(f, "touch -d '2001-01-01' repo/file; cp repo/.git/index before");
    assert_checkout(f, "repo", "main", "");
    run(f, "cmp before repo/.git/index");

    /* what was changed, added, removed, only staged, or its mode */

    run(f, "echo two >> repo/file");
    assert_checkout(f, "repo", "main", "-dirty");
    run(f, "git -C repo add file");
    assert_checkout(f, "repo", "main", "-dirty");
    run(f, "git -C repo commit -qm two");
    assert_checkout(f, "repo", "main", "");
    run(f, "touch repo/new");
    assert_checkout(f, "repo", "main", "-dirty");
    run(f, "rm repo/new; chmod +x repo/file");
    assert_checkout(f, "repo", "main", "-dirty");
    run(f, "chmod -x repo/file; rm repo/file");
    assert_checkout(f, "repo", "main", "-dirty");
    run(f, "git -C repo checkout -q file; mkdir repo/empty");
    assert_checkout(f, "repo", "main", "");
    run(f, "touch repo/empty/new");
    assert_checkout(f, "repo", "main", "-dirty");
    run(f, "rm -r repo/empty; cd repo; echo '*.o' > .gitignore;"
           "git add .gitignore; git commit -qm ignore; touch x.o");
    assert_checkout(f, "repo", "main", "");

    /* so many that what git prints is cut */

    run(f, "cd repo; seq -f '%0200g' 400 | xargs touch");
    assert_checkout(f, "repo", "main", "-dirty");
}


static void
no_checkout(void **state)
{
    fixture_t  *f;

    f = *state;

    run(f, "mkdir plain; echo x > file.nix; mkdir repo/sub");
    set_script(f, "exit 1");

    assert_checkout(f, "plain", "", "");
    assert_checkout(f, "file.nix", "", "");
    assert_checkout(f, "nope", "", "");
    assert_checkout(f, "repo/sub", "", "");
    assert_checkout(f, "repo/file", "", "");

    /* git was not asked, or is not there */

    run(f, "test ! -e runs");
    f->nix.git = NULL;
    assert_checkout(f, "repo", "", "");

    /* there is no commit */

    f->nix.git = f->git;
    run(f, "git init -q none");
    assert_checkout(f, "none", "", "");
    run(f, "touch none/file");
    assert_checkout(f, "none", "", "");
}


/* An operator named it: git's own caution would be in the way. */

static void
of_another_user(void **state)
{
    fixture_t  *f;

    static char  *env[] = {
        (char *) "GIT_TEST_ASSUME_DIFFERENT_OWNER=1", NULL
    };

    f = *state;
    f->nix.env = env;

    assert_checkout(f, "repo", "main", "");
    resolves(f, "main", "refs/heads/main", "main");
}


static void
checkout_fails(void **state)
{
    char       *text, *message;
    size_t      i;
    fixture_t  *f;

    static const struct {
        const char  *body;
        const char  *id;
    } cases[] = {
        { "exit 0", "" },
        { "echo x", "" },
        { "echo '# branch.oid (initial)'", "" },
        { "echo '# branch.oid " A "0'", "" },
        { "echo '# branch.oid 0'", "" },
        { "echo '# branch.oid'", "" },
        { "printf '# branch.oid " A "'", A },
        { "echo '# branch.oid " A "'; echo '# branch.head main'", A },
        { "echo '# branch.oid " A "'; echo", A "-dirty" },
        { "echo '? x'; echo '# branch.oid " A "'", A "-dirty" },
        { "echo '# branch.oid " A "'; yes '#' | head -c 100000",
          A "-dirty" },
    };

    f = *state;

    run(f, "git init -q other; rm other/.git/HEAD");
    assert_int_equal(checkout(f, "other"), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_SOURCE);
    message = format("can't ask git repository \"%s/other\": not a git "
                     "repository (or any of the parent directories): .git",
                     f->dir);
    assert_string_equal(f->err.message, message);
    assert_string_equal(f->revision.id, "");
    free(message);

    for (i = 0; i < count_of(cases); i++) {
        set_script(f, cases[i].body);
        assert_int_equal(checkout(f, "repo"), NIXERY_OK);
        assert_string_equal(f->revision.id, cases[i].id);
    }

    text = shell(f, "cat argv");
    message = format("--no-optional-locks\n-c\ncore.fsmonitor=false\n"
                     "-C\n%s/repo\nstatus\n"
                     "--porcelain=v2\n--branch\n--untracked-files=normal",
                     f->dir);
    assert_string_equal(text, message);
    free(message);
    free(text);
}


static void
nothing_left(void **state)
{
    int         before;
    fixture_t  *f;

    f = *state;

    before = unit_descriptors();

    assert_int_equal(resolve(f, "main"), NIXERY_OK);
    assert_int_equal(resolve(f, "nope"), NIXERY_ERROR);
    assert_int_equal(checkout(f, "repo"), NIXERY_OK);
    assert_int_equal(checkout(f, "nope"), NIXERY_OK);

    set_script(f, "exit 1");
    assert_int_equal(resolve(f, "main"), NIXERY_ERROR);
    assert_int_equal(checkout(f, "repo"), NIXERY_ERROR);

    f->nix.timeout = 100;
    set_script(f, "sleep 1000 & exec sleep 1000");
    assert_int_equal(resolve(f, "main"), NIXERY_ERROR);

    assert_int_equal(unlink(f->script), 0);
    f->nix.timeout = MINUTE;
    assert_int_equal(resolve(f, "main"), NIXERY_ERROR);

    assert_int_equal(unit_descriptors(), before);
}


int
main(void)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_fixture, remove_fixture)

    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(list),
        cmocka_unit_test(long_names),
        cmocka_unit_test(causes),
        test(names),
        test(unknown),
        test(no_repository),
        test(protocols),
        test(call),
        test(refused),
        test(none_there),
        test(no_list),
        test(cannot_be_run),
        test(time_limit),
        test(canceled),
        test(clean_and_dirty),
        test(no_checkout),
        test(of_another_user),
        test(checkout_fails),
        test(nothing_left),
    };

    return cmocka_run_group_tests_name("git", tests, NULL, NULL);
}
