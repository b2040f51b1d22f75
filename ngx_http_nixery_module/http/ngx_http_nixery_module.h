
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NGX_HTTP_NIXERY_MODULE_H_INCLUDED_
#define _NGX_HTTP_NIXERY_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "nixery_build.h"


#define NGX_HTTP_NIXERY_TEMP_PATH   "nixery_temp"
#define NGX_HTTP_NIXERY_POOL        "nixery"
#define NGX_HTTP_NIXERY_LAYERS      94
#define NGX_HTTP_NIXERY_TIMEOUT     (30 * 60 * 1000)

/* the latest one that Debian's Nix can evaluate */
#define NGX_HTTP_NIXERY_CHANNEL     "nixos-24.11"
#define NGX_HTTP_NIXERY_CHANNEL_URL                                          \
    "https://github.com/NixOS/nixpkgs/archive/" NIXERY_CHANNEL_NAME ".tar.gz"

#define NGX_HTTP_NIXERY_GIT_SCHEMES  "https ssh http git file"

#define NGX_HTTP_NIXERY_ZONE        "nixery"
#define NGX_HTTP_NIXERY_ZONE_SIZE   (16 * 1024 * 1024)
#define NGX_HTTP_NIXERY_MOVES       3   /* of a branch while it is built */

#define NGX_HTTP_NIXERY_CACHE_MISS  1   /* a build was started */
#define NGX_HTTP_NIXERY_CACHE_WAIT  2   /* a running build was joined */
#define NGX_HTTP_NIXERY_CACHE_HIT   3   /* it was stored already */
#define NGX_HTTP_NIXERY_CACHE_STALE 4   /* of a revision that may be old */

#define NGX_HTTP_NIXERY_STALE_OFF      0x0002
#define NGX_HTTP_NIXERY_STALE_ERROR    0x0004
#define NGX_HTTP_NIXERY_STALE_TIMEOUT  0x0008


typedef struct ngx_http_nixery_job_s  ngx_http_nixery_job_t;


/* A value, and where in the configuration or the environment it stands. */

typedef struct {
    ngx_str_t                        value;   /* data NULL: not set */
    char                            *variable;
    u_char                          *file;    /* both NULL: a default */
    ngx_uint_t                       line;
} ngx_http_nixery_value_t;


/* "nixery_packages" as it stands there. */

typedef struct {
    ngx_http_nixery_value_t          name;    /* directory, URL or channel */
    nixery_source_e                  kind;
    ngx_str_t                        ref;
    ngx_str_t                        credentials;   /* files */
    ngx_str_t                        key;
    ngx_str_t                        known_hosts;
    ngx_uint_t                       submodules;
} ngx_http_nixery_packages_t;


/* What locations that are configured alike have in common. */

typedef struct {
    nixery_settings_t                settings;
    const char                      *directory;   /* of the storage */
    nixery_error_t                   error;       /* why it is not open */
    ngx_thread_pool_t               *thread_pool;

    nixery_popularity_t             *popularity;   /* in use, or NULL */
    ngx_msec_t                       refresh_time;
    ngx_uint_t                       refreshed;    /* once at least */
} ngx_http_nixery_registry_t;


typedef struct {
    ngx_array_t                      locations;
                                         /* ngx_http_nixery_loc_conf_t * */
    ngx_array_t                      registries;
                                         /* ngx_http_nixery_registry_t * */

    ngx_rbtree_t                     jobs;       /* running, in this worker */
    ngx_rbtree_node_t                sentinel;

    ngx_shm_zone_t                  *zone;

    ngx_uint_t                       environ_told;   /* bits: variables */
} ngx_http_nixery_main_conf_t;


