
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "server.h"


static void *fake_serve(void *data);
static int fake_read(fake_t *fake, int fd);
static int fake_write(fake_t *fake, int fd, const char *text);
static int fake_wait(fake_t *fake, int fd, short events);


void
server_init(server_t *s)
{
    int    i;
    char  *path;

    s->dir = strdup("/tmp/nixery-server.XXXXXX");
    assert_non_null(s->dir);
    assert_non_null(mkdtemp(s->dir));

    path = format("%s/html", s->dir);
    assert_int_equal(mkdir(path, 0755), 0);
    free(path);

    path = format("%s/tls", s->dir);
    assert_int_equal(mkdir(path, 0755), 0);
    free(path);

    for (i = 0; i < 2; i++) {
        s->fd[i] = server_listen(64, &s->port[i]);
    }
}


void
server_certificate(server_t *s, const char *names)
{
    unit_shell(
        "cd '%s/tls'; { set -e; "
        "new='openssl req -x509 -batch -nodes -newkey ec "
        "-pkeyopt ec_paramgen_curve:prime256v1'; "
        "$new -subj /CN=other -keyout other.key -out other.pem; "
        "$new -subj /CN=ca -keyout ca.key -out ca.pem; "
        "$new -subj /CN=server -CA ca.pem -CAkey ca.key "
        "-addext basicConstraints=CA:false -addext 'subjectAltName=%s' "
        "-keyout server.key -out server.pem; } >log 2>&1 "
        "|| { cat log; exit 1; }",
        s->dir, names);
}


void
server_start(server_t *s, const char *text)
{
    int          i;
    FILE        *fp;
    char        *path, *inherited, *body;
    const char  *binary;

    body = NULL;
    assert_int_not_equal(asprintf(&body, text, s->port[0], s->port[1]), -1);

    path = format("%s/nginx.conf", s->dir);
    fp = fopen(path, "we");
    assert_non_null(fp);

    (void) fprintf(fp,
                   "%s"
                   "daemon off;\n"
                   "pid %s/nginx.pid;\n"
                   "error_log %s/error.log info;\n"
                   "events {\n}\n"
                   "http {\n"
                   "access_log off;\n"
                   "root %s/html;\n"
                   "client_body_temp_path %s/temp;\n"
                   "proxy_temp_path %s/temp;\n"
                   "fastcgi_temp_path %s/temp;\n"
                   "scgi_temp_path %s/temp;\n"
                   "uwsgi_temp_path %s/temp;\n"
                   "%s}\n",
                   geteuid() == 0 ? "user root;\n" : "", s->dir, s->dir,
                   s->dir, s->dir, s->dir, s->dir, s->dir, s->dir, body);

    assert_int_equal(fclose(fp), 0);
    free(path);
    free(body);

    binary = getenv("TEST_NGINX_BINARY");

    if (binary == NULL) {
        binary = "/usr/sbin/nginx";
    }

    /*
     * nginx takes sockets over that listen already, as from a binary that is
     * being upgraded: nobody else gets the ports, and nobody has to wait
     */

    inherited = format("NGINX=%d;%d;", s->fd[0], s->fd[1]);
    path = format("%s/error.log", s->dir);

    char  *const argv[] = { (char *) "nginx", (char *) "-p", s->dir,
                            (char *) "-c", (char *) "nginx.conf",
                            (char *) "-e", path, NULL };
    char  *const envp[] = { inherited, NULL };

    s->pid = fork();
    assert_int_not_equal(s->pid, -1);

    if (s->pid == 0) {
        (void) prctl(PR_SET_PDEATHSIG, SIGTERM);

        for (i = 0; i < 2; i++) {
            (void) fcntl(s->fd[i], F_SETFD, 0);
        }

        (void) execve(binary, argv, envp);
        _exit(127);
    }

    free(inherited);
    free(path);
}


void
server_stop(server_t *s)
{
    int  i, status;

    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        unit_shell("cat '%s/error.log' >&2", s->dir);
        fail_msg("nginx ended with %d", status);
    }

    for (i = 0; i < 2; i++) {
        (void) close(s->fd[i]);
    }

    unit_shell("rm -rf '%s'", s->dir);
    free(s->dir);
}


