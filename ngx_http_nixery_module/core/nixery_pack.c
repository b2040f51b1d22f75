
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include "nixery_file.h"
#include "nixery_pack.h"
#include "nixery_sha256.h"


#define NIXERY_PACK_LEVEL        1
#define NIXERY_PACK_THREADS_MAX  16
#define NIXERY_PACK_BUFFERS_MAX  36   /* of one piece each: bounds the memory */

/* How much of a file is handed to the disk at once while the rest is packed. */
#define NIXERY_PACK_WRITE_BACK   (8 * 1024 * 1024)


/*
 * Every thread does what is at hand: it compresses a piece that waits, else it
 * starts the tar of the next layer, which makes pieces.  Whoever finishes the
 * piece that is next in its layer's file writes it, and those behind it that
 * are ready.  A thread that finds no free piece for its tar helps to compress,
 * so that one big layer keeps all cores busy as well as many small ones.
 */

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


static unsigned nixery_pack_threads(unsigned threads);
static int nixery_pack_init(nixery_packer_t *p, nixery_pack_t *layers,
    unsigned threads);
static void nixery_pack_free(nixery_packer_t *p);
static size_t nixery_pack_start(nixery_packer_t *p, pthread_t *tids,
    size_t n);
static void *nixery_pack_thread(void *data);
static void nixery_pack_fail(nixery_packer_t *p, nixery_error_t *err);
static int nixery_pack_produce(nixery_packer_t *p, nixery_state_t *state,
    nixery_error_t *err);
static int nixery_pack_sink(void *data, const void *bytes, size_t len,
    nixery_error_t *err);
static nixery_piece_t *nixery_pack_get(nixery_state_t *state,
    nixery_error_t *err);
static void nixery_pack_queue(nixery_packer_t *p, nixery_piece_t *piece);
static nixery_piece_t *nixery_pack_take(nixery_packer_t *p);
static int nixery_pack_compress(nixery_packer_t *p, nixery_piece_t *piece,
    nixery_press_t *press, nixery_error_t *err);
static int nixery_pack_write(nixery_packer_t *p, nixery_state_t *state,
    nixery_error_t *err);
static int nixery_pack_finish(nixery_packer_t *p, nixery_state_t *state,
    nixery_error_t *err);


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


