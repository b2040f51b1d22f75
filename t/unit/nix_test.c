
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_fetch.h"


/*
 * nix-build is a shell script that each test writes; the store is a file system
 * of the tests' own, mounted in a namespace of their own.
 */


#define HASH    "00000000000000000000000000000000"
#define RESULT  "/nix/store/" HASH "-result.json"
#define LINK    "/nix/store/" HASH "-link"
#define OUT     "/nix/store/" HASH "-out"

#define A       "0123456789abcdef0123456789abcdef01234567"

#define MINUTE  60000

#define count_of(array)  (sizeof(array) / sizeof(array[0]))


typedef struct {
    char              *dir;
    char              *script;
    char              *root;
    char              *home;
    nixery_nix_t       nix;
    nixery_source_t    source;
    nixery_revision_t  revision;
    nixery_image_t     image;
    nixery_cancel_t    cancel;
    const char        *channel_url;
    const char        *channel_hash;
    nixery_error_t     err;
    char              *path;
} fixture_t;


/* The clock is an hour ahead from the call with that number on, 0: never. */

static int  clock_jumps_at;
static int  clock_calls;


int
clock_gettime(clockid_t id, struct timespec *ts)
{
    int  rc;

    rc = (int) syscall(SYS_clock_gettime, id, ts);

    if (clock_jumps_at != 0 && ++clock_calls >= clock_jumps_at) {
        ts->tv_sec += 3600;
    }

    return rc;
}


/* The content of a file of the fixture's directory; "" when it is not there. */

static char *
recorded(fixture_t *f, const char *name)
{
    char     *path, *text;
    FILE     *fp;
    size_t    n;

    path = format("%s/%s", f->dir, name);
    text = calloc(1, 65536);
    assert_non_null(text);

    fp = fopen(path, "re");

    if (fp != NULL) {
        n = fread(text, 1, 65535, fp);
        text[n] = '\0';
        (void) fclose(fp);
    }

    free(path);

    return text;
}


static void
assert_recorded(fixture_t *f, const char *name, char *expected)
{
    char  *text;

    text = recorded(f, name);
    assert_string_equal(text, expected);
    free(text);
    free(expected);
}


/* The arguments before, the image, those behind its name. */

static void
assert_arguments(fixture_t *f, const char *before, const char *packages,
    const char *behind)
{
    assert_recorded(f, "argv",
                    format("--out-link\n%s\n%s"
                           "--argstr\nname\n%s\n--argstr\npackages\n%s\n"
                           "--argstr\npkgSource\npath!/the \"packages\"\n"
                           "--argstr\nsystem\n%s\n"
                           "%s--argstr\nsrcType\npath\n"
                           "--argstr\nsrcArgs\n/the \"packages\"\n"
                           "/the builder.nix\n",
                           f->root, before, f->image.name, packages,
                           f->image.system ? "aarch64-linux" : "x86_64-linux",
                           behind));
}


/* The same of another source: options, pkgSource, what follows the system. */

static void
assert_source(fixture_t *f, const char *options, const char *source,
    const char *behind)
{
    assert_recorded(f, "argv",
                    format("--out-link\n%s\n%s"
                           "--argstr\nname\ngit/hello\n"
                           "--argstr\npackages\n[\"git\",\"hello\"]\n"
                           "--argstr\npkgSource\n%s\n"
                           "--argstr\nsystem\naarch64-linux\n%s"
                           "/the builder.nix\n",
                           f->root, options, source, behind));
}


static void
set_revision(fixture_t *f, const char *ref, const char *id)
{
    (void) strcpy(f->revision.ref, ref);
    (void) strcpy(f->revision.id, id);
}


static size_t
runs(fixture_t *f)
{
    char    *text;
    size_t   n;

    text = recorded(f, "runs");
    n = strlen(text);
    free(text);

    return n;
}


/*
 * What nix-build does: its arguments, environment and surroundings are noted,
 * then comes the body.  In it $run is the number of the run, and "evaluate
 * PACKAGE [CAUSE]" does what the bundled builder and Nix do: it fails for that
 * cause, unless the package is one to be skipped.
 */

static void
set_script(fixture_t *f, const char *body)
{
    char  *text, *noted;

    text = format("#!/bin/sh\n"
                  "dir='%s'\n"
                  "pwd > \"$dir/cwd\"\n"
                  "readlink /proc/$$/fd/0 > \"$dir/in\"\n"
                  "tr '\\0' '\\n' < /proc/$$/environ | sort > \"$dir/env\"\n"
                  "printf '%%s\\n' \"$@\" > \"$dir/argv\"\n"
                  "printf x >> \"$dir/runs\"\n"
                  "run=$(wc -c < \"$dir/runs\")\n"
                  "while [ $# != 1 ]; do\n"
                  "    [ \"$1\" != skip ] || skip=$2\n"
                  "    shift\n"
                  "done\n"
                  "evaluate() {\n"
                  "    echo \"trace: nixery: evaluating \\\"$1\\\"\" >&2\n"
                  "    case $skip in *\"\\\"$1\\\":\"*) return ;; esac\n"
                  "    [ -z \"$2\" ] || { echo \"error: $2\" >&2; exit 1; }\n"
                  "}\n"
                  "%s\n",
                  f->dir, body);
    unit_write(f->script, text, 0755);
    free(text);

    noted = format("%s/runs", f->dir);
    (void) unlink(noted);
    free(noted);
}


