
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include "unit.h"
#include "nixery_build.h"
#include "nixery_layers.h"
#include "nixery_oci.h"
#include "nixery_sha256.h"
#include "nixery_work.h"


/*
 * The store that these tests see is a file system of their own, mounted on
 * /nix/store in a namespace of their own: the same bytes on every machine.
 */


#define LIBC       "/nix/store/00000000000000000000000000000000-libc-1"
#define BASH       "/nix/store/11111111111111111111111111111111-bash-5"
#define HELLO      "/nix/store/22222222222222222222222222222222-hello-2"
#define DATA       "/nix/store/33333333333333333333333333333333-data-3"
#define CONTENTS   "/nix/store/44444444444444444444444444444444-contents"
#define RESULT     "/nix/store/55555555555555555555555555555555-result.json"
#define BLOBS      "/nix/store/66666666666666666666666666666666-blobs"
#define TARBALL    "/nix/store/77777777777777777777777777777777-layer.tar"

/* The digest of the fixture's image: what it must be on every machine. */

#define GOLDEN                                                               \
    "e0735d7d29f05a1e67dadd98276cbcccc39003c3ab44a476ca311b52a27e08c8"

#define CONFIG_TEXT  "{\"a\":\"config\"}"
#define LAYER_TEXT   "this is a layer"
#define LAYER_MD5    "neq5JkHYFKY8xXvCBkJa4A=="

#define DATA_SIZE  (3 * 1024 * 1024 + 4711)
#define BUILDERS   4

/* The storage that is tested with: counts, fails, or kills on the way. */

typedef struct {
    nixery_storage_t     st;
    nixery_storage_t    *real;
    atomic_int           calls;
    int                  fail_at;
    int                  kill_at;
    int                  cancel_at;
    nixery_build_t      *build;
    const char          *temp;       /* where the out-link has to stand */
    atomic_int           unprotected;
    atomic_int           key_last;   /* the last put was of a key */
} probe_t;


typedef struct {
    char                *dir;
    char                *script;
    char                *storage_path;
    char                *temp;
    nixery_settings_t    settings;
    nixery_source_t      source;
    probe_t              probe;
    nixery_build_t       build;
} fixture_t;


static int make_fixture(void **state);
static int remove_fixture(void **state);
static char *output_of(char *command);
static void make_store(void);
static void make_graph(int reverse);
static void make_script(fixture_t *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static size_t nix_runs(fixture_t *f);
static size_t entries(const char *path);
static void open_storage(fixture_t *f);
static void wipe_storage(fixture_t *f);
static char *object_path(fixture_t *f, const char *folder, const char *hex);
static void start(fixture_t *f, const char *name);
static void assert_built(fixture_t *f);
static void assert_failed(fixture_t *f, nixery_error_e kind,
    const char *message);
static void assert_nothing_left(fixture_t *f);
static void assert_image_whole(fixture_t *f);
static void assert_objects_whole(fixture_t *f);
static void assert_key_differs(const nixery_settings_t *settings,
    const char *name, const char *key);
static char *key_of(const nixery_settings_t *settings, const char *name);
static char *blob(const char *name, const char *text);
static void make_prebuilt(const char *manifest, const char *name,
    const char *md5);
static char *prebuilt_manifest(size_t layer_size);
static char *make_prepared(const char *members);
static void *builder(void *data);
static void *canceler(void *data);

static int probe_call(probe_t *p, const char *object, int put,
    nixery_error_t *err);
static int probe_stat(nixery_storage_t *st, const char *object,
    uint64_t *size, nixery_error_t *err);
static int probe_put_file(nixery_storage_t *st, const char *object,
    const char *file, uint64_t size, const char *sha256, nixery_error_t *err);
static int probe_put_bytes(nixery_storage_t *st, const char *object,
    const void *data, size_t len, nixery_error_t *err);
static int probe_get(nixery_storage_t *st, const char *object, size_t max,
    nixery_buf_t *out, nixery_error_t *err);
static int probe_locate(nixery_storage_t *st, const char *object,
    nixery_buf_t *path);
static void probe_free(nixery_storage_t *st);


static void
closure(void **state)
{
    fixture_t  *f;

    f = *state;

    start(f, "hello/shell");
    assert_built(f);
    assert_image_whole(f);

    assert_string_equal(f->build.media_type, NIXERY_OCI_MANIFEST);
    assert_int_equal(f->build.layers_made, 5);
    assert_int_equal(f->build.layers_reused, 0);
    assert_true(f->build.bytes_made > DATA_SIZE);
    assert_int_equal(nix_runs(f), 1);

    /* a source that may have moved is asked again; nothing is packed */

    start(f, "hello/shell");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 0);
    assert_int_equal(f->build.layers_reused, 5);
    assert_int_equal(f->build.bytes_made, 0);
    assert_int_equal(nix_runs(f), 2);

    assert_int_equal(f->probe.unprotected, 0);
}


static void
always_the_same_digest(void **state)
{
    size_t      i;
    fixture_t  *f;

    static const struct {
        unsigned     threads;
        const char  *name;
    } cases[] = {
        { 1, "hello/git" },
        { 2, "git/hello" },
        { 8, "git/hello/git/git" },
        { 0, "hello/hello/git" }
    };

    f = *state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        make_graph(i % 2);
        f->settings.threads = cases[i].threads;

        start(f, cases[i].name);
        assert_built(f);
        assert_string_equal(f->build.digest, GOLDEN);
        assert_int_equal(f->build.layers_made, 5);

        wipe_storage(f);
    }
}


