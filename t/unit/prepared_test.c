
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <archive.h>
#include <dlfcn.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_pack.h"
#include "nixery_prepared.h"
#include "nixery_sha256.h"


/*
 * The top layer of Nixery's prepare-image.nix, made by the tar that makes it
 * there; the store is a file system of the tests' own.
 */


#define BASH   "/nix/store/11111111111111111111111111111111-bash-5"
#define CERTS  "/nix/store/22222222222222222222222222222222-cacert-3"
#define OTHER  "/nix/store/33333333333333333333333333333333-other"
#define LAYER  "/nix/store/44444444444444444444444444444444-layer.tar"

#define FILES  10000   /* bytes: more than libarchive looks at */

#define count_of(array)  (sizeof(array) / sizeof(array[0]))

#define fails(kind, message)  assert_fails(kind, message, 1)


static int make_store(void **state);
static int remove_store(void **state);
static void shell(const char *command);
static void take_tar(nixery_result_t *result);
static void assert_look(const char *command, unsigned bash, unsigned ca);
static void assert_fails(nixery_error_e kind, const char *message, int made);
static char *read_file(const char *path, size_t *len);


static nixery_cancel_t   cancel;
static int               cancel_at_header;
static int               disk_is_broken;


ssize_t
read(int fd, void *buf, size_t len)
{
    if (disk_is_broken) {
        errno = EIO;
        return -1;
    }

    return syscall(SYS_read, fd, buf, len);
}


int
archive_read_next_header(struct archive *a, struct archive_entry **entry)
{
    int  (*next)(struct archive *, struct archive_entry **);

    *(void **) &next = dlsym(RTLD_NEXT, "archive_read_next_header");

    if (cancel_at_header) {
        atomic_store(&cancel.flag, 1);
    }

    return next(a, entry);
}


/* As symlinkJoin leaves them: directories, and links to files. */

static void
links(void **state)
{
    (void) state;

    shell("ln -s " BASH "/bin/bash bin; ln -s " CERTS "/c.crt " CERTS "/d.crt"
          " etc/ssl/certs; mv etc/ssl/certs/c.crt etc/ssl/certs/ca-bundle.crt;"
          " mkdir tmp");

    assert_look("tar -c .", 1, 1);
    assert_look("tar -c --transform='s|^\\./||' --sort=name --mtime=@1"
                " --owner=0 --group=0 .", 1, 1);
    assert_look("tar -c bin etc", 1, 1);
    assert_look("tar -cP --transform='s|^|/.//./|S' bin etc", 1, 1);
    assert_look("busybox tar -c .", 1, 1);
    assert_look("tar -c bin", 1, 0);
    assert_look("tar -c etc", 0, 1);
    assert_look("tar -c tmp", 0, 0);
    assert_look("tar -c --transform='s|^|x/|S' bin etc", 0, 0);
    assert_look("tar -c --transform='s|bin/bash|bin/bash.old|;"
                "s|ca-bundle|ca|' bin etc", 0, 0);
}


static void
formats(void **state)
{
    char    *command;
    size_t   i;

    static const char  *names[] = { "v7", "oldgnu", "gnu", "ustar", "pax" };

    (void) state;

    shell("ln -s " BASH "/bin/bash bin; touch \"bin/$(printf '\\303\\251')\""
          " $(seq -f \"bin/%050g\" 9)");

    for (i = 0; i < count_of(names); i++) {
        command = format("tar -c -H %s .", names[i]);
        assert_look(command, 1, 0);
        free(command);
    }

    shell("mkdir -p $(printf '%0100d/%0100d/%0100d' 1 2 3) && ln -s $(printf"
          " '%0200d' 4) x");

    for (i = 2; i < count_of(names); i++) {
        command = format("tar -c -H %s . 2>/dev/null || :", names[i]);
        assert_look(command, 1, 0);
        free(command);
    }

    /* a tar of nothing */

    assert_look("head -c 1024 /dev/zero", 0, 0);
}


