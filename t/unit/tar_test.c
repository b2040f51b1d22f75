
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_buf.h"
#include "nixery_sha256.h"
#include "nixery_tar.h"


#define ONE    "/nix/store/00000000000000000000000000000000-one"
#define TWO    "/nix/store/11111111111111111111111111111111-two"
#define THREE  "/nix/store/22222222222222222222222222222222-three"

#define BIG    700001   /* bytes: more than is read at once */
#define HUGE   (INT64_C(8) * 1024 * 1024 * 1024 + 1)

#define TEN     "1234567890"
#define FIFTY   TEN TEN TEN TEN TEN
#define DEEP    FIFTY "/" FIFTY "/" FIFTY "/" FIFTY "/" FIFTY "/" FIFTY


/* What a sink does with the stream, and what it does to the store meanwhile. */

typedef struct {
    nixery_buf_t       buf;
    nixery_sha256_t   *sha;
    size_t             calls;
    size_t             max;       /* of calls, the next one fails; 0: any */
    const char        *trigger;   /* bytes that ... */
    const char        *command;   /* ... this shell command is run at */
    nixery_cancel_t   *cancel;    /* set at the trigger */
    FILE              *pipe;
} sink_t;


static int make_dir(void **state);
static int remove_dir(void **state);
static char *join(const char *dir, const char *name);
static void shell(const char *dir, const char *command);
static void make_file(const char *dir, const char *name, mode_t mode,
    const void *data, size_t len);
static void fill(char *data, size_t len, uint32_t seed);
static void make_fixture(const char *dir, int copies);
static void make_tar(const char *dir, const char *file);
static int take(void *data, const void *bytes, size_t len,
    nixery_error_t *err);
static int write_tar(const char *dir, const char *const *paths, size_t n,
    sink_t *sink, nixery_error_t *err);
static void assert_fails(const char *dir, const char *path, sink_t *sink,
    nixery_error_e kind, const char *message);
static void hash(const char *dir, char *hex);
static char **list(const char *dir, size_t *n);
static void assert_same(const char *one, const char *two);
static void assert_linked(const char *dir, const char *one, const char *two);


static const char *const  all[] = { ONE, TWO, THREE };


/* What the fixture is, whatever machine, reader of the clock or locale. */

#define GOLDEN  "d0632b9c6e29ea4c99e6ff8e94e0fb0c" \
                "e29f26a8eee0d78990f6de0a56c2242a"


static void
golden_digest(void **state)
{
    char  hex[NIXERY_HEX_LEN + 1];

    make_fixture(*state, 0);

    hash(*state, hex);
    assert_string_equal(hex, GOLDEN);
}


static void
nothing_else_counts(void **state)
{
    char    hex[NIXERY_HEX_LEN + 1];
    mode_t  old;

    /* other times, other inodes, copies in the place of hard links */

    old = umask(027);
    make_fixture(*state, 1);
    shell(*state, "find nix -exec touch -h -d 2001-02-03 {} +");

    if (geteuid() == 0) {
        shell(*state, "chown -hR 12:34 nix && chmod 4755 nix/store/*-one/suid"
                      " && chmod 2755 nix/store/*-one/sgid");
    }

    hash(*state, hex);
    assert_string_equal(hex, GOLDEN);

    (void) umask(old);

    assert_int_equal(setenv("TZ", "Asia/Tokyo", 1), 0);
    tzset();
    assert_non_null(setlocale(LC_ALL, "C.UTF-8"));

    hash(*state, hex);
    assert_string_equal(hex, GOLDEN);

    assert_non_null(setlocale(LC_ALL, "C"));
    assert_int_equal(unsetenv("TZ"), 0);
    tzset();
}


