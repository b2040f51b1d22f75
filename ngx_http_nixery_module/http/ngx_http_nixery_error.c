
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


/* what is around the parts of an answer */
#define NGX_HTTP_NIXERY_JSON                                                 \
    "{\"errors\":[{\"code\":\"\",\"message\":\"\","                            \
    "\"detail\":{\"build\":\"\",\"log\":[\"\"]}}]}\n"

#define ngx_http_nixery_cat(p, text)                                         \
    ngx_cpymem(p, text, sizeof(text) - 1)


/* What an error answer is made of, before it is JSON. */

typedef struct {
    ngx_uint_t    status;
    ngx_str_t     code;
    ngx_str_t     message;
    ngx_str_t     build;     /* empty: no detail */
    ngx_str_t     log;       /* lines */
} ngx_http_nixery_fault_t;


static ngx_int_t ngx_http_nixery_send_fault(ngx_http_request_t *r,
    ngx_http_nixery_fault_t *fault);
static size_t ngx_http_nixery_text_len(ngx_str_t *text);
static u_char *ngx_http_nixery_text(u_char *p, ngx_str_t *text);
static u_char *ngx_http_nixery_lines(u_char *p, ngx_str_t *log);


/* by nixery_error_e; NIXERY_ERROR_NONE cannot be */

static const struct {
    ngx_uint_t    status;
    const char   *code;
} ngx_http_nixery_faults[] = {
    { 500, "UNKNOWN" },
    { 400, "NAME_INVALID" },
    { 400, "TAG_INVALID" },
    { 400, "DIGEST_INVALID" },
    { 404, "MANIFEST_UNKNOWN" },   /* NIXERY_ERROR_NOT_FOUND */
    { 404, "MANIFEST_UNKNOWN" },   /* NIXERY_ERROR_PACKAGE */
    { 500, "UNKNOWN" },            /* NIXERY_ERROR_NIX */
    { 500, "UNKNOWN" },            /* NIXERY_ERROR_RESULT */
    { 504, "UNKNOWN" },            /* NIXERY_ERROR_TIMEOUT */
    { 429, "TOOMANYREQUESTS" },    /* NIXERY_ERROR_CANCELED */
    { 502, "UNKNOWN" },            /* NIXERY_ERROR_STORAGE */
    { 502, "UNKNOWN" },            /* NIXERY_ERROR_SOURCE */
    { 500, "UNKNOWN" }             /* NIXERY_ERROR_SYSTEM */
};

static ngx_str_t  ngx_http_nixery_error_type = ngx_string("application/json");


ngx_int_t
ngx_http_nixery_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *fmt, ...)
{
    u_char                   message[NGX_MAX_ERROR_STR];
    va_list                  args;
    ngx_http_nixery_fault_t  fault;

    ngx_memzero(&fault, sizeof(ngx_http_nixery_fault_t));

    fault.status = status;
    fault.code.data = (u_char *) code;
    fault.code.len = ngx_strlen(code);
    fault.message.data = message;

    va_start(args, fmt);
    fault.message.len = ngx_vslprintf(message, message + NGX_MAX_ERROR_STR,
                                      fmt, args)
                        - message;
    va_end(args);

    return ngx_http_nixery_send_fault(r, &fault);
}