typedef struct {
    ngx_http_nixery_value_t          nixery;     /* set: it is a registry */
    ngx_http_nixery_packages_t       packages;
    ngx_http_nixery_value_t          channel_url;
    ngx_http_nixery_value_t          builder;
    ngx_http_nixery_value_t          storage;
    ngx_http_nixery_value_t          nix_build;
    ngx_http_nixery_value_t          temp_path;
    ngx_http_nixery_value_t          popularity;

    ngx_array_t                     *env;        /* ngx_keyval_t, or NULL */
    ngx_array_t                     *options;    /* ngx_keyval_t, or NULL */
    ngx_array_t                     *metas;      /* nixery_meta_t, or NULL */
    ngx_msec_t                       build_timeout;
    ngx_msec_t                       cache_valid;
    ngx_uint_t                       use_stale;   /* NGX_HTTP_NIXERY_STALE_ */
    ngx_int_t                        max_layers;
    ngx_thread_pool_t               *thread_pool;   /* NULL: the default */

    ngx_http_nixery_registry_t      *registry;
} ngx_http_nixery_loc_conf_t;


typedef enum {
    NGX_HTTP_NIXERY_UNKNOWN = 0,
    NGX_HTTP_NIXERY_BASE,
    NGX_HTTP_NIXERY_MANIFEST,
    NGX_HTTP_NIXERY_BLOB,
    NGX_HTTP_NIXERY_UPLOAD
} ngx_http_nixery_route_e;


typedef struct {
    ngx_http_nixery_route_e          kind;
    ngx_str_t                        name;
    ngx_str_t                        reference;
} ngx_http_nixery_route_t;


typedef struct {
    ngx_str_t                        image;      /* canonical name */
    ngx_str_t                        digest;     /* "sha256:..." */
    ngx_str_t                        build_id;
    ngx_msec_t                       build_time;
    ngx_uint_t                       cache_status;

    nixery_revision_t                revision;
    ngx_msec_t                       resolve_time;
    ngx_uint_t                       moves;      /* of the reference */

    /* while the request waits for a job */
    ngx_queue_t                      queue;
    ngx_http_request_t              *request;
    ngx_http_nixery_job_t           *job;        /* NULL: it does not */

    unsigned                         resolved:1;
    unsigned                         refreshed:1;
    unsigned                         stale:1;    /* the revision is */
    unsigned                         waited:1;   /* it has a cleanup */
} ngx_http_nixery_ctx_t;


/*
 * What is done in a thread while requests wait: the functions of its kind.  The
 * first one runs in the thread.
 */

typedef struct {
    size_t                           size;       /* of the job's own type */
    const char                      *action;     /* for the log */
    void                           (*run)(ngx_http_nixery_job_t *job);
    void                           (*ended)(ngx_http_nixery_job_t *job);
    ngx_int_t                      (*answer)(ngx_http_request_t *r,
                                       ngx_http_nixery_job_t *job);
    void                           (*free)(ngx_http_nixery_job_t *job);
} ngx_http_nixery_job_type_t;


/* The fd stands where logging of timers looks for a connection's. */

struct ngx_http_nixery_job_s {
    void                              *dummy[3];
    ngx_socket_t                       fd;

    const ngx_http_nixery_job_type_t  *type;
    nixery_cancel_t                   *cancel;
    ngx_str_node_t                     node;
    ngx_rbtree_t                      *tree;
    ngx_queue_t                        waiters;
    ngx_event_t                        timer;
    ngx_msec_t                         start;
    ngx_pool_t                        *pool;
    ngx_log_t                         *log;
    ngx_str_t                          id;
    atomic_int                         ended;    /* by the thread */
};


typedef struct {
    ngx_http_nixery_job_t            job;
    nixery_build_t                   build;
} ngx_http_nixery_build_t;


extern ngx_module_t  ngx_http_nixery_module;
extern ngx_module_t  ngx_http_nixery_cycle_module;


/* directives */