static void
set_image(fixture_t *f, const char *name)
{
    nixery_image_free(&f->image);
    assert_int_equal(nixery_image_parse(&f->image, name, strlen(name),
                                        NULL, &f->err),
                     NIXERY_OK);
}


static int
build(fixture_t *f)
{
    int                   rc;
    nixery_fetch_t        fetch;
    nixery_nix_request_t  request;

    nixery_error_free(&f->err);
    free(f->path);
    f->path = NULL;

    memset(&fetch, 0, sizeof(nixery_fetch_t));
    memset(&request, 0, sizeof(nixery_nix_request_t));

    fetch.nix = &f->nix;
    fetch.work = f->dir;
    fetch.temp_path = f->dir;
    fetch.cancel = &f->cancel;
    fetch.deadline = nixery_now() + f->nix.timeout;

    request.image = &f->image;
    request.revision = &f->revision;
    request.channel_url = f->channel_url;
    request.channel_hash = f->channel_hash;
    request.root = f->root;

    assert_int_equal(nixery_fetch_open(&fetch, &f->err), NIXERY_OK);

    rc = nixery_nix_build(&fetch, &request, &f->path, &f->err);

    nixery_fetch_close(&fetch);

    return rc;
}


static void
builds(fixture_t *f)
{
    if (build(f) != NIXERY_OK) {
        fail_msg("%s\n%s", f->err.message, f->err.log ? f->err.log : "");
    }

    assert_int_equal(f->err.kind, NIXERY_ERROR_NONE);
    assert_string_equal(f->path, RESULT);
}


static void
fails(fixture_t *f, nixery_error_e kind, const char *message, const char *log)
{
    assert_int_equal(build(f), NIXERY_ERROR);
    assert_string_equal(f->err.message, message);
    assert_int_equal(f->err.kind, kind);
    assert_null(f->path);

    if (log == NULL) {
        assert_null(f->err.log);

    } else {
        assert_non_null(f->err.log);
        assert_string_equal(f->err.log, log);
    }
}


static int
make_fixture(void **state)
{
    char        template[] = "/tmp/nixery-nix-XXXXXX";
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));

    if (f == NULL || mkdtemp(template) == NULL) {
        return -1;
    }

    f->dir = format("%s", template);
    f->script = format("%s/nix-build", f->dir);
    f->root = format("%s/a root", f->dir);
    f->home = format("%s/home", f->dir);

    f->nix.program = f->script;
    f->nix.builder = "/the builder.nix";
    f->nix.source = &f->source;
    f->nix.system = "x86_64-linux";
    f->source.name = "/the \"packages\"";
    f->nix.timeout = MINUTE;

    set_image(f, "git/hello");
    set_script(f, "echo " RESULT);

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;

    unit_shell("rm -rf '%s'", f->dir);

    nixery_image_free(&f->image);
    nixery_error_free(&f->err);
    free(f->path);
    free(f->home);
    free(f->root);
    free(f->script);
    free(f->dir);
    free(f);

    return 0;
}


/* --- the call */

static void
arguments(void **state)
{
    fixture_t  *f;

    static char  *options[] = {
        (char *) "cores", (char *) "2", (char *) "substituters", (char *) "",
        (char *) "x", (char *) "--option", NULL
    };

    f = *state;

    builds(f);
    assert_string_equal(f->image.name, "git/hello");
    assert_arguments(f, "", "[\"git\",\"hello\"]", "");

    /* in any order, repeated: the same call */

    set_image(f, "hello/git/hello");
    builds(f);
    assert_string_equal(f->image.name, "git/hello");
    assert_arguments(f, "", "[\"git\",\"hello\"]", "");

    f->nix.options = options;
    set_image(f, "arm64/hello");
    builds(f);
    assert_arguments(f, "--option\ncores\n2\n--option\nsubstituters\n\n"
                        "--option\nx\n--option\n",
                     "[\"hello\"]", "");
}


#define REVISION  "--argstr\nrevision\n" A "\n"
#define TTL       "--option\ntarball-ttl\n0\n"