static void
readers_have_nothing_to_say(void **state)
{
    char    *command, *source, *copy;
    size_t   i;

    static const char *const  readers[] = {
        "LC_ALL=C tar -xpf tar -C out",
        "LC_ALL=C.UTF-8 tar -xpf tar -C out",
        "LC_ALL=C bsdtar -xpf tar -C out",
        "LC_ALL=C.UTF-8 bsdtar -xpf tar -C out",
        "LC_ALL=C python3 -W error untar.py",
        "LC_ALL=C.UTF-8 python3 -W error untar.py",
    };

    static const char  script[] =
        "import tarfile\n"
        "trust = {}\n"
        "if hasattr(tarfile, 'fully_trusted_filter'):\n"
        "    trust['filter'] = 'fully_trusted'\n"
        "with tarfile.open('tar') as tar:\n"
        "    tar.extractall('out', **trust)\n";

    make_fixture(*state, 0);
    make_tar(*state, "tar");
    make_file(*state, "untar.py", 0644, script, sizeof(script) - 1);

    source = join(*state, "nix");
    copy = join(*state, "out/nix");

    for (i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
        assert_int_not_equal(asprintf(&command, "mkdir out && %s 2>&1",
                                      readers[i]),
                             -1);
        shell(*state, command);
        free(command);

        assert_same(source, copy);
        assert_linked(copy, "store/00000000000000000000000000000000-one/hard1",
                      "store/00000000000000000000000000000000-one/hard2");

        shell(*state, "test \"$(find out/nix ! -newermt @2 ! -type l | wc -l)\""
                      " = \"$(find nix ! -type l | wc -l)\" && rm -rf out");
    }

    free(source);
    free(copy);
}


static void
stream_ends_with_two_blocks(void **state)
{
    sink_t           sink = { 0 };
    nixery_error_t   err = { 0 };

    assert_int_equal(write_tar(*state, NULL, 0, &sink, &err), NIXERY_OK);

    /* nix/, nix/store/, the end */

    assert_int_equal(sink.buf.len, 4 * 512);
    assert_string_equal(sink.buf.data, "nix/");
    assert_string_equal(sink.buf.data + 512, "nix/store/");
    assert_string_equal(sink.buf.data + 100, "0000755");

    nixery_buf_free(&sink.buf);
}


static void
equal_files_are_linked(void **state)
{
    char    **names;
    size_t    i, n, files, links;

    shell(*state, "mkdir -p ." ONE " && cd ." ONE
                  " && for i in $(seq 2500); do : > $i; done"
                  " && echo same > a && echo same > b && echo other > c"
                  " && echo same > d && chmod +x d"
                  /* one size and one CRC, but not one content */
                  " && printf plumless > e && printf buckeroo > f"
                  " && head -c 600000 /dev/zero > g && cp g h && cp g i"
                  " && printf plumless >> g && printf buckeroo >> h"
                  " && printf plumless >> i");

    names = list(*state, &n);
    files = links = 0;

    for (i = 0; i < n; i++) {
        if (strstr(names[i], "-one/") == NULL) {
            continue;
        }

        if (strstr(names[i], " link to ") == NULL) {
            files++;

        } else {
            links++;
        }

        /* the letters: b is a, i is g */

        if (strstr(names[i], "-one/b link to nix/store/") != NULL) {
            assert_non_null(strstr(names[i], "-one/a"));

        } else if (strstr(names[i], "-one/i link to nix/store/") != NULL) {
            assert_non_null(strstr(names[i], "-one/g"));

        } else if (strstr(names[i], " link to ") != NULL) {
            assert_non_null(strpbrk(strstr(names[i], "-one/"), "0123456789"));
        }

        free(names[i]);
    }

    /* no file gets more than 1000 links: 2500 are three */

    assert_int_equal(files, 3 + 7);
    assert_int_equal(links, 2497 + 2);

    free(names);
}


static void
paths_of_any_length(void **state)
{
    int              fd, below, i;
    char             name[51];
    sink_t           sink = { 0 };
    nixery_error_t   err = { 0 };

    shell(*state, "mkdir -p ." ONE);

    fd = open(*state, O_RDONLY | O_DIRECTORY);
    below = openat(fd, "." ONE, O_RDONLY | O_DIRECTORY);
    (void) close(fd);

    for (i = 0; i < 200; i++) {
        (void) snprintf(name, sizeof(name), "%03d-%046d", i, i);
        assert_int_equal(mkdirat(below, name, 0755), 0);
        fd = openat(below, name, O_RDONLY | O_DIRECTORY);
        assert_int_not_equal(fd, -1);
        (void) close(below);
        below = fd;
    }

    /* two equal files, too far down to be linked */

    for (i = 0; i < 2; i++) {
        fd = openat(below, i ? "first" : "second", O_WRONLY | O_CREAT, 0644);
        assert_int_equal(write(fd, "bytes", 5), 5);
        (void) close(fd);
    }

    assert_int_equal(write_tar(*state, all, 1, &sink, &err), NIXERY_OK);
    make_file(*state, "tar", 0644, sink.buf.data, sink.buf.len);
    nixery_buf_free(&sink.buf);

    shell(*state, "test \"$(tar -tf tar 2>&1 | wc -l)\" = 205"
                  " && test \"$(tar -xOf tar 2>&1)\" = bytesbytes");

    /* further down than there are descriptors to spare */

    for (i = 0; i < 60; i++) {
        assert_int_equal(mkdirat(below, "d", 0755), 0);
        fd = openat(below, "d", O_RDONLY | O_DIRECTORY);
        (void) close(below);
        below = fd;
    }

    (void) close(below);

    memset(&sink, 0, sizeof(sink_t));
    assert_fails(*state, ONE, &sink, NIXERY_ERROR_SYSTEM,
                 "it is nested too deeply");
}


