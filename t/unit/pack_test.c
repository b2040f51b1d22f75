
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_pack.h"
#include "nixery_sha256.h"


#define STORE   "/nix/store/0000000000000000000000000000000"
#define LAYERS  6        /* of the fixture: five of the store, the top one */
#define BIG     (5 * 1024 * 1024 + 12345)
#define EXACT   (2 * NIXERY_PACK_PIECE - 5 * 512)   /* a tar of two pieces */


/* What a callback saw, and what it is to do. */

typedef struct {
    pthread_t         caller;
    atomic_uint       calls;
    atomic_uint       masks;    /* threads that signals would reach */
    atomic_uint       wrong;    /* files that are not whole */
    unsigned          fail;     /* the call that fails, 0: none */
} seen_t;


typedef struct {
    nixery_cancel_t   *cancel;
    const char        *file;
    struct timespec    when;
} canceler_t;


/* SHA-256 of a layer's file, and of the tar in it. */

typedef struct {
    const char   *digest;
    const char   *diff_id;
} golden_t;


static int make_dir(void **state);
static int remove_dir(void **state);
static void shell(const char *dir, const char *command);
static char *join(const char *dir, const char *name);
static void make_file(const char *dir, const char *name, size_t len,
    uint32_t seed);
static void make_store(const char *dir);
static nixery_pack_t *make_packs(const char *dir, size_t n);
static void free_packs(nixery_pack_t *packs, size_t n);
static int pack(nixery_pack_t *packs, size_t n, unsigned threads,
    nixery_error_t *err);
static int done(nixery_pack_t *layer, void *data, nixery_error_t *err);
static void *cancel_later(void *data);
static size_t entries(const char *dir);
static char *read_file(const char *file, size_t *len);


/* The store paths of a layer each, and the contents of the top one. */

static const char *const  paths[] = {
    STORE "0-big", STORE "1-exact", STORE "2-small", STORE "3-tiny",
    STORE "4-many", STORE "5-contents"
};


static const golden_t  golden[] = {
    { "fd8a3f9c227f9e33e7e65e4e2cb9d4d5"
      "f46454990f92b315da3f4b25b8f3cdee",
      "3081deca75ae0e2cf35107814f8cc7f8"
      "5776f0f2272983fdce2764bf71e9100c" },
    { "c387573b392c248fb319fe727989a053"
      "16c3571b110bd2daffee96a77007e767",
      "516279eb2a17fcb52aac5a18ea27e385"
      "9b72211c5fb89e0d17d260ff03bb861f" },
    { "4933f3d753ae79ba26a75d2097bb03e9"
      "dca803875eab33c33bb2495f6e5a81a6",
      "e70347c10939df115188bc7c891fdc2b"
      "43e98a8b092e365462036ba9c459e2e3" },
    { "3f58d4dc5ca7dd747ebb8e2e634e4cf4"
      "593a82430d1858afbdb270eb2c52f025",
      "782997dbf36cce537ee9519d007930ec"
      "06114af3bb9a38bb34f6826009ca4181" },
    { "b536e09749c9e1c30f34e0d1767b760e"
      "04fc876e37cf1de5189466f5e4ca6d93",
      "48d35e63dfd820f4a6771946794f2dc2"
      "ba9c82b719cf3ec3b3125d3f09c194b9" },
    { "902402408d5455525b5b52eb4cb71c58"
      "4067a40407d7d84467cfecbcfbcd6b34",
      "05c93728832780be15c9e98d92db6a3f"
      "945493381ea0180ae086d39cc764e214" }
};


static void
golden_digests(void **state)
{
    size_t           i, k;
    nixery_pack_t   *packs;
    nixery_error_t   err = { 0 };

    static const unsigned  threads[] = { 1, 2, 3, 8, 16, 100, 0 };

    make_store(*state);

    for (k = 0; k < sizeof(threads) / sizeof(threads[0]); k++) {
        packs = make_packs(*state, LAYERS);

        assert_int_equal(pack(packs, LAYERS, threads[k], &err), NIXERY_OK);

        for (i = 0; i < LAYERS; i++) {
            assert_string_equal(packs[i].diff_id, golden[i].diff_id);
            assert_string_equal(packs[i].digest, golden[i].digest);
        }

        free_packs(packs, LAYERS);
        shell(*state, "rm work/*");
    }
}