void
server_file(server_t *s, const char *name, const char *text)
{
    char             *path;
    struct timespec   times[2];

    static time_t  mtime = 1000000000;

    path = format("%s/html/%s", s->dir, name);
    unit_write(path, text, 0644);

    times[0].tv_sec = ++mtime;
    times[0].tv_nsec = 0;
    times[1] = times[0];

    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);

    free(path);
}


void
fake_start(fake_t *fake, const char *answer, fake_e then)
{
    memset(fake, 0, sizeof(fake_t));

    fake->answer = answer;
    fake->then = then;
    fake->fd = server_listen(16, &fake->port);

    assert_int_equal(pipe2(fake->stop, O_CLOEXEC), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_serve, fake), 0);
}


void
fake_stop(fake_t *fake)
{
    (void) close(fake->stop[1]);
    assert_int_equal(pthread_join(fake->thread, NULL), 0);

    (void) close(fake->stop[0]);
    (void) close(fake->fd);
}


int
server_listen(int backlog, int *port)
{
    int                  fd;
    socklen_t            len;
    struct sockaddr_in   sin;

    memset(&sin, 0, sizeof(struct sockaddr_in));

    sin.sin_family = AF_INET;
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_not_equal(fd, -1);

    len = sizeof(struct sockaddr_in);

    assert_int_equal(bind(fd, (struct sockaddr *) &sin, len), 0);

    if (backlog != -1) {
        assert_int_equal(listen(fd, backlog), 0);
    }

    assert_int_equal(getsockname(fd, (struct sockaddr *) &sin, &len), 0);

    *port = ntohs(sin.sin_port);

    return fd;
}


static void *
fake_serve(void *data)
{
    int          fd;
    void       (*hook)(void);
    fake_t      *fake;
    const char  *body;

    fake = data;

    while (fake_wait(fake, fake->fd, POLLIN)) {
        fd = accept4(fake->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd == -1) {
            continue;
        }

        if (!fake_read(fake, fd)) {
            (void) close(fd);
            continue;
        }

        hook = fake->hook;

        if (hook != NULL) {
            hook();
        }

        if (fake->then == FAKE_LATE) {
            (void) poll(NULL, 0, FAKE_DELAY);
        }

        if (fake_write(fake, fd, fake->answer)) {
            (void) atomic_fetch_add(&fake->requests, 1);

            if (fake->then == FAKE_HOLD) {
                (void) fake_wait(fake, fd, POLLRDHUP);

            } else if (fake->then == FAKE_REPEAT) {
                body = strstr(fake->answer, "\r\n\r\n") + 4;

                while (fake_write(fake, fd, body)) {
                    /* void */
                }
            }
        }

        /* what it sent is to arrive, whatever it has not read */
        (void) shutdown(fd, SHUT_WR);
        (void) close(fd);
    }

    return NULL;
}


static int
fake_read(fake_t *fake, int fd)
{
    size_t   len;
    ssize_t  n;

    for (len = 0; len < sizeof(fake->request) - 1; len += n) {

        if (!fake_wait(fake, fd, POLLIN)) {
            return 0;
        }

        n = read(fd, fake->request + len, sizeof(fake->request) - 1 - len);

        if (n <= 0) {
            return 0;
        }

        fake->request[len + n] = '\0';

        if (strstr(fake->request, "\r\n\r\n") != NULL) {
            return 1;
        }
    }

    return 0;
}


static int
fake_write(fake_t *fake, int fd, const char *text)
{
    size_t   len;
    ssize_t  n;

    for (len = strlen(text); len > 0; len -= n, text += n) {

        if (!fake_wait(fake, fd, POLLOUT)) {
            return 0;
        }

        n = send(fd, text, len, MSG_NOSIGNAL);

        if (n == -1) {
            return 0;
        }
    }

    return 1;
}


/* 0: it is to stop */

static int
fake_wait(fake_t *fake, int fd, short events)
{
    struct pollfd  fds[2];

    fds[0].fd = fd;
    fds[0].events = events;
    fds[1].fd = fake->stop[0];
    fds[1].events = POLLIN;

    while (poll(fds, 2, -1) == -1 && errno == EINTR) {
        /* void */
    }

    return fds[1].revents == 0;
}
