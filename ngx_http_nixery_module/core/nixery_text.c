
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_text.h"


static size_t nixery_text_strip(char *text, size_t len);
static size_t nixery_text_escape(const char *p, const char *end);
static void nixery_text_hide_users(char *text);


int
nixery_text_clean(nixery_buf_t *text)
{
    if (nixery_buf_append(text, "", 0) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    text->len = nixery_text_strip(text->data, text->len);

    return NIXERY_OK;
}


void
nixery_text_line(char *text)
{
    char  *p;

    (void) nixery_text_strip(text, strlen(text));

    for (p = text; *p != '\0'; p++) {
        if (*p == '\n' || *p == '\t') {
            *p = ' ';
        }
    }
}


void
nixery_text_hide(char *text, const char *const *secrets)
{
    char               *p, *end;
    size_t              len;
    const char *const  *secret;

    /* what is to come is not hidden yet: one may stand within another */

    end = text;

    for (p = text; secrets != NULL && *p != '\0'; p++) {

        for (secret = secrets; *secret != NULL; secret++) {
            len = strlen(*secret);

            if (strncmp(p, *secret, len) == 0 && p + len > end) {
                end = p + len;
            }
        }

        if (p < end) {
            *p = '*';
        }
    }

    nixery_text_hide_users(text);
}


char *
nixery_text_last(const char *text, size_t lines, size_t max)
{
    size_t       len;
    const char  *p, *start;

    len = strlen(text);

    while (len != 0 && text[len - 1] == '\n') {
        len--;
    }

    start = text + len;

    for (p = start; p != text; p--) {
        if (p[-1] == '\n') {
            start = p;

            if (--lines == 0) {
                break;
            }
        }

        if ((size_t) (text + len - p) == max) {
            break;
        }
    }

    if (p == text || start == text + len) {
        start = p;
    }

    /* not within a character */
    while ((*start & 0xc0) == 0x80) {
        start++;
    }

    return strndup(start, text + len - start);
}


size_t
nixery_text_utf8(const char *p, const char *end)
{
    size_t                n, i;
    const unsigned char  *u;

    u = (const unsigned char *) p;

    n = u[0] >= 0xc2 && u[0] <= 0xdf   ? 2
        : u[0] >= 0xe0 && u[0] <= 0xef ? 3
        : u[0] >= 0xf0 && u[0] <= 0xf4 ? 4
                                       : 0;

    if (n == 0 || (size_t) (end - p) < n) {
        return 0;
    }

    for (i = 1; i < n; i++) {
        if ((u[i] & 0xc0) != 0x80) {
            return 0;
        }
    }

    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f)
        || (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f))
    {
        return 0;
    }

    return n;
}


/* In place, which is possible because nothing grows; returns the new length. */

static size_t
nixery_text_strip(char *text, size_t len)
{
    char           *to;
    size_t          n;
    const char     *p, *end;
    unsigned char   c;

    to = text;
    p = text;
    end = p + len;

    while (p != end) {
        c = (unsigned char) *p;

        if (c == 0x1b) {
            p += nixery_text_escape(p, end);

        } else if (c == '\n' || c == '\t' || (c >= 0x20 && c < 0x7f)) {
            *to++ = *p++;

        } else if (c < 0x80) {
            p++;

        } else {
            n = nixery_text_utf8(p, end);

            if (n == 0) {
                *to++ = '?';
                p++;

            } else {
                memmove(to, p, n);
                to += n;
                p += n;
            }
        }
    }

    *to = '\0';

    return to - text;
}


static void
nixery_text_hide_users(char *text)
{
    char  *p, *end, *at;

    /* the next URL may begin where this one's host seems to go on */

    for (p = text; (p = strstr(p, "://")) != NULL; p += 3) {
        end = p + 3 + strcspn(p + 3, "/?# \t\n\"'<>");
        at = memrchr(p + 3, '@', end - p - 3);

        if (at == NULL
            || ((p - text < 4 || strncasecmp(p - 4, "http", 4) != 0)
                && (p - text < 5 || strncasecmp(p - 5, "https", 5) != 0)))
        {
            continue;
        }

        memmove(p + 3, at + 1, strlen(at + 1) + 1);
    }
}


/* Length of the escape sequence at p (ECMA-48, 5.4): CSI, OSC, or another. */

static size_t
nixery_text_escape(const char *p, const char *end)
{
    const char  *q;

    q = p + 1;

    if (q == end) {
        return 1;
    }

    if (*q == '[') {
        for (q++; q != end && *q >= 0x20 && *q < 0x40; q++) {
            /* void */
        }

    } else if (*q == ']') {
        while (q != end && *q != '\a' && *q != '\n') {
            q++;
        }
    }

    return (q == end ? q : q + 1) - p;
}
