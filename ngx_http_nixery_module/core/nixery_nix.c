
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "nixery_nix_call.h"


#define NIXERY_NIX_OUT_MAX    65536   /* bytes of standard output */
#define NIXERY_NIX_HEAD_MAX   4096    /* bytes kept of standard error */
#define NIXERY_NIX_TAIL_MAX   65536
#define NIXERY_NIX_GRACE      1000    /* ms: nix-build ends at once on TERM */
#define NIXERY_NIX_ARGUMENTS  11      /* the most that --argstr names */


/* A command line that is made; its strings belong to the call. */

typedef struct {
    const char  **argv;
    size_t        n;
} nixery_nix_argv_t;


static int nixery_nix_prepare(nixery_nix_call_t *call, nixery_error_t *err);
static int nixery_nix_source_arguments(nixery_nix_call_t *call);
static int nixery_nix_run(nixery_nix_call_t *call, nixery_buf_t *text,
    nixery_error_t *err);
static char **nixery_nix_argv(nixery_nix_call_t *call, const char *skip);
static void nixery_nix_options(nixery_nix_argv_t *argv,
    nixery_nix_call_t *call);
static void nixery_nix_argstr(nixery_nix_argv_t *argv, const char *name,
    const char *value);
static int nixery_nix_output(nixery_nix_call_t *call, char **path,
    nixery_error_t *err);