static void
members_of_one_piece(void **state)
{
    char                            *data, *plain, hex[NIXERY_HEX_LEN + 1];
    size_t                           i, len, in, out, offset, members;
    nixery_pack_t                   *packs;
    nixery_error_t                   err = { 0 };
    nixery_sha256_t                 *sha;
    struct libdeflate_decompressor  *d;

    make_store(*state);

    packs = make_packs(*state, LAYERS);
    assert_int_equal(pack(packs, LAYERS, 4, &err), NIXERY_OK);

    d = libdeflate_alloc_decompressor();
    sha = nixery_sha256_new();
    plain = malloc(NIXERY_PACK_PIECE);
    assert_non_null(plain);

    for (i = 0; i < LAYERS; i++) {
        data = read_file(packs[i].file, &len);

        assert_int_equal(len, packs[i].size);
        assert_int_equal(nixery_sha256_hex(data, len, hex), NIXERY_OK);
        assert_string_equal(hex, packs[i].digest);

        members = 0;

        for (offset = 0; offset < len; offset += in) {

            /* no name, no time, no system (RFC 1952, section 2.3) */

            assert_memory_equal(data + offset,
                                "\x1f\x8b\x08\x00\x00\x00\x00\x00", 8);
            assert_int_equal((unsigned char) data[offset + 9], 0xff);

            assert_int_equal(libdeflate_gzip_decompress_ex(
                                 d, data + offset, len - offset, plain,
                                 NIXERY_PACK_PIECE, &in, &out),
                             LIBDEFLATE_SUCCESS);

            nixery_sha256_update(sha, plain, out);
            members++;

            assert_true(out > 0);
            assert_true(out == NIXERY_PACK_PIECE || offset + in == len);
        }

        nixery_sha256_final(sha, hex);
        assert_string_equal(hex, packs[i].diff_id);
        assert_int_equal(members, (packs[i].tar_size + NIXERY_PACK_PIECE - 1)
                                  / NIXERY_PACK_PIECE);

        free(data);
    }

    /* a tar that ends with a piece has no empty one behind it */

    assert_int_equal(packs[1].tar_size, 2 * NIXERY_PACK_PIECE);

    free(plain);
    nixery_sha256_free(sha);
    libdeflate_free_decompressor(d);
    free_packs(packs, LAYERS);

    /* and others agree */

    shell(*state, "for f in work/*; do gzip -t < $f && zcat < $f | tar -tf -"
                  " > list && test -s list || exit 1; done 2>&1");
}


static void
no_layer(void **state)
{
    nixery_error_t  err = { 0 };

    (void) state;

    assert_int_equal(pack(NULL, 0, 0, &err), NIXERY_OK);
}


static void
done_is_called_once_each(void **state)
{
    size_t           i;
    seen_t           seen;
    sigset_t         before, after;
    unsigned         threads;
    nixery_pack_t   *packs;
    nixery_error_t   err = { 0 };

    make_store(*state);

    for (threads = 1; threads <= 8; threads *= 2) {
        memset(&seen, 0, sizeof(seen_t));
        seen.caller = pthread_self();
        packs = make_packs(*state, LAYERS);

        assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
        assert_int_equal(nixery_pack(packs, LAYERS, threads, done, &seen, NULL,
                                     &err),
                         NIXERY_OK);
        assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);

        for (i = 1; i < 32; i++) {
            assert_int_equal(sigismember(&before, (int) i),
                             sigismember(&after, (int) i));
        }

        assert_int_equal(seen.calls, LAYERS);
        assert_int_equal(seen.masks, 0);
        assert_int_equal(seen.wrong, 0);

        free_packs(packs, LAYERS);
        shell(*state, "rm work/*");
    }
}


static void
errors_of_done(void **state)
{
    seen_t           seen;
    unsigned         n;
    nixery_pack_t   *packs;
    nixery_error_t   err = { 0 };

    make_store(*state);

    for (n = 1; n <= LAYERS; n++) {
        memset(&seen, 0, sizeof(seen_t));
        seen.caller = pthread_self();
        seen.fail = n;
        packs = make_packs(*state, LAYERS);

        assert_int_equal(nixery_pack(packs, LAYERS, 4, done, &seen, NULL, &err),
                         NIXERY_ERROR);
        assert_int_equal(err.kind, NIXERY_ERROR_STORAGE);
        assert_string_equal(err.message, "the storage is full");
        assert_true(seen.calls >= n);

        /* what is whole is the caller's, the rest is gone */

        assert_int_equal(seen.wrong, 0);
        assert_int_equal(entries("work"), seen.calls);

        nixery_error_free(&err);
        free_packs(packs, LAYERS);
        shell(*state, "rm work/*");
    }
}


