
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_WORK_H_INCLUDED_
#define _NIXERY_WORK_H_INCLUDED_


#include "nixery_error.h"


/*
 * A directory for the work files of one build, held by flock(): a directory
 * that nobody holds was left over by a process that died.
 */

typedef struct {
    char    *path;
    int      fd;      /* of the directory itself, the lock's holder */
} nixery_work_t;


/* Makes "<parent>/<number>"; NIXERY_ERROR_SYSTEM names the path. */
int nixery_work_open(nixery_work_t *work, const char *parent,
    nixery_error_t *err);

/* Removes the directory with all that is in it; safe on a zeroed struct. */
void nixery_work_close(nixery_work_t *work);

/* Removes what dead processes left in parent, and nothing else. */
void nixery_work_clean(const char *parent);


#endif /* _NIXERY_WORK_H_INCLUDED_ */
