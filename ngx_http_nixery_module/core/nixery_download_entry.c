
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_download_dir.h"
#include "nixery_file.h"
#include "nixery_json.h"
#include "nixery_sha256.h"


#define NIXERY_DOWNLOAD_KEPT  8           /* contents */

#define NIXERY_ENTRY_SUFFIX   ".json"
#define NIXERY_ENTRY_MAX      4096        /* bytes */
#define NIXERY_ETAG_MAX       1024


typedef struct {
    char               sha256[NIXERY_HEX_LEN + 1];
    struct timespec    used;
} nixery_content_t;


static char *nixery_entry_path(nixery_download_t *d, nixery_error_t *err);
static char *nixery_entry_text(nixery_download_t *d);
static int nixery_entry_read(const char *path, nixery_entry_t *entry);
static int nixery_entry_parse(cJSON *json, nixery_entry_t *entry);
static int nixery_etag_valid(const char *etag);
static void nixery_evict_contents(DIR *dir);
static void nixery_evict_entries(nixery_download_t *d, DIR *dir);
static int nixery_entry_dead(nixery_download_t *d, int dir, const char *name);
static int nixery_content_compare(const void *one, const void *two);


int
nixery_entry_recall(nixery_download_t *d, nixery_entry_t *entry,
    nixery_error_t *err)
{
    int    rc;
    char  *path;

    memset(entry, 0, sizeof(nixery_entry_t));

    path = nixery_entry_path(d, err);
    if (path == NULL) {
        return NIXERY_ERROR;
    }

    rc = nixery_entry_read(path, entry);

    free(path);

    return rc;
}


int
nixery_entry_remember(nixery_download_t *d, const char *work,
    nixery_error_t *err)
{
    int    fd, rc;
    char  *path, *file, *text;

    file = NULL;
    fd = -1;

    path = nixery_entry_path(d, err);
    text = nixery_entry_text(d);

    if (path == NULL || text == NULL
        || asprintf(&file, "%s/entry", work) == -1)
    {
        file = NULL;
        rc = nixery_error_nomem(err);
        goto done;
    }

    fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd == -1 || nixery_file_write(fd, text, strlen(text)) == -1
        || fsync(fd) == -1 || rename(file, path) == -1)
    {
        rc = nixery_download_error(err, "store", path);
        goto done;
    }

    rc = NIXERY_OK;

done:

    if (fd != -1) {
        (void) close(fd);
    }

    free(path);
    free(file);
    free(text);

    return rc;
}


void
nixery_download_evict(nixery_download_t *d)
{
    DIR  *dir;

    dir = opendir(d->dir);
    if (dir == NULL) {
        return;
    }

    nixery_evict_contents(dir);

    rewinddir(dir);

    nixery_evict_entries(d, dir);

    (void) closedir(dir);
}


/* A URL may have a token in it: there is no trace of it but its hash. */

static char *
nixery_entry_path(nixery_download_t *d, nixery_error_t *err)
{
    char  hex[NIXERY_HEX_LEN + 1];

    if (nixery_sha256_hex(d->http.url, strlen(d->http.url), hex)
        != NIXERY_OK)
    {
        (void) nixery_error_nomem(err);
        return NULL;
    }

    return nixery_download_path(d, hex, NIXERY_ENTRY_SUFFIX, err);
}


static char *
nixery_entry_text(nixery_download_t *d)
{
    char        *text;
    cJSON       *json;
    const char  *etag;

    text = NULL;
    etag = d->http.new_etag;

    json = cJSON_CreateObject();

    if (cJSON_AddStringToObject(json, "sha256", d->sha256) != NULL
        && cJSON_AddNumberToObject(json, "size", (double) d->size) != NULL
        && (etag == NULL || !nixery_etag_valid(etag)
            || cJSON_AddStringToObject(json, "etag", etag) != NULL))
    {
        text = cJSON_PrintUnformatted(json);
    }

    cJSON_Delete(json);

    return text;
}


/* NIXERY_DECLINED: there is none, or none that is of use. */

static int
nixery_entry_read(const char *path, nixery_entry_t *entry)
{
    int              fd, rc;
    char             buf[NIXERY_ENTRY_MAX];
    cJSON           *json;
    ssize_t          n;
    nixery_error_t   err;

    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd == -1) {
        return NIXERY_DECLINED;
    }

    n = nixery_file_read(fd, buf, sizeof(buf));

    (void) close(fd);

    if (n == -1) {
        return NIXERY_DECLINED;
    }

    memset(&err, 0, sizeof(nixery_error_t));

    json = nixery_json_parse(buf, n, "an entry", &err);

    nixery_error_free(&err);

    if (json == NULL) {
        return NIXERY_DECLINED;
    }

    rc = nixery_entry_parse(json, entry);

    cJSON_Delete(json);

    return rc;
}


