
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_POPULARITY_H_INCLUDED_
#define _NIXERY_POPULARITY_H_INCLUDED_


#include "nixery_error.h"


#define NIXERY_POPULARITY_MAX        (64 * 1024 * 1024)   /* bytes of JSON */
#define NIXERY_POPULARITY_NAMES_MAX  1000000


/*
 * How popular store paths are, by their names without the hash.  It never
 * changes: threads share it, and whoever is the last to release it frees it.
 */

typedef struct nixery_popularity_s  nixery_popularity_t;


/*
 * Takes JSON as Nixery has it, { "glibc-2.36-9": 300000, ... }; "what" names it
 * in messages.  Returns a table with one reference, or NULL.
 * Errors: NIXERY_ERROR_RESULT, the message says what is wrong and with which
 * name; NIXERY_ERROR_SYSTEM.
 */
nixery_popularity_t *nixery_popularity_parse(const char *text, size_t len,
    const char *what, nixery_error_t *err);

/* The same of a file, which blocks. */
nixery_popularity_t *nixery_popularity_read(const char *path,
    const char *what, nixery_error_t *err);

/* One reference more of a table (may be NULL), which is returned. */
nixery_popularity_t *nixery_popularity_share(nixery_popularity_t *popularity);
void nixery_popularity_release(nixery_popularity_t *popularity);

/*
 * How popular a store path is: by its whole name, else by its name without the
 * version, as a table of another revision has it; of several versions the most
 * popular.  0 when the table does not know it.
 */
uint64_t nixery_popularity_count(const nixery_popularity_t *popularity,
    const char *path);

/* SHA-256 of the JSON. */
const char *nixery_popularity_id(const nixery_popularity_t *popularity);


#endif /* _NIXERY_POPULARITY_H_INCLUDED_ */
