
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_json.h"
#include "nixery_oci.h"


#define NIXERY_DOCKER_MANIFEST                                               \
    "application/vnd.docker.distribution.manifest.v2+json"
#define NIXERY_DOCKER_CONFIG                                                 \
    "application/vnd.docker.container.image.v1+json"

#define NIXERY_OCI_TYPE_MAX  127   /* RFC 6838: bytes behind the slash */


/* A piece of JSON text as it stands there, strings without their quotes. */

typedef struct {
    const char  *start;
    size_t       len;
} nixery_span_t;


typedef struct {
    const char  *p;
    const char  *end;
} nixery_scan_t;


/* What tells manifests apart: members of the outermost object. */

typedef struct {
    nixery_span_t    media_type;
    nixery_span_t    config;
    unsigned         schema:1;      /* schemaVersion is 2 */
    unsigned         typed:1;       /* has a mediaType */
    unsigned         layers:1;
    unsigned         manifests:1;
} nixery_shape_t;


static int nixery_shape_read(nixery_shape_t *shape, const char *json,
    size_t len);
static void nixery_shape_member(nixery_shape_t *shape,
    const nixery_span_t *key, const nixery_span_t *value);
static int nixery_span_is(const nixery_span_t *span, const char *s);
static int nixery_oci_type_valid(const nixery_span_t *type);

static int nixery_scan_value(nixery_scan_t *s, unsigned depth,
    nixery_shape_t *shape);
static int nixery_scan_object(nixery_scan_t *s, unsigned depth,
    nixery_shape_t *shape);
static int nixery_scan_array(nixery_scan_t *s, unsigned depth);
static int nixery_scan_string(nixery_scan_t *s, nixery_span_t *span);
static int nixery_scan_number(nixery_scan_t *s);
static int nixery_scan_digits(nixery_scan_t *s);
static int nixery_scan_literal(nixery_scan_t *s, const char *literal);
static int nixery_scan_byte(nixery_scan_t *s, char c);
static void nixery_scan_space(nixery_scan_t *s);


int
nixery_oci_media_type(const char *json, size_t len, char **type)
{
    const char      *found;
    nixery_span_t    span;
    nixery_shape_t   shape, config;

    *type = NULL;

    if (nixery_shape_read(&shape, json, len) != NIXERY_OK) {
        return NIXERY_DECLINED;
    }

    if (shape.typed) {
        if (!nixery_oci_type_valid(&shape.media_type)) {
            return NIXERY_DECLINED;
        }

        span = shape.media_type;

    } else {
        if (!shape.schema) {
            return NIXERY_DECLINED;
        }

        if (shape.config.start != NULL && shape.layers) {
            found = NIXERY_OCI_MANIFEST;

            if (nixery_shape_read(&config, shape.config.start,
                                  shape.config.len)
                == NIXERY_OK
                && nixery_span_is(&config.media_type, NIXERY_DOCKER_CONFIG))
            {
                found = NIXERY_DOCKER_MANIFEST;
            }

        } else if (shape.manifests) {
            found = NIXERY_OCI_INDEX;

        } else {
            return NIXERY_DECLINED;
        }

        span.start = found;
        span.len = strlen(found);
    }

    *type = strndup(span.start, span.len);

    return (*type != NULL) ? NIXERY_OK : NIXERY_ERROR;
}


static int
nixery_shape_read(nixery_shape_t *shape, const char *json, size_t len)
{
    nixery_scan_t  s;

    memset(shape, 0, sizeof(nixery_shape_t));

    s.p = json;
    s.end = json + len;

    nixery_scan_space(&s);

    if (s.p == s.end || *s.p != '{') {
        return NIXERY_DECLINED;
    }

    if (nixery_scan_value(&s, 0, shape) != NIXERY_OK) {
        return NIXERY_DECLINED;
    }

    nixery_scan_space(&s);

    return (s.p == s.end) ? NIXERY_OK : NIXERY_DECLINED;
}