static void
special_files(void **state)
{
    int                 fd;
    char               *path;
    sink_t              sink = { 0 };
    struct sockaddr_un  addr = { 0 };

    shell(*state, "mkdir -p ." ONE "/d && mkfifo ." ONE "/d/fifo");
    assert_fails(*state, ONE, &sink, NIXERY_ERROR_SYSTEM,
                 "can't pack \"" ONE "/d/fifo\": it is neither a file nor a"
                 " directory nor a link");

    shell(*state, "rm ." ONE "/d/fifo");

    /* by way of the working directory: a socket's path is short */

    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_not_equal(fd, -1);

    addr.sun_family = AF_UNIX;
    (void) snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/s",
                    (char *) *state);
    assert_int_equal(bind(fd, (struct sockaddr *) &addr, sizeof(addr)), 0);
    (void) close(fd);

    shell(*state, "mv s ." ONE "/d/socket");
    assert_fails(*state, ONE, &sink, NIXERY_ERROR_SYSTEM,
                 "can't pack \"" ONE "/d/socket\": it is neither");

    shell(*state, "rm ." ONE "/d/socket");

    path = join(*state, ONE "/d/null");

    if (mknod(path, S_IFCHR | 0666, makedev(1, 3)) == 0) {
        assert_fails(*state, ONE, &sink, NIXERY_ERROR_SYSTEM,
                     "can't pack \"" ONE "/d/null\": it is neither");
    }

    free(path);
}


static void
what_is_not_there(void **state)
{
    sink_t  sink = { 0 };

    assert_fails(*state, ONE, &sink, NIXERY_ERROR_SYSTEM,
                 "can't pack \"" ONE "\": No such file or directory");

    /* gone when its turn comes */

    shell(*state, "mkdir -p ." ONE "/b && printf trigger > ." ONE "/a"
                  " && touch ." ONE "/b/c");

    sink.trigger = "trigger";
    sink.command = "rm -r ." ONE "/b";
    assert_fails(*state, ONE, &sink, NIXERY_ERROR_SYSTEM,
                 "can't pack \"" ONE "/b\": No such file or directory");
}


static void
sizes_that_change(void **state)
{
    char    *data;
    sink_t   sink = { 0 };

    shell(*state, "mkdir -p ." ONE);

    data = malloc(BIG);
    assert_non_null(data);
    fill(data, BIG, 1);
    memcpy(data, "trigger", 7);

    make_file(*state, ONE "/file", 0644, data, BIG);
    free(data);

    sink.trigger = "trigger";
    sink.command = "truncate -s 300000 ." ONE "/file";
    assert_fails(*state, ONE, &sink, NIXERY_ERROR_SYSTEM,
                 "\"" ONE "/file\" changed its size while it was read");

    sink.command = "truncate -s 700000 ." ONE "/file";
    shell(*state, sink.command);
    sink.command = "echo x >> ." ONE "/file";
    assert_fails(*state, ONE, &sink, NIXERY_ERROR_SYSTEM,
                 "\"" ONE "/file\" changed its size while it was read");
}


