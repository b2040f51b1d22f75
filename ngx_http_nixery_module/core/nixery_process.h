
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_PROCESS_H_INCLUDED_
#define _NIXERY_PROCESS_H_INCLUDED_


#include "nixery_buf.h"
#include "nixery_error.h"


#define NIXERY_EXCERPT_LINE  512   /* bytes kept of a line */


/*
 * The first and the last bytes of a stream of any length, and the last of its
 * lines that begin with a mark, wherever that stands.
 */

typedef struct {
    const char     *mark;       /* or NULL */
    char            marked[NIXERY_EXCERPT_LINE];   /* "": there was none */
    char            line[NIXERY_EXCERPT_LINE];     /* that is being read */
    size_t          line_len;
    nixery_buf_t    head;
    char           *tail;       /* a ring of tail_max bytes, or NULL */
    size_t          tail_pos;
    size_t          head_max;
    size_t          tail_max;
    uint64_t        total;      /* bytes seen in all */
} nixery_excerpt_t;


typedef struct {
    /* in */
    const char          *program;      /* absolute path */
    char *const         *argv;         /* argv[0] too, NULL at the end */
    char *const         *envp;         /* NAME=VALUE, NULL at the end */
    const char          *cwd;          /* or NULL */
    uint64_t             timeout;      /* milliseconds, 0: none */
    uint64_t             grace;        /* milliseconds between TERM and KILL */
    size_t               out_max;      /* bytes of standard output kept */
    nixery_cancel_t     *cancel;       /* or NULL */

    /* out; released by nixery_process_free() */
    nixery_buf_t         out;
    nixery_excerpt_t     err;          /* in: mark, head_max and tail_max */
    pid_t                pid;          /* of the target */
    int                  status;       /* as of waitpid() */
    unsigned             timed_out:1;
    unsigned             canceled:1;
    unsigned             overflow:1;   /* more than out_max on stdout */
} nixery_process_t;


/*
 * Runs a program under a supervisor process of its own and returns when it,
 * and every process it left behind, has ended.  However this process ends
 * (kill -9 included), the program's whole tree is taken down.
 * NIXERY_OK: it ran, see the out fields; NIXERY_ERROR: it could not be started
 * or its supervisor was killed (NIXERY_ERROR_NIX, NIXERY_ERROR_SYSTEM).
 */
int nixery_process_run(nixery_process_t *p, nixery_error_t *err);
void nixery_process_free(nixery_process_t *p);

/* The excerpt as one text, with "[... N bytes ...]" where it was cut. */
int nixery_excerpt_text(const nixery_excerpt_t *e, nixery_buf_t *text);


#endif /* _NIXERY_PROCESS_H_INCLUDED_ */
