
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_JSON_H_INCLUDED_
#define _NIXERY_JSON_H_INCLUDED_


#include <cjson/cJSON.h>
#include "nixery_error.h"


#define NIXERY_JSON_DEPTH_MAX  64
#define NIXERY_JSON_NODES_MAX  4000000
#define NIXERY_JSON_WHOLE_MAX  9007199254740992.0   /* 2^53: exact as double */


/*
 * Parses a whole text as RFC 8259 has it, stricter than cJSON alone: valid
 * UTF-8, no duplicate keys in one object, no number outside a double's range,
 * no NUL in a string, nothing behind the value, bounded depth and count.
 * Returns NULL and sets NIXERY_ERROR_RESULT ("what" names the text, the
 * message the byte offset).  The caller frees by cJSON_Delete().
 */
cJSON *nixery_json_parse(const char *text, size_t len, const char *what,
    nixery_error_t *err);

/*
 * Where the value of a key of the outermost object stands in a text that
 * nixery_json_parse() has accepted; NIXERY_DECLINED when it has no such key.
 */
int nixery_json_locate(const char *text, size_t len, const char *key,
    const char **value, size_t *value_len);


#endif /* _NIXERY_JSON_H_INCLUDED_ */