static void
more_layers_than_threads(void **state)
{
    size_t           i, k;
    nixery_pack_t   *packs;
    nixery_error_t   err = { 0 };

    enum { N = 60 };

    make_store(*state);

    for (k = 0; k < 5; k++) {
        packs = make_packs(*state, N);

        assert_int_equal(pack(packs, N, (unsigned) k * 4 + 1, &err), NIXERY_OK);

        for (i = 0; i < N; i++) {
            assert_string_equal(packs[i].digest, golden[i % LAYERS].digest);
        }

        free_packs(packs, N);
        shell(*state, "rm work/*");
    }
}


static void
path_that_vanished(void **state)
{
    unsigned         threads;
    nixery_pack_t   *packs;
    nixery_error_t   err = { 0 };

    make_store(*state);
    shell(*state, "rm -r ." STORE "2-small");

    for (threads = 1; threads <= 8; threads *= 2) {
        packs = make_packs(*state, LAYERS);

        assert_int_equal(pack(packs, LAYERS, threads, &err), NIXERY_ERROR);
        assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
        assert_string_equal(err.message, "can't pack \"" STORE "2-small\":"
                                         " No such file or directory");

        /* those that were whole before may have stayed */

        assert_true(entries("work") < LAYERS);
        assert_int_equal(access(packs[2].file, F_OK), -1);

        nixery_error_free(&err);
        free_packs(packs, LAYERS);
        shell(*state, "rm -f work/*");
    }
}


static void
work_file_that_is_there(void **state)
{
    nixery_pack_t   *packs;
    nixery_error_t   err = { 0 };

    make_store(*state);
    shell(*state, "echo precious > work/0");

    packs = make_packs(*state, LAYERS);

    assert_int_equal(pack(packs, LAYERS, 2, &err), NIXERY_ERROR);
    assert_non_null(strstr(err.message, "can't make work file \""));
    assert_non_null(strstr(err.message, "work/0\": File exists"));

    nixery_error_free(&err);
    free_packs(packs, LAYERS);

    shell(*state, "test \"$(cat work/0)\" = precious && rm -r work");

    packs = make_packs(*state, LAYERS);

    assert_int_equal(pack(packs, LAYERS, 2, &err), NIXERY_ERROR);
    assert_non_null(strstr(err.message, ": No such file or directory"));

    nixery_error_free(&err);
    free_packs(packs, LAYERS);

    shell(*state, "mkdir work");
}


static void
disk_is_full(void **state)
{
    unsigned          threads;
    nixery_pack_t    *packs;
    struct rlimit     old, few;
    nixery_error_t    err = { 0 };
    struct sigaction  ignore, before;

    make_store(*state);

    memset(&ignore, 0, sizeof(struct sigaction));
    ignore.sa_handler = SIG_IGN;
    assert_int_equal(sigaction(SIGXFSZ, &ignore, &before), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);

    for (threads = 1; threads <= 8; threads *= 2) {
        packs = make_packs(*state, LAYERS);

        few = old;
        few.rlim_cur = 1000000;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);

        assert_int_equal(pack(packs, 2, threads, &err), NIXERY_ERROR);

        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);

        assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
        assert_non_null(strstr(err.message, "can't write work file \""));
        assert_non_null(strstr(err.message, ": File too large"));
        assert_int_equal(access(packs[0].file, F_OK), -1);

        nixery_error_free(&err);
        free_packs(packs, LAYERS);
        shell(*state, "rm -f work/*");
    }

    assert_int_equal(sigaction(SIGXFSZ, &before, NULL), 0);
}


static void
canceled(void **state)
{
    size_t            tasks;
    unsigned          threads;
    pthread_t         tid;
    canceler_t        canceler;
    nixery_pack_t    *packs;
    nixery_error_t    err = { 0 };
    nixery_cancel_t   cancel = { 0 };
    struct timespec   now;

    make_store(*state);

    /* hours of work */

    shell(*state, "truncate -s 4T ." STORE "0-big/big");

    for (threads = 1; threads <= 8; threads *= 2) {
        atomic_store(&cancel.flag, 0);
        packs = make_packs(*state, LAYERS);

        canceler.cancel = &cancel;
        canceler.file = packs[0].file;
        assert_int_equal(pthread_create(&tid, NULL, cancel_later, &canceler),
                         0);
        tasks = entries("/proc/self/task");

        assert_int_equal(nixery_pack(packs, LAYERS, threads, NULL, NULL,
                                     &cancel, &err),
                         NIXERY_ERROR);

        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
        assert_int_equal(pthread_join(tid, NULL), 0);

        assert_int_equal(err.kind, NIXERY_ERROR_CANCELED);
        assert_string_equal(err.message, "the build was canceled");
        assert_int_equal(access(packs[0].file, F_OK), -1);

        /* promised are 200 ms, on a machine that has time for us */

        assert_true((now.tv_sec - canceler.when.tv_sec) * 1000
                        + (now.tv_nsec - canceler.when.tv_nsec) / 1000000
                    < 5000);
        assert_true(entries("/proc/self/task") <= tasks);

        nixery_error_free(&err);
        free_packs(packs, LAYERS);
        shell(*state, "rm -f work/*");
    }

    /* before it started */

    packs = make_packs(*state, LAYERS);
    assert_int_equal(nixery_pack(packs, LAYERS, 2, NULL, NULL, &cancel, &err),
                     NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_CANCELED);
    assert_int_equal(entries("work"), 0);

    nixery_error_free(&err);
    free_packs(packs, LAYERS);
}


