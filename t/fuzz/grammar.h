
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_GRAMMAR_H_INCLUDED_
#define _NIXERY_GRAMMAR_H_INCLUDED_


#include <regex.h>
#include "fuzz.h"


/* An extended regular expression of POSIX, which the code is compared with. */

typedef struct {
    const char  *text;
    regex_t      regex;
    unsigned     compiled:1;
} fuzz_grammar_t;


static inline int
fuzz_matches(fuzz_grammar_t *grammar, const char *text)
{
    if (!grammar->compiled) {
        fuzz_check(regcomp(&grammar->regex, grammar->text,
                           REG_EXTENDED | REG_NOSUB)
                   == 0);
        grammar->compiled = 1;
    }

    return regexec(&grammar->regex, text, 0, NULL, 0) == 0;
}


/* Taken (NIXERY_OK) is what the grammar has, and nothing with a NUL in it. */

static inline void
fuzz_compare(fuzz_grammar_t *grammar, const char *text, size_t len, int rc)
{
    int    matches;
    char  *s;

    s = strndup(text, len);
    fuzz_check(s != NULL);

    matches = strlen(s) == len && fuzz_matches(grammar, s);

    free(s);

    fuzz_check(matches == (rc == NIXERY_OK));
}


#endif /* _NIXERY_GRAMMAR_H_INCLUDED_ */
