
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "nixery_channel.h"
#include "nixery_file.h"
#include "nixery_git.h"


#define NIXERY_CHANNEL_MAX       (512 * 1024 * 1024)   /* bytes of a tarball */
#define NIXERY_CHANNEL_PAGE      (1024 * 1024)         /* of what may be none */
#define NIXERY_CHANNEL_SMALL     4096                  /* of what Nix prints */
#define NIXERY_CHANNEL_REVISION  "git-revision"

/* below the folder of work files */
#define NIXERY_CHANNEL_DOWNLOADS  "downloads"

#define NIXERY_SHA256_PREFIX     "sha256:"
#define NIXERY_NIX_HASH_LEN      52    /* a SHA-256 in Nix's base 32 */


static int nixery_channel_init(const nixery_fetch_t *fetch,
    nixery_channel_t *channel, nixery_error_t *err);
static int nixery_channel_archive(const nixery_fetch_t *fetch,
    nixery_revision_t *revision, nixery_error_t *err);
static int nixery_channel_identify(const nixery_fetch_t *fetch,
    nixery_download_t *download, nixery_revision_t *revision,
    nixery_error_t *err);
static int nixery_channel_commit(const nixery_fetch_t *fetch, const char *url,
    char commit[NIXERY_COMMIT_LEN + 1], nixery_error_t *err);
static int nixery_channel_tarball(const nixery_fetch_t *fetch,
    const nixery_revision_t *revision, nixery_download_t *download,
    nixery_error_t *err);
static int nixery_channel_download(const nixery_fetch_t *fetch,
    const char *name, int immutable, nixery_download_t *download,
    nixery_error_t *err);
static int nixery_channel_http(const nixery_fetch_t *fetch,
    nixery_http_t *http, const char *url, uint64_t max, nixery_error_t *err);
static char *nixery_channel_url(const nixery_source_t *source,
    const char *name);
static char *nixery_channel_beside(const nixery_source_t *source);
static int nixery_channel_hash(const nixery_fetch_t *fetch,
    nixery_channel_t *channel, nixery_error_t *err);
static int nixery_channel_prefetch(const nixery_fetch_t *fetch,
    nixery_channel_t *channel, nixery_error_t *err);
static char *nixery_channel_hash_read(const char *path);
static void nixery_channel_hash_write(const char *path, const char *hash);


int
nixery_channel_resolve(const nixery_fetch_t *fetch,
    nixery_revision_t *revision, nixery_error_t *err)
{
    int               rc;
    nixery_channel_t  channel;

    rc = nixery_channel_archive(fetch, revision, err);

    if (rc != NIXERY_DECLINED) {
        return rc;
    }

    rc = nixery_channel_init(fetch, &channel, err);

    if (rc == NIXERY_OK) {
        rc = nixery_channel_identify(fetch, &channel.download, revision, err);
    }

    nixery_channel_close(&channel);

    return rc;
}


int
nixery_channel_open(const nixery_fetch_t *fetch,
    const nixery_revision_t *revision, nixery_channel_t *channel,
    nixery_error_t *err)
{
    int  rc;

    rc = nixery_channel_init(fetch, channel, err);

    if (rc == NIXERY_OK) {
        rc = nixery_channel_tarball(fetch, revision, &channel->download, err);
    }

    if (rc == NIXERY_OK
        && asprintf(&channel->url, "file://%s", channel->download.path) == -1)
    {
        channel->url = NULL;
        rc = nixery_error_nomem(err);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_channel_hash(fetch, channel, err);
    }

    if (rc != NIXERY_OK) {
        nixery_channel_close(channel);
    }

    return rc;
}


void
nixery_channel_close(nixery_channel_t *channel)
{
    nixery_download_free(&channel->download);
    free(channel->dir);
    free(channel->url);
    free(channel->hash);
    memset(channel, 0, sizeof(nixery_channel_t));
}


static int
nixery_channel_init(const nixery_fetch_t *fetch, nixery_channel_t *channel,
    nixery_error_t *err)
{
    memset(channel, 0, sizeof(nixery_channel_t));

    if (asprintf(&channel->dir, "%s/" NIXERY_CHANNEL_DOWNLOADS,
                 fetch->temp_path)
        == -1)
    {
        channel->dir = NULL;
        return nixery_error_nomem(err);
    }

    channel->download.dir = channel->dir;

    return NIXERY_OK;
}


/* NIXERY_DECLINED: there is no repository to be asked. */

static int
nixery_channel_archive(const nixery_fetch_t *fetch,
    nixery_revision_t *revision, nixery_error_t *err)
{
    const nixery_source_t  *source;

    source = fetch->nix->source;

    if (!source->archive || fetch->nix->git == NULL) {
        return NIXERY_DECLINED;
    }

    return nixery_git_resolve(fetch, source->shown, source->shown,
                              source->name, revision, err);
}


/*
 * The commit only when it is the same before and after the tarball was fetched:
 * the two are not changed at once.
 */