static void
known_images_need_no_nix(void **state)
{
    char       *path, *digest;
    fixture_t  *f;

    f = *state;
    f->source.immutable = 1;

    start(f, "hello");
    assert_built(f);
    assert_int_equal(nix_runs(f), 1);
    digest = strdup(f->build.digest);

    start(f, "hello");
    assert_built(f);
    assert_int_equal(nix_runs(f), 1);
    assert_string_equal(f->build.digest, digest);
    assert_string_equal(f->build.media_type, NIXERY_OCI_MANIFEST);

    /* the manifest's own blob comes back from the key */

    path = object_path(f, "layers", digest);
    assert_int_equal(unlink(path), 0);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(nix_runs(f), 1);
    assert_int_equal(access(path, F_OK), 0);
    free(path);

    /* without its blobs an image is none */

    unit_shell("ls -S '%s/layers' | head -n1 | "
                     "xargs -I{} rm '%s/layers/{}'", f->storage_path,
                     f->storage_path);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(nix_runs(f), 2);
    assert_image_whole(f);

    /* of another size, too */

    unit_shell("ls -S '%s/layers' | head -n1 | "
                     "xargs -I{} truncate -s 100 '%s/layers/{}'",
                     f->storage_path, f->storage_path);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(nix_runs(f), 3);
    assert_image_whole(f);

    /* what is no manifest is none */

    path = object_path(f, "manifests", f->build.key);

    unit_write(path, "{}", 0644);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(nix_runs(f), 4);

    unit_write(path, "{\"schemaVersion\":2,", 0644);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(nix_runs(f), 5);
    assert_string_equal(f->build.digest, digest);

    free(path);
    free(digest);
}


static void
bad_records_are_replaced(void **state)
{
    char            *path, *good, *other, *text;
    size_t           i;
    fixture_t       *f;
    nixery_layer_t   layer = { 0 };

    static const char  *data[] = { DATA };

    static const char  *records[] = {
        "", "{", "null", "[]", "{}", "\xff",
        "{\"key\":1,\"digest\":2,\"size\":3,\"diffId\":4,\"tarSize\":5}",
        NULL
    };

    char  key[NIXERY_HEX_LEN + 1];

    f = *state;

    start(f, "hello");
    assert_built(f);

    layer.paths = data;
    layer.npaths = 1;
    assert_int_equal(nixery_layer_key(&layer, key), NIXERY_OK);

    path = object_path(f, "builds", key);
    good = output_of(format("cat '%s'", path));
    assert_non_null(strstr(good, "\"diffId\":\"sha256:"));

    for (i = 0; records[i] != NULL; i++) {
        unit_write(path, records[i], 0644);
        start(f, "hello");
        assert_built(f);
        assert_int_equal(f->build.layers_made, 1);
        text = output_of(format("cat '%s'", path));
        assert_string_equal(text, good);
        free(text);
    }

    /* of another layer, of another size, of nothing, far too long */

    assert_int_equal(nixery_layer_key_top(CONTENTS, key), NIXERY_OK);
    other = object_path(f, "builds", key);
    unit_shell("cp '%s' '%s'", other, path);
    free(other);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 1);

    unit_shell("sed -i 's/\"size\":/\"size\":1/' '%s'", path);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 1);

    unit_shell("sed -i 's/\"size\":/\"size\":0.5e1/' '%s'", path);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 1);

    unit_shell("sed -i 's/\"tarSize\":/\"tarSize\":-/' '%s'", path);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 1);

    unit_shell("sed -i 's/\"digest\":\"sha256:...../"
                     "\"digest\":\"sha256:00000/' '%s'", path);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 1);

    unit_shell("head -c 5000 /dev/zero > '%s'", path);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 1);

    text = output_of(format("cat '%s'", path));
    assert_string_equal(text, good);
    assert_image_whole(f);

    free(text);
    free(good);
    free(path);
}


static void
popularity(void **state)
{
    char                 digest[NIXERY_HEX_LEN + 1], key[NIXERY_HEX_LEN + 1];
    fixture_t           *f;
    nixery_error_t       err = { 0 };
    nixery_popularity_t *table;

    static const char    text[] = "{\"libc\": 1000000}";

    f = *state;

    /* the data alone, and all others */

    f->settings.max_layers = 3;

    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 3);
    memcpy(digest, f->build.digest, sizeof(digest));
    memcpy(key, f->build.key, sizeof(key));

    /* a table that knows none of them changes the key alone */

    table = nixery_popularity_parse("{}", 2, "\"empty\"", &err);
    assert_non_null(table);

    start(f, "hello");
    f->build.popularity = table;
    assert_int_equal(nixery_build_key(&f->settings, &f->build.image,
                                      &f->build.revision, table,
                                      f->build.key),
                     NIXERY_OK);
    assert_string_not_equal(f->build.key, key);
    assert_built(f);
    assert_int_equal(f->build.layers_made, 0);
    assert_string_equal(f->build.digest, digest);

    /* libc is larger than bash now, and has a layer of its own */

    f->settings.max_layers = 4;

    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 2);
    memcpy(digest, f->build.digest, sizeof(digest));

    table = nixery_popularity_parse(text, sizeof(text) - 1, "\"text\"", &err);
    assert_non_null(table);

    start(f, "hello");
    f->build.popularity = table;
    assert_built(f);
    assert_int_equal(f->build.layers_made, 2);
    assert_string_not_equal(f->build.digest, digest);
    assert_image_whole(f);

    /* the build's own reference is the last one */

    nixery_build_free(&f->build);
    assert_null(f->build.popularity);
    nixery_build_free(&f->build);
}


