
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "unit.h"
#include "nixery_text.h"


#define count_of(array)  (sizeof(array) / sizeof(array[0]))


static void
clean(void **state)
{
    size_t        i;
    nixery_buf_t  text;

    static const struct {
        const char  *text;
        const char  *clean;
    } cases[] = {
        { "", "" },
        { "plain\n\ttext\n", "plain\n\ttext\n" },
        { "a\r\nb\ac\177d\001", "a\nbcd" },
        { "\x1b[31;1mred\x1b[0m\x1b[K!", "red!" },
        { "\x1b]0;title\abehind", "behind" },
        { "\x1b]0;title\nline", "line" },
        { "\033Mup", "up" },
        { "cut\x1b", "cut" },
        { "cut\x1b[", "cut" },
        { "cut\x1b[31", "cut" },
        { "cut\x1b]0;x", "cut" },
        { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
          "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
        { "\xff\xc3", "??" },
        { "\xe2\x82", "??" },
        { "\xe2\x82x", "??x" },
        { "\xc0\xaf\xed\xa0\x80", "?????" },
        { "\x1b[\xc3\xa4", "?" }
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        memset(&text, 0, sizeof(nixery_buf_t));
        assert_int_equal(nixery_buf_puts(&text, cases[i].text), NIXERY_OK);
        assert_int_equal(nixery_text_clean(&text), NIXERY_OK);
        assert_string_equal(text.data, cases[i].clean);
        assert_int_equal(text.len, strlen(cases[i].clean));
        nixery_buf_free(&text);
    }

    /* of nothing at all, and of a NUL */

    assert_int_equal(nixery_text_clean(&text), NIXERY_OK);
    assert_string_equal(text.data, "");
    assert_int_equal(nixery_buf_append(&text, "a\0b", 3), NIXERY_OK);
    assert_int_equal(nixery_text_clean(&text), NIXERY_OK);
    assert_string_equal(text.data, "ab");
    nixery_buf_free(&text);
}


static void
line(void **state)
{
    char  text[] = "one\ntwo\tthree\r\n\x1b[1m\xff";

    (void) state;

    nixery_text_line(text);
    assert_string_equal(text, "one two three ?");
}


static void
last(void **state)
{
    char    *text;
    size_t   i;

    static const struct {
        const char  *text;
        size_t       lines;
        size_t       max;
        const char  *last;
    } cases[] = {
        { "", 3, 100, "" },
        { "\n\n", 3, 100, "" },
        { "one", 3, 100, "one" },
        { "one\n", 3, 100, "one" },
        { "one\ntwo\nthree\n\n", 3, 100, "one\ntwo\nthree" },
        { "one\ntwo\nthree\n", 2, 100, "two\nthree" },
        { "one\ntwo\nthree\n", 1, 100, "three" },
        { "one\n\nthree", 2, 100, "\nthree" },

        /* cut between lines, where there is one to cut behind */
        { "one\ntwo\nthree", 3, 13, "one\ntwo\nthree" },
        { "one\ntwo\nthree", 3, 12, "two\nthree" },
        { "one\ntwo\nthree", 3, 9, "two\nthree" },
        { "one\ntwo\nthree", 3, 8, "three" },
        { "one\ntwo\nthree", 3, 5, "three" },
        { "one\ntwo\nthree", 3, 4, "hree" },

        /* never within a character */
        { "\xe2\x82\xac\xe2\x82\xac", 1, 6, "\xe2\x82\xac\xe2\x82\xac" },
        { "\xe2\x82\xac\xe2\x82\xac", 1, 5, "\xe2\x82\xac" },
        { "\xe2\x82\xac\xe2\x82\xac", 1, 4, "\xe2\x82\xac" },
        { "\xe2\x82\xac\xe2\x82\xac", 1, 2, "" }
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        text = nixery_text_last(cases[i].text, cases[i].lines, cases[i].max);
        assert_non_null(text);
        assert_string_equal(text, cases[i].last);
        free(text);
    }
}


static void
hide(void **state)
{
    char    *text;
    size_t   i;

    static const struct {
        const char  *text;
        const char  *secrets[4];
        const char  *hidden;
    } cases[] = {
        { "", { "a" }, "" },
        { "a", { NULL }, "a" },
        { "a", { "" }, "a" },
        { "a", { "a" }, "*" },
        { "a", { "ab" }, "a" },
        { "secret", { "secret" }, "******" },
        { "secret at the start", { "secret" }, "****** at the start" },
        { "at the end: secret", { "secret" }, "at the end: ******" },
        { "secretsecret, secret", { "secret" }, "************, ******" },
        { "Secret", { "secret" }, "Secret" },
        { "two of them", { "two", "them" }, "*** of ****" },
        { "one\nin line two\n", { "line" }, "one\nin **** two\n" },
        { "a*b", { "*" }, "a*b" },

        /* within each other, in any order */

        { "secret-token", { "secret", "secret-token" }, "************" },
        { "secret-token", { "secret-token", "secret" }, "************" },
        { "a secret-token", { "token", "cret-tok", "secret-token" },
          "a ************" },
        { "my-secret secret", { "secret", "my-secret" },
          "********* ******" },

        /* over each other, and over themselves */

        { "abcdef", { "abcd", "cdef" }, "******" },
        { "abcdef", { "cdef", "abcd" }, "******" },
        { "ababa", { "aba" }, "*****" },
        { "aaaa b", { "aaa" }, "**** b" },

        /* users of URLs, whether they are known or not */

        { "https://ann:pw@host/a", { NULL }, "https://host/a" },
        { "http://token@host", { NULL }, "http://host" },
        { "'HTTPS://ann:pw@host/a'", { NULL }, "'HTTPS://host/a'" },
        { "https://ann:p@w@host/a@b", { NULL }, "https://host/a@b" },
        { "https://ann:pw@[::1]:80/", { NULL }, "https://[::1]:80/" },
        { "https://@host", { NULL }, "https://host" },
        { "https://ann:pw@", { NULL }, "https://" },
        { "https://", { NULL }, "https://" },
        { "https://host/a@b", { NULL }, "https://host/a@b" },
        { "https://host?a@b", { NULL }, "https://host?a@b" },
        { "https://host#a@b", { NULL }, "https://host#a@b" },
        { "https://host b@c", { NULL }, "https://host b@c" },
        { "https://host\nb@c", { NULL }, "https://host\nb@c" },
        { "'https://host'b@c", { NULL }, "'https://host'b@c" },
        { "<https://host>b@c \"https://host\"b@c", { NULL },
          "<https://host>b@c \"https://host\"b@c" },

        /* an ssh user is no secret; nor is what is no URL */

        { "ssh://git@host/a", { NULL }, "ssh://git@host/a" },
        { "http:/ann:pw@host http//x:y@z ://a@b", { NULL },
          "http:/ann:pw@host http//x:y@z ://a@b" },
        { "ttp://a@b ttps://a@b", { NULL }, "ttp://a@b ttps://a@b" },

        /* several of them */

        { "https://a:b@c https://d:e@f/https://g:h@i and http://j@k.",
          { NULL },
          "https://c https://f/https://i and http://k." },
        { "https://a:b@c,https://d:e@f", { NULL }, "https://c,https://f" },
        { "http://http://a:b@c", { NULL }, "http://http://c" },
        { "http://x@http://a:b@c", { NULL }, "http://http://c" },

        /* both */

        { "https://ann:pw@host/?t=tok pw", { "pw", "tok" },
          "https://host/?t=*** **" },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        text = format("%s", cases[i].text);
        nixery_text_hide(text, cases[i].secrets);
        assert_string_equal(text, cases[i].hidden);
        free(text);
    }

    text = format("http://a:b@c");
    nixery_text_hide(text, NULL);
    assert_string_equal(text, "http://c");
    free(text);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(clean),
        cmocka_unit_test(line),
        cmocka_unit_test(last),
        cmocka_unit_test(hide),
    };

    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