static void
folders_that_are_links(void **state)
{
    (void) state;

    shell("rmdir bin && ln -s " BASH "/bin bin; rm -r etc; ln -s " CERTS
          "/etc etc");
    assert_look("tar -c .", 1, 1);

    shell("rm etc; mkdir etc; ln -s " CERTS "/etc/ssl etc");
    assert_look("tar -c .", 1, 1);

    shell("rm etc/ssl; mkdir etc/ssl; ln -s " CERTS "/etc/ssl/certs etc/ssl");
    assert_look("tar -c .", 1, 1);

    /* a store path, all of it */

    shell("rm -r bin; ln -s " BASH " bin; ln -s bin/bash " BASH "/bash");
    assert_look("tar -c .", 1, 1);

    shell("rm " BASH "/bash");
    assert_look("tar -c .", 0, 1);
}


static void
files(void **state)
{
    (void) state;

    shell("echo > bin/bash; echo > etc/ssl/certs/ca-bundle.crt");
    assert_look("tar -c .", 1, 1);

    shell("rm bin/bash; mkdir bin/bash");
    assert_look("tar -c .", 0, 1);

    /* in the place of a folder */

    shell("rm -r bin; echo > bin");
    assert_look("tar -c .", 0, 1);
}


static void
what_cannot_be_told(void **state)
{
    char    *command;
    size_t   i;

    static const char  *targets[] = {
        "sh",                                /* of the image */
        "../" "nix/store",
        "/bin/sh",
        "/nix/store",
        "/nix/store/",
        OTHER "/bin/bash",                   /* not in the graph */
        BASH "/bin/none",
        BASH "/../33333333333333333333333333333333-other/none",
        BASH "x/bin/bash",
        "/nix/store/../../bin/sh",
    };

    (void) state;

    for (i = 0; i < count_of(targets); i++) {
        command = format("ln -sfn '%s' bin/bash", targets[i]);
        shell(command);
        free(command);
        assert_look("tar -c .", 0, 0);
    }

    shell("rm bin/bash; echo x > bin/a; ln bin/a bin/bash");
    assert_look("tar -c --sort=name .", 0, 0);

    /* longer than a path can be, before and behind the store path's end */

    shell("rm bin/*; ln -s " BASH " bin/bash");
    assert_look("tar -c --transform=\"s|bash-5\\$|&$(printf '%05000d' 1)|R\" .",
                0, 0);
    assert_look("tar -c --transform=\"s|bash-5\\$|&/$(printf '%05000d' 1)|R\""
                " .", 0, 0);
}


static void
the_last_one_counts(void **state)
{
    (void) state;

    shell("ln -s " BASH "/bin/bash bin; tar -cf ../two.tar .; rm bin/bash;"
          " ln -s none bin/bash; tar -rf ../two.tar ./bin");
    assert_look("cat ../two.tar", 0, 0);

    shell("tar -cf ../two.tar .; rm bin/bash; ln -s " BASH "/bin/bash bin;"
          " tar -rf ../two.tar ./bin/bash");
    assert_look("cat ../two.tar", 1, 0);
}


static void
no_tars(void **state)
{
    char    *make;
    size_t   i;

    static const struct {
        const char  *command;
        const char  *message;
    } cases[] = {
        { "seq 1000", "Unrecognized archive format" },
        { "tar -c . | gzip", "Unrecognized archive format" },
        { "printf '!<arch>\\n'", "Unrecognized archive format" },
        { "head -c 2000 /dev/zero | tr '\\0' x",
          "Unrecognized archive format" },
        { "head -c 10000 /dev/zero > bin/f; tar -c --sort=name . |"
          " head -c 5000", "Truncated" },
        { "tar -c --sort=name . | { head -c 512; seq 1000; }", "" },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        make = format("{ %s; } > " LAYER, cases[i].command);
        shell(make);
        free(make);

        fails(NIXERY_ERROR_RESULT, "the builder's layer \"" LAYER "\" is not a"
                                   " tar without compression: ");
        fails(NIXERY_ERROR_RESULT, cases[i].message);
    }
}


static void
what_the_builder_says(void **state)
{
    nixery_error_t       err = { 0 };
    nixery_result_t      result;
    nixery_oci_image_t   image = { 0 };

    (void) state;

    shell("tar -c . > " LAYER);

    take_tar(&result);
    result.tarball.size++;
    assert_int_equal(nixery_prepared_look(&result, &image, &cancel, &err),
                     NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_RESULT);
    assert_string_equal(err.message, "the builder says layer \"" LAYER "\" has"
                                     " 10241 bytes, but it has 10240");
    nixery_error_free(&err);
    nixery_result_free(&result);

    take_tar(&result);
    memset(result.tarball.hash, '0', NIXERY_HEX_LEN);
    assert_int_equal(nixery_prepared_look(&result, &image, &cancel, &err),
                     NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_RESULT);
    assert_non_null(strstr(err.message, "the builder says the SHA-256 of layer"
                                        " \"" LAYER "\" is 0000000000000000"));
    assert_non_null(strstr(err.message, "0000, but it is "));
    nixery_error_free(&err);
    nixery_result_free(&result);
}