static void
prebuilt(void **state)
{
    char       *config, *layer, *manifest, *text, *path;
    fixture_t  *f;

    f = *state;

    config = blob("config", CONFIG_TEXT);
    layer = blob("layer", LAYER_TEXT);

    /* white space and order stay as they are */

    manifest = format("{  \"layers\" : [ {\"size\":15, \"digest\":\n\t\"sha256:"
                      "%s\"} ],\"config\":{\"digest\":\"sha256:%s\","
                      "\"size\":14},\"mediaType\":\"application/vnd.docker."
                      "distribution.manifest.v2+json\", \"schemaVersion\":2 }",
                      layer, config);
    make_prebuilt(manifest, "layer", LAYER_MD5);

    start(f, "hello");
    assert_built(f);
    assert_string_equal(f->build.manifest.data, manifest);
    assert_string_equal(f->build.media_type, "application/vnd.docker."
                                             "distribution.manifest.v2+json");
    assert_int_equal(f->build.layers_made, 2);
    assert_int_equal(f->build.bytes_made, 29);
    assert_objects_whole(f);

    path = object_path(f, "layers", layer);
    text = output_of(format("cat '%s'", path));
    assert_string_equal(text, LAYER_TEXT);
    free(text);

    /* copied, neither moved away nor linked */

    unit_shell("test $(stat -c %%h " BLOBS "/layer) = 1");

    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 0);
    assert_int_equal(f->build.layers_reused, 2);

    /* an object that was cut off is replaced */

    unit_shell("truncate -s 3 '%s'", path);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 1);
    assert_objects_whole(f);

    assert_int_equal(f->probe.unprotected, 0);

    free(path);
    free(manifest);
    free(layer);
    free(config);
}


static void
prebuilt_that_lies(void **state)
{
    char       *manifest;
    size_t      i;
    fixture_t  *f;

    static const struct {
        const char  *name;
        const char  *md5;
        const char  *message;
    } cases[] = {
        { "missing", NULL, "can't be read: No such file or directory" },
        { "config", NULL, "but the SHA-256 of \"" BLOBS "/config\" is " },
        { "layer", "AAAAAAAAAAAAAAAAAAAAAA==",
          "says the MD5 of \"" BLOBS "/layer\" is AAAAAAAAAAAAAAAAAAAAAA==, "
          "but it is " LAYER_MD5 },
        { "folder", NULL, "is not a regular file" },
        { "fifo", NULL, "is not a regular file" },
        { "out", NULL, "\"" BLOBS "/out\" leads out of /nix/store" },
        { "loop", NULL, "can't be read: Too many levels of symbolic links" },
    };

    f = *state;

    unit_shell("cd " BLOBS " && mkdir folder && mkfifo fifo && "
                     "ln -s /etc/passwd out && ln -s loop loop && "
                     "ln -s layer in");

    manifest = prebuilt_manifest(15);

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        make_prebuilt(manifest, cases[i].name, cases[i].md5);
        start(f, "hello");
        assert_failed(f, NIXERY_ERROR_RESULT, cases[i].message);
        assert_objects_whole(f);
    }

    /* a link that stays in the store is as good as the file */

    make_prebuilt(manifest, "in", NULL);
    start(f, "hello");
    assert_built(f);
    free(manifest);

    /* a manifest that is wrong about a blob, or is none */

    manifest = prebuilt_manifest(16);
    make_prebuilt(manifest, "layer", NULL);
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_RESULT, "has 16 bytes, but it has 15");

    manifest[2] = 'S';
    make_prebuilt(manifest, "layer", NULL);
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_RESULT, "has 16 bytes, but it has 15");
    free(manifest);

    manifest = prebuilt_manifest(15);
    manifest[2] = 'S';
    make_prebuilt(manifest, "layer", NULL);
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_RESULT, "neither the type nor the shape");
    free(manifest);
}


/* What the builder packed is the top layer as it is. */

static void
prepared(void **state)
{
    char       *hash, *key, *path, *text;
    fixture_t  *f;

    f = *state;

    hash = make_prepared("-C " CONTENTS " .");

    start(f, "hello");
    assert_built(f);
    assert_image_whole(f);
    assert_int_equal(f->build.layers_made, 5);
    assert_string_equal(f->build.media_type, NIXERY_OCI_MANIFEST);

    unit_shell("! grep -q SSL_CERT_FILE '%s'/layers/*",
                     f->storage_path);
    unit_shell("cd '%s'/layers && grep -ho 'sha256:[0-9a-f]*' %s |"
                     " tail -n 1 | cut -c 8- | xargs zcat | cmp - " TARBALL,
                     f->storage_path, f->build.digest);

    /* known by its hash, whatever its path */

    key = malloc(NIXERY_HEX_LEN + 1);
    assert_non_null(key);
    assert_int_equal(nixery_layer_key_tarball(hash, key), NIXERY_OK);

    path = object_path(f, "builds", key);
    assert_int_equal(access(path, F_OK), 0);

    text = strdup(f->build.digest);
    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_reused, 5);
    assert_string_equal(f->build.digest, text);

    /* what does not fit is found out, and nothing is stored */

    wipe_storage(f);

    unit_shell("sed -i 's/%s/%064d/' " RESULT, hash, 0);
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_RESULT, "the builder says the SHA-256 of "
                                          "layer \"" TARBALL "\" is 00");
    assert_int_equal(f->probe.calls, 0);

    unit_shell("rm " TARBALL);
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_RESULT, "can't be read: No such file");

    free(text);
    free(path);
    free(key);
    free(hash);
}


static void
nix_fails(void **state)
{
    fixture_t  *f;

    f = *state;

    make_script(f, "echo oops >&2; exit 1");
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_NIX, "");

    make_script(f, "exit 0");
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_RESULT, "");

    unit_write(RESULT, "{\"error\":\"not_found\",\"pkgs\":[\"hello\"]}", 0444);
    make_script(f, "echo " RESULT);
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_NOT_FOUND, "\"hello\"");

    unit_write(RESULT, "{\"graph\":", 0444);
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_RESULT, "");

    assert_int_equal(entries(f->storage_path), 4);

    /* the next one works */

    make_graph(0);
    start(f, "hello");
    assert_built(f);
}


