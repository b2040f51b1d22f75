
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_SERVER_H_INCLUDED_
#define _NIXERY_SERVER_H_INCLUDED_


#include <pthread.h>
#include <stdatomic.h>
#include "unit.h"


#define FAKE_DELAY  100


/* A real nginx on free ports of 127.0.0.1, with a folder of its own. */

typedef struct {
    char     *dir;
    pid_t     pid;
    int       fd[2];
    int       port[2];
} server_t;


/* What a fake does when it has sent its answer. */

typedef enum {
    FAKE_CLOSE = 0,
    FAKE_LATE,       /* that was after FAKE_DELAY milliseconds */
    FAKE_HOLD,       /* sends no more, until the client goes or it is stopped */
    FAKE_REPEAT      /* the answer's body (all behind the head), again, ... */
} fake_e;


/*
 * A fake server, for what no real one does on demand: it takes whatever has a
 * blank line for a request, and answers with the bytes that it was given.
 */

typedef struct {
    const char *_Atomic    answer;     /* may be replaced by another one */
    void (*_Atomic         hook)(void);   /* before it answers, or NULL */
    fake_e                 then;
    pthread_t              thread;
    int                    fd;
    int                    stop[2];
    int                    port;
    atomic_int             requests;        /* read and answered, or held */
    char                   request[4096];   /* the last, after fake_stop() */
} fake_t;


/* Makes the folder, with "html" and "tls" in it, and gets the ports. */
void server_init(server_t *s);

/*
 * tls/server.pem and .key, by a made-up CA, tls/ca.pem; tls/other.pem is
 * another CA.  names is as in subjectAltName.
 */
void server_certificate(server_t *s, const char *names);

/*
 * text stands in http; it is a format for printf(), and gets the first and the
 * second port.  The server is up when this returns.
 */
void server_start(server_t *s, const char *text);

/* Removes the folder as well. */
void server_stop(server_t *s);

/* Writes DIR/html/NAME; with another time than before, and so another ETag. */
void server_file(server_t *s, const char *name, const char *text);

void fake_start(fake_t *fake, const char *answer, fake_e then);
void fake_stop(fake_t *fake);

/* A socket on 127.0.0.1; with a backlog of -1 one that refuses. */
int server_listen(int backlog, int *port);


#endif /* _NIXERY_SERVER_H_INCLUDED_ */
