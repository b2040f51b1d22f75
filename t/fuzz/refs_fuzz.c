
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/*
 * What git prints: lists of references, the first line of the input being what
 * is looked for in the others, and why it failed.
 */

#include <stdio.h>
#include "grammar.h"
#include "nixery_git.h"
#include "nixery_image.h"


#define FUZZ_CAUSE_MAX  512


static void fuzz_list(const char *text, size_t len, const char *name);
static int fuzz_find(const char *text, const char *name,
    nixery_revision_t *revision);
static int fuzz_find_ref(const char *text, const char *ref,
    nixery_revision_t *revision);
static void fuzz_find_target(const char *text, nixery_revision_t *revision);
static void fuzz_cause(const char *text, size_t len);


static fuzz_grammar_t  fuzz_lists = {
    .text = "^(ref: [^\t\n]+\t[^\n]*\n|[0-9a-f]{40}\t[^\n]*\n)*$"
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char            *name;
    size_t           len;
    const char      *text, *list;
    nixery_error_t   err = { 0 };

    text = (const char *) data;

    fuzz_cause(text, size);

    list = memchr(text, '\n', size);
    if (list == NULL) {
        return 0;
    }

    len = list++ - text;

    name = strndup(text, len);
    fuzz_check(name != NULL);

    /* what has come so far is a tag, or the full name of a reference */

    if (len == 0) {
        fuzz_list(list, size - 1, NULL);

    } else if (nixery_ref_valid(text, len)
               || nixery_tag_check(text, len, &err) == NIXERY_OK)
    {
        fuzz_list(list, size - len - 1, name);
    }

    nixery_error_free(&err);
    free(name);

    return 0;
}


static void
fuzz_list(const char *text, size_t len, const char *name)
{
    int                rc, expected;
    char              *s;
    nixery_revision_t  revision, found;

    s = strndup(text, len);
    fuzz_check(s != NULL);

    memset(&revision, 'x', sizeof(nixery_revision_t));

    rc = nixery_git_refs(text, len, name, &revision);

    if (strlen(s) != len || !fuzz_matches(&fuzz_lists, s)) {
        fuzz_check(rc == NIXERY_ERROR);
        free(s);
        return;
    }

    memset(&found, 0, sizeof(nixery_revision_t));

    expected = fuzz_find(s, name, &found);

    fuzz_check(rc == expected);
    fuzz_check(strcmp(revision.ref, found.ref) == 0);
    fuzz_check(strcmp(revision.id, found.id) == 0);

    if (rc == NIXERY_OK) {
        fuzz_check(nixery_commit_valid(revision.id, strlen(revision.id)));
        fuzz_check((name == NULL && strcmp(revision.ref, "HEAD") == 0)
                   || nixery_ref_valid(revision.ref, strlen(revision.ref)));
    }

    free(s);
}


/* The same in the plainest way: one search for each of what it may be. */

static int
fuzz_find(const char *text, const char *name, nixery_revision_t *revision)
{
    int      rc, full;
    char    *ref;
    size_t   i;

    static const struct {
        int          full;
        const char  *before;
        const char  *behind;
    } forms[] = {
        { 0, "refs/heads/", "" },
        { 0, "refs/tags/", "^{}" },
        { 0, "refs/tags/", "" },
        { 1, "", "^{}" },
        { 1, "", "" }
    };

    if (name == NULL) {
        rc = fuzz_find_ref(text, "HEAD", revision);

        if (rc == NIXERY_OK) {
            fuzz_find_target(text, revision);
        }

        return rc;
    }

    full = strncmp(name, "refs/", 5) == 0;
    rc = NIXERY_DECLINED;

    for (i = 0; rc != NIXERY_OK && i < sizeof(forms) / sizeof(forms[0]); i++) {

        if (forms[i].full != full) {
            continue;
        }

        fuzz_check(asprintf(&ref, "%s%s%s", forms[i].before, name,
                            forms[i].behind)
                   != -1);

        rc = fuzz_find_ref(text, ref, revision);
        free(ref);

        if (rc == NIXERY_OK) {
            (void) snprintf(revision->ref, sizeof(revision->ref), "%s%s",
                            forms[i].before, name);
        }
    }

    return rc;
}


static int
fuzz_find_ref(const char *text, const char *ref, nixery_revision_t *revision)
{
    size_t       len;
    const char  *p;

    len = strlen(ref);

    for (p = text; *p != '\0'; p = strchr(p, '\n') + 1) {
        if (strcspn(p, "\t") == NIXERY_COMMIT_LEN
            && strncmp(p, "ref: ", 5) != 0
            && strncmp(p + NIXERY_COMMIT_LEN + 1, ref, len) == 0
            && p[NIXERY_COMMIT_LEN + 1 + len] == '\n')
        {
            memcpy(revision->id, p, NIXERY_COMMIT_LEN);
            return NIXERY_OK;
        }
    }

    return NIXERY_DECLINED;
}


/* The last one counts, if that is a reference. */

static void
fuzz_find_target(const char *text, nixery_revision_t *revision)
{
    size_t       len;
    const char  *p;

    (void) stpcpy(revision->ref, "HEAD");

    for (p = text; *p != '\0'; p = strchr(p, '\n') + 1) {
        if (strncmp(p, "ref: ", 5) != 0) {
            continue;
        }

        len = strcspn(p + 5, "\t");

        if (strncmp(p + 5 + len, "\tHEAD\n", 6) == 0
            && nixery_ref_valid(p + 5, len))
        {
            memset(revision->ref, 0, sizeof(revision->ref));
            memcpy(revision->ref, p + 5, len);
        }
    }
}


/* A part of the clean text, whatever ends its lines, or what stands for it. */

static void
fuzz_cause(const char *text, size_t len)
{
    char          *cause;
    nixery_buf_t   clean = { 0 };

    fuzz_check(nixery_buf_append(&clean, text, len) == NIXERY_OK
               && nixery_text_clean(&clean) == NIXERY_OK);

    cause = nixery_git_cause(clean.data);

    fuzz_check(cause != NULL && strlen(cause) <= FUZZ_CAUSE_MAX);
    fuzz_check_text(cause, "\t");

    nixery_text_line(cause);
    nixery_text_line(clean.data);

    fuzz_check(strstr(clean.data, cause) != NULL
               || strcmp(cause, "it printed nothing") == 0);

    free(cause);
    nixery_buf_free(&clean);
}
