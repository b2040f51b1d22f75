
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_PACK_H_INCLUDED_
#define _NIXERY_PACK_H_INCLUDED_


#include "nixery_tar.h"


#define NIXERY_PACK_PIECE  (1024 * 1024)   /* bytes of tar in one gzip member */


typedef struct nixery_pack_s  nixery_pack_t;

/*
 * Called once for each layer, as soon as its file is whole (not yet synced),
 * from whichever packing thread finished it, several at the same time.
 * NIXERY_ERROR ends the packing.
 */
typedef int (*nixery_pack_done_pt)(nixery_pack_t *layer, void *data,
    nixery_error_t *err);


/* A layer to pack. */

struct nixery_pack_s {
    /* in */
    nixery_tar_t     tar;
    const char      *file;                       /* work file to be made */

    /* out */
    char             digest[NIXERY_HEX_LEN + 1];    /* of the gzip file */
    char             diff_id[NIXERY_HEX_LEN + 1];   /* of the tar stream */
    uint64_t         size;                          /* bytes of the file */
    uint64_t         tar_size;                      /* bytes of the tar */
};


/*
 * Packs layers: tar, cut into pieces of NIXERY_PACK_PIECE, each one gzip
 * member (libdeflate level 1), concatenated in order.  The bytes depend on the
 * layers alone, never on the number of threads (0: one for each core this
 * process may run on).  Memory is bounded by the threads, not by the layers.
 * Errors: NIXERY_ERROR_SYSTEM, _CANCELED (within 200 ms), and done's.
 */
int nixery_pack(nixery_pack_t *layers, size_t n, unsigned threads,
    nixery_pack_done_pt done, void *data, nixery_cancel_t *cancel,
    nixery_error_t *err);


#endif /* _NIXERY_PACK_H_INCLUDED_ */
