
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_layers.h"
#include "nixery_sha256.h"


/* How much a path that others of the closure refer to counts above its size. */
#define NIXERY_LAYERS_USE      16
#define NIXERY_LAYERS_USE_MAX  16

/* How many such paths each doubling of a popularity is worth. */
#define NIXERY_LAYERS_DOUBLE   2


typedef struct {
    const nixery_node_t   *node;
    uint64_t               score;
} nixery_rank_t;


static int nixery_layer_key_one(const char *kind, const char *what,
    char key[NIXERY_HEX_LEN + 1]);
static nixery_rank_t *nixery_layers_rank(const nixery_result_t *result,
    const nixery_popularity_t *popularity, size_t *n);
static uint32_t nixery_layers_use(const nixery_popularity_t *popularity,
    const char *path);
static void nixery_layers_add(nixery_plan_t *plan, const nixery_rank_t *ranks,
    size_t n);
static int nixery_layers_is_contents(const nixery_result_t *result,
    const nixery_node_t *node);
static int nixery_layers_compare_ranks(const void *one, const void *two);
static int nixery_layers_compare_paths(const void *one, const void *two);


/*
 * Each of the highest-ranking paths has a layer of its own, the others share
 * one.  What an image does not share with others is then as small as it can be
 * without knowing them.  The rank is the size, raised by up to double with the
 * number of paths that refer to it: what is used widely here is used elsewhere.
 *
 * A popularity knows better, where it says more.  Its logarithm counts, while
 * Nixery multiplies by it: then small paths that all refer to would push large
 * ones that some do into the shared layer, which no other image has.
 *
 * The highest rank is the lowest layer: clients keep unpacked layers by all
 * that is below them, so that images share those that they begin with.
 */

int
nixery_plan_make(nixery_plan_t *plan, const nixery_result_t *result,
    size_t max, const nixery_popularity_t *popularity, nixery_error_t *err)
{
    size_t          n, i, own;
    nixery_rank_t  *ranks;

    memset(plan, 0, sizeof(nixery_plan_t));

    ranks = nixery_layers_rank(result, popularity, &n);
    if (ranks == NULL) {
        return nixery_error_nomem(err);
    }

    /* the top layer, and the shared one */
    own = n < max ? n : max - 2;

    plan->layers = calloc(own + 1, sizeof(nixery_layer_t));
    plan->paths = calloc(n + 1, sizeof(char *));

    if (plan->layers == NULL || plan->paths == NULL) {
        free(ranks);
        nixery_plan_free(plan);
        return nixery_error_nomem(err);
    }

    for (i = 0; i < own; i++) {
        nixery_layers_add(plan, ranks + i, 1);
    }

    if (own < n) {
        nixery_layers_add(plan, ranks + own, n - own);
    }

    free(ranks);

    return NIXERY_OK;
}


void
nixery_plan_free(nixery_plan_t *plan)
{
    free(plan->layers);
    free(plan->paths);
    memset(plan, 0, sizeof(nixery_plan_t));
}


int
nixery_layer_key(const nixery_layer_t *layer, char key[NIXERY_HEX_LEN + 1])
{
    size_t            i;
    nixery_sha256_t  *sha;

    sha = nixery_sha256_new();
    if (sha == NULL) {
        return NIXERY_ERROR;
    }

    nixery_sha256_string(sha, NIXERY_FORMAT);
    nixery_sha256_string(sha, "gzip");
    nixery_sha256_string(sha, "paths");

    for (i = 0; i < layer->npaths; i++) {
        nixery_sha256_string(sha, layer->paths[i]);
    }

    nixery_sha256_final(sha, key);
    nixery_sha256_free(sha);

    return NIXERY_OK;
}


int
nixery_layer_key_top(const char *contents, char key[NIXERY_HEX_LEN + 1])
{
    return nixery_layer_key_one("top", contents, key);
}


int
nixery_layer_key_tarball(const char *hash, char key[NIXERY_HEX_LEN + 1])
{
    return nixery_layer_key_one("tar", hash, key);
}


