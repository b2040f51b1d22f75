
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "nixery_git.h"
#include "nixery_text.h"


#define NIXERY_GIT_OUT_MAX    65536   /* bytes of standard output */
#define NIXERY_GIT_ERR_MAX    16384   /* bytes kept of standard error */
#define NIXERY_GIT_GRACE      1000    /* ms between TERM and KILL */
#define NIXERY_GIT_CAUSE_MAX  512     /* bytes */
#define NIXERY_GIT_REFS_MAX   3       /* that one name may mean */


typedef char  nixery_git_ref_t[NIXERY_REF_MAX + sizeof("^{}")];


static size_t nixery_git_candidates(const char *name,
    nixery_git_ref_t refs[NIXERY_GIT_REFS_MAX]);
static int nixery_git_run(const nixery_fetch_t *fetch, const char **argv,
    nixery_process_t *process, nixery_buf_t *text, nixery_error_t *err);
static int nixery_git_refused(const char *shown, const char *text,
    nixery_error_t *err);
static int nixery_git_late(const char *shown, nixery_error_t *err);
static int nixery_git_none(const char *text);
static int nixery_git_unknown(const char *shown, const char *name,
    nixery_error_t *err);
static const char *nixery_git_hint(const char *text);
static void nixery_git_status(const nixery_process_t *process,
    nixery_revision_t *revision);


int
nixery_git_resolve(const nixery_fetch_t *fetch, const char *url,
    const char *shown, const char *name, nixery_revision_t *revision,
    nixery_error_t *err)
{
    int                rc;
    size_t             i, n, k;
    const char        *argv[5 + NIXERY_GIT_REFS_MAX + 1];
    nixery_buf_t       text;
    nixery_process_t   process;
    nixery_git_ref_t   refs[NIXERY_GIT_REFS_MAX];

    n = nixery_git_candidates(name, refs);

    k = 0;
    argv[k++] = "git";
    argv[k++] = "ls-remote";
    argv[k++] = "--symref";
    argv[k++] = "--";
    argv[k++] = url;

    for (i = 0; i < n; i++) {
        argv[k++] = refs[i];
    }

    argv[k] = NULL;

    memset(&text, 0, sizeof(nixery_buf_t));

    rc = nixery_git_run(fetch, argv, &process, &text, err);

    if (rc != NIXERY_OK && err->kind == NIXERY_ERROR_TIMEOUT) {
        rc = nixery_git_late(shown, err);

    } else if (rc == NIXERY_OK && process.status != 0) {
        rc = nixery_git_none(text.data)
                 ? NIXERY_DECLINED
                 : nixery_git_refused(shown, text.data, err);

    } else if (rc == NIXERY_OK) {
        rc = nixery_git_refs(process.out.data ? process.out.data : "",
                             process.out.len, name, revision);

        /* of more than is kept, the end may have it */

        if (rc == NIXERY_ERROR || process.overflow) {
            rc = nixery_error_set(err, NIXERY_ERROR_SOURCE, "what git "
                                  "repository \"%s\" answers is no list of "
                                  "references", shown);

        } else if (rc == NIXERY_DECLINED) {
            rc = nixery_git_unknown(shown, name, err);
        }
    }

    nixery_process_free(&process);
    nixery_buf_free(&text);

    return rc;
}


int
nixery_git_checkout(const nixery_fetch_t *fetch, const char *directory,
    nixery_revision_t *revision, nixery_error_t *err)
{
    int                rc;
    char              *git;
    const char        *argv[11];
    nixery_buf_t       text;
    nixery_process_t   process;

    memset(revision, 0, sizeof(nixery_revision_t));

    if (asprintf(&git, "%s/.git", directory) == -1) {
        return nixery_error_nomem(err);
    }

    rc = access(git, F_OK);
    free(git);

    if (rc == -1 || fetch->nix->git == NULL) {
        return NIXERY_OK;
    }

    /* a program that the checkout's owner names is none to be run here */

    argv[0] = "git";
    argv[1] = "--no-optional-locks";
    argv[2] = "-c";
    argv[3] = "core.fsmonitor=false";
    argv[4] = "-C";
    argv[5] = directory;
    argv[6] = "status";
    argv[7] = "--porcelain=v2";
    argv[8] = "--branch";
    argv[9] = "--untracked-files=normal";
    argv[10] = NULL;

    memset(&text, 0, sizeof(nixery_buf_t));

    rc = nixery_git_run(fetch, argv, &process, &text, err);

    if (rc == NIXERY_OK && process.status != 0) {
        rc = nixery_git_refused(directory, text.data, err);

    } else if (rc == NIXERY_OK) {
        nixery_git_status(&process, revision);
    }

    nixery_process_free(&process);
    nixery_buf_free(&text);

    return rc;
}