static void
git_arguments(void **state)
{
    fixture_t  *f;

    static char  *options[] = {
        (char *) "cores", (char *) "2", NULL
    };

    static char  *own[] = {
        (char *) "tarball-ttl", (char *) "60", (char *) "cores", (char *) "2",
        NULL
    };

    static char  *near[] = {
        (char *) "tarball-ttl-x", (char *) "tarball-ttl", NULL
    };

    f = *state;

    f->source.kind = NIXERY_SOURCE_GIT;
    f->source.name = "https://host/a";
    f->source.shown = "https://host/a";
    set_image(f, "arm64/git/hello");

    /* a branch, by its name; and what Nix has of it may be old */

    set_revision(f, "refs/heads/a/b", A);
    builds(f);
    assert_source(f, TTL, "git!https://host/a!a/b",
                  "--argstr\nsrcType\ngit\n"
                  "--argstr\nsrcArgs\n{\"url\":\"https://host/a\","
                  "\"ref\":\"refs/heads/a/b\",\"rev\":\"" A "\"}\n"
                  REVISION);

    f->nix.options = options;
    set_revision(f, "refs/tags/v1", A);
    builds(f);
    assert_source(f, "--option\ncores\n2\n" TTL,
                  "git!https://host/a!refs/tags/v1",
                  "--argstr\nsrcType\ngit\n"
                  "--argstr\nsrcArgs\n{\"url\":\"https://host/a\","
                  "\"ref\":\"refs/tags/v1\",\"rev\":\"" A "\"}\n"
                  REVISION);

    /* unless an operator knows better */

    f->nix.options = own;
    set_revision(f, "HEAD", A);
    builds(f);
    assert_source(f, "--option\ntarball-ttl\n60\n--option\ncores\n2\n",
                  "git!https://host/a!HEAD",
                  "--argstr\nsrcType\ngit\n"
                  "--argstr\nsrcArgs\n{\"url\":\"https://host/a\","
                  "\"ref\":\"HEAD\",\"rev\":\"" A "\"}\n" REVISION);

    f->nix.options = near;
    builds(f);
    assert_source(f, "--option\ntarball-ttl-x\ntarball-ttl\n" TTL,
                  "git!https://host/a!HEAD",
                  "--argstr\nsrcType\ngit\n"
                  "--argstr\nsrcArgs\n{\"url\":\"https://host/a\","
                  "\"ref\":\"HEAD\",\"rev\":\"" A "\"}\n" REVISION);

    /* a commit stays what it is */

    f->nix.options = NULL;
    f->source.name = "file:///a \"b\"";
    f->source.submodules = 1;
    set_revision(f, "", A);
    builds(f);
    assert_source(f, "", "git!file:///a \"b\"!" A,
                  "--argstr\nsrcType\ngit\n"
                  "--argstr\nsrcArgs\n{\"url\":\"file:///a \\\"b\\\"\","
                  "\"rev\":\"" A "\"}\n" REVISION
                  "--argstr\nsubmodules\ntrue\n");

    f->nix.options = own;
    builds(f);
    assert_source(f, "--option\ntarball-ttl\n60\n--option\ncores\n2\n",
                  "git!file:///a \"b\"!" A,
                  "--argstr\nsrcType\ngit\n"
                  "--argstr\nsrcArgs\n{\"url\":\"file:///a \\\"b\\\"\","
                  "\"rev\":\"" A "\"}\n" REVISION
                  "--argstr\nsubmodules\ntrue\n");
}


static void
channel_arguments(void **state)
{
    fixture_t  *f;

    f = *state;

    f->source.kind = NIXERY_SOURCE_CHANNEL;
    f->source.name = "nixos-unstable";
    f->source.url = "https://host/$channel.tar.gz";
    f->source.shown = "https://host/";
    set_image(f, "arm64/git/hello");

    set_revision(f, "nixos-unstable", A);
    builds(f);
    assert_source(f, TTL, "nixpkgs!nixos-unstable",
                  "--argstr\nsrcType\nnixpkgs\n--argstr\nsrcArgs\n" A "\n"
                  REVISION);

    /* what is known of its content, and where that is */

    f->channel_url = "file:///a b";
    f->channel_hash = "sha256-x";
    set_revision(f, "nixos-unstable", "sha256:0123");
    builds(f);
    assert_source(f, TTL, "nixpkgs!nixos-unstable",
                  "--argstr\nsrcType\nnixpkgs\n"
                  "--argstr\nsrcArgs\nnixos-unstable\n"
                  "--argstr\nrevision\nsha256:0123\n"
                  "--argstr\nchannelUrl\nfile:///a b\n"
                  "--argstr\nchannelHash\nsha256-x\n");

    /* a commit */

    f->channel_hash = NULL;
    f->source.name = A;
    set_revision(f, "", A);
    builds(f);
    assert_source(f, "", "nixpkgs!" A,
                  "--argstr\nsrcType\nnixpkgs\n--argstr\nsrcArgs\n" A "\n"
                  REVISION "--argstr\nchannelUrl\nfile:///a b\n");
}


/* All that there may be, with packages to be skipped; a checkout's commit. */

