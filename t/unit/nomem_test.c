
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/*
 * Memory runs out, at each place where some is asked for: what was to be done
 * is done, or the error says why, and nothing is lost or used after that.  The
 * allocating functions are libc's but for that, by the linker's --wrap.
 */

#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include "unit.h"
#include "nixery_build.h"
#include "nixery_git.h"
#include "nixery_resolve.h"
#include "nixery_text.h"
#include "nixery_url.h"


#define CONTENTS  "/nix/store/00000000000000000000000000000000-contents"
#define RESULT    "/nix/store/11111111111111111111111111111111-result.json"

#define COMMIT  "0123456789abcdef0123456789abcdef01234567"
#define MAIN    "refs/heads/main"
#define URL     "https://host.example/a"

#define ALLOCATIONS_MAX  5000

#define count_of(array)  (sizeof(array) / sizeof(array[0]))


typedef struct {
    char               *dir;
    char               *checkout;
    char               *nix;        /* scripts */
    char               *git;
    char               *root;
    char               *wipe;       /* a command, of what is stored */
    nixery_settings_t   settings;
    nixery_source_t     source;
    nixery_image_t      image;
    nixery_fetch_t      fetch;
    nixery_error_t      err;
} fixture_t;


/* Does it once; NIXERY_ERROR has f->err set. */
typedef int (*attempt_pt)(fixture_t *f);


void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **text, const char *fmt, va_list args);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_vasprintf(char **text, const char *fmt, va_list args);
int __wrap_asprintf(char **text, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));


/* The allocation that fails, counted from one; 0: none does. */

static atomic_int  fails_at;
static atomic_int  allocations;


static int
no_memory(void)
{
    return atomic_load(&fails_at) != 0
           && atomic_fetch_add(&allocations, 1) + 1 == atomic_load(&fails_at);
}


void *
__wrap_malloc(size_t size)
{
    return no_memory() ? NULL : __real_malloc(size);
}


void *
__wrap_calloc(size_t n, size_t size)
{
    return no_memory() ? NULL : __real_calloc(n, size);
}


void *
__wrap_realloc(void *p, size_t size)
{
    return no_memory() ? NULL : __real_realloc(p, size);
}


char *
__wrap_strdup(const char *s)
{
    return no_memory() ? NULL : __real_strdup(s);
}


char *
__wrap_strndup(const char *s, size_t n)
{
    return no_memory() ? NULL : __real_strndup(s, n);
}


/* What the pointer is after a failure, nobody may rely on. */

int
__wrap_vasprintf(char **text, const char *fmt, va_list args)
{
    if (no_memory()) {
        *text = (char *) -1;
        return -1;
    }

    return __real_vasprintf(text, fmt, args);
}


int
__wrap_asprintf(char **text, const char *fmt, ...)
{
    int      rc;
    va_list  args;

    va_start(args, fmt);
    rc = __wrap_vasprintf(text, fmt, args);
    va_end(args);

    return rc;
}


/* A storage says what it was about to do. */

static void
assert_memory_fault(const nixery_error_t *err)
{
    size_t  len;

    static const char  message[] = "out of memory";

    assert_non_null(err->message);

    len = strlen(err->message);

    if (err->kind == NIXERY_ERROR_STORAGE && len > sizeof(message) - 1) {
        len -= sizeof(message) - 1;

    } else {
        assert_int_equal(err->kind, NIXERY_ERROR_SYSTEM);
        len = 0;
    }

    assert_string_equal(err->message + len, message);
}


/* Each allocation of an attempt fails once, then none does. */

static void
assert_survives(fixture_t *f, attempt_pt attempt)
{
    int  n, rc;

    for (n = 1; n < ALLOCATIONS_MAX; n++) {
        atomic_store(&allocations, 0);
        atomic_store(&fails_at, n);

        rc = attempt(f);

        atomic_store(&fails_at, 0);

        if (atomic_load(&allocations) < n) {
            break;
        }

        if (rc != NIXERY_OK) {
            assert_int_equal(rc, NIXERY_ERROR);
            assert_memory_fault(&f->err);
        }

        nixery_error_free(&f->err);
    }

    if (rc != NIXERY_OK) {
        fail_msg("without a failure: %s", f->err.message);
    }

    assert_in_range(n, 2, ALLOCATIONS_MAX - 1);
}


static void
set_script(const char *path, const char *body)
{
    char  *text;

    text = format("#!/bin/sh\n%s\n", body);
    unit_write(path, text, 0755);
    free(text);
}


