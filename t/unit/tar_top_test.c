
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <archive.h>
#include <archive_entry.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_buf.h"
#include "nixery_tar.h"


#define CONTENTS  "/nix/store/00000000000000000000000000000000-contents"
#define BASH      "/nix/store/11111111111111111111111111111111-bash"
#define CORE      "/nix/store/22222222222222222222222222222222-coreutils"
#define ETC       "/nix/store/33333333333333333333333333333333-etc"

#define PASSWD    "drwxr-xr-x etc/\n" FILES
#define FILES     "-rw-r--r-- etc/group\n-rw-r--r-- etc/passwd\n"
#define TMP       "drwxrwxrwt tmp/\n"
#define ENV       "drwxr-xr-x usr/\ndrwxr-xr-x usr/bin/\n" \
                  "lrwxrwxrwx usr/bin/env -> /bin/env\n"


static int make_dir(void **state);
static int remove_dir(void **state);
static void shell(const char *dir, const char *command);
static int take(void *data, const void *bytes, size_t len,
    nixery_error_t *err);
static int write_top(const char *dir, nixery_buf_t *out, nixery_error_t *err);
static char *list(const char *dir);
static void assert_top(const char *dir, const char *expected);
static char *content(const char *dir, const char *name);


static void
empty_contents(void **state)
{
    char  *text;

    shell(*state, "mkdir ." CONTENTS);
    assert_top(*state, PASSWD TMP);

    text = content(*state, "etc/passwd");
    assert_string_equal(text,
                        "root:x:0:0:root:/root:/bin/sh\n"
                        "nobody:x:65534:65534:nobody:/nonexistent:"
                        "/bin/false\n");
    free(text);

    text = content(*state, "etc/group");
    assert_string_equal(text, "root:x:0:\nnogroup:x:65534:\n");
    free(text);
}


static void
tree_of_links(void **state)
{
    shell(*state, "mkdir -p ." CONTENTS " && cd ." CONTENTS
                  " && mkdir -p bin share/man"
                  " && ln -s " BASH "/bin/bash bin/bash"
                  " && ln -s " CORE "/bin/env bin/env"
                  " && ln -s " BASH "/share/man/man1 share/man/man1"
                  " && ln -s " BASH "/lib lib && chmod 555 bin");

    assert_top(*state,
               "dr-xr-xr-x bin/\n"
               "lrwxrwxrwx bin/bash -> " BASH "/bin/bash\n"
               "lrwxrwxrwx bin/env -> " CORE "/bin/env\n" PASSWD
               "lrwxrwxrwx lib -> " BASH "/lib\n"
               "drwxr-xr-x share/\n"
               "drwxr-xr-x share/man/\n"
               "lrwxrwxrwx share/man/man1 -> " BASH
               "/share/man/man1\n" TMP ENV);
}


static void
bin_is_one_link(void **state)
{
    shell(*state, "mkdir ." CONTENTS " && ln -s " CORE "/bin ." CONTENTS
                  "/bin");

    assert_top(*state, "lrwxrwxrwx bin -> " CORE "/bin\n" PASSWD TMP ENV);
}


static void
env_never_dangles(void **state)
{
    /* neither without env nor with a link that leads nowhere */

    shell(*state, "mkdir -p ." CONTENTS "/bin && cd ." CONTENTS
                  "/bin && ln -s " BASH "/bin/bash bash");
    assert_top(*state, "drwxr-xr-x bin/\nlrwxrwxrwx bin/bash -> " BASH
               "/bin/bash\n" PASSWD TMP);

    shell(*state, "ln -s " BASH "/bin/env ." CONTENTS "/bin/env");
    assert_top(*state, "drwxr-xr-x bin/\nlrwxrwxrwx bin/bash -> " BASH
               "/bin/bash\nlrwxrwxrwx bin/env -> " BASH
               "/bin/env\n" PASSWD TMP);

    shell(*state, "ln -sfn env ." CONTENTS "/bin/env");
    assert_top(*state, "drwxr-xr-x bin/\nlrwxrwxrwx bin/bash -> " BASH
               "/bin/bash\nlrwxrwxrwx bin/env -> env\n" PASSWD TMP);
}


