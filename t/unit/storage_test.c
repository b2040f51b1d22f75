
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_storage.h"


#define HEX      HALF HALF
#define HALF     "0123456789abcdef0123456789abcdef"
#define LAYER    "layers/" HEX
#define MANIFEST "manifests/" HEX
#define BUILD    "builds/" HEX

#define BIG      (3 * 1024 * 1024 + 17)
#define WRITERS  6
#define ROUNDS   40

/* In a child process a failed check is its exit code: the line. */

#define check(cond)                                                          \
    do {                                                                     \
        if (!(cond)) {                                                       \
            report(__LINE__, #cond);                                         \
        }                                                                    \
    } while (0)


typedef struct {
    char              *path;      /* the storage's */
    char              *work;      /* for work files */
    nixery_storage_t  *st;
    nixery_error_t     err;
} fixture_t;

typedef void (*child_pt)(fixture_t *f);


static int make_fixture(void **state);
static int remove_fixture(void **state);
static void remove_tree(const char *path);
static char *work_file(fixture_t *f, const char *name, size_t size);
static char *join(const char *dir, const char *name);
static void write_file(const char *path, const char *text);
static int exists(const char *dir, const char *name);
static size_t entries(const char *dir, const char *name);
static ino_t inode(const char *dir, const char *name);
static unsigned mode(const char *dir, const char *name);
static void assert_object(fixture_t *f, const char *object, const char *text);
static void assert_error(fixture_t *f, int rc, const char *message);
static void assert_clean(fixture_t *f);
static void in_child(fixture_t *f, child_pt fn);
static void report(int line, const char *cond);
static void private_mounts(void);
static void write_map(const char *path, const char *fmt, unsigned id)
    __attribute__((format(printf, 2, 0)));
static void full_disk(fixture_t *f);
static void read_only(fixture_t *f);
static void no_descriptors(fixture_t *f);
static void file_size_limit(fixture_t *f);
static void *writer(void *data);
static void *reader(void *data);


static atomic_int  reading;


static void
layout(void **state)
{
    char              *path, *tmp;
    mode_t             mask;
    fixture_t         *f;
    nixery_storage_t  *st;

    f = *state;
    path = join(f->path, "other");

    assert_int_equal(mkdir(path, 0755), 0);

    /* a worker's mask may be anything */

    mask = umask(077);
    st = nixery_storage_directory(path, &f->err);
    assert_non_null(st);
    assert_int_equal(st->put_bytes(st, LAYER, "x", 1, &f->err), NIXERY_OK);
    umask(0);
    assert_int_equal(st->put_bytes(st, BUILD, "x", 1, &f->err), NIXERY_OK);
    umask(mask);

    assert_int_equal(mode(path, "layers"), 0755);
    assert_int_equal(mode(path, "manifests"), 0755);
    assert_int_equal(mode(path, "builds"), 0755);
    assert_int_equal(mode(path, "tmp"), 0700);
    assert_int_equal(mode(path, LAYER), 0644);
    assert_int_equal(mode(path, BUILD), 0644);

    st->free(st);

    /* again, and with a slash too many */

    tmp = join(path, "//");
    st = nixery_storage_directory(tmp, &f->err);
    assert_non_null(st);
    st->free(st);

    free(tmp);
    free(path);
}


static void
bytes(void **state)
{
    ino_t             was;
    uint64_t          size;
    fixture_t        *f;
    nixery_buf_t      buf = { 0 };
    nixery_storage_t *st;

    f = *state;
    st = f->st;

    assert_int_equal(st->stat(st, MANIFEST, &size, &f->err), NIXERY_DECLINED);
    assert_int_equal(st->get(st, MANIFEST, 100, &buf, &f->err),
                     NIXERY_DECLINED);
    assert_int_equal(f->err.kind, NIXERY_ERROR_NONE);

    assert_int_equal(st->put_bytes(st, MANIFEST, "one", 3, &f->err),
                     NIXERY_OK);
    assert_int_equal(st->stat(st, MANIFEST, &size, &f->err), NIXERY_OK);
    assert_int_equal(size, 3);
    assert_object(f, MANIFEST, "one");

    was = inode(f->path, MANIFEST);

    assert_int_equal(st->put_bytes(st, MANIFEST, "one", 3, &f->err),
                     NIXERY_OK);
    assert_int_equal(inode(f->path, MANIFEST), was);

    assert_int_equal(st->put_bytes(st, MANIFEST, "two", 3, &f->err),
                     NIXERY_OK);
    assert_object(f, MANIFEST, "two");
    assert_int_not_equal(inode(f->path, MANIFEST), was);

    assert_int_equal(st->put_bytes(st, MANIFEST, "three", 5, &f->err),
                     NIXERY_OK);
    assert_object(f, MANIFEST, "three");

    assert_int_equal(st->put_bytes(st, MANIFEST, NULL, 0, &f->err), NIXERY_OK);
    assert_int_equal(st->get(st, MANIFEST, 0, &buf, &f->err), NIXERY_OK);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
    nixery_buf_free(&buf);

    assert_clean(f);
}


static void
get_is_bounded(void **state)
{
    char             *data;
    fixture_t        *f;
    nixery_buf_t      buf = { 0 };
    nixery_storage_t *st;

    f = *state;
    st = f->st;

    data = malloc(100000);
    assert_non_null(data);
    memset(data, 'x', 100000);

    assert_int_equal(st->put_bytes(st, BUILD, data, 100000, &f->err),
                     NIXERY_OK);

    assert_int_equal(st->get(st, BUILD, 100000, &buf, &f->err), NIXERY_OK);
    assert_int_equal(buf.len, 100000);
    assert_memory_equal(buf.data, data, 100000);
    nixery_buf_free(&buf);

    assert_error(f, st->get(st, BUILD, 99999, &buf, &f->err),
                 "read \"" BUILD "\": it has more than 99999 bytes");
    assert_null(buf.data);

    free(data);
}


static void
files_are_moved(void **state)
{
    char              *file;
    ino_t              was;
    uint64_t           size;
    fixture_t         *f;
    nixery_storage_t  *st;

    f = *state;
    st = f->st;

    file = work_file(f, "layer", BIG);
    was = inode(f->work, "layer");

    assert_int_equal(st->put_file(st, LAYER, file, BIG, HEX, &f->err),
                     NIXERY_OK);
    assert_false(exists(f->work, "layer"));
    assert_int_equal(inode(f->path, LAYER), was);
    assert_int_equal(mode(f->path, LAYER), 0644);
    assert_int_equal(st->stat(st, LAYER, &size, &f->err), NIXERY_OK);
    assert_int_equal(size, BIG);
    free(file);

    /* one of the same size is kept */

    file = work_file(f, "layer", BIG);
    assert_int_equal(st->put_file(st, LAYER, file, BIG, HEX, &f->err),
                     NIXERY_OK);
    assert_int_equal(inode(f->path, LAYER), was);
    free(file);

    /* another size is a broken object */

    file = work_file(f, "shorter", 10);
    assert_int_equal(st->put_file(st, LAYER, file, 10, HEX, &f->err),
                     NIXERY_OK);
    assert_int_equal(st->stat(st, LAYER, &size, &f->err), NIXERY_OK);
    assert_int_equal(size, 10);
    free(file);

    assert_clean(f);
}


static void
files_of_another_file_system(void **state)
{
    char              *file;
    FILE              *fp, *expected;
    int                c;
    fixture_t         *f;
    struct stat        one, two;
    nixery_storage_t  *st;

    f = *state;
    st = f->st;

    free(f->work);
    f->work = strdup("/dev/shm/nixery-storage-test.XXXXXX");
    assert_non_null(f->work);
    assert_non_null(mkdtemp(f->work));

    assert_int_equal(stat(f->work, &one), 0);
    assert_int_equal(stat(f->path, &two), 0);
    assert_int_not_equal(one.st_dev, two.st_dev);

    file = work_file(f, "layer", BIG);

    assert_int_equal(st->put_file(st, LAYER, file, BIG, HEX, &f->err),
                     NIXERY_OK);
    free(file);

    assert_int_equal(mode(f->path, LAYER), 0644);

    /* compared with one that was made in the same way */

    file = work_file(f, "again", BIG);
    expected = fopen(file, "r");
    free(file);
    file = join(f->path, LAYER);
    fp = fopen(file, "r");
    free(file);

    assert_non_null(expected);
    assert_non_null(fp);

    do {
        c = getc(expected);
        assert_int_equal(getc(fp), c);
    } while (c != EOF);

    (void) fclose(expected);
    (void) fclose(fp);

    assert_clean(f);
}


static void
replaced_under_a_reader(void **state)
{
    int                fd;
    char              *path, buf[16];
    fixture_t         *f;
    nixery_storage_t  *st;

    f = *state;
    st = f->st;

    assert_int_equal(st->put_bytes(st, MANIFEST, "before", 6, &f->err),
                     NIXERY_OK);
    path = join(f->path, MANIFEST);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_not_equal(fd, -1);

    assert_int_equal(st->put_bytes(st, MANIFEST, "afterwards", 10, &f->err),
                     NIXERY_OK);
    assert_int_equal(read(fd, buf, sizeof(buf)), 6);
    assert_memory_equal(buf, "before", 6);

    (void) close(fd);
    free(path);
}


static void
bad_work_files(void **state)
{
    char              *file, *link_path;
    uint64_t           size;
    fixture_t         *f;
    nixery_storage_t  *st;

    f = *state;
    st = f->st;

    file = join(f->work, "missing");
    assert_int_equal(st->put_file(st, LAYER, file, 5, HEX, &f->err),
                     NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_STORAGE);
    assert_non_null(strstr(f->err.message, "store \"" LAYER "\": open \""));
    assert_non_null(strstr(f->err.message, "No such file or directory"));
    nixery_error_free(&f->err);
    free(file);

    file = work_file(f, "layer", 5);
    assert_int_equal(st->put_file(st, LAYER, file, 6, HEX, &f->err),
                     NIXERY_ERROR);
    assert_non_null(strstr(f->err.message, "is not a file of 6 bytes"));
    nixery_error_free(&f->err);

    link_path = join(f->work, "link");
    assert_int_equal(symlink(file, link_path), 0);
    assert_int_equal(st->put_file(st, LAYER, link_path, 5, HEX, &f->err),
                     NIXERY_ERROR);
    nixery_error_free(&f->err);

    assert_int_equal(st->stat(st, LAYER, &size, &f->err), NIXERY_DECLINED);

    free(link_path);
    free(file);
}


static void
names_of_objects(void **state)
{
    size_t             i;
    uint64_t           size;
    fixture_t         *f;
    nixery_buf_t       buf = { 0 };
    nixery_storage_t  *st;

    static const char  *bad[] = {
        "", "/", "layers", "layers/", HEX, "layers/..", "layers/../" HEX,
        "../layers/" HEX, "/layers/" HEX, "layers//" HEX, "layers/" HEX "/",
        "layers/" HEX "0", "layers/x" HEX, "tmp/" HEX, "layers/" HEX "\n",
        "layersx/" HEX, "Layers/" HEX, "layers/" HEX "/../" HEX,
        "layers/0123456789ABCDEF0123456789abcdef" HALF,
        "manifests/../../../../../../../../../../../../../../../../etc/"
        "passwd/x",
        NULL
    };

    f = *state;
    st = f->st;

    for (i = 0; bad[i] != NULL; i++) {
        assert_int_equal(st->locate(st, bad[i], &buf), NIXERY_ERROR);
        assert_int_equal(st->stat(st, bad[i], &size, &f->err), NIXERY_ERROR);
        assert_int_equal(f->err.kind, NIXERY_ERROR_STORAGE);
        nixery_error_free(&f->err);
        assert_int_equal(st->get(st, bad[i], 10, &buf, &f->err), NIXERY_ERROR);
        nixery_error_free(&f->err);
        assert_int_equal(st->put_bytes(st, bad[i], "x", 1, &f->err),
                         NIXERY_ERROR);
        nixery_error_free(&f->err);
        assert_int_equal(st->put_file(st, bad[i], "/etc/passwd", 1, HEX,
                                      &f->err),
                         NIXERY_ERROR);
        nixery_error_free(&f->err);
    }

    assert_null(buf.data);

    assert_int_equal(st->locate(st, LAYER, &buf), NIXERY_OK);
    assert_int_equal(buf.len, strlen(f->path) + 1 + strlen(LAYER));
    assert_memory_equal(buf.data, f->path, strlen(f->path));
    assert_string_equal(buf.data + strlen(f->path) + 1, LAYER);
    nixery_buf_free(&buf);

    assert_clean(f);
}


static void
odd_objects(void **state)
{
    char              *path;
    uint64_t           size;
    fixture_t         *f;
    nixery_buf_t       buf = { 0 };
    nixery_storage_t  *st;

    f = *state;
    st = f->st;

    path = join(f->path, LAYER);
    assert_int_equal(mkdir(path, 0755), 0);
    free(path);

    assert_error(f, st->stat(st, LAYER, &size, &f->err),
                 "look up \"" LAYER "\": not a regular file");
    assert_error(f, st->put_bytes(st, LAYER, "x", 1, &f->err),
                 "store \"" LAYER "\": rename: Is a directory");
    assert_error(f, st->get(st, LAYER, 10, &buf, &f->err),
                 "read \"" LAYER "\": Is a directory");

    path = join(f->path, MANIFEST);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    free(path);

    assert_int_equal(st->stat(st, MANIFEST, &size, &f->err), NIXERY_ERROR);
    nixery_error_free(&f->err);
    assert_int_equal(st->get(st, MANIFEST, 10, &buf, &f->err), NIXERY_ERROR);
    nixery_error_free(&f->err);

    path = join(f->path, BUILD);
    assert_int_equal(mkfifo(path, 0600), 0);
    free(path);

    assert_int_equal(st->stat(st, BUILD, &size, &f->err), NIXERY_ERROR);
    nixery_error_free(&f->err);
    assert_int_equal(st->put_bytes(st, BUILD, "x", 1, &f->err), NIXERY_OK);
    assert_object(f, BUILD, "x");

    assert_clean(f);
}


static void
bad_directories(void **state)
{
    char       *path, *message;
    fixture_t  *f;

    f = *state;

    assert_null(nixery_storage_directory("relative", &f->err));
    assert_error(f, NIXERY_ERROR, "storage directory \"relative\" is not an "
                                  "absolute path");

    assert_null(nixery_storage_directory("/no/such/directory", &f->err));
    assert_error(f, NIXERY_ERROR, "make directory \"/no/such/directory/layers"
                                  "\": No such file or directory");

    path = join(f->work, "file");
    write_file(path, "x");
    assert_null(nixery_storage_directory(path, &f->err));
    assert_non_null(strstr(f->err.message, ": Not a directory"));
    nixery_error_free(&f->err);
    free(path);

    path = join(f->work, "layers");
    write_file(path, "x");
    assert_null(nixery_storage_directory(f->work, &f->err));
    assert_int_not_equal(asprintf(&message, "\"%s\" is not a directory", path),
                         -1);
    assert_error(f, NIXERY_ERROR, message);
    free(message);
    free(path);
}


static void
left_over_files_are_removed(void **state)
{
    char              *dir, *file;
    fixture_t         *f;
    nixery_storage_t  *st;

    f = *state;

    dir = join(f->path, "tmp/nixery-work.0123456789abcdef");
    assert_int_equal(mkdir(dir, 0700), 0);
    file = join(dir, "object");
    write_file(file, "half of someth");
    free(file);
    free(dir);

    dir = join(f->path, "tmp/foreign");
    write_file(dir, "x");

    st = nixery_storage_directory(f->path, &f->err);
    assert_non_null(st);
    st->free(st);

    assert_int_equal(entries(f->path, "tmp"), 1);
    assert_int_equal(unlink(dir), 0);
    free(dir);
}


static void
wiped_while_in_use(void **state)
{
    char              *file, *path;
    fixture_t         *f;
    nixery_storage_t  *st;

    f = *state;
    st = f->st;

    assert_int_equal(st->put_bytes(st, MANIFEST, "x", 1, &f->err), NIXERY_OK);

    remove_tree(f->path);
    assert_int_equal(mkdir(f->path, 0755), 0);

    assert_int_equal(st->put_bytes(st, MANIFEST, "x", 1, &f->err), NIXERY_OK);
    assert_object(f, MANIFEST, "x");

    remove_tree(f->path);
    assert_int_equal(mkdir(f->path, 0755), 0);

    file = work_file(f, "layer", 1000);
    assert_int_equal(st->put_file(st, LAYER, file, 1000, HEX, &f->err),
                     NIXERY_OK);
    assert_true(exists(f->path, LAYER));
    free(file);

    /* gone altogether */

    remove_tree(f->path);

    assert_int_equal(st->put_bytes(st, MANIFEST, "x", 1, &f->err),
                     NIXERY_ERROR);
    path = join(f->path, "layers");
    assert_non_null(strstr(f->err.message, path));
    assert_non_null(strstr(f->err.message, ": No such file or directory"));
    nixery_error_free(&f->err);
    free(path);
}


static void
disk_is_full(void **state)
{
    in_child(*state, full_disk);
}


static void
storage_is_read_only(void **state)
{
    in_child(*state, read_only);
}


static void
descriptors_run_out(void **state)
{
    in_child(*state, no_descriptors);
}


static void
write_fails_half_way(void **state)
{
    in_child(*state, file_size_limit);
}


static void
many_writers_of_one_object(void **state)
{
    int         i;
    void       *failed;
    pthread_t   writers[WRITERS], readers[2];
    fixture_t  *f;

    f = *state;

    atomic_store(&reading, 1);

    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, reader, f), 0);
    }

    for (i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_create(&writers[i], NULL, writer, f), 0);
    }

    for (i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i], &failed), 0);
        assert_null(failed);
    }

    atomic_store(&reading, 0);

    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(readers[i], &failed), 0);
        assert_null(failed);
    }

    assert_clean(f);
}


