
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_TAR_LINKS_H_INCLUDED_
#define _NIXERY_TAR_LINKS_H_INCLUDED_


#include "nixery_core.h"


/*
 * The files of one tar by size, mode and CRC-32, to find those that are alike.
 * Which names share an inode depends on how a store path came to a machine:
 * built with hard links, substituted without, linked to other paths when the
 * store was optimised.  What is alike does not, so that is what is linked.
 */

typedef struct nixery_tar_links_s  nixery_tar_links_t;


/* NULL when memory ran out. */
nixery_tar_links_t *nixery_tar_links_new(void);
void nixery_tar_links_free(nixery_tar_links_t *links);

/* Whether one of that size and mode might be found: else no CRC is needed. */
int nixery_tar_links_may(const nixery_tar_links_t *links, uint64_t size,
    mode_t mode);

/* The name of the first file that may be the same, or NULL. */
const char *nixery_tar_links_find(const nixery_tar_links_t *links,
    uint64_t size, mode_t mode, uint32_t crc);

/*
 * A file that was written, or linked to the one that was found.  The number of
 * files kept is bounded; NIXERY_ERROR: memory.
 */
int nixery_tar_links_add(nixery_tar_links_t *links, uint64_t size, mode_t mode,
    uint32_t crc, const char *name);
void nixery_tar_links_count(nixery_tar_links_t *links, uint64_t size,
    mode_t mode, uint32_t crc);


#endif /* _NIXERY_TAR_LINKS_H_INCLUDED_ */