static void
most_arguments(void **state)
{
    fixture_t  *f;

    f = *state;

    f->source.kind = NIXERY_SOURCE_GIT;
    f->source.name = "https://host/a";
    f->source.shown = "https://host/a";
    f->source.submodules = 1;
    f->channel_url = "u";
    f->channel_hash = "h";
    set_revision(f, "refs/heads/b", A);
    set_image(f, "arm64/git/hello");
    set_script(f, "evaluate git no; echo " RESULT);

    builds(f);
    assert_source(f, TTL, "git!https://host/a!b",
                  "--argstr\nskip\n{\"git\":\"no\"}\n"
                  "--argstr\nsrcType\ngit\n"
                  "--argstr\nsrcArgs\n{\"url\":\"https://host/a\","
                  "\"ref\":\"refs/heads/b\",\"rev\":\"" A "\"}\n"
                  REVISION "--argstr\nsubmodules\ntrue\n"
                  "--argstr\nchannelUrl\nu\n--argstr\nchannelHash\nh\n");

    /* which is for people, not for Nix */

    memset(&f->source, 0, sizeof(nixery_source_t));
    f->source.name = "/the \"packages\"";
    f->channel_url = NULL;
    f->channel_hash = NULL;
    set_revision(f, "", A "-dirty");
    set_image(f, "git/hello");
    set_script(f, "echo " RESULT);

    builds(f);
    assert_arguments(f, "", "[\"git\",\"hello\"]", "");
}


static void
environment(void **state)
{
    fixture_t  *f;

    static char  *env[] = {
        (char *) "NIX_REMOTE=daemon", (char *) "PATH=/bin:/usr/bin",
        (char *) "HOMER=none", (char *) "EMPTY=", (char *) "TMPDIR=/else", NULL
    };

    f = *state;

    assert_int_equal(setenv("NIXERY_SECRET", "not for Nix", 1), 0);

    builds(f);
    assert_recorded(f, "env", format("HOME=%s\n"
                                     "PATH=%s:/usr/local/bin:/usr/bin:/bin\n"
                                     "TMPDIR=%s\nXDG_CACHE_HOME=%s/.cache\n",
                                     f->home, f->dir, f->dir, f->home));

    /* what is configured wins */

    f->nix.env = env;
    builds(f);
    assert_recorded(f, "env", format("EMPTY=\nHOME=%s\nHOMER=none\n"
                                     "NIX_REMOTE=daemon\nPATH=/bin:/usr/bin\n"
                                     "TMPDIR=/else\nXDG_CACHE_HOME=%s/.cache\n",
                                     f->home, f->home));

    assert_recorded(f, "cwd", format("/\n"));
    assert_recorded(f, "in", format("/dev/null\n"));
}


/* --- what it prints */

static void
printed(void **state)
{
    char       *message;
    size_t      i;
    fixture_t  *f;

    static const struct {
        const char  *body;
        const char  *message;
    } cases[] = {
        { "", "no store path" },
        { "echo " RESULT "; echo " OUT, "more than one store path; the builder"
          " must be a single derivation" },
        { "echo " RESULT "; echo " RESULT, "more than one store path; the"
          " builder must be a single derivation" },
        { "echo " RESULT "; echo", "more than one store path; the builder must"
          " be a single derivation" },
        { "printf '" RESULT "\\0x\\n'", "more than one store path; the builder"
          " must be a single derivation" },
        { "yes " RESULT " | head -c 1000000", "more than one store path; the"
          " builder must be a single derivation" },
        { "head -c 1000000 /dev/zero | tr '\\0' /", "more than one store path;"
          " the builder must be a single derivation" },
        { "echo", "\"\", which is not a path in /nix/store" },
        { "echo /etc/passwd",
          "\"/etc/passwd\", which is not a path in /nix/store" },
        { "echo ' " RESULT "'",
          "\" " RESULT "\", which is not a path in /nix/store" },
        { "echo " RESULT "/x",
          "\"" RESULT "/x\", which is not a path in /nix/store" },
        { "echo " RESULT "/../../../etc/passwd",
          "\"" RESULT "/../../../etc/passwd\", which is not a path in"
          " /nix/store" },
        { "printf '\\033[31m/x\\377\\n'",
          "\"/x?\", which is not a path in /nix/store" },
        { "echo /nix/store/" HASH "-none",
          "\"/nix/store/" HASH "-none\", which can't be read: No such file or"
          " directory" },
        { "echo " OUT, "\"" OUT "\", which leads out of /nix/store" },
    };

    f = *state;

    for (i = 0; i < count_of(cases); i++) {
        set_script(f, cases[i].body);
        message = format("nix-build printed %s", cases[i].message);
        fails(f, NIXERY_ERROR_RESULT, message, NULL);
        free(message);
        assert_int_equal(runs(f), 1);
    }

    set_script(f, "printf " RESULT);
    builds(f);

    set_script(f, "head -c 4194304 /dev/zero | tr '\\0' x >&2; echo " RESULT);
    builds(f);

    /* a link to another store path is as good as that */

    set_script(f, "echo " LINK);
    assert_int_equal(build(f), NIXERY_OK);
    assert_string_equal(f->path, LINK);
}