static int
make_fixture(void **state)
{
    char        dir[] = "/tmp/nixery-storage-test.XXXXXX";
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));

    if (f == NULL || mkdtemp(dir) == NULL) {
        return -1;
    }

    f->path = join(dir, "storage");
    f->work = join(dir, "work");

    if (mkdir(f->path, 0755) == -1 || mkdir(f->work, 0755) == -1) {
        return -1;
    }

    f->st = nixery_storage_directory(f->path, &f->err);
    if (f->st == NULL) {
        return -1;
    }

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;

    remove_tree(f->work);
    *strrchr(f->path, '/') = '\0';
    remove_tree(f->path);

    f->st->free(f->st);
    nixery_error_free(&f->err);

    free(f->path);
    free(f->work);
    free(f);

    return 0;
}


static void
remove_tree(const char *path)
{
    char  *command;

    assert_int_not_equal(asprintf(&command, "rm -rf '%s'", path), -1);
    assert_int_equal(system(command), 0);
    free(command);
}


static char *
work_file(fixture_t *f, const char *name, size_t size)
{
    char    *path;
    FILE    *fp;
    size_t   i;

    path = join(f->work, name);

    fp = fopen(path, "we");
    assert_non_null(fp);

    for (i = 0; i < size; i++) {
        (void) putc((int) (i * 7 + i / 251), fp);
    }

    assert_int_equal(fclose(fp), 0);

    return path;
}