static int
nixery_channel_identify(const nixery_fetch_t *fetch,
    nixery_download_t *download, nixery_revision_t *revision,
    nixery_error_t *err)
{
    int    rc;
    char  *beside;
    char   before[NIXERY_COMMIT_LEN + 1], after[NIXERY_COMMIT_LEN + 1];

    memset(revision, 0, sizeof(nixery_revision_t));

    beside = nixery_channel_beside(fetch->nix->source);
    if (beside == NULL) {
        return nixery_error_nomem(err);
    }

    rc = nixery_channel_commit(fetch, beside, before, err);

    if (rc == NIXERY_OK) {
        rc = nixery_channel_download(fetch, fetch->nix->source->name, 0,
                                     download, err);
    }

    if (rc == NIXERY_OK && *before != '\0') {
        rc = nixery_channel_commit(fetch, beside, after, err);

        if (rc == NIXERY_OK && strcmp(before, after) == 0) {
            memcpy(revision->id, after, sizeof(after));
        }
    }

    if (rc == NIXERY_OK && revision->id[0] == '\0') {
        (void) stpcpy(stpcpy(revision->id, NIXERY_SHA256_PREFIX),
                      download->sha256);
    }

    if (rc == NIXERY_OK) {
        (void) stpcpy(revision->ref, fetch->nix->source->name);
    }

    free(beside);

    return rc;
}


/*
 * commit is "" where there is none: some servers have a page of their own, with
 * status 200, for whatever they have not.
 */

static int
nixery_channel_commit(const nixery_fetch_t *fetch, const char *url,
    char commit[NIXERY_COMMIT_LEN + 1], nixery_error_t *err)
{
    int            rc;
    size_t         len;
    nixery_http_t  http;

    *commit = '\0';

    memset(&http, 0, sizeof(nixery_http_t));

    http.fd = -1;

    rc = nixery_channel_http(fetch, &http, url, NIXERY_CHANNEL_PAGE, err);

    if (rc == NIXERY_OK) {
        rc = nixery_http_get(&http, err);
    }

    if (rc == NIXERY_OK && http.status == 200 && http.body.data != NULL) {
        len = strcspn(http.body.data, "\r\n \t");

        if (nixery_commit_valid(http.body.data, len)) {
            memcpy(commit, http.body.data, len);
            commit[len] = '\0';
        }
    }

    nixery_http_free(&http);

    return rc;
}


static int
nixery_channel_tarball(const nixery_fetch_t *fetch,
    const nixery_revision_t *revision, nixery_download_t *download,
    nixery_error_t *err)
{
    int                     rc;
    size_t                  len;
    nixery_revision_t       now;
    const nixery_source_t  *source;

    source = fetch->nix->source;

    /* a commit by its own name, of which there is only one */

    if (revision->ref[0] == '\0'
        || strncmp(revision->ref, "refs/", 5) == 0)
    {
        return nixery_channel_download(fetch, revision->id, 1, download, err);
    }

    len = sizeof(NIXERY_SHA256_PREFIX) - 1;

    if (strncmp(revision->id, NIXERY_SHA256_PREFIX, len) == 0) {
        rc = nixery_download_find(download, revision->id + len, err);

        if (rc != NIXERY_DECLINED) {
            return rc;
        }
    }

    rc = nixery_channel_identify(fetch, download, &now, err);

    if (rc == NIXERY_OK && strcmp(now.id, revision->id) != 0) {
        return nixery_error_set(err, NIXERY_ERROR_MOVED, "channel \"%s\" moved "
                                "from %s to %s while it was built",
                                source->name, revision->id, now.id);
    }

    return rc;
}


static int
nixery_channel_download(const nixery_fetch_t *fetch, const char *name,
    int immutable, nixery_download_t *download, nixery_error_t *err)
{
    int    rc;
    char  *url;

    url = nixery_channel_url(fetch->nix->source, name);
    if (url == NULL) {
        return nixery_error_nomem(err);
    }

    download->immutable = immutable;

    rc = nixery_channel_http(fetch, &download->http, url, NIXERY_CHANNEL_MAX,
                             err);

    if (rc == NIXERY_OK) {
        rc = nixery_download_get(download, err);
    }

    if (rc == NIXERY_DECLINED) {
        rc = nixery_error_set(err, NIXERY_ERROR_REF, "there is no channel "
                              "\"%s\" at \"%s\"", name,
                              fetch->nix->source->shown);
    }

    free(url);

    return rc;
}


static int
nixery_channel_http(const nixery_fetch_t *fetch, nixery_http_t *http,
    const char *url, uint64_t max, nixery_error_t *err)
{
    uint64_t  now;

    now = nixery_now();

    if (now >= fetch->deadline) {
        return nixery_fetch_late(fetch, NULL, err);
    }

    http->url = url;
    http->user = fetch->nix->source->user;
    http->password = fetch->nix->source->password;
    http->env = fetch->nix->env;
    http->timeout = fetch->deadline - now;
    http->max = max;
    http->cancel = fetch->cancel;

    return NIXERY_OK;
}


