
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <math.h>
#include "nixery_json.h"
#include "nixery_text.h"


/*
 * A reader that builds nothing: it says whether a text is JSON as RFC 8259 has
 * it, and where values stand.  cJSON makes the tree afterwards.
 */

typedef struct {
    const char       *text;
    const char       *pos;
    const char       *end;
    const char       *what;
    size_t            nodes;
    unsigned          depth;
    nixery_error_t   *err;
} nixery_json_t;


static int nixery_json_value(nixery_json_t *js);
static int nixery_json_object(nixery_json_t *js);
static int nixery_json_array(nixery_json_t *js);
static int nixery_json_string(nixery_json_t *js);
static int nixery_json_escape(nixery_json_t *js);
static int nixery_json_hex4(nixery_json_t *js, unsigned *code);
static int nixery_json_number(nixery_json_t *js);
static size_t nixery_json_digits(nixery_json_t *js);
static int nixery_json_literal(nixery_json_t *js, const char *literal);
static void nixery_json_blanks(nixery_json_t *js);
static int nixery_json_bad(nixery_json_t *js, const char *why);
static int nixery_json_unique(const cJSON *item, const char *what,
    nixery_error_t *err);
static int nixery_json_compare(const void *one, const void *two);


cJSON *
nixery_json_parse(const char *text, size_t len, const char *what,
    nixery_error_t *err)
{
    cJSON          *json;
    nixery_json_t   js;

    memset(&js, 0, sizeof(nixery_json_t));

    js.text = text;
    js.pos = text;
    js.end = text + len;
    js.what = what;
    js.err = err;

    if (nixery_json_value(&js) != NIXERY_OK) {
        return NULL;
    }

    nixery_json_blanks(&js);

    if (js.pos != js.end) {
        (void) nixery_json_bad(&js, "something stands behind the value");
        return NULL;
    }

    json = cJSON_ParseWithLength(text, len);
    if (json == NULL) {
        (void) nixery_error_nomem(err);
        return NULL;
    }

    if (nixery_json_unique(json, what, err) != NIXERY_OK) {
        cJSON_Delete(json);
        return NULL;
    }

    return json;
}


int
nixery_json_locate(const char *text, size_t len, const char *key,
    const char **value, size_t *value_len)
{
    int             found;
    size_t          n;
    const char     *start;
    nixery_json_t   js;
    nixery_error_t  err;

    memset(&err, 0, sizeof(nixery_error_t));
    memset(&js, 0, sizeof(nixery_json_t));

    js.text = text;
    js.pos = text;
    js.end = text + len;
    js.what = "";
    js.err = &err;

    n = strlen(key);
    nixery_json_blanks(&js);

    if (js.pos == js.end || *js.pos != '{') {
        return NIXERY_DECLINED;
    }

    js.pos++;

    for ( ;; ) {
        nixery_json_blanks(&js);

        if (js.pos == js.end || *js.pos != '"') {
            break;
        }

        start = js.pos + 1;

        if (nixery_json_string(&js) != NIXERY_OK) {
            break;
        }

        found = (size_t) (js.pos - 1 - start) == n
                && memcmp(start, key, n) == 0;

        nixery_json_blanks(&js);
        js.pos++;                       /* ":" */
        nixery_json_blanks(&js);

        start = js.pos;

        if (nixery_json_value(&js) != NIXERY_OK) {
            break;
        }

        if (found) {
            *value = start;
            *value_len = js.pos - start;
            return NIXERY_OK;
        }

        nixery_json_blanks(&js);

        if (js.pos == js.end || *js.pos != ',') {
            break;
        }

        js.pos++;
    }

    nixery_error_free(&err);

    return NIXERY_DECLINED;
}


static int
nixery_json_value(nixery_json_t *js)
{
    int  rc;

    nixery_json_blanks(js);

    if (js->pos == js->end) {
        return nixery_json_bad(js, "it ends too early");
    }

    if (++js->nodes > NIXERY_JSON_NODES_MAX) {
        return nixery_json_bad(js, "it has too many values");
    }

    switch (*js->pos) {

    case '{':
    case '[':
        if (++js->depth > NIXERY_JSON_DEPTH_MAX) {
            return nixery_json_bad(js, "it is nested too deeply");
        }

        rc = *js->pos == '{' ? nixery_json_object(js) : nixery_json_array(js);
        js->depth--;

        return rc;

    case '"':
        return nixery_json_string(js);

    case 't':
        return nixery_json_literal(js, "true");

    case 'f':
        return nixery_json_literal(js, "false");

    case 'n':
        return nixery_json_literal(js, "null");

    default:
        return nixery_json_number(js);
    }
}


