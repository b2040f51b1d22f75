
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/*
 * Builds and the commit that they are of: what moves meanwhile, what a builder
 * says it built, and how images are labelled.  nix-build, and git where it is
 * asked what a reference stands for, are shell scripts that each test writes;
 * checkouts are real.
 */

#include <sys/stat.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include "unit.h"
#include "nixery_build.h"


#define CONTENTS  "/nix/store/00000000000000000000000000000000-contents"
#define RESULT    "/nix/store/11111111111111111111111111111111-result.json"

#define A  "0123456789abcdef0123456789abcdef01234567"
#define B  "89abcdef0123456789abcdef0123456789abcdef"

#define MAIN  "refs/heads/main"
#define URL   "https://host.example/a"

#define LABEL  "org.opencontainers.image."

#define MINUTE  60000


typedef struct {
    char               *dir;
    char               *temp;
    char               *repo;
    char               *nix;        /* scripts */
    char               *git;
    nixery_settings_t   settings;
    nixery_source_t     source;
    nixery_build_t      build;
} fixture_t;


/* Commands of git's, in the fixture's folder. */

static void
git(fixture_t *f, const char *command)
{
    unit_shell("set -e; cd '%s'; export HOME=/nonexistent"
                     " GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a"
                     " GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a"
                     " GIT_COMMITTER_EMAIL=a; { %s; } >/dev/null 2>&1",
                     f->dir, command);
}


static void
set_script(const char *path, const char *dir, const char *name,
    const char *body)
{
    char  *text;

    text = format("#!/bin/sh\ndir='%s'\nprintf x >> \"$dir/%s-runs\"\n%s\n",
                  dir, name, body);
    unit_write(path, text, 0755);
    free(text);
}


static void
set_nix(fixture_t *f, const char *body)
{
    char  *text;

    text = format("%s\nln -s " RESULT " \"$2\"; echo " RESULT, body);
    set_script(f->nix, f->dir, "nix", text);
    free(text);
}


static void
set_git(fixture_t *f, const char *body)
{
    set_script(f->git, f->dir, "git", body);
    f->settings.nix.git = f->git;
}


/* What MAIN stands for when that is asked for. */

static void
set_main(fixture_t *f, const char *id)
{
    char  *body;

    body = format("printf '%s\\t" MAIN "\\n'", id);
    set_git(f, body);
    free(body);
}


/* How often that script ran, since it was last asked. */

static size_t
runs(fixture_t *f, const char *name)
{
    char         *path;
    size_t        n;
    struct stat   sb;

    path = format("%s/%s-runs", f->dir, name);

    n = stat(path, &sb) == 0 ? (size_t) sb.st_size : 0;
    (void) unlink(path);

    free(path);

    return n;
}


static void
set_result(const char *revision)
{
    char  *text;

    text = format("{\"contents\":\"" CONTENTS "\",\"graph\":[{\"path\":\""
                  CONTENTS "\",\"narSize\":1,\"closureSize\":1,"
                  "\"references\":[]}]%s%s%s}",
                  revision ? ",\"revision\":\"" : "", revision ? revision : "",
                  revision ? "\"" : "");
    unit_write(RESULT, text, 0444);
    free(text);
}


static void
start(fixture_t *f, const char *ref, const char *id)
{
    nixery_build_free(&f->build);
    memset(&f->build, 0, sizeof(nixery_build_t));

    f->build.settings = &f->settings;
    (void) strcpy(f->build.revision.ref, ref);
    (void) strcpy(f->build.revision.id, id);

    f->build.image.name = format("hello");
    f->build.image.packages = calloc(2, sizeof(char *));
    assert_non_null(f->build.image.packages);
    f->build.image.packages[f->build.image.npackages++] = format("hello");

    assert_int_equal(nixery_build_key(&f->settings, &f->build.image,
                                      &f->build.revision, NULL,
                                      f->build.key),
                     NIXERY_OK);

    (void) runs(f, "nix");
    (void) runs(f, "git");
}


