
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/*
 * Tags and references of requests, and URLs of repositories, compared with
 * grammars: of the OCI distribution specification, of git-check-ref-format(1),
 * and of RFC 3986, as far as they are taken.
 */

#include <stdio.h>
#include "grammar.h"
#include "nixery_source.h"
#include "nixery_url.h"


#define FUZZ_COMMIT   "0123456789abcdef0123456789abcdef01234567"

/* decoded, no control character */
#define FUZZ_ENCODED  "%[2-9a-fA-F][0-9a-fA-F]"
#define FUZZ_USERINFO "(([^%/?#]|" FUZZ_ENCODED ")*@)?"
#define FUZZ_HOST     "(\\[[^]/?#@]+\\]|[^]:/?#@[]+)"
#define FUZZ_PORT     "(:[0-9]{0,5})?"
#define FUZZ_REST     "([/?#].*)?$"

#define FUZZ_HTTP     "[hH][tT][tT][pP][sS]?"
#define FUZZ_SSH      "[sS][sS][hH]"
#define FUZZ_GIT      "[gG][iI][tT]"
#define FUZZ_FILE     "[fF][iI][lL][eE]"


static void fuzz_pin(const nixery_source_t *source, const char *text,
    size_t len, const char *tag);
static int fuzz_expected(const nixery_source_t *source, const char *tag,
    const char **id);
static void fuzz_argument(const nixery_source_t *source,
    const nixery_revision_t *revision);
static void fuzz_url(const char *text);
static int fuzz_url_expected(const char *text);
static void fuzz_url_parts(const nixery_url_t *url, const char *text);


static fuzz_grammar_t  fuzz_tags = {
    .text = "^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$"
};

static fuzz_grammar_t  fuzz_commits = { .text = "^[0-9a-f]{40}$" };

static fuzz_grammar_t  fuzz_refs = { .text = "^refs(/[!-~]+)+$" };

static fuzz_grammar_t  fuzz_no_refs = {
    .text = "[~^:?*[\\]|\\.\\.|@\\{|/\\.|//|/$|\\.$|\\.lock(/|$)"
};

static fuzz_grammar_t  fuzz_chars = {
    .text = "^[]!#$%&'()*+,./0-9:;=?@A-Z[_a-z~-]+$"
};

static fuzz_grammar_t  fuzz_urls = {
    .text = "^(" FUZZ_HTTP "://" FUZZ_USERINFO FUZZ_HOST FUZZ_PORT FUZZ_REST
            "|" FUZZ_SSH "://([^:/?#]*@)?" FUZZ_HOST FUZZ_PORT FUZZ_REST
            "|" FUZZ_GIT "://" FUZZ_HOST FUZZ_PORT FUZZ_REST
            "|" FUZZ_FILE ":///([^%?#]|" FUZZ_ENCODED ")*([?#].*)?$)"
};

/* options, and ports that are none */

static fuzz_grammar_t  fuzz_no_urls = {
    .text = "^(" FUZZ_HTTP "|" FUZZ_SSH "|" FUZZ_GIT ")://([^/?#]*@)?"
            "((-|%2[dD])[^/?#@]*|" FUZZ_HOST ":(0+|6553[6-9]|655[4-9][0-9]|"
            "65[6-9][0-9]{2}|6[6-9][0-9]{3}|[7-9][0-9]{4}))" FUZZ_REST
            "|^" FUZZ_SSH "://(-|%2[dD])"
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char             *text;
    nixery_source_t   source = { 0 };

    text = strndup((const char *) data, size);
    fuzz_check(text != NULL);

    source.name = "/a";
    fuzz_pin(&source, (const char *) data, size, text);

    source.kind = NIXERY_SOURCE_CHANNEL;
    source.name = "nixos-unstable";
    fuzz_pin(&source, (const char *) data, size, text);

    source.name = FUZZ_COMMIT;
    fuzz_pin(&source, (const char *) data, size, text);

    source.kind = NIXERY_SOURCE_GIT;
    source.name = "https://host/a";
    fuzz_pin(&source, (const char *) data, size, text);

    source.ref = "main";
    fuzz_pin(&source, (const char *) data, size, text);

    source.ref = FUZZ_COMMIT;
    fuzz_pin(&source, (const char *) data, size, text);

    if (strlen(text) == size) {
        fuzz_url(text);
    }

    free(text);

    return 0;
}


/* The tag is the text, if that has no NUL. */

