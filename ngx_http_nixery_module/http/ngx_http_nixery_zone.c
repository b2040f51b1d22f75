
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


#define NGX_HTTP_NIXERY_ZONE_EVICT  3   /* entries that make room for one */


typedef struct {
    u_char                        color;
    u_char                        key[NIXERY_HEX_LEN];
    ngx_queue_t                   queue;
    ngx_msec_t                    time;       /* when it was resolved */
    nixery_revision_t             revision;
} ngx_http_nixery_node_t;


typedef struct {
    ngx_rbtree_t                  rbtree;
    ngx_rbtree_node_t             sentinel;
    ngx_queue_t                   queue;      /* the latest used first */
} ngx_http_nixery_shctx_t;


/* Of a process; the shared part outlives a reload. */

typedef struct {
    ngx_http_nixery_shctx_t      *sh;
    ngx_slab_pool_t              *shpool;
} ngx_http_nixery_zone_t;


static ngx_int_t ngx_http_nixery_zone_init(ngx_shm_zone_t *shm_zone,
    void *data);
static ngx_rbtree_key_t ngx_http_nixery_zone_hash(u_char *key);
static void ngx_http_nixery_zone_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static ngx_http_nixery_node_t *ngx_http_nixery_zone_lookup(
    ngx_http_nixery_zone_t *zone, u_char *key);
static ngx_http_nixery_node_t *ngx_http_nixery_zone_new(
    ngx_http_nixery_zone_t *zone, u_char *key);


ngx_shm_zone_t *
ngx_http_nixery_zone_add(ngx_conf_t *cf, ngx_str_t *name, size_t size)
{
    ngx_shm_zone_t          *shm_zone;
    ngx_http_nixery_zone_t  *zone;

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_nixery_zone_t));
    if (zone == NULL) {
        return NULL;
    }

    shm_zone = ngx_shared_memory_add(cf, name, size, &ngx_http_nixery_module);
    if (shm_zone == NULL) {
        return NULL;
    }

    shm_zone->init = ngx_http_nixery_zone_init;
    shm_zone->data = zone;

    return shm_zone;
}


static ngx_int_t
ngx_http_nixery_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_nixery_zone_t  *old = data;

    size_t                   len;
    ngx_http_nixery_zone_t  *zone;

    zone = shm_zone->data;

    if (old != NULL) {
        *zone = *old;
        return NGX_OK;
    }

    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (shm_zone->shm.exists) {
        zone->sh = zone->shpool->data;
        return NGX_OK;
    }

    zone->sh = ngx_slab_alloc(zone->shpool, sizeof(ngx_http_nixery_shctx_t));
    if (zone->sh == NULL) {
        return NGX_ERROR;
    }

    zone->shpool->data = zone->sh;

    ngx_rbtree_init(&zone->sh->rbtree, &zone->sh->sentinel,
                    ngx_http_nixery_zone_insert);

    ngx_queue_init(&zone->sh->queue);

    len = sizeof(" in nixery zone \"\"") + shm_zone->shm.name.len;

    zone->shpool->log_ctx = ngx_slab_alloc(zone->shpool, len);
    if (zone->shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf(zone->shpool->log_ctx, " in nixery zone \"%V\"%Z",
                       &shm_zone->shm.name);

    /* when it is full the oldest entry goes, which is no news */

    zone->shpool->log_nomem = 0;

    return NGX_OK;
}