static void
system_without_platform(void **state)
{
    fixture_t  *f;

    f = *state;

    unit_shell("sed -i 's/x86_64-linux/x86_64-darwin/' " RESULT);
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_RESULT, "\"x86_64-darwin\"");
}


static void
path_vanishes(void **state)
{
    fixture_t  *f;

    f = *state;

    unit_shell("rm -r " DATA);
    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_SYSTEM, DATA);
    assert_objects_whole(f);
}


static void
every_storage_call_fails_once(void **state)
{
    int         n;
    fixture_t  *f;

    f = *state;

    for (n = 1; n < 100; n++) {
        wipe_storage(f);
        start(f, "hello");
        f->probe.fail_at = n;

        if (nixery_build_run(&f->build) == NIXERY_OK) {
            break;
        }

        assert_int_equal(f->build.error.kind, NIXERY_ERROR_STORAGE);
        assert_string_equal(f->build.error.message, "injected");
        assert_null(f->build.manifest.data);
        assert_null(f->build.media_type);
        assert_nothing_left(f);
        assert_objects_whole(f);

        /* what was stored before is of use to the next one */

        start(f, "hello");
        assert_built(f);
    }

    assert_in_range(n, 15, 60);
}


static void
key_comes_last(void **state)
{
    char       *path;
    fixture_t  *f;

    f = *state;

    start(f, "hello");
    assert_built(f);
    assert_true(atomic_load(&f->probe.key_last));

    path = object_path(f, "manifests", f->build.key);
    assert_int_equal(access(path, F_OK), 0);
    free(path);
}


static void
killed_at_any_moment(void **state)
{
    int         i, n, status;
    char       *digest;
    pid_t       pid;
    fixture_t  *f;

    f = *state;

    start(f, "hello");
    assert_built(f);
    digest = strdup(f->build.digest);

    for (n = 1; n < 100; n++) {
        wipe_storage(f);
        start(f, "hello");

        pid = fork();
        assert_int_not_equal(pid, -1);

        if (pid == 0) {
            f->probe.kill_at = n;
            _exit(nixery_build_run(&f->build) == NIXERY_OK ? 0 : 1);
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);

        assert_objects_whole(f);

        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }

        assert_int_equal(WTERMSIG(status), SIGKILL);

        /*
         * its work directory waits for whoever starts next; a shell that the
         * probe had just started holds the lock until it is one
         */

        assert_int_equal(entries(f->temp), 2);

        for (i = 0; i < 1000 && entries(f->temp) == 2; i++) {
            nixery_work_clean(f->temp);
            (void) poll(NULL, 0, i ? 10 : 0);
        }

        assert_nothing_left(f);

        start(f, "hello");
        assert_built(f);
        assert_string_equal(f->build.digest, digest);
        assert_image_whole(f);
    }

    assert_in_range(n, 15, 60);

    free(digest);
}


static void
canceled(void **state)
{
    int                     n;
    pthread_t               thread;
    fixture_t              *f;
    volatile sig_atomic_t   terminate;

    f = *state;

    /* before it starts */

    start(f, "hello");
    atomic_store(&f->build.cancel.flag, 1);
    assert_failed(f, NIXERY_ERROR_CANCELED, "");
    assert_int_equal(nix_runs(f), 0);

    terminate = 1;
    start(f, "hello");
    f->build.cancel.terminate = &terminate;
    assert_failed(f, NIXERY_ERROR_CANCELED, "");
    assert_int_equal(nix_runs(f), 0);

    /* while Nix runs */

    make_script(f, "echo x >> %s/runs; exec sleep 60", f->dir);
    start(f, "hello");
    assert_int_equal(pthread_create(&thread, NULL, canceler, f), 0);
    assert_failed(f, NIXERY_ERROR_CANCELED, "");
    assert_int_equal(pthread_join(thread, NULL), 0);

    /* at each step behind it: an image, or nothing under its key */

    make_script(f, "ln -s " RESULT " $2; echo " RESULT);

    for (n = 1; n < 100; n++) {
        wipe_storage(f);
        start(f, "hello");
        f->probe.cancel_at = n;

        if (nixery_build_run(&f->build) == NIXERY_OK
            && f->probe.calls < n)
        {
            break;
        }

        if (f->build.error.kind != NIXERY_ERROR_NONE) {
            assert_int_equal(f->build.error.kind, NIXERY_ERROR_CANCELED);
        }

        assert_nothing_left(f);
        assert_objects_whole(f);
    }

    assert_in_range(n, 15, 60);
}


static void
full_storage(void **state)
{
    fixture_t  *f;

    f = *state;

    assert_int_equal(mount("tmpfs", f->storage_path, "tmpfs", 0, "size=1m"),
                     0);

    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_STORAGE, "write: No space left on device");
    assert_objects_whole(f);

    assert_int_equal(mount("none", f->storage_path, NULL, MS_REMOUNT,
                           "size=16m"),
                     0);

    start(f, "hello");
    assert_built(f);
    assert_image_whole(f);

    assert_int_equal(umount(f->storage_path), 0);
}


static void
full_temp_path(void **state)
{
    fixture_t  *f;

    f = *state;

    assert_int_equal(mount("tmpfs", f->temp, "tmpfs", 0, "size=1m"), 0);

    start(f, "hello");
    assert_failed(f, NIXERY_ERROR_SYSTEM, "No space left on device");
    assert_objects_whole(f);

    assert_int_equal(umount(f->temp), 0);
}


static void
temp_path(void **state)
{
    char       *home;
    fixture_t  *f;

    f = *state;

    f->settings.temp_path = "/no/such/directory";
    start(f, "hello");
    assert_int_equal(nixery_build_run(&f->build), NIXERY_ERROR);
    assert_int_equal(f->build.error.kind, NIXERY_ERROR_SYSTEM);
    assert_non_null(strstr(f->build.error.message, "/no/such/directory"));
    f->settings.temp_path = f->temp;

    /* what Nix caches stays */

    start(f, "hello");
    assert_built(f);

    home = format("%s/home", f->temp);
    nixery_work_clean(f->temp);
    assert_int_equal(access(home, F_OK), 0);
    assert_int_equal(rmdir(home), 0);
    unit_write(home, "x", 0600);
    assert_int_equal(unlink(home), 0);
    free(home);
}


