
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/* What programs print, on its way to a person. */

#include "grammar.h"


static void fuzz_last(const char *text, size_t lines, size_t max);
static void fuzz_hide(const char *text);


static fuzz_grammar_t  fuzz_users = {
    .text = "[hH][tT][tT][pP][sS]?://[^/?# \t\n\"'<>]*@"
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char          *line;
    nixery_buf_t   text = { 0 }, again = { 0 };

    fuzz_check(nixery_buf_append(&text, data, size) == NIXERY_OK
               && nixery_text_clean(&text) == NIXERY_OK);

    fuzz_check(text.len <= size && strlen(text.data) == text.len);
    fuzz_check_text(text.data, "\n\t");

    /* what is clean stays as it is */

    fuzz_check(nixery_buf_append(&again, text.data, text.len) == NIXERY_OK
               && nixery_text_clean(&again) == NIXERY_OK
               && strcmp(again.data, text.data) == 0);

    fuzz_last(text.data, 1, 8);
    fuzz_last(text.data, 3, 64);
    fuzz_last(text.data, 20, 4096);

    fuzz_hide(text.data);

    line = strndup((const char *) data, size);
    fuzz_check(line != NULL);

    nixery_text_line(line);
    fuzz_check_text(line, "");

    free(line);
    nixery_buf_free(&text);
    nixery_buf_free(&again);

    return 0;
}


static void
fuzz_last(const char *text, size_t lines, size_t max)
{
    char    *last, *p;
    size_t   len, n;

    last = nixery_text_last(text, lines, max);
    fuzz_check(last != NULL);

    fuzz_check_text(last, "\n\t");

    n = strlen(last);
    fuzz_check(n <= max);

    /* the end of the text, but for the line feeds there */

    for (len = strlen(text); len != 0 && text[len - 1] == '\n'; len--) {
        /* void */
    }

    fuzz_check(n <= len && memcmp(text + len - n, last, n) == 0);
    fuzz_check(n != 0 || len == 0);

    for (p = last; (p = strchr(p, '\n')) != NULL; p++) {
        fuzz_check(--lines != 0);
    }

    free(last);
}


/* The first line is a secret, and so is its first half. */

static void
fuzz_hide(const char *text)
{
    char        *copy, *one, *two;
    size_t       len;
    const char  *secrets[3];

    len = strcspn(text, "\n");

    one = strndup(text, len / 2);
    two = strndup(text, len);
    copy = strdup(text);
    fuzz_check(one != NULL && two != NULL && copy != NULL);

    secrets[0] = one;
    secrets[1] = two;
    secrets[2] = NULL;

    nixery_text_hide(copy, secrets);

    fuzz_check(!fuzz_matches(&fuzz_users, copy));

    /* nothing is taken out but users */

    if (strstr(text, "://") == NULL) {
        fuzz_check(strlen(copy) == strlen(text));
        fuzz_check(strspn(copy, "*") >= len);
        fuzz_check(strchr(one, '*') != NULL || *one == '\0'
                   || strstr(copy, one) == NULL);
        fuzz_check(strchr(two, '*') != NULL || *two == '\0'
                   || strstr(copy, two) == NULL);
    }

    free(copy);
    free(two);
    free(one);
}
