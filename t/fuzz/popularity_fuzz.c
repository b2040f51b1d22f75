
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/* A table of popularity, beside what a walk through all of it says. */

#include <stdio.h>
#include "fuzz.h"
#include "nixery_json.h"
#include "nixery_popularity.h"


static void fuzz_table(const nixery_popularity_t *popularity,
    const cJSON *json);
static void fuzz_compare(const nixery_popularity_t *popularity,
    const cJSON *json, const char *name);
static double fuzz_expected(const cJSON *json, const char *name);
static size_t fuzz_plain(const char *name);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cJSON                *json;
    const char           *text;
    nixery_error_t        err = { 0 };
    nixery_popularity_t  *popularity;

    text = (const char *) data;

    popularity = nixery_popularity_parse(text, size, "the table", &err);

    fuzz_check(popularity != NULL || err.kind == NIXERY_ERROR_RESULT);
    fuzz_check_error(popularity != NULL ? NIXERY_OK : NIXERY_ERROR, &err);

    if (popularity == NULL) {
        return 0;
    }

    json = nixery_json_parse(text, size, "the table", &err);

    fuzz_check(cJSON_IsObject(json));
    fuzz_check(strlen(nixery_popularity_id(popularity)) == NIXERY_HEX_LEN);

    fuzz_table(popularity, json);

    cJSON_Delete(json);
    nixery_popularity_release(nixery_popularity_share(popularity));
    nixery_popularity_release(popularity);

    return 0;
}


static void
fuzz_table(const nixery_popularity_t *popularity, const cJSON *json)
{
    char         *name;
    const cJSON  *item;

    cJSON_ArrayForEach(item, json) {
        fuzz_check(cJSON_IsNumber(item) && item->valuedouble >= 0
                   && item->valuedouble <= 9007199254740992.0);

        /* no store path has such a name */

        if (*item->string == '\0' || strchr(item->string, '/') != NULL) {
            continue;
        }

        fuzz_compare(popularity, json, item->string);

        fuzz_check(asprintf(&name, "%s-0fuzz", item->string) != -1);
        fuzz_compare(popularity, json, name);

        name[fuzz_plain(name)] = '\0';

        if (*name != '\0') {
            fuzz_compare(popularity, json, name);
        }

        free(name);
    }
}


static void
fuzz_compare(const nixery_popularity_t *popularity, const cJSON *json,
    const char *name)
{
    char      *path;
    uint64_t   count;

    fuzz_check(asprintf(&path, NIXERY_STORE "/%032d-%s", 0, name) != -1);

    count = nixery_popularity_count(popularity, path);
    fuzz_check((double) count == fuzz_expected(json, name));

    free(path);
}


static double
fuzz_expected(const cJSON *json, const char *name)
{
    double        most;
    size_t        n;
    const cJSON  *item;

    most = 0;
    n = fuzz_plain(name);

    cJSON_ArrayForEach(item, json) {
        if (strcmp(item->string, name) == 0) {
            return item->valuedouble;
        }

        if (fuzz_plain(item->string) == n && strncmp(item->string, name, n) == 0
            && item->valuedouble > most)
        {
            most = item->valuedouble;
        }
    }

    return most;
}


/* As Nix has it: a name ends before "-" and something that is no letter. */

static size_t
fuzz_plain(const char *name)
{
    const char  *p;

    for (p = strchr(name, '-'); p != NULL; p = strchr(p + 1, '-')) {
        if (p[1] != '\0'
            && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
                      p[1])
               == NULL)
        {
            return p - name;
        }
    }

    return strlen(name);
}