/* --- attempts */

static int
parse_url(fixture_t *f)
{
    int           rc;
    size_t        i;
    nixery_url_t  url;

    static const char  *urls[] = {
        "https://ann:pw@host/a?b", "ssh://git@host/a", "file:///a%20b"
    };

    for (i = 0, rc = NIXERY_OK; rc == NIXERY_OK && i < count_of(urls); i++) {
        rc = nixery_url_parse(&url, urls[i], "https ssh file", &f->err);

        if (rc == NIXERY_OK) {
            nixery_url_free(&url);
        }
    }

    return rc;
}


/* An error that can't be told is one of memory. */

static int
parse_no_url(fixture_t *f)
{
    size_t         i;
    nixery_url_t   url;

    static const char  *urls[] = {
        "x", "ftp://host", "https://host:x", "https://ann:%@host"
    };

    for (i = 0; i < count_of(urls); i++) {
        nixery_error_free(&f->err);

        if (nixery_url_parse(&url, urls[i], "https ssh file", &f->err)
            == NIXERY_OK)
        {
            nixery_url_free(&url);
            return NIXERY_ERROR;
        }

        if (f->err.kind != NIXERY_ERROR_SOURCE) {
            return NIXERY_ERROR;
        }
    }

    nixery_error_free(&f->err);

    return NIXERY_OK;
}


static int
argument(fixture_t *f)
{
    int                rc;
    nixery_buf_t       text = { 0 };
    nixery_revision_t  revision = { MAIN, COMMIT };

    rc = nixery_source_argument(&f->source, &revision, &text);
    nixery_buf_free(&text);

    return rc == NIXERY_OK ? rc : nixery_error_nomem(&f->err);
}


static int
cause(fixture_t *f)
{
    char  *text;

    text = nixery_git_cause("fatal: no");
    if (text == NULL) {
        return nixery_error_nomem(&f->err);
    }

    free(text);

    return NIXERY_OK;
}


static int
open_fetch(fixture_t *f)
{
    memset(&f->fetch, 0, sizeof(nixery_fetch_t));

    f->fetch.nix = &f->settings.nix;
    f->fetch.work = f->dir;
    f->fetch.temp_path = f->dir;
    f->fetch.deadline = nixery_now() + f->settings.nix.timeout;

    if (nixery_fetch_open(&f->fetch, &f->err) != NIXERY_OK) {
        assert_null(f->fetch.env);
        return NIXERY_ERROR;
    }

    return NIXERY_OK;
}


static int
fetch(fixture_t *f)
{
    int  rc;

    rc = open_fetch(f);
    nixery_fetch_close(&f->fetch);

    return rc;
}


static int
ask(fixture_t *f)
{
    int                rc;
    nixery_revision_t  revision;

    rc = open_fetch(f);

    if (rc == NIXERY_OK) {
        rc = nixery_git_resolve(&f->fetch, URL, URL, "main", &revision,
                                &f->err);
        assert_true(rc != NIXERY_OK || strcmp(revision.id, COMMIT) == 0);
    }

    nixery_fetch_close(&f->fetch);

    return rc;
}


/* Refused, and unknown: the reason may be lost, but not that there is one. */

static int
ask_in_vain(fixture_t *f)
{
    int                rc;
    nixery_revision_t  revision;

    rc = open_fetch(f);

    if (rc == NIXERY_OK) {
        rc = nixery_git_resolve(&f->fetch, URL, URL, "nope", &revision,
                                &f->err);
        assert_int_equal(rc, NIXERY_ERROR);

        if (f->err.kind == NIXERY_ERROR_SOURCE
            || f->err.kind == NIXERY_ERROR_REF)
        {
            nixery_error_free(&f->err);
            rc = NIXERY_OK;
        }
    }

    nixery_fetch_close(&f->fetch);

    return rc;
}


static int
look(fixture_t *f)
{
    int                rc;
    nixery_revision_t  revision;

    rc = open_fetch(f);

    if (rc == NIXERY_OK) {
        rc = nixery_git_checkout(&f->fetch, f->checkout, &revision, &f->err);
        assert_true(rc != NIXERY_OK || strcmp(revision.id, COMMIT) == 0);
    }

    nixery_fetch_close(&f->fetch);

    return rc;
}