static int
nixery_layer_key_one(const char *kind, const char *what,
    char key[NIXERY_HEX_LEN + 1])
{
    nixery_sha256_t  *sha;

    sha = nixery_sha256_new();
    if (sha == NULL) {
        return NIXERY_ERROR;
    }

    nixery_sha256_string(sha, NIXERY_FORMAT);
    nixery_sha256_string(sha, "gzip");
    nixery_sha256_string(sha, kind);
    nixery_sha256_string(sha, what);
    nixery_sha256_final(sha, key);
    nixery_sha256_free(sha);

    return NIXERY_OK;
}


/* The closure without the contents path, the highest rank first. */

static nixery_rank_t *
nixery_layers_rank(const nixery_result_t *result,
    const nixery_popularity_t *popularity, size_t *n)
{
    size_t                i, k;
    uint32_t             *uses, use;
    nixery_rank_t        *ranks;
    const nixery_node_t  *node;

    uses = calloc(result->nnodes + 1, sizeof(uint32_t));
    ranks = calloc(result->nnodes + 1, sizeof(nixery_rank_t));

    if (uses == NULL || ranks == NULL) {
        free(uses);
        free(ranks);
        return NULL;
    }

    for (i = 0; i < result->nnodes; i++) {
        node = &result->nodes[i];

        if (nixery_layers_is_contents(result, node)) {
            continue;
        }

        for (k = 0; k < node->nreferences; k++) {
            if (uses[node->references[k]] < NIXERY_LAYERS_USE_MAX) {
                uses[node->references[k]]++;
            }
        }
    }

    *n = 0;

    for (i = 0; i < result->nnodes; i++) {
        node = &result->nodes[i];

        if (!nixery_layers_is_contents(result, node)) {
            use = nixery_layers_use(popularity, node->path);

            if (use < uses[i]) {
                use = uses[i];
            }

            /* less than 2^60: a result has no size beyond 2^53 */

            ranks[*n].node = node;
            ranks[*n].score = node->nar_size * (NIXERY_LAYERS_USE + use);
            (*n)++;
        }
    }

    qsort(ranks, *n, sizeof(nixery_rank_t), nixery_layers_compare_ranks);

    free(uses);

    return ranks;
}


/* The binary digits of the count. */

static uint32_t
nixery_layers_use(const nixery_popularity_t *popularity, const char *path)
{
    uint32_t  use;
    uint64_t  count;

    if (popularity == NULL) {
        return 0;
    }

    use = 0;

    for (count = nixery_popularity_count(popularity, path); count != 0;
         count >>= 1)
    {
        use += NIXERY_LAYERS_DOUBLE;
    }

    return use;
}


static void
nixery_layers_add(nixery_plan_t *plan, const nixery_rank_t *ranks, size_t n)
{
    size_t           i;
    nixery_layer_t  *layer;

    layer = &plan->layers[plan->nlayers];

    layer->paths = plan->nlayers == 0 ? plan->paths
                                      : layer[-1].paths + layer[-1].npaths;
    layer->npaths = n;

    for (i = 0; i < n; i++) {
        layer->paths[i] = ranks[i].node->path;
        layer->nar_size += ranks[i].node->nar_size;
    }

    qsort(layer->paths, n, sizeof(char *), nixery_layers_compare_paths);

    plan->nlayers++;
}


static int
nixery_layers_is_contents(const nixery_result_t *result,
    const nixery_node_t *node)
{
    return result->contents != NULL
           && strcmp(node->path, result->contents) == 0;
}


static int
nixery_layers_compare_ranks(const void *one, const void *two)
{
    const nixery_rank_t  *first, *second;

    first = one;
    second = two;

    if (first->score != second->score) {
        return first->score > second->score ? -1 : 1;
    }

    return strcmp(first->node->path, second->node->path);
}


static int
nixery_layers_compare_paths(const void *one, const void *two)
{
    return strcmp(*(const char *const *) one, *(const char *const *) two);
}
