
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_TEXT_H_INCLUDED_
#define _NIXERY_TEXT_H_INCLUDED_


#include "nixery_buf.h"


/*
 * Makes what a program printed fit for a person and for JSON: terminal escapes
 * and control characters go, lines stay, what is not UTF-8 becomes "?".
 * Works in place; NIXERY_ERROR: memory (of an empty buffer).
 */
int nixery_text_clean(nixery_buf_t *text);

/* The same of a string, which becomes one line. */
void nixery_text_line(char *text);

/*
 * Puts asterisks where one of the secrets (NULL at the end; or NULL) stands,
 * and takes user and password out of the URLs of http and https.  In place.
 */
void nixery_text_hide(char *text, const char *const *secrets);

/*
 * A copy of the last lines of a clean text, at most so many of them and about
 * so many bytes, cut between lines where that is possible.  NULL: memory.
 */
char *nixery_text_last(const char *text, size_t lines, size_t max);

/*
 * Bytes of the valid UTF-8 character of two to four bytes at p (RFC 3629,
 * section 4), or 0.
 */
size_t nixery_text_utf8(const char *p, const char *end);


#endif /* _NIXERY_TEXT_H_INCLUDED_ */