static int
resolve(fixture_t *f)
{
    int               rc;
    nixery_resolve_t  job;

    memset(&job, 0, sizeof(nixery_resolve_t));

    job.settings = &f->settings;
    job.tag = (char *) "main";

    rc = nixery_resolve_run(&job);
    assert_true(rc != NIXERY_OK || strcmp(job.revision.id, COMMIT) == 0);

    f->err = job.error;

    return rc;
}


static int
nix_build(fixture_t *f)
{
    int                   rc;
    char                 *path;
    nixery_revision_t     revision = { MAIN, COMMIT };
    nixery_nix_request_t  request;

    path = NULL;

    memset(&request, 0, sizeof(nixery_nix_request_t));
    request.image = &f->image;
    request.revision = &revision;
    request.root = f->root;

    rc = open_fetch(f);

    if (rc == NIXERY_OK) {
        rc = nixery_nix_build(&f->fetch, &request, &path, &f->err);
        assert_true((rc == NIXERY_OK) == (path != NULL));
    }

    nixery_fetch_close(&f->fetch);
    free(path);

    return rc;
}


static int
nix_build_in_vain(fixture_t *f)
{
    int  rc;

    rc = nix_build(f);

    if (f->err.kind == NIXERY_ERROR_NIX || f->err.kind == NIXERY_ERROR_SOURCE
        || f->err.kind == NIXERY_ERROR_REF)
    {
        assert_int_equal(rc, NIXERY_ERROR);
        nixery_error_free(&f->err);
        rc = NIXERY_OK;
    }

    return rc;
}


/* All of it, with an image in the end. */

static int
build(fixture_t *f)
{
    int             rc;
    size_t          i;
    nixery_build_t  job;

    memset(&job, 0, sizeof(nixery_build_t));

    job.settings = &f->settings;
    (void) stpcpy(job.revision.ref, MAIN);
    (void) stpcpy(job.revision.id, COMMIT);
    memset(job.key, 'a', NIXERY_HEX_LEN);

    job.image = f->image;
    job.image.name = __real_strdup(f->image.name);
    job.image.packages = __real_calloc(f->image.npackages + 1, sizeof(char *));
    assert_non_null(job.image.packages);

    for (i = 0; i < f->image.npackages; i++) {
        job.image.packages[i] = __real_strdup(f->image.packages[i]);
    }

    rc = nixery_build_run(&job);
    assert_true((rc == NIXERY_OK) == (job.manifest.data != NULL));

    f->err = job.error;
    memset(&job.error, 0, sizeof(nixery_error_t));

    nixery_build_free(&job);

    /* the next one has all of it to do */

    assert_int_equal(system(f->wipe), 0);

    return rc;
}


/* --- tests */

static int
make_fixture(void **state)
{
    char        template[] = "/tmp/nixery-nomem-XXXXXX", *git;
    fixture_t  *f;

    static char  *packages[] = { (char *) "git", (char *) "hello", NULL };
    static char  *env[] = { (char *) "NIX_SSL_CERT_FILE=/ca", NULL };
    static char  *options[] = { (char *) "cores", (char *) "2", NULL };

    static const char *const  secrets[] = { "hunter2", NULL };

    f = calloc(1, sizeof(fixture_t));

    if (f == NULL || mkdtemp(template) == NULL) {
        return -1;
    }

    f->dir = format("%s", template);
    f->checkout = format("%s/checkout", f->dir);
    f->nix = format("%s/nix-build", f->dir);
    f->git = format("%s/git", f->dir);
    f->root = format("%s/result", f->dir);
    f->wipe = format("rm -rf '%s'/storage/*/*", f->dir);

    git = format("%s/.git", f->checkout);

    if (mkdir(f->checkout, 0755) == -1 || mkdir(git, 0755) == -1) {
        return -1;
    }

    free(git);

    set_script(f->nix, "echo " RESULT);
    set_script(f->git, "case $1 in"
                       " ls-remote) printf '" COMMIT "\\t" MAIN "\\n' ;;"
                       " *) echo '# branch.oid " COMMIT "' ;; esac;"
                       " echo hunter2 >&2");

    f->image.name = (char *) "git/hello";
    f->image.packages = packages;
    f->image.npackages = 2;
    f->image.system = "x86_64-linux";

    f->source.kind = NIXERY_SOURCE_GIT;
    f->source.name = URL;
    f->source.shown = URL;
    f->source.user = "ann";
    f->source.password = "hunter2";
    f->source.key = "/a key";
    f->source.known_hosts = "/it's";
    f->source.secrets = secrets;
    f->source.submodules = 1;

    f->settings.nix.program = f->nix;
    f->settings.nix.git = f->git;
    f->settings.nix.builder = "/builder.nix";
    f->settings.nix.source = &f->source;
    f->settings.nix.timeout = 60000;
    f->settings.nix.env = env;
    f->settings.nix.options = options;
    f->settings.builder_id = "builder";
    f->settings.temp_path = f->dir;

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;

    /* of a test that was left */

    atomic_store(&fails_at, 0);

    unit_shell("rm -rf '%s'", f->dir);

    nixery_error_free(&f->err);
    free(f->wipe);
    free(f->root);
    free(f->git);
    free(f->nix);
    free(f->checkout);
    free(f->dir);
    free(f);

    return 0;
}