ngx_int_t
ngx_http_nixery_core_error(ngx_http_request_t *r, nixery_error_t *err,
    ngx_http_nixery_build_t *build)
{
    u_char                   *p;
    size_t                    len;
    ngx_uint_t                status, level;
    const char               *message, *code;
    ngx_http_nixery_fault_t   fault;

    status = ngx_http_nixery_faults[err->kind].status;
    code = ngx_http_nixery_faults[err->kind].code;
    message = err->message ? err->message : "the storage is not open";

    if (err->kind == NIXERY_ERROR_CANCELED) {
        message = "the server is shutting down, try again";
    }

    /* what a build met was logged once, when it ended */

    if (build == NULL) {
        level = (status == NGX_HTTP_BAD_REQUEST) ? NGX_LOG_INFO : NGX_LOG_ERR;

        ngx_log_error(level, r->connection->log, 0, "nixery: %s", message);

        return ngx_http_nixery_error(r, status, code, "%s", message);
    }

    ngx_memzero(&fault, sizeof(ngx_http_nixery_fault_t));

    fault.status = status;
    fault.code.data = (u_char *) code;
    fault.code.len = ngx_strlen(code);
    fault.build = build->id;

    if (err->log != NULL) {
        fault.log.data = (u_char *) err->log;
        fault.log.len = ngx_strlen(err->log);
    }

    /* few clients show more than the message: it has to say it all */

    len = ngx_strlen(message);

    p = ngx_pnalloc(r->pool, len + sizeof(" (build )\n") - 1 + build->id.len
                             + fault.log.len);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    fault.message.data = p;

    p = ngx_cpymem(p, message, len);

    if (status >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        p = ngx_sprintf(p, " (build %V)", &build->id);

        if (fault.log.len) {
            *p++ = '\n';
            p = ngx_cpymem(p, fault.log.data, fault.log.len);
        }
    }

    fault.message.len = p - fault.message.data;

    return ngx_http_nixery_send_fault(r, &fault);
}


/* OCI distribution specification 1.1, "Error Codes" */

static ngx_int_t
ngx_http_nixery_send_fault(ngx_http_request_t *r,
    ngx_http_nixery_fault_t *fault)
{
    u_char     *p;
    size_t      len;
    ngx_str_t   body;

    if (fault->status == NGX_HTTP_TOO_MANY_REQUESTS
        && ngx_http_nixery_header(r, "Retry-After", (u_char *) "5", 1)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* a line's end in the log becomes the three bytes between two strings */

    len = sizeof(NGX_HTTP_NIXERY_JSON) - 1 + fault->code.len
          + ngx_http_nixery_text_len(&fault->message) + fault->build.len
          + ngx_http_nixery_text_len(&fault->log) + 2 * fault->log.len;

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.data = p;

    p = ngx_sprintf(p, "{\"errors\":[{\"code\":\"%V\",\"message\":\"",
                    &fault->code);
    p = ngx_http_nixery_text(p, &fault->message);
    *p++ = '"';

    if (fault->build.len) {
        p = ngx_sprintf(p, ",\"detail\":{\"build\":\"%V\"", &fault->build);

        if (fault->log.len) {
            p = ngx_http_nixery_cat(p, ",\"log\":[");
            p = ngx_http_nixery_lines(p, &fault->log);
            *p++ = ']';
        }

        *p++ = '}';
    }

    p = ngx_http_nixery_cat(p, "}]}\n");

    body.len = p - body.data;

    return ngx_http_nixery_send(r, fault->status, &ngx_http_nixery_error_type,
                                &body);
}


static size_t
ngx_http_nixery_text_len(ngx_str_t *text)
{
    return text->len + ngx_escape_json(NULL, text->data, text->len);
}


static u_char *
ngx_http_nixery_text(u_char *p, ngx_str_t *text)
{
    return (u_char *) ngx_escape_json(p, text->data, text->len);
}


/* Each line becomes a string of a list. */

static u_char *
ngx_http_nixery_lines(u_char *p, ngx_str_t *log)
{
    u_char     *last, *end;
    ngx_str_t   line;

    line.data = log->data;
    last = log->data + log->len;

    for ( ;; ) {
        end = ngx_strlchr(line.data, last, '\n');
        line.len = (end ? end : last) - line.data;

        *p++ = '"';
        p = ngx_http_nixery_text(p, &line);
        *p++ = '"';

        if (end == NULL || end + 1 == last) {
            return p;
        }

        *p++ = ',';
        line.data = end + 1;
    }
}