static void
store_paths(void **state)
{
    char    *path;
    size_t   i;

    static const char  *good[] = {
        "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-x", RESULT,
        "/nix/store/" HASH "-X+-._?=9"
    };

    static const char  *bad[] = {
        "", "/", "/nix/store", "/nix/store/", "nix/store/" HASH "-x",
        "/nix/store/x", "/nix/store/" HASH, "/nix/store/" HASH "-",
        "/nix/store/" HASH "x", "/nix/store/" HASH "0-x",
        "/nix/store/" HASH "-.x", "/nix/store/" HASH "-x/", RESULT "/x",
        "/nix/store/" HASH "-x y", "/nix/store/" HASH "-x\n",
        "/nix/store/" HASH "-\xc3\xa4", "/nix/store//" HASH "-x",
        "/nix/store/../store/" HASH "-x", "/nix/storex" HASH "-x",
        "/nix/store/e0000000000000000000000000000000-x",
        "/nix/store/A0000000000000000000000000000000-x"
    };

    (void) state;

    for (i = 0; i < count_of(good); i++) {
        assert_true(nixery_store_path_valid(good[i]));
    }

    for (i = 0; i < count_of(bad); i++) {
        if (nixery_store_path_valid(bad[i])) {
            fail_msg("\"%s\" is valid", bad[i]);
        }
    }

    path = format("/nix/store/" HASH "-%0211d", 0);
    assert_true(nixery_store_path_valid(path));
    free(path);

    path = format("/nix/store/" HASH "-%0212d", 0);
    assert_false(nixery_store_path_valid(path));
    free(path);
}


/* --- how it fails */

static void
failures(void **state)
{
    size_t      i;
    fixture_t  *f;

    static const struct {
        const char      *body;
        nixery_error_e   kind;
        const char      *message;
        const char      *log;
    } cases[] = {
        { "exit 1", NIXERY_ERROR_NIX,
          "nix-build failed with exit code 1: it printed nothing", "" },

        { "echo oops >&2; exit 7", NIXERY_ERROR_NIX,
          "nix-build failed with exit code 7: oops", "oops" },

        /* the path doesn't count when the code says no */
        { "echo " RESULT "; echo 'error: late' >&2; exit 1", NIXERY_ERROR_NIX,
          "nix-build failed with exit code 1: late", "error: late" },

        { "printf 'error: first\\nerror: second ;\\n\\n  hint\\n' >&2; exit 1",
          NIXERY_ERROR_NIX, "nix-build failed with exit code 1: second",
          "error: first\nerror: second ;\n\n  hint" },

        { "printf '\\033[31;1merror:\\033[0m\\a red\\n' >&2; exit 1",
          NIXERY_ERROR_NIX, "nix-build failed with exit code 1: red",
          "error: red" },

        { "echo \"error: builder for '/nix/store/x.drv' failed with exit code"
          " 3;\" >&2; echo \"       last 1 log lines:\" >&2; echo \"error: 1"
          " dependencies of derivation '/nix/store/y.drv' failed to build\""
          " >&2; exit 100",
          NIXERY_ERROR_NIX,
          "a package failed to build: builder for '/nix/store/x.drv' failed"
          " with exit code 3",
          "error: builder for '/nix/store/x.drv' failed with exit code 3;\n"
          "       last 1 log lines:\n"
          "error: 1 dependencies of derivation '/nix/store/y.drv' failed to"
          " build" },

        { "echo \"error: builder for 'x' failed\" >&2; exit 1",
          NIXERY_ERROR_NIX, "a package failed to build: builder for 'x' failed",
          "error: builder for 'x' failed" },

        { "echo 'error: no more' >&2; exit 100", NIXERY_ERROR_NIX,
          "a package failed to build: no more", "error: no more" },

        { "echo 'error: timed out after 2 seconds' >&2; exit 101",
          NIXERY_ERROR_TIMEOUT,
          "a time limit of Nix has passed: timed out after 2 seconds",
          "error: timed out after 2 seconds" },

        { "echo \"error: building of 'x' timed out after 60 seconds of"
          " silence\" >&2; exit 1",
          NIXERY_ERROR_TIMEOUT,
          "a time limit of Nix has passed: building of 'x' timed out after 60"
          " seconds of silence",
          "error: building of 'x' timed out after 60 seconds of silence" },

        { "echo \"error: 'x': connection timed out after 5 seconds\" >&2;"
          " exit 1",
          NIXERY_ERROR_NIX,
          "nix-build failed with exit code 1: 'x': connection timed out after"
          " 5 seconds",
          "error: 'x': connection timed out after 5 seconds" },

        { "echo \"error: cannot connect to socket at '/some/socket': Connection"
          " refused\" >&2; exit 1",
          NIXERY_ERROR_NIX,
          "nix-build failed with exit code 1: cannot connect to socket at"
          " '/some/socket': Connection refused; is nix-daemon running, and may"
          " the workers' user talk to it?",
          "error: cannot connect to socket at '/some/socket': Connection"
          " refused" },

        { "echo 'error: unexpected end-of-file' >&2; exit 1", NIXERY_ERROR_NIX,
          "nix-build failed with exit code 1: unexpected end-of-file; was"
          " nix-daemon ended?",
          "error: unexpected end-of-file" },

        { "echo partly >&2; kill -KILL $$", NIXERY_ERROR_NIX,
          "nix-build was ended by signal 9", "partly" },

        { "kill -SEGV $$", NIXERY_ERROR_NIX, "nix-build was ended by signal 11",
          "" },

        { "kill -TERM $$", NIXERY_ERROR_NIX, "nix-build was ended by signal 15",
          "" },
    };

    f = *state;

    for (i = 0; i < count_of(cases); i++) {
        set_script(f, cases[i].body);
        fails(f, cases[i].kind, cases[i].message, cases[i].log);
        assert_int_equal(runs(f), 1);
    }
}