char *ngx_http_nixery_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_nixery_set_packages(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_nixery_set_channel_url(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_nixery_set_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_nixery_set_kind(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_nixery_set_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_nixery_set_popularity(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_nixery_set_pairs(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_nixery_set_meta(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_nixery_set_pool(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_nixery_set_value(ngx_conf_t *cf,
    ngx_http_nixery_value_t *value, ngx_str_t *arg);
char *ngx_http_nixery_full_path(ngx_conf_t *cf, ngx_str_t *path);
char *ngx_http_nixery_check_timeout(ngx_conf_t *cf, void *post, void *data);
char *ngx_http_nixery_check_layers(ngx_conf_t *cf, void *post, void *data);

/*
 * When the whole configuration is read: makes the locations' registries, and
 * checks that the workers' user can work with what they name.
 */
char *ngx_http_nixery_init_conf(ngx_cycle_t *cycle, void *conf);
ngx_int_t ngx_http_nixery_check(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);

/* Takes from the environment what no directive of the location says. */
ngx_int_t ngx_http_nixery_environment(ngx_conf_t *cf,
    ngx_http_nixery_main_conf_t *nmcf, ngx_http_nixery_loc_conf_t *nlcf);

/* A copy of cf that logs a variable's name, where others do file and line. */
void ngx_http_nixery_environ_conf(ngx_conf_t *ecf, ngx_log_t *log,
    ngx_conf_t *cf, char *name);

/* What the core needs to know of a location's packages. */
const nixery_source_t *ngx_http_nixery_source(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);

/* A program in PATH: its path, or NULL. */
char *ngx_http_nixery_find_program(ngx_conf_t *cf, ngx_str_t *name);

/*
 * A location's nixery_popularity for its registry, and a warning of what it has
 * against a file that can't be used now.
 */
ngx_int_t ngx_http_nixery_popularity(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, nixery_settings_t *settings);
void ngx_http_nixery_check_popularity(ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf);

/*
 * What a builder is known by: a SHA-256 over where it is, what it says, and
 * what the Nix files and scripts beside it say, which it may import.
 * NGX_ERROR with errno set: the file can't be read.
 */
ngx_int_t ngx_http_nixery_builder_id(const char *path,
    char id[NIXERY_HEX_LEN + 1]);

/* Meta-packages as the core takes them, and whether two lists are alike. */
nixery_meta_t *ngx_http_nixery_metas(ngx_conf_t *cf, ngx_array_t *metas);
ngx_uint_t ngx_http_nixery_same_metas(ngx_array_t *one, ngx_array_t *two);

/* Logs what is wrong with a value, with the place where it stands. */
void ngx_http_nixery_conf_log(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_nixery_loc_conf_t *nlcf, ngx_http_nixery_value_t *value,
    ngx_err_t err, const char *fmt, ...);

#define ngx_http_nixery_conf_error(cf, nlcf, value, err, ...)                \
    ngx_http_nixery_conf_log(NGX_LOG_EMERG, cf, nlcf, value, err, __VA_ARGS__)

/* requests */

ngx_int_t ngx_http_nixery_handler(ngx_http_request_t *r);
void ngx_http_nixery_route(ngx_str_t *uri, ngx_http_nixery_route_t *route);

/*
 * Opens the registry's storage unless it is open: what was missing when the
 * worker started may be there now.  NGX_ERROR: see registry->error.
 */
ngx_int_t ngx_http_nixery_storage(ngx_http_nixery_registry_t *registry);

/* Goes on with a request whose context is there, from its URI. */
ngx_int_t ngx_http_nixery_request(ngx_http_request_t *r);

ngx_int_t ngx_http_nixery_manifest_tag(ngx_http_request_t *r,
    nixery_image_t *image, ngx_str_t *tag);
ngx_int_t ngx_http_nixery_manifest_digest(ngx_http_request_t *r,
    const char *hex);
ngx_int_t ngx_http_nixery_manifest_built(ngx_http_request_t *r,
    ngx_http_nixery_build_t *build);

ngx_int_t ngx_http_nixery_blob(ngx_http_request_t *r, const char *hex);

/*
 * Opens a stored object: NGX_OK, NGX_DECLINED when it is not there, or
 * NGX_ERROR, which is logged.
 */
ngx_int_t ngx_http_nixery_open(ngx_http_request_t *r, const char *hex,
    ngx_str_t *path, ngx_open_file_info_t *of);

/*
 * NGX_DECLINED: ctx->revision is what the tag stands for, go on.  Else the
 * request waits for that, NGX_DONE, and goes on by ngx_http_nixery_request();
 * or NGX_BUSY; or it is answered.
 */
ngx_int_t ngx_http_nixery_resolve(ngx_http_request_t *r, ngx_str_t *tag);
ngx_int_t ngx_http_nixery_resolve_again(ngx_http_request_t *r);

/*
 * NGX_DECLINED: the registry's popularity is as it should be, or as it can be.
 * Else the request waits for it, as for a reference.
 */
ngx_int_t ngx_http_nixery_refresh(ngx_http_request_t *r);

/*
 * Makes the request wait for the build of an image, which it takes over:
 * NGX_DONE; NGX_BUSY when too many builds wait for a thread; or a status.
 */
ngx_int_t ngx_http_nixery_build(ngx_http_request_t *r, nixery_image_t *image);

/* jobs */

ngx_http_nixery_job_t *ngx_http_nixery_job_find(ngx_http_request_t *r,
    ngx_str_t *key);

/* Zeroed but for what all kinds have; its cancel is still to be set. */
ngx_http_nixery_job_t *ngx_http_nixery_job_create(ngx_http_request_t *r,
    const ngx_http_nixery_job_type_t *type, ngx_str_t *key);
void ngx_http_nixery_job_destroy(ngx_http_nixery_job_t *job);

/* NGX_OK; else the job is gone: NGX_BUSY, no thread takes it, or a status. */
ngx_int_t ngx_http_nixery_job_start(ngx_http_request_t *r,
    ngx_http_nixery_job_t *job);
ngx_int_t ngx_http_nixery_job_wait(ngx_http_request_t *r,
    ngx_http_nixery_job_t *job);
void ngx_http_nixery_job_cancel_all(ngx_http_nixery_main_conf_t *nmcf);

/* When the process ends: NGX_BUSY if a thread still runs. */
ngx_int_t ngx_http_nixery_job_free_all(ngx_http_nixery_main_conf_t *nmcf);

/* shared memory: what tags stand for, by a SHA-256 in hexadecimal */

ngx_shm_zone_t *ngx_http_nixery_zone_add(ngx_conf_t *cf, ngx_str_t *name,
    size_t size);

/* NGX_OK; NGX_AGAIN, it is older than valid; NGX_DECLINED, unknown. */
ngx_int_t ngx_http_nixery_zone_get(ngx_shm_zone_t *shm_zone, u_char *key,
    ngx_msec_t valid, nixery_revision_t *revision);
void ngx_http_nixery_zone_put(ngx_shm_zone_t *shm_zone, u_char *key,
    nixery_revision_t *revision);

/* answers */

ngx_int_t ngx_http_nixery_header(ngx_http_request_t *r, const char *name,
    u_char *value, size_t len);

/* What is common to all answers with content that has a digest. */
ngx_int_t ngx_http_nixery_content(ngx_http_request_t *r, const char *hex,
    ngx_uint_t immutable);

/* Status, type and length; and no filter may encode the content. */
ngx_int_t ngx_http_nixery_prepare(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, off_t length);
ngx_int_t ngx_http_nixery_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, ngx_str_t *body);

/* An error of the specification, with a message as ngx_sprintf() makes it. */
ngx_int_t ngx_http_nixery_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *fmt, ...);

/* Answers what the core met; id: of the job that met it, or NULL. */
ngx_int_t ngx_http_nixery_core_error(ngx_http_request_t *r,
    nixery_error_t *err, ngx_str_t *id);
ngx_uint_t ngx_http_nixery_error_level(nixery_error_t *err);

ngx_int_t ngx_http_nixery_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_NIXERY_MODULE_H_INCLUDED_ */