static void
assert_stored(fixture_t *f, int stored)
{
    char  *path;

    path = format("%s/storage/manifests/%s", f->dir, f->build.key);
    assert_int_equal(access(path, F_OK) == 0, stored);
    free(path);
}


static void
assert_built(fixture_t *f)
{
    if (nixery_build_run(&f->build) != NIXERY_OK) {
        fail_msg("%s\n%s", f->build.error.message,
                 f->build.error.log ? f->build.error.log : "");
    }

    assert_int_equal(f->build.error.kind, NIXERY_ERROR_NONE);
    assert_null(f->build.error.message);
    assert_stored(f, 1);
}


static void
assert_failed(fixture_t *f, nixery_error_e kind, const char *message)
{
    assert_int_equal(nixery_build_run(&f->build), NIXERY_ERROR);
    assert_int_equal(f->build.error.kind, kind);
    assert_string_equal(f->build.error.message, message);
    assert_null(f->build.manifest.data);
    assert_stored(f, 0);
}


static void
wipe_storage(fixture_t *f)
{
    unit_shell("rm -rf '%s'/storage/*/*", f->dir);
}


static cJSON *
stored_json(fixture_t *f, const char *digest)
{
    char     *path, *text;
    FILE     *fp;
    cJSON    *json;
    size_t    n;

    path = format("%s/storage/layers/%s", f->dir, digest);
    text = calloc(1, 65536);
    fp = fopen(path, "re");
    assert_non_null(text);
    assert_non_null(fp);

    n = fread(text, 1, 65535, fp);
    assert_true(n > 0);
    assert_int_equal(fclose(fp), 0);

    json = cJSON_Parse(text);
    assert_non_null(json);

    free(text);
    free(path);

    return json;
}


/* A label of the config that the manifest has; value NULL: it has none. */

static void
assert_label(fixture_t *f, const char *name, const char *value)
{
    char         *key;
    cJSON        *manifest, *config;
    const char   *digest, *label;

    manifest = stored_json(f, f->build.digest);
    digest = cJSON_GetStringValue(cJSON_GetObjectItem(
        cJSON_GetObjectItem(manifest, "config"), "digest"));
    config = stored_json(f, digest + sizeof("sha256:") - 1);

    key = format(LABEL "%s", name);
    label = cJSON_GetStringValue(cJSON_GetObjectItem(
        cJSON_GetObjectItem(cJSON_GetObjectItem(config, "config"), "Labels"),
        key));

    if (value == NULL) {
        assert_null(label);

    } else {
        assert_non_null(label);
        assert_string_equal(label, value);
    }

    free(key);
    cJSON_Delete(manifest);
    cJSON_Delete(config);
}


/* The commit of the checkout, and what stands behind it. */

static void
assert_revision(fixture_t *f, const char *commit, const char *suffix)
{
    char   id[41] = "", *command, *expected;
    FILE  *fp;

    command = format("git -C '%s' rev-parse '%s'", f->repo, commit);
    fp = popen(command, "re");
    assert_non_null(fp);
    assert_int_equal(fread(id, 1, 40, fp), 40);
    assert_int_not_equal(pclose(fp), -1);
    free(command);

    expected = format("%s%s", id, suffix);
    assert_string_equal(f->build.revision.id, expected);
    assert_label(f, "revision", expected);
    free(expected);
}


