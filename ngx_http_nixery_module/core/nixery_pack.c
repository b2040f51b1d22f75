
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include "nixery_pack_layer.h"


#define NIXERY_PACK_LEVEL        1
#define NIXERY_PACK_THREADS_MAX  16
#define NIXERY_PACK_BUFFERS_MAX  36   /* of one piece each: bounds the memory */


static unsigned nixery_pack_threads(unsigned threads);
static int nixery_pack_init(nixery_packer_t *p, nixery_pack_t *layers,
    unsigned threads);
static void nixery_pack_free(nixery_packer_t *p);
static size_t nixery_pack_start(nixery_packer_t *p, pthread_t *tids,
    size_t n);
static void *nixery_pack_thread(void *data);
static void nixery_pack_fail(nixery_packer_t *p, nixery_error_t *err);


/*
 * Every thread does what is at hand: it compresses a piece that waits, else it
 * starts the tar of the next layer, which makes pieces.  Whoever finishes the
 * piece that is next in its layer's file writes it, and those behind it that
 * are ready.  A thread that finds no free piece for its tar helps to compress,
 * so that one big layer keeps all cores busy as well as many small ones.
 */

int
nixery_pack(nixery_pack_t *layers, size_t n, unsigned threads,
    nixery_pack_done_pt done, void *data, nixery_cancel_t *cancel,
    nixery_error_t *err)
{
    size_t            i, started;
    pthread_t         tids[NIXERY_PACK_THREADS_MAX];
    nixery_packer_t   p;

    if (n == 0) {
        return NIXERY_OK;
    }

    memset(&p, 0, sizeof(nixery_packer_t));

    p.n = n;
    p.callback = done;
    p.data = data;
    p.cancel = cancel;
    p.last = &p.queue;

    threads = nixery_pack_threads(threads);

    if (nixery_pack_init(&p, layers, threads) != NIXERY_OK) {
        nixery_pack_free(&p);
        return nixery_error_nomem(err);
    }

    /* this thread is one of them, and does it all if there is no other */

    started = nixery_pack_start(&p, tids, threads - 1);

    (void) nixery_pack_thread(&p);

    for (i = 0; i < started; i++) {
        (void) pthread_join(tids[i], NULL);
    }

    nixery_pack_free(&p);

    if (p.error.kind != NIXERY_ERROR_NONE) {

        if (err->kind == NIXERY_ERROR_NONE) {
            *err = p.error;

        } else {
            nixery_error_free(&p.error);
        }

        return NIXERY_ERROR;
    }

    return NIXERY_OK;
}


static unsigned
nixery_pack_threads(unsigned threads)
{
    cpu_set_t  cpus;

    if (threads == 0) {
        threads = 1;

        if (sched_getaffinity(0, sizeof(cpu_set_t), &cpus) == 0) {
            threads = (unsigned) CPU_COUNT(&cpus);
        }
    }

    return threads < NIXERY_PACK_THREADS_MAX ? threads
                                             : NIXERY_PACK_THREADS_MAX;
}


static int
nixery_pack_init(nixery_packer_t *p, nixery_pack_t *layers, unsigned threads)
{
    size_t           i, npieces;
    nixery_piece_t  *piece;

    (void) pthread_mutex_init(&p->mutex, NULL);
    (void) pthread_cond_init(&p->cond, NULL);

    p->states = calloc(p->n, sizeof(nixery_state_t));

    if (p->states == NULL) {
        return NIXERY_ERROR;
    }

    for (i = 0; i < p->n; i++) {
        p->states[i].packer = p;
        p->states[i].layer = &layers[i];
        p->states[i].fd = -1;
    }

    /*
     * Each thread compresses into a buffer of its own, which it then swaps for
     * the piece's.  Of the pieces one is being filled and one compressed for
     * each thread, the others wait for their turn to be written.
     */

    npieces = 2 * (size_t) threads + 2;

    if (npieces > NIXERY_PACK_BUFFERS_MAX - threads) {
        npieces = NIXERY_PACK_BUFFERS_MAX - threads;
    }

    p->pieces = calloc(npieces, sizeof(nixery_piece_t));
    if (p->pieces == NULL) {
        return NIXERY_ERROR;
    }

    /* not malloc(): what is unmapped is given back for sure */

    p->size = libdeflate_gzip_compress_bound(NULL, NIXERY_PACK_PIECE);
    p->nbuffers = npieces + threads;
    p->buffers = mmap(NULL, p->nbuffers * p->size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p->buffers == MAP_FAILED) {
        p->buffers = NULL;
        return NIXERY_ERROR;
    }

    for (i = 0; i < npieces; i++) {
        piece = &p->pieces[i];

        piece->data = p->buffers + i * p->size;
        piece->next = p->free;
        p->free = piece;
    }

    p->spare = p->buffers + npieces * p->size;

    return NIXERY_OK;
}


