
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_SHA256_H_INCLUDED_
#define _NIXERY_SHA256_H_INCLUDED_


#include "nixery_core.h"


/* Opaque, of OpenSSL's EVP. */
typedef struct nixery_sha256_s  nixery_sha256_t;


/* NULL when memory ran out. */
nixery_sha256_t *nixery_sha256_new(void);
void nixery_sha256_update(nixery_sha256_t *sha, const void *data, size_t len);

/*
 * Adds the length (8 bytes, big-endian) and then the data: a list of items
 * hashed so cannot be confused with another list.
 */
void nixery_sha256_item(nixery_sha256_t *sha, const void *data, size_t len);
void nixery_sha256_string(nixery_sha256_t *sha, const char *s);

/* Writes 64 hex digits and a '\0'; the state is as new afterwards. */
void nixery_sha256_final(nixery_sha256_t *sha, char hex[NIXERY_HEX_LEN + 1]);
void nixery_sha256_free(nixery_sha256_t *sha);

/* The hash of one buffer; NIXERY_ERROR when memory ran out. */
int nixery_sha256_hex(const void *data, size_t len,
    char hex[NIXERY_HEX_LEN + 1]);


#endif /* _NIXERY_SHA256_H_INCLUDED_ */