/* Of a key that is there twice, the last one counts, as most readers do. */

static void
nixery_shape_member(nixery_shape_t *shape, const nixery_span_t *key,
    const nixery_span_t *value)
{
    char  c;

    c = value->start[0];

    if (nixery_span_is(key, "mediaType")) {
        shape->typed = 1;
        shape->media_type.start = value->start;
        shape->media_type.len = 0;

        if (c == '"') {
            shape->media_type.start++;
            shape->media_type.len = value->len - 2;
        }

    } else if (nixery_span_is(key, "schemaVersion")) {
        shape->schema = nixery_span_is(value, "2");

    } else if (nixery_span_is(key, "config")) {
        memset(&shape->config, 0, sizeof(nixery_span_t));

        if (c == '{') {
            shape->config = *value;
        }

    } else if (nixery_span_is(key, "layers")) {
        shape->layers = (c == '[');

    } else if (nixery_span_is(key, "manifests")) {
        shape->manifests = (c == '[');
    }
}


static int
nixery_span_is(const nixery_span_t *span, const char *s)
{
    return span->len == strlen(s) && memcmp(span->start, s, span->len) == 0;
}


/* It becomes a response header: "application/" and a restricted name. */

static int
nixery_oci_type_valid(const nixery_span_t *type)
{
    size_t               i, n;
    static const char    prefix[] = "application/";
    static const char    others[] = "!#$&-^_.+";
    const unsigned char *p;

    n = sizeof(prefix) - 1;

    if (type->len <= n || type->len > n + NIXERY_OCI_TYPE_MAX
        || memcmp(type->start, prefix, n) != 0)
    {
        return 0;
    }

    p = (const unsigned char *) type->start;

    for (i = n; i < type->len; i++) {
        if ((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z')
            || (p[i] >= '0' && p[i] <= '9')
            || memchr(others, p[i], sizeof(others) - 1) != NULL)
        {
            continue;
        }

        return 0;
    }

    return 1;
}


/* RFC 8259, section 3; the shape is of the outermost object alone. */

static int
nixery_scan_value(nixery_scan_t *s, unsigned depth, nixery_shape_t *shape)
{
    nixery_span_t  span;

    if (s->p == s->end || depth == NIXERY_JSON_DEPTH_MAX) {
        return NIXERY_DECLINED;
    }

    switch (*s->p) {

    case '{':
        return nixery_scan_object(s, depth + 1, shape);

    case '[':
        return nixery_scan_array(s, depth + 1);

    case '"':
        return nixery_scan_string(s, &span);

    case 't':
        return nixery_scan_literal(s, "true");

    case 'f':
        return nixery_scan_literal(s, "false");

    case 'n':
        return nixery_scan_literal(s, "null");

    default:
        return nixery_scan_number(s);
    }
}


static int
nixery_scan_object(nixery_scan_t *s, unsigned depth, nixery_shape_t *shape)
{
    nixery_span_t  key, value;

    s->p++;
    nixery_scan_space(s);

    if (nixery_scan_byte(s, '}') == NIXERY_OK) {
        return NIXERY_OK;
    }

    for ( ;; ) {
        nixery_scan_space(s);

        if (s->p == s->end || *s->p != '"'
            || nixery_scan_string(s, &key) != NIXERY_OK)
        {
            return NIXERY_DECLINED;
        }

        nixery_scan_space(s);

        if (nixery_scan_byte(s, ':') != NIXERY_OK) {
            return NIXERY_DECLINED;
        }

        nixery_scan_space(s);

        value.start = s->p;

        if (nixery_scan_value(s, depth, NULL) != NIXERY_OK) {
            return NIXERY_DECLINED;
        }

        value.len = s->p - value.start;

        if (shape != NULL) {
            nixery_shape_member(shape, &key, &value);
        }

        nixery_scan_space(s);

        if (nixery_scan_byte(s, '}') == NIXERY_OK) {
            return NIXERY_OK;
        }

        if (nixery_scan_byte(s, ',') != NIXERY_OK) {
            return NIXERY_DECLINED;
        }
    }
}


static int
nixery_scan_array(nixery_scan_t *s, unsigned depth)
{
    s->p++;
    nixery_scan_space(s);

    if (nixery_scan_byte(s, ']') == NIXERY_OK) {
        return NIXERY_OK;
    }

    for ( ;; ) {
        nixery_scan_space(s);

        if (nixery_scan_value(s, depth, NULL) != NIXERY_OK) {
            return NIXERY_DECLINED;
        }

        nixery_scan_space(s);

        if (nixery_scan_byte(s, ']') == NIXERY_OK) {
            return NIXERY_OK;
        }

        if (nixery_scan_byte(s, ',') != NIXERY_OK) {
            return NIXERY_DECLINED;
        }
    }
}


static int
nixery_scan_string(nixery_scan_t *s, nixery_span_t *span)
{
    int  i;

    span->start = ++s->p;

    for ( /* void */ ; s->p < s->end; s->p++) {

        if (*s->p == '"') {
            span->len = s->p++ - span->start;
            return NIXERY_OK;
        }

        if ((unsigned char) *s->p < 0x20) {
            return NIXERY_DECLINED;
        }

        if (*s->p != '\\') {
            continue;
        }

        if (++s->p == s->end || *s->p == '\0'
            || strchr("\"\\/bfnrtu", *s->p) == NULL)
        {
            return NIXERY_DECLINED;
        }

        if (*s->p != 'u') {
            continue;
        }

        for (i = 0; i < 4; i++) {
            if (++s->p == s->end || *s->p == '\0'
                || strchr("0123456789abcdefABCDEF", *s->p) == NULL)
            {
                return NIXERY_DECLINED;
            }
        }
    }

    return NIXERY_DECLINED;
}


static int
nixery_scan_number(nixery_scan_t *s)
{
    (void) nixery_scan_byte(s, '-');

    if (nixery_scan_byte(s, '0') != NIXERY_OK
        && nixery_scan_digits(s) != NIXERY_OK)
    {
        return NIXERY_DECLINED;
    }

    if (nixery_scan_byte(s, '.') == NIXERY_OK
        && nixery_scan_digits(s) != NIXERY_OK)
    {
        return NIXERY_DECLINED;
    }

    if (nixery_scan_byte(s, 'e') == NIXERY_OK
        || nixery_scan_byte(s, 'E') == NIXERY_OK)
    {
        if (nixery_scan_byte(s, '-') != NIXERY_OK) {
            (void) nixery_scan_byte(s, '+');
        }

        return nixery_scan_digits(s);
    }

    return NIXERY_OK;
}


static int
nixery_scan_digits(nixery_scan_t *s)
{
    const char  *start;

    for (start = s->p; s->p < s->end; s->p++) {
        if (*s->p < '0' || *s->p > '9') {
            break;
        }
    }

    return (s->p > start) ? NIXERY_OK : NIXERY_DECLINED;
}


static int
nixery_scan_literal(nixery_scan_t *s, const char *literal)
{
    size_t  n;

    n = strlen(literal);

    if ((size_t) (s->end - s->p) < n || memcmp(s->p, literal, n) != 0) {
        return NIXERY_DECLINED;
    }

    s->p += n;

    return NIXERY_OK;
}


static int
nixery_scan_byte(nixery_scan_t *s, char c)
{
    if (s->p == s->end || *s->p != c) {
        return NIXERY_DECLINED;
    }

    s->p++;

    return NIXERY_OK;
}


static void
nixery_scan_space(nixery_scan_t *s)
{
    while (s->p < s->end
           && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n'
               || *s->p == '\r'))
    {
        s->p++;
    }
}