static void
no_files(void **state)
{
    struct rlimit  old, none;

    (void) state;

    assert_fails(NIXERY_ERROR_RESULT, "the builder names layer \"" LAYER "\","
                 " which can't be read: No such file or directory", 0);

    shell("mkdir " LAYER);
    assert_fails(NIXERY_ERROR_RESULT, "the builder names layer \"" LAYER "\","
                 " which is not a regular file with something in it", 0);

    shell("rmdir " LAYER "; mkfifo " LAYER);
    assert_fails(NIXERY_ERROR_RESULT, "not a regular file", 0);

    shell("rm " LAYER "; tar -c . > /nix/x.tar; ln -s /nix/x.tar " LAYER);
    assert_fails(NIXERY_ERROR_RESULT, "not a regular file", 0);

    shell("rm " LAYER "; : > " LAYER);
    assert_fails(NIXERY_ERROR_RESULT, "with something in it", 0);

    shell("tar -c . > " LAYER);

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_fails(NIXERY_ERROR_SYSTEM, "can't be read: Too many open files", 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);

    disk_is_broken = 1;
    assert_fails(NIXERY_ERROR_SYSTEM, "can't read layer \"" LAYER "\":"
                 " Input/output error", 0);
    disk_is_broken = 0;
}


static void
canceled(void **state)
{
    (void) state;

    shell("tar -c . > " LAYER);

    atomic_store(&cancel.flag, 1);
    fails(NIXERY_ERROR_CANCELED, "the build was canceled");

    atomic_store(&cancel.flag, 0);
    cancel_at_header = 1;
    fails(NIXERY_ERROR_CANCELED, "the build was canceled");

    cancel_at_header = 0;
    atomic_store(&cancel.flag, 0);
}


/* What a client unpacks is the builder's tar, in one piece and in several. */

static void
packed(void **state)
{
    char            *tar, *layer, hex[NIXERY_HEX_LEN + 1];
    size_t           len, n;
    unsigned         threads;
    nixery_pack_t    pack;
    nixery_error_t   err = { 0 };

    (void) state;

    shell("head -c 3000000 /dev/urandom > bin/noise; tar -c . > " LAYER);
    tar = read_file(LAYER, &len);
    assert_int_equal(nixery_sha256_hex(tar, len, hex), NIXERY_OK);

    for (threads = 1; threads <= 4; threads *= 2) {
        memset(&pack, 0, sizeof(nixery_pack_t));

        pack.tar.root = "";
        pack.tar.tarball = LAYER;
        pack.file = "/nix/layer.gz";

        assert_int_equal(nixery_pack(&pack, 1, threads, NULL, NULL, &cancel,
                                     &err),
                         NIXERY_OK);
        assert_string_equal(pack.diff_id, hex);
        assert_int_equal(pack.tar_size, len);

        shell("zcat < /nix/layer.gz | cmp - " LAYER);

        layer = read_file(pack.file, &n);
        assert_int_equal(pack.size, n);
        assert_int_equal(nixery_sha256_hex(layer, n, hex), NIXERY_OK);
        assert_string_equal(pack.digest, hex);
        assert_int_equal(nixery_sha256_hex(tar, len, hex), NIXERY_OK);

        free(layer);
        assert_int_equal(unlink(pack.file), 0);
    }

    free(tar);

    /* one that has vanished meanwhile */

    assert_int_equal(unlink(LAYER), 0);
    assert_int_equal(nixery_pack(&pack, 1, 2, NULL, NULL, &cancel, &err),
                     NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_RESULT);
    assert_int_equal(access(pack.file, F_OK), -1);
    nixery_error_free(&err);
}


