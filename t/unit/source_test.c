
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <unistd.h>
#include "unit.h"
#include "nixery_source.h"


#define COMMIT   "0123456789abcdef0123456789abcdef01234567"
#define ANOTHER  "89abcdef0123456789abcdef0123456789abcdef"

#define A16       "aaaaaaaaaaaaaaaa"
#define LONG_TAG  A16 A16 A16 A16 A16 A16 A16 A16

#define NAMES    4000    /* that are made up for git-check-ref-format */

#define count_of(array)  (sizeof(array) / sizeof(array[0]))


static int
pin(const nixery_source_t *source, const char *tag, char **id)
{
    int                rc;
    nixery_error_t     err = { 0 };
    nixery_revision_t  revision;

    /* what was there before is of no account */

    memset(&revision, 'x', sizeof(nixery_revision_t));

    rc = nixery_source_pin(source, tag, strlen(tag), &revision, &err);

    assert_string_equal(revision.ref, "");

    if (rc == NIXERY_ERROR) {
        assert_int_equal(err.kind, NIXERY_ERROR_TAG);
        assert_non_null(err.message);

    } else {
        assert_int_equal(err.kind, NIXERY_ERROR_NONE);
    }

    nixery_error_free(&err);

    *id = format("%s", revision.id);

    return rc;
}


static void
assert_pinned(const nixery_source_t *source, const char *tag, const char *id)
{
    char  *is;

    assert_int_equal(pin(source, tag, &is), NIXERY_OK);
    assert_string_equal(is, id);
    free(is);
}


static void
assert_moving(const nixery_source_t *source, const char *tag)
{
    char  *is;

    if (pin(source, tag, &is) != NIXERY_DECLINED) {
        fail_msg("\"%s\" is not to be resolved", tag);
    }

    assert_string_equal(is, "");
    free(is);
}


static void
assert_no_tag(const nixery_source_t *source, const char *tag)
{
    char  *is;

    if (pin(source, tag, &is) != NIXERY_ERROR) {
        fail_msg("\"%s\" is a tag", tag);
    }

    free(is);
}


/* Of no source. */

static const char  *bad_tags[] = {
    "", ".a", "-a", "a/b", "a b", "a:b", "a@b", "a\n", "\xc3\xa4",
    "--upload-pack=x", "ref/heads/a", "Refs/heads/a", "/refs/heads/a",
    "refs/", LONG_TAG "a"
};


static void
path(void **state)
{
    size_t  i;

    nixery_source_t  source = { .kind = NIXERY_SOURCE_PATH, .name = "/x" };

    (void) state;

    assert_pinned(&source, "latest", "");
    assert_pinned(&source, "HEAD", "");
    assert_pinned(&source, "1.0", "");
    assert_pinned(&source, COMMIT, "");
    assert_pinned(&source, LONG_TAG, "");

    for (i = 0; i < count_of(bad_tags); i++) {
        assert_no_tag(&source, bad_tags[i]);
    }

    assert_no_tag(&source, "refs/heads/main");
}


static void
channel(void **state)
{
    size_t  i;

    nixery_source_t  source = { .kind = NIXERY_SOURCE_CHANNEL,
                                .name = "nixos-unstable" };

    (void) state;

    /* the tag says nothing */

    assert_moving(&source, "latest");
    assert_moving(&source, "nixos-22.11");
    assert_moving(&source, COMMIT);

    source.name = COMMIT;
    assert_pinned(&source, "latest", COMMIT);
    assert_pinned(&source, "nixos-22.11", COMMIT);
    assert_pinned(&source, ANOTHER, COMMIT);

    /* of a git source alone */

    source.ref = ANOTHER;
    assert_pinned(&source, "latest", COMMIT);

    for (i = 0; i < count_of(bad_tags); i++) {
        assert_no_tag(&source, bad_tags[i]);
    }

    assert_no_tag(&source, "refs/heads/main");

    source.name = "0123456789abcdef0123456789abcdef0123456";
    assert_moving(&source, "latest");
}