static char *
join(const char *dir, const char *name)
{
    char  *path;

    assert_int_not_equal(asprintf(&path, "%s/%s", dir, name), -1);

    return path;
}


static void
write_file(const char *path, const char *text)
{
    FILE  *fp;

    fp = fopen(path, "we");
    assert_non_null(fp);
    assert_true(fputs(text, fp) >= 0);
    assert_int_equal(fclose(fp), 0);
}


static int
exists(const char *dir, const char *name)
{
    int    rc;
    char  *path;

    path = join(dir, name);
    rc = access(path, F_OK);
    free(path);

    return rc == 0;
}


static size_t
entries(const char *dir, const char *name)
{
    DIR     *d;
    char    *path;
    size_t   n;

    path = join(dir, name);
    d = opendir(path);
    assert_non_null(d);

    for (n = 0; readdir(d) != NULL; n++) {
        /* void */
    }

    (void) closedir(d);
    free(path);

    return n - 2;
}


static ino_t
inode(const char *dir, const char *name)
{
    char        *path;
    struct stat  sb;

    path = join(dir, name);
    assert_int_equal(lstat(path, &sb), 0);
    free(path);

    return sb.st_ino;
}


static unsigned
mode(const char *dir, const char *name)
{
    char        *path;
    struct stat  sb;

    path = join(dir, name);
    assert_int_equal(lstat(path, &sb), 0);
    free(path);

    return sb.st_mode & 07777;
}