static void
marks_of_nix_are_skipped(void **state)
{
    shell(*state, "mkdir -p ." CONTENTS "/nix-support ." CONTENTS
                  "/lib/nix-support && cd ." CONTENTS
                  " && ln -s /var/empty manifest.nix && touch nix-support/x"
                  " lib/manifest.nix");

    assert_top(*state, PASSWD "drwxr-xr-x lib/\n-rw-r--r-- lib/manifest.nix\n"
               "drwxr-xr-x lib/nix-support/\n" TMP);
}


static void
etc_is_one_link(void **state)
{
    char  *text;

    shell(*state, "mkdir ." CONTENTS " && ln -s " ETC "/etc ." CONTENTS
                  "/etc");

    assert_top(*state,
               "drwxr-xr-x etc/\n"
               "-rw-r--r-- etc/group\n"
               "-rw-r--r-- etc/passwd\n"
               "lrwxrwxrwx etc/services -> " ETC "/etc/services\n"
               "lrwxrwxrwx etc/ssl -> " ETC "/etc/ssl\n" TMP);

    /* what is there of its own stays */

    shell(*state, "echo own > ." ETC "/etc/passwd");

    assert_top(*state,
               "drwxr-xr-x etc/\n"
               "-rw-r--r-- etc/group\n"
               "lrwxrwxrwx etc/passwd -> " ETC "/etc/passwd\n"
               "lrwxrwxrwx etc/services -> " ETC "/etc/services\n"
               "lrwxrwxrwx etc/ssl -> " ETC "/etc/ssl\n" TMP);

    shell(*state, "cd ." CONTENTS " && rm etc && mkdir etc"
                  " && echo mine > etc/group && chmod 640 etc/group");

    assert_top(*state, "drwxr-xr-x etc/\n-rw-r----- etc/group\n"
               "-rw-r--r-- etc/passwd\n" TMP);

    text = content(*state, "etc/group");
    assert_string_equal(text, "mine\n");
    free(text);
}


static void
usr_is_one_link(void **state)
{
    shell(*state, "mkdir -p ." CONTENTS " ." ETC "/usr && cd ." CONTENTS
                  " && ln -s " CORE "/bin bin && ln -s " ETC "/usr usr"
                  " && cd ../*-etc/usr && ln -s " BASH "/bin bin"
                  " && touch file");

    /* as deep as it must be, and no deeper */

    assert_top(*state,
               "lrwxrwxrwx bin -> " CORE "/bin\n" PASSWD TMP
               "drwxr-xr-x usr/\n"
               "drwxr-xr-x usr/bin/\n"
               "lrwxrwxrwx usr/bin/bash -> " ETC "/usr/bin/bash\n"
               "lrwxrwxrwx usr/bin/env -> /bin/env\n"
               "lrwxrwxrwx usr/file -> " ETC "/usr/file\n");

    /* it has one */

    shell(*state, "ln -sfn " CORE "/bin ." ETC "/usr/bin");

    assert_top(*state,
               "lrwxrwxrwx bin -> " CORE "/bin\n" PASSWD TMP
               "lrwxrwxrwx usr -> " ETC "/usr\n");
}


static void
tmp_is_for_everyone(void **state)
{
    shell(*state, "mkdir -p ." CONTENTS "/tmp && touch ." CONTENTS "/tmp/x"
                  " && chmod 555 ." CONTENTS "/tmp");
    assert_top(*state, PASSWD TMP "-rw-r--r-- tmp/x\n");

    shell(*state, "chmod 755 ." CONTENTS "/tmp && rm -r ." CONTENTS "/tmp"
                  " && ln -s " ETC "/etc ." CONTENTS "/tmp");
    assert_top(*state, PASSWD TMP "lrwxrwxrwx tmp/services -> " ETC
               "/etc/services\nlrwxrwxrwx tmp/ssl -> " ETC "/etc/ssl\n");
}


