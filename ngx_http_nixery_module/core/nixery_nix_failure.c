
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <sys/wait.h>
#include "nixery_git.h"
#include "nixery_nix_call.h"
#include "nixery_text.h"


#define NIXERY_NIX_CAUSE_MAX     512     /* bytes */
#define NIXERY_NIX_LOG_LINES     20
#define NIXERY_NIX_LOG_MAX       4096    /* bytes of err->log */

#define NIXERY_NIX_BUILDER       "builder for "

#define NIXERY_NIX_BUILD_FAILED  100
#define NIXERY_NIX_TIMED_OUT     101


static int nixery_nix_no_source(nixery_nix_call_t *call, const char *cause,
    const char *text, nixery_error_t *err);
static const char *nixery_nix_hint(const char *cause);


int
nixery_nix_culprit(nixery_nix_call_t *call, const char *text,
    nixery_error_t *err)
{
    int          rc;
    char        *package, *cause;
    size_t       i;
    const char  *p, *last, *end;

    if (!WIFEXITED(call->process.status)
        || WEXITSTATUS(call->process.status) != 1)
    {
        return NIXERY_DECLINED;
    }

    last = call->process.err.marked + sizeof(NIXERY_NIX_TRACE) - 1;

    if (strncmp(last, "ing \"", 5) != 0) {
        return NIXERY_DECLINED;
    }

    last += 5;
    end = strchr(last, '"');

    if (end == NULL) {
        return NIXERY_DECLINED;
    }

    package = strndup(last, end - last);
    if (package == NULL) {
        return nixery_error_nomem(err);
    }

    rc = NIXERY_DECLINED;

    for (i = 0; i < call->request->image->npackages; i++) {
        if (strcmp(call->request->image->packages[i], package) == 0) {
            rc = NIXERY_OK;
        }
    }

    /* what stands behind the trace, if that is not in what was cut */

    p = strstr(text, call->process.err.marked);
    cause = rc == NIXERY_OK ? nixery_nix_cause(p != NULL ? p : text) : NULL;

    if (cause == NULL) {
        free(package);
        return rc == NIXERY_OK ? nixery_error_nomem(err) : rc;
    }

    if (cJSON_GetObjectItemCaseSensitive(call->skip, package) != NULL) {
        rc = nixery_error_set(err, NIXERY_ERROR_PACKAGE,
                              "package can't be used: \"%s\" (%s)", package,
                              cause);

    } else {
        if (call->skip == NULL) {
            call->skip = cJSON_CreateObject();
        }

        if (cJSON_AddStringToObject(call->skip, package, cause) == NULL) {
            rc = nixery_error_nomem(err);
        }
    }

    free(package);
    free(cause);

    return rc;
}


int
nixery_nix_failed(nixery_nix_call_t *call, const char *text,
    nixery_error_t *err)
{
    int    status;
    char  *cause;

    status = call->process.status;

    cause = nixery_nix_cause(text);
    if (cause == NULL) {
        return nixery_error_nomem(err);
    }

    if (nixery_nix_no_source(call, cause, text, err) != NIXERY_DECLINED) {
        free(cause);
        return NIXERY_ERROR;
    }

    if (WIFSIGNALED(status)) {
        (void) nixery_error_set(err, NIXERY_ERROR_NIX,
                                "nix-build was ended by signal %d",
                                WTERMSIG(status));

    } else if (WEXITSTATUS(status) == NIXERY_NIX_TIMED_OUT
               || (strncmp(cause, "building of ", 12) == 0
                   && strstr(cause, " timed out after ") != NULL))
    {
        /* a nix-daemon's error makes it 1 in place of 101 */

        (void) nixery_error_set(err, NIXERY_ERROR_TIMEOUT,
                                "a time limit of Nix has passed: %s", cause);

    } else if (WEXITSTATUS(status) == NIXERY_NIX_BUILD_FAILED
               || strncmp(cause, NIXERY_NIX_BUILDER,
                          sizeof(NIXERY_NIX_BUILDER) - 1)
                  == 0)
    {
        (void) nixery_error_set(err, NIXERY_ERROR_NIX,
                                "a package failed to build: %s", cause);

    } else {
        (void) nixery_error_set(err, NIXERY_ERROR_NIX,
                                "nix-build failed with exit code %d: %s%s",
                                WEXITSTATUS(status), cause,
                                nixery_nix_hint(cause));
    }

    free(cause);

    err->log = nixery_text_last(text, NIXERY_NIX_LOG_LINES,
                                NIXERY_NIX_LOG_MAX);

    return NIXERY_ERROR;
}


/* What is wrong with a git source is no fault of a package or of Nix. */

static int
nixery_nix_no_source(nixery_nix_call_t *call, const char *cause,
    const char *text, nixery_error_t *err)
{
    int                     rc;
    char                   *reason;
    const nixery_source_t  *source;

    source = call->fetch->nix->source;

    if (source->kind != NIXERY_SOURCE_GIT) {
        return NIXERY_DECLINED;
    }

    if (strncmp(cause, "Cannot find Git revision", 24) == 0
        && strstr(cause, call->request->revision->id) != NULL)
    {
        return nixery_error_set(err, NIXERY_ERROR_REF,
                                "git repository \"%s\" has no commit %s",
                                source->shown, call->request->revision->id);
    }

    if (strncmp(cause, "program 'git' failed", 20) != 0) {
        return NIXERY_DECLINED;
    }

    reason = nixery_git_cause(text);
    if (reason == NULL) {
        return nixery_error_nomem(err);
    }

    rc = nixery_error_set(err, NIXERY_ERROR_SOURCE, "can't fetch %s of git "
                          "repository \"%s\": %s", call->request->revision->id,
                          source->shown, reason);

    free(reason);

    return rc;
}


static const char *
nixery_nix_hint(const char *cause)
{
    if (strstr(cause, "cannot connect to ") != NULL) {
        return "; is nix-daemon running, and may the workers' user talk to it?";
    }

    if (strcmp(cause, "unexpected end-of-file") == 0
        || strstr(cause, "daemon disconnected") != NULL)
    {
        return "; was nix-daemon ended?";
    }

    if (strstr(cause, " is required to build ") != NULL) {
        return "; Nix knows no machine of that kind";
    }

    return "";
}


/*
 * The line that says why: of the first builder that failed, else of the last
 * error (those before it say where), else the last line of all.  malloc'ed.
 */

char *
nixery_nix_cause(const char *text)
{
    size_t       len;
    const char  *line, *end, *best, *builder, *any;

    best = NULL;
    builder = NULL;
    any = NULL;

    for (line = text; *line != '\0'; line = *end ? end + 1 : end) {
        line += strspn(line, " \t");
        end = strchrnul(line, '\n');

        if (end == line) {
            continue;
        }

        any = line;

        if (strncmp(line, "error: ", 7) == 0) {
            best = line + 7;

            if (builder == NULL
                && strncmp(best, NIXERY_NIX_BUILDER,
                           sizeof(NIXERY_NIX_BUILDER) - 1)
                   == 0)
            {
                builder = best;
            }
        }
    }

    if (builder != NULL) {
        best = builder;

    } else if (best == NULL) {
        best = any != NULL ? any : "it printed nothing";
    }

    len = strchrnul(best, '\n') - best;

    while (len != 0 && strchr(" \t;", best[len - 1]) != NULL) {
        len--;
    }

    if (len > NIXERY_NIX_CAUSE_MAX) {
        len = NIXERY_NIX_CAUSE_MAX;

        while ((best[len] & 0xc0) == 0x80) {
            len--;
        }
    }

    return strndup(best, len);
}
