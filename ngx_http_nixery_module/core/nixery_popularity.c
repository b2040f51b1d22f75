
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_buf.h"
#include "nixery_file.h"
#include "nixery_json.h"
#include "nixery_popularity.h"
#include "nixery_sha256.h"


#define NIXERY_POPULARITY_HASH_LEN  33   /* and the "-" */


typedef struct {
    const char    *name;    /* a version that is left out stands behind len */
    uint32_t       len;
    uint64_t       count;
} nixery_popular_t;


struct nixery_popularity_s {
    atomic_uint         references;
    char                id[NIXERY_HEX_LEN + 1];
    char               *names;      /* what all of them point into */
    nixery_popular_t   *full;       /* sorted */
    size_t              nfull;
    nixery_popular_t   *plain;      /* without versions; sorted, unique */
    size_t              nplain;
};


static int nixery_popularity_load(int fd, const char *what,
    nixery_buf_t *text, nixery_error_t *err);
static int nixery_popularity_fill(nixery_popularity_t *popularity,
    const cJSON *json, const char *what, nixery_error_t *err);
static void nixery_popularity_sort(nixery_popularity_t *popularity);
static const nixery_popular_t *nixery_popularity_find(
    const nixery_popular_t *all, size_t n, const char *name, size_t len);
static size_t nixery_popularity_plain(const char *name, size_t len);
static int nixery_popularity_compare(const void *one, const void *two);


nixery_popularity_t *
nixery_popularity_read(const char *path, const char *what,
    nixery_error_t *err)
{
    int                   fd;
    nixery_buf_t          text;
    nixery_popularity_t  *popularity;

    /* a named pipe must not stop a thread */

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd == -1) {
        (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't open %s", what);
        return NULL;
    }

    memset(&text, 0, sizeof(nixery_buf_t));

    popularity = NULL;

    if (nixery_popularity_load(fd, what, &text, err) == NIXERY_OK) {
        popularity = nixery_popularity_parse(text.data, text.len, what, err);
    }

    nixery_buf_free(&text);
    (void) close(fd);

    return popularity;
}


nixery_popularity_t *
nixery_popularity_parse(const char *text, size_t len, const char *what,
    nixery_error_t *err)
{
    int                   rc;
    cJSON                *json;
    nixery_popularity_t  *popularity;

    json = nixery_json_parse(text, len, what, err);
    if (json == NULL) {
        return NULL;
    }

    popularity = calloc(1, sizeof(nixery_popularity_t));

    if (popularity == NULL) {
        (void) nixery_error_nomem(err);
        cJSON_Delete(json);
        return NULL;
    }

    atomic_init(&popularity->references, 1);

    rc = nixery_popularity_fill(popularity, json, what, err);

    cJSON_Delete(json);

    if (rc == NIXERY_OK
        && nixery_sha256_hex(text, len, popularity->id) != NIXERY_OK)
    {
        rc = nixery_error_nomem(err);
    }

    if (rc != NIXERY_OK) {
        nixery_popularity_release(popularity);
        return NULL;
    }

    return popularity;
}


nixery_popularity_t *
nixery_popularity_share(nixery_popularity_t *popularity)
{
    if (popularity != NULL) {
        (void) atomic_fetch_add_explicit(&popularity->references, 1,
                                         memory_order_relaxed);
    }

    return popularity;
}


void
nixery_popularity_release(nixery_popularity_t *popularity)
{
    if (popularity == NULL
        || atomic_fetch_sub_explicit(&popularity->references, 1,
                                     memory_order_acq_rel)
           != 1)
    {
        return;
    }

    free(popularity->names);
    free(popularity->full);
    free(popularity->plain);
    free(popularity);
}


uint64_t
nixery_popularity_count(const nixery_popularity_t *popularity,
    const char *path)
{
    size_t                   len;
    const char              *name;
    const nixery_popular_t  *found;

    name = strrchr(path, '/');
    name = name ? name + 1 : path;
    len = strlen(name);

    if (len <= NIXERY_POPULARITY_HASH_LEN) {
        return 0;
    }

    name += NIXERY_POPULARITY_HASH_LEN;
    len -= NIXERY_POPULARITY_HASH_LEN;

    found = nixery_popularity_find(popularity->full, popularity->nfull, name,
                                   len);

    if (found == NULL) {
        found = nixery_popularity_find(popularity->plain, popularity->nplain,
                                       name,
                                       nixery_popularity_plain(name, len));
    }

    return found ? found->count : 0;
}


const char *
nixery_popularity_id(const nixery_popularity_t *popularity)
{
    return popularity->id;
}