static void
unreadable(void **state)
{
    int              status;
    char            *message;
    pid_t            pid;
    size_t           i;
    sink_t           sink;
    nixery_error_t   err = { 0 };

    static const char *const  names[] = { "file", "directory" };

    shell(*state, "chmod 755 . && mkdir -p ." ONE " ." TWO
                  " && touch ." ONE "/file && mkdir ." TWO "/directory"
                  " && chmod 0 ." ONE "/file ." TWO "/directory");

    /* to root everything is readable */

    pid = fork();
    assert_int_not_equal(pid, -1);

    if (pid == 0) {
        if (geteuid() == 0 && setuid(65534) == -1) {
            _exit(1);
        }

        for (i = 0; i < 2; i++) {
            memset(&sink, 0, sizeof(sink_t));

            if (asprintf(&message, "can't open \"%s/%s\": Permission denied",
                         all[i], names[i])
                    == -1
                || write_tar(*state, &all[i], 1, &sink, &err) == NIXERY_OK
                || strcmp(err.message, message) != 0)
            {
                _exit(2);
            }

            nixery_error_free(&err);
            nixery_buf_free(&sink.buf);
            free(message);
        }

        _exit(0);
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}


static void
descriptors_run_out(void **state)
{
    int              rc;
    size_t           before, n, failed;
    sink_t           sink;
    struct rlimit    old, few;
    nixery_error_t   err = { 0 };

    make_fixture(*state, 0);

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    before = unit_descriptors();
    failed = 0;

    for (n = 3; n < 200; n++) {
        few = old;
        few.rlim_cur = n;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);

        memset(&sink, 0, sizeof(sink_t));
        rc = write_tar(*state, all, 3, &sink, &err);
        nixery_buf_free(&sink.buf);

        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(unit_descriptors(), before);

        if (rc == NIXERY_OK) {
            break;
        }

        failed++;
        assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
        assert_non_null(strstr(err.message, ONE));
        assert_non_null(strstr(err.message, ": Too many open files"));
        nixery_error_free(&err);
    }

    /* a folder, its listing, one below, a file, one to compare it with */

    assert_true(failed >= 4);
    assert_true(n < 200);
}


static void
sink_errors_are_kept(void **state)
{
    size_t           n;
    sink_t           sink;
    nixery_error_t   err = { 0 };

    make_fixture(*state, 0);

    for (n = 1; /* void */; n++) {
        memset(&sink, 0, sizeof(sink_t));
        sink.max = n;

        if (write_tar(*state, all, 3, &sink, &err) == NIXERY_OK) {
            nixery_buf_free(&sink.buf);
            break;
        }

        /* nothing is written behind what failed */

        assert_int_equal(sink.calls, n + 1);
        assert_int_equal(err.kind, NIXERY_ERROR_STORAGE);
        assert_string_equal(err.message, "the sink is full");

        nixery_error_free(&err);
        nixery_buf_free(&sink.buf);
    }

    assert_true(n > 40);
}


static void
canceled(void **state)
{
    size_t            i;
    sink_t            sink;
    nixery_cancel_t   cancel = { 0 };

    static const char *const  triggers[] = {
        "nix/store/", "-one/bin", "trigger", "suid", "zzz"
    };

    make_fixture(*state, 0);

    /* in the middle of a file as well */

    shell(*state, "{ printf trigger; head -c 2000000 /dev/zero; } > ." ONE
                  "/zero2 && echo > ." ONE "/zzz");

    for (i = 0; i < sizeof(triggers) / sizeof(triggers[0]); i++) {
        memset(&sink, 0, sizeof(sink_t));
        atomic_store(&cancel.flag, 0);

        sink.trigger = triggers[i];
        sink.cancel = &cancel;
        assert_fails(*state, ONE, &sink, NIXERY_ERROR_CANCELED,
                     "the build was canceled");
        assert_int_equal(sink.calls, sink.max);
    }
}


/* A size above 8 GiB is in base 256; nothing of the file is read yet. */

static void
huge_header(void **state)
{
    int              i;
    int64_t          size;
    sink_t           sink = { 0 };
    const char      *header;
    nixery_error_t   err = { 0 };

    shell(*state, "mkdir -p ./nix/store && truncate -s 8589934593 ." ONE);

    sink.max = 3;
    assert_int_equal(write_tar(*state, all, 1, &sink, &err), NIXERY_ERROR);
    assert_string_equal(err.message, "the sink is full");
    assert_int_equal(sink.buf.len, 3 * 512);

    header = sink.buf.data + 2 * 512;
    assert_string_equal(header, all[0] + 1);
    assert_int_equal((unsigned char) header[124], 0x80);

    for (size = 0, i = 125; i < 136; i++) {
        size = size << 8 | (unsigned char) header[i];
    }

    assert_true(size == HUGE);

    nixery_error_free(&err);
    nixery_buf_free(&sink.buf);
}