static void
no_other_thread(void **state)
{
    size_t           i;
    nixery_pack_t   *packs;
    pthread_attr_t   old, huge;
    nixery_error_t   err = { 0 };

    make_store(*state);
    packs = make_packs(*state, LAYERS);

    /* there is no room for such a stack */

    assert_int_equal(pthread_getattr_default_np(&old), 0);
    assert_int_equal(pthread_attr_init(&huge), 0);
    assert_int_equal(pthread_attr_setstacksize(&huge, (size_t) 1 << 50), 0);
    assert_int_equal(pthread_setattr_default_np(&huge), 0);

    assert_int_equal(pack(packs, LAYERS, 8, &err), NIXERY_OK);

    assert_int_equal(pthread_setattr_default_np(&old), 0);

    for (i = 0; i < LAYERS; i++) {
        assert_string_equal(packs[i].digest, golden[i].digest);
    }

    assert_int_equal(pthread_attr_destroy(&huge), 0);
    assert_int_equal(pthread_attr_destroy(&old), 0);
    free_packs(packs, LAYERS);
}


static void
descriptors_run_out(void **state)
{
    int              rc;
    rlim_t           n;
    size_t           before;
    nixery_pack_t   *packs;
    struct rlimit    old, few;
    nixery_error_t   err = { 0 };

    make_store(*state);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    before = entries("/proc/self/fd");

    for (n = 3; /* void */; n++) {
        packs = make_packs(*state, LAYERS);
        few = old;
        few.rlim_cur = n;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);

        rc = pack(packs, LAYERS, 4, &err);

        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(entries("/proc/self/fd"), before);
        free_packs(packs, LAYERS);
        shell(*state, "rm -f work/*");

        if (rc == NIXERY_OK) {
            break;
        }

        assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
        assert_non_null(strstr(err.message, ": Too many open files"));
        nixery_error_free(&err);
    }

    assert_in_range(n, 4, 200);
}


static int
make_dir(void **state)
{
    char  *dir;

    dir = strdup("/tmp/nixery-pack-test.XXXXXX");

    if (dir == NULL || mkdtemp(dir) == NULL || chdir(dir) == -1) {
        return -1;
    }

    *state = dir;

    return 0;
}


static int
remove_dir(void **state)
{
    if (chdir("/") == -1) {
        return -1;
    }

    shell(*state, "rm -rf -- \"$PWD\"");
    free(*state);

    return 0;
}


static void
shell(const char *dir, const char *command)
{
    char  *full;

    assert_int_not_equal(asprintf(&full, "cd '%s' && umask 022 && { %s; }", dir,
                                  command),
                         -1);
    assert_int_equal(system(full), 0);

    free(full);
}


static char *
join(const char *dir, const char *name)
{
    char  *path;

    assert_int_not_equal(asprintf(&path, "%s/%s", dir, name), -1);

    return path;
}


/* Bytes that are easy to compress in one place and hard in another. */

static void
make_file(const char *dir, const char *name, size_t len, uint32_t seed)
{
    int      fd;
    char    *path, *data;
    size_t   i;

    data = malloc(len);
    assert_non_null(data);

    for (i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (char) (seed >> 24 >> (i >> 18 & 7));
    }

    path = join(dir, name);

    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    assert_int_not_equal(fd, -1);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(close(fd), 0);

    free(path);
    free(data);
}