static int
nixery_popularity_load(int fd, const char *what, nixery_buf_t *text,
    nixery_error_t *err)
{
    int          rc;
    char        *chunk;
    ssize_t      n;
    struct stat  sb;

    if (fstat(fd, &sb) == -1) {
        return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't stat %s", what);
    }

    if (!S_ISREG(sb.st_mode)) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "%s is not a regular file", what);
    }

    chunk = malloc(NIXERY_FILE_CHUNK);
    if (chunk == NULL) {
        return nixery_error_nomem(err);
    }

    for ( ;; ) {
        n = nixery_file_read(fd, chunk, NIXERY_FILE_CHUNK);

        if (n == -1) {
            rc = nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                    "can't read %s", what);
            break;
        }

        if (nixery_buf_append(text, chunk, n) != NIXERY_OK) {
            rc = nixery_error_nomem(err);
            break;
        }

        if (text->len > NIXERY_POPULARITY_MAX) {
            rc = nixery_error_set(err, NIXERY_ERROR_RESULT,
                                  "%s has more than %d bytes", what,
                                  NIXERY_POPULARITY_MAX);
            break;
        }

        if (n == 0) {
            rc = NIXERY_OK;
            break;
        }
    }

    free(chunk);

    return rc;
}


static int
nixery_popularity_fill(nixery_popularity_t *popularity, const cJSON *json,
    const char *what, nixery_error_t *err)
{
    char              *p;
    size_t             n, size;
    double             count;
    const cJSON       *item;
    nixery_popular_t  *full, *plain;

    if (!cJSON_IsObject(json)) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "%s is not an object of names and counts",
                                what);
    }

    n = 0;
    size = 0;

    cJSON_ArrayForEach(item, json) {
        count = item->valuedouble;

        if (!cJSON_IsNumber(item)
            || !(count >= 0 && count <= NIXERY_JSON_WHOLE_MAX)
            || (double) (uint64_t) count != count)
        {
            return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                    "%s has a count of \"%.64s\" that is not a"
                                    " whole number from 0 to %.0f", what,
                                    item->string, NIXERY_JSON_WHOLE_MAX);
        }

        size += strlen(item->string);
        n++;
    }

    if (n > NIXERY_POPULARITY_NAMES_MAX) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "%s has %zu names, at most %d are taken",
                                what, n, NIXERY_POPULARITY_NAMES_MAX);
    }

    /* one more, as none is none */

    popularity->names = malloc(size + 1);
    popularity->full = calloc(n + 1, sizeof(nixery_popular_t));
    popularity->plain = calloc(n + 1, sizeof(nixery_popular_t));

    if (popularity->names == NULL || popularity->full == NULL
        || popularity->plain == NULL)
    {
        return nixery_error_nomem(err);
    }

    p = popularity->names;
    full = popularity->full;
    plain = popularity->plain;

    cJSON_ArrayForEach(item, json) {
        full->name = p;
        full->len = (uint32_t) strlen(item->string);
        full->count = (uint64_t) item->valuedouble;

        memcpy(p, item->string, full->len);
        p += full->len;

        *plain = *full;
        plain->len = (uint32_t) nixery_popularity_plain(full->name, full->len);

        full++;
        plain++;
    }

    popularity->nfull = n;
    popularity->nplain = n;

    nixery_popularity_sort(popularity);

    return NIXERY_OK;
}


static void
nixery_popularity_sort(nixery_popularity_t *popularity)
{
    size_t             i;
    nixery_popular_t  *plain, *last;

    qsort(popularity->full, popularity->nfull, sizeof(nixery_popular_t),
          nixery_popularity_compare);

    plain = popularity->plain;

    qsort(plain, popularity->nplain, sizeof(nixery_popular_t),
          nixery_popularity_compare);

    last = plain;

    for (i = 1; i < popularity->nplain; i++) {

        if (nixery_popularity_compare(last, &plain[i]) != 0) {
            *++last = plain[i];

        } else if (plain[i].count > last->count) {
            *last = plain[i];
        }
    }

    if (popularity->nplain != 0) {
        popularity->nplain = last - plain + 1;
    }
}


static const nixery_popular_t *
nixery_popularity_find(const nixery_popular_t *all, size_t n, const char *name,
    size_t len)
{
    nixery_popular_t  key;

    memset(&key, 0, sizeof(nixery_popular_t));

    key.name = name;
    key.len = (uint32_t) len;

    return bsearch(&key, all, n, sizeof(nixery_popular_t),
                   nixery_popularity_compare);
}


/* As Nix has it, a version follows the first "-" that is before no letter. */

static size_t
nixery_popularity_plain(const char *name, size_t len)
{
    char    c;
    size_t  i;

    for (i = 0; i + 1 < len; i++) {
        c = name[i + 1] | 0x20;

        if (name[i] == '-' && (c < 'a' || c > 'z')) {
            return i;
        }
    }

    return len;
}


static int
nixery_popularity_compare(const void *one, const void *two)
{
    int                      rc;
    const nixery_popular_t  *first, *second;

    first = one;
    second = two;

    rc = memcmp(first->name, second->name,
                first->len < second->len ? first->len : second->len);

    if (rc == 0 && first->len != second->len) {
        return first->len > second->len ? 1 : -1;
    }

    return rc;
}
