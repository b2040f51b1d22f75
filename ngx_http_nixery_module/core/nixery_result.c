
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "nixery_json.h"
#include "nixery_result_form.h"


static int nixery_result_load(const char *path, nixery_buf_t *text,
    nixery_error_t *err);


int
nixery_result_read(nixery_result_t *result, const char *path,
    nixery_error_t *err)
{
    int           rc;
    nixery_buf_t  text;

    memset(&text, 0, sizeof(nixery_buf_t));
    memset(result, 0, sizeof(nixery_result_t));

    rc = nixery_result_load(path, &text, err);

    if (rc == NIXERY_OK) {
        rc = nixery_result_parse(result, text.data, text.len, err);
    }

    nixery_buf_free(&text);

    return rc;
}


int
nixery_result_parse(nixery_result_t *result, const char *text, size_t len,
    nixery_error_t *err)
{
    int     rc;
    cJSON  *json;

    memset(result, 0, sizeof(nixery_result_t));

    json = nixery_json_parse(text, len, "the builder's result", err);
    if (json == NULL) {
        return NIXERY_ERROR;
    }

    if (!cJSON_IsObject(json)) {
        rc = nixery_result_bad(err, "it is not an object");

    } else if (cJSON_GetObjectItemCaseSensitive(json, "error") != NULL) {
        rc = nixery_result_error(json, err);

    } else if (cJSON_GetObjectItemCaseSensitive(json, "manifest") != NULL) {
        rc = nixery_result_prebuilt(result, json, text, len, err);

    } else if (cJSON_GetObjectItemCaseSensitive(json, "graph") != NULL) {
        rc = nixery_result_closure(result, json, err);

    } else if (cJSON_GetObjectItemCaseSensitive(json, "runtimeGraph") != NULL) {
        rc = nixery_result_prepared(result, json, err);

    } else {
        rc = nixery_result_bad(err, "it has none of the keys \"error\","
                               " \"manifest\", \"graph\" and"
                               " \"runtimeGraph\"");
    }

    cJSON_Delete(json);

    if (rc != NIXERY_OK) {
        nixery_result_free(result);
    }

    return rc;
}


void
nixery_result_free(nixery_result_t *result)
{
    size_t  i;

    for (i = 0; i < result->nlocations; i++) {
        free(result->locations[i].path);
        free(result->locations[i].md5);
    }

    for (i = 0; i < result->nnodes; i++) {
        free(result->nodes[i].path);
        free(result->nodes[i].references);
    }

    free(result->locations);
    free(result->nodes);
    free(result->contents);
    free(result->tarball.path);
    free(result->system);
    free(result->revision);
    nixery_buf_free(&result->manifest);

    memset(result, 0, sizeof(nixery_result_t));
}


int
nixery_result_bad(nixery_error_t *err, const char *fmt, ...)
{
    int       rc;
    char     *text;
    va_list   args;

    va_start(args, fmt);
    rc = vasprintf(&text, fmt, args);
    va_end(args);

    if (rc == -1) {
        return nixery_error_nomem(err);
    }

    rc = nixery_error_set(err, NIXERY_ERROR_RESULT,
                          "the builder's result is malformed: %s", text);
    free(text);

    return rc;
}


int
nixery_result_hex(const char *s)
{
    return strlen(s) == NIXERY_HEX_LEN
           && strspn(s, "0123456789abcdef") == NIXERY_HEX_LEN;
}


static int
nixery_result_load(const char *path, nixery_buf_t *text, nixery_error_t *err)
{
    int          fd, rc;
    char        *buf;
    ssize_t      n;
    struct stat  sb;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd == -1) {
        return nixery_error_errno(err,
                                  errno == EMFILE || errno == ENFILE
                                      ? NIXERY_ERROR_SYSTEM
                                      : NIXERY_ERROR_RESULT,
                                  errno, "can't open the builder's result"
                                  " \"%s\"", path);
    }

    buf = NULL;
    rc = NIXERY_ERROR;

    if (fstat(fd, &sb) == -1) {
        (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't stat \"%s\"", path);

    } else if (!S_ISREG(sb.st_mode)) {
        (void) nixery_result_bad(err, "\"%s\" is not a regular file", path);

    } else if (sb.st_size > NIXERY_RESULT_MAX) {
        (void) nixery_result_bad(err, "it has %lld bytes, at most %d are read",
                                 (long long) sb.st_size, NIXERY_RESULT_MAX);

    } else if ((buf = malloc(65536)) == NULL) {
        (void) nixery_error_nomem(err);

    } else {
        while ((n = read(fd, buf, 65536)) > 0 || (n == -1 && errno == EINTR)) {
            if (n > 0 && nixery_buf_append(text, buf, n) != NIXERY_OK) {
                break;
            }
        }

        if (n == 0) {
            rc = nixery_buf_append(text, "", 0);
        }

        if (rc != NIXERY_OK && n == -1) {
            (void) nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                      "can't read \"%s\"", path);

        } else if (rc != NIXERY_OK) {
            (void) nixery_error_nomem(err);
        }
    }

    free(buf);
    (void) close(fd);

    return rc;
}