static void
fuzz_pin(const nixery_source_t *source, const char *text, size_t len,
    const char *tag)
{
    int                 rc, expected;
    const char         *id;
    nixery_error_t      err = { 0 };
    nixery_revision_t   revision;

    memset(&revision, 'x', sizeof(nixery_revision_t));

    rc = nixery_source_pin(source, text, len, &revision, &err);

    id = "";
    expected = strlen(tag) == len ? fuzz_expected(source, tag, &id)
                                  : NIXERY_ERROR;

    fuzz_check(rc == expected);
    fuzz_check(*revision.ref == '\0' && strcmp(revision.id, id) == 0);

    if (rc == NIXERY_ERROR) {
        fuzz_check(err.kind == NIXERY_ERROR_TAG);

    } else {
        fuzz_argument(source, &revision);
    }

    fuzz_check_error(rc == NIXERY_DECLINED ? NIXERY_OK : rc, &err);
}


static int
fuzz_expected(const nixery_source_t *source, const char *tag, const char **id)
{
    if (source->kind == NIXERY_SOURCE_GIT && strncmp(tag, "refs/", 5) == 0
        && strlen(tag) <= NIXERY_REF_MAX && fuzz_matches(&fuzz_refs, tag)
        && !fuzz_matches(&fuzz_no_refs, tag))
    {
        return NIXERY_DECLINED;
    }

    if (!fuzz_matches(&fuzz_tags, tag)) {
        return NIXERY_ERROR;
    }

    if (source->kind == NIXERY_SOURCE_PATH) {
        return NIXERY_OK;
    }

    if (source->kind == NIXERY_SOURCE_CHANNEL) {
        tag = source->name;

    } else if (source->ref != NULL
               && (strcmp(tag, "latest") == 0 || strcmp(tag, "HEAD") == 0))
    {
        tag = source->ref;
    }

    if (!fuzz_matches(&fuzz_commits, tag)) {
        return NIXERY_DECLINED;
    }

    *id = tag;

    return NIXERY_OK;
}


static void
fuzz_argument(const nixery_source_t *source, const nixery_revision_t *revision)
{
    nixery_buf_t  text = { 0 };

    static const char *const  kinds[] = { "path!", "nixpkgs!", "git!" };

    fuzz_check(nixery_source_argument(source, revision, &text) == NIXERY_OK);
    fuzz_check(strncmp(text.data, kinds[source->kind],
                       strlen(kinds[source->kind]))
               == 0);
    fuzz_check(strstr(text.data, source->name) != NULL);

    nixery_buf_free(&text);
}


static void
fuzz_url(const char *text)
{
    int              rc;
    const char      *rest;
    nixery_url_t     url;
    nixery_error_t   err = { 0 };

    rc = nixery_url_parse(&url, text, "https ssh http git file", &err);

    fuzz_check((rc == NIXERY_OK) == fuzz_url_expected(text));

    if (rc == NIXERY_OK) {
        fuzz_url_parts(&url, text);
        nixery_url_free(&url);

    } else {

        /* nothing that may be secret is told */

        rest = strstr(text, "://");

        fuzz_check(err.kind == NIXERY_ERROR_SOURCE);
        fuzz_check(rest == NULL || strlen(rest) < 32
                   || strstr(err.message, rest + 3) == NULL);
    }

    fuzz_check_error(rc, &err);
}


static int
fuzz_url_expected(const char *text)
{
    return fuzz_matches(&fuzz_chars, text) && fuzz_matches(&fuzz_urls, text)
           && !fuzz_matches(&fuzz_no_urls, text);
}


static void
fuzz_url_parts(const nixery_url_t *url, const char *text)
{
    char            *host;
    size_t           len;
    nixery_url_t     bare;
    nixery_error_t   err = { 0 };

    len = strlen(url->shown);

    /* what programs get has no user, is the end of it, and parses again */

    fuzz_check(strncmp(url->bare, url->shown, len) == 0);
    fuzz_check(url->bare[len] == '\0' || strchr("?#", url->bare[len]) != NULL);

    host = strstr(url->bare, "://") + 3;
    fuzz_check(strcmp(text + strlen(text) - strlen(host), host) == 0);

    if (strcmp(url->scheme, "ssh") != 0) {
        fuzz_check(memchr(host, '@', strcspn(host, "/?#")) == NULL);
    }

    fuzz_check(nixery_url_parse(&bare, url->bare, url->scheme, &err)
               == NIXERY_OK);
    fuzz_check(bare.user == NULL && bare.password == NULL);
    fuzz_check(strcmp(bare.bare, url->bare) == 0
               && strcmp(bare.shown, url->shown) == 0);
    nixery_url_free(&bare);

    fuzz_check((url->user == NULL) == (url->password == NULL));
    fuzz_check(url->user == NULL || *url->scheme == 'h');
    fuzz_check((url->path != NULL) == (*url->scheme == 'f'));
    fuzz_check(url->path == NULL || *url->path == '/');
}
