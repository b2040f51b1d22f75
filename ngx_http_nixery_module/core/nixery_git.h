
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_GIT_H_INCLUDED_
#define _NIXERY_GIT_H_INCLUDED_


#include "nixery_fetch.h"


/* Behind the commit of a checkout whose files are not that commit's. */
#define NIXERY_GIT_DIRTY  "-dirty"


/*
 * Writes what git is to read into the work folder: "gitconfig", and the URL's
 * user and password as "git-credentials".  Errors: NIXERY_ERROR_SYSTEM.
 */
int nixery_git_config(const nixery_fetch_t *fetch, nixery_error_t *err);

/*
 * Asks a repository (its URL without user and password) what a tag stands for:
 * a branch, else a tag, of that name; its HEAD for NULL; "refs/..." itself.
 * NIXERY_DECLINED: no repository answers at that URL, which may only be
 * said of http and https.
 * Errors: NIXERY_ERROR_REF names the tag; NIXERY_ERROR_SOURCE says which host
 * said what; NIXERY_ERROR_TIMEOUT, _CANCELED, _SYSTEM.
 */
int nixery_git_resolve(const nixery_fetch_t *fetch, const char *url,
    const char *shown, const char *name, nixery_revision_t *revision,
    nixery_error_t *err);

/*
 * The commit that a checkout is at, with "-dirty" where its files are not that
 * commit's; "" for a directory that is no checkout.
 * Errors: as above; NIXERY_ERROR_SOURCE when git can't tell.
 */
int nixery_git_checkout(const nixery_fetch_t *fetch, const char *directory,
    nixery_revision_t *revision, nixery_error_t *err);

/*
 * Finds a reference in what "git ls-remote --symref" printed.  NIXERY_DECLINED:
 * it is not there; NIXERY_ERROR: that is no list of references.
 */
int nixery_git_refs(const char *text, size_t len, const char *name,
    nixery_revision_t *revision);

/*
 * The line in which git, or ssh for it, says why it failed; malloc'ed, NULL:
 * memory.
 */
char *nixery_git_cause(const char *text);


#endif /* _NIXERY_GIT_H_INCLUDED_ */