static int
nixery_entry_parse(cJSON *json, nixery_entry_t *entry)
{
    cJSON  *sha256, *size, *etag;

    sha256 = cJSON_GetObjectItemCaseSensitive(json, "sha256");
    size = cJSON_GetObjectItemCaseSensitive(json, "size");
    etag = cJSON_GetObjectItemCaseSensitive(json, "etag");

    if (!cJSON_IsString(sha256)
        || !nixery_download_name_valid(sha256->valuestring, "")
        || !cJSON_IsNumber(size) || size->valuedouble < 0
        || size->valuedouble > NIXERY_JSON_WHOLE_MAX)
    {
        return NIXERY_DECLINED;
    }

    if (cJSON_IsString(etag) && nixery_etag_valid(etag->valuestring)) {
        entry->etag = strdup(etag->valuestring);
    }

    memcpy(entry->sha256, sha256->valuestring, NIXERY_HEX_LEN + 1);
    entry->size = (uint64_t) size->valuedouble;

    return NIXERY_OK;
}


/*
 * One that can be sent as a header and kept as JSON; RFC 9110, section 8.8.3,
 * has more.
 */

static int
nixery_etag_valid(const char *etag)
{
    const char  *p;

    for (p = etag; *p != '\0'; p++) {
        if (*p < 0x20 || *p > 0x7e) {
            return 0;
        }
    }

    return p != etag && p - etag <= NIXERY_ETAG_MAX;
}


/* The oldest ones that nobody holds, as far as there are too many. */

static void
nixery_evict_contents(DIR *dir)
{
    int                fd;
    size_t             n, i, size;
    struct stat        sb;
    struct dirent     *de;
    nixery_content_t  *contents, *more;

    contents = NULL;
    size = 0;
    n = 0;

    for ( ;; ) {
        de = readdir(dir);
        if (de == NULL) {
            break;
        }

        if (!nixery_download_name_valid(de->d_name, "")
            || fstatat(dirfd(dir), de->d_name, &sb, AT_SYMLINK_NOFOLLOW) == -1)
        {
            continue;
        }

        if (n == size) {
            size = size ? 2 * size : 2 * NIXERY_DOWNLOAD_KEPT;

            more = realloc(contents, size * sizeof(nixery_content_t));
            if (more == NULL) {
                break;
            }

            contents = more;
        }

        memcpy(contents[n].sha256, de->d_name, NIXERY_HEX_LEN + 1);
        contents[n].used = sb.st_mtim;
        n++;
    }

    if (n > NIXERY_DOWNLOAD_KEPT) {
        qsort(contents, n, sizeof(nixery_content_t), nixery_content_compare);
    }

    for (i = NIXERY_DOWNLOAD_KEPT; i < n; i++) {
        fd = openat(dirfd(dir), contents[i].sha256,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd == -1) {
            continue;
        }

        if (nixery_file_lock(fd, LOCK_EX | LOCK_NB) == 0) {
            (void) unlinkat(dirfd(dir), contents[i].sha256, 0);
        }

        (void) close(fd);
    }

    free(contents);
}


static void
nixery_evict_entries(nixery_download_t *d, DIR *dir)
{
    struct dirent  *de;

    for ( ;; ) {
        de = readdir(dir);
        if (de == NULL) {
            break;
        }

        if (nixery_entry_dead(d, dirfd(dir), de->d_name)) {
            (void) unlinkat(dirfd(dir), de->d_name, 0);
        }
    }
}


/* Whether a file is an entry or a note of a content that is not there. */

static int
nixery_entry_dead(nixery_download_t *d, int dir, const char *name)
{
    int              rc;
    char            *path;
    struct stat      sb;
    nixery_entry_t   entry;

    memset(&entry, 0, sizeof(nixery_entry_t));

    if (nixery_download_name_valid(name, NIXERY_DOWNLOAD_NOTE)) {
        memcpy(entry.sha256, name, NIXERY_HEX_LEN);

    } else if (nixery_download_name_valid(name, NIXERY_ENTRY_SUFFIX)) {

        if (asprintf(&path, "%s/%s", d->dir, name) == -1) {
            return 0;
        }

        rc = nixery_entry_read(path, &entry);

        free(entry.etag);
        free(path);

        if (rc != NIXERY_OK) {
            return 1;
        }

    } else {
        return 0;
    }

    return fstatat(dir, entry.sha256, &sb, AT_SYMLINK_NOFOLLOW) == -1;
}


/* The one used last comes first. */

static int
nixery_content_compare(const void *one, const void *two)
{
    const nixery_content_t  *a, *b;

    a = one;
    b = two;

    if (a->used.tv_sec != b->used.tv_sec) {
        return a->used.tv_sec > b->used.tv_sec ? -1 : 1;
    }

    if (a->used.tv_nsec != b->used.tv_nsec) {
        return a->used.tv_nsec > b->used.tv_nsec ? -1 : 1;
    }

    return strcmp(a->sha256, b->sha256);
}
