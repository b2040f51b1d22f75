
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_process.h"


static char  *environment[] = { (char *) "PATH=/usr/bin:/bin", NULL };


static void
run(nixery_process_t *p, const char *script, nixery_error_t *err, int expected)
{
    char  *argv[] = { (char *) "sh", (char *) "-c", (char *) script, NULL };

    p->program = "/bin/sh";
    p->argv = argv;
    p->envp = environment;
    p->out_max = p->out_max ? p->out_max : 65536;
    p->grace = p->grace ? p->grace : 5000;
    p->err.head_max = 1024;
    p->err.tail_max = 4096;

    memset(err, 0, sizeof(nixery_error_t));

    assert_int_equal(nixery_process_run(p, err), expected);

    p->argv = NULL;
}


/* true when no process has the number any more, zombies aside */

static int
gone(pid_t pid)
{
    int   c, i;
    char  path[64], line[512], *p;
    FILE  *f;

    for (i = 0; i < 1000; i++) {
        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);

        f = fopen(path, "r");
        if (f == NULL) {
            return 1;
        }

        p = fgets(line, sizeof(line), f);
        (void) fclose(f);

        c = 'Z';

        if (p != NULL && (p = strrchr(line, ')')) != NULL) {
            c = p[2];
        }

        if (c == 'Z' || c == 'X') {
            return 1;
        }

        (void) poll(NULL, 0, 10);
    }

    return 0;
}


static void
output_and_status(void **state)
{
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    run(&p, "echo out; echo err >&2; exit 7", &err, NIXERY_OK);

    assert_string_equal(p.out.data, "out\n");
    assert_string_equal(p.err.head.data, "err\n");
    assert_true(WIFEXITED(p.status));
    assert_int_equal(WEXITSTATUS(p.status), 7);
    assert_true(p.pid > 0);

    nixery_process_free(&p);
}


static void
signal_is_seen(void **state)
{
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    run(&p, "kill -SEGV $$", &err, NIXERY_OK);

    assert_true(WIFSIGNALED(p.status));
    assert_int_equal(WTERMSIG(p.status), SIGSEGV);

    nixery_process_free(&p);
}


static void
much_on_stderr_first(void **state)
{
    nixery_buf_t      text = { 0 };
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    run(&p, "echo first >&2; head -c 4194304 /dev/zero | tr '\\0' x >&2;"
        "echo last >&2; echo out", &err, NIXERY_OK);

    assert_string_equal(p.out.data, "out\n");
    assert_int_equal(p.err.total, 4194304 + 6 + 5);

    assert_int_equal(nixery_excerpt_text(&p.err, &text), NIXERY_OK);
    assert_memory_equal(text.data, "first\n", 6);
    assert_string_equal(text.data + text.len - 5, "last\n");
    assert_non_null(strstr(text.data, "[... 4189195 bytes ...]"));

    nixery_buf_free(&text);
    nixery_process_free(&p);
}


static void
excerpt_of_every_length(void **state)
{
    int               i;
    char              script[128];
    nixery_buf_t      text;
    nixery_error_t    err;
    nixery_process_t  p;

    static int  lengths[] = { 0, 1, 1023, 1024, 1025, 5119, 5120, 5121, 9216 };

    (void) state;

    for (i = 0; i < (int) (sizeof(lengths) / sizeof(int)); i++) {
        memset(&p, 0, sizeof(nixery_process_t));
        memset(&text, 0, sizeof(nixery_buf_t));

        (void) snprintf(script, sizeof(script),
                        "head -c %d /dev/zero | tr '\\0' x >&2", lengths[i]);
        run(&p, script, &err, NIXERY_OK);

        assert_int_equal(nixery_excerpt_text(&p.err, &text), NIXERY_OK);

        if (lengths[i] <= 5120) {
            assert_int_equal(text.len, lengths[i]);

        } else {
            assert_non_null(strstr(text.data, " bytes ...]"));
        }

        nixery_buf_free(&text);
        nixery_process_free(&p);
    }
}


static void
stdout_is_bounded(void **state)
{
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    p.out_max = 100;
    run(&p, "head -c 1000000 /dev/zero; exit 0", &err, NIXERY_OK);

    assert_int_equal(p.out.len, 100);
    assert_true(p.overflow);
    assert_int_equal(WEXITSTATUS(p.status), 0);

    nixery_process_free(&p);
}


static void
time_limit(void **state)
{
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    p.timeout = 100;
    run(&p, "sleep 1000 & sleep 1000; wait", &err, NIXERY_OK);

    assert_true(p.timed_out);
    assert_false(p.canceled);
    assert_true(WIFSIGNALED(p.status));

    nixery_process_free(&p);
}


