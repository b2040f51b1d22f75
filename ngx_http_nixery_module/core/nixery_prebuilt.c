
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>
#include "nixery_file.h"
#include "nixery_prebuilt.h"
#include "nixery_sha256.h"


#define NIXERY_MD5_LEN     16
#define NIXERY_BASE64_LEN  24   /* of 16 bytes */


/* A copy on its way from the Nix store, hashed as it goes. */

typedef struct {
    const nixery_location_t   *location;
    nixery_cancel_t           *cancel;
    int                        in;
    int                        out;
    char                      *buf;
    nixery_sha256_t           *sha;
    EVP_MD_CTX                *md5;
} nixery_copy_t;


static int nixery_prebuilt_blob(nixery_build_t *build,
    const nixery_location_t *location, const char *work, nixery_error_t *err);
static int nixery_prebuilt_open(const nixery_location_t *location, int *fd,
    uint64_t *size, nixery_error_t *err);
static int nixery_copy_file(nixery_copy_t *copy, const char *file,
    nixery_error_t *err);
static int nixery_copy_bytes(nixery_copy_t *copy, const char *file,
    nixery_error_t *err);
static int nixery_copy_check(nixery_copy_t *copy, nixery_error_t *err);


int
nixery_prebuilt_store(nixery_build_t *build, nixery_result_t *result,
    const char *work, nixery_error_t *err)
{
    size_t  i;

    for (i = 0; i < result->nlocations; i++) {
        if (nixery_prebuilt_blob(build, &result->locations[i], work, err)
            != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }
    }

    /* served byte for byte as it stood in the result */

    build->manifest = result->manifest;
    memset(&result->manifest, 0, sizeof(nixery_buf_t));

    return NIXERY_OK;
}


static int
nixery_prebuilt_blob(nixery_build_t *build, const nixery_location_t *location,
    const char *work, nixery_error_t *err)
{
    int                rc;
    char              *file;
    uint64_t           size, stored;
    nixery_copy_t      copy;
    nixery_object_t    object;
    nixery_storage_t  *st;

    st = build->settings->storage;

    memset(&copy, 0, sizeof(nixery_copy_t));

    copy.location = location;
    copy.cancel = &build->cancel;

    size = 0;

    if (nixery_prebuilt_open(location, &copy.in, &size, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    file = NULL;

    rc = st->stat(st, nixery_object_name(object, "layers", location->digest),
                  &stored, err);

    if (rc == NIXERY_OK && stored == size) {
        build->layers_reused++;
        goto done;
    }

    if (rc == NIXERY_ERROR) {
        goto done;
    }

    if (asprintf(&file, "%s/%s", work, location->digest) == -1) {
        file = NULL;
        rc = nixery_error_nomem(err);
        goto done;
    }

    rc = nixery_copy_file(&copy, file, err);

    if (rc == NIXERY_OK) {
        rc = st->put_file(st, object, file, size, location->digest, err);
    }

    if (rc == NIXERY_OK) {
        build->layers_made++;
        build->bytes_made += size;
    }

    (void) unlink(file);

done:

    free(file);
    (void) close(copy.in);

    return rc;
}


/* A builder may point to a link, but to nothing outside of the Nix store. */

static int
nixery_prebuilt_open(const nixery_location_t *location, int *fd,
    uint64_t *size, nixery_error_t *err)
{
    int           saved;
    char         *path;
    struct stat   sb;

    path = realpath(location->path, NULL);

    if (path == NULL) {
        return nixery_error_errno(err, NIXERY_ERROR_RESULT, errno,
                                  "the builder names layer %s, but \"%s\" "
                                  "can't be read", location->digest,
                                  location->path);
    }

    if (!nixery_in_store(path)) {
        free(path);
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "the builder names layer %s, but \"%s\" leads "
                                "out of " NIXERY_STORE, location->digest,
                                location->path);
    }

    *fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    saved = errno;

    free(path);

    if (*fd == -1) {
        return nixery_error_errno(err, (saved == EMFILE || saved == ENFILE)
                                           ? NIXERY_ERROR_SYSTEM
                                           : NIXERY_ERROR_RESULT,
                                  saved, "open layer \"%s\"", location->path);
    }

    if (fstat(*fd, &sb) == -1 || !S_ISREG(sb.st_mode)) {
        (void) close(*fd);
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "the builder names layer %s, but \"%s\" is "
                                "not a regular file", location->digest,
                                location->path);
    }

    *size = sb.st_size;

    return NIXERY_OK;
}


static int
nixery_copy_file(nixery_copy_t *copy, const char *file, nixery_error_t *err)
{
    int  rc;

    copy->out = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (copy->out == -1) {
        return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "make work file \"%s\"", file);
    }

    copy->buf = malloc(NIXERY_FILE_CHUNK);
    copy->sha = nixery_sha256_new();
    copy->md5 = EVP_MD_CTX_new();

    if (copy->buf == NULL || copy->sha == NULL || copy->md5 == NULL
        || EVP_DigestInit_ex(copy->md5, EVP_md5(), NULL) != 1)
    {
        rc = nixery_error_nomem(err);

    } else {
        rc = nixery_copy_bytes(copy, file, err);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_copy_check(copy, err);
    }

    EVP_MD_CTX_free(copy->md5);
    nixery_sha256_free(copy->sha);
    free(copy->buf);
    (void) close(copy->out);

    return rc;
}


static int
nixery_copy_bytes(nixery_copy_t *copy, const char *file, nixery_error_t *err)
{
    ssize_t  n;

    for ( ;; ) {
        if (nixery_canceled(copy->cancel)) {
            return nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                    "the build was canceled");
        }

        n = nixery_file_read(copy->in, copy->buf, NIXERY_FILE_CHUNK);

        if (n == 0) {
            return NIXERY_OK;
        }

        if (n == -1) {
            return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                      "read \"%s\"", copy->location->path);
        }

        nixery_sha256_update(copy->sha, copy->buf, n);

        if (copy->location->md5 != NULL) {
            (void) EVP_DigestUpdate(copy->md5, copy->buf, n);
        }

        if (nixery_file_write(copy->out, copy->buf, n) == -1) {
            return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                      "write \"%s\"", file);
        }
    }
}


static int
nixery_copy_check(nixery_copy_t *copy, nixery_error_t *err)
{
    char                      hex[NIXERY_HEX_LEN + 1];
    unsigned char             md5[NIXERY_MD5_LEN];
    unsigned char             base64[NIXERY_BASE64_LEN + 1];
    const nixery_location_t  *location;

    location = copy->location;

    nixery_sha256_final(copy->sha, hex);

    if (strcmp(hex, location->digest) != 0) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "the builder names layer %s, but the SHA-256 "
                                "of \"%s\" is %s", location->digest,
                                location->path, hex);
    }

    if (location->md5 == NULL) {
        return NIXERY_OK;
    }

    (void) EVP_DigestFinal_ex(copy->md5, md5, NULL);
    (void) EVP_EncodeBlock(base64, md5, NIXERY_MD5_LEN);

    if (strcmp((char *) base64, location->md5) != 0) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "the builder says the MD5 of \"%s\" is %s, "
                                "but it is %s", location->path, location->md5,
                                (char *) base64);
    }

    return NIXERY_OK;
}