static void
git(void **state)
{
    char    *tag;
    size_t   i;

    nixery_source_t  source = { .kind = NIXERY_SOURCE_GIT,
                                .name = "https://host/a" };

    static const char  *moving[] = {
        "latest", "HEAD", "main", "v1.0", "refs", "refs/heads/main",
        "refs/heads/a/b", "refs/tags/v1", "refs/a", "refs/x/y-z_0",

        /* all of its 40 digits, lower-case as git prints them */
        "0123456789abcdef0123456789abcdef0123456",
        COMMIT "0", COMMIT COMMIT,
        "0123456789abcdef0123456789abcdef0123456g",
        "0123456789ABCDEF0123456789ABCDEF01234567"
    };

    static const char  *bad_refs[] = {
        "refs//a", "refs/a/", "refs/a..b", "refs/.a", "refs/a.", "refs/a.lock",
        "refs/a b", "refs/a^{}", "refs/heads/*", "refs/a:b", "refs/a\nb"
    };

    (void) state;

    assert_pinned(&source, COMMIT, COMMIT);
    assert_pinned(&source, ANOTHER, ANOTHER);

    for (i = 0; i < count_of(moving); i++) {
        assert_moving(&source, moving[i]);
    }

    for (i = 0; i < count_of(bad_tags); i++) {
        assert_no_tag(&source, bad_tags[i]);
    }

    for (i = 0; i < count_of(bad_refs); i++) {
        assert_no_tag(&source, bad_refs[i]);
    }

    /* a full name may be longer than a tag */

    tag = format("refs/%0*d", NIXERY_REF_MAX - 5, 0);
    assert_moving(&source, tag);
    free(tag);

    tag = format("refs/%0*d", NIXERY_REF_MAX - 4, 0);
    assert_no_tag(&source, tag);
    free(tag);

    /* what "latest" is may be a commit: by both of its names */

    source.ref = "main";
    assert_moving(&source, "latest");
    assert_moving(&source, "HEAD");

    source.ref = COMMIT;
    assert_pinned(&source, "latest", COMMIT);
    assert_pinned(&source, "HEAD", COMMIT);
    assert_pinned(&source, ANOTHER, ANOTHER);
    assert_moving(&source, "lates");
    assert_moving(&source, "latest1");
    assert_moving(&source, "HEADS");
    assert_moving(&source, "refs/heads/latest");
}


/* The length counts, not where the string ends. */

static void
lengths(void **state)
{
    nixery_error_t     err = { 0 };
    nixery_revision_t  revision;

    nixery_source_t  source = { .kind = NIXERY_SOURCE_GIT,
                                .name = "https://host/a" };

    (void) state;

    assert_int_equal(nixery_source_pin(&source, COMMIT "/x", 40, &revision,
                                       &err),
                     NIXERY_OK);
    assert_string_equal(revision.id, COMMIT);

    assert_int_equal(nixery_source_pin(&source, "refs/a..", 6, &revision,
                                       &err),
                     NIXERY_DECLINED);
    assert_int_equal(nixery_source_pin(&source, "main/x", 4, &revision, &err),
                     NIXERY_DECLINED);
    assert_int_equal(nixery_source_pin(&source, "refs/a\0b", 8, &revision,
                                       &err),
                     NIXERY_ERROR);
    nixery_error_free(&err);
    assert_int_equal(nixery_source_pin(&source, "a\0b", 3, &revision, &err),
                     NIXERY_ERROR);
    nixery_error_free(&err);
}


static void
messages(void **state)
{
    nixery_error_t     err = { 0 };
    nixery_revision_t  revision;

    nixery_source_t  source = { .kind = NIXERY_SOURCE_GIT,
                                .name = "https://host/a" };

    (void) state;

    assert_int_equal(nixery_source_pin(&source, "refs/a..b", 9, &revision,
                                       &err),
                     NIXERY_ERROR);
    assert_int_equal(err.kind, NIXERY_ERROR_TAG);
    assert_string_equal(err.message, "the tag is no name of a git reference, "
                                     "see git-check-ref-format");
    nixery_error_free(&err);
}