static void
grace_ends(void **state)
{
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    p.timeout = 100;
    p.grace = 100;
    run(&p, "trap '' TERM; while :; do sleep 1; done", &err, NIXERY_OK);

    assert_true(p.timed_out);
    assert_int_equal(WTERMSIG(p.status), SIGKILL);

    nixery_process_free(&p);
}


static void *
cancel_later(void *data)
{
    nixery_cancel_t  *cancel = data;

    (void) poll(NULL, 0, 100);
    atomic_store(&cancel->flag, 1);

    return NULL;
}


static void
cancellation(void **state)
{
    pthread_t         thread;
    nixery_error_t    err;
    nixery_cancel_t   cancel = { 0 };
    nixery_process_t  p = { 0 };

    (void) state;

    p.cancel = &cancel;
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &cancel), 0);

    run(&p, "sleep 1000", &err, NIXERY_OK);

    (void) pthread_join(thread, NULL);
    assert_true(p.canceled);
    assert_false(p.timed_out);
    nixery_process_free(&p);

    /* and before the start */

    memset(&p, 0, sizeof(nixery_process_t));
    p.cancel = &cancel;
    run(&p, "echo never", &err, NIXERY_OK);
    assert_true(p.canceled);
    assert_int_equal(p.out.len, 0);
}


static void
process_flag_cancels(void **state)
{
    nixery_error_t         err;
    nixery_cancel_t        cancel = { 0 };
    nixery_process_t       p = { 0 };
    volatile sig_atomic_t  terminate = 1;

    (void) state;

    cancel.terminate = &terminate;
    p.cancel = &cancel;
    run(&p, "sleep 1000", &err, NIXERY_OK);
    assert_true(p.canceled);
    nixery_process_free(&p);
}


static void
grandchild_holds_the_pipes(void **state)
{
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    run(&p, "setsid sh -c 'echo $$; exec sleep 1000' & "
        "(trap '' TERM HUP; sleep 1000) & sleep 0.2; exit 3", &err, NIXERY_OK);

    assert_int_equal(WEXITSTATUS(p.status), 3);
    assert_true(gone(atoi(p.out.data)));

    nixery_process_free(&p);
}


static void
output_closed_early(void **state)
{
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    run(&p, "echo out; exec >&- 2>&-; sleep 0.5; exit 4", &err, NIXERY_OK);

    assert_string_equal(p.out.data, "out\n");
    assert_int_equal(WEXITSTATUS(p.status), 4);

    nixery_process_free(&p);
}


static void
nothing_is_inherited(void **state)
{
    int               fd;
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    fd = dup(0);      /* not O_CLOEXEC */
    assert_true(fd != -1);

    run(&p, "ls /proc/self/fd; umask; pwd; env | grep -v ^_=", &err, NIXERY_OK);

    /* ls has its folder open as 3 */
    assert_memory_equal(p.out.data, "0\n1\n2\n3\n0022\n", 13);
    assert_non_null(strstr(p.out.data, "PATH=/usr/bin:/bin\n"));
    assert_null(strstr(p.out.data, "HOME="));

    (void) close(fd);
    nixery_process_free(&p);
}


static void
working_directory(void **state)
{
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    p.cwd = "/usr";
    run(&p, "pwd", &err, NIXERY_OK);
    assert_string_equal(p.out.data, "/usr\n");
    nixery_process_free(&p);

    memset(&p, 0, sizeof(nixery_process_t));
    p.cwd = "/nonexistent";
    run(&p, "pwd", &err, NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_NIX);
    assert_non_null(strstr(err.message, "No such file"));
    nixery_error_free(&err);
    nixery_process_free(&p);
}


static void
what_cannot_be_started(void **state)
{
    int               before, i;
    char              path[] = "/tmp/nixery-unit-XXXXXX";
    char             *argv[] = { path, NULL };
    nixery_error_t    err = { 0 };
    nixery_process_t  p = { 0 };

    (void) state;

    before = unit_descriptors();
    i = mkstemp(path);
    assert_true(i != -1);
    (void) close(i);

    p.program = path;
    p.argv = argv;
    p.envp = environment;

    assert_int_equal(nixery_process_run(&p, &err), NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_NIX);
    assert_non_null(strstr(err.message, "Permission denied"));
    nixery_error_free(&err);

    (void) unlink(path);

    assert_int_equal(nixery_process_run(&p, &err), NIXERY_ERROR);
    assert_non_null(strstr(err.message, "No such file"));
    nixery_error_free(&err);
    nixery_process_free(&p);

    assert_int_equal(unit_descriptors(), before);
}