static int
make_fixture(void **state)
{
    char            template[] = "/tmp/nixery-build-source-XXXXXX", *storage;
    fixture_t      *f;
    nixery_error_t  err = { 0 };

    f = calloc(1, sizeof(fixture_t));

    if (f == NULL || mkdtemp(template) == NULL) {
        return -1;
    }

    f->dir = format("%s", template);
    f->temp = format("%s/temp", f->dir);
    f->repo = format("%s/repo", f->dir);
    f->nix = format("%s/nix-build", f->dir);
    f->git = format("%s/git", f->dir);

    storage = format("%s/storage", f->dir);

    if (mkdir(f->temp, 0755) == -1 || mkdir(storage, 0755) == -1) {
        return -1;
    }

    f->settings.storage = nixery_storage_directory(storage, &err);
    assert_non_null(f->settings.storage);
    free(storage);

    set_result(NULL);
    set_nix(f, "");
    set_main(f, A);

    f->source.kind = NIXERY_SOURCE_GIT;
    f->source.name = URL;
    f->source.shown = URL;

    f->settings.nix.program = f->nix;
    f->settings.nix.builder = "/builder.nix";
    f->settings.nix.source = &f->source;
    f->settings.nix.timeout = MINUTE;
    f->settings.builder_id = "builder";
    f->settings.nix.system = "x86_64-linux";
    f->settings.temp_path = f->temp;
    f->settings.max_layers = 94;
    f->settings.threads = 1;

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;

    nixery_build_free(&f->build);
    f->settings.storage->free(f->settings.storage);

    unit_shell("rm -rf '%s' " RESULT, f->dir);

    free(f->git);
    free(f->nix);
    free(f->repo);
    free(f->temp);
    free(f->dir);
    free(f);

    return 0;
}


/* The source is a checkout with one commit; git is the real one. */

static void
set_checkout(fixture_t *f)
{
    git(f, "git init -b main repo; cd repo; echo one > file; git add file;"
           "git commit -m one");

    unit_shell("ln -sf \"$(command -v git)\" '%s'", f->git);

    f->settings.nix.git = f->git;
    f->source.kind = NIXERY_SOURCE_PATH;
    f->source.name = f->repo;
    f->source.shown = NULL;
}


/* --- what a builder says */

static void
echoed(void **state)
{
    fixture_t  *f;

    f = *state;

    /* nobody has to be asked again */

    set_main(f, B);
    set_result(A);
    start(f, MAIN, A);
    assert_built(f);
    assert_int_equal(runs(f, "git"), 0);
    assert_label(f, "revision", A);
    assert_label(f, "source", URL);
    assert_label(f, "title", "hello");

    /* a commit that is named by its digits */

    wipe_storage(f);
    start(f, "", A);
    assert_built(f);
    assert_int_equal(runs(f, "git"), 0);
    assert_label(f, "revision", A);
}


static void
echoed_wrongly(void **state)
{
    char       *text;
    fixture_t  *f;

    f = *state;

    set_result(B);
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_RESULT,
                  "the builder's result is of revision \"" B "\", not of \""
                  A "\"");
    assert_int_equal(runs(f, "git"), 0);

    start(f, "", A);
    assert_failed(f, NIXERY_ERROR_RESULT,
                  "the builder's result is of revision \"" B "\", not of \""
                  A "\"");

    /* as long as it likes */

    text = format("%01000d", 0);
    set_result(text);
    free(text);

    text = format("the builder's result is of revision \"%0255d\", not of \""
                  A "\"", 0);
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_RESULT, text);
    free(text);

    /* a path has none that could be wrong */

    f->source.kind = NIXERY_SOURCE_PATH;
    f->source.name = f->dir;
    set_result(B);
    start(f, "", "");
    assert_built(f);
    assert_label(f, "revision", NULL);
}


/* --- what moves */

static void
moved(void **state)
{
    fixture_t  *f;

    f = *state;

    /* a builder that says nothing: the branch is where it was */

    start(f, MAIN, A);
    assert_built(f);
    assert_int_equal(runs(f, "git"), 1);
    assert_label(f, "revision", A);

    /* an empty revision is none */

    wipe_storage(f);
    set_result("");
    start(f, MAIN, A);
    assert_built(f);
    assert_int_equal(runs(f, "git"), 1);
    set_result(NULL);

    /* it is elsewhere, or nowhere; git can't tell */

    wipe_storage(f);
    set_main(f, B);
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_MOVED,
                  "\"" MAIN "\" moved from " A " to " B " while it was built");
    assert_int_equal(runs(f, "nix"), 1);
    assert_int_equal(runs(f, "git"), 1);

    set_git(f, "");
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_REF,
                  "git repository \"" URL "\" has no branch or tag \"" MAIN
                  "\"");

    set_git(f, "echo 'fatal: no' >&2; exit 128");
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_SOURCE,
                  "can't ask git repository \"" URL "\": no");

    /* a commit stays what it is */

    start(f, "", A);
    assert_built(f);
    assert_int_equal(runs(f, "git"), 0);
    assert_label(f, "revision", A);
}