static void
assert_object(fixture_t *f, const char *object, const char *text)
{
    nixery_buf_t  buf = { 0 };

    assert_int_equal(f->st->get(f->st, object, 1000, &buf, &f->err),
                     NIXERY_OK);
    assert_string_equal(buf.data, text);
    nixery_buf_free(&buf);
}


static void
assert_error(fixture_t *f, int rc, const char *message)
{
    assert_int_equal(rc, NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_STORAGE);
    assert_string_equal(f->err.message, message);
    nixery_error_free(&f->err);
}


static void
assert_clean(fixture_t *f)
{
    assert_int_equal(entries(f->path, "tmp"), 0);
}


/* What would change this process runs in one of its own. */

static void
in_child(fixture_t *f, child_pt fn)
{
    int    status;
    pid_t  pid;

    pid = fork();
    assert_int_not_equal(pid, -1);

    if (pid == 0) {
        fn(f);
        _exit(0);
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}


static void
report(int line, const char *cond)
{
    fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, line, cond, strerror(errno));
    _exit(1);
}


static void
private_mounts(void)
{
    uid_t  uid;
    gid_t  gid;

    uid = geteuid();
    gid = getegid();

    if (uid != 0) {
        check(unshare(CLONE_NEWUSER) == 0);

        write_map("/proc/self/setgroups", "deny", 0);
        write_map("/proc/self/uid_map", "0 %u 1", uid);
        write_map("/proc/self/gid_map", "0 %u 1", gid);
    }

    check(unshare(CLONE_NEWNS) == 0);
    check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
}


