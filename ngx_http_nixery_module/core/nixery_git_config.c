
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "nixery_file.h"
#include "nixery_git.h"


static int nixery_git_config_text(const nixery_fetch_t *fetch,
    nixery_buf_t *config);
static int nixery_git_config_ssh(const nixery_source_t *source,
    nixery_buf_t *config);
static int nixery_git_config_helper(const nixery_fetch_t *fetch,
    nixery_buf_t *config);
static int nixery_git_config_credentials(const nixery_fetch_t *fetch,
    nixery_error_t *err);
static int nixery_git_config_option(nixery_buf_t *config, const char *name,
    const char *path);
static int nixery_git_config_word(nixery_buf_t *config, const char *word);
static int nixery_git_config_value(nixery_buf_t *config, const char *text);
static int nixery_git_config_encode(nixery_buf_t *to, const char *s);
static int nixery_git_config_write(const nixery_fetch_t *fetch,
    const char *name, const nixery_buf_t *text, nixery_error_t *err);


int
nixery_git_config(const nixery_fetch_t *fetch, nixery_error_t *err)
{
    int           rc;
    nixery_buf_t  config;

    memset(&config, 0, sizeof(nixery_buf_t));

    if (nixery_git_config_text(fetch, &config) != NIXERY_OK) {
        rc = nixery_error_nomem(err);

    } else {
        rc = nixery_git_config_write(fetch, "gitconfig", &config, err);
    }

    nixery_buf_free(&config);

    if (rc == NIXERY_OK && fetch->nix->source->user != NULL) {
        rc = nixery_git_config_credentials(fetch, err);
    }

    return rc;
}


/*
 * Only the protocols that a source may have, wherever a redirect or a submodule
 * leads: that of files only to a source that is one, but Nix may copy what it
 * has fetched.  What belongs to another user is read like any other: an
 * operator named it.
 */