/* Nix has not found the commit: it went away, or was never there. */

static void
commit_is_gone(void **state)
{
    fixture_t  *f;

    static const char  none[] = "git repository \"" URL "\" has no commit " A;

    f = *state;

    set_nix(f, "echo \"error: Cannot find Git revision '" A "' in ref '" MAIN
               "' of repository '" URL "'! Please make sure\" >&2; exit 1");

    set_main(f, B);
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_MOVED,
                  "\"" MAIN "\" moved from " A " to " B " while it was built");
    assert_int_equal(runs(f, "nix"), 1);
    assert_int_equal(runs(f, "git"), 1);

    /* the branch says that it is there */

    set_main(f, A);
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_REF, none);
    assert_int_equal(runs(f, "git"), 1);

    /* nor is the branch there */

    set_git(f, "");
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_REF,
                  "git repository \"" URL "\" has no branch or tag \"" MAIN
                  "\"");

    start(f, "", A);
    assert_failed(f, NIXERY_ERROR_REF, none);
    assert_int_equal(runs(f, "git"), 0);

    /* any other failure is what it is */

    set_nix(f, "echo 'error: no' >&2; exit 1");
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_NIX,
                  "nix-build failed with exit code 1: no");
    assert_int_equal(runs(f, "git"), 0);
}


static void
late_answer(void **state)
{
    fixture_t  *f;

    f = *state;

    f->settings.nix.timeout = 500;
    set_git(f, "exec sleep 1000");
    start(f, MAIN, A);
    assert_failed(f, NIXERY_ERROR_TIMEOUT,
                  "git repository \"https://host.example/a\" did not answer in "
                  "time: the build did not finish within 500ms");
}


/* --- what is stored */

static void
known_commits(void **state)
{
    char       *key;
    fixture_t  *f;

    f = *state;

    start(f, MAIN, A);
    assert_built(f);
    assert_int_equal(runs(f, "nix"), 1);
    key = format("%s", f->build.key);

    /* by whatever name */

    start(f, "refs/tags/v1", A);
    assert_string_equal(f->build.key, key);
    assert_built(f);
    assert_int_equal(runs(f, "nix"), 0);
    assert_int_equal(runs(f, "git"), 0);

    start(f, "", A);
    assert_string_equal(f->build.key, key);
    assert_built(f);
    assert_int_equal(runs(f, "nix"), 0);
    assert_int_equal(runs(f, "git"), 0);
    assert_label(f, "revision", A);

    set_main(f, B);
    start(f, MAIN, B);
    assert_string_not_equal(f->build.key, key);
    assert_built(f);
    assert_int_equal(runs(f, "nix"), 1);
    assert_label(f, "revision", B);

    free(key);
}


