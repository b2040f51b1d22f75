
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_file.h"
#include "nixery_tar_links.h"


#define NIXERY_LINKS_FILES    32768   /* of a tar, the first ones */
#define NIXERY_LINKS_BUCKETS  8192
#define NIXERY_LINKS_NAME     3800    /* bytes: must be opened again by path */
#define NIXERY_LINKS_MAX      1000    /* of one file: ext4 has 65000 at most */
#define NIXERY_LINKS_NONE     UINT32_MAX


typedef struct {
    uint64_t              size;
    mode_t                mode;
    uint32_t              crc;
    uint32_t              next;
    uint32_t              count;   /* of links to it */
    char                 *name;
} nixery_tar_link_t;


struct nixery_tar_links_s {
    nixery_tar_link_t    *files;
    size_t                nfiles;
    uint32_t              buckets[NIXERY_LINKS_BUCKETS];
};


static size_t nixery_tar_links_bucket(uint64_t size, mode_t mode,
    uint32_t crc);
static nixery_tar_link_t *nixery_tar_links_search(
    const nixery_tar_links_t *links, uint64_t size, mode_t mode,
    const uint32_t *crc);


nixery_tar_links_t *
nixery_tar_links_new(void)
{
    size_t               i;
    nixery_tar_links_t  *links;

    links = calloc(1, sizeof(nixery_tar_links_t));
    if (links == NULL) {
        return NULL;
    }

    for (i = 0; i < NIXERY_LINKS_BUCKETS; i++) {
        links->buckets[i] = NIXERY_LINKS_NONE;
    }

    return links;
}


void
nixery_tar_links_free(nixery_tar_links_t *links)
{
    size_t  i;

    if (links == NULL) {
        return;
    }

    for (i = 0; i < links->nfiles; i++) {
        free(links->files[i].name);
    }

    free(links->files);
    free(links);
}


int
nixery_tar_links_may(const nixery_tar_links_t *links, uint64_t size,
    mode_t mode)
{
    return size <= NIXERY_FILE_CHUNK
           || nixery_tar_links_search(links, size, mode, NULL) != NULL;
}


const char *
nixery_tar_links_find(const nixery_tar_links_t *links, uint64_t size,
    mode_t mode, uint32_t crc)
{
    nixery_tar_link_t  *link;

    link = nixery_tar_links_search(links, size, mode, &crc);

    return link != NULL && link->count < NIXERY_LINKS_MAX ? link->name : NULL;
}


int
nixery_tar_links_add(nixery_tar_links_t *links, uint64_t size, mode_t mode,
    uint32_t crc, const char *name)
{
    char               *copy;
    size_t              bucket;
    nixery_tar_link_t  *link, *files;

    if (strlen(name) > NIXERY_LINKS_NAME) {
        return NIXERY_OK;
    }

    link = nixery_tar_links_search(links, size, mode, &crc);

    if ((link == NULL && links->nfiles == NIXERY_LINKS_FILES)
        || (link != NULL && link->count < NIXERY_LINKS_MAX))
    {
        return NIXERY_OK;
    }

    copy = strdup(name);
    if (copy == NULL) {
        return NIXERY_ERROR;
    }

    if (link != NULL) {
        free(link->name);
        link->name = copy;
        link->count = 0;

        return NIXERY_OK;
    }

    /* doubled at each power of two */

    if ((links->nfiles & (links->nfiles - 1)) == 0) {
        files = realloc(links->files, (links->nfiles ? links->nfiles * 2 : 1)
                                      * sizeof(nixery_tar_link_t));
        if (files == NULL) {
            free(copy);
            return NIXERY_ERROR;
        }

        links->files = files;
    }

    bucket = nixery_tar_links_bucket(size, mode, crc);

    link = &links->files[links->nfiles];

    link->size = size;
    link->mode = mode;
    link->crc = crc;
    link->count = 0;
    link->name = copy;
    link->next = links->buckets[bucket];

    links->buckets[bucket] = (uint32_t) links->nfiles++;

    return NIXERY_OK;
}


void
nixery_tar_links_count(nixery_tar_links_t *links, uint64_t size, mode_t mode,
    uint32_t crc)
{
    nixery_tar_link_t  *link;

    link = nixery_tar_links_search(links, size, mode, &crc);

    if (link != NULL) {
        link->count++;
    }
}


/* Large files are looked for by size alone: their CRC costs a reading. */

static size_t
nixery_tar_links_bucket(uint64_t size, mode_t mode, uint32_t crc)
{
    uint64_t  hash;

    hash = size * 0x9e3779b97f4a7c15u ^ mode;

    if (size <= NIXERY_FILE_CHUNK) {
        hash ^= crc;
    }

    hash *= 0x9e3779b97f4a7c15u;

    return (size_t) (hash >> 32) % NIXERY_LINKS_BUCKETS;
}


static nixery_tar_link_t *
nixery_tar_links_search(const nixery_tar_links_t *links, uint64_t size,
    mode_t mode, const uint32_t *crc)
{
    uint32_t            i;
    nixery_tar_link_t  *link;

    i = links->buckets[nixery_tar_links_bucket(size, mode, crc ? *crc : 0)];

    while (i != NIXERY_LINKS_NONE) {
        link = &links->files[i];

        if (link->size == size && link->mode == mode
            && (crc == NULL || link->crc == *crc))
        {
            return link;
        }

        i = link->next;
    }

    return NULL;
}
