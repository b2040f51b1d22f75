
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_git.h"
#include "nixery_text.h"


#define NIXERY_FETCH_LOG_LINES  20
#define NIXERY_FETCH_LOG_MAX    4096   /* bytes of err->log */


typedef struct {
    char      **env;       /* NULL at the end */
    size_t      n;
} nixery_env_t;


static int nixery_env_make(const nixery_fetch_t *fetch, nixery_env_t *env);
static int nixery_env_add(nixery_env_t *env, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static int nixery_fetch_uses_git(const nixery_source_t *source);


int
nixery_fetch_open(nixery_fetch_t *fetch, nixery_error_t *err)
{
    int           rc;
    char         *home;
    nixery_env_t  env;

    memset(&env, 0, sizeof(nixery_env_t));

    fetch->git = nixery_fetch_uses_git(fetch->nix->source);

    rc = nixery_env_make(fetch, &env);

    fetch->env = env.env;

    if (rc != NIXERY_OK || asprintf(&home, "%s/home", fetch->temp_path) == -1)
    {
        nixery_fetch_close(fetch);
        return nixery_error_nomem(err);
    }

    if (mkdir(home, 0700) == -1 && errno != EEXIST) {
        rc = nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                "make directory \"%s\"", home);
    }

    free(home);

    if (rc == NIXERY_OK && fetch->git) {
        rc = nixery_git_config(fetch, err);
    }

    if (rc != NIXERY_OK) {
        nixery_fetch_close(fetch);
    }

    return rc;
}


void
nixery_fetch_close(nixery_fetch_t *fetch)
{
    char  **p;

    for (p = fetch->env; p != NULL && *p != NULL; p++) {
        free(*p);
    }

    free(fetch->env);
    fetch->env = NULL;
}


int
nixery_fetch_run(const nixery_fetch_t *fetch, nixery_process_t *process,
    nixery_buf_t *text, nixery_error_t *err)
{
    uint64_t  now;

    now = nixery_now();

    if (now >= fetch->deadline) {
        return nixery_fetch_late(fetch, text, err);
    }

    process->envp = fetch->env;
    process->cwd = "/";
    process->timeout = fetch->deadline - now;
    process->cancel = fetch->cancel;

    if (nixery_process_run(process, err) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (process->canceled) {
        return nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                "the build was canceled");
    }

    if (nixery_excerpt_text(&process->err, text) != NIXERY_OK
        || nixery_text_clean(text) != NIXERY_OK)
    {
        return nixery_error_nomem(err);
    }

    nixery_text_hide(text->data, fetch->nix->source->secrets);
    text->len = strlen(text->data);

    if (process->timed_out) {
        return nixery_fetch_late(fetch, text, err);
    }

    return NIXERY_OK;
}


/* What nix->env names wins. */

static int
nixery_env_make(const nixery_fetch_t *fetch, nixery_env_t *env)
{
    int                  program;
    size_t               n;
    char *const         *p;
    const nixery_nix_t  *nix;

    nix = fetch->nix;

    n = 16;

    for (p = nix->env; p != NULL && *p != NULL; p++) {
        n++;
    }

    env->env = calloc(n, sizeof(char *));
    if (env->env == NULL) {
        return NIXERY_ERROR;
    }

    for (p = nix->env; p != NULL && *p != NULL; p++) {
        env->env[env->n] = strdup(*p);
        if (env->env[env->n++] == NULL) {
            return NIXERY_ERROR;
        }
    }

    program = (int) (strrchr(nix->program, '/') - nix->program);

    if (nixery_env_add(env, "PATH=%.*s:/usr/local/bin:/usr/bin:/bin", program,
                       nix->program)
        != NIXERY_OK
        || nixery_env_add(env, "HOME=%s/home", fetch->temp_path) != NIXERY_OK
        || nixery_env_add(env, "XDG_CACHE_HOME=%s/home/.cache",
                          fetch->temp_path)
           != NIXERY_OK
        || nixery_env_add(env, "TMPDIR=%s", fetch->work) != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    if (!fetch->git) {
        return NIXERY_OK;
    }

    /* messages are looked into, and nobody is there to be asked */

    if (nixery_env_add(env, "LC_ALL=%s", "C") != NIXERY_OK
        || nixery_env_add(env, "GIT_TERMINAL_PROMPT=%d", 0) != NIXERY_OK
        || nixery_env_add(env, "GIT_CONFIG_GLOBAL=%s/gitconfig", fetch->work)
           != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    return NIXERY_OK;
}


/* The format begins with the variable's name. */

static int
nixery_env_add(nixery_env_t *env, const char *fmt, ...)
{
    int       rc;
    char     *name;
    size_t    len;
    va_list   args;

    len = strchr(fmt, '=') - fmt;

    name = strndup(fmt, len);
    if (name == NULL) {
        return NIXERY_ERROR;
    }

    rc = nixery_env_get(env->env, name) != NULL;
    free(name);

    if (rc) {
        return NIXERY_OK;
    }

    va_start(args, fmt);
    rc = vasprintf(&env->env[env->n], fmt, args);
    va_end(args);

    if (rc == -1) {
        env->env[env->n] = NULL;
        return NIXERY_ERROR;
    }

    env->n++;

    return NIXERY_OK;
}


const char *
nixery_env_get(char *const *env, const char *name)
{
    size_t  len;

    len = strlen(name);

    for ( /* void */ ; env != NULL && *env != NULL; env++) {
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=') {
            return *env + len + 1;
        }
    }

    return NULL;
}


static int
nixery_fetch_uses_git(const nixery_source_t *source)
{
    int    rc;
    char  *git;

    if (source->kind != NIXERY_SOURCE_PATH) {
        return 1;
    }

    if (source->immutable || asprintf(&git, "%s/.git", source->name) == -1) {
        return 0;
    }

    rc = access(git, F_OK) == 0;

    free(git);

    return rc;
}


int
nixery_fetch_late(const nixery_fetch_t *fetch, const nixery_buf_t *text,
    nixery_error_t *err)
{
    uint64_t     n;
    const char  *unit;

    n = fetch->nix->timeout;
    unit = "ms";

    if (n % 60000 == 0) {
        n /= 60000;
        unit = "m";

    } else if (n % 1000 == 0) {
        n /= 1000;
        unit = "s";
    }

    (void) nixery_error_set(err, NIXERY_ERROR_TIMEOUT, "the build did not "
                            "finish within %llu%s", (unsigned long long) n,
                            unit);

    if (text != NULL && text->len != 0) {
        err->log = nixery_text_last(text->data, NIXERY_FETCH_LOG_LINES,
                                    NIXERY_FETCH_LOG_MAX);
    }

    return NIXERY_ERROR;
}
