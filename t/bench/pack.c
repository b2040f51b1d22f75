
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/*
 * pack RESULT DIR: how fast the closure of a builder's result is packed into
 * that directory, beside a limit measured in the same run: compressing and
 * hashing the same bytes, in memory, with all cores.  Prints rows of the table
 * that run.pl makes.
 */

#include <err.h>
#include <libdeflate.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "nixery_layers.h"
#include "nixery_pack.h"
#include "nixery_sha256.h"


#define ROUNDS       5
#define THREADS_MAX  1024
#define LAYERS       94

#define SPEED_MIN    0.85
#define RATIO_MAX    0.36


/* A tar stream in memory. */

typedef struct {
    char             *data;
    size_t            len;
    size_t            size;
} stream_t;


typedef struct {
    stream_t         *streams;
    size_t            n;
    pthread_mutex_t   mutex;
    size_t            stream;     /* the next piece to take */
    size_t            offset;
    uint64_t          out;        /* compressed bytes */
} limit_t;


static int append(void *data, const void *bytes, size_t len,
    nixery_error_t *err);
static void check(int rc, nixery_error_t *err);
static void make_packs(nixery_pack_t *packs, const nixery_plan_t *plan,
    const char *dir);
static double pack(nixery_pack_t *packs, size_t n, uint64_t *out);
static double limit(stream_t *streams, size_t n, uint64_t *out);
static void *limit_thread(void *data);
static unsigned cores(void);
static double seconds(void);
static double median(double *values);
static int compare_doubles(const void *one, const void *two);


int
main(int argc, char **argv)
{
    int               i;
    double            ours[ROUNDS], limits[ROUNDS], shares[ROUNDS], last;
    double            share, ratio;
    size_t            k;
    uint64_t          plain, out, least;
    stream_t         *streams;
    nixery_plan_t     plan;
    nixery_pack_t    *packs;
    nixery_error_t    error;
    nixery_result_t   result;

    if (argc != 3) {
        errx(2, "usage: pack RESULT DIR");
    }

    memset(&error, 0, sizeof(nixery_error_t));

    check(nixery_result_read(&result, argv[1], &error), &error);

    if (result.form != NIXERY_RESULT_CLOSURE) {
        errx(2, "%s: not a closure", argv[1]);
    }

    check(nixery_plan_make(&plan, &result, LAYERS, NULL, &error), &error);

    packs = calloc(plan.nlayers, sizeof(nixery_pack_t));
    streams = calloc(plan.nlayers, sizeof(stream_t));

    if (packs == NULL || streams == NULL) {
        err(2, "can't start");
    }

    make_packs(packs, &plan, argv[2]);

    plain = 0;

    for (k = 0; k < plan.nlayers; k++) {
        check(nixery_tar_write(&packs[k].tar, append, &streams[k], &error),
              &error);
        plain += streams[k].len;
    }

    last = limit(streams, plan.nlayers, &least);

    for (i = 0; i < ROUNDS; i++) {
        (void) fprintf(stderr, "  round %d of %d\n", i + 1, ROUNDS);

        /* between two of the limit, as what else goes on comes and goes */

        ours[i] = pack(packs, plan.nlayers, &out);
        limits[i] = limit(streams, plan.nlayers, &least);

        shares[i] = (last + limits[i]) / 2 / ours[i];
        last = limits[i];
    }

    share = median(shares);
    ratio = (double) out / (double) plain;

    printf("packing %.0f MB\t%.0f MB/s\t%.0f MB/s\t%.2f\t>= %.2f\t%s\n",
           (double) plain / 1e6, (double) plain / median(ours) / 1e6,
           (double) plain / median(limits) / 1e6, share, SPEED_MIN,
           share >= SPEED_MIN ? "ok" : "missed");

    printf("  compressed\t%.1f MB\t%.1f MB\t%.3f\t<= %.2f\t%s\n",
           (double) out / 1e6, (double) least / 1e6, ratio, RATIO_MAX,
           ratio <= RATIO_MAX ? "ok" : "missed");

    return 0;
}


static int
append(void *data, const void *bytes, size_t len, nixery_error_t *err)
{
    char      *p;
    stream_t  *s;

    s = data;

    if (s->size - s->len < len) {
        s->size = 2 * s->size + len;

        p = realloc(s->data, s->size);
        if (p == NULL) {
            return nixery_error_nomem(err);
        }

        s->data = p;
    }

    memcpy(s->data + s->len, bytes, len);
    s->len += len;

    return NIXERY_OK;
}