static void
files_stay_apart(void **state)
{
    shell(*state, "mkdir ." CONTENTS " && cd ." CONTENTS
                  " && echo x > a && ln a b && echo x > c");

    assert_top(*state, "-rw-r--r-- a\n-rw-r--r-- b\n-rw-r--r-- c\n" PASSWD TMP);
}


static void
links_that_lead_nowhere(void **state)
{
    char             *message;
    size_t            i;
    nixery_buf_t      out = { 0 };
    nixery_error_t    err = { 0 };

    static const char *const  targets[] = {
        "etc",                     /* itself */
        "/nix/store/nothing",
        CONTENTS "/loop",
        BASH "/bin/bash",          /* a file */
        "/etc",                    /* of this machine, not of the image */
        "../../../../../etc"
    };

    shell(*state, "mkdir ." CONTENTS " && ln -s " CONTENTS "/etc ." CONTENTS
                  "/loop");

    for (i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        assert_int_not_equal(asprintf(&message, "ln -sfn '%s' .%s/etc",
                                      targets[i], CONTENTS),
                             -1);
        shell(*state, message);
        free(message);

        assert_int_equal(write_top(*state, &out, &err), NIXERY_ERROR);
        assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
        assert_string_equal(err.message, "\"etc\" of \"" CONTENTS "\" is no"
                                         " directory of the store");
        nixery_error_free(&err);
        nixery_buf_free(&out);
    }

    /* a file in the way is no better */

    shell(*state, "rm ." CONTENTS "/etc && touch ." CONTENTS "/etc");
    assert_int_equal(write_top(*state, &out, &err), NIXERY_ERROR);
    assert_non_null(strstr(err.message, "\"etc\" of "));
    nixery_error_free(&err);
    nixery_buf_free(&out);
}


static void
contents_that_are_not_there(void **state)
{
    nixery_buf_t      out = { 0 };
    nixery_error_t    err = { 0 };

    assert_int_equal(write_top(*state, &out, &err), NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
    assert_string_equal(err.message, "can't open \"" CONTENTS "\": No such"
                                     " file or directory");
    nixery_error_free(&err);

    shell(*state, "mkdir ." CONTENTS " && mkfifo ." CONTENTS "/fifo");
    assert_int_equal(write_top(*state, &out, &err), NIXERY_ERROR);
    assert_string_equal(err.message, "can't pack \"/fifo\": it is neither a"
                                     " file nor a directory nor a link");
    nixery_error_free(&err);
    nixery_buf_free(&out);
}


static void
canceled(void **state)
{
    nixery_tar_t      tar = { 0 };
    nixery_buf_t      out = { 0 };
    nixery_error_t    err = { 0 };
    nixery_cancel_t   cancel = { 0 };

    shell(*state, "mkdir ." CONTENTS);

    atomic_store(&cancel.flag, 1);

    tar.root = *state;
    tar.contents = CONTENTS;
    tar.cancel = &cancel;

    assert_int_equal(nixery_tar_write(&tar, take, &out, &err), NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_CANCELED);
    assert_int_equal(out.len, 0);

    nixery_error_free(&err);
}


static void
descriptors_run_out(void **state)
{
    int              rc;
    rlim_t           n;
    nixery_buf_t     out = { 0 };
    struct rlimit    old, few;
    nixery_error_t   err = { 0 };

    shell(*state, "mkdir -p ." CONTENTS "/a/b/c && touch ." CONTENTS
                  "/a/b/c/d && ln -s " ETC "/etc ." CONTENTS "/etc");

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);

    for (n = 3; /* void */; n++) {
        few = old;
        few.rlim_cur = n;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);

        rc = write_top(*state, &out, &err);

        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        nixery_buf_free(&out);

        if (rc == NIXERY_OK) {
            break;
        }

        assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
        nixery_error_free(&err);
    }

    assert_in_range(n, 6, 100);
}


static int
make_dir(void **state)
{
    char  *dir;

    dir = strdup("/tmp/nixery-top-test.XXXXXX");

    if (dir == NULL || mkdtemp(dir) == NULL) {
        return -1;
    }

    shell(dir, "umask 022 && mkdir -p ." BASH "/bin ." CORE "/bin ." ETC
               "/etc/ssl && touch ." BASH "/bin/bash ." CORE "/bin/env ." ETC
               "/etc/services");

    *state = dir;

    return 0;
}


