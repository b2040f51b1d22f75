
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "unit.h"
#include "nixery_layers.h"


#define CONTENTS  "/nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-contents"
#define NODES     60
#define ROUNDS    300


/* A closure as a table: a name of one letter, its size, whom it refers to. */

typedef struct {
    char           name;
    uint64_t       size;
    const char    *references;
} row_t;


static nixery_result_t *closure(const row_t *rows, size_t n);
static void release(nixery_result_t *result);
static char *describe(const nixery_plan_t *plan);
static char *describe_popular(const row_t *rows, size_t n, size_t max,
    const char *table);
static void assert_plan(const row_t *rows, size_t n, size_t max,
    const char *expected);
static void assert_popular(const row_t *rows, size_t n, size_t max,
    const char *table, const char *expected);
static void key_of(const char *const *paths, size_t n, char *key);
static unsigned next(unsigned *seed, unsigned below);
static void random_rows(row_t *rows, char (*references)[NODES + 1],
    unsigned seed);


static void
one_each_while_there_is_room(void **state)
{
    static const row_t  rows[] = {
        { 'a', 10, "" }, { 'b', 30, "a" }, { 'c', 20, "a" }
    };

    (void) state;

    assert_plan(rows, 3, 94, "b c a");
    assert_plan(rows, 3, 5, "b c a");
    assert_plan(rows, 3, 4, "b c a");
    assert_plan(rows, 1, 2, "a");
    assert_plan(rows, 0, 2, "");
}


static void
the_small_ones_share_the_last(void **state)
{
    static const row_t  rows[] = {
        { 'a', 10, "" }, { 'b', 30, "" }, { 'c', 20, "" }, { 'd', 5, "" }
    };

    (void) state;

    assert_plan(rows, 4, 5, "b c a d");
    assert_plan(rows, 4, 4, "b c ad");
    assert_plan(rows, 4, 3, "b acd");
    assert_plan(rows, 4, 2, "abcd");
}


static void
use_counts_as_size(void **state)
{
    /* a is used by all, b is a little bigger, c far bigger */

    static const row_t  used[] = {
        { 'a', 100, "" },
        { 'b', 110, "" },
        { 'c', 1000, "a" },
        { 'd', 10, "a" },
        { 'e', 10, "a" },
        { 'f', 10, "a" }
    };

    static const row_t  unused[] = {
        { 'a', 100, "" },
        { 'b', 110, "" },
        { 'c', 1000, "" },
        { 'd', 10, "" },
        { 'e', 10, "" },
        { 'f', 10, "" }
    };

    (void) state;

    assert_plan(used, 6, 4, "c a bdef");
    assert_plan(unused, 6, 4, "c b adef");
}


static void
popularity_counts_as_use(void **state)
{
    char      *table, *plans[54];
    size_t     i, k;
    uint64_t   count;

    /* a is used by two, b is larger, c smaller than both */

    static const row_t  rows[] = {
        { 'a', 100, "" },
        { 'b', 120, "" },
        { 'c', 80, "" },
        { 'd', 10, "a" },
        { 'e', 10, "a" }
    };

    static const char *const  same[] = {
        "{}",
        "{\"x\": 1000000, \"\": 5}",
        "{\"a\": 0, \"b\": 0, \"c\": 0}",
        "{\"a\": 1}",                       /* two uses, as many as here */
        "{\"a\": 1000, \"b\": 1000, \"c\": 1000}"
    };

    (void) state;

    assert_popular(rows, 5, 5, NULL, "b a c de");
    assert_popular(rows, 5, 3, NULL, "b acde");

    for (i = 0; i < sizeof(same) / sizeof(same[0]) - 1; i++) {
        assert_popular(rows, 5, 5, same[i], "b a c de");
        assert_popular(rows, 5, 3, same[i], "b acde");
    }

    assert_popular(rows, 5, 3, same[i], "b acde");

    /* what is popular comes first, the more popular the sooner */

    assert_popular(rows, 5, 3, "{\"a\": 7}", "a bcde");
    assert_popular(rows, 5, 4, "{\"c\": 255}", "c b ade");
    assert_popular(rows, 5, 4, "{\"c\": 255, \"a\": 255}", "a c bde");
    assert_popular(rows, 5, 3, "{\"d\": 9007199254740992}", "b acde");
    assert_popular(rows, 5, 4, "{\"c-1\": 255, \"d\": 1}", "c b ade");

    /* more never moves a path to a later layer */

    for (i = 0, count = 0; i < 54; i++, count = count ? count * 2 : 1) {
        table = format("{\"c\": %ju}", (uintmax_t) count);
        plans[i] = describe_popular(rows, 5, 5, table);
        free(table);

        assert_true(i == 0 || strchr(plans[i], 'c') - plans[i]
                              <= strchr(plans[i - 1], 'c') - plans[i - 1]);
    }

    assert_string_equal(plans[0], "b a c de");
    assert_string_equal(plans[53], "c b a de");

    for (k = 0; k < i; k++) {
        free(plans[k]);
    }
}