static void
make_store(const char *dir)
{
    int    i;
    char  *path;

    shell(dir, "mkdir -p work ." STORE "0-big ." STORE "3-tiny ." STORE "4-many"
               " ." STORE "5-contents && ln -s " STORE "4-many ." STORE
               "5-contents/bin && ln -s big ." STORE "0-big/link");

    make_file(dir, STORE "0-big/big", BIG, 1);
    make_file(dir, STORE "1-exact", EXACT, 2);
    make_file(dir, STORE "2-small", 1234, 3);

    for (i = 0; i < 50; i++) {
        assert_int_not_equal(asprintf(&path, STORE "4-many/%d", i), -1);
        make_file(dir, path, (size_t) i * i * i, (uint32_t) i);
        free(path);
    }
}


/* As many layers as asked for: the fixture's, again and again. */

static nixery_pack_t *
make_packs(const char *dir, size_t n)
{
    char           *file;
    size_t          i;
    nixery_pack_t  *packs;

    packs = calloc(n, sizeof(nixery_pack_t));
    assert_non_null(packs);

    for (i = 0; i < n; i++) {
        assert_int_not_equal(asprintf(&file, "%s/work/%zu", dir, i), -1);

        packs[i].file = file;
        packs[i].tar.root = dir;

        if (i % LAYERS == LAYERS - 1) {
            packs[i].tar.contents = paths[LAYERS - 1];

        } else {
            packs[i].tar.paths = &paths[i % LAYERS];
            packs[i].tar.npaths = 1;
        }
    }

    return packs;
}


static void
free_packs(nixery_pack_t *packs, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        free((char *) (uintptr_t) packs[i].file);
    }

    free(packs);
}


static int
pack(nixery_pack_t *packs, size_t n, unsigned threads, nixery_error_t *err)
{
    return nixery_pack(packs, n, threads, NULL, NULL, NULL, err);
}


static int
done(nixery_pack_t *layer, void *data, nixery_error_t *err)
{
    char         hex[NIXERY_HEX_LEN + 1], *bytes;
    seen_t      *seen;
    size_t       len;
    sigset_t     mask;
    unsigned     n;

    seen = data;

    n = atomic_fetch_add(&seen->calls, 1) + 1;

    bytes = read_file(layer->file, &len);

    if (len != layer->size
        || nixery_sha256_hex(bytes, len, hex) != NIXERY_OK
        || strcmp(hex, layer->digest) != 0)
    {
        atomic_fetch_add(&seen->wrong, 1);
    }

    free(bytes);

    if (pthread_sigmask(SIG_SETMASK, NULL, &mask) != 0
        || (!pthread_equal(pthread_self(), seen->caller)
            && (!sigismember(&mask, SIGCHLD) || !sigismember(&mask, SIGTERM)
                || !sigismember(&mask, SIGALRM))))
    {
        atomic_fetch_add(&seen->masks, 1);
    }

    if (n == seen->fail) {
        return nixery_error_set(err, NIXERY_ERROR_STORAGE,
                                "the storage is full");
    }

    return NIXERY_OK;
}


/* Sets the flag once something is written. */

static void *
cancel_later(void *data)
{
    canceler_t   *canceler;
    struct stat   sb;

    canceler = data;

    while (stat(canceler->file, &sb) == -1 || sb.st_size < 100000) {
        sched_yield();
    }

    (void) clock_gettime(CLOCK_MONOTONIC, &canceler->when);
    atomic_store(&canceler->cancel->flag, 1);

    return NULL;
}


static size_t
entries(const char *dir)
{
    DIR            *d;
    size_t          n;
    struct dirent  *de;

    d = opendir(dir);
    assert_non_null(d);

    n = 0;

    while ((de = readdir(d)) != NULL) {
        n += de->d_name[0] != '.';
    }

    (void) closedir(d);

    return n;
}


static char *
read_file(const char *file, size_t *len)
{
    int          fd;
    char        *data;
    ssize_t      n;
    struct stat  sb;

    fd = open(file, O_RDONLY | O_CLOEXEC);

    if (fd == -1 || fstat(fd, &sb) == -1) {
        abort();
    }

    data = malloc((size_t) sb.st_size + 1);

    if (data == NULL) {
        abort();
    }

    n = read(fd, data, (size_t) sb.st_size + 1);
    *len = n == -1 ? 0 : (size_t) n;

    (void) close(fd);

    return data;
}


#define pack_test(f)  cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        pack_test(golden_digests),
        pack_test(members_of_one_piece),
        pack_test(no_layer),
        pack_test(done_is_called_once_each),
        pack_test(errors_of_done),
        pack_test(more_layers_than_threads),
        pack_test(path_that_vanished),
        pack_test(work_file_that_is_there),
        pack_test(disk_is_full),
        pack_test(canceled),
        pack_test(no_other_thread),
        pack_test(descriptors_run_out),
    };

    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