ngx_int_t
ngx_http_nixery_zone_get(ngx_shm_zone_t *shm_zone, u_char *key,
    ngx_msec_t valid, nixery_revision_t *revision)
{
    ngx_int_t                rc;
    ngx_msec_t               now;
    ngx_http_nixery_node_t  *node;
    ngx_http_nixery_zone_t  *zone;

    zone = shm_zone->data;
    now = ngx_current_msec;
    rc = NGX_DECLINED;

    ngx_shmtx_lock(&zone->shpool->mutex);

    node = ngx_http_nixery_zone_lookup(zone, key);

    if (node != NULL) {

        /* another worker's clock may be ahead by what its cycle took */

        rc = (ngx_msec_int_t) (now - node->time) < (ngx_msec_int_t) valid
                 ? NGX_OK
                 : NGX_AGAIN;

        *revision = node->revision;

        ngx_queue_remove(&node->queue);
        ngx_queue_insert_head(&zone->sh->queue, &node->queue);
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return rc;
}


void
ngx_http_nixery_zone_put(ngx_shm_zone_t *shm_zone, u_char *key,
    nixery_revision_t *revision)
{
    ngx_msec_t               now;
    ngx_http_nixery_node_t  *node;
    ngx_http_nixery_zone_t  *zone;

    zone = shm_zone->data;
    now = ngx_current_msec;

    ngx_shmtx_lock(&zone->shpool->mutex);

    node = ngx_http_nixery_zone_lookup(zone, key);

    if (node == NULL) {
        node = ngx_http_nixery_zone_new(zone, key);
    }

    if (node != NULL) {
        node->time = now;
        node->revision = *revision;
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);
}


/* The first bytes of the key, which is a hash, are the tree's own key. */

static ngx_rbtree_key_t
ngx_http_nixery_zone_hash(u_char *key)
{
    ngx_rbtree_key_t  hash;

    ngx_memcpy(&hash, key, sizeof(ngx_rbtree_key_t));

    return hash;
}


static void
ngx_http_nixery_zone_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    ngx_rbtree_node_t       **p;
    ngx_http_nixery_node_t   *one, *two;

    for ( ;; ) {

        if (node->key != temp->key) {
            p = (node->key < temp->key) ? &temp->left : &temp->right;

        } else {
            one = (ngx_http_nixery_node_t *) &node->color;
            two = (ngx_http_nixery_node_t *) &temp->color;

            p = (ngx_memcmp(one->key, two->key, NIXERY_HEX_LEN) < 0)
                    ? &temp->left
                    : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


static ngx_http_nixery_node_t *
ngx_http_nixery_zone_lookup(ngx_http_nixery_zone_t *zone, u_char *key)
{
    ngx_int_t                rc;
    ngx_rbtree_key_t         hash;
    ngx_rbtree_node_t       *node, *sentinel;
    ngx_http_nixery_node_t  *entry;

    hash = ngx_http_nixery_zone_hash(key);

    node = zone->sh->rbtree.root;
    sentinel = zone->sh->rbtree.sentinel;

    while (node != sentinel) {

        if (hash != node->key) {
            node = (hash < node->key) ? node->left : node->right;
            continue;
        }

        entry = (ngx_http_nixery_node_t *) &node->color;

        rc = ngx_memcmp(key, entry->key, NIXERY_HEX_LEN);

        if (rc == 0) {
            return entry;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


static ngx_http_nixery_node_t *
ngx_http_nixery_zone_new(ngx_http_nixery_zone_t *zone, u_char *key)
{
    u_char                  *p;
    size_t                   size;
    ngx_uint_t               i;
    ngx_queue_t             *q;
    ngx_rbtree_node_t       *node;
    ngx_http_nixery_node_t  *entry;

    size = offsetof(ngx_rbtree_node_t, color) + sizeof(ngx_http_nixery_node_t);

    node = ngx_slab_alloc_locked(zone->shpool, size);

    for (i = 0; node == NULL && i < NGX_HTTP_NIXERY_ZONE_EVICT
                && !ngx_queue_empty(&zone->sh->queue);
         i++)
    {
        q = ngx_queue_last(&zone->sh->queue);
        ngx_queue_remove(q);

        entry = ngx_queue_data(q, ngx_http_nixery_node_t, queue);

        p = (u_char *) entry - offsetof(ngx_rbtree_node_t, color);
        node = (ngx_rbtree_node_t *) p;

        ngx_rbtree_delete(&zone->sh->rbtree, node);
        ngx_slab_free_locked(zone->shpool, node);

        node = ngx_slab_alloc_locked(zone->shpool, size);
    }

    if (node == NULL) {
        return NULL;
    }

    entry = (ngx_http_nixery_node_t *) &node->color;

    node->key = ngx_http_nixery_zone_hash(key);
    ngx_memcpy(entry->key, key, NIXERY_HEX_LEN);

    ngx_rbtree_insert(&zone->sh->rbtree, node);
    ngx_queue_insert_head(&zone->sh->queue, &entry->queue);

    return entry;
}