static void
commits(void **state)
{
    int   c;
    char  commit[] = COMMIT;

    (void) state;

    assert_true(nixery_commit_valid(COMMIT, 40));
    assert_true(nixery_commit_valid(COMMIT "0", 40));
    assert_false(nixery_commit_valid(COMMIT "0", 41));
    assert_false(nixery_commit_valid(COMMIT, 39));
    assert_false(nixery_commit_valid("", 0));
    assert_false(nixery_commit_valid(COMMIT COMMIT, 80));

    for (c = 0; c < 256; c++) {
        commit[20] = (char) c;
        assert_int_equal(nixery_commit_valid(commit, 40),
                         c != 0 && strchr("0123456789abcdef", c) != NULL);
        commit[20] = '0';
    }
}


/*
 * Names made of what the rules are about, each judged by git itself: one file
 * of lines, one of verdicts.
 */

static void
refs(void **state)
{
    int       valid;
    char      name[64], line[64], *verdict, *names, *verdicts, *command;
    char      dir[] = "/tmp/nixery-source-XXXXXX";
    FILE     *fp;
    size_t    i, k, n, good;
    uint32_t  x;

    static const char  *parts[] = {
        "a", "Z", "0", "/", "/", ".", ".", "..", "@", "{", "@{", "-", "~", "^",
        ":", "?", "*", "[", "]", "}", "\\", " ", "\t", "\x7f", "\x01", "lock",
        ".lock", "/.", "//", "heads/", "tags/", "refs/", "+", "_", "=", ",",
        "!", "\"", "'", "$", "%", "&", "(", "|", ";", "<", "#", "`"
    };

    (void) state;

    assert_non_null(mkdtemp(dir));
    names = format("%s/names", dir);
    verdicts = format("%s/verdicts", dir);

    fp = fopen(names, "we");
    assert_non_null(fp);

    for (i = 0, x = 1; i < NAMES; i++) {
        (void) strcpy(name, i % 16 ? "refs/" : "");

        x = x * 1664525 + 1013904223;

        for (n = 1 + (x >> 24) % 6; n != 0; n--) {
            x = x * 1664525 + 1013904223;

            /* mostly good ones: bad ones look alike */

            k = (x >> 16) % 4 ? (x >> 24) % 3 : (x >> 24) % count_of(parts);
            (void) strcat(name, parts[k]);
        }

        assert_true(fprintf(fp, "%s\n", name) > 0);
    }

    /* each alone */

    for (i = 0; i < count_of(parts); i++) {
        assert_true(fprintf(fp, "refs/%s\nrefs/a%sb\nrefs/a%s\nrefs/%sb\n",
                            parts[i], parts[i], parts[i], parts[i])
                    > 0);
    }

    assert_int_equal(fclose(fp), 0);

    command = format("while IFS= read -r name; do"
                     "  git check-ref-format \"$name\";"
                     "  printf '%%s\\n' \"$?$name\";"
                     "done < '%s' > '%s'", names, verdicts);
    assert_int_equal(system(command), 0);
    free(command);

    fp = fopen(verdicts, "re");
    assert_non_null(fp);

    for (n = 0, good = 0; fgets(line, sizeof(line), fp) != NULL; n++) {
        verdict = line;
        line[strcspn(line, "\n")] = '\0';

        /* of names that begin with "refs/" */

        valid = *verdict == '0' && strncmp(line + 1, "refs/", 5) == 0;
        good += valid;

        if (nixery_ref_valid(line + 1, strlen(line + 1)) != valid) {
            fail_msg("\"%s\" is %s", line + 1, valid ? "valid" : "not valid");
        }
    }

    assert_int_equal(fclose(fp), 0);
    assert_int_equal(n, NAMES + 4 * count_of(parts));
    assert_in_range(good, n / 4, n - n / 4);

    assert_int_equal(unlink(names), 0);
    assert_int_equal(unlink(verdicts), 0);
    assert_int_equal(rmdir(dir), 0);

    free(names);
    free(verdicts);
}