static void
equals_go_by_their_paths(void **state)
{
    static const row_t  rows[] = {
        { 'd', 7, "" },
        { 'b', 7, "" },
        { 'c', 7, "" },
        { 'a', 7, "" },
        { 'f', 0, "" },
        { 'e', 0, "" }
    };

    (void) state;

    assert_plan(rows, 6, 94, "a b c d e f");
    assert_plan(rows, 6, 4, "a b cdef");
}


static void
contents_are_left_out(void **state)
{
    size_t            i;
    nixery_plan_t     plan;
    nixery_error_t    err = { 0 };
    nixery_result_t  *result;

    static const row_t  rows[] = { { 'a', 10, "" }, { 'b', 5, "a" } };

    (void) state;

    result = closure(rows, 2);

    assert_int_equal(nixery_plan_make(&plan, result, 94, NULL, &err),
                     NIXERY_OK);

    for (i = 0; i < plan.nlayers; i++) {
        assert_string_not_equal(plan.layers[i].paths[0], CONTENTS);
    }

    assert_int_equal(plan.nlayers, 2);
    assert_int_equal(plan.layers[0].nar_size, 10);

    nixery_plan_free(&plan);
    assert_null(plan.layers);
    nixery_plan_free(&plan);

    release(result);
}


/* A builder that packs the top layer itself has no contents. */

static void
no_contents(void **state)
{
    char             *text;
    nixery_plan_t     plan;
    nixery_error_t    err = { 0 };
    nixery_result_t  *result;

    static const row_t  rows[] = { { 'a', 10, "" }, { 'b', 30, "a" } };

    (void) state;

    result = closure(rows, 2);

    free(result->contents);
    result->contents = NULL;
    free(result->nodes[2].path);
    free(result->nodes[2].references);
    result->nnodes = 2;

    assert_int_equal(nixery_plan_make(&plan, result, 94, NULL, &err),
                     NIXERY_OK);
    text = describe(&plan);
    assert_string_equal(text, "b a");

    free(text);
    nixery_plan_free(&plan);
    release(result);
}


static void
huge_sizes(void **state)
{
    static const row_t  rows[] = {
        { 'a', UINT64_C(9007199254740991), "" },
        { 'b', UINT64_C(9007199254740992), "" },
        { 'c', 1, "ab" }
    };

    (void) state;

    assert_plan(rows, 3, 3, "b ac");

    assert_popular(rows, 3, 3, "{\"a\": 2}", "a bc");
    assert_popular(rows, 3, 3, "{\"a\": 9007199254740991, "
                   "\"b\": 9007199254740992}", "b ac");
    assert_popular(rows, 3, 3, "{\"a\": 9007199254740992}", "a bc");
}


static void
any_order_gives_the_same_plan(void **state)
{
    char              *one, *two, references[NODES][NODES + 1];
    row_t              rows[NODES], shuffled[NODES], swapped;
    size_t             i, k, max, covered;
    unsigned           round, seed;
    nixery_plan_t      plan;
    nixery_error_t     err = { 0 };
    nixery_result_t   *result;

    (void) state;

    for (round = 1; round <= ROUNDS; round++) {
        random_rows(rows, references, round);

        seed = round;
        max = NIXERY_LAYERS_MIN + next(&seed, NIXERY_LAYERS_MAX - 1);

        result = closure(rows, NODES);
        assert_int_equal(nixery_plan_make(&plan, result, max, NULL, &err),
                         NIXERY_OK);

        /* every path once, in order, and no more layers than allowed */

        assert_in_range(plan.nlayers, 1, max - 1);

        covered = 0;

        for (i = 0; i < plan.nlayers; i++) {
            assert_true(plan.layers[i].npaths > 0);
            covered += plan.layers[i].npaths;

            for (k = 1; k < plan.layers[i].npaths; k++) {
                assert_true(strcmp(plan.layers[i].paths[k - 1],
                                   plan.layers[i].paths[k])
                            < 0);
            }
        }

        assert_int_equal(covered, NODES);

        one = describe(&plan);
        nixery_plan_free(&plan);
        release(result);

        memcpy(shuffled, rows, sizeof(rows));

        for (i = NODES - 1; i > 0; i--) {
            k = next(&seed, (unsigned) i + 1);
            swapped = shuffled[i];
            shuffled[i] = shuffled[k];
            shuffled[k] = swapped;
        }

        result = closure(shuffled, NODES);
        assert_int_equal(nixery_plan_make(&plan, result, max, NULL, &err),
                         NIXERY_OK);

        two = describe(&plan);
        assert_string_equal(one, two);

        nixery_plan_free(&plan);
        release(result);
        free(one);
        free(two);
    }
}


