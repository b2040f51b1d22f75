
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "nixery_supervisor.h"


#define NIXERY_PROCESS_TICK  200   /* ms between two looks at cancel */
#define NIXERY_PROCESS_READ  16384


/* The pipes: [0] is read from, [1] written to. */

typedef struct {
    int    out[2];
    int    err[2];
    int    report[2];
    int    lifeline[2];
} nixery_pipes_t;


static int nixery_pipes_open(nixery_pipes_t *pipes);
static void nixery_pipes_close(nixery_pipes_t *pipes);
static void nixery_close(int *fd);
static pid_t nixery_process_clone(nixery_process_t *p, nixery_pipes_t *pipes);
static int nixery_process_follow(nixery_process_t *p, nixery_pipes_t *pipes,
    nixery_report_t *last);
static int nixery_process_read(nixery_process_t *p, int *fd, int is_out);
static int nixery_excerpt_add(nixery_excerpt_t *e, const char *data,
    size_t len);
static void nixery_excerpt_mark(nixery_excerpt_t *e, const char *data,
    size_t len);


int
nixery_process_run(nixery_process_t *p, nixery_error_t *err)
{
    int              rc, status;
    pid_t            supervisor;
    nixery_pipes_t   pipes;
    nixery_report_t  last;

    if (nixery_canceled(p->cancel)) {
        p->canceled = 1;
        return NIXERY_OK;
    }

    if (nixery_pipes_open(&pipes) != NIXERY_OK) {
        rc = nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                "can't make pipes for \"%s\"", p->program);
        nixery_pipes_close(&pipes);
        return rc;
    }

    supervisor = nixery_process_clone(p, &pipes);

    if (supervisor == -1) {
        rc = nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                "can't start a process for \"%s\"",
                                p->program);
        nixery_pipes_close(&pipes);
        return rc;
    }

    nixery_close(&pipes.out[1]);
    nixery_close(&pipes.err[1]);
    nixery_close(&pipes.report[1]);
    nixery_close(&pipes.lifeline[0]);

    memset(&last, 0, sizeof(nixery_report_t));

    rc = nixery_process_follow(p, &pipes, &last);

    nixery_pipes_close(&pipes);

    /* cloned without an exit signal: only __WCLONE sees it */
    while (waitpid(supervisor, &status, __WCLONE) == -1 && errno == EINTR) {
        /* void */
    }

    if (rc != NIXERY_OK) {
        return nixery_error_nomem(err);
    }

    switch (last.kind) {

    case NIXERY_REPORT_ENDED:
        p->status = last.status;
        p->timed_out = last.timed_out;
        return NIXERY_OK;

    case NIXERY_REPORT_FAILED:
        return nixery_error_errno(err,
                                  last.err == EMFILE || last.err == ENFILE
                                  || last.err == ENOMEM || last.err == EAGAIN
                                      ? NIXERY_ERROR_SYSTEM
                                      : NIXERY_ERROR_NIX,
                                  last.err, "can't run \"%s\"", p->program);

    default:

        /* the target dies with its supervisor, its children may not */

        if (last.kind == NIXERY_REPORT_STARTED) {
            (void) kill(-last.pid, SIGKILL);
        }

        return nixery_error_set(err, NIXERY_ERROR_SYSTEM,
                                "the supervisor of \"%s\" was killed",
                                p->program);
    }
}


void
nixery_process_free(nixery_process_t *p)
{
    nixery_buf_free(&p->out);
    nixery_buf_free(&p->err.head);
    free(p->err.tail);
    p->err.tail = NULL;
    p->err.tail_pos = 0;
    p->err.total = 0;
}