static void
huge_content(void **state)
{
    char            *command;
    size_t           i;
    sink_t           sink = { 0 };
    nixery_error_t   err = { 0 };

    static const char *const  readers[] = {
        "tar -xOf - 2>&1 | cmp - ." ONE " 2>&1",
        "bsdtar -xOf - 2>&1 | cmp - ." ONE " 2>&1",
        "python3 -W error untar.py 2>&1 | cmp - ." ONE " 2>&1",
    };

    static const char  script[] =
        "import sys, shutil, tarfile\n"
        "with tarfile.open(fileobj=sys.stdin.buffer, mode='r|') as tar:\n"
        "    for member in tar:\n"
        "        if member.isfile():\n"
        "            shutil.copyfileobj(tar.extractfile(member),\n"
        "                               sys.stdout.buffer, 1 << 20)\n";

    shell(*state, "mkdir -p ./nix/store && truncate -s 8589934592 ." ONE
                  " && printf x >> ." ONE);
    make_file(*state, "untar.py", 0644, script, sizeof(script) - 1);

    for (i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
        assert_int_not_equal(asprintf(&command, "cd '%s' && %s",
                                      (char *) *state, readers[i]),
                             -1);

        sink.pipe = popen(command, "w");
        assert_non_null(sink.pipe);

        assert_int_equal(write_tar(*state, all, 1, &sink, &err), NIXERY_OK);
        assert_int_equal(pclose(sink.pipe), 0);

        free(command);
    }
}


static int
make_dir(void **state)
{
    char  *dir;

    dir = strdup("/tmp/nixery-tar-test.XXXXXX");

    if (dir == NULL || mkdtemp(dir) == NULL) {
        return -1;
    }

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


static char *
join(const char *dir, const char *name)
{
    char  *path;

    assert_int_not_equal(asprintf(&path, "%s/%s", dir, name), -1);

    return path;
}


/* What a command prints is a failure too. */

static void
shell(const char *dir, const char *command)
{
    char  *full, line[256];
    FILE  *p;

    assert_int_not_equal(asprintf(&full, "cd '%s' && { %s; }", dir, command),
                         -1);

    p = popen(full, "r");
    assert_non_null(p);

    while (fgets(line, sizeof(line), p) != NULL) {
        fail_msg("\"%s\" says: %s", command, line);
    }

    if (pclose(p) != 0) {
        fail_msg("\"%s\" failed", command);
    }

    free(full);
}


static void
make_file(const char *dir, const char *name, mode_t mode, const void *data,
    size_t len)
{
    int    fd;
    char  *path;

    path = join(dir, name);

    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_not_equal(fd, -1);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);

    free(path);
}


static void
fill(char *data, size_t len, uint32_t seed)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (char) (seed >> 24);
    }
}


/*
 * One path of everything, one that is a file, one that is a link.  With copies,
 * what was linked is not, and what was not is.
 */

