
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_work.h"


#define LEFT_OVER  "nixery-work.0123456789abcdef"
#define CREATORS   4
#define ROUNDS     300


typedef struct {
    const char  *parent;
    int          lost;
} creator_t;


static int make_parent(void **state);
static int remove_parent(void **state);
static void make_file(const char *dir, const char *name);
static char *join(const char *dir, const char *name);
static int exists(const char *dir, const char *name);
static size_t entries(const char *dir);
static void *creator(void *data);
static void *cleaner(void *data);


static atomic_int  creating;


static void
opened_and_closed(void **state)
{
    char            *outside, *path, *file;
    const char      *parent;
    struct stat      sb;
    nixery_work_t    work;
    nixery_error_t   err = { 0 };

    parent = *state;

    assert_int_equal(nixery_work_open(&work, parent, &err), NIXERY_OK);
    assert_int_equal(stat(work.path, &sb), 0);
    assert_true(S_ISDIR(sb.st_mode));
    assert_int_equal(sb.st_mode & 07777, 0700);
    assert_int_equal(strncmp(work.path, parent, strlen(parent)), 0);
    assert_true(fcntl(work.fd, F_GETFD) & FD_CLOEXEC);

    /* a link to a file, to a directory, to nothing; folders in folders */

    outside = join(parent, "outside");
    assert_int_equal(mkdir(outside, 0755), 0);
    make_file(outside, "kept");

    path = join(work.path, "result");
    assert_int_equal(symlink(outside, path), 0);
    free(path);

    file = join(outside, "kept");
    path = join(work.path, "file");
    assert_int_equal(symlink(file, path), 0);
    free(path);
    free(file);

    path = join(work.path, "nothing");
    assert_int_equal(symlink("/no/such/file", path), 0);
    free(path);

    path = join(work.path, "a");
    assert_int_equal(mkdir(path, 0700), 0);
    make_file(path, "1");
    file = join(path, "b");
    assert_int_equal(mkdir(file, 0700), 0);
    make_file(file, "2");
    free(path);

    path = join(file, "up");
    assert_int_equal(symlink("../../..", path), 0);
    free(path);
    free(file);

    path = strdup(work.path);

    nixery_work_close(&work);
    assert_null(work.path);
    assert_int_equal(access(path, F_OK), -1);
    assert_true(exists(outside, "kept"));

    nixery_work_close(&work);

    free(path);
    free(outside);
}


static void
names_are_used_again(void **state)
{
    char            *paths[3];
    size_t           i;
    nixery_work_t    works[3];
    nixery_error_t   err = { 0 };

    for (i = 0; i < 3; i++) {
        assert_int_equal(nixery_work_open(&works[i], *state, &err), NIXERY_OK);
        paths[i] = strdup(works[i].path);
    }

    assert_string_not_equal(paths[0], paths[1]);
    assert_string_not_equal(paths[1], paths[2]);

    nixery_work_close(&works[1]);

    assert_int_equal(nixery_work_open(&works[1], *state, &err), NIXERY_OK);
    assert_string_equal(works[1].path, paths[1]);

    for (i = 0; i < 3; i++) {
        nixery_work_close(&works[i]);
        free(paths[i]);
    }
}


static void
closed_without_a_descriptor(void **state)
{
    int              fd;
    char            *path;
    nixery_work_t    work;
    struct rlimit    rl, old;
    nixery_error_t   err = { 0 };

    assert_int_equal(nixery_work_open(&work, *state, &err), NIXERY_OK);
    make_file(work.path, "layer");

    path = strdup(work.path);

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    rl = old;
    rl.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);

    fd = open("/", O_RDONLY);
    nixery_work_close(&work);

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);

    assert_int_equal(fd, -1);
    assert_int_equal(access(path, F_OK), -1);

    free(path);
}