static void
builds_at_once(void **state)
{
    int          i;
    char        *digest;
    void        *rc;
    pthread_t    threads[BUILDERS];
    fixture_t   *f;

    f = *state;
    f->settings.threads = 2;

    for (i = 0; i < BUILDERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, builder, f), 0);
    }

    digest = NULL;

    for (i = 0; i < BUILDERS; i++) {
        assert_int_equal(pthread_join(threads[i], &rc), 0);
        assert_non_null(rc);

        if (digest != NULL) {
            assert_string_equal(rc, digest);
            free(digest);
        }

        digest = rc;
    }

    free(digest);

    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 0);
    assert_image_whole(f);
}


static void
few_layers(void **state)
{
    fixture_t  *f;

    f = *state;
    f->settings.max_layers = 2;

    start(f, "hello");
    assert_built(f);
    assert_int_equal(f->build.layers_made, 2);
    assert_image_whole(f);
}


static void
keys(void **state)
{
    char                *key, *again;
    fixture_t           *f;
    nixery_source_t      source;
    nixery_settings_t    s;

    char  *env[] = { (char *) "NIXPKGS_ALLOW_UNFREE=1", NULL };
    char  *options[] = { (char *) "system-features", (char *) "kvm", NULL };

    static const char *const  xy[] = { "xy", NULL };

    static const nixery_meta_t  metas[] = { { "ab", xy }, { NULL, NULL } };

    f = *state;
    s = f->settings;
    source = f->source;

    key = key_of(&s, "ab/c");
    assert_int_equal(strlen(key), NIXERY_HEX_LEN);

    again = key_of(&s, "c/ab/c");
    assert_string_equal(again, key);
    free(again);

    assert_key_differs(&s, "a/bc", key);
    assert_key_differs(&s, "ab", key);
    assert_key_differs(&s, "ab/c/d", key);
    assert_key_differs(&s, "abc", key);
    assert_key_differs(&s, "arm64/ab/c", key);

    s.nix.system = "aarch64-linux";
    assert_key_differs(&s, "ab/c", key);

    /* the same system, asked for in two ways */

    again = key_of(&s, "ab/c");
    s.nix.system = "x86_64-linux";
    free(key);
    key = key_of(&s, "arm64/ab/c");
    assert_string_equal(again, key);
    free(again);
    free(key);

    key = key_of(&s, "ab/c");

    s.max_layers++;
    assert_key_differs(&s, "ab/c", key);
    s.max_layers--;

    s.builder_id = "another";
    assert_key_differs(&s, "ab/c", key);
    s.builder_id = f->settings.builder_id;

    s.nix.source = &source;

    source.name = "/another";
    assert_key_differs(&s, "ab/c", key);
    source.name = f->source.name;

    source.kind = NIXERY_SOURCE_GIT;
    assert_key_differs(&s, "ab/c", key);
    source.kind = f->source.kind;

    source.submodules = 1;
    assert_key_differs(&s, "ab/c", key);
    s.nix.source = f->settings.nix.source;

    s.nix.env = env;
    assert_key_differs(&s, "ab/c", key);
    s.nix.env = f->settings.nix.env;

    s.nix.options = options;
    assert_key_differs(&s, "ab/c", key);
    s.nix.options = f->settings.nix.options;

    /* what a meta-package stands for */

    s.metas = metas;
    assert_key_differs(&s, "ab/c", key);
    free(key);
    key = key_of(&s, "ab/c");
    again = key_of(&s, "xy/c");
    assert_string_equal(again, key);

    free(again);
    free(key);
}


static int
make_fixture(void **state)
{
    fixture_t  *f;

    make_store();
    make_graph(0);

    f = calloc(1, sizeof(fixture_t));
    if (f == NULL) {
        return -1;
    }

    f->dir = strdup("/tmp/nixery-build-test.XXXXXX");
    if (f->dir == NULL || mkdtemp(f->dir) == NULL) {
        return -1;
    }

    f->script = format("%s/fake-nix-build", f->dir);
    f->storage_path = format("%s/storage", f->dir);
    f->temp = format("%s/temp", f->dir);

    if (mkdir(f->temp, 0755) == -1 || mkdir(f->storage_path, 0755) == -1) {
        return -1;
    }

    make_script(f, "echo x >> %s/runs; ln -s " RESULT " \"$2\"; echo " RESULT,
                f->dir);

    f->settings.nix.program = f->script;
    f->settings.nix.builder = "/builder.nix";
    f->settings.nix.source = &f->source;
    f->source.name = "/packages";
    f->settings.nix.timeout = 60000;
    f->settings.builder_id = "builder";
    f->settings.nix.system = "x86_64-linux";
    f->settings.temp_path = f->temp;
    f->settings.max_layers = 94;
    f->settings.storage = &f->probe.st;

    f->probe.st.stat = probe_stat;
    f->probe.st.put_file = probe_put_file;
    f->probe.st.put_bytes = probe_put_bytes;
    f->probe.st.get = probe_get;
    f->probe.st.locate = probe_locate;
    f->probe.st.free = probe_free;
    f->probe.temp = f->temp;

    open_storage(f);

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;

    nixery_build_free(&f->build);
    f->probe.st.free(&f->probe.st);

    unit_shell("rm -rf '%s' /nix/store/*", f->dir);

    free(f->dir);
    free(f->script);
    free(f->storage_path);
    free(f->temp);
    free(f);

    return 0;
}