static void
make_fixture(const char *dir, int copies)
{
    char    *one, *data, *path, *target;
    size_t   i;

    static const char *const  names[] = {
        FIFTY FIFTY, FIFTY FIFTY "x",
        FIFTY FIFTY FIFTY "xxxxxx",
        FIFTY FIFTY FIFTY FIFTY FIFTY "12345",
        "gr\xc3\xbc\xc3\x9f", "\xff\xfe\x80", "\xc3", "a b", "a\nb",
        "a'b\"c", "a\\b", "-x", "*", "~", " ", "\x01\x7f", "x="
    };

    shell(dir, "umask 022 && mkdir -p ." ONE " && cd ." ONE
               " && mkdir bin empty sticky many && chmod 1777 sticky"
               " && mkdir -p " DEEP " && ln -s bin/tool link"
               " && ln -s /no/where dangling && ln -s . self");

    one = join(dir, ONE);

    make_file(one, "bin/tool", 0555, "#!/bin/sh\n", 10);
    make_file(one, "bin.d", 0444, "sorted", 6);
    make_file(one, "suid", 04755, "suid", 4);
    make_file(one, "sgid", 02755, "sgid", 4);
    make_file(one, "private", 0600, "private", 7);
    make_file(one, "zero", 0444, "", 0);
    make_file(one, DEEP "/deep", 0444, "deep", 4);
    make_file(dir, TWO, 0444, "two", 3);

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        path = join("many", names[i]);
        make_file(one, path, 0444, names[i], strlen(names[i]));

        /* as long a target, in as strange letters */

        assert_int_not_equal(asprintf(&target, "%s/l%zu", one, i), -1);
        assert_int_equal(symlink(path, target), 0);

        free(target);
        free(path);
    }

    path = join(one, "l-long");
    assert_int_equal(symlink("/nix/store/" DEEP, path), 0);
    free(path);

    path = join(dir, THREE);
    assert_int_equal(symlink(ONE, path), 0);
    free(path);

    data = malloc(BIG);
    assert_non_null(data);
    fill(data, BIG, 7);

    make_file(one, "hard1", 0444, "hard", 4);
    make_file(one, "big1", 0444, data, BIG);
    fill(data, BIG, 8);
    make_file(one, "big3", 0444, data, BIG);
    free(data);

    shell(one, copies ? "cp -p hard1 hard2 && ln big1 big2"
                      : "ln hard1 hard2 && cp -p big1 big2");

    free(one);
}


static void
make_tar(const char *dir, const char *file)
{
    sink_t           sink = { 0 };
    nixery_error_t   err = { 0 };

    assert_int_equal(write_tar(dir, all, 3, &sink, &err), NIXERY_OK);
    make_file(dir, file, 0644, sink.buf.data, sink.buf.len);

    nixery_buf_free(&sink.buf);
}


static int
take(void *data, const void *bytes, size_t len, nixery_error_t *err)
{
    sink_t      *sink;
    const char  *dir;

    sink = data;

    if (sink->max != 0 && sink->calls++ == sink->max) {
        return nixery_error_set(err, NIXERY_ERROR_STORAGE, "the sink is full");
    }

    if (sink->sha != NULL) {
        nixery_sha256_update(sink->sha, bytes, len);

    } else if (sink->pipe != NULL) {
        assert_int_equal(fwrite(bytes, 1, len, sink->pipe), len);

    } else {
        assert_int_equal(nixery_buf_append(&sink->buf, bytes, len), NIXERY_OK);
    }

    if (sink->trigger != NULL
        && memmem(bytes, len, sink->trigger, strlen(sink->trigger)) != NULL)
    {
        if (sink->cancel != NULL) {
            atomic_store(&sink->cancel->flag, 1);
            sink->max = ++sink->calls;

        } else {
            dir = getenv("NIXERY_TAR_TEST");
            shell(dir, sink->command);
        }
    }

    return NIXERY_OK;
}


static int
write_tar(const char *dir, const char *const *paths, size_t n, sink_t *sink,
    nixery_error_t *err)
{
    nixery_tar_t  tar;

    memset(&tar, 0, sizeof(nixery_tar_t));

    tar.root = dir;
    tar.paths = paths;
    tar.npaths = n;
    tar.cancel = sink->cancel;

    assert_int_equal(setenv("NIXERY_TAR_TEST", dir, 1), 0);

    return nixery_tar_write(&tar, take, sink, err);
}


static void
assert_fails(const char *dir, const char *path, sink_t *sink,
    nixery_error_e kind, const char *message)
{
    nixery_error_t  err = { 0 };

    assert_int_equal(write_tar(dir, &path, 1, sink, &err), NIXERY_ERROR);
    assert_int_equal(err.kind, kind);

    if (strstr(err.message, message) == NULL) {
        fail_msg("\"%s\" has no \"%s\"", err.message, message);
    }

    nixery_error_free(&err);
    nixery_buf_free(&sink->buf);
}


static void
hash(const char *dir, char *hex)
{
    sink_t           sink = { 0 };
    nixery_error_t   err = { 0 };

    sink.sha = nixery_sha256_new();
    assert_non_null(sink.sha);

    assert_int_equal(write_tar(dir, all, 3, &sink, &err), NIXERY_OK);

    nixery_sha256_final(sink.sha, hex);
    nixery_sha256_free(sink.sha);
}