static int
nixery_git_config_text(const nixery_fetch_t *fetch, nixery_buf_t *config)
{
    int                     file;
    const char             *ca;
    const nixery_source_t  *source;

    source = fetch->nix->source;

    if (nixery_buf_puts(config, "[include]\n\tpath = ~/.gitconfig\n"
                                "[safe]\n\tdirectory = *\n"
                                "[init]\n\tdefaultBranch = main\n"
                                "[gc]\n\tautoDetach = false\n"
                                "[protocol]\n\tallow = never\n"
                                "[protocol \"https\"]\n\tallow = always\n"
                                "[protocol \"http\"]\n\tallow = always\n"
                                "[protocol \"ssh\"]\n\tallow = always\n"
                                "[protocol \"git\"]\n\tallow = always\n")
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    file = source->kind == NIXERY_SOURCE_PATH
           || strncmp(source->name, "file://", 7) == 0;

    if (nixery_buf_printf(config, "[protocol \"file\"]\n\tallow = %s\n",
                          file ? "always" : "user")
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    /* one variable for all that fetches: Nix, git, and the core itself */

    ca = nixery_env_get(fetch->env, "NIX_SSL_CERT_FILE");

    if (ca == NULL) {
        ca = nixery_env_get(fetch->env, "SSL_CERT_FILE");
    }

    if (ca != NULL
        && (nixery_buf_puts(config, "[http]\n\tsslCAInfo = \"") != NIXERY_OK
            || nixery_git_config_value(config, ca) != NIXERY_OK
            || nixery_buf_puts(config, "\"\n") != NIXERY_OK))
    {
        return NIXERY_ERROR;
    }

    if (nixery_git_config_ssh(source, config) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    return nixery_git_config_helper(fetch, config);
}


static int
nixery_git_config_ssh(const nixery_source_t *source, nixery_buf_t *config)
{
    if (nixery_buf_puts(config, "[core]\n\tsshCommand = \"ssh "
                                "-o BatchMode=yes -o ConnectTimeout=30 "
                                "-o StrictHostKeyChecking=yes")
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    if (source->key != NULL
        && (nixery_buf_puts(config, " -o IdentitiesOnly=yes") != NIXERY_OK
            || nixery_git_config_option(config, "IdentityFile", source->key)
               != NIXERY_OK))
    {
        return NIXERY_ERROR;
    }

    if (source->known_hosts != NULL
        && (nixery_buf_puts(config, " -o GlobalKnownHostsFile=/dev/null")
            != NIXERY_OK
            || nixery_git_config_option(config, "UserKnownHostsFile",
                                        source->known_hosts)
               != NIXERY_OK))
    {
        return NIXERY_ERROR;
    }

    return nixery_buf_puts(config, "\"\n");
}


/* Only asked: git would take what was refused out of the operator's file. */

static int
nixery_git_config_helper(const nixery_fetch_t *fetch, nixery_buf_t *config)
{
    int                     rc;
    char                   *own;
    const char             *file;
    const nixery_source_t  *source;

    source = fetch->nix->source;

    own = NULL;
    file = source->credentials;

    if (source->user != NULL) {
        if (asprintf(&own, "%s/git-credentials", fetch->work) == -1) {
            return NIXERY_ERROR;
        }

        file = own;
    }

    rc = nixery_buf_puts(config, "[credential]\n\thelper =\n");

    if (rc == NIXERY_OK && file != NULL
        && (nixery_buf_puts(config, "\thelper = \"!f() { "
                                    "test \\\"$1\\\" != get || "
                                    "git credential-store --file=")
            != NIXERY_OK
            || nixery_git_config_word(config, file) != NIXERY_OK
            || nixery_buf_puts(config, " get; }; f\"\n") != NIXERY_OK))
    {
        rc = NIXERY_ERROR;
    }

    free(own);

    return rc;
}


static int
nixery_git_config_credentials(const nixery_fetch_t *fetch, nixery_error_t *err)
{
    int                     rc;
    size_t                  scheme, host;
    nixery_buf_t            line;
    const nixery_source_t  *source;

    source = fetch->nix->source;

    memset(&line, 0, sizeof(nixery_buf_t));

    scheme = strstr(source->shown, "://") + 3 - source->shown;
    host = strcspn(source->shown + scheme, "/");

    if (nixery_buf_append(&line, source->shown, scheme) != NIXERY_OK
        || nixery_git_config_encode(&line, source->user) != NIXERY_OK
        || nixery_buf_puts(&line, ":") != NIXERY_OK
        || nixery_git_config_encode(&line, source->password) != NIXERY_OK
        || nixery_buf_puts(&line, "@") != NIXERY_OK
        || nixery_buf_append(&line, source->shown + scheme, host) != NIXERY_OK
        || nixery_buf_puts(&line, "\n") != NIXERY_OK)
    {
        rc = nixery_error_nomem(err);

    } else {
        rc = nixery_git_config_write(fetch, "git-credentials", &line, err);
    }

    nixery_buf_free(&line);

    return rc;
}


/* An option of ssh, which splits at blanks and replaces "%" and a letter. */

static int
nixery_git_config_option(nixery_buf_t *config, const char *name,
    const char *path)
{
    int           rc;
    const char   *p;
    nixery_buf_t  word;

    memset(&word, 0, sizeof(nixery_buf_t));

    rc = nixery_buf_puts(&word, "\"");

    for (p = path; rc == NIXERY_OK && *p != '\0'; p++) {

        if (*p == '"' || *p == '\\') {
            rc = nixery_buf_puts(&word, "\\");

        } else if (*p == '%') {
            rc = nixery_buf_puts(&word, "%");
        }

        if (rc == NIXERY_OK) {
            rc = nixery_buf_append(&word, p, 1);
        }
    }

    if (rc != NIXERY_OK || nixery_buf_puts(&word, "\"") != NIXERY_OK
        || nixery_buf_printf(config, " -o %s=", name) != NIXERY_OK)
    {
        rc = NIXERY_ERROR;

    } else {
        rc = nixery_git_config_word(config, word.data);
    }

    nixery_buf_free(&word);

    return rc;
}


/* One word of a shell's command, within a quoted value. */

static int
nixery_git_config_word(nixery_buf_t *config, const char *word)
{
    int          rc;
    char         text[2];
    const char  *p;

    text[1] = '\0';

    rc = nixery_buf_puts(config, "'");

    for (p = word; rc == NIXERY_OK && *p != '\0'; p++) {
        text[0] = *p;
        rc = nixery_git_config_value(config, *p == '\'' ? "'\\''" : text);
    }

    return rc == NIXERY_OK ? nixery_buf_puts(config, "'") : rc;
}


/* Within a quoted value, git-config(1), "Syntax". */

static int
nixery_git_config_value(nixery_buf_t *config, const char *text)
{
    int          rc;
    const char  *p;

    for (rc = NIXERY_OK, p = text; rc == NIXERY_OK && *p != '\0'; p++) {
        rc = *p == '\n'                 ? nixery_buf_puts(config, "\\n")
             : *p == '"' || *p == '\\' ? nixery_buf_printf(config, "\\%c", *p)
                                       : nixery_buf_append(config, p, 1);
    }

    return rc;
}


static int
nixery_git_config_encode(nixery_buf_t *to, const char *s)
{
    int                 rc;
    static const char   plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (rc = NIXERY_OK; rc == NIXERY_OK && *s != '\0'; s++) {
        rc = strchr(plain, *s) != NULL
                 ? nixery_buf_append(to, s, 1)
                 : nixery_buf_printf(to, "%%%02X", (unsigned char) *s);
    }

    return rc;
}


static int
nixery_git_config_write(const nixery_fetch_t *fetch, const char *name,
    const nixery_buf_t *text, nixery_error_t *err)
{
    int    fd, rc;
    char  *path;

    if (asprintf(&path, "%s/%s", fetch->work, name) == -1) {
        return nixery_error_nomem(err);
    }

    rc = NIXERY_OK;

    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
              0600);

    if (fd == -1 || nixery_file_write(fd, text->data, text->len) == -1) {
        rc = nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                "write \"%s\"", path);
    }

    if (fd != -1) {
        (void) close(fd);
    }

    free(path);

    return rc;
}
