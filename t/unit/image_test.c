
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <regex.h>
#include "unit.h"
#include "nixery_image.h"


#define HEX  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


typedef struct {
    const char  *text;
    const char  *message;   /* NULL: any */
} case_t;


static int parse(nixery_image_t *image, const char *name, size_t len,
    nixery_error_t *err);
static void assert_name_refused(const char *name, size_t len,
    const char *message);
static void assert_refused(nixery_error_t *err, const char *message);
static void assert_image(const char *name, const char *canonical);
static void assert_printable(const char *s);


/* As the distribution specification has it. */

static const char  grammar[] =
    "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*"
    "(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$";


static const case_t  names[] = {
    { "", "the image name is empty" },
    { "/", "image name \"/\": \"/\" at byte 1: a component is empty" },
    { "//", NULL },
    { "/git", NULL },
    { "git/", "image name \"git/\": \"/\" at byte 4: a component is empty" },
    { "git//curl",
      "image name \"git//curl\": \"/\" at byte 5: a component is empty" },
    { "Git", "image name \"Git\": \"G\" at byte 1: names are lower-case" },
    { "shell/Htop", NULL },
    { "shell/bashInteractive",
      "image name \"shell/bashInteractive\": \"I\" at byte 11: names are "
      "lower-case" },
    { ".", NULL },
    { "..", NULL },
    { "../git", NULL },
    { "git/..", NULL },
    { "git/../curl", NULL },
    { "./git", NULL },
    { ".git", "image name \".git\": \".\" at byte 1: a component begins with a "
              "letter or a digit" },
    { "git.", "image name \"git.\": \".\" at byte 4: a component ends with a "
              "letter or a digit" },
    { "git./curl", "image name \"git./curl\": \".\" at byte 4: a component "
                   "ends with a letter or a digit" },
    { "git..curl", "image name \"git..curl\": \".\" at byte 5: only \".\", "
                   "\"_\", \"__\" or dashes stand between letters and digits" },
    { "-git", NULL },
    { "git-", NULL },
    { "--option", NULL },
    { "git/--option/substituters", NULL },
    { "-E", NULL },
    { "git/-e", NULL },
    { "_1password", NULL },
    { "git_", NULL },
    { "git___curl", NULL },
    { "git_.curl", NULL },
    { "git._curl", NULL },
    { "git-_curl", NULL },
    { "git_-curl", NULL },
    { "git.-curl", NULL },
    { "git-.curl", NULL },
    { "git__-curl", NULL },
    { "git curl", NULL },
    { " git", NULL },
    { "git\n", "image name \"git\\x0a\": \"\\x0a\" at byte 4: names are made "
               "of lower-case letters, digits, \".\", \"_\", \"-\" and \"/\"" },
    { "git\t/curl", NULL },
    { "git\r\nx: y", NULL },
    { "git\"", "image name \"git\\x22\": \"\\x22\" at byte 4: names are made "
               "of lower-case letters, digits, \".\", \"_\", \"-\" and \"/\"" },
    { "git\\", NULL },
    { "git'", NULL },
    { "git`id`", NULL },
    { "$(id)", NULL },
    { "${builtins.currentsystem}", NULL },
    { "git${}", NULL },
    { "''${x}''", NULL },
    { "(import<nixpkgs>{})", NULL },
    { "let x=1;in/x", NULL },
    { "a;b", NULL },
    { "a;abort", NULL },
    { "[git]", NULL },
    { "{git}", NULL },
    { "git@latest", NULL },
    { "git:latest", NULL },
    { "git+curl", NULL },
    { "git,curl", NULL },
    { "git*", NULL },
    { "git?ns=x", NULL },
    { "git#x", NULL },
    { "git%2e%2e", NULL },
    { "git%00", NULL },
    { "~root", NULL },
    { "git|curl", NULL },
    { "git&", NULL },
    { "<nixpkgs>", NULL },
    { "a=b", NULL },
    { "--argstr", NULL },
    { "-", NULL },
    { "caf\xc3\xa9", "image name \"caf\\xc3\\xa9\": \"\\xc3\" at byte 4: names "
                     "are made of lower-case letters, digits, \".\", \"_\", "
                     "\"-\" and \"/\"" },
    { "\xff\xfe", NULL },
    { "git\x7f", NULL },
    { "\x1b[31mgit", NULL },
    { NULL, NULL }
};


/* Well-formed, so that they are data, whatever else they look like. */