static char *
nixery_channel_url(const nixery_source_t *source, const char *name)
{
    char        *url;
    const char  *place;

    place = strstr(source->url, NIXERY_CHANNEL_NAME);

    if (asprintf(&url, "%.*s%s%s", (int) (place - source->url), source->url,
                 name, place + sizeof(NIXERY_CHANNEL_NAME) - 1)
        == -1)
    {
        return NULL;
    }

    return url;
}


/* The query may have a token in it, which is good for both. */

static char *
nixery_channel_beside(const nixery_source_t *source)
{
    char        *url, *beside;
    size_t       len;
    const char  *slash;

    url = nixery_channel_url(source, source->name);
    if (url == NULL) {
        return NULL;
    }

    len = strcspn(url, "?#");
    slash = memrchr(url, '/', len);

    if (asprintf(&beside, "%.*s/" NIXERY_CHANNEL_REVISION "%s",
                 (int) (slash - url), url, url + len)
        == -1)
    {
        beside = NULL;
    }

    free(url);

    return beside;
}


/*
 * Nix unpacks a tarball again whenever its own note of it is too old, unless it
 * is told what comes out: that is found out once, and kept beside the tarball.
 */

static int
nixery_channel_hash(const nixery_fetch_t *fetch, nixery_channel_t *channel,
    nixery_error_t *err)
{
    int    rc;
    char  *path;

    if (fetch->nix->prefetch == NULL) {
        return NIXERY_OK;
    }

    if (asprintf(&path, "%s" NIXERY_DOWNLOAD_NOTE, channel->download.path)
        == -1)
    {
        return nixery_error_nomem(err);
    }

    rc = NIXERY_OK;

    channel->hash = nixery_channel_hash_read(path);

    if (channel->hash == NULL) {
        rc = nixery_channel_prefetch(fetch, channel, err);

        if (rc == NIXERY_OK) {
            nixery_channel_hash_write(path, channel->hash);
        }
    }

    free(path);

    return rc;
}


static int
nixery_channel_prefetch(const nixery_fetch_t *fetch, nixery_channel_t *channel,
    nixery_error_t *err)
{
    int                rc;
    char              *end, *cause;
    const char        *argv[6];
    nixery_buf_t       text;
    nixery_process_t   process;

    argv[0] = "nix-prefetch-url";
    argv[1] = "--unpack";
    argv[2] = "--name";
    argv[3] = "source";
    argv[4] = channel->url;
    argv[5] = NULL;

    memset(&text, 0, sizeof(nixery_buf_t));
    memset(&process, 0, sizeof(nixery_process_t));

    process.program = fetch->nix->prefetch;
    process.argv = (char *const *) argv;
    process.grace = 1000;
    process.out_max = NIXERY_CHANNEL_SMALL;
    process.err.head_max = NIXERY_CHANNEL_SMALL;
    process.err.tail_max = NIXERY_CHANNEL_SMALL;

    rc = nixery_fetch_run(fetch, &process, &text, err);

    if (rc == NIXERY_OK) {
        end = process.out.data ? strchrnul(process.out.data, '\n') : NULL;

        if (process.status == 0 && end != NULL
            && end - process.out.data == NIXERY_NIX_HASH_LEN)
        {
            channel->hash = strndup(process.out.data, NIXERY_NIX_HASH_LEN);
            rc = channel->hash ? NIXERY_OK : nixery_error_nomem(err);

        } else {
            cause = nixery_nix_cause(text.data);

            rc = cause ? nixery_error_set(err, NIXERY_ERROR_SOURCE,
                                          "Nix can't unpack the tarball of "
                                          "channel \"%s\" from \"%s\": %s",
                                          fetch->nix->source->name,
                                          fetch->nix->source->shown, cause)
                       : nixery_error_nomem(err);

            free(cause);
        }
    }

    nixery_process_free(&process);
    nixery_buf_free(&text);

    return rc;
}


static char *
nixery_channel_hash_read(const char *path)
{
    int      fd;
    char     hash[NIXERY_NIX_HASH_LEN + 1];
    ssize_t  n;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
        return NULL;
    }

    n = nixery_file_read(fd, hash, sizeof(hash));

    (void) close(fd);

    if (n != NIXERY_NIX_HASH_LEN) {
        return NULL;
    }

    hash[n] = '\0';

    return strspn(hash, "0123456789abcdfghijklmnpqrsvwxyz") == (size_t) n
               ? strdup(hash)
               : NULL;
}


/* A note that is cut short, or is not there, is made again. */

static void
nixery_channel_hash_write(const char *path, const char *hash)
{
    int  fd;

    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd != -1) {
        (void) nixery_file_write(fd, hash, NIXERY_NIX_HASH_LEN);
        (void) close(fd);
    }
}
