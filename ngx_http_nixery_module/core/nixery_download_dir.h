
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_DOWNLOAD_DIR_H_INCLUDED_
#define _NIXERY_DOWNLOAD_DIR_H_INCLUDED_


/* The directory of downloads: what the files that know it share. */

#include "nixery_download.h"


#define NIXERY_DOWNLOAD_ANY  UINT64_MAX   /* size */


/* What is known of a URL. */

typedef struct {
    char        sha256[NIXERY_HEX_LEN + 1];
    uint64_t    size;
    char       *etag;     /* or NULL */
} nixery_entry_t;


/*
 * Fills the out fields with a content that is intact, held; NIXERY_DECLINED:
 * there is none, or its bytes are not what they were.
 */
int nixery_download_hold(nixery_download_t *d, const char *sha256,
    uint64_t size, nixery_error_t *err);
void nixery_download_release(nixery_download_t *d);

/*
 * Makes what *fd has, the file "content" in the work directory, the URL's
 * content, held; *fd is -1 when it is now d's.
 */
int nixery_download_store(nixery_download_t *d, const char *work, int *fd,
    nixery_error_t *err);

/*
 * NIXERY_DECLINED: nothing is known of the URL that is of use.  The ETag is to
 * be freed, whatever is returned.
 */
int nixery_entry_recall(nixery_download_t *d, nixery_entry_t *entry,
    nixery_error_t *err);

/* The URL has the content that is held, and the ETag of the answer. */
int nixery_entry_remember(nixery_download_t *d, const char *work,
    nixery_error_t *err);

/*
 * Removes what is too much: the directory is locked.  Errors leave it for the
 * next time.
 */
void nixery_download_evict(nixery_download_t *d);

/* A SHA-256 with the suffix, which may be empty, behind it. */
int nixery_download_name_valid(const char *name, const char *suffix);

char *nixery_download_path(nixery_download_t *d, const char *name,
    const char *suffix, nixery_error_t *err);

/* Sets NIXERY_ERROR_SYSTEM with errno. */
int nixery_download_error(nixery_error_t *err, const char *operation,
    const char *path);


#endif /* _NIXERY_DOWNLOAD_DIR_H_INCLUDED_ */