static int
nixery_pack_produce(nixery_packer_t *p, nixery_state_t *state,
    nixery_error_t *err)
{
    nixery_tar_t     tar;
    nixery_piece_t  *piece;

    state->digest = nixery_sha256_new();
    state->diff = nixery_sha256_new();

    if (state->digest == NULL || state->diff == NULL) {
        return nixery_error_nomem(err);
    }

    state->fd = open(state->layer->file,
                     O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (state->fd == -1) {
        return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't make work file \"%s\"",
                                  state->layer->file);
    }

    state->layer->size = 0;
    state->layer->tar_size = 0;

    tar = state->layer->tar;
    tar.cancel = p->cancel;

    if (nixery_tar_write(&tar, nixery_pack_sink, state, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    nixery_sha256_final(state->diff, state->layer->diff_id);

    /* a tar is never empty: there is a last piece, and it ends the layer */

    piece = state->piece;
    state->piece = NULL;

    (void) pthread_mutex_lock(&p->mutex);

    state->whole = 1;
    nixery_pack_queue(p, piece);

    (void) pthread_mutex_unlock(&p->mutex);

    return NIXERY_OK;
}


static int
nixery_pack_sink(void *data, const void *bytes, size_t len,
    nixery_error_t *err)
{
    nixery_state_t  *state = data;

    size_t            n;
    const char       *p;
    nixery_packer_t  *packer;

    packer = state->packer;

    nixery_sha256_update(state->diff, bytes, len);
    state->layer->tar_size += len;

    for (p = bytes; len != 0; p += n, len -= n) {

        if (state->piece != NULL && state->piece->len == NIXERY_PACK_PIECE) {
            (void) pthread_mutex_lock(&packer->mutex);
            nixery_pack_queue(packer, state->piece);
            (void) pthread_mutex_unlock(&packer->mutex);

            state->piece = NULL;
        }

        if (state->piece == NULL) {
            state->piece = nixery_pack_get(state, err);

            if (state->piece == NULL) {
                return NIXERY_ERROR;
            }
        }

        n = NIXERY_PACK_PIECE - state->piece->len;
        if (n > len) {
            n = len;
        }

        memcpy(state->piece->data + state->piece->len, p, n);
        state->piece->len += n;
    }

    return NIXERY_OK;
}


/* An empty piece for the tar; meanwhile this thread is not idle. */

static nixery_piece_t *
nixery_pack_get(nixery_state_t *state, nixery_error_t *err)
{
    nixery_packer_t  *p;
    nixery_piece_t   *piece;

    p = state->packer;

    (void) pthread_mutex_lock(&p->mutex);

    for ( ;; ) {
        if (p->error.kind != NIXERY_ERROR_NONE) {
            (void) pthread_mutex_unlock(&p->mutex);
            (void) nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                    "another layer failed");
            return NULL;
        }

        piece = p->free;

        if (piece != NULL) {
            p->free = piece->next;
            break;
        }

        piece = nixery_pack_take(p);

        if (piece == NULL) {
            (void) pthread_cond_wait(&p->cond, &p->mutex);
            continue;
        }

        (void) pthread_mutex_unlock(&p->mutex);

        if (nixery_pack_compress(p, piece, state->press, err) != NIXERY_OK) {
            return NULL;
        }

        (void) pthread_mutex_lock(&p->mutex);
    }

    (void) pthread_mutex_unlock(&p->mutex);

    piece->next = NULL;
    piece->state = state;
    piece->number = state->made++;
    piece->len = 0;

    return piece;
}


/* The mutex is held. */

static void
nixery_pack_queue(nixery_packer_t *p, nixery_piece_t *piece)
{
    piece->next = NULL;
    *p->last = piece;
    p->last = &piece->next;

    (void) pthread_cond_signal(&p->cond);
}


/* The mutex is held. */

static nixery_piece_t *
nixery_pack_take(nixery_packer_t *p)
{
    nixery_piece_t  *piece;

    piece = p->queue;

    if (piece != NULL) {
        p->queue = piece->next;

        if (p->queue == NULL) {
            p->last = &p->queue;
        }
    }

    return piece;
}


static int
nixery_pack_compress(nixery_packer_t *p, nixery_piece_t *piece,
    nixery_press_t *press, nixery_error_t *err)
{
    char             *data;
    nixery_state_t   *state;
    nixery_piece_t  **ready;

    if (nixery_canceled(p->cancel)) {
        return nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                "the build was canceled");
    }

    piece->len = libdeflate_gzip_compress(press->compressor, piece->data,
                                          piece->len, press->spare, p->size);

    data = piece->data;
    piece->data = press->spare;
    press->spare = data;

    state = piece->state;

    (void) pthread_mutex_lock(&p->mutex);

    ready = &state->ready;

    while (*ready != NULL && (*ready)->number < piece->number) {
        ready = &(*ready)->next;
    }

    piece->next = *ready;
    *ready = piece;

    if (state->writing || state->ready->number != state->written) {
        (void) pthread_mutex_unlock(&p->mutex);
        return NIXERY_OK;
    }

    state->writing = 1;

    (void) pthread_mutex_unlock(&p->mutex);

    return nixery_pack_write(p, state, err);
}


static int
nixery_pack_write(nixery_packer_t *p, nixery_state_t *state,
    nixery_error_t *err)
{
    int              last;
    nixery_piece_t  *piece;

    for ( ;; ) {
        (void) pthread_mutex_lock(&p->mutex);

        piece = state->ready;

        if (piece == NULL || piece->number != state->written) {
            state->writing = 0;
            last = state->whole && state->written == state->made;
            (void) pthread_mutex_unlock(&p->mutex);
            break;
        }

        state->ready = piece->next;

        (void) pthread_mutex_unlock(&p->mutex);

        if (nixery_file_write(state->fd, piece->data, piece->len) == -1) {
            return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                      "can't write work file \"%s\"",
                                      state->layer->file);
        }

        nixery_sha256_update(state->digest, piece->data, piece->len);

        state->layer->size += piece->len;

        if (state->layer->size - state->flushed >= NIXERY_PACK_WRITE_BACK) {
            (void) sync_file_range(state->fd, (off_t) state->flushed, 0,
                                   SYNC_FILE_RANGE_WRITE);
            state->flushed = state->layer->size;
        }

        (void) pthread_mutex_lock(&p->mutex);

        state->written++;
        piece->next = p->free;
        p->free = piece;

        (void) pthread_cond_broadcast(&p->cond);
        (void) pthread_mutex_unlock(&p->mutex);
    }

    return last ? nixery_pack_finish(p, state, err) : NIXERY_OK;
}


static int
nixery_pack_finish(nixery_packer_t *p, nixery_state_t *state,
    nixery_error_t *err)
{
    nixery_sha256_final(state->digest, state->layer->digest);

    if (close(state->fd) == -1) {
        (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't write work file \"%s\"",
                                  state->layer->file);
        (void) unlink(state->layer->file);
        state->fd = -1;

        return NIXERY_ERROR;
    }

    state->fd = -1;

    if (p->callback != NULL
        && p->callback(state->layer, p->data, err) != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    (void) pthread_mutex_lock(&p->mutex);

    p->ndone++;

    (void) pthread_cond_broadcast(&p->cond);
    (void) pthread_mutex_unlock(&p->mutex);

    return NIXERY_OK;
}