static void
write_map(const char *path, const char *fmt, unsigned id)
{
    FILE  *fp;

    fp = fopen(path, "we");
    check(fp != NULL);
    check(fprintf(fp, fmt, id) > 0);
    check(fclose(fp) == 0);
}


static void
full_disk(fixture_t *f)
{
    char              *data, *file;
    uint64_t           size;
    nixery_storage_t  *st;

    private_mounts();
    check(mount("tmpfs", f->path, "tmpfs", 0, "size=1m") == 0);

    st = f->st;
    data = calloc(1, BIG);
    check(data != NULL);

    check(st->put_bytes(st, MANIFEST, "small", 5, &f->err) == NIXERY_OK);

    check(st->put_bytes(st, LAYER, data, BIG, &f->err) == NIXERY_ERROR);
    check(f->err.kind == NIXERY_ERROR_STORAGE);
    check(strcmp(f->err.message, "store \"" LAYER "\": write: No space left on "
                                 "device")
          == 0);
    nixery_error_free(&f->err);

    check(st->stat(st, LAYER, &size, &f->err) == NIXERY_DECLINED);
    check(entries(f->path, "tmp") == 0);
    check(entries(f->path, "layers") == 0);

    /* a file of another file system is copied, as far as it goes */

    file = work_file(f, "layer", BIG);
    check(st->put_file(st, LAYER, file, BIG, HEX, &f->err) == NIXERY_ERROR);
    check(strcmp(f->err.message, "store \"" LAYER "\": write: No space left on "
                                 "device")
          == 0);
    nixery_error_free(&f->err);

    check(st->stat(st, LAYER, &size, &f->err) == NIXERY_DECLINED);
    check(entries(f->path, "tmp") == 0);
    check(entries(f->path, "layers") == 0);

    check(st->put_bytes(st, LAYER, data, 1000, &f->err) == NIXERY_OK);
    check(st->stat(st, MANIFEST, &size, &f->err) == NIXERY_OK && size == 5);

    free(file);
    free(data);
}


