
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "nixery_nix_call.h"
#include "nixery_text.h"


#define NIXERY_NIX_OUT_MAX   65536   /* bytes of standard output */
#define NIXERY_NIX_HEAD_MAX  4096    /* bytes kept of standard error */
#define NIXERY_NIX_TAIL_MAX  65536
#define NIXERY_NIX_GRACE     1000    /* ms: nix-build ends at once on TERM */


static int nixery_nix_packages(nixery_nix_call_t *call, nixery_error_t *err);
static int nixery_nix_run(nixery_nix_call_t *call, nixery_error_t *err);
static char **nixery_nix_argv(nixery_nix_call_t *call, const char *skip);
static size_t nixery_nix_source(const char *source, const char **argv);
static char **nixery_nix_env(nixery_nix_call_t *call);
static int nixery_nix_env_add(char **env, size_t *n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int nixery_nix_output(nixery_nix_call_t *call, char **path,
    nixery_error_t *err);
static uint64_t nixery_nix_now(void);


int
nixery_nix_build(const nixery_nix_t *nix, const nixery_image_t *image,
    const char *root, const char *home, nixery_cancel_t *cancel, char **path,
    nixery_error_t *err)
{
    int                rc;
    nixery_buf_t       text;
    nixery_nix_call_t  call;

    memset(&call, 0, sizeof(nixery_nix_call_t));

    call.nix = nix;
    call.image = image;
    call.root = root;
    call.home = home;
    call.cancel = cancel;
    call.deadline = nixery_nix_now() + nix->timeout;

    rc = nixery_nix_packages(&call, err);

    while (rc == NIXERY_OK) {
        rc = nixery_nix_run(&call, err);
        if (rc != NIXERY_OK) {
            break;
        }

        if (call.process.status == 0) {
            rc = nixery_nix_output(&call, path, err);
            break;
        }

        memset(&text, 0, sizeof(nixery_buf_t));

        if (nixery_excerpt_text(&call.process.err, &text) != NIXERY_OK
            || nixery_text_clean(&text) != NIXERY_OK)
        {
            rc = nixery_error_nomem(err);

        } else {

            /* what Nix can't catch is skipped by name in one more run */

            rc = nixery_nix_culprit(&call, text.data, err);

            if (rc == NIXERY_DECLINED) {
                rc = nixery_nix_failed(&call, text.data, err);
            }
        }

        nixery_buf_free(&text);
        nixery_process_free(&call.process);
    }

    nixery_process_free(&call.process);
    cJSON_Delete(call.skip);
    free(call.packages);

    return rc;
}


int
nixery_store_path_valid(const char *path)
{
    size_t  n;

    static const char  hash[] = "0123456789abcdfghijklmnpqrsvwxyz";
    static const char  name[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz0123456789+-._?=";

    if (!nixery_in_store(path)) {
        return 0;
    }

    path += sizeof(NIXERY_STORE);

    if (strspn(path, hash) < 32 || path[32] != '-') {
        return 0;
    }

    path += 33;
    n = strlen(path);

    return n >= 1 && n <= 211 && *path != '.' && strspn(path, name) == n;
}


static int
nixery_nix_packages(nixery_nix_call_t *call, nixery_error_t *err)
{
    int     n;
    cJSON  *list;

    n = (int) call->image->npackages;

    list = cJSON_CreateStringArray((const char *const *) call->image->packages,
                                   n);
    if (list != NULL) {
        call->packages = cJSON_PrintUnformatted(list);
        cJSON_Delete(list);
    }

    return call->packages != NULL ? NIXERY_OK : nixery_error_nomem(err);
}


static int
nixery_nix_run(nixery_nix_call_t *call, nixery_error_t *err)
{
    int                 rc;
    char               *skip, **argv, **env, **p;
    uint64_t            now;
    nixery_process_t   *process;

    now = nixery_nix_now();

    if (now >= call->deadline) {
        return nixery_nix_late(call, err);
    }

    process = &call->process;
    memset(process, 0, sizeof(nixery_process_t));

    skip = call->skip != NULL ? cJSON_PrintUnformatted(call->skip) : NULL;
    argv = nixery_nix_argv(call, skip);
    env = nixery_nix_env(call);

    if (argv == NULL || env == NULL || (call->skip != NULL && skip == NULL)) {
        rc = nixery_error_nomem(err);
        goto done;
    }

    process->program = call->nix->program;
    process->argv = argv;
    process->envp = env;
    process->cwd = "/";
    process->timeout = call->deadline - now;
    process->grace = NIXERY_NIX_GRACE;
    process->out_max = NIXERY_NIX_OUT_MAX;
    process->cancel = call->cancel;
    process->err.mark = NIXERY_NIX_TRACE;
    process->err.head_max = NIXERY_NIX_HEAD_MAX;
    process->err.tail_max = NIXERY_NIX_TAIL_MAX;

    rc = nixery_process_run(process, err);

    if (rc == NIXERY_OK && process->canceled) {
        rc = nixery_error_set(err, NIXERY_ERROR_CANCELED,
                              "the build was canceled");
    }

    if (rc == NIXERY_OK && process->timed_out) {
        rc = nixery_nix_late(call, err);
    }

done:

    free(skip);
    free(argv);

    for (p = env; p != NULL && *p != NULL; p++) {
        free(*p);
    }

    free(env);

    return rc;
}


/* The strings stay those of the call. */

static char **
nixery_nix_argv(nixery_nix_call_t *call, const char *skip)
{
    size_t         n;
    const char   **argv;
    char *const   *option;

    n = 26;

    for (option = call->nix->options; option != NULL && *option; option += 2) {
        n += 3;
    }

    argv = calloc(n, sizeof(char *));
    if (argv == NULL) {
        return NULL;
    }

    n = 0;
    argv[n++] = "nix-build";
    argv[n++] = "--out-link";
    argv[n++] = call->root;

    for (option = call->nix->options; option != NULL && *option; option += 2) {
        argv[n++] = "--option";
        argv[n++] = option[0];
        argv[n++] = option[1];
    }

    argv[n++] = "--argstr";
    argv[n++] = "name";
    argv[n++] = call->image->name;
    argv[n++] = "--argstr";
    argv[n++] = "packages";
    argv[n++] = call->packages;
    argv[n++] = "--argstr";
    argv[n++] = "pkgSource";
    argv[n++] = call->nix->source;

    n += nixery_nix_source(call->nix->source, &argv[n]);

    argv[n++] = "--argstr";
    argv[n++] = "system";
    argv[n++] = call->image->system ? call->image->system
                                    : call->nix->system;

    if (skip != NULL) {
        argv[n++] = "--argstr";
        argv[n++] = "skip";
        argv[n++] = skip;
    }

    argv[n] = call->nix->builder;

    return (char **) argv;
}


/* The source as Nixery's newest builder takes it. */

static size_t
nixery_nix_source(const char *source, const char **argv)
{
    if (strncmp(source, "path!", 5) != 0) {
        return 0;
    }

    argv[0] = "--argstr";
    argv[1] = "srcType";
    argv[2] = "path";
    argv[3] = "--argstr";
    argv[4] = "srcArgs";
    argv[5] = source + 5;

    return 6;
}


/* A list of its own, each string to be freed; what nix->env names wins. */

static char **
nixery_nix_env(nixery_nix_call_t *call)
{
    int           program, root;
    char        **env;
    size_t        i, n;
    char *const  *p;

    n = 5;

    for (p = call->nix->env; p != NULL && *p != NULL; p++) {
        n++;
    }

    env = calloc(n, sizeof(char *));
    if (env == NULL) {
        return NULL;
    }

    n = 0;

    for (p = call->nix->env; p != NULL && *p != NULL; p++) {
        env[n] = strdup(*p);
        if (env[n++] == NULL) {
            goto failed;
        }
    }

    program = (int) (strrchr(call->nix->program, '/') - call->nix->program);
    root = (int) (strrchr(call->root, '/') - call->root);

    if (nixery_nix_env_add(env, &n, "PATH=%.*s:/usr/local/bin:/usr/bin:/bin",
                           program, call->nix->program)
        == NIXERY_OK
        && nixery_nix_env_add(env, &n, "HOME=%s", call->home) == NIXERY_OK
        && nixery_nix_env_add(env, &n, "XDG_CACHE_HOME=%s/.cache", call->home)
           == NIXERY_OK
        && nixery_nix_env_add(env, &n, "TMPDIR=%.*s", root, call->root)
           == NIXERY_OK)
    {
        return env;
    }

failed:

    for (i = 0; i < n; i++) {
        free(env[i]);
    }

    free(env);

    return NULL;
}


/* The format begins with the variable's name. */

static int
nixery_nix_env_add(char **env, size_t *n, const char *fmt, ...)
{
    int      rc;
    size_t   i, len;
    va_list  args;

    len = strchr(fmt, '=') - fmt + 1;

    for (i = 0; i < *n; i++) {
        if (strncmp(env[i], fmt, len) == 0) {
            return NIXERY_OK;
        }
    }

    va_start(args, fmt);
    rc = vasprintf(&env[*n], fmt, args);
    va_end(args);

    if (rc == -1) {
        env[*n] = NULL;
        return NIXERY_ERROR;
    }

    (*n)++;

    return NIXERY_OK;
}


static int
nixery_nix_output(nixery_nix_call_t *call, char **path, nixery_error_t *err)
{
    int            inside;
    char          *text, *end, *real;
    nixery_buf_t  *out;

    out = &call->process.out;

    if (out->len == 0) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "nix-build printed no store path");
    }

    text = out->data;
    end = strchr(text, '\n');

    if (call->process.overflow || strlen(text) != out->len
        || (end != NULL && end[1] != '\0'))
    {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "nix-build printed more than one store path;"
                                " the builder must be a single derivation");
    }

    if (end != NULL) {
        *end = '\0';
    }

    if (!nixery_store_path_valid(text)) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "nix-build printed \"%.255s\", which is not a"
                                " path in " NIXERY_STORE,
                                text);
    }

    real = realpath(text, NULL);

    if (real == NULL) {
        return nixery_error_errno(err, NIXERY_ERROR_RESULT, errno,
                                  "nix-build printed \"%s\", which can't be"
                                  " read",
                                  text);
    }

    inside = nixery_in_store(real);
    free(real);

    if (!inside) {
        return nixery_error_set(err, NIXERY_ERROR_RESULT,
                                "nix-build printed \"%s\", which leads out"
                                " of " NIXERY_STORE,
                                text);
    }

    *path = strdup(text);

    return *path != NULL ? NIXERY_OK : nixery_error_nomem(err);
}


static uint64_t
nixery_nix_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}
