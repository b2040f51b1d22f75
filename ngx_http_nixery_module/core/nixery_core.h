
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_CORE_H_INCLUDED_
#define _NIXERY_CORE_H_INCLUDED_


/*
 * What every file of the core shares.  The core knows nothing of nginx: it is
 * a small C library that blocks, and that is safe to call from any thread.
 */

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>


#define NIXERY_OK           0
#define NIXERY_ERROR       -1
#define NIXERY_DECLINED    -5   /* it is not there, which is no error */

#define NIXERY_STORE       "/nix/store"

#define NIXERY_SHA256_LEN  32   /* bytes */
#define NIXERY_HEX_LEN     64   /* SHA-256 in lower-case hexadecimal */

/*
 * The revision of everything that shapes bytes of layers, config and manifest:
 * part of the cache key and of the layer key.
 */
#define NIXERY_FORMAT      "1"


/* By its name alone: a link in it may still lead out. */

static inline int
nixery_in_store(const char *path)
{
    return strncmp(path, NIXERY_STORE "/", sizeof(NIXERY_STORE)) == 0;
}


/* Milliseconds of the monotonic clock; async-signal-safe. */

static inline uint64_t
nixery_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}


/*
 * Ends a running build from outside: the flag is set by whoever owns the
 * build, *terminate (may be NULL) is a flag of the whole process.
 */

typedef struct {
    atomic_int                     flag;
    const volatile sig_atomic_t   *terminate;
} nixery_cancel_t;


static inline int
nixery_canceled(nixery_cancel_t *cancel)
{
    return cancel != NULL
           && (atomic_load_explicit(&cancel->flag, memory_order_relaxed)
               || (cancel->terminate != NULL && *cancel->terminate));
}


#endif /* _NIXERY_CORE_H_INCLUDED_ */