static void
read_only(fixture_t *f)
{
    char              *file;
    nixery_buf_t       buf = { 0 };
    nixery_storage_t  *st;

    st = f->st;
    check(st->put_bytes(st, MANIFEST, "kept", 4, &f->err) == NIXERY_OK);

    private_mounts();
    check(mount(f->path, f->path, NULL, MS_BIND, NULL) == 0);
    check(mount("none", f->path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL)
          == 0);

    /* what is there is served, even by a storage opened now */

    st = nixery_storage_directory(f->path, &f->err);
    check(st != NULL);
    check(st->get(st, MANIFEST, 10, &buf, &f->err) == NIXERY_OK);
    check(strcmp(buf.data, "kept") == 0);
    nixery_buf_free(&buf);

    check(st->put_bytes(st, MANIFEST, "kept", 4, &f->err) == NIXERY_OK);

    check(st->put_bytes(st, MANIFEST, "more", 4, &f->err) == NIXERY_ERROR);
    check(strstr(f->err.message, "store \"" MANIFEST "\": make work directory")
          != NULL);
    check(strstr(f->err.message, ": Read-only file system") != NULL);
    nixery_error_free(&f->err);

    file = work_file(f, "layer", 10);
    check(st->put_file(st, LAYER, file, 10, HEX, &f->err) == NIXERY_ERROR);
    check(strstr(f->err.message, ": Read-only file system") != NULL);
    nixery_error_free(&f->err);

    free(file);
    st->free(st);
}