static const case_t  good_names[] = {
    { "git", "git" },
    { "a", "a" },
    { "0", "0" },
    { "1password", "1password" },
    { "python3packages.requests", "python3packages.requests" },
    { "a.b.c", "a.b.c" },
    { "a_b", "a_b" },
    { "a__b", "a__b" },
    { "a-b", "a-b" },
    { "a------b", "a------b" },
    { "a.b_c__d-e/f", "a.b_c__d-e/f" },
    { "git/curl", "curl/git" },
    { "curl/git", "curl/git" },
    { "git/git/git", "git" },
    { "b/a/c/a/b", "a/b/c" },
    { "a-b/a.b/a/ab/a_b", "a/a-b/a.b/a_b/ab" },
    { "let/in/with/rec", "in/let/rec/with" },
    { "import/abort/throw", "abort/import/throw" },
    { "builtins.getenv", "builtins.getenv" },
    { "null/true/false", "false/null/true" },
    { "shell", "bashInteractive/coreutils/moreutils/nano" },
    { "shell/shell", "bashInteractive/coreutils/moreutils/nano" },
    { "shell/git", "bashInteractive/coreutils/git/moreutils/nano" },
    { "shell/nano", "bashInteractive/coreutils/moreutils/nano" },
    { "shell/zsh/htop", "bashInteractive/coreutils/htop/moreutils/nano/zsh" },
    { "git/shell", "git/shell" },
    { "git/arm64", "arm64/git" },
    { "git/builder/shell", "builder/git/shell" },
    { "shell/git/builder",
      "bashInteractive/builder/coreutils/git/moreutils/nano" },
    { "builder", "bashInteractive/coreutils/moreutils/nano/stdenv" },
    { "shell/builder", "bashInteractive/coreutils/moreutils/nano/stdenv" },
    { "builder/shell/gcc",
      "bashInteractive/coreutils/gcc/moreutils/nano/stdenv" },
    { "shells", "shells" },
    { "shel", "shel" },
    { "shell.x", "shell.x" },
    { NULL, NULL }
};


static void
malformed_names(void **state)
{
    const case_t  *c;

    (void) state;

    for (c = names; c->text != NULL; c++) {
        assert_name_refused(c->text, strlen(c->text), c->message);
    }

    assert_name_refused("git\0curl", 8,
                        "image name \"git\\x00curl\": \"\\x00\" at byte 4: "
                        "names are made of lower-case letters, digits, "
                        "\".\", \"_\", \"-\" and \"/\"");
    assert_name_refused("git\0", 4, NULL);
    assert_name_refused("\0", 1, NULL);
}


static void
canonical_names(void **state)
{
    const case_t  *c;

    (void) state;

    for (c = good_names; c->text != NULL; c++) {
        assert_image(c->text, c->message);
    }
}


static void
platforms(void **state)
{
    nixery_error_t  err = { 0 };
    nixery_image_t  image;

    (void) state;

    assert_int_equal(parse(&image, "arm64/shell/git", 15, &err), NIXERY_OK);
    assert_string_equal(image.system, "aarch64-linux");
    assert_string_equal(image.name,
                        "bashInteractive/coreutils/git/moreutils/nano");
    nixery_image_free(&image);

    assert_int_equal(parse(&image, "shell/arm64/git", 15, &err), NIXERY_OK);
    assert_string_equal(image.system, "aarch64-linux");
    nixery_image_free(&image);

    assert_int_equal(parse(&image, "git/arm64", 9, &err), NIXERY_OK);
    assert_null(image.system);
    nixery_image_free(&image);

    assert_name_refused("arm64", 5, "image name \"arm64\" names no package, "
                        "only a platform");
    assert_name_refused("arm64/arm64", 11, NULL);
}