static void
left_over_ones_are_removed(void **state)
{
    char            *path, *target;
    size_t           i;
    const char      *parent;
    nixery_work_t    held;
    nixery_error_t   err = { 0 };

    static const char  *foreign[] = {
        "home", "nixery-work.", "nixery-work.0123", "nixery-work",
        "nixery-work.0123456789abcdef0", "nixery-work.0123456789abcdeg",
        "nixery-work.0123456789ABCDEF", "xnixery-work.0123456789abcdef", NULL
    };

    parent = *state;

    for (i = 0; foreign[i] != NULL; i++) {
        path = join(parent, foreign[i]);
        assert_int_equal(mkdir(path, 0755), 0);
        make_file(path, "kept");
        free(path);
    }

    /* a file and a link have such a name, but are no work directories */

    make_file(parent, "nixery-work.00000000000000f1");

    target = join(parent, "target");
    assert_int_equal(mkdir(target, 0755), 0);
    make_file(target, "kept");

    path = join(parent, "nixery-work.00000000000000f2");
    assert_int_equal(symlink(target, path), 0);
    free(path);

    path = join(parent, LEFT_OVER);
    assert_int_equal(mkdir(path, 0700), 0);
    make_file(path, "layer");
    free(path);

    assert_int_equal(nixery_work_open(&held, parent, &err), NIXERY_OK);
    make_file(held.path, "kept");

    nixery_work_clean(parent);

    assert_false(exists(parent, LEFT_OVER));
    assert_true(exists(held.path, "kept"));
    assert_true(exists(target, "kept"));
    assert_true(exists(parent, "nixery-work.00000000000000f1"));
    assert_true(exists(parent, "nixery-work.00000000000000f2"));

    for (i = 0; foreign[i] != NULL; i++) {
        path = join(parent, foreign[i]);
        assert_true(exists(path, "kept"));
        free(path);
    }

    nixery_work_close(&held);

    nixery_work_clean("/no/such/directory");

    free(target);
}


static void
killed_process(void **state)
{
    int              status, fds[2];
    char             byte;
    pid_t            pid;
    const char      *parent;
    nixery_work_t    work;
    nixery_error_t   err = { 0 };

    parent = *state;

    assert_int_equal(pipe(fds), 0);

    pid = fork();
    assert_int_not_equal(pid, -1);

    if (pid == 0) {
        if (nixery_work_open(&work, parent, &err) != NIXERY_OK
            || write(fds[1], "x", 1) != 1)
        {
            _exit(1);
        }

        for ( ;; ) {
            pause();
        }
    }

    assert_int_equal(read(fds[0], &byte, 1), 1);

    nixery_work_clean(parent);
    assert_int_equal(entries(parent), 1);

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);

    nixery_work_clean(parent);
    assert_int_equal(entries(parent), 0);

    (void) close(fds[0]);
    (void) close(fds[1]);
}


static void
created_while_others_clean(void **state)
{
    int         i;
    pthread_t   creators[CREATORS], cleaners[2];
    creator_t   args[CREATORS];

    atomic_store(&creating, 1);

    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&cleaners[i], NULL, cleaner, *state),
                         0);
    }

    for (i = 0; i < CREATORS; i++) {
        args[i].parent = *state;
        args[i].lost = 0;
        assert_int_equal(pthread_create(&creators[i], NULL, creator, &args[i]),
                         0);
    }

    for (i = 0; i < CREATORS; i++) {
        assert_int_equal(pthread_join(creators[i], NULL), 0);
        assert_int_equal(args[i].lost, 0);
    }

    atomic_store(&creating, 0);

    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(cleaners[i], NULL), 0);
    }

    assert_int_equal(entries(*state), 0);
}