static void
no_descriptors(fixture_t *f)
{
    char              *file;
    uint64_t           size;
    nixery_buf_t       buf = { 0 };
    struct rlimit      limit;
    nixery_storage_t  *st;

    st = f->st;
    file = work_file(f, "layer", 10);

    check(st->put_bytes(st, MANIFEST, "x", 1, &f->err) == NIXERY_OK);

    check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 0;
    check(setrlimit(RLIMIT_NOFILE, &limit) == 0);

    check(st->get(st, MANIFEST, 10, &buf, &f->err) == NIXERY_ERROR);
    check(strcmp(f->err.message, "read \"" MANIFEST "\": Too many open files")
          == 0);
    nixery_error_free(&f->err);

    check(st->put_bytes(st, LAYER, "x", 1, &f->err) == NIXERY_ERROR);
    check(strstr(f->err.message, ": Too many open files") != NULL);
    nixery_error_free(&f->err);

    check(st->put_file(st, LAYER, file, 10, HEX, &f->err) == NIXERY_ERROR);
    check(strstr(f->err.message, ": Too many open files") != NULL);
    nixery_error_free(&f->err);

    check(st->stat(st, LAYER, &size, &f->err) == NIXERY_DECLINED);

    limit.rlim_cur = limit.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    check(entries(f->path, "tmp") == 0);
    check(st->put_file(st, LAYER, file, 10, HEX, &f->err) == NIXERY_OK);

    free(file);
}