static int
remove_dir(void **state)
{
    shell(*state, "chmod -R u+rwx . && rm -rf -- \"$PWD\"");
    free(*state);

    return 0;
}


static void
shell(const char *dir, const char *command)
{
    char  *full;

    assert_int_not_equal(asprintf(&full, "cd '%s' && umask 022 && %s", dir,
                                  command),
                         -1);
    assert_int_equal(system(full), 0);

    free(full);
}


static int
take(void *data, const void *bytes, size_t len, nixery_error_t *err)
{
    (void) err;

    return nixery_buf_append(data, bytes, len);
}


static int
write_top(const char *dir, nixery_buf_t *out, nixery_error_t *err)
{
    nixery_tar_t  tar = { 0 };

    tar.root = dir;
    tar.contents = CONTENTS;

    return nixery_tar_write(&tar, take, out, err);
}


static char *
list(const char *dir)
{
    const char            *target;
    nixery_buf_t           out = { 0 }, text = { 0 };
    nixery_error_t         err = { 0 };
    struct archive        *a;
    struct archive_entry  *entry;

    if (write_top(dir, &out, &err) != NIXERY_OK) {
        fail_msg("%s", err.message);
    }

    a = archive_read_new();
    assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
    assert_int_equal(archive_read_open_memory(a, out.data, out.len),
                     ARCHIVE_OK);

    while (archive_read_next_header(a, &entry) == ARCHIVE_OK) {
        target = archive_entry_symlink(entry);

        assert_null(archive_entry_hardlink(entry));
        assert_int_equal(archive_entry_mtime(entry), 1);
        assert_int_equal(archive_entry_uid(entry), 0);
        assert_int_equal(archive_entry_gid(entry), 0);

        assert_int_equal(nixery_buf_printf(&text, "%.10s %s%s%s\n",
                                           archive_entry_strmode(entry),
                                           archive_entry_pathname(entry),
                                           target ? " -> " : "",
                                           target ? target : ""),
                         NIXERY_OK);
    }

    assert_int_equal(archive_read_free(a), ARCHIVE_OK);
    nixery_buf_free(&out);

    return text.data;
}


static void
assert_top(const char *dir, const char *expected)
{
    char  *text;

    text = list(dir);
    assert_string_equal(text, expected);
    free(text);
}


static char *
content(const char *dir, const char *name)
{
    char                  *text;
    la_ssize_t             n;
    nixery_buf_t           out = { 0 };
    nixery_error_t         err = { 0 };
    struct archive        *a;
    struct archive_entry  *entry;

    assert_int_equal(write_top(dir, &out, &err), NIXERY_OK);

    a = archive_read_new();
    assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
    assert_int_equal(archive_read_open_memory(a, out.data, out.len),
                     ARCHIVE_OK);

    do {
        assert_int_equal(archive_read_next_header(a, &entry), ARCHIVE_OK);
    } while (strcmp(archive_entry_pathname(entry), name) != 0);

    text = calloc(1, 4096);
    assert_non_null(text);

    n = archive_read_data(a, text, 4095);
    assert_int_equal(n, archive_entry_size(entry));

    assert_int_equal(archive_read_free(a), ARCHIVE_OK);
    nixery_buf_free(&out);

    return text;
}


#define top_test(f)  cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        top_test(empty_contents),
        top_test(tree_of_links),
        top_test(bin_is_one_link),
        top_test(env_never_dangles),
        top_test(marks_of_nix_are_skipped),
        top_test(etc_is_one_link),
        top_test(usr_is_one_link),
        top_test(tmp_is_for_everyone),
        top_test(files_stay_apart),
        top_test(links_that_lead_nowhere),
        top_test(contents_that_are_not_there),
        top_test(canceled),
        top_test(descriptors_run_out),
    };

    return cmocka_run_group_tests_name("tar top", tests, NULL, NULL);
}