static void
metas(void **state)
{
    size_t          i;
    nixery_error_t  err = { 0 };
    nixery_image_t  image;

    static const char *const  shell[] = { "zsh", "coreutils", NULL };
    static const char *const  py[] = {
        "python3Packages.requests", "python3", "zsh", "python3", NULL
    };
    static const char *const  one[] = { "libstdc++5.x'_y", NULL };

    static const nixery_meta_t  list[] = {
        { "shell", shell }, { "py", py }, { "one-1", one }, { NULL, NULL }
    };

    static const case_t  cases[] = {
        { "shell", "coreutils/zsh" },
        { "shell/git", "coreutils/git/zsh" },
        { "builder", "bashInteractive/coreutils/moreutils/nano/stdenv" },
        { "builder/shell",
          "bashInteractive/coreutils/moreutils/nano/stdenv/zsh" },
        { "py", "python3/python3Packages.requests/zsh" },
        { "one-1/shell", "coreutils/libstdc++5.x'_y/zsh" },
        { "one-1/one-1/one-1", "libstdc++5.x'_y" },
        { "shell/git/py", "coreutils/git/py/zsh" },
        { "git/shell", "git/shell" },
        { "pyx", "pyx" },
        { "p/py", "p/py" },
        { NULL, NULL }
    };

    (void) state;

    for (i = 0; cases[i].text != NULL; i++) {
        assert_int_equal(nixery_image_parse(&image, cases[i].text,
                                            strlen(cases[i].text), list, &err),
                         NIXERY_OK);
        assert_string_equal(image.name, cases[i].message);
        assert_null(image.system);
        nixery_image_free(&image);
    }

    assert_int_equal(nixery_image_parse(&image, "py/arm64/git", 12, list, &err),
                     NIXERY_OK);
    assert_string_equal(image.name, "git/python3/python3Packages.requests/zsh");
    assert_string_equal(image.system, "aarch64-linux");
    nixery_image_free(&image);

    /* an empty list is as none */

    assert_int_equal(nixery_image_parse(&image, "shell", 5, &list[3], &err),
                     NIXERY_OK);
    assert_string_equal(image.name, "bashInteractive/coreutils/moreutils/nano");
    nixery_image_free(&image);
}


/* What goes to Nix has to fit into one argument of a program. */

static void
large_metas(void **state)
{
    char             all[3 * NIXERY_META_MAX][NIXERY_PACKAGE_MAX + 1];
    size_t           i;
    const char      *packages[3][NIXERY_META_MAX + 1];
    nixery_meta_t    list[4];
    nixery_error_t   err = { 0 };
    nixery_image_t   image;

    (void) state;

    memset(list, 0, sizeof(list));
    memset(packages, 0, sizeof(packages));

    for (i = 0; i < 3 * NIXERY_META_MAX; i++) {
        memset(all[i], 'x', NIXERY_PACKAGE_MAX);
        all[i][NIXERY_PACKAGE_MAX] = '\0';
        all[i][0] = (char) ('A' + i / 20);
        all[i][1] = (char) ('A' + i % 20);

        packages[i / NIXERY_META_MAX][i % NIXERY_META_MAX] = all[i];
    }

    list[0].name = "a";
    list[0].packages = packages[0];
    list[1].name = "b";
    list[1].packages = packages[1];
    list[2].name = "c";
    list[2].packages = packages[2];

    assert_int_equal(nixery_image_parse(&image, "a/b/a", 5, list, &err),
                     NIXERY_OK);
    assert_int_equal(image.npackages, 2 * NIXERY_META_MAX);
    assert_int_equal(strlen(image.name), NIXERY_IMAGE_MAX - 1);
    nixery_image_free(&image);

    assert_int_equal(nixery_image_parse(&image, "a/b/c", 5, list, &err),
                     NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_NAME);
    assert_string_equal(err.message, "image name \"a/b/c\" stands for 192 "
                                     "packages, whose names are longer than "
                                     "32768 bytes");
    assert_null(image.packages);
    nixery_error_free(&err);
}


static void
names_of_metas(void **state)
{
    size_t          i;
    nixery_error_t  err = { 0 };

    static const char  *good[] = {
        "a", "1", "shell", "tools-2", "a.b", "a__b", "arm64x", "arm", NULL
    };

    static const case_t  bad[] = {
        { "", "the meta-package is empty" },
        { "Shell", "meta-package \"Shell\": \"S\" at byte 1: names are "
                   "lower-case" },
        { "a_", "meta-package \"a_\": \"_\" at byte 2: a component ends with "
                "a letter or a digit" },
        { "a/b", "meta-package \"a/b\" is more than one component of a name" },
        { "arm64", "\"arm64\" is a platform and can't be a meta-package" },
        { "/", NULL },
        { "-a", NULL },
        { "a b", NULL },
        { "caf\xc3\xa9", NULL },
        { NULL, NULL }
    };

    (void) state;

    for (i = 0; good[i] != NULL; i++) {
        assert_int_equal(nixery_meta_check(good[i], strlen(good[i]), &err),
                         NIXERY_OK);
    }

    for (i = 0; bad[i].text != NULL; i++) {
        assert_int_equal(nixery_meta_check(bad[i].text, strlen(bad[i].text),
                                           &err),
                         NIXERY_ERROR);
        assert_refused(&err, bad[i].message);
    }
}


