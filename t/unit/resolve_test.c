
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_resolve.h"


#define MINUTE   60000
#define CLIENTS  4


typedef struct {
    char                *dir;
    char                *temp;
    char                *url;
    char                *git;
    char                *script;
    char                *commits[3];    /* of main, side and tag */
    nixery_settings_t    settings;
    nixery_source_t      source;
    nixery_resolve_t     resolve;
} fixture_t;


typedef struct {
    nixery_resolve_t   resolve;
    int                rc;
} client_t;


static char *
output_of(char *command)
{
    char    *text;
    FILE    *fp;
    size_t   n;

    text = calloc(1, 4096);
    assert_non_null(text);

    fp = popen(command, "re");
    assert_non_null(fp);
    n = fread(text, 1, 4095, fp);
    assert_int_equal(pclose(fp), 0);

    while (n != 0 && text[n - 1] == '\n') {
        text[--n] = '\0';
    }

    free(command);

    return text;
}


static size_t
entries(const char *path)
{
    DIR     *dir;
    size_t   n;

    dir = opendir(path);
    assert_non_null(dir);

    for (n = 0; readdir(dir) != NULL; n++) {
        /* void */
    }

    (void) closedir(dir);

    return n - 2;
}


static void
set_script(fixture_t *f, const char *body)
{
    char  *text;

    text = format("#!/bin/sh\nprintf x >> '%s/runs'\n%s\n", f->dir, body);
    unit_write(f->script, text, 0755);
    free(text);

    f->settings.nix.git = f->script;
}


static int
resolve(fixture_t *f, const char *tag)
{
    nixery_resolve_free(&f->resolve);
    memset(&f->resolve.revision, 'x', sizeof(nixery_revision_t));

    f->resolve.settings = &f->settings;
    f->resolve.tag = format("%s", tag);

    return nixery_resolve_run(&f->resolve);
}


static void
resolves(fixture_t *f, const char *tag, const char *ref, const char *id)
{
    if (resolve(f, tag) != NIXERY_OK) {
        fail_msg("\"%s\": %s", tag, f->resolve.error.message);
    }

    assert_int_equal(f->resolve.error.kind, NIXERY_ERROR_NONE);
    assert_string_equal(f->resolve.revision.ref, ref);
    assert_string_equal(f->resolve.revision.id, id);

    /* the work folder is gone, what Nix caches is not */

    assert_int_equal(entries(f->temp), 1);
}


static void
refuses(fixture_t *f, const char *tag, nixery_error_e kind,
    const char *message)
{
    assert_int_equal(resolve(f, tag), NIXERY_ERROR);
    assert_string_equal(f->resolve.error.message, message);
    assert_int_equal(f->resolve.error.kind, kind);
}


static int
make_fixture(void **state)
{
    char        template[] = "/tmp/nixery-resolve-XXXXXX";
    size_t      i;
    fixture_t  *f;

    static const char  *names[] = { "main", "side", "tag^{commit}" };

    f = calloc(1, sizeof(fixture_t));

    if (f == NULL || mkdtemp(template) == NULL) {
        return -1;
    }

    f->dir = format("%s", template);
    f->temp = format("%s/temp", f->dir);
    f->url = format("file://%s/repo", f->dir);
    f->script = format("%s/script", f->dir);
    f->git = output_of(format("command -v git"));

    if (mkdir(f->temp, 0700) == -1) {
        return -1;
    }

    free(output_of(format("set -e; cd '%s'; export HOME=/nonexistent"
                          " GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a"
                          " GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a"
                          " GIT_COMMITTER_EMAIL=a; git init -q -b main repo;"
                          " cd repo; git commit -q --allow-empty -m one;"
                          " git tag -am tag tag;"
                          " git commit -q --allow-empty -m two;"
                          " git branch side; git branch latest tag^{};"
                          " git commit -q --allow-empty -m three", f->dir)));

    for (i = 0; i < 3; i++) {
        f->commits[i] = output_of(format("git -C '%s/repo' rev-parse '%s'",
                                         f->dir, names[i]));
    }

    f->source.kind = NIXERY_SOURCE_GIT;
    f->source.name = f->url;
    f->source.shown = "file://shown";

    f->settings.temp_path = f->temp;
    f->settings.nix.program = f->script;
    f->settings.nix.git = f->git;
    f->settings.nix.source = &f->source;
    f->settings.nix.timeout = MINUTE;

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    size_t      i;
    fixture_t  *f;

    f = *state;

    nixery_resolve_free(&f->resolve);

    free(output_of(format("rm -rf '%s'", f->dir)));

    for (i = 0; i < 3; i++) {
        free(f->commits[i]);
    }

    free(f->git);
    free(f->script);
    free(f->url);
    free(f->temp);
    free(f->dir);
    free(f);

    return 0;
}