static int
make_store(void **state)
{
    (void) state;

    shell("rm -rf /nix/store/* /nix/root; mkdir -p /nix/root/bin"
          " /nix/root/etc/ssl/certs " BASH "/bin " CERTS "/etc/ssl/certs "
          OTHER "/bin; echo > " BASH "/bin/bash; echo > " OTHER "/bin/bash;"
          " echo > " CERTS "/etc/ssl/certs/ca-bundle.crt; echo > " CERTS
          "/c.crt; echo > " CERTS "/d.crt");

    return 0;
}


static int
remove_store(void **state)
{
    (void) state;

    shell("rm -rf /nix/*.tar /nix/*.gz");

    return 0;
}


/* In the folder that becomes the layer. */

static void
shell(const char *command)
{
    char  *full;

    full = format("mkdir -p /nix/root && cd /nix/root && export LC_ALL=C &&"
                  " { %s; }", command);

    if (system(full) != 0) {
        fail_msg("%s", full);
    }

    free(full);
}


/* A result that names the layer, and is right about it. */

static void
take_tar(nixery_result_t *result)
{
    char            *json, *tar, hex[NIXERY_HEX_LEN + 1];
    size_t           len;
    nixery_error_t   err = { 0 };

    tar = read_file(LAYER, &len);
    assert_int_equal(nixery_sha256_hex(tar, len, hex), NIXERY_OK);

    json = format("{\"runtimeGraph\":{\"graph\":["
                  "{\"path\":\"" BASH "\",\"narSize\":1,\"references\":[]},"
                  "{\"path\":\"" CERTS "\",\"narSize\":1,\"references\":[]}]},"
                  "\"symlinkLayer\":{\"path\":\"" LAYER "\",\"tarHash\":\"%s\","
                  "\"size\":%zu}}", hex, len);

    assert_int_equal(nixery_result_parse(result, json, strlen(json), &err),
                     NIXERY_OK);

    free(json);
    free(tar);
}


static void
assert_look(const char *command, unsigned bash, unsigned ca)
{
    char                *make;
    nixery_error_t       err = { 0 };
    nixery_result_t      result;
    nixery_oci_image_t   image = { 0 };

    make = format("{ %s; } > " LAYER, command);
    shell(make);
    free(make);

    take_tar(&result);

    if (nixery_prepared_look(&result, &image, &cancel, &err) != NIXERY_OK) {
        fail_msg("%s: %s", command, err.message);
    }

    if (image.bash != bash || image.ca != ca) {
        fail_msg("%s: bash %u, ca %u", command, image.bash, image.ca);
    }

    nixery_result_free(&result);
}


/* made: the layer is there, and the builder right about it */

static void
assert_fails(nixery_error_e kind, const char *message, int made)
{
    int                  descriptors;
    nixery_error_t       err = { 0 };
    nixery_result_t      result = { 0 };
    nixery_oci_image_t   image = { 0 };

    if (made) {
        take_tar(&result);
        descriptors = unit_descriptors();

    } else {
        result.tarball.path = strdup(LAYER);
        descriptors = -1;
    }

    assert_int_equal(nixery_prepared_look(&result, &image, &cancel, &err),
                     NIXERY_ERROR);
    assert_int_equal(err.kind, kind);

    if (strstr(err.message, message) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", message, err.message);
    }

    assert_true(!made || unit_descriptors() == descriptors);

    nixery_error_free(&err);
    nixery_result_free(&result);
}


static char *
read_file(const char *path, size_t *len)
{
    FILE         *fp;
    nixery_buf_t  buf = { 0 };
    size_t        n;
    char          bytes[FILES];

    fp = fopen(path, "re");
    assert_non_null(fp);

    while ((n = fread(bytes, 1, sizeof(bytes), fp)) > 0) {
        assert_int_equal(nixery_buf_append(&buf, bytes, n), NIXERY_OK);
    }

    assert_int_equal(fclose(fp), 0);

    *len = buf.len;

    return buf.data;
}


int
main(int argc, char *const *argv)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_store, remove_store)

    const struct CMUnitTest  tests[] = {
        test(links),
        test(formats),
        test(folders_that_are_links),
        test(files),
        test(what_cannot_be_told),
        test(the_last_one_counts),
        test(no_tars),
        test(what_the_builder_says),
        test(no_files),
        test(canceled),
        test(packed),
    };

    if (unit_store(argv) == -1) {
        return 1;
    }

    (void) umask(022);

    return cmocka_run_group_tests_name("prepared", tests, NULL, NULL);
}