/* What is wrong with a source is no fault of Nix, if it is one of git. */

static void
git_failures(void **state)
{
    char       *message;
    size_t      i, kind;
    fixture_t  *f;

#define GONE    "Cannot find Git revision '" A "' in ref 'refs/heads/main' of" \
                " repository 'https://host/a'! Please make sure that the rev"  \
                " exists"
#define FAILED  "program 'git' failed with exit code 128"

    static const struct {
        const char      *body;
        nixery_error_e   kind;
        const char      *message;
        const char      *other;      /* of a source of another kind */
    } cases[] = {
        { "echo \"error: " GONE "\" >&2; exit 1", NIXERY_ERROR_REF,
          "git repository \"https://host/a\" has no commit " A, GONE },

        { "echo \"fatal: unable to access 'https://host/a/': refused\" >&2;"
          "echo \"error: " FAILED "\" >&2; exit 1", NIXERY_ERROR_SOURCE,
          "can't fetch " A " of git repository \"https://host/a\": unable to"
          " access 'https://host/a/': refused", FAILED },

        { "echo 'Host key verification failed.' >&2;"
          "echo 'fatal: Could not read from remote repository.' >&2;"
          "echo >&2; echo 'Please make sure' >&2;"
          "echo \"error: " FAILED "\" >&2; exit 1", NIXERY_ERROR_SOURCE,
          "can't fetch " A " of git repository \"https://host/a\": Host key"
          " verification failed", FAILED },

        { "echo \"error: " FAILED "\" >&2; exit 1", NIXERY_ERROR_SOURCE,
          "can't fetch " A " of git repository \"https://host/a\": error: "
          FAILED, FAILED },

        { "echo \"fatal: no hunter2 at https://ann:pw@host/a\" >&2;"
          "echo \"error: " FAILED "\" >&2; exit 1", NIXERY_ERROR_SOURCE,
          "can't fetch " A " of git repository \"https://host/a\": no *******"
          " at https://host/a", FAILED },
    };

    static const char *const  secrets[] = { "hunter2", NULL };

    f = *state;

    f->source.secrets = secrets;
    f->source.name = "https://host/a";
    f->source.shown = "https://host/a";
    set_revision(f, "refs/heads/main", A);

    for (i = 0; i < count_of(cases); i++) {
        set_script(f, cases[i].body);

        f->source.kind = NIXERY_SOURCE_GIT;
        fails(f, cases[i].kind, cases[i].message, NULL);
        assert_int_equal(runs(f), 1);

        for (kind = NIXERY_SOURCE_PATH; kind < NIXERY_SOURCE_GIT; kind++) {
            f->source.kind = kind;
            message = format("nix-build failed with exit code 1: %s",
                             cases[i].other);
            assert_int_equal(build(f), NIXERY_ERROR);
            assert_int_equal(f->err.kind, NIXERY_ERROR_NIX);
            assert_string_equal(f->err.message, message);
            free(message);
        }
    }

    f->source.kind = NIXERY_SOURCE_GIT;

    /* another commit, a submodule's; or a builder that says the same */

    set_script(f, "echo \"error: Cannot find Git revision 'x' in ref 'y'\" >&2;"
                  "exit 1");
    fails(f, NIXERY_ERROR_NIX,
          "nix-build failed with exit code 1: Cannot find Git revision 'x' in"
          " ref 'y'", "error: Cannot find Git revision 'x' in ref 'y'");

    set_script(f, "echo \"error: builder for 'x' failed\" >&2;"
                  "echo \"       > error: " FAILED "\" >&2; exit 100");
    fails(f, NIXERY_ERROR_NIX,
          "a package failed to build: builder for 'x' failed",
          "error: builder for 'x' failed\n       > error: " FAILED);
}


static void
last_lines(void **state)
{
    char       *start, *end;
    size_t      i;
    fixture_t  *f;

    f = *state;

    set_script(f, "seq 100 >&2; exit 1");
    fails(f, NIXERY_ERROR_NIX, "nix-build failed with exit code 1: 100",
          "81\n82\n83\n84\n85\n86\n87\n88\n89\n90\n"
          "91\n92\n93\n94\n95\n96\n97\n98\n99\n100");

    /* much, without an end of line: an end of it, and whole characters */

    set_script(f, "yes '\xe2\x82\xac' | tr -d '\\n' | head -c 4194304 >&2;"
               " exit 1");
    assert_int_equal(build(f), NIXERY_ERROR);

    assert_true(strlen(f->err.log) <= 4096);
    assert_true(strlen(f->err.log) > 4000);
    assert_memory_equal(f->err.log, "\xe2\x82\xac", 3);

    start = strstr(f->err.message, "code 1: ");
    assert_non_null(start);
    start += 8;
    assert_true(strlen(start) <= 512);

    for (i = 0, end = start; *end == '\xe2'; end += 3) {
        i++;
    }

    assert_true(i >= 170);
    assert_string_equal(end, "");
}