static void
tags(void **state)
{
    fixture_t  *f;

    f = *state;

    resolves(f, "main", "refs/heads/main", f->commits[0]);
    resolves(f, "side", "refs/heads/side", f->commits[1]);
    resolves(f, "tag", "refs/tags/tag", f->commits[2]);
    resolves(f, "refs/heads/side", "refs/heads/side", f->commits[1]);
    resolves(f, "refs/tags/tag", "refs/tags/tag", f->commits[2]);

    /* the default branch, though there is one of that name */

    resolves(f, "latest", "refs/heads/main", f->commits[0]);
    resolves(f, "HEAD", "refs/heads/main", f->commits[0]);
    resolves(f, "refs/heads/latest", "refs/heads/latest", f->commits[2]);

    /* or what is said to be it */

    f->source.ref = "side";
    resolves(f, "latest", "refs/heads/side", f->commits[1]);
    resolves(f, "HEAD", "refs/heads/side", f->commits[1]);
    resolves(f, "main", "refs/heads/main", f->commits[0]);

    f->source.ref = "refs/tags/tag";
    resolves(f, "latest", "refs/tags/tag", f->commits[2]);

    f->source.ref = "nope";
    refuses(f, "latest", NIXERY_ERROR_REF,
            "git repository \"file://shown\" has no branch or tag \"nope\"");
    assert_int_equal(entries(f->temp), 1);
}


/* Whoever asked by a full name gets the same by asking for that. */

static void
again(void **state)
{
    char       *ref;
    fixture_t  *f;

    f = *state;

    assert_int_equal(resolve(f, "latest"), NIXERY_OK);
    ref = format("%s", f->resolve.revision.ref);
    resolves(f, ref, ref, f->commits[0]);
    free(ref);

    free(output_of(format("git -C '%s/repo' update-ref --no-deref HEAD"
                          " side 2>&1", f->dir)));
    assert_int_equal(resolve(f, "latest"), NIXERY_OK);
    assert_string_equal(f->resolve.revision.ref, "HEAD");
    resolves(f, "HEAD", "HEAD", f->commits[1]);
}


static void
failures(void **state)
{
    fixture_t  *f;

    f = *state;

    refuses(f, "nope", NIXERY_ERROR_REF,
            "git repository \"file://shown\" has no branch or tag \"nope\"");
    assert_int_equal(entries(f->temp), 1);

    set_script(f, "echo 'fatal: no' >&2; exit 128");
    refuses(f, "main", NIXERY_ERROR_SOURCE,
            "can't ask git repository \"file://shown\": no");
    assert_int_equal(entries(f->temp), 1);

    set_script(f, "echo \"fatal: repository 'u' not found\" >&2; exit 128");
    refuses(f, "main", NIXERY_ERROR_SOURCE,
            "there is no git repository at \"file://shown\"");

    f->settings.nix.timeout = 200;
    set_script(f, "exec sleep 1000");
    refuses(f, "main", NIXERY_ERROR_TIMEOUT,
            "git repository \"file://shown\" did not answer in time: the "
            "build did not finish within 200ms");
    assert_int_equal(entries(f->temp), 1);

    /* what it took is what a build has less */

    assert_in_range(f->resolve.time, 200, MINUTE);

    /* there is no place for the work folder */

    f->settings.nix.timeout = MINUTE;
    f->settings.nix.git = f->git;

    f->settings.temp_path = "/no/such/folder";
    assert_int_equal(resolve(f, "main"), NIXERY_ERROR);
    assert_int_equal(f->resolve.error.kind, NIXERY_ERROR_SYSTEM);
    assert_non_null(strstr(f->resolve.error.message, "/no/such/folder"));
    f->settings.temp_path = f->temp;

    resolves(f, "main", "refs/heads/main", f->commits[0]);
}


static void *
canceler(void *data)
{
    char         *path;
    fixture_t    *f;
    struct stat   sb;

    f = data;
    path = format("%s/runs", f->dir);

    while (stat(path, &sb) == -1) {
        (void) poll(NULL, 0, 1);
    }

    free(path);
    atomic_store(&f->resolve.cancel.flag, 1);

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
    assert_int_equal(entries(f->temp), 1);

    /* before it begins */

    set_script(f, "exit 1");
    refuses(f, "main", NIXERY_ERROR_CANCELED, "the build was canceled");

    terminate = 1;
    atomic_store(&f->resolve.cancel.flag, 0);
    f->resolve.cancel.terminate = &terminate;
    refuses(f, "main", NIXERY_ERROR_CANCELED, "the build was canceled");

    free(output_of(format("test $(wc -c < '%s/runs') = 1", f->dir)));
}


static void *
client(void *data)
{
    client_t  *c;

    c = data;
    c->rc = nixery_resolve_run(&c->resolve);

    return NULL;
}


static void
many_at_once(void **state)
{
    int         i, before;
    client_t    clients[CLIENTS];
    pthread_t   threads[CLIENTS];
    fixture_t  *f;

    static const char  *names[] = { "main", "side", "tag" };

    f = *state;

    before = unit_descriptors();

    for (i = 0; i < CLIENTS; i++) {
        memset(&clients[i], 0, sizeof(client_t));
        clients[i].resolve.settings = &f->settings;
        clients[i].resolve.tag = format("%s", names[i % 3]);
        assert_int_equal(pthread_create(&threads[i], NULL, client,
                                        &clients[i]),
                         0);
    }

    for (i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(clients[i].rc, NIXERY_OK);
        assert_string_equal(clients[i].resolve.revision.id,
                            f->commits[i % 3]);
        nixery_resolve_free(&clients[i].resolve);
        nixery_resolve_free(&clients[i].resolve);
    }

    assert_int_equal(entries(f->temp), 1);
    assert_int_equal(unit_descriptors(), before);
}


int
main(void)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_fixture, remove_fixture)

    const struct CMUnitTest  tests[] = {
        test(tags),
        test(again),
        test(failures),
        test(canceled),
        test(many_at_once),
    };

    return cmocka_run_group_tests_name("resolve", tests, NULL, NULL);
}