static void
images_share_layers(void **state)
{
    char              keys[2][NIXERY_HEX_LEN + 1];
    size_t            i;
    nixery_plan_t     plans[2];
    nixery_error_t    err = { 0 };
    nixery_result_t  *results[2];

    /* two images of one library, each with a program of its own */

    static const row_t  one[] = {
        { 'a', 1000, "" }, { 'b', 200, "a" }, { 'c', 3, "a" }, { 'd', 2, "" }
    };

    static const row_t  two[] = {
        { 'a', 1000, "" }, { 'e', 400, "a" }, { 'c', 3, "a" }, { 'f', 1, "" }
    };

    (void) state;

    results[0] = closure(one, 4);
    results[1] = closure(two, 4);

    for (i = 0; i < 2; i++) {
        assert_int_equal(nixery_plan_make(&plans[i], results[i], 4, NULL,
                                          &err),
                         NIXERY_OK);
        assert_int_equal(plans[i].nlayers, 3);
        assert_int_equal(nixery_layer_key(&plans[i].layers[0], keys[i]),
                         NIXERY_OK);
    }

    assert_string_equal(keys[0], keys[1]);

    for (i = 0; i < 2; i++) {
        assert_int_equal(nixery_layer_key(&plans[i].layers[2], keys[i]),
                         NIXERY_OK);
    }

    assert_string_not_equal(keys[0], keys[1]);

    for (i = 0; i < 2; i++) {
        nixery_plan_free(&plans[i]);
        release(results[i]);
    }
}


static void
layer_keys(void **state)
{
    char  key[NIXERY_HEX_LEN + 1], other[NIXERY_HEX_LEN + 1];

    static const char *const  one[] = { "/nix/store/ab", "/nix/store/c" };
    static const char *const  two[] = { "/nix/store/a", "b/nix/store/c" };
    static const char *const  all[] = { "/nix/store/ab/nix/store/c" };

    (void) state;

    /* never to change unless NIXERY_FORMAT does */

    key_of(one, 2, key);
    assert_string_equal(key, "e6e2738f71c472c3684681f532219bd5"
                             "4e910ec44bb793027c13619509f03d0e");

    assert_int_equal(nixery_layer_key_top("/nix/store/ab", key), NIXERY_OK);
    assert_string_equal(key, "0edebb5c0f385435846ff8a2cce8af8e"
                             "3f65a56509051f51f6e2fc25ccf5037e");

    assert_int_equal(nixery_layer_key_tarball("/nix/store/ab", other),
                     NIXERY_OK);
    assert_string_equal(other, "4213f79a08d64a85e9e1d92da81a7eb2"
                               "7831c8037df6ab8fd18b08a2942ae49c");
    assert_string_not_equal(other, key);

    /* the lengths count, the kind counts */

    key_of(one, 2, key);
    key_of(two, 2, other);
    assert_string_not_equal(key, other);

    key_of(all, 1, other);
    assert_string_not_equal(key, other);

    key_of(one, 1, key);
    assert_int_equal(nixery_layer_key_top(one[0], other), NIXERY_OK);
    assert_string_not_equal(key, other);
}


/* The nodes are in the rows' order, with the contents at the end. */

static nixery_result_t *
closure(const row_t *rows, size_t n)
{
    size_t            i, k, m;
    nixery_node_t    *node;
    nixery_result_t  *result;

    result = calloc(1, sizeof(nixery_result_t));
    assert_non_null(result);

    result->form = NIXERY_RESULT_CLOSURE;
    result->contents = strdup(CONTENTS);
    result->nnodes = n + 1;
    result->nodes = calloc(n + 1, sizeof(nixery_node_t));
    assert_non_null(result->nodes);

    for (i = 0; i < n; i++) {
        node = &result->nodes[i];
        node->nar_size = rows[i].size;
        node->references = calloc(n, sizeof(uint32_t));

        assert_int_not_equal(asprintf(&node->path, "/nix/store/"
                                      "00000000000000000000000000000000-%c",
                                      rows[i].name),
                             -1);

        for (k = 0; rows[i].references[k] != '\0'; k++) {
            for (m = 0; rows[m].name != rows[i].references[k]; m++) {
                /* void */
            }

            node->references[node->nreferences++] = (uint32_t) m;
        }
    }

    node = &result->nodes[n];
    node->path = strdup(CONTENTS);
    node->nar_size = 1000000;
    node->references = calloc(n + 1, sizeof(uint32_t));

    /* it refers to all: that is no use that others share */

    for (i = 0; i < n; i++) {
        node->references[node->nreferences++] = (uint32_t) i;
    }

    return result;
}