static void
errors_name_the_path(void **state)
{
    char            *file;
    nixery_work_t    work;
    struct rlimit    old, none;
    nixery_error_t   err = { 0 };

    assert_int_equal(nixery_work_open(&work, "/no/such/directory", &err),
                     NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
    assert_non_null(strstr(err.message, "make work directory \"/no/such/"
                                        "directory/nixery-work."));
    assert_non_null(strstr(err.message, ": No such file or directory"));
    assert_null(work.path);
    nixery_error_free(&err);

    make_file(*state, "file");
    file = join(*state, "file");

    assert_int_equal(nixery_work_open(&work, file, &err), NIXERY_ERROR);
    assert_non_null(strstr(err.message, ": Not a directory"));
    nixery_error_free(&err);

    assert_int_equal(unlink(file), 0);
    free(file);

    /* no descriptor left: no directory either */

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);

    assert_int_equal(nixery_work_open(&work, *state, &err), NIXERY_ERROR);

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_non_null(strstr(err.message, "lock work directory"));
    assert_non_null(strstr(err.message, ": Too many open files"));
    nixery_error_free(&err);
    assert_int_equal(entries(*state), 0);
}


static int
make_parent(void **state)
{
    char  *dir;

    dir = strdup("/tmp/nixery-work-test.XXXXXX");

    if (dir == NULL || mkdtemp(dir) == NULL) {
        return -1;
    }

    *state = dir;

    return 0;
}


static int
remove_parent(void **state)
{
    int    rc;
    char  *command;

    if (asprintf(&command, "rm -rf '%s'", (char *) *state) == -1) {
        return -1;
    }

    rc = system(command);

    free(command);
    free(*state);

    return rc;
}


static void
make_file(const char *dir, const char *name)
{
    int    fd;
    char  *path;

    path = join(dir, name);

    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_int_not_equal(fd, -1);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(close(fd), 0);

    free(path);
}


static char *
join(const char *dir, const char *name)
{
    char  *path;

    assert_int_not_equal(asprintf(&path, "%s/%s", dir, name), -1);

    return path;
}


static int
exists(const char *dir, const char *name)
{
    int          rc;
    char        *path;
    struct stat  sb;

    path = join(dir, name);
    rc = lstat(path, &sb);
    free(path);

    return rc == 0;
}


static size_t
entries(const char *dir)
{
    DIR     *d;
    size_t   n;

    d = opendir(dir);
    assert_non_null(d);

    for (n = 0; readdir(d) != NULL; n++) {
        /* void */
    }

    (void) closedir(d);

    return n - 2;
}


static void *
creator(void *data)
{
    int              i, fd;
    char            *path;
    creator_t       *args;
    nixery_work_t    work;
    nixery_error_t   err = { 0 };

    args = data;

    for (i = 0; i < ROUNDS; i++) {
        if (nixery_work_open(&work, args->parent, &err) != NIXERY_OK) {
            args->lost++;
            nixery_error_free(&err);
            continue;
        }

        if (asprintf(&path, "%s/file", work.path) == -1) {
            abort();
        }

        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        sched_yield();

        if (fd == -1 || close(fd) == -1 || access(path, F_OK) == -1) {
            args->lost++;
        }

        free(path);
        nixery_work_close(&work);
    }

    return NULL;
}


static void *
cleaner(void *data)
{
    while (atomic_load(&creating)) {
        nixery_work_clean(data);
    }

    return NULL;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(opened_and_closed, make_parent,
                                        remove_parent),
        cmocka_unit_test_setup_teardown(names_are_used_again, make_parent,
                                        remove_parent),
        cmocka_unit_test_setup_teardown(closed_without_a_descriptor,
                                        make_parent, remove_parent),
        cmocka_unit_test_setup_teardown(left_over_ones_are_removed,
                                        make_parent, remove_parent),
        cmocka_unit_test_setup_teardown(killed_process, make_parent,
                                        remove_parent),
        cmocka_unit_test_setup_teardown(created_while_others_clean,
                                        make_parent, remove_parent),
        cmocka_unit_test_setup_teardown(errors_name_the_path, make_parent,
                                        remove_parent),
    };

    return cmocka_run_group_tests_name("work", tests, NULL, NULL);
}
