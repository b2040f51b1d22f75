
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include <archive.h>
#include <archive_entry.h>
#include "nixery_file.h"
#include "nixery_prepared.h"
#include "nixery_sha256.h"
#include "nixery_tar.h"


/* A tar on its way through. */

typedef struct {
    nixery_sha256_t   *sha;
    uint64_t           size;
} nixery_sum_t;


/* What is looked for, its name without a slash in front. */

typedef struct {
    const char        *name;
    unsigned           there;
} nixery_wanted_t;


static int nixery_prepared_check(const nixery_tarball_t *tarball,
    nixery_cancel_t *cancel, nixery_error_t *err);
static int nixery_prepared_sum(void *data, const void *bytes, size_t len,
    nixery_error_t *err);
static int nixery_prepared_find(const nixery_result_t *result,
    nixery_wanted_t *wanted, size_t n, nixery_cancel_t *cancel,
    nixery_error_t *err);
static void nixery_prepared_entry(const nixery_result_t *result,
    struct archive_entry *entry, nixery_wanted_t *wanted);
static unsigned nixery_prepared_leads(const nixery_result_t *result,
    const char *target, const char *rest);


int
nixery_prepared_look(const nixery_result_t *result, nixery_oci_image_t *image,
    nixery_cancel_t *cancel, nixery_error_t *err)
{
    nixery_wanted_t  wanted[] = {
        { NIXERY_OCI_BASH, 0 },
        { NIXERY_OCI_CA, 0 }
    };

    if (nixery_prepared_check(&result->tarball, cancel, err) != NIXERY_OK
        || nixery_prepared_find(result, wanted, 2, cancel, err) != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    image->bash = wanted[0].there;
    image->ca = wanted[1].there;

    return NIXERY_OK;
}


static int
nixery_prepared_check(const nixery_tarball_t *tarball,
    nixery_cancel_t *cancel, nixery_error_t *err)
{
    int           rc;
    char          hex[NIXERY_HEX_LEN + 1];
    nixery_tar_t  tar;
    nixery_sum_t  sum;

    memset(&tar, 0, sizeof(nixery_tar_t));

    tar.root = "";
    tar.tarball = tarball->path;
    tar.cancel = cancel;

    sum.size = 0;
    sum.sha = nixery_sha256_new();

    if (sum.sha == NULL) {
        return nixery_error_nomem(err);
    }

    rc = nixery_tar_write(&tar, nixery_prepared_sum, &sum, err);

    nixery_sha256_final(sum.sha, hex);
    nixery_sha256_free(sum.sha);

    if (rc != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (sum.size != tarball->size) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "the builder says layer \"%s\" has %" PRIu64
                                " bytes, but it has %" PRIu64, tarball->path,
                                tarball->size, sum.size);
    }

    if (strcmp(hex, tarball->hash) != 0) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "the builder says the SHA-256 of layer \"%s\""
                                " is %s, but it is %s", tarball->path,
                                tarball->hash, hex);
    }

    return NIXERY_OK;
}


static int
nixery_prepared_sum(void *data, const void *bytes, size_t len,
    nixery_error_t *err)
{
    nixery_sum_t  *sum = data;

    nixery_sha256_update(sum->sha, bytes, len);
    sum->size += len;

    return NIXERY_OK;
}


static int
nixery_prepared_find(const nixery_result_t *result, nixery_wanted_t *wanted,
    size_t n, nixery_cancel_t *cancel, nixery_error_t *err)
{
    int                    rc;
    size_t                 i;
    struct archive        *a;
    struct archive_entry  *entry;

    a = archive_read_new();
    if (a == NULL) {
        return nixery_error_nomem(err);
    }

    /* no filter: the layer's diff id is that of this file */

    rc = archive_read_support_format_tar(a);

    if (rc == ARCHIVE_OK) {
        rc = archive_read_open_filename(a, result->tarball.path,
                                        NIXERY_FILE_CHUNK);
    }

    while (rc == ARCHIVE_OK && !nixery_canceled(cancel)) {
        rc = archive_read_next_header(a, &entry);

        /* a name that this locale can't have is none of ours */

        if (rc == ARCHIVE_WARN) {
            rc = ARCHIVE_OK;
        }

        for (i = 0; rc == ARCHIVE_OK && i < n; i++) {
            nixery_prepared_entry(result, entry, &wanted[i]);
        }
    }

    if (rc == ARCHIVE_EOF) {
        rc = NIXERY_OK;

    } else if (rc == ARCHIVE_OK) {
        rc = nixery_error_set(err, NIXERY_ERROR_CANCELED,
                              "the build was canceled");

    } else {
        rc = nixery_error_set(err, NIXERY_ERROR_RESULT,
                              "the builder's layer \"%s\" is not a tar without"
                              " compression: %s", result->tarball.path,
                              archive_error_string(a));
    }

    (void) archive_read_free(a);

    return rc;
}


/*
 * Of several entries with one name the last one counts, as when they are
 * unpacked.  What can't be told, as of a hard link, is not there.
 */

static void
nixery_prepared_entry(const nixery_result_t *result,
    struct archive_entry *entry, nixery_wanted_t *wanted)
{
    size_t       len;
    const char  *name, *rest;

    name = archive_entry_pathname(entry);

    if (name == NULL) {
        return;
    }

    while (*name == '/' || (name[0] == '.' && name[1] == '/')) {
        name++;
    }

    len = strlen(name);

    while (len > 0 && name[len - 1] == '/') {
        len--;
    }

    if (len == 0 || strncmp(wanted->name, name, len) != 0) {
        return;
    }

    rest = wanted->name + len;

    if (*rest != '/' && *rest != '\0') {
        return;
    }

    if (archive_entry_hardlink(entry) != NULL) {
        wanted->there = 0;
        return;
    }

    switch (archive_entry_filetype(entry)) {

    case AE_IFDIR:
        if (*rest == '\0') {
            wanted->there = 0;
        }

        break;

    case AE_IFLNK:
        wanted->there = nixery_prepared_leads(result,
                                              archive_entry_symlink(entry),
                                              rest);
        break;

    default:
        wanted->there = *rest == '\0';
    }
}


/* Whether a link leads into the closure, and to what is there. */

static unsigned
nixery_prepared_leads(const nixery_result_t *result, const char *target,
    const char *rest)
{
    char  path[PATH_MAX];
    int   n;

    if (target == NULL || !nixery_in_store(target)) {
        return 0;
    }

    n = (int) strcspn(target + sizeof(NIXERY_STORE), "/")
        + (int) sizeof(NIXERY_STORE);

    if (snprintf(path, PATH_MAX, "%.*s", n, target) >= PATH_MAX
        || nixery_result_find(result, path) == NULL
        || snprintf(path, PATH_MAX, "%s%s", target, rest) >= PATH_MAX)
    {
        return 0;
    }

    return access(path, F_OK) == 0;
}
