
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "unit.h"
#include "nixery_buf.h"
#include "nixery_json.h"


#define count_of(array)  (sizeof(array) / sizeof(array[0]))


/* A text of exactly that many bytes: a look behind its end is found. */

static cJSON *
parse(const char *text, size_t len, nixery_error_t *err)
{
    char   *copy;
    cJSON  *json;

    copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);

    memset(err, 0, sizeof(nixery_error_t));
    json = nixery_json_parse(copy, len, "the text", err);

    free(copy);

    return json;
}


static void
refused(const char *text, size_t len, const char *message)
{
    cJSON           *json;
    nixery_error_t   err;

    json = parse(text, len, &err);

    if (json != NULL) {
        fail_msg("\"%.80s\" is accepted", text);
    }

    assert_int_equal(err.kind, NIXERY_ERROR_RESULT);
    assert_string_equal(err.message, message);

    nixery_error_free(&err);
}


/* Deep lists, or objects, around one value. */

static char *
nested(size_t depth, const char *open, const char *close)
{
    size_t         i;
    nixery_buf_t   text = { 0 };

    for (i = 0; i < depth; i++) {
        assert_int_equal(nixery_buf_puts(&text, open), NIXERY_OK);
    }

    assert_int_equal(nixery_buf_puts(&text, "1"), NIXERY_OK);

    for (i = 0; i < depth; i++) {
        assert_int_equal(nixery_buf_puts(&text, close), NIXERY_OK);
    }

    return text.data;
}


static void
valid(void **state)
{
    size_t           i;
    cJSON           *json;
    nixery_error_t   err;

    static const char  *texts[] = {
        "{}", "[]", "0", "-0", "1.5", "-1e5", "1E+5", "0.1e-5", "true",
        "false", "null", "\"\"", " \t\r\n{ \t\r\n} \t\r\n",
        "[ 1 , 2 ]", "{ \"a\" : 1 , \"b\" : [ { } ] }",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0001\\u00e4\\uFFFF\"",
        "\"\\ud83d\\ude00\"", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "\"\x7f\"", "1.7976931348623157e308", "5e-324", "1e-400",
        "123456789012345678901234567890123456789012345678901234567890123",
        "{\"a\":1,\"A\":2,\"\":3}", "[{\"a\":1},{\"a\":1}]",
        "{\"a\":{\"a\":{\"a\":1}}}"
    };

    (void) state;

    for (i = 0; i < count_of(texts); i++) {
        json = parse(texts[i], strlen(texts[i]), &err);

        if (json == NULL) {
            fail_msg("%s: %s", texts[i], err.message);
        }

        assert_int_equal(err.kind, NIXERY_ERROR_NONE);
        cJSON_Delete(json);
    }
}