/* What git allows, and we do not: it comes to people, and to headers. */

static void
more_than_git(void **state)
{
    char  name[] = "refs/a?b";

    (void) state;

    assert_false(nixery_ref_valid("refs/\xc3\xa4", 7));
    assert_false(nixery_ref_valid("main", 4));
    assert_false(nixery_ref_valid("heads/main", 10));
    assert_false(nixery_ref_valid("refs", 4));
    assert_false(nixery_ref_valid("refs/", 5));
    assert_false(nixery_ref_valid("", 0));

    assert_true(nixery_ref_valid("refs/a", 6));
    assert_true(nixery_ref_valid("refs/heads/main", 15));

    name[6] = '\n';
    assert_false(nixery_ref_valid(name, 8));
    name[6] = '\0';
    assert_false(nixery_ref_valid(name, 8));
    name[6] = '\x80';
    assert_false(nixery_ref_valid(name, 8));
}


static void
argument(void **state)
{
    size_t             i;
    nixery_buf_t       text;
    nixery_source_t    source = { 0 };
    nixery_revision_t  revision;

    static const struct {
        nixery_source_e   kind;
        const char       *name;
        const char       *ref;
        const char       *id;
        const char       *argument;
    } cases[] = {
        { NIXERY_SOURCE_PATH, "/a b!c", "", "", "path!/a b!c" },
        { NIXERY_SOURCE_PATH, "/a", "", COMMIT "-dirty", "path!/a" },
        { NIXERY_SOURCE_CHANNEL, "nixos-unstable", "nixos-unstable", COMMIT,
          "nixpkgs!nixos-unstable" },
        { NIXERY_SOURCE_CHANNEL, COMMIT, "", COMMIT, "nixpkgs!" COMMIT },
        { NIXERY_SOURCE_GIT, "https://h/a!b", "refs/heads/main", COMMIT,
          "git!https://h/a!b!main" },
        { NIXERY_SOURCE_GIT, "file:///a", "refs/heads/a/b", COMMIT,
          "git!file:///a!a/b" },
        { NIXERY_SOURCE_GIT, "file:///a", "refs/tags/v1", COMMIT,
          "git!file:///a!refs/tags/v1" },
        { NIXERY_SOURCE_GIT, "file:///a", "refs/pull/1/head", COMMIT,
          "git!file:///a!refs/pull/1/head" },
        { NIXERY_SOURCE_GIT, "file:///a", "HEAD", COMMIT,
          "git!file:///a!HEAD" },
        { NIXERY_SOURCE_GIT, "file:///a", "", COMMIT,
          "git!file:///a!" COMMIT },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        memset(&text, 0, sizeof(nixery_buf_t));
        memset(&revision, 0, sizeof(nixery_revision_t));

        source.kind = cases[i].kind;
        source.name = cases[i].name;
        (void) strcpy(revision.ref, cases[i].ref);
        (void) strcpy(revision.id, cases[i].id);

        assert_int_equal(nixery_source_argument(&source, &revision, &text),
                         NIXERY_OK);
        assert_string_equal(text.data, cases[i].argument);
        nixery_buf_free(&text);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(path),
        cmocka_unit_test(channel),
        cmocka_unit_test(git),
        cmocka_unit_test(lengths),
        cmocka_unit_test(messages),
        cmocka_unit_test(commits),
        cmocka_unit_test(refs),
        cmocka_unit_test(more_than_git),
        cmocka_unit_test(argument),
    };

    return cmocka_run_group_tests_name("source", tests, NULL, NULL);
}