static void
no_descriptors_left(void **state)
{
    int               n;
    struct rlimit     rl, old;
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);

    /* from none to enough: every pipe fails once */

    for (n = 3; n < 64; n++) {
        rl = old;
        rl.rlim_cur = n;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);

        char  *argv[] = { (char *) "sh", (char *) "-c", (char *) "exit 0",
                          NULL };

        memset(&err, 0, sizeof(nixery_error_t));
        p.program = "/bin/sh";
        p.argv = argv;
        p.envp = environment;

        if (nixery_process_run(&p, &err) == NIXERY_OK) {
            nixery_process_free(&p);
            break;
        }

        assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
        assert_non_null(strstr(err.message, "Too many open files"));
        nixery_error_free(&err);
        nixery_process_free(&p);
    }

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_true(n > 3 && n < 64);
}


static void
supervisor_is_killed(void **state)
{
    nixery_error_t    err;
    nixery_process_t  p = { 0 };

    (void) state;

    /* the target kills its parent; both it and its child must be gone */
    run(&p, "sleep 1000 & echo $!; echo $$; kill -9 $PPID; sleep 1000", &err,
        NIXERY_ERROR);

    assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
    assert_non_null(strstr(err.message, "supervisor"));
    assert_true(gone(p.pid));
    assert_true(gone(atoi(p.out.data)));

    nixery_error_free(&err);
    nixery_process_free(&p);
}


static void
whole_process_is_killed(void **state)
{
    int               fds[2];
    pid_t             worker, pid[3];
    FILE             *f;
    char              script[256];
    nixery_error_t    err = { 0 };
    nixery_process_t  p = { 0 };

    (void) state;

    assert_int_equal(pipe(fds), 0);

    worker = fork();
    assert_true(worker != -1);

    if (worker == 0) {
        (void) snprintf(script, sizeof(script),
                        "echo $PPID $$ > /proc/%d/fd/%d;"
                        "setsid sh -c 'echo $$ > /proc/%d/fd/%d;"
                        "exec sleep 1000' & sleep 1000",
                        (int) getpid(), fds[1], (int) getpid(), fds[1]);
        run(&p, script, &err, NIXERY_OK);
        _exit(0);
    }

    (void) close(fds[1]);
    f = fdopen(fds[0], "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d %d %d", &pid[0], &pid[1], &pid[2]), 3);

    (void) kill(worker, SIGKILL);
    assert_int_equal(waitpid(worker, NULL, 0), worker);

    assert_true(gone(pid[0]));
    assert_true(gone(pid[1]));
    assert_true(gone(pid[2]));

    (void) fclose(f);
}


static void
reap_all(int signo)
{
    int  err, status;

    (void) signo;

    err = errno;

    while (waitpid(-1, &status, WNOHANG) > 0) {
        /* as nginx does */
    }

    errno = err;
}


static void *
run_many(void *data)
{
    int               i;
    char              script[32];
    nixery_error_t    err;
    nixery_process_t  p;

    for (i = 0; i < 60; i++) {
        memset(&p, 0, sizeof(nixery_process_t));
        (void) snprintf(script, sizeof(script), "echo %d; exit %d", i, i);
        run(&p, script, &err, NIXERY_OK);

        if (!WIFEXITED(p.status) || WEXITSTATUS(p.status) != i
            || atoi(p.out.data) != i)
        {
            *(int *) data += 1;
        }

        nixery_process_free(&p);
    }

    return NULL;
}


static void
no_status_is_lost_to_sigchld(void **state)
{
    int               before, i, wrong[4] = { 0 };
    pthread_t         thread[4];
    struct sigaction  sa, old;

    (void) state;

    before = unit_descriptors();

    memset(&sa, 0, sizeof(struct sigaction));
    sa.sa_handler = reap_all;
    assert_int_equal(sigaction(SIGCHLD, &sa, &old), 0);

    for (i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, run_many, &wrong[i]),
                         0);
    }

    for (i = 0; i < 4; i++) {
        (void) pthread_join(thread[i], NULL);
        assert_int_equal(wrong[i], 0);
    }

    assert_int_equal(sigaction(SIGCHLD, &old, NULL), 0);
    assert_int_equal(unit_descriptors(), before);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(output_and_status),
        cmocka_unit_test(signal_is_seen),
        cmocka_unit_test(much_on_stderr_first),
        cmocka_unit_test(excerpt_of_every_length),
        cmocka_unit_test(stdout_is_bounded),
        cmocka_unit_test(time_limit),
        cmocka_unit_test(grace_ends),
        cmocka_unit_test(cancellation),
        cmocka_unit_test(process_flag_cancels),
        cmocka_unit_test(grandchild_holds_the_pipes),
        cmocka_unit_test(output_closed_early),
        cmocka_unit_test(nothing_is_inherited),
        cmocka_unit_test(working_directory),
        cmocka_unit_test(what_cannot_be_started),
        cmocka_unit_test(no_descriptors_left),
        cmocka_unit_test(supervisor_is_killed),
        cmocka_unit_test(whole_process_is_killed),
        cmocka_unit_test(no_status_is_lost_to_sigchld),
    };

    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
