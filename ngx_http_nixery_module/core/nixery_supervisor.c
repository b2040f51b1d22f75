
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "nixery_supervisor.h"


#define NIXERY_SUPERVISOR_OUT       1
#define NIXERY_SUPERVISOR_ERR       2
#define NIXERY_SUPERVISOR_REPORT    3
#define NIXERY_SUPERVISOR_LIFELINE  4

#define NIXERY_SUPERVISOR_PARK      10

#define NIXERY_SUPERVISOR_TICK      20   /* ms, where there is no pidfd */


static int nixery_supervisor_descriptors(nixery_supervisor_t *s);
static void nixery_supervisor_limits(void);
static void nixery_supervisor_signals(void);
static pid_t nixery_supervisor_start(const nixery_process_t *p,
    nixery_report_t *r);
static void nixery_supervisor_target(const nixery_process_t *p, pid_t parent,
    int failure) __attribute__((noreturn));
static void nixery_supervisor_wait(const nixery_process_t *p,
    nixery_report_t *r);
static void nixery_supervisor_sweep(pid_t group);
static int nixery_supervisor_kill_children(void);
static void nixery_supervisor_report(int fd, nixery_report_t *r);


void
nixery_supervisor(const nixery_process_t *p, nixery_supervisor_t *s)
{
    pid_t            pid;
    nixery_report_t  r;

    memset(&r, 0, sizeof(nixery_report_t));

    (void) setsid();
    (void) umask(022);
    (void) prctl(PR_SET_NAME, "nixery-build");

    /* orphans of the target become children of ours */
    (void) prctl(PR_SET_CHILD_SUBREAPER, 1);

    nixery_supervisor_limits();
    nixery_supervisor_signals();

    if (nixery_supervisor_descriptors(s) != NIXERY_OK) {
        r.kind = NIXERY_REPORT_FAILED;
        r.err = errno;
        nixery_supervisor_report(s->report, &r);
        _exit(1);
    }

    pid = nixery_supervisor_start(p, &r);

    if (pid == -1) {
        r.kind = NIXERY_REPORT_FAILED;
        nixery_supervisor_report(NIXERY_SUPERVISOR_REPORT, &r);
        _exit(1);
    }

    r.pid = pid;

    nixery_supervisor_wait(p, &r);
    nixery_supervisor_sweep(pid);

    r.kind = NIXERY_REPORT_ENDED;
    nixery_supervisor_report(NIXERY_SUPERVISOR_REPORT, &r);

    _exit(0);
}


static int
nixery_supervisor_descriptors(nixery_supervisor_t *s)
{
    int     fd, i;
    int    *fds[4] = { &s->out, &s->err, &s->report, &s->lifeline };

    /* out of the way of the numbers that they are going to have */

    for (i = 0; i < 4; i++) {
        fd = fcntl(*fds[i], F_DUPFD_CLOEXEC, NIXERY_SUPERVISOR_PARK);
        if (fd == -1) {
            return NIXERY_ERROR;
        }

        *fds[i] = fd;
    }

    fd = open("/dev/null", O_RDONLY);
    if (fd == -1) {
        return NIXERY_ERROR;
    }

    if ((fd != 0 && dup2(fd, 0) == -1)
        || dup2(s->out, NIXERY_SUPERVISOR_OUT) == -1
        || dup2(s->err, NIXERY_SUPERVISOR_ERR) == -1
        || dup3(s->report, NIXERY_SUPERVISOR_REPORT, O_CLOEXEC) == -1
        || dup3(s->lifeline, NIXERY_SUPERVISOR_LIFELINE, O_CLOEXEC) == -1)
    {
        return NIXERY_ERROR;
    }

    s->report = NIXERY_SUPERVISOR_REPORT;

    /* an inherited listening socket would outlive nginx */

    if (syscall(SYS_close_range, NIXERY_SUPERVISOR_LIFELINE + 1, ~0U, 0U)
        == -1)
    {
        for (fd = NIXERY_SUPERVISOR_LIFELINE + 1; fd < 65536; fd++) {
            (void) close(fd);
        }
    }

    return NIXERY_OK;
}


/* Undoes what nginx set for its workers. */

static void
nixery_supervisor_limits(void)
{
    cpu_set_t      cpus;
    struct rlimit  rl;

    memset(&cpus, 0xff, sizeof(cpu_set_t));
    (void) sched_setaffinity(0, sizeof(cpu_set_t), &cpus);

    if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
        rl.rlim_cur = rl.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &rl);
    }
}


static void
nixery_supervisor_signals(void)
{
    int               signo;
    struct sigaction  sa;

    memset(&sa, 0, sizeof(struct sigaction));
    sa.sa_handler = SIG_DFL;

    for (signo = 1; signo < NSIG; signo++) {
        (void) sigaction(signo, &sa, NULL);
    }
}