static void
file_size_limit(fixture_t *f)
{
    char              *data;
    uint64_t           size;
    struct rlimit      limit;
    nixery_storage_t  *st;

    st = f->st;
    data = calloc(1, BIG);
    check(data != NULL);

    check(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    check(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = 1024 * 1024;
    check(setrlimit(RLIMIT_FSIZE, &limit) == 0);

    check(st->put_bytes(st, LAYER, data, BIG, &f->err) == NIXERY_ERROR);
    check(strcmp(f->err.message, "store \"" LAYER "\": write: File too large")
          == 0);
    nixery_error_free(&f->err);

    check(st->stat(st, LAYER, &size, &f->err) == NIXERY_DECLINED);
    check(entries(f->path, "tmp") == 0);

    free(data);
}


static void *
writer(void *data)
{
    int                i, fd;
    char              *file, bytes[2][50000];
    size_t             len;
    fixture_t         *f;
    nixery_error_t     err = { 0 };
    nixery_storage_t  *st;

    f = data;
    st = f->st;

    memset(bytes[0], 'a', sizeof(bytes[0]));
    memset(bytes[1], 'b', sizeof(bytes[1]));

    for (i = 0; i < ROUNDS; i++) {
        len = (i % 2) ? 50000 : 40000;

        if (st->put_bytes(st, MANIFEST, bytes[i % 2], len, &err)
            != NIXERY_OK)
        {
            return f;
        }

        if (asprintf(&file, "%s/layer.XXXXXX", f->work) == -1) {
            return f;
        }

        fd = mkostemp(file, O_CLOEXEC);

        if (fd == -1 || write(fd, bytes[i % 2], len) != (ssize_t) len
            || close(fd) == -1
            || st->put_file(st, LAYER, file, len, HEX, &err) != NIXERY_OK)
        {
            return f;
        }

        (void) unlink(file);
        free(file);
    }

    return NULL;
}


/* An object is whole at any moment: all of one letter, of its length. */

static void *
reader(void *data)
{
    int                rc;
    size_t             i, k, len;
    fixture_t         *f;
    nixery_buf_t       buf = { 0 };
    nixery_error_t     err = { 0 };
    nixery_storage_t  *st;

    static const char  *objects[] = { MANIFEST, LAYER };

    f = data;
    st = f->st;

    while (atomic_load(&reading)) {

        for (k = 0; k < 2; k++) {
            rc = st->get(st, objects[k], 60000, &buf, &err);

            if (rc == NIXERY_DECLINED) {
                continue;
            }

            if (rc != NIXERY_OK) {
                return f;
            }

            len = (buf.data[0] == 'a') ? 40000 : 50000;

            for (i = 0; i < buf.len; i++) {
                if (buf.data[i] != buf.data[0]) {
                    return f;
                }
            }

            rc = (buf.len == len);
            nixery_buf_free(&buf);

            if (!rc) {
                return f;
            }
        }
    }

    return NULL;
}


int
main(void)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_fixture, remove_fixture)

    const struct CMUnitTest  tests[] = {
        test(layout),
        test(bytes),
        test(get_is_bounded),
        test(files_are_moved),
        test(files_of_another_file_system),
        test(replaced_under_a_reader),
        test(bad_work_files),
        test(names_of_objects),
        test(odd_objects),
        test(bad_directories),
        test(left_over_files_are_removed),
        test(wiped_while_in_use),
        test(disk_is_full),
        test(storage_is_read_only),
        test(descriptors_run_out),
        test(write_fails_half_way),
        test(many_writers_of_one_object),
    };

    return cmocka_run_group_tests_name("storage", tests, NULL, NULL);
}
