
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/*
 * pack [store path ...]: how fast a closure is packed, beside a limit measured
 * in the same run: compressing and hashing the same bytes, in memory, with all
 * cores.  Takes the paths from standard input when there are no arguments.
 * Ends with 1 when a bar is missed, with 2 when it can't measure.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
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
#define MEMORY_MAX   64.0   /* MiB */


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


static void read_paths(nixery_result_t *result, int argc, char **argv);
static void add_path(nixery_result_t *result, const char *path);
static int compare_nodes(const void *one, const void *two);
static int count(void *data, const void *bytes, size_t len,
    nixery_error_t *err);
static int append(void *data, const void *bytes, size_t len,
    nixery_error_t *err);
static void check(int rc, nixery_error_t *err);
static void make_packs(nixery_pack_t *packs, const nixery_plan_t *plan,
    const char *dir);
static double pack(nixery_pack_t *packs, size_t n, uint64_t *out);
static double limit(stream_t *streams, size_t n, uint64_t *out);
static void *limit_thread(void *data);
static double memory(nixery_pack_t *packs, size_t n);
static long status(const char *name);
static unsigned cores(void);
static double seconds(void);
static double median(double *values);
static int compare_doubles(const void *one, const void *two);


int
main(int argc, char **argv)
{
    int               i;
    char              dir[] = "/var/tmp/nixery-bench.XXXXXX";
    double            ours[ROUNDS], limits[ROUNDS];
    double            mib, speed, bound, ratio, best;
    size_t            k;
    uint64_t          plain, out, least;
    stream_t         *streams;
    nixery_plan_t     plan;
    nixery_pack_t    *packs;
    nixery_error_t    error;
    nixery_result_t   result;

    memset(&result, 0, sizeof(nixery_result_t));
    memset(&error, 0, sizeof(nixery_error_t));

    read_paths(&result, argc, argv);
    check(nixery_plan_make(&plan, &result, LAYERS, &error), &error);

    packs = calloc(plan.nlayers, sizeof(nixery_pack_t));
    streams = calloc(plan.nlayers, sizeof(stream_t));

    if (packs == NULL || streams == NULL || mkdtemp(dir) == NULL) {
        err(2, "can't start");
    }

    make_packs(packs, &plan, dir);

    /* before this process gets big, as its memory is its child's too */

    mib = memory(packs, plan.nlayers);

    plain = 0;

    for (k = 0; k < plan.nlayers; k++) {
        check(nixery_tar_write(&packs[k].tar, append, &streams[k], &error),
              &error);
        plain += streams[k].len;
    }

    for (i = 0; i < ROUNDS; i++) {
        limits[i] = limit(streams, plan.nlayers, &least);
        ours[i] = pack(packs, plan.nlayers, &out);
    }

    (void) rmdir(dir);

    speed = (double) plain / median(ours) / 1e6;
    bound = (double) plain / median(limits) / 1e6;
    ratio = (double) out / (double) plain;
    best = (double) least / (double) plain;

    printf("packing: ours %.0f MB/s, limit %.0f MB/s, ratio %.2f (must reach"
           " %.2f), compressed %.3f (limit at most %.2f); memory %.1f MiB over"
           " idle (at most %.0f)\n",
           speed, bound, speed / bound, SPEED_MIN, ratio,
           best > RATIO_MAX ? best : RATIO_MAX, mib, MEMORY_MAX);

    return speed / bound < SPEED_MIN
           || (ratio > RATIO_MAX && out > least)
           || mib > MEMORY_MAX;
}


static void
read_paths(nixery_result_t *result, int argc, char **argv)
{
    int      i;
    char    *line;
    size_t   size;
    ssize_t  n;

    /* the layers of a closure that nothing is known of but its paths */
    result->contents = strdup("");

    for (i = 1; i < argc; i++) {
        add_path(result, argv[i]);
    }

    line = NULL;
    size = 0;

    while (argc == 1 && (n = getline(&line, &size, stdin)) > 0) {
        line[strcspn(line, "\n")] = '\0';
        add_path(result, line);
    }

    free(line);

    if (result->nnodes == 0) {
        errx(2, "no store path was given");
    }

    qsort(result->nodes, result->nnodes, sizeof(nixery_node_t), compare_nodes);
}


static void
add_path(nixery_result_t *result, const char *path)
{
    nixery_tar_t     tar;
    nixery_node_t   *nodes;
    nixery_error_t   error;

    nodes = realloc(result->nodes,
                    (result->nnodes + 1) * sizeof(nixery_node_t));
    if (nodes == NULL) {
        err(2, "can't start");
    }

    result->nodes = nodes;
    nodes += result->nnodes++;

    memset(nodes, 0, sizeof(nixery_node_t));
    memset(&tar, 0, sizeof(nixery_tar_t));
    memset(&error, 0, sizeof(nixery_error_t));

    nodes->path = strdup(path);

    tar.root = "";
    tar.paths = (const char *const *) &nodes->path;
    tar.npaths = 1;

    check(nixery_tar_write(&tar, count, &nodes->nar_size, &error), &error);
}


static int
compare_nodes(const void *one, const void *two)
{
    return strcmp(((const nixery_node_t *) one)->path,
                  ((const nixery_node_t *) two)->path);
}


static int
count(void *data, const void *bytes, size_t len, nixery_error_t *err)
{
    (void) bytes;
    (void) err;

    *(uint64_t *) data += len;

    return NIXERY_OK;
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


/* How much a process grows by packing, in MiB: its peak over what it was. */

static double
memory(nixery_pack_t *packs, size_t n)
{
    int       fd, wstatus, fds[2];
    long      idle, peak;
    pid_t     pid;
    uint64_t  out;

    if (pipe(fds) == -1 || (pid = fork()) == -1) {
        err(2, "can't start a process");
    }

    if (pid == 0) {
        idle = status("VmRSS:");

        /* the peak so far is forgotten */

        fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
        if (fd == -1 || write(fd, "5", 1) != 1) {
            err(2, "can't measure memory");
        }

        (void) close(fd);
        (void) pack(packs, n, &out);

        peak = status("VmHWM:") - idle;

        _exit(write(fds[1], &peak, sizeof(long)) != sizeof(long));
    }

    (void) close(fds[1]);

    if (read(fds[0], &peak, sizeof(long)) != sizeof(long)
        || waitpid(pid, &wstatus, 0) == -1 || wstatus != 0)
    {
        errx(2, "the process that measures memory failed");
    }

    (void) close(fds[0]);

    return (double) peak / 1024;
}


/* A line of /proc/self/status, KiB. */

static long
status(const char *name)
{
    char  *line;
    long   value;
    FILE  *f;
    size_t  size;

    f = fopen("/proc/self/status", "re");
    if (f == NULL) {
        err(2, "can't measure memory");
    }

    line = NULL;
    size = 0;
    value = -1;

    while (getline(&line, &size, f) > 0) {
        if (strncmp(line, name, strlen(name)) == 0) {
            value = strtol(line + strlen(name), NULL, 10);
        }
    }

    free(line);
    (void) fclose(f);

    return value;
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