int
nixery_git_refs(const char *text, size_t len, const char *name,
    nixery_revision_t *revision)
{
    size_t             i, n, best;
    const char        *p, *end, *tab, *ref;
    nixery_git_ref_t   refs[NIXERY_GIT_REFS_MAX];

    memset(revision, 0, sizeof(nixery_revision_t));

    n = nixery_git_candidates(name, refs);
    best = n;

    for (p = text; p < text + len; p = end + 1) {
        end = memchr(p, '\n', text + len - p);
        tab = end != NULL ? memchr(p, '\t', end - p) : NULL;

        if (tab == NULL || memchr(p, '\0', end - p) != NULL) {
            return NIXERY_ERROR;
        }

        ref = tab + 1;

        /* "ref: refs/heads/main\tHEAD", in front of HEAD itself */

        if (tab - p > 5 && memcmp(p, "ref: ", 5) == 0) {
            if (name == NULL && end - ref == 4 && memcmp(ref, "HEAD", 4) == 0
                && nixery_ref_valid(p + 5, tab - p - 5))
            {
                memset(revision->ref, 0, sizeof(revision->ref));
                memcpy(revision->ref, p + 5, tab - p - 5);
            }

            continue;
        }

        if (!nixery_commit_valid(p, tab - p)) {
            return NIXERY_ERROR;
        }

        for (i = 0; i < best; i++) {
            if (strlen(refs[i]) == (size_t) (end - ref)
                && memcmp(refs[i], ref, end - ref) == 0)
            {
                memcpy(revision->id, p, NIXERY_COMMIT_LEN);
                best = i;
            }
        }
    }

    if (best == n) {
        memset(revision, 0, sizeof(nixery_revision_t));
        return NIXERY_DECLINED;
    }

    if (name != NULL) {
        n = strlen(refs[best]);

        if (n > 3 && strcmp(refs[best] + n - 3, "^{}") == 0) {
            n -= 3;
        }

        memcpy(revision->ref, refs[best], n);

    } else if (revision->ref[0] == '\0') {
        memcpy(revision->ref, "HEAD", sizeof("HEAD"));
    }

    return NIXERY_OK;
}


/*
 * The last "fatal: " of git says why; when that is only that nothing came from
 * the other side, the line before it does: it is ssh's; when it is only which
 * submodule can't be had, an earlier one does.
 */

char *
nixery_git_cause(const char *text)
{
    char        *cause;
    size_t       len;
    const char  *line, *end, *best, *before;

    best = NULL;
    before = NULL;

    static const char  remote[] = "Could not read from remote repository";
    static const char  clone[] = "fatal: clone of '";

    for (line = text; *line != '\0'; line = *end ? end + 1 : end) {
        end = strchrnul(line, '\n');

        if (strncmp(line, "fatal: ", 7) == 0
            && (best == NULL
                || strncmp(line, clone, sizeof(clone) - 1) != 0))
        {
            best = line + 7;

            if (before != NULL
                && strncmp(best, remote, sizeof(remote) - 1) == 0)
            {
                best = before;
                break;
            }
        }

        if (end != line) {
            before = line;
        }
    }

    if (best == NULL) {
        best = before != NULL ? before : "it printed nothing";
    }

    if (strncmp(best, "fatal: ", 7) == 0) {
        best += 7;
    }

    end = strchrnul(best, '\n');

    /* whom it can't connect to has a line of its own */

    if (end > best && end[-1] == ':' && *end != '\0') {
        end = strchrnul(end + 1, '\n');
    }

    len = end - best;

    if (len > 0 && best[len - 1] == '.') {
        len--;
    }

    if (len > NIXERY_GIT_CAUSE_MAX) {
        len = NIXERY_GIT_CAUSE_MAX;

        while ((best[len] & 0xc0) == 0x80) {
            len--;
        }
    }

    cause = strndup(best, len);

    if (cause != NULL) {
        nixery_text_line(cause);
    }

    return cause;
}


/* In the order of preference; an annotated tag is the commit behind it. */

static size_t
nixery_git_candidates(const char *name,
    nixery_git_ref_t refs[NIXERY_GIT_REFS_MAX])
{
    if (name == NULL) {
        (void) stpcpy(refs[0], "HEAD");
        return 1;
    }

    if (strncmp(name, "refs/", 5) == 0) {
        (void) snprintf(refs[0], sizeof(nixery_git_ref_t), "%s^{}", name);
        (void) snprintf(refs[1], sizeof(nixery_git_ref_t), "%s", name);
        return 2;
    }

    (void) snprintf(refs[0], sizeof(nixery_git_ref_t), "refs/heads/%s", name);
    (void) snprintf(refs[1], sizeof(nixery_git_ref_t), "refs/tags/%s^{}",
                    name);
    (void) snprintf(refs[2], sizeof(nixery_git_ref_t), "refs/tags/%s", name);

    return 3;
}


