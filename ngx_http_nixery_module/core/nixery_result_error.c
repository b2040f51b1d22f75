
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "nixery_result_form.h"


#define NIXERY_RESULT_PACKAGES_MAX  1000
#define NIXERY_RESULT_MESSAGE_MAX   65536   /* bytes */


static int nixery_result_few(const cJSON *pkgs, const char *key,
    nixery_error_t *err);
static int nixery_result_list(nixery_buf_t *message, const char *one,
    const char *many, const cJSON *pkgs, const cJSON *leave,
    const cJSON *reasons);
static int nixery_result_has(const cJSON *array, const char *s);


/*
 * {"error": kind, "pkgs": [...], "reasons": {package: text}, "message": text},
 * the last two may be left out.
 */

int
nixery_result_error(const cJSON *json, nixery_error_t *err)
{
    int              rc, missing;
    const cJSON     *kind, *pkgs, *reasons, *message, *item;
    nixery_buf_t     text;
    nixery_error_e   e;

    kind = cJSON_GetObjectItemCaseSensitive(json, "error");
    pkgs = cJSON_GetObjectItemCaseSensitive(json, "pkgs");
    reasons = cJSON_GetObjectItemCaseSensitive(json, "reasons");
    message = cJSON_GetObjectItemCaseSensitive(json, "message");

    if (!cJSON_IsString(kind)) {
        return nixery_result_bad(err, "\"error\" is not a string");
    }

    if (pkgs != NULL && !cJSON_IsArray(pkgs)) {
        return nixery_result_bad(err, "\"pkgs\" is not a list");
    }

    if (reasons != NULL && !cJSON_IsObject(reasons)) {
        return nixery_result_bad(err, "\"reasons\" is not an object");
    }

    if (message != NULL && !cJSON_IsString(message)) {
        return nixery_result_bad(err, "\"message\" is not a string");
    }

    if (nixery_result_few(pkgs, "pkgs", err) != NIXERY_OK
        || nixery_result_few(reasons, "reasons", err) != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    cJSON_ArrayForEach(item, pkgs) {
        if (!cJSON_IsString(item)) {
            return nixery_result_bad(err, "\"pkgs\" has what is not a string");
        }
    }

    cJSON_ArrayForEach(item, reasons) {
        if (!cJSON_IsString(item)) {
            return nixery_result_bad(err, "a reason is not a string");
        }
    }

    missing = strcmp(kind->valuestring, "not_found") == 0;
    e = missing ? NIXERY_ERROR_NOT_FOUND : NIXERY_ERROR_PACKAGE;

    memset(&text, 0, sizeof(nixery_buf_t));
    rc = NIXERY_OK;

    if (message != NULL) {
        rc = nixery_buf_printf(&text, "%s", message->valuestring);
    }

    if (rc == NIXERY_OK && missing) {
        rc = nixery_result_list(&text, "package not found",
                                "packages not found", pkgs, NULL, NULL);
    }

    if (rc == NIXERY_OK && (reasons != NULL || !missing)) {
        rc = nixery_result_list(&text, "package can't be used",
                                "packages can't be used",
                                reasons != NULL ? reasons : pkgs,
                                missing ? pkgs : NULL, reasons);
    }

    if (rc == NIXERY_OK && text.len == 0) {
        rc = nixery_buf_printf(&text, "the builder says \"%s\"",
                               kind->valuestring);
    }

    if (rc != NIXERY_OK) {
        nixery_buf_free(&text);
        return nixery_error_nomem(err);
    }

    if (text.len > NIXERY_RESULT_MESSAGE_MAX) {
        rc = nixery_result_bad(err, "its error has more than %d bytes",
                               NIXERY_RESULT_MESSAGE_MAX);

    } else {
        rc = nixery_error_set(err, e, "%s", text.data);
    }

    nixery_buf_free(&text);

    return rc;
}


/* Each of them is looked for among the others. */

static int
nixery_result_few(const cJSON *pkgs, const char *key, nixery_error_t *err)
{
    int  n;

    n = cJSON_GetArraySize(pkgs);

    if (n <= NIXERY_RESULT_PACKAGES_MAX) {
        return NIXERY_OK;
    }

    return nixery_result_bad(err, "\"%s\" has %d entries, at most %d are taken",
                             key, n, NIXERY_RESULT_PACKAGES_MAX);
}


/* Adds 'title: "a", "b" (reason)', without those that stand in leave. */

static int
nixery_result_list(nixery_buf_t *message, const char *one, const char *many,
    const cJSON *pkgs, const cJSON *leave, const cJSON *reasons)
{
    size_t        n, left;
    const char   *name;
    const cJSON  *item, *reason;

    left = 0;

    cJSON_ArrayForEach(item, pkgs) {
        name = item->string != NULL ? item->string : item->valuestring;
        left += !nixery_result_has(leave, name);
    }

    if (left == 0) {
        return NIXERY_OK;
    }

    if (nixery_buf_printf(message, "%s%s: ", message->len ? "; " : "",
                          left == 1 ? one : many)
        != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    n = 0;

    cJSON_ArrayForEach(item, pkgs) {
        name = item->string != NULL ? item->string : item->valuestring;

        if (nixery_result_has(leave, name)) {
            continue;
        }

        reason = cJSON_GetObjectItemCaseSensitive(reasons, name);

        if (nixery_buf_printf(message, "%s\"%s\"", n++ ? ", " : "", name)
            != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }

        if (reason != NULL
            && nixery_buf_printf(message, " (%s)", reason->valuestring)
               != NIXERY_OK)
        {
            return NIXERY_ERROR;
        }
    }

    return NIXERY_OK;
}


static int
nixery_result_has(const cJSON *array, const char *s)
{
    const cJSON  *item;

    cJSON_ArrayForEach(item, array) {
        if (strcmp(item->valuestring, s) == 0) {
            return 1;
        }
    }

    return 0;
}
