
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_SUPERVISOR_H_INCLUDED_
#define _NIXERY_SUPERVISOR_H_INCLUDED_


#include "nixery_process.h"


typedef enum {
    NIXERY_REPORT_STARTED = 1,   /* pid is the target's */
    NIXERY_REPORT_ENDED,         /* status is its wait status */
    NIXERY_REPORT_FAILED         /* err: it could not be started */
} nixery_report_e;


/* What a supervisor writes into its report pipe, at most PIPE_BUF bytes. */

typedef struct {
    nixery_report_e    kind;
    int                err;
    int                status;
    pid_t              pid;
    unsigned           timed_out:1;
} nixery_report_t;


/* The supervisor's ends of the pipes. */

typedef struct {
    int    out;
    int    err;
    int    report;
    int    lifeline;   /* its end of file: take the target down */
} nixery_supervisor_t;


/*
 * The life of a supervisor process: starts the target of p, waits for it, takes
 * it down at the time limit or when the lifeline ends, then sweeps what it left
 * behind.  Runs in a raw clone of a multi-threaded process, so it calls nothing
 * but async-signal-safe functions; all signals are blocked.  Does not return.
 */
void nixery_supervisor(const nixery_process_t *p, nixery_supervisor_t *s)
    __attribute__((noreturn));


#endif /* _NIXERY_SUPERVISOR_H_INCLUDED_ */