static void
keys(void **state)
{
    size_t      i, k;
    fixture_t  *f;

    static const struct {
        nixery_source_e   kind;
        unsigned          submodules;
        const char       *name;
        const char       *url;
        const char       *ref;
        const char       *id;
        int               same;       /* as the number of that one */
    } cases[] = {
        { NIXERY_SOURCE_GIT, 0, URL, NULL, MAIN, A, 0 },
        { NIXERY_SOURCE_GIT, 0, URL, NULL, "refs/heads/b", A, 0 },
        { NIXERY_SOURCE_GIT, 0, URL, NULL, "HEAD", A, 0 },
        { NIXERY_SOURCE_GIT, 0, URL, NULL, "", A, 0 },
        { NIXERY_SOURCE_GIT, 0, URL, NULL, MAIN, B, 4 },
        { NIXERY_SOURCE_GIT, 0, URL "/b", NULL, MAIN, A, 5 },
        { NIXERY_SOURCE_GIT, 1, URL, NULL, MAIN, A, 6 },
        { NIXERY_SOURCE_GIT, 0, URL, NULL, MAIN, "", 7 },

        /* its name is not what it is, the commit is */

        { NIXERY_SOURCE_CHANNEL, 0, "a", URL "/$channel", "a", A, 8 },
        { NIXERY_SOURCE_CHANNEL, 0, "b", URL "/$channel", "b", A, 8 },
        { NIXERY_SOURCE_CHANNEL, 0, A, URL "/$channel", "", A, 8 },
        { NIXERY_SOURCE_CHANNEL, 0, "a", URL "/$channel", "a", B, 11 },
        { NIXERY_SOURCE_CHANNEL, 0, "a", URL "/b/$channel", "a", A, 12 },
        { NIXERY_SOURCE_CHANNEL, 0, "a", URL, "a", A, 13 },

        /* a path may have changed, whatever commit it is at */

        { NIXERY_SOURCE_PATH, 0, "/a", NULL, "", "", 14 },
        { NIXERY_SOURCE_PATH, 0, "/a", NULL, "", A, 14 },
        { NIXERY_SOURCE_PATH, 0, "/a", NULL, "", A "-dirty", 14 },
        { NIXERY_SOURCE_PATH, 0, URL, NULL, MAIN, A, 17 },
    };

    char  keys[sizeof(cases) / sizeof(cases[0])][NIXERY_HEX_LEN + 1];

    f = *state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        f->source.kind = cases[i].kind;
        f->source.submodules = cases[i].submodules;
        f->source.name = cases[i].name;
        f->source.url = cases[i].url;

        start(f, cases[i].ref, cases[i].id);
        (void) strcpy(keys[i], f->build.key);

        for (k = 0; k < i; k++) {
            if ((strcmp(keys[i], keys[k]) == 0)
                != (cases[i].same == cases[k].same))
            {
                fail_msg("keys %zu and %zu", k, i);
            }
        }
    }

    /* who may read it, and what people see, is not what it is */

    f->source.kind = NIXERY_SOURCE_GIT;
    f->source.submodules = 0;
    f->source.name = URL;
    f->source.url = NULL;
    f->source.shown = "x";
    f->source.user = "ann";
    f->source.password = "hunter2";
    f->source.credentials = "/c";
    f->source.key = "/k";
    f->source.known_hosts = "/h";
    f->source.ref = "x";
    start(f, MAIN, A);
    assert_string_equal(f->build.key, keys[0]);
}


/* --- checkouts */

static void
checkout(void **state)
{
    fixture_t  *f;

    f = *state;
    set_checkout(f);

    start(f, "", "");
    assert_built(f);
    assert_revision(f, "main", "");
    assert_label(f, "source", NULL);

    /* it may have changed: Nix is asked each time */

    git(f, "cd repo; echo two > file; git commit -am two");
    start(f, "", "");
    assert_built(f);
    assert_int_equal(runs(f, "nix"), 1);
    assert_revision(f, "main", "");

    git(f, "cd repo; echo three > file");
    start(f, "", "");
    assert_built(f);
    assert_revision(f, "main", "-dirty");

    /* no checkout, no label */

    git(f, "rm -rf repo/.git");
    start(f, "", "");
    assert_built(f);
    assert_string_equal(f->build.revision.id, "");
    assert_label(f, "revision", NULL);
}


/* A commit while Nix reads the files: they are of neither. */

