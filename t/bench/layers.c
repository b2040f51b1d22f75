
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/*
 * layers TABLE RESULT ...: what a client downloads that pulls all these images
 * (result files of the builder, the closure form), beside the bytes of the
 * different store paths in them; without and with a table of popularity.
 * Prints rows of the table that run.pl makes.
 */

#include <err.h>
#include <stdio.h>
#include "nixery_layers.h"


/* Something that is counted once, however many images have it. */

typedef struct {
    char       name[256];
    uint64_t   size;
} item_t;


typedef struct {
    item_t    *items;
    size_t     n;
} items_t;


static void bench(char **files, int n, size_t max,
    const nixery_popularity_t *popularity, double bar);
static void add(items_t *items, const char *name, uint64_t size);
static double total(items_t *items);
static int compare_items(const void *one, const void *two);


int
main(int argc, char **argv)
{
    nixery_error_t        error;
    nixery_popularity_t  *popularity;

    if (argc < 3) {
        errx(2, "usage: layers TABLE RESULT ...");
    }

    memset(&error, 0, sizeof(nixery_error_t));

    popularity = nixery_popularity_read(argv[1], argv[1], &error);
    if (popularity == NULL) {
        errx(2, "%s", error.message);
    }

    bench(argv + 2, argc - 2, 20, NULL, 1.3);
    bench(argv + 2, argc - 2, 20, popularity, 1.3);
    bench(argv + 2, argc - 2, 94, NULL, 1.02);
    bench(argv + 2, argc - 2, 94, popularity, 1.02);

    nixery_popularity_release(popularity);

    return 0;
}


static void
bench(char **files, int n, size_t max, const nixery_popularity_t *popularity,
    double bar)
{
    int               i;
    char              key[NIXERY_HEX_LEN + 1];
    double            pulled, unique;
    size_t            k, most;
    items_t           layers, paths;
    nixery_plan_t     plan;
    nixery_error_t    error;
    nixery_result_t   result;

    memset(&layers, 0, sizeof(items_t));
    memset(&paths, 0, sizeof(items_t));
    memset(&error, 0, sizeof(nixery_error_t));

    most = 0;

    for (i = 0; i < n; i++) {

        if (nixery_result_read(&result, files[i], &error) != NIXERY_OK
            || result.form != NIXERY_RESULT_CLOSURE
            || nixery_plan_make(&plan, &result, max, popularity, &error)
               != NIXERY_OK)
        {
            errx(2, "%s: %s", files[i],
                 error.message ? error.message : "not a closure");
        }

        for (k = 0; k < plan.nlayers; k++) {
            if (nixery_layer_key(&plan.layers[k], key) != NIXERY_OK) {
                err(2, "out of memory");
            }

            add(&layers, key, plan.layers[k].nar_size);
        }

        for (k = 0; k < result.nnodes; k++) {
            add(&paths, result.nodes[k].path, result.nodes[k].nar_size);

            /* the top layer is this path */

            if (strcmp(result.nodes[k].path, result.contents) == 0) {
                add(&layers, result.contents, result.nodes[k].nar_size);
            }
        }

        most = plan.nlayers + 1 > most ? plan.nlayers + 1 : most;

        nixery_plan_free(&plan);
        nixery_result_free(&result);
    }

    pulled = total(&layers);
    unique = total(&paths);

    if (most > max) {
        errx(2, "an image has %zu layers", most);
    }

    printf("%d images at %zu%s\t%.1f MB\t%.1f MB\t%.3f\t<= %.2f\t%s\n",
           n, max, popularity ? ", popular" : " layers", pulled / 1e6,
           unique / 1e6, pulled / unique, bar,
           pulled / unique <= bar ? "ok" : "missed");

    free(layers.items);
    free(paths.items);
}


static void
add(items_t *items, const char *name, uint64_t size)
{
    item_t  *p;
    size_t   n;

    p = realloc(items->items, (items->n + 1) * sizeof(item_t));

    n = strlen(name) + 1;

    if (p == NULL || n > sizeof(p->name)) {
        errx(2, "out of memory");
    }

    items->items = p;
    p += items->n++;

    memcpy(p->name, name, n);
    p->size = size;
}


/* Bytes of the different ones. */

static double
total(items_t *items)
{
    double  sum;
    size_t  i;

    if (items->n > 1) {
        qsort(items->items, items->n, sizeof(item_t), compare_items);
    }

    sum = 0;

    for (i = 0; i < items->n; i++) {
        if (i == 0 || compare_items(&items->items[i - 1], &items->items[i])) {
            sum += (double) items->items[i].size;
        }
    }

    return sum;
}


static int
compare_items(const void *one, const void *two)
{
    return strcmp(((const item_t *) one)->name, ((const item_t *) two)->name);
}