static int
nixery_json_object(nixery_json_t *js)
{
    js->pos++;
    nixery_json_blanks(js);

    if (js->pos != js->end && *js->pos == '}') {
        js->pos++;
        return NIXERY_OK;
    }

    for ( ;; ) {
        nixery_json_blanks(js);

        if (js->pos == js->end || *js->pos != '"') {
            return nixery_json_bad(js, "a key is expected");
        }

        if (nixery_json_string(js) != NIXERY_OK) {
            return NIXERY_ERROR;
        }

        nixery_json_blanks(js);

        if (js->pos == js->end || *js->pos != ':') {
            return nixery_json_bad(js, "\":\" is expected");
        }

        js->pos++;

        if (nixery_json_value(js) != NIXERY_OK) {
            return NIXERY_ERROR;
        }

        nixery_json_blanks(js);

        if (js->pos != js->end && *js->pos == ',') {
            js->pos++;
            continue;
        }

        if (js->pos != js->end && *js->pos == '}') {
            js->pos++;
            return NIXERY_OK;
        }

        return nixery_json_bad(js, "\",\" or \"}\" is expected");
    }
}


static int
nixery_json_array(nixery_json_t *js)
{
    js->pos++;
    nixery_json_blanks(js);

    if (js->pos != js->end && *js->pos == ']') {
        js->pos++;
        return NIXERY_OK;
    }

    for ( ;; ) {
        if (nixery_json_value(js) != NIXERY_OK) {
            return NIXERY_ERROR;
        }

        nixery_json_blanks(js);

        if (js->pos != js->end && *js->pos == ',') {
            js->pos++;
            continue;
        }

        if (js->pos != js->end && *js->pos == ']') {
            js->pos++;
            return NIXERY_OK;
        }

        return nixery_json_bad(js, "\",\" or \"]\" is expected");
    }
}


static int
nixery_json_string(nixery_json_t *js)
{
    size_t         n;
    unsigned char  c;

    js->pos++;

    while (js->pos != js->end) {
        c = (unsigned char) *js->pos;

        if (c == '"') {
            js->pos++;
            return NIXERY_OK;
        }

        if (c < 0x20) {
            return nixery_json_bad(js, "a string has a control character");
        }

        if (c == '\\') {
            if (nixery_json_escape(js) != NIXERY_OK) {
                return NIXERY_ERROR;
            }

        } else if (c < 0x80) {
            js->pos++;

        } else {
            n = nixery_text_utf8(js->pos, js->end);

            if (n == 0) {
                return nixery_json_bad(js, "a string is not UTF-8");
            }

            js->pos += n;
        }
    }

    return nixery_json_bad(js, "it ends within a string");
}


