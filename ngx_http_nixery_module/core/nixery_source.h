
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_SOURCE_H_INCLUDED_
#define _NIXERY_SOURCE_H_INCLUDED_


#include "nixery_buf.h"
#include "nixery_error.h"


#define NIXERY_COMMIT_LEN  40    /* hexadecimal digits */
#define NIXERY_REF_MAX     255   /* bytes of a full name, "refs/heads/..." */

/* A commit, with "-dirty" behind it, or "sha256:" and a hash. */
#define NIXERY_REVISION_LEN  (sizeof("sha256:") - 1 + NIXERY_HEX_LEN)


typedef enum {
    NIXERY_SOURCE_PATH = 0,
    NIXERY_SOURCE_CHANNEL,
    NIXERY_SOURCE_GIT
} nixery_source_e;


/*
 * Where packages come from.  Constant; the strings belong to the caller.  What
 * is secret never goes into a command line, an environment or a message.
 */

typedef struct {
    nixery_source_e      kind;
    const char          *name;          /* path, channel, or repository's URL,
                                           without user and password */
    const char          *shown;         /* URL that people may see, or NULL */
    const char          *url;           /* channel: of the tarball, with
                                           NIXERY_CHANNEL_NAME in it */
    const char          *ref;           /* git: what "latest" is; NULL: HEAD */
    const char          *user;          /* of the URL, or NULL */
    const char          *password;
    const char          *credentials;   /* files, or NULL: of git's credential
                                           store, */
    const char          *key;           /* an identity of ssh, */
    const char          *known_hosts;   /* keys of hosts */
    const char *const   *secrets;       /* texts that no message may have */
    unsigned             submodules:1;
    unsigned             archive:1;     /* channel: shown is a repository */
    unsigned             immutable:1;   /* a path of the Nix store */
} nixery_source_t;


/* Stands in the URL for the channel's name, or the commit that it is at. */
#define NIXERY_CHANNEL_NAME  "$channel"


/* What a reference stands for.  No pointers: it may lie in shared memory. */

typedef struct {
    char                 ref[NIXERY_REF_MAX + 1];       /* full name, or "" */
    char                 id[NIXERY_REVISION_LEN + 1];   /* "": a path's */
} nixery_revision_t;


/*
 * What a tag means before anybody is asked: NIXERY_OK, the revision is complete
 * (any tag of a path; 40 hexadecimal digits); NIXERY_DECLINED, it has to be
 * resolved; or NIXERY_ERROR_TAG.  A tag is one of the OCI distribution
 * specification, of a git source also "refs/...".  No I/O.
 */
int nixery_source_pin(const nixery_source_t *source, const char *tag,
    size_t len, nixery_revision_t *revision, nixery_error_t *err);

/* As git-check-ref-format(1) has them, "refs/..." only. */
int nixery_ref_valid(const char *ref, size_t len);

/* 40 lower-case hexadecimal digits. */
int nixery_commit_valid(const char *commit, size_t len);

/*
 * How builders are told of a source: "path!DIR", "nixpkgs!CHANNEL",
 * "git!URL!REF"; a branch by its name alone.  NIXERY_ERROR: memory.
 */
int nixery_source_argument(const nixery_source_t *source,
    const nixery_revision_t *revision, nixery_buf_t *text);


#endif /* _NIXERY_SOURCE_H_INCLUDED_ */