static char *
output_of(char *command)
{
    char          buf[4096];
    FILE         *fp;
    size_t        n;
    nixery_buf_t  text = { 0 };

    fp = popen(command, "re");
    assert_non_null(fp);

    while ((n = fread(buf, 1, sizeof(buf), fp)) > 0) {
        assert_int_equal(nixery_buf_append(&text, buf, n), NIXERY_OK);
    }

    assert_int_equal(pclose(fp), 0);
    free(command);

    return text.data;
}


static void
make_store(void)
{
    FILE      *fp;
    size_t     i;
    uint32_t   n;

    unit_shell("rm -rf /nix/store/*; umask 022; set -e; "
        "mkdir -p " LIBC "/lib " BASH "/bin " HELLO "/bin " HELLO "/empty " DATA
        " " CONTENTS "/bin " BLOBS "; "
        "echo libc > " LIBC "/lib/libc.so; ln " LIBC "/lib/libc.so " LIBC
        "/lib/libc.so.6; "
        "echo bash > " BASH "/bin/bash; chmod 755 " BASH "/bin/bash; "
        "ln -s bash " BASH "/bin/sh; "
        "echo hello > " HELLO "/bin/hello; chmod 755 " HELLO "/bin/hello; "
        "ln -s " BASH "/bin/bash " CONTENTS "/bin/bash; "
        "ln -s " HELLO "/bin/hello " CONTENTS "/bin/hello");

    /* what does not compress, so that a layer has more than one piece */

    fp = fopen(DATA "/data", "we");
    assert_non_null(fp);

    for (i = 0, n = 1; i < DATA_SIZE; i++) {
        n = n * 1664525 + 1013904223;
        (void) putc(n >> 24, fp);
    }

    assert_int_equal(fclose(fp), 0);
    assert_int_equal(chmod(DATA "/data", 0644), 0);
}


static void
make_graph(int reverse)
{
    int            i;
    nixery_buf_t   text = { 0 };

    static const char  *nodes[] = {
        "{\"path\":\"" LIBC "\",\"narSize\":500,\"closureSize\":500,"
        "\"references\":[\"" LIBC "\"]}",

        "{\"path\":\"" BASH "\",\"narSize\":700,\"closureSize\":1200,"
        "\"references\":[\"" LIBC "\",\"" BASH "\"]}",

        "{\"path\":\"" HELLO "\",\"narSize\":300,\"closureSize\":800,"
        "\"references\":[\"" LIBC "\"]}",

        "{\"path\":\"" DATA "\",\"narSize\":3150440,\"closureSize\":3150440,"
        "\"references\":[]}",

        "{\"path\":\"" CONTENTS "\",\"narSize\":400,\"closureSize\":3152340,"
        "\"references\":[\"" BASH "\",\"" DATA "\",\"" HELLO "\"]}",
    };

    assert_int_equal(nixery_buf_puts(&text,
                                     "{\"imageSystem\":\"x86_64-linux\","
                                     "\"contents\":\"" CONTENTS "\","
                                     "\"graph\":["),
                     NIXERY_OK);

    for (i = 0; i < 5; i++) {
        assert_int_equal(nixery_buf_printf(&text, "%s%s", i ? "," : "",
                                           nodes[reverse ? 4 - i : i]),
                         NIXERY_OK);
    }

    assert_int_equal(nixery_buf_puts(&text, "]}"), NIXERY_OK);
    unit_write(RESULT, text.data, 0444);
    nixery_buf_free(&text);
}


static void
make_script(fixture_t *f, const char *fmt, ...)
{
    char     *body, *text;
    va_list   args;

    va_start(args, fmt);
    assert_int_not_equal(vasprintf(&body, fmt, args), -1);
    va_end(args);

    text = format("#!/bin/sh\n%s\n", body);
    unit_write(f->script, text, 0755);

    free(text);
    free(body);
}


static size_t
nix_runs(fixture_t *f)
{
    char         *path;
    struct stat   sb;

    path = format("%s/runs", f->dir);

    if (stat(path, &sb) == -1) {
        sb.st_size = 0;
    }

    free(path);

    return sb.st_size / 2;
}


static size_t
entries(const char *path)
{
    DIR     *d;
    size_t   n;

    d = opendir(path);
    assert_non_null(d);

    for (n = 0; readdir(d) != NULL; n++) {
        /* void */
    }

    (void) closedir(d);

    return n - 2;
}


static void
open_storage(fixture_t *f)
{
    nixery_error_t  err = { 0 };

    f->probe.real = nixery_storage_directory(f->storage_path, &err);
    assert_non_null(f->probe.real);
}


static void
wipe_storage(fixture_t *f)
{
    unit_shell("rm -rf '%s'/*", f->storage_path);
    f->probe.st.free(&f->probe.st);
    open_storage(f);
}


static char *
object_path(fixture_t *f, const char *folder, const char *hex)
{
    return format("%s/%s/%s", f->storage_path, folder, hex);
}


static void
start(fixture_t *f, const char *name)
{
    nixery_build_free(&f->build);
    memset(&f->build, 0, sizeof(nixery_build_t));

    f->build.settings = &f->settings;

    assert_int_equal(nixery_image_parse(&f->build.image, name, strlen(name),
                                        NULL, &f->build.error),
                     NIXERY_OK);
    assert_int_equal(nixery_build_key(&f->settings, &f->build.image,
                                      &f->build.revision, NULL,
                                      f->build.key),
                     NIXERY_OK);

    f->probe.build = &f->build;
    f->probe.fail_at = 0;
    f->probe.kill_at = 0;
    f->probe.cancel_at = 0;
    atomic_store(&f->probe.calls, 0);
}