static void
release(nixery_result_t *result)
{
    size_t  i;

    for (i = 0; i < result->nnodes; i++) {
        free(result->nodes[i].path);
        free(result->nodes[i].references);
    }

    free(result->nodes);
    free(result->contents);
    free(result);
}


/* "b c ad": the letters of each layer. */

static char *
describe(const nixery_plan_t *plan)
{
    char    *text, *p;
    size_t   i, k;

    text = p = calloc(3, NODES);
    assert_non_null(text);

    for (i = 0; i < plan->nlayers; i++) {
        if (i > 0) {
            *p++ = ' ';
        }

        for (k = 0; k < plan->layers[i].npaths; k++) {
            *p++ = strrchr(plan->layers[i].paths[k], '-')[1];
        }
    }

    return text;
}


/* table is JSON, or NULL. */

static char *
describe_popular(const row_t *rows, size_t n, size_t max, const char *table)
{
    char                 *text;
    nixery_plan_t         plan;
    nixery_error_t        err = { 0 };
    nixery_result_t      *result;
    nixery_popularity_t  *popularity;

    result = closure(rows, n);

    popularity = NULL;

    if (table != NULL) {
        popularity = nixery_popularity_parse(table, strlen(table), "a table",
                                             &err);
        assert_non_null(popularity);
    }

    assert_int_equal(nixery_plan_make(&plan, result, max, popularity, &err),
                     NIXERY_OK);

    text = describe(&plan);

    nixery_plan_free(&plan);
    nixery_popularity_release(popularity);
    release(result);

    return text;
}


static void
assert_popular(const row_t *rows, size_t n, size_t max, const char *table,
    const char *expected)
{
    char  *text;

    text = describe_popular(rows, n, max, table);
    assert_string_equal(text, expected);
    free(text);
}


static void
assert_plan(const row_t *rows, size_t n, size_t max, const char *expected)
{
    char             *text;
    size_t            i, k, p;
    uint64_t          size;
    nixery_plan_t     plan;
    nixery_error_t    err = { 0 };
    nixery_result_t  *result;

    result = closure(rows, n);

    assert_int_equal(nixery_plan_make(&plan, result, max, NULL, &err),
                     NIXERY_OK);

    text = describe(&plan);
    assert_string_equal(text, expected);
    free(text);

    for (i = 0; i < plan.nlayers; i++) {
        size = 0;

        for (k = 0; k < plan.layers[i].npaths; k++) {
            for (p = 0; plan.layers[i].paths[k] != result->nodes[p].path; p++) {
                /* void */
            }

            size += result->nodes[p].nar_size;
        }

        assert_int_equal(plan.layers[i].nar_size, size);
    }

    nixery_plan_free(&plan);
    release(result);
}


static void
key_of(const char *const *paths, size_t n, char *key)
{
    nixery_layer_t  layer;

    layer.paths = (const char **) (uintptr_t) paths;
    layer.npaths = n;
    layer.nar_size = 0;

    assert_int_equal(nixery_layer_key(&layer, key), NIXERY_OK);
}


static unsigned
next(unsigned *seed, unsigned below)
{
    *seed = *seed * 1103515245 + 12345;

    return (*seed >> 8) % below;
}


/* Few sizes, so that many are equal; references go to earlier rows. */

static void
random_rows(row_t *rows, char (*references)[NODES + 1], unsigned seed)
{
    size_t  i, k, n;

    for (i = 0; i < NODES; i++) {
        rows[i].name = (char) ('0' + i);
        rows[i].size = next(&seed, 8) * 1000;
        rows[i].references = references[i];

        n = 0;

        for (k = 0; k < i; k++) {
            if (next(&seed, 10) == 0) {
                references[i][n++] = rows[k].name;
            }
        }

        references[i][n] = '\0';
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(one_each_while_there_is_room),
        cmocka_unit_test(the_small_ones_share_the_last),
        cmocka_unit_test(use_counts_as_size),
        cmocka_unit_test(popularity_counts_as_use),
        cmocka_unit_test(equals_go_by_their_paths),
        cmocka_unit_test(contents_are_left_out),
        cmocka_unit_test(no_contents),
        cmocka_unit_test(huge_sizes),
        cmocka_unit_test(any_order_gives_the_same_plan),
        cmocka_unit_test(images_share_layers),
        cmocka_unit_test(layer_keys),
    };

    return cmocka_run_group_tests_name("layers", tests, NULL, NULL);
}