static void
cannot_be_run(void **state)
{
    char       *message;
    fixture_t  *f;

    f = *state;

    unit_write(f->script, "#!/bin/sh\n", 0644);
    message = format("can't run \"%s\": Permission denied", f->script);
    fails(f, NIXERY_ERROR_NIX, message, NULL);
    free(message);

    unit_write(f->script, "#!/no/such/interpreter\n", 0755);
    message = format("can't run \"%s\": No such file or directory", f->script);
    fails(f, NIXERY_ERROR_NIX, message, NULL);

    assert_int_equal(unlink(f->script), 0);
    fails(f, NIXERY_ERROR_NIX, message, NULL);
    free(message);

    unit_write(f->script, "\177ELF", 0755);
    message = format("can't run \"%s\": Exec format error", f->script);
    fails(f, NIXERY_ERROR_NIX, message, NULL);
    free(message);

    /* and all is well again */

    set_script(f, "echo " RESULT);
    builds(f);
}


/* --- what Nix can't catch */

static void
culprits(void **state)
{
    fixture_t  *f;

    f = *state;

    set_image(f, "a/b/c/d");
    set_script(f, "evaluate a 'a \"aborts\"'; evaluate b;"
                  "evaluate c 'infinite recursion;'; evaluate d;"
                  "echo 'trace: nixery: evaluated' >&2; echo " RESULT);
    builds(f);

    assert_int_equal(runs(f), 3);
    assert_arguments(f, "", "[\"a\",\"b\",\"c\",\"d\"]",
                     "--argstr\nskip\n{\"a\":\"a \\\"aborts\\\"\","
                     "\"c\":\"infinite recursion\"}\n");

    /* each of many */

    set_image(f, "0/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u"
                 "/v/w/x/y/z/00");
    set_script(f, "for p in 0 00 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n"
                  " o p q r s t u v w x y z; do evaluate $p $p; done;"
                  "echo " RESULT);
    builds(f);
    assert_int_equal(runs(f), 38);

    /* whose trace is not among what is kept of that much */

    set_image(f, "a/b/c");
    set_script(f, "noise() { head -c 200000 /dev/zero | tr '\\0' x >&2;"
                  "echo >&2; }; evaluate a; noise; evaluate b; noise;"
                  "evaluate b no; evaluate c; echo " RESULT);
    builds(f);

    assert_int_equal(runs(f), 2);
    assert_arguments(f, "", "[\"a\",\"b\",\"c\"]",
                     "--argstr\nskip\n{\"b\":\"no\"}\n");

    /* a builder that does not skip what it is told to */

    set_image(f, "a/b");
    set_script(f, "skip=; evaluate b \"run $run\"");
    fails(f, NIXERY_ERROR_PACKAGE, "package can't be used: \"b\" (run 2)",
          NULL);
    assert_int_equal(runs(f), 2);
}


static void
no_culprit(void **state)
{
    size_t      i;
    fixture_t  *f;

    static const struct {
        const char  *body;
        const char  *message;
    } cases[] = {
        /* evaluation was over */
        { "evaluate a; evaluate b; echo 'trace: nixery: evaluated' >&2;"
          "echo 'error: no' >&2; exit 1",
          "nix-build failed with exit code 1: no" },

        /* nothing that was asked for */
        { "evaluate c no",
          "nix-build failed with exit code 1: no" },
        { "evaluate '' no",
          "nix-build failed with exit code 1: no" },
        { "printf 'trace: nixery: evaluating \"a' >&2; exit 1",
          "nix-build failed with exit code 1: trace: nixery: evaluating \"a" },
        { "echo 'trace: nixery: evaluating a' >&2; exit 1",
          "nix-build failed with exit code 1: trace: nixery: evaluating a" },
        { "printf 'trace: nixery: evaluat' >&2; exit 1",
          "nix-build failed with exit code 1: trace: nixery: evaluat" },

        /* not how an evaluation fails */
        { "evaluate a; echo 'error: no' >&2; exit 100",
          "a package failed to build: no" },
        { "evaluate a; echo 'error: no' >&2; kill -KILL $$",
          "nix-build was ended by signal 9" },
    };

    f = *state;

    set_image(f, "a/b");

    for (i = 0; i < count_of(cases); i++) {
        set_script(f, cases[i].body);
        assert_int_equal(build(f), NIXERY_ERROR);
        assert_string_equal(f->err.message, cases[i].message);
        assert_int_equal(f->err.kind, NIXERY_ERROR_NIX);
        assert_int_equal(runs(f), 1);
    }
}


/* --- time and cancellation */