static void
assert_built(fixture_t *f)
{
    if (nixery_build_run(&f->build) != NIXERY_OK) {
        fail_msg("%s\n%s", f->build.error.message,
                 f->build.error.log ? f->build.error.log : "");
    }

    assert_int_equal(f->build.error.kind, NIXERY_ERROR_NONE);
    assert_int_equal(strlen(f->build.digest), NIXERY_HEX_LEN);
    assert_nothing_left(f);
}


static void
assert_failed(fixture_t *f, nixery_error_e kind, const char *message)
{
    assert_int_equal(nixery_build_run(&f->build), NIXERY_ERROR);

    if (strstr(f->build.error.message, message) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", message, f->build.error.message);
    }

    assert_int_equal(f->build.error.kind, kind);
    assert_null(f->build.manifest.data);
    assert_null(f->build.media_type);
    assert_nothing_left(f);
}


static void
assert_nothing_left(fixture_t *f)
{
    char  *path;

    path = format("%s/home", f->temp);
    assert_int_equal(entries(f->temp), access(path, F_OK) == 0);
    free(path);
}


/* As a client would: everything that the manifest names, compared with it. */

static void
assert_image_whole(fixture_t *f)
{
    int           i, n;
    char         *path, *text, *sum, *digest;
    cJSON        *manifest, *config, *layers, *layer, *ids;

    assert_objects_whole(f);

    manifest = cJSON_Parse(f->build.manifest.data);
    assert_non_null(manifest);

    digest = cJSON_GetStringValue(cJSON_GetObjectItem(
        cJSON_GetObjectItem(manifest, "config"), "digest"));
    path = object_path(f, "layers", digest + 7);
    text = output_of(format("cat '%s'", path));
    config = cJSON_Parse(text);
    assert_non_null(config);
    free(text);
    free(path);

    layers = cJSON_GetObjectItem(manifest, "layers");
    ids = cJSON_GetObjectItem(cJSON_GetObjectItem(config, "rootfs"),
                              "diff_ids");
    n = cJSON_GetArraySize(layers);

    assert_int_equal(cJSON_GetArraySize(ids), n);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(config,
                                                            "history")),
                     n);
    assert_string_equal(cJSON_GetObjectItem(config, "architecture")
                            ->valuestring, "amd64");
    assert_string_equal(cJSON_GetArrayItem(cJSON_GetObjectItem(
                            cJSON_GetObjectItem(config, "config"), "Cmd"), 0)
                            ->valuestring, "/bin/bash");

    for (i = 0; i < n; i++) {
        layer = cJSON_GetArrayItem(layers, i);
        digest = cJSON_GetObjectItem(layer, "digest")->valuestring;

        path = object_path(f, "layers", digest + 7);
        text = output_of(format("stat -c %%s '%s'", path));
        assert_int_equal(atoll(text),
                         (long long) cJSON_GetObjectItem(layer, "size")
                             ->valuedouble);
        free(text);

        sum = output_of(format("zcat < '%s' | sha256sum", path));
        assert_memory_equal(sum, cJSON_GetArrayItem(ids, i)->valuestring + 7,
                            NIXERY_HEX_LEN);
        free(sum);
        free(path);
    }

    cJSON_Delete(manifest);
    cJSON_Delete(config);
}


/*
 * Whatever has happened: each blob has the hash that is its name, each record
 * has its blob, each manifest has all of its own.
 */

static void
assert_objects_whole(fixture_t *f)
{
    unit_shell("cd '%s' && cd layers && for i in *; do "
                     "test \"$i\" = '*' || echo \"$i  $i\"; done | "
                     "{ sha256sum --check --quiet --strict 2>/dev/null || "
                     "test -z \"$(ls)\"; } && "
                     "cd .. && cat builds/* manifests/* 2>/dev/null | "
                     "grep -o '\"digest\":[^\"]*\"sha256:[0-9a-f]*' | "
                     "sed 's/.*://' | "
                     "while read -r i; do test -f layers/$i || exit 1; done",
                     f->storage_path);
}


static void
assert_key_differs(const nixery_settings_t *settings, const char *name,
    const char *key)
{
    char  *other;

    other = key_of(settings, name);
    assert_string_not_equal(other, key);
    free(other);
}


static char *
key_of(const nixery_settings_t *settings, const char *name)
{
    char            *key;
    nixery_error_t     err = { 0 };
    nixery_image_t     image;
    nixery_revision_t  revision = { 0 };

    key = malloc(NIXERY_HEX_LEN + 1);
    assert_non_null(key);

    assert_int_equal(nixery_image_parse(&image, name, strlen(name),
                                        settings->metas, &err),
                     NIXERY_OK);
    assert_int_equal(nixery_build_key(settings, &image, &revision,
                                      NULL, key),
                     NIXERY_OK);
    nixery_image_free(&image);

    return key;
}


/* A file of the store, and its SHA-256. */

static char *
blob(const char *name, const char *text)
{
    char  *hex, *path;

    hex = malloc(NIXERY_HEX_LEN + 1);
    assert_non_null(hex);
    assert_int_equal(nixery_sha256_hex(text, strlen(text), hex), NIXERY_OK);

    path = format(BLOBS "/%s", name);
    unit_write(path, text, 0444);
    free(path);

    return hex;
}


/* name is the file that the builder says has the layer. */

static void
make_prebuilt(const char *manifest, const char *name, const char *md5)
{
    char          *config, *layer;
    nixery_buf_t   text = { 0 };

    config = blob("config", CONFIG_TEXT);
    layer = blob("layer", LAYER_TEXT);

    assert_int_equal(nixery_buf_printf(&text,
                                       "{\"manifest\": %s, \"layerLocations\":"
                                       "{\"%s\":{\"path\":"
                                       "\"" BLOBS "/config\"},"
                                       "\"%s\":{\"path\":\"" BLOBS "/%s\"",
                                       manifest, config, layer, name),
                     NIXERY_OK);

    if (md5 != NULL) {
        assert_int_equal(nixery_buf_printf(&text, ",\"md5\":\"%s\"", md5),
                         NIXERY_OK);
    }

    assert_int_equal(nixery_buf_puts(&text, "}}}"), NIXERY_OK);

    unit_write(RESULT, text.data, 0444);

    nixery_buf_free(&text);
    free(layer);
    free(config);
}