static void
packages_of_metas(void **state)
{
    char            longest[NIXERY_PACKAGE_MAX + 2];
    size_t          i;
    nixery_error_t  err = { 0 };

    static const char  *good[] = {
        "git", "bashInteractive", "python3Packages.requests", "_1password",
        "1password", "a.b.c", "libstdc++5", "x'", "a-b", "Z", NULL
    };

    static const case_t  bad[] = {
        { "", "the name of a package is empty" },
        { "-x", "package \"-x\" begins with \"-\"" },
        { "--option", NULL },
        { ".a", "package \".a\" has an attribute without a name" },
        { "a.", NULL },
        { "a..b", "package \"a..b\" has an attribute without a name" },
        { ".", NULL },
        { "a b", "package \"a b\" is not made of letters, digits, \".\", "
                 "\"_\", \"-\", \"+\" and \"'\"" },
        { "a\nb", "package \"a b\" is not made of letters, digits, \".\", "
                  "\"_\", \"-\", \"+\" and \"'\"" },
        { "a/b", NULL },
        { "a\"b", NULL },
        { "${x}", NULL },
        { "a\\b", NULL },
        { "a,b", NULL },
        { "caf\xc3\xa9", NULL },
        { NULL, NULL }
    };

    (void) state;

    for (i = 0; good[i] != NULL; i++) {
        assert_int_equal(nixery_package_check(good[i], strlen(good[i]), &err),
                         NIXERY_OK);
    }

    for (i = 0; bad[i].text != NULL; i++) {
        assert_int_equal(nixery_package_check(bad[i].text, strlen(bad[i].text),
                                              &err),
                         NIXERY_ERROR);
        assert_refused(&err, bad[i].message);
    }

    memset(longest, 'x', sizeof(longest));
    assert_int_equal(nixery_package_check(longest, 255, &err), NIXERY_OK);
    assert_int_equal(nixery_package_check(longest, 256, &err), NIXERY_ERROR);
    assert_non_null(strstr(err.message, "xx\" is 256 bytes long, more than "
                                        "255"));
    assert_refused(&err, NULL);

    assert_int_equal(nixery_package_check("a\0b", 3, &err), NIXERY_ERROR);
    assert_refused(&err, NULL);
}