static void
checkout_moves(void **state)
{
    fixture_t  *f;

    static const char  prefix[] = "export HOME=/nonexistent GIT_AUTHOR_NAME=a"
                                  " GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a"
                                  " GIT_COMMITTER_EMAIL=a; cd \"$dir/repo\";"
                                  " { %s; } >/dev/null 2>&1";

    static const struct {
        const char  *command;
        const char  *commit;
        const char  *suffix;
    } cases[] = {
        { "git commit --allow-empty -m two", "main", "-dirty" },
        { "git checkout -q HEAD^", "HEAD", "-dirty" },
        { "git checkout -q --detach main", "HEAD", "-dirty" },
        { "git branch other", "main", "" },
        { "touch new", "main", "-dirty" },
        { "rm new", "main", "-dirty" },
        { "true", "main", "" },
    };

    char    *body, *command;
    size_t   i;

    f = *state;
    set_checkout(f);

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        command = format("%.*s%s%s",
                         (int) (strstr(prefix, "%s") - prefix), prefix,
                         cases[i].command, strstr(prefix, "%s") + 2);
        body = format("%s; cd /", command);
        set_nix(f, body);
        free(body);
        free(command);

        start(f, "", "");
        assert_built(f);
        assert_revision(f, cases[i].commit, cases[i].suffix);
    }

    /* it is none any more */

    set_nix(f, "rm -rf \"$dir/repo/.git\"");
    start(f, "", "");
    assert_built(f);
    assert_label(f, "revision", NULL);
}


static void
checkout_fails(void **state)
{
    char       *message;
    fixture_t  *f;

    f = *state;
    set_checkout(f);

    message = format("can't ask git repository \"%s\": not a git repository "
                     "(or any of the parent directories): .git", f->repo);

    set_nix(f, "rm \"$dir/repo/.git/HEAD\"");
    start(f, "", "");
    assert_failed(f, NIXERY_ERROR_SOURCE, message);
    assert_int_equal(runs(f, "nix"), 1);

    start(f, "", "");
    assert_failed(f, NIXERY_ERROR_SOURCE, message);
    assert_int_equal(runs(f, "nix"), 0);

    free(message);

    /* nobody looks at what cannot change */

    f->source.immutable = 1;
    set_nix(f, "");
    start(f, "", "");
    assert_built(f);
    assert_label(f, "revision", NULL);
}


/* --- time */

static void
waited(void **state)
{
    uint64_t    ms;
    fixture_t  *f;

    f = *state;

    /* what was waited for the commit is what Nix has less */

    set_result(A);
    set_nix(f, "exec sleep 1000");
    start(f, MAIN, A);
    f->build.waited = MINUTE - 2000;
    assert_failed(f, NIXERY_ERROR_TIMEOUT,
                  "the build did not finish within 1m");
    assert_int_equal(runs(f, "nix"), 1);

    for (ms = MINUTE; ms <= 2 * MINUTE; ms += MINUTE) {
        start(f, MAIN, A);
        f->build.waited = ms;
        assert_failed(f, NIXERY_ERROR_TIMEOUT,
                      "the build did not finish within 1m");
        assert_int_equal(runs(f, "nix"), 0);
    }

    /* what is stored is there at once */

    set_nix(f, "");
    start(f, MAIN, A);
    assert_built(f);
    start(f, MAIN, A);
    f->build.waited = MINUTE;
    assert_built(f);
}


int
main(int argc, char *const *argv)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_fixture, remove_fixture)

    const struct CMUnitTest  tests[] = {
        test(echoed),
        test(echoed_wrongly),
        test(moved),
        test(commit_is_gone),
        test(late_answer),
        test(known_commits),
        test(keys),
        test(checkout),
        test(checkout_moves),
        test(checkout_fails),
        test(waited),
    };

    if (unit_store(argv) == -1) {
        return 1;
    }

    (void) umask(022);

    if (mkdir(CONTENTS, 0755) == -1) {
        perror("make a folder in the store");
        return 1;
    }

    return cmocka_run_group_tests_name("build_source", tests, NULL, NULL);
}
