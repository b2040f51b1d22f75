
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "unit.h"
#include "nixery_url.h"


#define SCHEMES  "https ssh http git file"
#define SECRET   "hunter2"

#define count_of(array)  (sizeof(array) / sizeof(array[0]))


/* As nixery_url_t is, of constants. */

typedef struct {
    const char  *scheme;
    const char  *user;
    const char  *password;
    const char  *bare;
    const char  *shown;
    const char  *path;
} parts_t;


static void
assert_same(const char *what, const char *text, const char *is,
    const char *expected)
{
    if (is == NULL || expected == NULL ? is != expected
                                       : strcmp(is, expected) != 0)
    {
        fail_msg("the %s of \"%s\" is \"%s\", not \"%s\"", what, text,
                 is ? is : "(null)", expected ? expected : "(null)");
    }
}


static void
assert_refused(const char *text, const char *schemes, const char *message)
{
    nixery_url_t    url;
    nixery_error_t  err = { 0 };

    if (nixery_url_parse(&url, text, schemes, &err) == NIXERY_OK) {
        fail_msg("\"%s\" is taken", text);
    }

    assert_same("message", text, err.message, message);
    assert_int_equal(err.kind, NIXERY_ERROR_SOURCE);

    /* nothing is left to be freed */

    assert_null(url.scheme);
    assert_null(url.user);
    assert_null(url.password);
    assert_null(url.bare);
    assert_null(url.shown);
    assert_null(url.path);

    nixery_error_free(&err);
}