static int
nixery_git_run(const nixery_fetch_t *fetch, const char **argv,
    nixery_process_t *process, nixery_buf_t *text, nixery_error_t *err)
{
    memset(process, 0, sizeof(nixery_process_t));

    process->program = fetch->nix->git;
    process->argv = (char *const *) argv;
    process->grace = NIXERY_GIT_GRACE;
    process->out_max = NIXERY_GIT_OUT_MAX;
    process->err.head_max = NIXERY_GIT_ERR_MAX;
    process->err.tail_max = NIXERY_GIT_ERR_MAX;

    return nixery_fetch_run(fetch, process, text, err);
}


static int
nixery_git_refused(const char *shown, const char *text, nixery_error_t *err)
{
    int    rc;
    char  *cause;

    cause = nixery_git_cause(text);
    if (cause == NULL) {
        return nixery_error_nomem(err);
    }

    rc = nixery_error_set(err, NIXERY_ERROR_SOURCE,
                          "can't ask git repository \"%s\": %s%s", shown,
                          cause, nixery_git_hint(text));

    free(cause);

    return rc;
}


/* A time limit that has passed says nothing of who was waited for. */

static int
nixery_git_late(const char *shown, nixery_error_t *err)
{
    nixery_error_t  late;

    late = *err;
    memset(err, 0, sizeof(nixery_error_t));

    (void) nixery_error_set(err, NIXERY_ERROR_TIMEOUT, "git repository \"%s\" "
                            "did not answer in time: %s", shown,
                            late.message);

    err->log = late.log;
    late.log = NULL;

    nixery_error_free(&late);

    return NIXERY_ERROR;
}


/* A web server is there, and what it has at that URL is no repository. */

static int
nixery_git_none(const char *text)
{
    return strstr(text, "' not found\n") != NULL
           || strstr(text, "is this a git repository?") != NULL;
}


static int
nixery_git_unknown(const char *shown, const char *name, nixery_error_t *err)
{
    size_t  len;

    if (name == NULL) {
        return nixery_error_set(err, NIXERY_ERROR_REF, "git repository \"%s\" "
                                "has no default branch", shown);
    }

    len = strlen(name);

    return nixery_error_set(err, NIXERY_ERROR_REF,
                            "git repository \"%s\" has no branch or tag "
                            "\"%s\"%s", shown, name,
                            len >= 7 && strspn(name, "0123456789abcdef") == len
                                ? "; a commit is named by all of its 40 digits"
                                : "");
}


static const char *
nixery_git_hint(const char *text)
{
    static const struct {
        const char  *text;
        const char  *hint;
    } hints[] = {
        { "Authentication failed", "; the credentials are refused" },
        { "could not read Username", "; it wants credentials, and has none" },
        { "REMOTE HOST IDENTIFICATION HAS CHANGED",
          "; the host's key is not the one that \"known_hosts=\" has" },
        { "Host key verification failed",
          "; \"known_hosts=\" has to have the host's key" },
        { "Permission denied (publickey",
          "; \"key=\" has to be a key that the host knows" },
        { "target host name", "; its certificate is another host's" },
        { "SSL CA cert", "; \"nixery_nix_env NIX_SSL_CERT_FILE\" has to name a "
                         "file that workers can read" },
        { "certificate", "; \"nixery_nix_env NIX_SSL_CERT_FILE\" says which "
                         "authorities are trusted" },
        { NULL, NULL }
    }, *hint;

    for (hint = hints; hint->text != NULL; hint++) {
        if (strstr(text, hint->text) != NULL) {
            return hint->hint;
        }
    }

    return "";
}


/* "# branch.oid <commit>" among the headers; every other line is a change. */

static void
nixery_git_status(const nixery_process_t *process, nixery_revision_t *revision)
{
    int          dirty;
    const char  *line, *end;

    static const char  oid[] = "# branch.oid ";

    dirty = process->overflow;

    for (line = process->out.data ? process->out.data : ""; *line != '\0';
         line = *end ? end + 1 : end)
    {
        end = strchrnul(line, '\n');

        if (*line != '#') {
            dirty = 1;

        } else if (strncmp(line, oid, sizeof(oid) - 1) == 0
                   && nixery_commit_valid(line + sizeof(oid) - 1,
                                          end - line - (sizeof(oid) - 1)))
        {
            memcpy(revision->id, line + sizeof(oid) - 1, NIXERY_COMMIT_LEN);
        }
    }

    if (dirty && revision->id[0] != '\0') {
        memcpy(revision->id + NIXERY_COMMIT_LEN, NIXERY_GIT_DIRTY,
               sizeof(NIXERY_GIT_DIRTY));
    }
}