static int
nixery_json_escape(nixery_json_t *js)
{
    unsigned  code, low;

    js->pos++;

    if (js->pos == js->end) {
        return nixery_json_bad(js, "it ends within a string");
    }

    if (*js->pos != 'u') {
        if (strchr("\"\\/bfnrt", *js->pos) == NULL || *js->pos == '\0') {
            return nixery_json_bad(js, "a string has an unknown escape");
        }

        js->pos++;
        return NIXERY_OK;
    }

    if (nixery_json_hex4(js, &code) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (code == 0) {
        return nixery_json_bad(js, "a string has a NUL");
    }

    if (code < 0xd800 || code > 0xdfff) {
        return NIXERY_OK;
    }

    if (code > 0xdbff || js->end - js->pos < 2 || js->pos[0] != '\\'
        || js->pos[1] != 'u')
    {
        return nixery_json_bad(js, "a string has half a surrogate pair");
    }

    js->pos++;

    if (nixery_json_hex4(js, &low) != NIXERY_OK) {
        return NIXERY_ERROR;
    }

    if (low < 0xdc00 || low > 0xdfff) {
        return nixery_json_bad(js, "a string has half a surrogate pair");
    }

    return NIXERY_OK;
}


/* js->pos is at the "u". */

static int
nixery_json_hex4(nixery_json_t *js, unsigned *code)
{
    int   i;
    char  c;

    js->pos++;
    *code = 0;

    for (i = 0; i < 4; i++) {
        c = js->pos == js->end ? '\0' : *js->pos;

        if (c >= '0' && c <= '9') {
            *code = *code * 16 + (unsigned) (c - '0');

        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            *code = *code * 16 + (unsigned) ((c | 0x20) - 'a') + 10;

        } else {
            return nixery_json_bad(js, "a string has an unknown escape");
        }

        js->pos++;
    }

    return NIXERY_OK;
}


static int
nixery_json_number(nixery_json_t *js)
{
    char         buf[64];
    size_t       n;
    const char  *start;

    start = js->pos;

    if (*js->pos == '-') {
        js->pos++;
    }

    if (js->pos != js->end && *js->pos == '0') {
        js->pos++;

    } else if (nixery_json_digits(js) == 0) {
        js->pos = start;
        return nixery_json_bad(js, "a value is expected");
    }

    if (js->pos != js->end && *js->pos == '.') {
        js->pos++;

        if (nixery_json_digits(js) == 0) {
            return nixery_json_bad(js, "a digit is expected");
        }
    }

    if (js->pos != js->end && (*js->pos == 'e' || *js->pos == 'E')) {
        js->pos++;

        if (js->pos != js->end && (*js->pos == '-' || *js->pos == '+')) {
            js->pos++;
        }

        if (nixery_json_digits(js) == 0) {
            return nixery_json_bad(js, "a digit is expected");
        }
    }

    /* cJSON itself reads no more than 63 characters of a number */

    n = js->pos - start;

    if (n >= sizeof(buf)) {
        js->pos = start;
        return nixery_json_bad(js, "a number is too long");
    }

    memcpy(buf, start, n);
    buf[n] = '\0';

    if (!isfinite(strtod(buf, NULL))) {
        js->pos = start;
        return nixery_json_bad(js, "a number is too large");
    }

    return NIXERY_OK;
}


static size_t
nixery_json_digits(nixery_json_t *js)
{
    const char  *start;

    start = js->pos;

    while (js->pos != js->end && *js->pos >= '0' && *js->pos <= '9') {
        js->pos++;
    }

    return js->pos - start;
}


static int
nixery_json_literal(nixery_json_t *js, const char *literal)
{
    size_t  n;

    n = strlen(literal);

    if ((size_t) (js->end - js->pos) < n || memcmp(js->pos, literal, n) != 0) {
        return nixery_json_bad(js, "a value is expected");
    }

    js->pos += n;

    return NIXERY_OK;
}


static void
nixery_json_blanks(nixery_json_t *js)
{
    while (js->pos != js->end
           && (*js->pos == ' ' || *js->pos == '\n' || *js->pos == '\r'
               || *js->pos == '\t'))
    {
        js->pos++;
    }
}


static int
nixery_json_bad(nixery_json_t *js, const char *why)
{
    return nixery_error_set(js->err, NIXERY_ERROR_RESULT,
                            "%s is not valid JSON: %s, at byte %zu", js->what,
                            why, (size_t) (js->pos - js->text));
}


/*
 * Names are compared as they mean, not as they are escaped, so this looks at
 * the tree; sorted, because a hostile object may have a million of them.
 */

static int
nixery_json_unique(const cJSON *item, const char *what, nixery_error_t *err)
{
    int            rc;
    size_t         n, i;
    const char   **keys;
    const cJSON   *child;

    n = 0;

    for (child = item->child; child != NULL; child = child->next) {
        if (child->child != NULL
            && nixery_json_unique(child, what, err) != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }

        n++;
    }

    if (!cJSON_IsObject(item) || n < 2) {
        return NIXERY_OK;
    }

    keys = malloc(n * sizeof(char *));
    if (keys == NULL) {
        return nixery_error_nomem(err);
    }

    i = 0;

    for (child = item->child; child != NULL; child = child->next) {
        keys[i++] = child->string;
    }

    qsort(keys, n, sizeof(char *), nixery_json_compare);

    rc = NIXERY_OK;

    for (i = 1; i < n; i++) {
        if (strcmp(keys[i - 1], keys[i]) == 0) {
            rc = nixery_error_set(err, NIXERY_ERROR_RESULT,
                                  "%s has the key \"%.64s\" twice in one"
                                  " object", what, keys[i]);
            break;
        }
    }

    free(keys);

    return rc;
}


static int
nixery_json_compare(const void *one, const void *two)
{
    return strcmp(*(const char *const *) one, *(const char *const *) two);
}