static void
parts(void **state)
{
    size_t          i;
    nixery_url_t    url;
    nixery_error_t  err = { 0 };

    static const struct {
        const char  *text;
        parts_t      url;
    } cases[] = {
        { "https://host/a/b.git",
          { .scheme = "https", .bare = "https://host/a/b.git",
            .shown = "https://host/a/b.git" } },
        { "http://host", { .scheme = "http", .bare = "http://host",
                           .shown = "http://host" } },
        { "git://host/a", { .scheme = "git", .bare = "git://host/a",
                            .shown = "git://host/a" } },
        { "HttpS://Host/A", { .scheme = "https", .bare = "https://Host/A",
                              .shown = "https://Host/A" } },

        /* what is a user's is kept from what programs are told */

        { "https://ann:" SECRET "@host/a",
          { .scheme = "https", .user = "ann", .password = SECRET,
            .bare = "https://host/a", .shown = "https://host/a" } },
        { "http://" SECRET "@host/a",
          { .scheme = "http", .user = SECRET, .password = "",
            .bare = "http://host/a", .shown = "http://host/a" } },
        { "https://ann:@host/a",
          { .scheme = "https", .user = "ann", .password = "",
            .bare = "https://host/a", .shown = "https://host/a" } },
        { "https://:" SECRET "@host/a",
          { .scheme = "https", .user = "", .password = SECRET,
            .bare = "https://host/a", .shown = "https://host/a" } },
        { "https://@host/a",
          { .scheme = "https", .user = "", .password = "",
            .bare = "https://host/a", .shown = "https://host/a" } },

        /* what nobody encoded, and what has to be */

        { "https://ann:p@ss:w@rd@host/a@b",
          { .scheme = "https", .user = "ann", .password = "p@ss:w@rd",
            .bare = "https://host/a@b", .shown = "https://host/a@b" } },
        { "https://a%6En%40home:%2f%3F%23%25%20%7e%C3%A4@host/%41",
          { .scheme = "https", .user = "ann@home",
            .password = "/?#% ~\xc3\xa4", .bare = "https://host/%41",
            .shown = "https://host/%41" } },

        /* query and fragment are for programs */

        { "https://ann:pw@host/a?token=" SECRET "#x",
          { .scheme = "https", .user = "ann", .password = "pw",
            .bare = "https://host/a?token=" SECRET "#x",
            .shown = "https://host/a" } },
        { "https://host?" SECRET "@x/y",
          { .scheme = "https", .bare = "https://host?" SECRET "@x/y",
            .shown = "https://host" } },
        { "https://host#" SECRET "@x/y",
          { .scheme = "https", .bare = "https://host#" SECRET "@x/y",
            .shown = "https://host" } },

        /* an ssh user is who logs in */

        { "ssh://git@host/a", { .scheme = "ssh", .bare = "ssh://git@host/a",
                                .shown = "ssh://git@host/a" } },
        { "ssh://host:2222/~a", { .scheme = "ssh",
                                  .bare = "ssh://host:2222/~a",
                                  .shown = "ssh://host:2222/~a" } },

        /* ports, addresses */

        { "https://ann:pw@host:8443/a",
          { .scheme = "https", .user = "ann", .password = "pw",
            .bare = "https://host:8443/a", .shown = "https://host:8443/a" } },
        { "http://127.0.0.1:1/", { .scheme = "http",
                                   .bare = "http://127.0.0.1:1/",
                                   .shown = "http://127.0.0.1:1/" } },
        { "http://host:65535", { .scheme = "http",
                                 .bare = "http://host:65535",
                                 .shown = "http://host:65535" } },
        { "http://host:/a", { .scheme = "http", .bare = "http://host:/a",
                              .shown = "http://host:/a" } },
        { "http://[::1]/a", { .scheme = "http", .bare = "http://[::1]/a",
                              .shown = "http://[::1]/a" } },
        { "https://ann:p@[::1]:8443/a",
          { .scheme = "https", .user = "ann", .password = "p",
            .bare = "https://[::1]:8443/a",
            .shown = "https://[::1]:8443/a" } },
        { "git://[fe80::1%25eth0]/a",
          { .scheme = "git", .bare = "git://[fe80::1%25eth0]/a",
            .shown = "git://[fe80::1%25eth0]/a" } },
        { "ssh://git@[::ffff:127.0.0.1]:22/a",
          { .scheme = "ssh", .bare = "ssh://git@[::ffff:127.0.0.1]:22/a",
            .shown = "ssh://git@[::ffff:127.0.0.1]:22/a" } },

        /* all that RFC 3986 has, sections 2.2 and 2.3 */

        { "https://a.b_c~d!$&'()*+,;=/-:@._~!$&'()*+,;=[]?/?:@[]#/?:@[]",
          { .scheme = "https",
            .bare = "https://a.b_c~d!$&'()*+,;="
                    "/-:@._~!$&'()*+,;=[]?/?:@[]#/?:@[]",
            .shown = "https://a.b_c~d!$&'()*+,;=/-:@._~!$&'()*+,;=[]" } },

        /* files */

        { "file:///a/b%20c", { .scheme = "file", .bare = "file:///a/b%20c",
                               .shown = "file:///a/b%20c",
                               .path = "/a/b c" } },
        { "FILE:///a@b:c/%7E?x", { .scheme = "file",
                                   .bare = "file:///a@b:c/%7E?x",
                                   .shown = "file:///a@b:c/%7E",
                                   .path = "/a@b:c/~" } },
        { "file:///", { .scheme = "file", .bare = "file:///",
                        .shown = "file:///", .path = "/" } },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {

        if (nixery_url_parse(&url, cases[i].text, SCHEMES, &err) != NIXERY_OK)
        {
            fail_msg("\"%s\": %s", cases[i].text, err.message);
        }

        assert_same("scheme", cases[i].text, url.scheme, cases[i].url.scheme);
        assert_same("user", cases[i].text, url.user, cases[i].url.user);
        assert_same("password", cases[i].text, url.password,
                    cases[i].url.password);
        assert_same("bare URL", cases[i].text, url.bare, cases[i].url.bare);
        assert_same("shown URL", cases[i].text, url.shown,
                    cases[i].url.shown);
        assert_same("path", cases[i].text, url.path, cases[i].url.path);

        assert_int_equal(err.kind, NIXERY_ERROR_NONE);
        nixery_url_free(&url);

        /* twice does no harm */

        nixery_url_free(&url);
    }
}


static void
schemes(void **state)
{
    size_t  i;

    static const char  protocol[] = "its protocol is not one of: " SCHEMES;
    static const char  none[] = "it is no URL, which begins with a protocol "
                                "and \"://\" (one of: " SCHEMES ")";
    static const char  scp[] = "it is no URL, which begins with a protocol "
                               "and \"://\" (one of: " SCHEMES "); "
                               "\"user@host:path\" is written "
                               "ssh://user@host/path";

    static const struct {
        const char  *text;
        const char  *message;
    } cases[] = {
        { "", none },
        { "/etc/passwd", none },
        { "host/a", none },
        { "https:/host/a", none },
        { "https//host", none },
        { "https:host://a", none },
        { "ext::sh", none },
        { "ext::https://ann:" SECRET "@host/a", none },
        { "https::https://host/a", none },
        { "git@host:a", scp },
        { "git@host:a://b", scp },
        { "ann:" SECRET "@host/a", scp },
        { "://host/a", protocol },
        { "ftp://ann:" SECRET "@host/a", protocol },
        { "htt://host/a", protocol },
        { "httpss://host/a", protocol },
        { "https%3A://host/a", protocol },
        { "git+ssh://host/a", protocol },
        { "a/b://host", protocol },
        { "--upload-pack=x://host", protocol },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        assert_refused(cases[i].text, SCHEMES, cases[i].message);
    }

    /* of a list of one, or of none */

    assert_refused("http://host", "https", "its protocol is not one of: https");
    assert_refused("https://host", "", "its protocol is not one of: ");
}


static void
bytes(void **state)
{
    int    c;
    char   text[] = "https://ann:" SECRET "@host/a.b", *message;

    nixery_url_t    url;
    nixery_error_t  err = { 0 };

    (void) state;

    /* as RFC 3986 has them, sections 2.1 to 2.3 */

    for (c = 1; c < 256; c++) {
        text[sizeof(text) - 3] = (char) c;

        if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
            || strchr("%:/?#[]@!$&'()*+,;=-._~", c) != NULL)
        {
            assert_int_equal(nixery_url_parse(&url, text, SCHEMES, &err),
                             NIXERY_OK);
            nixery_url_free(&url);
            continue;
        }

        message = format("its byte %zu can't stand in a URL, %%%02X can",
                         sizeof(text) - 2, (unsigned) c);
        assert_refused(text, SCHEMES, message);
        free(message);
    }
}