static void
length_of_names(void **state)
{
    char            name[257];
    size_t          i;
    nixery_error_t  err = { 0 };
    nixery_image_t  image;

    (void) state;

    memset(name, 'a', sizeof(name));

    assert_int_equal(parse(&image, name, 255, &err), NIXERY_OK);
    assert_int_equal(strlen(image.name), 255);
    nixery_image_free(&image);

    assert_name_refused(name, 256,
                        "image name \""
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\" is 256 bytes "
                        "long, more than 255");

    /* the most packages that a name can hold */

    for (i = 0; i < 255; i++) {
        name[i] = '/';

        if (i % 2 == 0) {
            name[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[i / 2 % 36];
        }
    }

    assert_int_equal(parse(&image, name, 255, &err), NIXERY_OK);
    assert_int_equal(image.npackages, 36);
    nixery_image_free(&image);
}


static void
many_packages(void **state)
{
    char           *p, name[256];
    int             i;
    nixery_error_t  err = { 0 };
    nixery_image_t  image;

    (void) state;

    /* 26 of one letter, the others of two: what fits into 255 bytes */

    p = name;

    for (i = 0; i < 26; i++) {
        p += sprintf(p, "%c/", 'z' - i);
    }

    for (i = 0; p - name <= 255 - 3; i++) {
        p += sprintf(p, "%c%d/", 'z' - i % 26, i / 26);
    }

    assert_int_equal(parse(&image, name, p - name - 1, &err), NIXERY_OK);
    assert_int_equal(image.npackages, 26 + i);
    assert_null(image.packages[image.npackages]);

    for (i = 1; i < (int) image.npackages; i++) {
        assert_true(strcmp(image.packages[i - 1], image.packages[i]) < 0);
    }

    nixery_image_free(&image);

    for (i = 0; i < 128; i++) {
        name[i * 2] = '7';
        name[i * 2 + 1] = '/';
    }

    assert_int_equal(parse(&image, name, 255, &err), NIXERY_OK);
    assert_string_equal(image.name, "7");
    nixery_image_free(&image);
}


/* All strings of up to six of these bytes: the parser and the grammar agree. */

static void
every_short_name(void **state)
{
    char               name[7];
    size_t             i, len;
    regex_t            re;
    unsigned           n, v, all;
    nixery_error_t     err = { 0 };
    nixery_image_t     image;
    static const char  bytes[] = "a0./_-A";

    (void) state;

    assert_int_equal(regcomp(&re, grammar, REG_EXTENDED | REG_NOSUB), 0);

    for (len = 1, all = 7; len <= 6; len++, all *= 7) {

        for (n = 0; n < all; n++) {

            for (i = 0, v = n; i < len; i++, v /= 7) {
                name[i] = bytes[v % 7];
            }

            name[len] = '\0';

            if (parse(&image, name, len, &err) == NIXERY_OK) {
                assert_int_equal(regexec(&re, name, 0, NULL, 0), 0);
                nixery_image_free(&image);

            } else {
                assert_int_not_equal(regexec(&re, name, 0, NULL, 0), 0);
                assert_int_equal(err.kind, NIXERY_ERROR_NAME);
                nixery_error_free(&err);
            }
        }
    }

    regfree(&re);
}


static void
tags(void **state)
{
    char                longest[130];
    size_t              i;
    nixery_error_t      err = { 0 };
    static const char  *good[] = {
        "latest", "1.2.3", "v1", "_", "_x", "A", "a-b", "a.b", "a--..__",
        "nixos-23.05", "0123456789abcdef0123456789abcdef01234567", NULL
    };

    static const char  *bad[] = {
        "", ".", "-", ".x", "-x", "--option", "..", "a b", "a/b", "a:b", "a@b",
        "a+b", "a\n", "\na", "a\"", "${x}", "a$", "a%00", "a;b", "caf\xc3\xa9",
        "\x80", "a\\b", "'", "refs/heads/x", "a~1", "a^", "*", "a?", "[x]",
        "a,b", "=", "a=b", "!", "#", "(", "<x>", "|", "`id`", "{", "}", "\x7f",
        NULL
    };

    (void) state;

    for (i = 0; good[i] != NULL; i++) {
        assert_int_equal(nixery_tag_check(good[i], strlen(good[i]), &err),
                         NIXERY_OK);
    }

    for (i = 0; bad[i] != NULL; i++) {
        assert_int_equal(nixery_tag_check(bad[i], strlen(bad[i]), &err),
                         NIXERY_ERROR);
        assert_int_equal(err.kind, NIXERY_ERROR_TAG);
        assert_printable(err.message);
        nixery_error_free(&err);
    }

    assert_int_equal(nixery_tag_check("a\0b", 3, &err), NIXERY_ERROR);
    assert_string_equal(err.message, "tag \"a\\x00b\": \"\\x00\" at byte 2: a "
                        "tag is made of letters, digits, \"_\", \".\" and "
                        "\"-\"");
    nixery_error_free(&err);

    assert_int_equal(nixery_tag_check("-x", 2, &err), NIXERY_ERROR);
    assert_string_equal(err.message, "tag \"-x\": \"-\" at byte 1: a tag "
                        "begins with a letter, a digit or \"_\"");
    nixery_error_free(&err);

    memset(longest, 'x', sizeof(longest));
    assert_int_equal(nixery_tag_check(longest, 128, &err), NIXERY_OK);
    assert_int_equal(nixery_tag_check(longest, 129, &err), NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_TAG);
    nixery_error_free(&err);
}


static void
digests(void **state)
{
    char           hex[NIXERY_HEX_LEN + 1];
    size_t         i;
    nixery_error_t err = { 0 };

    static const case_t  bad[] = {
        { "", NULL },
        { ":", "digest \":\": only sha256 is served" },
        { "sha256", "digest \"sha256\" is not \"sha256:\" and 64 hexadecimal "
                    "digits" },
        { "sha256:", "digest \"sha256:\" has 0 digits, not 64" },
        { HEX, NULL },
        { ":" HEX, NULL },
        { "sha256:" HEX "0", NULL },
        { "sha256::" HEX, NULL },
        { "sha256:sha256:" HEX, NULL },
        { " sha256:" HEX, NULL },
        { "sha256: " HEX, NULL },
        { "sha256:" HEX "\n", NULL },
        { "SHA256:" HEX, NULL },
        { "sha255:" HEX, NULL },
        { "sha512:" HEX HEX, "digest \"sha512:e3b0c44298fc1c149afbf4c8996fb924"
                             "27ae41e4649b934ca495991b7...\": only sha256 is "
                             "served" },
        { "sha384:" HEX, NULL },
        { "md5:d41d8cd98f00b204e9800998ecf8427e", NULL },
        { "sha256-" HEX, NULL },
        { "sha256+b64:" HEX, NULL },
        { "sha256:E3B0C44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852"
          "b855", "digest \"sha256:E3B0C44298fc1c149afbf4c8996fb92427ae41e4649"
                  "b934ca495991b7...\": \"E\" at byte 8 is no lower-case "
                  "hexadecimal digit" },
        { "sha256:g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852"
          "b855", NULL },
        { "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852"
          "b85/", NULL },
        { "sha256:../../../../../../etc/passwd/4649b934ca495991b7852b85500000",
          NULL },
        { "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852"
          "b85", NULL },
        { NULL, NULL }
    };

    (void) state;

    assert_int_equal(nixery_digest_parse("sha256:" HEX "trailing", 71, hex,
                                         &err),
                     NIXERY_OK);
    assert_string_equal(hex, HEX);

    for (i = 0; bad[i].text != NULL; i++) {
        assert_int_equal(nixery_digest_parse(bad[i].text, strlen(bad[i].text),
                                             hex, &err),
                         NIXERY_ERROR);
        assert_int_equal(err.kind, NIXERY_ERROR_DIGEST);
        assert_printable(err.message);

        if (bad[i].message != NULL) {
            assert_string_equal(err.message, bad[i].message);
        }

        nixery_error_free(&err);
    }

    assert_int_equal(nixery_digest_parse("sha256:\0" HEX, 71, hex, &err),
                     NIXERY_ERROR);
    nixery_error_free(&err);
}


static void
freed_twice(void **state)
{
    nixery_image_t  image = { 0 };

    (void) state;

    nixery_image_free(&image);
    nixery_image_free(&image);

    assert_null(image.name);
}


/* Without meta-packages but those that are there anyway. */

static int
parse(nixery_image_t *image, const char *name, size_t len, nixery_error_t *err)
{
    return nixery_image_parse(image, name, len, NULL, err);
}


static void
assert_name_refused(const char *name, size_t len, const char *message)
{
    nixery_error_t  err = { 0 };
    nixery_image_t  image;

    assert_int_equal(parse(&image, name, len, &err), NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_NAME);
    assert_null(image.packages);
    assert_null(image.name);
    assert_printable(err.message);

    if (message != NULL) {
        assert_string_equal(err.message, message);
    }

    nixery_error_free(&err);
}


/* By name; of the message, whatever it is if NULL.  Frees the error. */

static void
assert_refused(nixery_error_t *err, const char *message)
{
    assert_int_equal(err->kind, NIXERY_ERROR_NAME);

    if (message != NULL) {
        assert_string_equal(err->message, message);
    }

    nixery_error_free(err);
}


static void
assert_image(const char *name, const char *canonical)
{
    size_t          i, len;
    nixery_error_t  err = { 0 };
    nixery_image_t  image;

    assert_int_equal(parse(&image, name, strlen(name), &err), NIXERY_OK);
    assert_int_equal(err.kind, NIXERY_ERROR_NONE);
    assert_string_equal(image.name, canonical);
    assert_null(image.packages[image.npackages]);

    for (i = 0, len = 0; i < image.npackages; i++) {
        assert_memory_equal(image.name + len, image.packages[i],
                            strlen(image.packages[i]));
        len += strlen(image.packages[i]) + 1;
    }

    assert_int_equal(len - 1, strlen(canonical));

    nixery_image_free(&image);
}


static void
assert_printable(const char *s)
{
    for ( /* void */ ; *s != '\0'; s++) {
        assert_in_range(*s, 0x20, 0x7e);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(malformed_names),
        cmocka_unit_test(canonical_names),
        cmocka_unit_test(platforms),
        cmocka_unit_test(metas),
        cmocka_unit_test(large_metas),
        cmocka_unit_test(names_of_metas),
        cmocka_unit_test(packages_of_metas),
        cmocka_unit_test(length_of_names),
        cmocka_unit_test(many_packages),
        cmocka_unit_test(every_short_name),
        cmocka_unit_test(tags),
        cmocka_unit_test(digests),
        cmocka_unit_test(freed_twice),
    };

    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
