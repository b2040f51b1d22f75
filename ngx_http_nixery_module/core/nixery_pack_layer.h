
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_PACK_LAYER_H_INCLUDED_
#define _NIXERY_PACK_LAYER_H_INCLUDED_


#include <libdeflate.h>
#include <pthread.h>
#include "nixery_pack.h"
#include "nixery_sha256.h"


/* A layer's way through the packing: what the two files of it share. */

typedef struct nixery_piece_s  nixery_piece_t;
typedef struct nixery_state_s  nixery_state_t;

struct nixery_piece_s {
    nixery_piece_t                *next;
    nixery_state_t                *state;
    uint64_t                       number;    /* within its layer */
    size_t                         len;
    char                          *data;      /* of the tar, then of the file */
};


/* A thread's own. */

typedef struct {
    struct libdeflate_compressor  *compressor;
    char                          *spare;     /* buffer to compress into */
} nixery_press_t;


/* A layer under way. */

struct nixery_state_s {
    struct nixery_packer_s        *packer;
    nixery_pack_t                 *layer;
    nixery_press_t                *press;     /* of the producing thread */
    int                            fd;
    nixery_sha256_t               *digest;
    nixery_sha256_t               *diff;
    nixery_piece_t                *piece;     /* that the tar is filling */
    nixery_piece_t                *ready;     /* compressed, sorted by number */
    uint64_t                       made;      /* pieces of the tar so far */
    uint64_t                       written;   /* pieces in the file */
    uint64_t                       flushed;   /* bytes on their way to disk */
    unsigned                       whole:1;   /* the tar has ended */
    unsigned                       writing:1; /* someone is at the file */
};


typedef struct nixery_packer_s {
    pthread_mutex_t                mutex;
    pthread_cond_t                 cond;
    nixery_state_t                *states;
    size_t                         n;
    size_t                         next;      /* layer to start */
    size_t                         ndone;
    nixery_piece_t                *pieces;
    nixery_piece_t                *free;
    nixery_piece_t                *queue;     /* to be compressed, in order */
    nixery_piece_t               **last;
    char                          *buffers;   /* the pieces', the spare ones */
    size_t                         nbuffers;
    size_t                         size;      /* of one buffer */
    char                          *spare;     /* of the next thread */
    nixery_pack_done_pt            callback;
    void                          *data;
    nixery_cancel_t               *cancel;
    nixery_error_t                 error;     /* the first one */
} nixery_packer_t;


/* The tar of a layer, in pieces that are queued to be compressed. */
int nixery_pack_produce(nixery_packer_t *p, nixery_state_t *state,
    nixery_error_t *err);

/* The next piece to compress, or NULL; the mutex is held. */
nixery_piece_t *nixery_pack_take(nixery_packer_t *p);

/*
 * Compresses a piece, and writes it and those behind it whose turn it is; with
 * the last one the layer is done.
 */
int nixery_pack_compress(nixery_packer_t *p, nixery_piece_t *piece,
    nixery_press_t *press, nixery_error_t *err);


#endif /* _NIXERY_PACK_LAYER_H_INCLUDED_ */