static void
invalid(void **state)
{
    char    message[256];
    size_t  i;

    static const struct {
        const char  *text;
        const char  *why;
        int          at;
    } cases[] = {
        { "", "it ends too early", 0 },
        { " \n", "it ends too early", 2 },
        { "[", "it ends too early", 1 },
        { "[1", "\",\" or \"]\" is expected", 2 },
        { "[1,", "it ends too early", 3 },
        { "[1,]", "a value is expected", 3 },
        { "[,1]", "a value is expected", 1 },
        { "[1 2]", "\",\" or \"]\" is expected", 3 },
        { "[1}", "\",\" or \"]\" is expected", 2 },
        { "{", "a key is expected", 1 },
        { "{1:2}", "a key is expected", 1 },
        { "{a:2}", "a key is expected", 1 },
        { "{\"a\"", "\":\" is expected", 4 },
        { "{\"a\" 1}", "\":\" is expected", 5 },
        { "{\"a\":", "it ends too early", 5 },
        { "{\"a\":}", "a value is expected", 5 },
        { "{\"a\":1", "\",\" or \"}\" is expected", 6 },
        { "{\"a\":1,", "a key is expected", 7 },
        { "{\"a\":1,}", "a key is expected", 7 },
        { "{\"a\":1]", "\",\" or \"}\" is expected", 6 },
        { "{} {}", "something stands behind the value", 3 },
        { "1 x", "something stands behind the value", 2 },
        { "tru", "a value is expected", 0 },
        { "trux", "a value is expected", 0 },
        { "True", "a value is expected", 0 },
        { "nul", "a value is expected", 0 },
        { "fals", "a value is expected", 0 },
        { "NaN", "a value is expected", 0 },
        { "Infinity", "a value is expected", 0 },
        { "'a'", "a value is expected", 0 },
        { "/* */ 1", "a value is expected", 0 },
        { "\xef\xbb\xbf{}", "a value is expected", 0 },
        { "\x0b{}", "a value is expected", 0 },

        { "-", "a value is expected", 0 },
        { "+1", "a value is expected", 0 },
        { ".5", "a value is expected", 0 },
        { "01", "something stands behind the value", 1 },
        { "0x10", "something stands behind the value", 1 },
        { "1.", "a digit is expected", 2 },
        { "1.e5", "a digit is expected", 2 },
        { "1e", "a digit is expected", 2 },
        { "1e+", "a digit is expected", 3 },
        { "1e400", "a number is too large", 0 },
        { "[-1e400]", "a number is too large", 1 },
        { "1.8e308", "a number is too large", 0 },
        { "1234567890123456789012345678901234567890123456789012345678901234",
          "a number is too long", 0 },

        { "\"", "it ends within a string", 1 },
        { "\"a", "it ends within a string", 2 },
        { "\"\\", "it ends within a string", 2 },
        { "\"\\\"", "it ends within a string", 3 },
        { "\"\n\"", "a string has a control character", 1 },
        { "\"\x1f\"", "a string has a control character", 1 },
        { "\"\\x41\"", "a string has an unknown escape", 2 },
        { "\"\\u\"", "a string has an unknown escape", 3 },
        { "\"\\u12", "a string has an unknown escape", 5 },
        { "\"\\u12g4\"", "a string has an unknown escape", 5 },
        { "\"a\\u0000b\"", "a string has a NUL", 8 },
        { "\"\\ud800\"", "a string has half a surrogate pair", 7 },
        { "\"\\ud800x\"", "a string has half a surrogate pair", 7 },
        { "\"\\ud800\\n\"", "a string has half a surrogate pair", 7 },
        { "\"\\ud800\\u0041\"", "a string has half a surrogate pair", 13 },
        { "\"\\udc00\"", "a string has half a surrogate pair", 7 },
        { "\"\\ud800\\u12", "a string has an unknown escape", 11 },

        /* not UTF-8: alone, cut off, too long, a surrogate, too high */
        { "\"\x80\"", "a string is not UTF-8", 1 },
        { "\"\xc3\"", "a string is not UTF-8", 1 },
        { "\"\xc3", "a string is not UTF-8", 1 },
        { "\"\xe2\x82\"", "a string is not UTF-8", 1 },
        { "\"\xc0\xaf\"", "a string is not UTF-8", 1 },
        { "\"\xe0\x80\xaf\"", "a string is not UTF-8", 1 },
        { "\"\xed\xa0\x80\"", "a string is not UTF-8", 1 },
        { "\"\xf0\x80\x80\xaf\"", "a string is not UTF-8", 1 },
        { "\"\xf4\x90\x80\x80\"", "a string is not UTF-8", 1 },
        { "\"\xf5\x80\x80\x80\"", "a string is not UTF-8", 1 },
        { "\"a\xff\"", "a string is not UTF-8", 2 },
        { "{\"\xff\":1}", "a string is not UTF-8", 2 },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        (void) snprintf(message, sizeof(message),
                        "the text is not valid JSON: %s, at byte %d",
                        cases[i].why, cases[i].at);
        refused(cases[i].text, strlen(cases[i].text), message);
    }

    refused("\"a\0b\"", 5, "the text is not valid JSON: a string has a control"
            " character, at byte 2");
    refused("{}\0", 3, "the text is not valid JSON: something stands behind"
            " the value, at byte 2");
    refused("\"\\\0\"", 4, "the text is not valid JSON: a string has an unknown"
            " escape, at byte 2");
}


static void
duplicate_keys(void **state)
{
    (void) state;

    refused("{\"a\":1,\"b\":2,\"a\":3}", 19,
            "the text has the key \"a\" twice in one object");
    refused("[[{\"x\":{\"b\":1,\"b\":1}}]]", 23,
            "the text has the key \"b\" twice in one object");
    refused("{\"\":1,\"\":1}", 11,
            "the text has the key \"\" twice in one object");

    /* as they mean, not as they are written */

    refused("{\"path\":1,\"p\\u0061th\":2}", 24,
            "the text has the key \"path\" twice in one object");
}


static void
depth(void **state)
{
    char            *text;
    cJSON           *json;
    size_t           i;
    nixery_error_t   err;

    static const char  *pairs[][2] = { { "[", "]" }, { "{\"a\":", "}" } };

    (void) state;

    for (i = 0; i < count_of(pairs); i++) {
        text = nested(NIXERY_JSON_DEPTH_MAX, pairs[i][0], pairs[i][1]);
        json = parse(text, strlen(text), &err);
        assert_non_null(json);
        cJSON_Delete(json);
        free(text);

        text = nested(1000000, pairs[i][0], pairs[i][1]);
        assert_null(parse(text, strlen(text), &err));
        assert_non_null(strstr(err.message, "it is nested too deeply"));
        nixery_error_free(&err);
        free(text);
    }

    text = nested(NIXERY_JSON_DEPTH_MAX + 1, "[", "]");
    refused(text, strlen(text), "the text is not valid JSON: it is nested too"
            " deeply, at byte 64");
    free(text);
}