int
nixery_excerpt_text(const nixery_excerpt_t *e, nixery_buf_t *text)
{
    size_t    kept, first;
    uint64_t  behind, cut;

    behind = e->total - e->head.len;
    kept = behind < e->tail_max ? (size_t) behind : e->tail_max;
    cut = behind - kept;
    first = kept < e->tail_max ? 0 : e->tail_pos;

    if (nixery_buf_append(text, e->head.data, e->head.len) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (cut != 0
        && nixery_buf_printf(text, "\n[... %llu bytes ...]\n",
                             (unsigned long long) cut)
           != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    if (kept == 0) {
        return NIXERY_OK;
    }

    if (nixery_buf_append(text, e->tail + first, kept - first) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    return nixery_buf_append(text, e->tail, first);
}


static int
nixery_pipes_open(nixery_pipes_t *pipes)
{
    memset(pipes, 0xff, sizeof(nixery_pipes_t));

    if (pipe2(pipes->out, O_CLOEXEC) == -1
        || pipe2(pipes->err, O_CLOEXEC) == -1
        || pipe2(pipes->report, O_CLOEXEC) == -1
        || pipe2(pipes->lifeline, O_CLOEXEC) == -1)
    {
        return NIXERY_ERROR;
    }

    /* the reading ends alone: the target's are what programs expect */

    if (fcntl(pipes->out[0], F_SETFL, O_NONBLOCK) == -1
        || fcntl(pipes->err[0], F_SETFL, O_NONBLOCK) == -1)
    {
        return NIXERY_ERROR;
    }

    return NIXERY_OK;
}


static void
nixery_pipes_close(nixery_pipes_t *pipes)
{
    int  i;

    for (i = 0; i < 2; i++) {
        nixery_close(&pipes->out[i]);
        nixery_close(&pipes->err[i]);
        nixery_close(&pipes->report[i]);
        nixery_close(&pipes->lifeline[i]);
    }
}


static void
nixery_close(int *fd)
{
    if (*fd != -1) {
        (void) close(*fd);
        *fd = -1;
    }
}


static pid_t
nixery_process_clone(nixery_process_t *p, nixery_pipes_t *pipes)
{
    int                  err;
    pid_t                pid;
    sigset_t             all, old;
    nixery_supervisor_t  s;

    s.out = pipes->out[1];
    s.err = pipes->err[1];
    s.report = pipes->report[1];
    s.lifeline = pipes->lifeline[0];

    /* a handler of this process must not run in its copy */

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);

    pid = (pid_t) syscall(SYS_clone, 0UL, NULL, NULL, NULL, 0UL);

    if (pid == 0) {
        nixery_supervisor(p, &s);
    }

    err = errno;
    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = err;

    return pid;
}


/* Returns when the supervisor has nothing more to say. */

static int
nixery_process_follow(nixery_process_t *p, nixery_pipes_t *pipes,
    nixery_report_t *last)
{
    int              rc;
    ssize_t          n;
    struct pollfd    pfd[3];
    nixery_report_t  r;

    rc = NIXERY_OK;

    for ( ;; ) {
        pfd[0].fd = pipes->out[0];
        pfd[1].fd = pipes->err[0];
        pfd[2].fd = pipes->report[0];
        pfd[0].events = pfd[1].events = pfd[2].events = POLLIN;

        n = poll(pfd, 3, NIXERY_PROCESS_TICK);

        if (pipes->lifeline[1] != -1
            && (rc != NIXERY_OK || nixery_canceled(p->cancel)))
        {
            p->canceled = 1;
            nixery_close(&pipes->lifeline[1]);
        }

        if (n <= 0) {
            continue;
        }

        if ((pfd[0].revents
             && nixery_process_read(p, &pipes->out[0], 1) != NIXERY_OK)
            || (pfd[1].revents
                && nixery_process_read(p, &pipes->err[0], 0) != NIXERY_OK))
        {
            rc = NIXERY_ERROR;
        }

        if (pfd[2].revents == 0) {
            continue;
        }

        n = read(pipes->report[0], &r, sizeof(nixery_report_t));

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n == sizeof(nixery_report_t)) {
            *last = r;

            if (r.kind == NIXERY_REPORT_STARTED) {
                p->pid = r.pid;
                continue;
            }
        }

        break;
    }

    /* nobody is left to write: what is in the pipes is all */

    while (pipes->out[0] != -1 || pipes->err[0] != -1) {
        pfd[0].fd = pipes->out[0];
        pfd[1].fd = pipes->err[0];

        if (poll(pfd, 2, 0) <= 0) {
            break;
        }

        if ((pfd[0].fd != -1 && pfd[0].revents
             && nixery_process_read(p, &pipes->out[0], 1) != NIXERY_OK)
            || (pfd[1].fd != -1 && pfd[1].revents
                && nixery_process_read(p, &pipes->err[0], 0) != NIXERY_OK))
        {
            return NIXERY_ERROR;
        }
    }

    return rc;
}


static int
nixery_process_read(nixery_process_t *p, int *fd, int is_out)
{
    char     buf[NIXERY_PROCESS_READ];
    size_t   len;
    ssize_t  n;

    n = read(*fd, buf, sizeof(buf));

    if (n == -1 && (errno == EINTR || errno == EAGAIN)) {
        return NIXERY_OK;
    }

    if (n <= 0) {
        nixery_close(fd);
        return NIXERY_OK;
    }

    len = (size_t) n;

    if (!is_out) {
        return nixery_excerpt_add(&p->err, buf, len);
    }

    if (len > p->out_max - p->out.len) {
        len = p->out_max - p->out.len;
        p->overflow = 1;
    }

    return nixery_buf_append(&p->out, buf, len);
}


static int
nixery_excerpt_add(nixery_excerpt_t *e, const char *data, size_t len)
{
    size_t  n;

    e->total += len;

    if (e->mark != NULL) {
        nixery_excerpt_mark(e, data, len);
    }

    n = e->head_max - e->head.len;
    if (n > len) {
        n = len;
    }

    if (n != 0 && nixery_buf_append(&e->head, data, n) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    data += n;
    len -= n;

    if (len == 0 || e->tail_max == 0) {
        return NIXERY_OK;
    }

    if (e->tail == NULL) {
        e->tail = malloc(e->tail_max);
        if (e->tail == NULL) {
            return NIXERY_ERROR;
        }
    }

    while (len != 0) {
        n = e->tail_max - e->tail_pos;
        if (n > len) {
            n = len;
        }

        memcpy(e->tail + e->tail_pos, data, n);

        e->tail_pos = (e->tail_pos + n) % e->tail_max;
        data += n;
        len -= n;
    }

    return NIXERY_OK;
}


static void
nixery_excerpt_mark(nixery_excerpt_t *e, const char *data, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {

        if (data[i] != '\n') {
            if (e->line_len < NIXERY_EXCERPT_LINE - 1) {
                e->line[e->line_len++] = data[i];
            }

            continue;
        }

        e->line[e->line_len] = '\0';
        e->line_len = 0;

        if (strncmp(e->line, e->mark, strlen(e->mark)) == 0) {
            memcpy(e->marked, e->line, NIXERY_EXCERPT_LINE);
        }
    }
}