static void
time_limit(void **state)
{
    size_t      i;
    fixture_t  *f;

    static const struct {
        uint64_t     timeout;
        const char  *limit;
    } cases[] = {
        { 50, "50ms" }, { 1000, "1s" }
    };

    f = *state;

    set_script(f, "echo started >&2; exec sleep 1000");

    for (i = 0; i < count_of(cases); i++) {
        f->nix.timeout = cases[i].timeout;

        assert_int_equal(build(f), NIXERY_ERROR);
        assert_int_equal(f->err.kind, NIXERY_ERROR_TIMEOUT);
        assert_memory_equal(f->err.message, "the build did not finish within ",
                            32);
        assert_string_equal(f->err.message + 32, cases[i].limit);
    }

    /* nix-build does not want to end */

    f->nix.timeout = 500;
    set_script(f, "trap '' TERM; echo started >&2; while :; do sleep 1; done");
    assert_int_equal(build(f), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_TIMEOUT);

    /* it ends well, but too late: in answer to the signal */

    set_script(f, "trap 'echo " RESULT "; exit 0' TERM;"
               "while :; do sleep 0.1; done");
    assert_int_equal(build(f), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_TIMEOUT);
}


/* One limit for all runs of one build. */

static void
time_limit_of_all_runs(void **state)
{
    fixture_t  *f;

    f = *state;

    set_image(f, "a/b/c/d/e/f/g/h");
    set_script(f, "sleep 0.3; for p in a b c d e f g h; do evaluate $p $p;"
                  " done; echo " RESULT);

    f->nix.timeout = 1000;
    assert_int_equal(build(f), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_TIMEOUT);
    assert_string_equal(f->err.message, "the build did not finish within 1s");
    assert_in_range(runs(f), 1, 4);
}


static void
time_is_up_between_runs(void **state)
{
    fixture_t  *f;

    f = *state;

    set_image(f, "a/b");
    set_script(f, "evaluate a a");

    /* at the start, before the first run, before the second one */

    clock_calls = 0;
    clock_jumps_at = 3;

    assert_int_equal(build(f), NIXERY_ERROR);
    clock_jumps_at = 0;

    assert_int_equal(runs(f), 1);
    assert_int_equal(f->err.kind, NIXERY_ERROR_TIMEOUT);
    assert_string_equal(f->err.message, "the build did not finish within 1m");
}


static void *
canceler(void *data)
{
    fixture_t  *f;

    f = data;

    while (runs(f) == 0) {
        (void) poll(NULL, 0, 1);
    }

    atomic_store(&f->cancel.flag, 1);

    return NULL;
}


static void
canceled(void **state)
{
    pthread_t              thread;
    fixture_t             *f;
    volatile sig_atomic_t  terminate;

    f = *state;

    set_script(f, "echo started >&2; exec sleep 1000");

    assert_int_equal(pthread_create(&thread, NULL, canceler, f), 0);
    fails(f, NIXERY_ERROR_CANCELED, "the build was canceled", NULL);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(runs(f), 1);

    /* before it has begun */

    fails(f, NIXERY_ERROR_CANCELED, "the build was canceled", NULL);
    assert_int_equal(runs(f), 1);

    /* the whole process ends */

    terminate = 1;
    atomic_store(&f->cancel.flag, 0);
    f->cancel.terminate = &terminate;
    fails(f, NIXERY_ERROR_CANCELED, "the build was canceled", NULL);
    assert_int_equal(runs(f), 1);

    terminate = 0;
    set_script(f, "echo " RESULT);
    builds(f);
}


static void
nothing_left(void **state)
{
    int         before;
    fixture_t  *f;

    f = *state;

    before = unit_descriptors();

    builds(f);

    set_script(f, "exit 1");
    assert_int_equal(build(f), NIXERY_ERROR);

    f->nix.timeout = 100;
    set_script(f, "sleep 1000 & exec sleep 1000");
    assert_int_equal(build(f), NIXERY_ERROR);

    f->nix.timeout = MINUTE;
    set_script(f, "setsid sleep 1000 & echo " RESULT);
    builds(f);

    assert_int_equal(unlink(f->script), 0);
    assert_int_equal(build(f), NIXERY_ERROR);

    assert_int_equal(unit_descriptors(), before);
}


int
main(int argc, char *const *argv)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_fixture, remove_fixture)

    const struct CMUnitTest  tests[] = {
        test(arguments),
        test(git_arguments),
        test(channel_arguments),
        test(most_arguments),
        test(environment),
        test(printed),
        cmocka_unit_test(store_paths),
        test(failures),
        test(git_failures),
        test(last_lines),
        test(cannot_be_run),
        test(culprits),
        test(no_culprit),
        test(time_limit),
        test(time_limit_of_all_runs),
        test(time_is_up_between_runs),
        test(canceled),
        test(nothing_left),
    };

    if (unit_store(argv) == -1) {
        return 1;
    }

    if (symlink("/etc/passwd", OUT) == -1 || symlink(RESULT, LINK) == -1) {
        perror("link into the store");
        return 1;
    }

    unit_write(RESULT, "{}", 0444);

    return cmocka_run_group_tests_name("nix", tests, NULL, NULL);
}