int
nixery_nix_build(const nixery_fetch_t *fetch,
    const nixery_nix_request_t *request, char **path, nixery_error_t *err)
{
    int                rc;
    nixery_buf_t       text;
    nixery_nix_call_t  call;

    memset(&call, 0, sizeof(nixery_nix_call_t));

    call.fetch = fetch;
    call.request = request;

    rc = nixery_nix_prepare(&call, err);

    while (rc == NIXERY_OK) {
        memset(&text, 0, sizeof(nixery_buf_t));

        rc = nixery_nix_run(&call, &text, err);

        if (rc == NIXERY_OK && call.process.status == 0) {
            rc = nixery_nix_output(&call, path, err);
            nixery_buf_free(&text);
            break;
        }

        if (rc == NIXERY_OK) {

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
    nixery_buf_free(&call.source);
    nixery_buf_free(&call.arguments);
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
nixery_nix_prepare(nixery_nix_call_t *call, nixery_error_t *err)
{
    cJSON                 *list;
    const nixery_image_t  *image;

    image = call->request->image;

    list = cJSON_CreateStringArray((const char *const *) image->packages,
                                   (int) image->npackages);
    if (list != NULL) {
        call->packages = cJSON_PrintUnformatted(list);
        cJSON_Delete(list);
    }

    if (call->packages == NULL
        || nixery_source_argument(call->fetch->nix->source,
                                  call->request->revision, &call->source)
           != NIXERY_OK
        || nixery_nix_source_arguments(call) != NIXERY_OK)
    {
        return nixery_error_nomem(err);
    }

    return NIXERY_OK;
}


/* What the builder of the newest Nixery takes in place of pkgSource. */

static int
nixery_nix_source_arguments(nixery_nix_call_t *call)
{
    int                       rc;
    char                     *text;
    cJSON                    *json;
    const char               *ref;
    const nixery_source_t    *source;
    const nixery_revision_t  *revision;

    source = call->fetch->nix->source;
    revision = call->request->revision;

    if (source->kind == NIXERY_SOURCE_PATH) {
        return nixery_buf_puts(&call->arguments, source->name);
    }

    if (source->kind == NIXERY_SOURCE_CHANNEL) {
        return nixery_buf_puts(&call->arguments,
                               nixery_commit_valid(revision->id,
                                                   strlen(revision->id))
                                   ? revision->id
                                   : source->name);
    }

    ref = revision->ref;

    json = cJSON_CreateObject();

    text = cJSON_AddStringToObject(json, "url", source->name) != NULL
           && (*ref == '\0'
               || cJSON_AddStringToObject(json, "ref", ref) != NULL)
           && cJSON_AddStringToObject(json, "rev", revision->id) != NULL
               ? cJSON_PrintUnformatted(json)
               : NULL;

    cJSON_Delete(json);

    rc = text != NULL ? nixery_buf_puts(&call->arguments, text)
                      : NIXERY_ERROR;

    cJSON_free(text);

    return rc;
}


static int
nixery_nix_run(nixery_nix_call_t *call, nixery_buf_t *text,
    nixery_error_t *err)
{
    int                rc;
    char              *skip, **argv;
    nixery_process_t  *process;

    process = &call->process;
    memset(process, 0, sizeof(nixery_process_t));

    skip = call->skip != NULL ? cJSON_PrintUnformatted(call->skip) : NULL;
    argv = nixery_nix_argv(call, skip);

    if (argv == NULL || (call->skip != NULL && skip == NULL)) {
        rc = nixery_error_nomem(err);

    } else {
        process->program = call->fetch->nix->program;
        process->argv = argv;
        process->grace = NIXERY_NIX_GRACE;
        process->out_max = NIXERY_NIX_OUT_MAX;
        process->err.mark = NIXERY_NIX_TRACE;
        process->err.head_max = NIXERY_NIX_HEAD_MAX;
        process->err.tail_max = NIXERY_NIX_TAIL_MAX;

        rc = nixery_fetch_run(call->fetch, process, text, err);
    }

    free(skip);
    free(argv);

    return rc;
}


static char **
nixery_nix_argv(nixery_nix_call_t *call, const char *skip)
{
    size_t                       n;
    char *const                 *option;
    nixery_nix_argv_t            argv;
    const nixery_source_t       *source;
    const nixery_nix_request_t  *request;

    static const char  *types[] = { "path", "nixpkgs", "git" };

    request = call->request;
    source = call->fetch->nix->source;

    n = 8 + 3 * NIXERY_NIX_ARGUMENTS;

    for (option = call->fetch->nix->options; option != NULL && *option;
         option += 2)
    {
        n += 3;
    }

    argv.n = 0;
    argv.argv = calloc(n, sizeof(char *));

    if (argv.argv == NULL) {
        return NULL;
    }

    argv.argv[argv.n++] = "nix-build";
    argv.argv[argv.n++] = "--out-link";
    argv.argv[argv.n++] = request->root;

    nixery_nix_options(&argv, call);

    nixery_nix_argstr(&argv, "name", request->image->name);
    nixery_nix_argstr(&argv, "packages", call->packages);
    nixery_nix_argstr(&argv, "pkgSource", call->source.data);
    nixery_nix_argstr(&argv, "system",
                      request->image->system ? request->image->system
                                             : call->fetch->nix->system);

    /* a builder that does not name them never sees them */

    nixery_nix_argstr(&argv, "skip", skip);
    nixery_nix_argstr(&argv, "srcType", types[source->kind]);
    nixery_nix_argstr(&argv, "srcArgs", call->arguments.data);
    nixery_nix_argstr(&argv, "revision",
                      source->kind != NIXERY_SOURCE_PATH
                          ? request->revision->id
                          : NULL);
    nixery_nix_argstr(&argv, "submodules", source->submodules ? "true" : NULL);
    nixery_nix_argstr(&argv, "channelUrl", request->channel_url);
    nixery_nix_argstr(&argv, "channelHash", request->channel_hash);

    argv.argv[argv.n] = call->fetch->nix->builder;

    return (char **) argv.argv;
}


static void
nixery_nix_options(nixery_nix_argv_t *argv, nixery_nix_call_t *call)
{
    int           ttl;
    char *const  *option;

    /* a builder that fetches by name must not get what Nix fetched before */

    ttl = call->request->revision->ref[0] != '\0';

    for (option = call->fetch->nix->options; option != NULL && *option;
         option += 2)
    {
        argv->argv[argv->n++] = "--option";
        argv->argv[argv->n++] = option[0];
        argv->argv[argv->n++] = option[1];

        if (strcmp(option[0], "tarball-ttl") == 0) {
            ttl = 0;
        }
    }

    if (ttl) {
        argv->argv[argv->n++] = "--option";
        argv->argv[argv->n++] = "tarball-ttl";
        argv->argv[argv->n++] = "0";
    }
}


static void
nixery_nix_argstr(nixery_nix_argv_t *argv, const char *name, const char *value)
{
    if (value == NULL) {
        return;
    }

    argv->argv[argv->n++] = "--argstr";
    argv->argv[argv->n++] = name;
    argv->argv[argv->n++] = value;
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