static void
check(int rc, nixery_error_t *err)
{
    if (rc != NIXERY_OK) {
        errx(2, "%s", err->message);
    }
}


static void
make_packs(nixery_pack_t *packs, const nixery_plan_t *plan, const char *dir)
{
    char    *file;
    size_t   i;

    for (i = 0; i < plan->nlayers; i++) {
        if (asprintf(&file, "%s/%zu", dir, i) == -1) {
            err(2, "can't start");
        }

        packs[i].file = file;
        packs[i].tar.root = "";
        packs[i].tar.paths = plan->layers[i].paths;
        packs[i].tar.npaths = plan->layers[i].npaths;
    }
}


static double
pack(nixery_pack_t *packs, size_t n, uint64_t *out)
{
    double           start, end;
    size_t           i;
    nixery_error_t   error;

    memset(&error, 0, sizeof(nixery_error_t));

    start = seconds();
    check(nixery_pack(packs, n, 0, NULL, NULL, NULL, &error), &error);
    end = seconds();

    *out = 0;

    for (i = 0; i < n; i++) {
        *out += packs[i].size;
        (void) unlink(packs[i].file);
    }

    return end - start;
}


static double
limit(stream_t *streams, size_t n, uint64_t *out)
{
    double     start;
    limit_t    l;
    unsigned   i, threads;
    pthread_t  tids[THREADS_MAX];

    memset(&l, 0, sizeof(limit_t));

    l.streams = streams;
    l.n = n;

    (void) pthread_mutex_init(&l.mutex, NULL);

    threads = cores();
    start = seconds();

    for (i = 0; i < threads; i++) {
        if (pthread_create(&tids[i], NULL, limit_thread, &l) != 0) {
            errx(2, "can't start a thread");
        }
    }

    for (i = 0; i < threads; i++) {
        (void) pthread_join(tids[i], NULL);
    }

    (void) pthread_mutex_destroy(&l.mutex);

    *out = l.out;

    return seconds() - start;
}


static void *
limit_thread(void *data)
{
    char                          *in, *out;
    size_t                         len, bound, size;
    limit_t                       *l;
    nixery_sha256_t               *plain, *packed;
    struct libdeflate_compressor  *c;

    l = data;

    bound = libdeflate_gzip_compress_bound(NULL, NIXERY_PACK_PIECE);

    c = libdeflate_alloc_compressor(1);
    plain = nixery_sha256_new();
    packed = nixery_sha256_new();
    out = malloc(bound);

    if (c == NULL || plain == NULL || packed == NULL || out == NULL) {
        errx(2, "out of memory");
    }

    size = 0;

    for ( ;; ) {
        (void) pthread_mutex_lock(&l->mutex);

        l->out += size;

        if (l->stream == l->n) {
            (void) pthread_mutex_unlock(&l->mutex);
            break;
        }

        in = l->streams[l->stream].data + l->offset;
        len = l->streams[l->stream].len - l->offset;

        if (len > NIXERY_PACK_PIECE) {
            len = NIXERY_PACK_PIECE;
            l->offset += len;

        } else {
            l->stream++;
            l->offset = 0;
        }

        (void) pthread_mutex_unlock(&l->mutex);

        nixery_sha256_update(plain, in, len);
        size = libdeflate_gzip_compress(c, in, len, out, bound);
        nixery_sha256_update(packed, out, size);
    }

    libdeflate_free_compressor(c);
    nixery_sha256_free(plain);
    nixery_sha256_free(packed);
    free(out);

    return NULL;
}


static unsigned
cores(void)
{
    cpu_set_t  cpus;

    if (sched_getaffinity(0, sizeof(cpu_set_t), &cpus) == -1) {
        return 1;
    }

    return (unsigned) CPU_COUNT(&cpus);
}


static double
seconds(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}


static double
median(double *values)
{
    qsort(values, ROUNDS, sizeof(double), compare_doubles);

    return values[ROUNDS / 2];
}


static int
compare_doubles(const void *one, const void *two)
{
    double  first, second;

    first = *(const double *) one;
    second = *(const double *) two;

    return (first > second) - (first < second);
}