static void
count(void **state)
{
    char    *text;
    size_t   n;

    (void) state;

    /* the list itself is one, too */

    n = 2 * NIXERY_JSON_NODES_MAX + 1;
    text = malloc(n);
    assert_non_null(text);

    memset(text, ',', n);
    text[0] = '[';

    for (n = 1; n < 2 * NIXERY_JSON_NODES_MAX; n += 2) {
        text[n] = '1';
    }

    text[n - 1] = ']';

    refused(text, n, "the text is not valid JSON: it has too many values, at"
            " byte 7999999");

    free(text);
}


/* What is read strictly is what cJSON reads: they never disagree. */

static void
every_byte_replaced(void **state)
{
    int              c;
    char            *text;
    cJSON           *json;
    size_t           i, len, accepted;
    nixery_error_t   err;

    static const char  original[] =
        "{\"a\\\"\\u00e4\": [1, -2.5e+3, true, null, {\"\xc3\xa4\": \"\"}], "
        "\"b\" :\"\\ud83d\\ude00\"}";

    (void) state;

    len = sizeof(original) - 1;
    accepted = 0;
    text = strdup(original);
    assert_non_null(text);

    for (i = 0; i < len; i++) {
        for (c = 0; c < 256; c++) {
            text[i] = (char) c;
            json = parse(text, len, &err);

            if (json == NULL) {
                assert_int_equal(err.kind, NIXERY_ERROR_RESULT);
                nixery_error_free(&err);

            } else {
                cJSON_Delete(json);
                accepted++;
            }
        }

        text[i] = original[i];
    }

    /* at the least the original itself, for every byte of it */
    assert_true(accepted > len);

    free(text);
}


static void
every_end(void **state)
{
    cJSON           *json;
    size_t           i, len;
    nixery_error_t   err;

    static const char  text[] =
        "{\"a\\\"\\u00e4\": [1, -2.5e+3, true, null, {\"\xc3\xa4\": \"\"}], "
        "\"b\" :\"\\ud83d\\ude00\"}";

    (void) state;

    len = sizeof(text) - 1;

    for (i = 0; i < len; i++) {
        assert_null(parse(text, i, &err));
        assert_int_equal(err.kind, NIXERY_ERROR_RESULT);
        nixery_error_free(&err);
    }

    json = parse(text, len, &err);
    assert_non_null(json);
    cJSON_Delete(json);
}


static void
locate(void **state)
{
    size_t       i, len;
    const char  *value;

    static const struct {
        const char  *text;
        const char  *value;     /* of "key", or NULL */
    } cases[] = {
        { "{\"key\":1}", "1" },
        { " { \"key\" : 1 } ", "1" },
        { "{\"a\":{\"key\":1},\"key\":2}", "2" },
        { "{\"a\":[{\"key\":1}],\"key\":{\"key\":3}}", "{\"key\":3}" },
        { "{\"a\":\"\\\"key\\\":1\",\"key\":\"v\"}", "\"v\"" },
        { "{\"key\": \n{ \"b\" :\t2 , \"a\" : 1.50 }\n}",
          "{ \"b\" :\t2 , \"a\" : 1.50 }" },
        { "{\"key\":[ ]\n, \"z\":1}", "[ ]" },
        { "{\"key\":null}", "null" },
        { "{\"keys\":1,\"ke\":2,\"\":3}", NULL },
        { "{\"k\\u0065y\":1}", NULL },
        { "{\"KEY\":1}", NULL },
        { "{}", NULL },
        { "[\"key\",1]", NULL },
        { "\"key\"", NULL },
        { "", NULL },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        value = NULL;
        len = 0;

        if (cases[i].value == NULL) {
            assert_int_equal(nixery_json_locate(cases[i].text,
                                                strlen(cases[i].text), "key",
                                                &value, &len),
                             NIXERY_DECLINED);
            assert_null(value);
            continue;
        }

        assert_int_equal(nixery_json_locate(cases[i].text,
                                            strlen(cases[i].text), "key",
                                            &value, &len),
                         NIXERY_OK);
        assert_int_equal(len, strlen(cases[i].value));
        assert_memory_equal(value, cases[i].value, len);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(valid),
        cmocka_unit_test(invalid),
        cmocka_unit_test(duplicate_keys),
        cmocka_unit_test(depth),
        cmocka_unit_test(count),
        cmocka_unit_test(every_byte_replaced),
        cmocka_unit_test(every_end),
        cmocka_unit_test(locate),
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