static void
nixery_pack_free(nixery_packer_t *p)
{
    size_t           i;
    nixery_state_t  *state;

    if (p->buffers != NULL) {
        (void) munmap(p->buffers, p->nbuffers * p->size);
    }

    for (i = 0; p->states != NULL && i < p->n; i++) {
        state = &p->states[i];

        nixery_sha256_free(state->digest);
        nixery_sha256_free(state->diff);

        if (state->fd != -1) {
            (void) close(state->fd);
            (void) unlink(state->layer->file);
        }
    }

    free(p->pieces);
    free(p->states);

    (void) pthread_cond_destroy(&p->cond);
    (void) pthread_mutex_destroy(&p->mutex);
}


/* Signals are for the threads that were there before. */

static size_t
nixery_pack_start(nixery_packer_t *p, pthread_t *tids, size_t n)
{
    size_t    i;
    sigset_t  all, old;

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);

    for (i = 0; i < n; i++) {
        if (pthread_create(&tids[i], NULL, nixery_pack_thread, p) != 0) {
            break;
        }
    }

    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);

    return i;
}


static void *
nixery_pack_thread(void *data)
{
    nixery_packer_t  *p = data;

    int              rc;
    nixery_error_t   err;
    nixery_piece_t  *piece;
    nixery_press_t   press;
    nixery_state_t  *state;

    memset(&err, 0, sizeof(nixery_error_t));

    press.compressor = libdeflate_alloc_compressor(NIXERY_PACK_LEVEL);

    if (press.compressor == NULL) {
        (void) nixery_error_nomem(&err);
        nixery_pack_fail(p, &err);
        return NULL;
    }

    rc = NIXERY_OK;

    (void) pthread_mutex_lock(&p->mutex);

    press.spare = p->spare;
    p->spare += p->size;

    while (rc == NIXERY_OK && p->error.kind == NIXERY_ERROR_NONE
           && p->ndone != p->n)
    {
        piece = nixery_pack_take(p);

        if (piece != NULL) {
            (void) pthread_mutex_unlock(&p->mutex);
            rc = nixery_pack_compress(p, piece, &press, &err);

        } else if (p->next != p->n) {
            state = &p->states[p->next++];
            state->press = &press;

            (void) pthread_mutex_unlock(&p->mutex);
            rc = nixery_pack_produce(p, state, &err);

        } else {
            (void) pthread_cond_wait(&p->cond, &p->mutex);
            continue;
        }

        (void) pthread_mutex_lock(&p->mutex);
    }

    (void) pthread_mutex_unlock(&p->mutex);

    if (rc != NIXERY_OK) {
        nixery_pack_fail(p, &err);
    }

    libdeflate_free_compressor(press.compressor);

    return NULL;
}


/* Takes the error; the first one is the packing's. */

static void
nixery_pack_fail(nixery_packer_t *p, nixery_error_t *err)
{
    (void) pthread_mutex_lock(&p->mutex);

    if (p->error.kind == NIXERY_ERROR_NONE) {
        p->error = *err;
        memset(err, 0, sizeof(nixery_error_t));
    }

    (void) pthread_cond_broadcast(&p->cond);
    (void) pthread_mutex_unlock(&p->mutex);

    nixery_error_free(err);
}