static void
urls(void **state)
{
    assert_survives(*state, parse_url);
    assert_survives(*state, parse_no_url);
}


static void
sources(void **state)
{
    fixture_t  *f;

    f = *state;

    assert_survives(f, cause);
    assert_survives(f, argument);

    f->source.kind = NIXERY_SOURCE_CHANNEL;
    f->source.url = URL;
    assert_survives(f, argument);

    f->source.kind = NIXERY_SOURCE_PATH;
    assert_survives(f, argument);
}


static void
fetches(void **state)
{
    fixture_t  *f;

    f = *state;

    assert_survives(f, fetch);

    f->source.user = NULL;
    f->source.credentials = "/credentials";
    f->source.name = "file:///a";
    assert_survives(f, fetch);

    f->source.kind = NIXERY_SOURCE_PATH;
    f->source.name = f->checkout;
    assert_survives(f, fetch);
}


static void
questions(void **state)
{
    fixture_t  *f;

    f = *state;

    assert_survives(f, ask);
    assert_survives(f, ask_in_vain);
    assert_survives(f, resolve);

    set_script(f->git, "echo 'fatal: no hunter2' >&2; exit 128");
    assert_survives(f, ask_in_vain);
}


static void
checkouts(void **state)
{
    fixture_t  *f;

    f = *state;
    f->source.kind = NIXERY_SOURCE_PATH;
    f->source.name = f->checkout;

    assert_survives(f, look);
}


static void
builds(void **state)
{
    size_t      i;
    fixture_t  *f;

    static const char  *failures[] = {
        "echo 'error: no' >&2; exit 1",
        "echo \"error: Cannot find Git revision '" COMMIT "'\" >&2; exit 1",
        "printf \"fatal: no\nerror: program 'git' failed\n\" >&2; exit 1"
    };

    f = *state;

    assert_survives(f, nix_build);

    /* what is to be skipped in one more run */

    set_script(f->nix, "case \"$*\" in *'\"hello\":'*) ;; *)"
                       " echo 'trace: nixery: evaluating \"hello\"' >&2;"
                       " echo 'error: no' >&2; exit 1 ;; esac;"
                       "echo " RESULT);
    assert_survives(f, nix_build);

    for (i = 0; i < count_of(failures); i++) {
        set_script(f->nix, failures[i]);
        assert_survives(f, nix_build_in_vain);
    }
}


static void
images(void **state)
{
    char       *storage;
    fixture_t  *f;

    f = *state;

    storage = format("%s/storage", f->dir);
    assert_int_equal(mkdir(storage, 0755), 0);
    f->settings.storage = nixery_storage_directory(storage, &f->err);
    assert_non_null(f->settings.storage);
    free(storage);

    f->settings.max_layers = 94;
    f->settings.threads = 2;

    set_script(f->nix, "ln -sf " RESULT " \"$2\"; echo " RESULT);

    assert_survives(f, build);

    f->settings.storage->free(f->settings.storage);
}


int
main(int argc, char *const *argv)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_fixture, remove_fixture)

    cJSON_Hooks  hooks = { __wrap_malloc, free };

    const struct CMUnitTest  tests[] = {
        test(urls),
        test(sources),
        test(fetches),
        test(questions),
        test(checkouts),
        test(builds),
        test(images),
    };

    if (unit_store(argv) == -1) {
        return 1;
    }

    if (mkdir(CONTENTS, 0755) == -1) {
        perror("make a folder in the store");
        return 1;
    }

    unit_write(RESULT, "{\"contents\":\"" CONTENTS "\",\"graph\":[{\"path\":\""
                       CONTENTS "\",\"narSize\":1,\"closureSize\":1,"
                       "\"references\":[]}]}", 0444);

    cJSON_InitHooks(&hooks);

    return cmocka_run_group_tests_name("nomem", tests, NULL, NULL);
}