static void
hosts(void **state)
{
    size_t  i;

    static const char  none[] = "it has no host";
    static const char  option[] = "a host can't begin with \"-\"";
    static const char  bracket[] = "an address in \"[\" has no \"]\", or "
                                   "is empty";
    static const char  port[] = "behind its host is no port; in a user or a "
                                "password \"/\" is written %2F, \"?\" %3F and "
                                "\"#\" %23";
    static const char  file[] = "a file URL is \"file://\" and an absolute "
                                "path";

    static const struct {
        const char  *text;
        const char  *message;
    } cases[] = {
        { "https://", none },
        { "https:///a", none },
        { "https://ann:" SECRET "@", none },
        { "https://ann:" SECRET "@/a", none },
        { "https://?host", none },
        { "https://#host", none },
        { "https://:80/a", none },
        { "https://::1/a", none },
        { "ssh://git@:22/a", none },

        { "ssh://-oProxyCommand=x/a", option },
        { "ssh://git@-oProxyCommand=x/a", option },
        { "ssh://%2doProxyCommand=x/a", option },
        { "ssh://git@%2DoProxyCommand=x/a", option },
        { "https://ann:" SECRET "@-x/a", option },

        { "https://[::1/a", bracket },
        { "https://[]/a", bracket },
        { "https://[]:80/a", bracket },
        { "https://ann:" SECRET "@[::1?]", bracket },

        { "https://[::1]80/a", port },
        { "https://[::1]]/a", port },
        { "https://fe80::1/a", port },
        { "https://host:8o/a", port },
        { "https://host:-1/a", port },
        { "https://host:65536/a", port },
        { "https://host:0065535/a", port },
        { "https://host:0/a", port },
        { "https://host:80:80/a", port },
        { "ssh://git@host:a/b", port },

        /* of a password that has what ends one */

        { "https://ann:" SECRET "/x@host/a", port },
        { "https://ann:" SECRET "?x@host/a", port },
        { "https://ann:" SECRET "#x@host/a", port },

        { "https://a]b/c", "a host can't have \"[\" or \"]\" in it" },
        { "https://a[::1]/c", "a host can't have \"[\" or \"]\" in it" },

        { "file://", file },
        { "file://a", file },
        { "file://localhost/a", file },
        { "file://ann:" SECRET "@localhost/a", file },
        { "file://?a", file },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        assert_refused(cases[i].text, SCHEMES, cases[i].message);
    }
}


static void
users(void **state)
{
    size_t  i;

    static const char  user[] = "its user has a \"%\" without two hexadecimal "
                                "digits of a character";
    static const char  password[] = "its password has a \"%\" without two "
                                    "hexadecimal digits of a character";
    static const char  path[] = "its path has a \"%\" without two hexadecimal "
                                "digits of a character";
    static const char  option[] = "a user can't begin with \"-\"";

    static const struct {
        const char  *text;
        const char  *message;
    } cases[] = {
        { "ssh://git:" SECRET "@host/a",
          "ssh takes no password, it takes a key" },
        { "ssh://git:@host/a", "ssh takes no password, it takes a key" },
        { "ssh://-oProxyCommand=x@host/a", option },
        { "ssh://%2DoProxyCommand=x@host/a", option },
        { "ssh://%2doProxyCommand=x@host/a", option },
        { "git://ann:" SECRET "@host/a", "git has no users" },
        { "git://" SECRET "@host/a", "git has no users" },
        { "file://ann:" SECRET "@/a", "file has no users" },

        { "https://" SECRET "%@host/a", user },
        { "https://" SECRET "%4@host/a", user },
        { "https://" SECRET "%4:x@host/a", user },
        { "https://%4g" SECRET "@host/a", user },
        { "https://%g4" SECRET "@host/a", user },
        { "https://%%20" SECRET "@host/a", user },
        { "https://%+2" SECRET "@host/a", user },
        { "https://ann:" SECRET "%@host/a", password },
        { "https://ann:" SECRET "%f@host/a", password },
        { "https://ann:%x0" SECRET "@host/a", password },

        /* git's way to ask for credentials has lines, and strings have ends */

        { "https://ann:" SECRET "%00@host/a", password },
        { "https://ann:" SECRET "%0a@host/a", password },
        { "https://ann%0Ahost=x:" SECRET "@host/a", user },
        { "https://ann:" SECRET "%1F@host/a", password },

        { "file:///a%", path },
        { "file:///a%2", path },
        { "file:///a%00b", path },
        { "file:///a%2?0", path },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        assert_refused(cases[i].text, SCHEMES, cases[i].message);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(parts),
        cmocka_unit_test(schemes),
        cmocka_unit_test(bytes),
        cmocka_unit_test(hosts),
        cmocka_unit_test(users),
    };

    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
