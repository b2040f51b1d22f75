
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <openssl/evp.h>
#include "nixery_sha256.h"


struct nixery_sha256_s {
    EVP_MD_CTX  *ctx;
};


nixery_sha256_t *
nixery_sha256_new(void)
{
    nixery_sha256_t  *sha;

    sha = malloc(sizeof(nixery_sha256_t));
    if (sha == NULL) {
        return NULL;
    }

    sha->ctx = EVP_MD_CTX_new();

    if (sha->ctx == NULL
        || EVP_DigestInit_ex(sha->ctx, EVP_sha256(), NULL) != 1)
    {
        nixery_sha256_free(sha);
        return NULL;
    }

    return sha;
}


void
nixery_sha256_update(nixery_sha256_t *sha, const void *data, size_t len)
{
    (void) EVP_DigestUpdate(sha->ctx, data, len);
}


void
nixery_sha256_item(nixery_sha256_t *sha, const void *data, size_t len)
{
    int            i;
    unsigned char  prefix[8];

    for (i = 0; i < 8; i++) {
        prefix[i] = (unsigned char) ((uint64_t) len >> (56 - i * 8));
    }

    nixery_sha256_update(sha, prefix, sizeof(prefix));
    nixery_sha256_update(sha, data, len);
}


void
nixery_sha256_string(nixery_sha256_t *sha, const char *s)
{
    nixery_sha256_item(sha, s, strlen(s));
}


void
nixery_sha256_final(nixery_sha256_t *sha, char hex[NIXERY_HEX_LEN + 1])
{
    int                 i;
    unsigned char       md[NIXERY_SHA256_LEN];
    static const char   digits[] = "0123456789abcdef";

    (void) EVP_DigestFinal_ex(sha->ctx, md, NULL);
    (void) EVP_DigestInit_ex(sha->ctx, EVP_sha256(), NULL);

    for (i = 0; i < NIXERY_SHA256_LEN; i++) {
        hex[i * 2] = digits[md[i] >> 4];
        hex[i * 2 + 1] = digits[md[i] & 0xf];
    }

    hex[NIXERY_HEX_LEN] = '\0';
}


void
nixery_sha256_free(nixery_sha256_t *sha)
{
    if (sha == NULL) {
        return;
    }

    EVP_MD_CTX_free(sha->ctx);
    free(sha);
}


int
nixery_sha256_hex(const void *data, size_t len, char hex[NIXERY_HEX_LEN + 1])
{
    nixery_sha256_t  *sha;

    sha = nixery_sha256_new();
    if (sha == NULL) {
        return NIXERY_ERROR;
    }

    nixery_sha256_update(sha, data, len);
    nixery_sha256_final(sha, hex);
    nixery_sha256_free(sha);

    return NIXERY_OK;
}