static pid_t
nixery_supervisor_start(const nixery_process_t *p, nixery_report_t *r)
{
    int      failure[2], status;
    pid_t    pid, parent;
    ssize_t  n;

    if (pipe2(failure, O_CLOEXEC) == -1) {
        r->err = errno;
        return -1;
    }

    parent = getpid();

    /* not fork(): it would run handlers of the process that we are a copy of */
    pid = (pid_t) syscall(SYS_clone, (unsigned long) SIGCHLD, NULL, NULL, NULL,
                          0UL);

    if (pid == -1) {
        r->err = errno;
        return -1;
    }

    if (pid == 0) {
        nixery_supervisor_target(p, parent, failure[1]);
    }

    (void) setpgid(pid, pid);

    (void) close(failure[1]);
    (void) close(NIXERY_SUPERVISOR_OUT);
    (void) close(NIXERY_SUPERVISOR_ERR);

    do {
        n = read(failure[0], &r->err, sizeof(int));
    } while (n == -1 && errno == EINTR);

    (void) close(failure[0]);

    if (n == sizeof(int)) {
        (void) waitpid(pid, &status, 0);
        return -1;
    }

    return pid;
}


static void
nixery_supervisor_target(const nixery_process_t *p, pid_t parent, int failure)
{
    int              err;
    ssize_t          n;
    sigset_t         set;
    nixery_report_t  r;

    (void) setpgid(0, 0);

    /* the supervisor has one thread, which this signal is bound to */
    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);

    if (getppid() != parent) {
        _exit(127);
    }

    /* known before the program runs: its group can be killed without us */
    memset(&r, 0, sizeof(nixery_report_t));
    r.kind = NIXERY_REPORT_STARTED;
    r.pid = getpid();
    nixery_supervisor_report(NIXERY_SUPERVISOR_REPORT, &r);

    (void) sigemptyset(&set);
    (void) sigprocmask(SIG_SETMASK, &set, NULL);

    if (p->cwd == NULL || chdir(p->cwd) == 0) {
        (void) execve(p->program, p->argv, p->envp);
    }

    err = errno;

    do {
        n = write(failure, &err, sizeof(int));
    } while (n == -1 && errno == EINTR);

    _exit(127);
}


static void
nixery_supervisor_wait(const nixery_process_t *p, nixery_report_t *r)
{
    int            pidfd, timeout, killing;
    pid_t          rc;
    uint64_t       now, deadline;
    struct pollfd  pfd[2];

    pidfd = (int) syscall(SYS_pidfd_open, r->pid, 0U);

    pfd[0].fd = NIXERY_SUPERVISOR_LIFELINE;
    pfd[0].events = POLLIN;
    pfd[1].fd = pidfd;
    pfd[1].events = POLLIN;

    killing = 0;
    deadline = p->timeout ? nixery_now() + p->timeout : UINT64_MAX;

    for ( ;; ) {
        rc = waitpid(r->pid, &r->status, WNOHANG);

        if (rc == r->pid || (rc == -1 && errno != EINTR)) {
            return;
        }

        now = nixery_now();

        if (now >= deadline) {
            if (killing) {
                (void) kill(-r->pid, SIGKILL);
                deadline = UINT64_MAX;

            } else {
                r->timed_out = 1;
                pfd[0].revents = POLLHUP;
            }

        } else {
            timeout = pidfd == -1 ? NIXERY_SUPERVISOR_TICK : -1;

            if (deadline != UINT64_MAX
                && (timeout == -1 || deadline - now < (uint64_t) timeout))
            {
                timeout = deadline - now > INT_MAX ? INT_MAX
                                                   : (int) (deadline - now);
            }

            pfd[0].revents = 0;
            (void) poll(pfd, 2, timeout);
        }

        if (pfd[0].revents != 0 && !killing) {
            killing = 1;
            pfd[0].fd = -1;
            pfd[0].revents = 0;
            (void) kill(-r->pid, SIGTERM);
            deadline = nixery_now() + p->grace;
        }
    }
}


/* What the target left behind: its group, and all that was reparented to us. */

static void
nixery_supervisor_sweep(pid_t group)
{
    int    status;
    pid_t  rc;

    (void) kill(-group, SIGKILL);

    for ( ;; ) {
        rc = waitpid(-1, &status, WNOHANG | __WALL);

        if (rc == -1 && errno != EINTR) {
            return;
        }

        if (rc == 0) {

            /* where /proc does not say who they are, they are left alone */

            if (nixery_supervisor_kill_children() != NIXERY_OK) {
                return;
            }

            (void) poll(NULL, 0, 5);
        }
    }
}


static int
nixery_supervisor_kill_children(void)
{
    int      fd;
    char     buf[4096];
    pid_t    pid;
    ssize_t  n, i;

    fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
        return NIXERY_ERROR;
    }

    n = read(fd, buf, sizeof(buf));
    (void) close(fd);

    pid = 0;

    for (i = 0; i < n; i++) {
        if (buf[i] >= '0' && buf[i] <= '9') {
            pid = pid * 10 + (buf[i] - '0');
            continue;
        }

        if (pid > 1) {
            (void) kill(pid, SIGKILL);
        }

        pid = 0;
    }

    return NIXERY_OK;
}


static void
nixery_supervisor_report(int fd, nixery_report_t *r)
{
    ssize_t  n;

    do {
        n = write(fd, r, sizeof(nixery_report_t));
    } while (n == -1 && errno == EINTR);
}
