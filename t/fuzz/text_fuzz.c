
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/* What programs print, on its way to a person. */

#include "fuzz.h"


static void fuzz_last(const char *text, size_t lines, size_t max);


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
