
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "nixery_file.h"
#include "nixery_pack_layer.h"


/* How much of a file is handed to the disk at once while the rest is packed. */
#define NIXERY_PACK_WRITE_BACK  (8 * 1024 * 1024)


static int nixery_pack_sink(void *data, const void *bytes, size_t len,
    nixery_error_t *err);
static nixery_piece_t *nixery_pack_get(nixery_state_t *state,
    nixery_error_t *err);
static void nixery_pack_queue(nixery_packer_t *p, nixery_piece_t *piece);
static int nixery_pack_write(nixery_packer_t *p, nixery_state_t *state,
    nixery_error_t *err);
static int nixery_pack_finish(nixery_packer_t *p, nixery_state_t *state,
    nixery_error_t *err);


int
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


nixery_piece_t *
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


int
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