/* Lines of GNU tar's listing of the path ONE. */

static char **
list(const char *dir, size_t *n)
{
    char            *command, *line, **lines;
    FILE            *p;
    size_t           size;
    sink_t           sink = { 0 };
    nixery_error_t   err = { 0 };

    assert_int_equal(write_tar(dir, all, 1, &sink, &err), NIXERY_OK);
    make_file(dir, "tar", 0644, sink.buf.data, sink.buf.len);
    nixery_buf_free(&sink.buf);

    assert_int_not_equal(asprintf(&command, "cd '%s' && tar -tvf tar | "
                                  "grep -v '/$'",
                                  dir),
                         -1);
    p = popen(command, "r");
    assert_non_null(p);

    lines = NULL;
    *n = 0;
    line = NULL;
    size = 0;

    while (getline(&line, &size, p) > 0) {
        lines = realloc(lines, (*n + 1) * sizeof(char *));
        assert_non_null(lines);
        lines[(*n)++] = line;
        line = NULL;
        size = 0;
    }

    free(line);
    free(command);
    assert_int_equal(pclose(p), 0);

    return lines;
}


/* Two trees of the same names, types, modes, bytes and targets. */

static void
assert_same(const char *one, const char *two)
{
    int              n, m, i;
    char            *first, *second, *command, link1[4096], link2[4096];
    struct stat      sb1, sb2;
    struct dirent  **names1, **names2;

    assert_int_equal(lstat(one, &sb1), 0);
    assert_int_equal(lstat(two, &sb2), 0);
    assert_int_equal(sb1.st_mode, sb2.st_mode);

    if (S_ISLNK(sb1.st_mode)) {
        memset(link1, 0, sizeof(link1));
        memset(link2, 0, sizeof(link2));
        assert_true(readlink(one, link1, sizeof(link1) - 1) > 0);
        assert_true(readlink(two, link2, sizeof(link2) - 1) > 0);
        assert_string_equal(link1, link2);
        return;
    }

    if (S_ISREG(sb1.st_mode)) {
        assert_int_equal(sb1.st_size, sb2.st_size);

        /* the shell's quotes are not up to every name here */

        assert_int_equal(setenv("ONE", one, 1), 0);
        assert_int_equal(setenv("TWO", two, 1), 0);
        command = strdup("cmp -- \"$ONE\" \"$TWO\" 2>&1");
        shell("/", command);
        free(command);
        return;
    }

    n = scandir(one, &names1, NULL, alphasort);
    m = scandir(two, &names2, NULL, alphasort);
    assert_int_equal(n, m);

    for (i = 0; i < n; i++) {
        assert_string_equal(names1[i]->d_name, names2[i]->d_name);

        if (strcmp(names1[i]->d_name, ".") != 0
            && strcmp(names1[i]->d_name, "..") != 0)
        {
            first = join(one, names1[i]->d_name);
            second = join(two, names2[i]->d_name);
            assert_same(first, second);
            free(first);
            free(second);
        }

        free(names1[i]);
        free(names2[i]);
    }

    free(names1);
    free(names2);
}


static void
assert_linked(const char *dir, const char *one, const char *two)
{
    char         *first, *second;
    struct stat   sb1, sb2;

    first = join(dir, one);
    second = join(dir, two);

    assert_int_equal(stat(first, &sb1), 0);
    assert_int_equal(stat(second, &sb2), 0);
    assert_int_equal(sb1.st_ino, sb2.st_ino);
    assert_int_equal(sb1.st_nlink, 2);

    free(first);
    free(second);
}


#define tar_test(f)  cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        tar_test(golden_digest),
        tar_test(nothing_else_counts),
        tar_test(readers_have_nothing_to_say),
        tar_test(stream_ends_with_two_blocks),
        tar_test(equal_files_are_linked),
        tar_test(paths_of_any_length),
        tar_test(special_files),
        tar_test(what_is_not_there),
        tar_test(sizes_that_change),
        tar_test(unreadable),
        tar_test(descriptors_run_out),
        tar_test(sink_errors_are_kept),
        tar_test(canceled),
        tar_test(huge_header),
        tar_test(huge_content),
    };

    return cmocka_run_group_tests_name("tar", tests, NULL, NULL);
}