static char *
prebuilt_manifest(size_t layer_size)
{
    char  *config, *layer, *manifest;

    config = blob("config", CONFIG_TEXT);
    layer = blob("layer", LAYER_TEXT);

    manifest = format("{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha256:"
                      "%s\",\"size\":%zu}],\"config\":{\"digest\":\"sha256:"
                      "%s\",\"size\":14}}", layer, layer_size, config);
    free(config);
    free(layer);

    return manifest;
}


/* The fixture's graph, and a tar of these; returns its SHA-256. */

static char *
make_prepared(const char *members)
{
    char  *hash, *graph;

    unit_shell("tar -cf " TARBALL " --sort=name %s", members);

    hash = output_of(format("sha256sum < " TARBALL));
    hash[NIXERY_HEX_LEN] = '\0';

    graph = output_of(format("sed 's/,{\"path\":\"%s.*//; s/.*\"graph\"://' "
                             RESULT, "[^\"]*-contents"));

    unit_shell("echo '{\"runtimeGraph\":{\"graph\":%s]},\"symlinkLayer\":"
                     "{\"path\":\"" TARBALL "\",\"tarHash\":\"%s\",\"size\":'"
                     "$(stat -c %%s " TARBALL ")'}}' > " RESULT, graph, hash);
    free(graph);

    return hash;
}


static void *
builder(void *data)
{
    char            *digest;
    fixture_t       *f;
    nixery_build_t   build;

    f = data;

    memset(&build, 0, sizeof(nixery_build_t));
    build.settings = &f->settings;

    if (nixery_image_parse(&build.image, "hello", 5, NULL, &build.error)
        != NIXERY_OK
        || nixery_build_key(&f->settings, &build.image, &build.revision,
                            NULL, build.key)
           != NIXERY_OK)
    {
        return NULL;
    }

    digest = (nixery_build_run(&build) == NIXERY_OK) ? strdup(build.digest)
                                                     : NULL;

    nixery_build_free(&build);

    return digest;
}


static void *
canceler(void *data)
{
    fixture_t  *f;

    f = data;

    while (nix_runs(f) == 0) {
        (void) usleep(1000);
    }

    atomic_store(&f->build.cancel.flag, 1);

    return NULL;
}


static int
probe_call(probe_t *p, const char *object, int put, nixery_error_t *err)
{
    int  n;

    n = atomic_fetch_add(&p->calls, 1) + 1;

    if (n == p->kill_at) {
        (void) raise(SIGKILL);
    }

    if (n == p->cancel_at) {
        atomic_store(&p->build->cancel.flag, 1);
    }

    if (n == p->fail_at) {
        return nixery_error_set(err, NIXERY_ERROR_STORAGE, "injected");
    }

    if (put) {
        char  *command;

        command = format("ls -d '%s'/nixery-work.*/result >/dev/null 2>&1",
                         p->temp);

        if (system(command) != 0) {
            atomic_fetch_add(&p->unprotected, 1);
        }

        free(command);

        atomic_store(&p->key_last, strncmp(object, "manifests/", 10) == 0);
    }

    return NIXERY_OK;
}


static int
probe_stat(nixery_storage_t *st, const char *object, uint64_t *size,
    nixery_error_t *err)
{
    probe_t  *p;

    p = (probe_t *) st;

    if (probe_call(p, object, 0, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    return p->real->stat(p->real, object, size, err);
}


static int
probe_put_file(nixery_storage_t *st, const char *object, const char *file,
    uint64_t size, const char *sha256, nixery_error_t *err)
{
    probe_t  *p;

    p = (probe_t *) st;

    if (probe_call(p, object, 1, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    return p->real->put_file(p->real, object, file, size, sha256, err);
}


static int
probe_put_bytes(nixery_storage_t *st, const char *object, const void *data,
    size_t len, nixery_error_t *err)
{
    probe_t  *p;

    p = (probe_t *) st;

    if (probe_call(p, object, 1, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    return p->real->put_bytes(p->real, object, data, len, err);
}


static int
probe_get(nixery_storage_t *st, const char *object, size_t max,
    nixery_buf_t *out, nixery_error_t *err)
{
    probe_t  *p;

    p = (probe_t *) st;

    if (probe_call(p, object, 0, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    return p->real->get(p->real, object, max, out, err);
}


static int
probe_locate(nixery_storage_t *st, const char *object, nixery_buf_t *path)
{
    probe_t  *p;

    p = (probe_t *) st;

    return p->real->locate(p->real, object, path);
}


static void
probe_free(nixery_storage_t *st)
{
    probe_t  *p;

    p = (probe_t *) st;

    p->real->free(p->real);
}


int
main(int argc, char *const *argv)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_fixture, remove_fixture)

    const struct CMUnitTest  tests[] = {
        test(closure),
        test(always_the_same_digest),
        test(known_images_need_no_nix),
        test(bad_records_are_replaced),
        test(popularity),
        test(prebuilt),
        test(prebuilt_that_lies),
        test(prepared),
        test(nix_fails),
        test(system_without_platform),
        test(path_vanishes),
        test(every_storage_call_fails_once),
        test(key_comes_last),
        test(killed_at_any_moment),
        test(canceled),
        test(full_storage),
        test(full_temp_path),
        test(temp_path),
        test(builds_at_once),
        test(few_layers),
        test(keys),
    };

    if (unit_store(argv) == -1) {
        return 1;
    }

    (void) umask(022);

    return cmocka_run_group_tests_name("build", tests, NULL, NULL);
}
