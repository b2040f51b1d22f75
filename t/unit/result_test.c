
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_result.h"


#define count_of(array)  (sizeof(array) / sizeof(array[0]))

/* store paths and digests that differ in one digit */

#define PATH(digit, name)                                                    \
    "/nix/store/0000000000000000000000000000000" digit "-" name

#define HEX(digit)                                                           \
    "000000000000000000000000000000000000000000000000000000000000000" digit

#define MALFORMED  "the builder's result is malformed: "

#define NODE(path, rest)                                                     \
    "{\"path\":\"" path "\",\"narSize\":1,\"references\":[]" rest "}"

#define C  NODE(PATH("0", "c"), "")

#define GRAPH(nodes, rest)                                                   \
    "{\"contents\":\"" PATH("0", "c") "\",\"graph\":[" nodes "]" rest "}"

#define LOCATION(digit)                                                      \
    "\"" HEX(digit) "\":{\"path\":\"" PATH(digit, "blob") "\"}"

#define BOTH  LOCATION("2") "," LOCATION("1")

#define DESCRIPTOR(digit)  "{\"digest\":\"sha256:" HEX(digit) "\"}"

#define MANIFEST                                                             \
    "{\"config\":" DESCRIPTOR("1") ",\"layers\":[" DESCRIPTOR("2") "]}"

/* no layers */
#define ALONE  "{\"layers\":[],\"config\":" DESCRIPTOR("1") "}"

#define X  "\"path\":\"" PATH("1", "x") "\""

#define ENTRY(fields)  "\"" HEX("1") "\":{" fields "}"

#define TARBALL(path, hash, size)                                            \
    "{\"size\":" size ",\"tarHash\":\"" hash "\",\"path\":\"" path "\"}"

#define PREPARED(nodes, layer)                                               \
    "{\"runtimeGraph\":{\"graph\":[" nodes "]},\"symlinkLayer\":" layer "}"

#define PREBUILT(manifest, locations)                                        \
    "{\"manifest\":" manifest ",\"layerLocations\":{" locations "}}"


static char  *path;


static int
make_file(void **state)
{
    (void) state;

    return asprintf(&path, "/tmp/nixery-result-%d", (int) getpid()) == -1;
}


static int
remove_file(void **state)
{
    (void) state;

    (void) unlink(path);
    free(path);

    return 0;
}


/* A text of exactly that many bytes: a look behind its end is found. */

static int
parse(nixery_result_t *result, const char *text, nixery_error_t *err)
{
    int      rc;
    char    *copy;
    size_t   len;

    len = strlen(text);
    copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);

    memset(err, 0, sizeof(nixery_error_t));
    rc = nixery_result_parse(result, copy, len, err);

    free(copy);

    return rc;
}


static void
accepted(nixery_result_t *result, const char *text)
{
    nixery_error_t  err;

    if (parse(result, text, &err) != NIXERY_OK) {
        fail_msg("%.500s: %s", text, err.message);
    }

    assert_int_equal(err.kind, NIXERY_ERROR_NONE);
}


static void
refused(const char *text, nixery_error_e kind, const char *message)
{
    nixery_error_t   err;
    nixery_result_t  result, empty = { 0 };

    if (parse(&result, text, &err) != NIXERY_ERROR) {
        fail_msg("%.500s: is accepted", text);
    }

    assert_string_equal(err.message, message);
    assert_int_equal(err.kind, kind);
    assert_memory_equal(&result, &empty, sizeof(nixery_result_t));

    nixery_error_free(&err);
}


static void
malformed(const char *text, const char *message)
{
    char  *whole;

    assert_true(asprintf(&whole, MALFORMED "%s", message) != -1);
    refused(text, NIXERY_ERROR_RESULT, whole);
    free(whole);
}


/* open, n times "item" with its number and "," between, close */

static char *
repeat(const char *open, const char *item, size_t n, const char *close)
{
    size_t         i;
    nixery_buf_t   text = { 0 };

    assert_int_equal(nixery_buf_puts(&text, open), NIXERY_OK);

    for (i = 0; i < n; i++) {
        assert_int_equal(nixery_buf_puts(&text, i ? "," : ""), NIXERY_OK);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        assert_int_equal(nixery_buf_printf(&text, item, i), NIXERY_OK);
#pragma GCC diagnostic pop
    }

    assert_int_equal(nixery_buf_puts(&text, close), NIXERY_OK);

    return text.data;
}


static void
no_form(void **state)
{
    (void) state;

    malformed("[]", "it is not an object");
    malformed("\"error\"", "it is not an object");
    malformed("null", "it is not an object");
    malformed("{}", "it has none of the keys \"error\", \"manifest\","
              " \"graph\" and \"runtimeGraph\"");
    malformed("{\"Error\":\"x\",\"GRAPH\":[],\"Manifest\":{}}",
              "it has none of the keys \"error\", \"manifest\", \"graph\" and"
              " \"runtimeGraph\"");
    malformed("{\"symlinkLayer\":{}}",
              "it has none of the keys \"error\", \"manifest\", \"graph\" and"
              " \"runtimeGraph\"");

    refused("", NIXERY_ERROR_RESULT,
            "the builder's result is not valid JSON: it ends too early, at"
            " byte 0");
    refused("{\"error\":\"x\",\"error\":\"y\"}", NIXERY_ERROR_RESULT,
            "the builder's result has the key \"error\" twice in one object");
    refused("{\"a\\nb\\u001b[1m\":1,\"a\\nb\\u001b[1m\":1}",
            NIXERY_ERROR_RESULT,
            "the builder's result has the key \"a b\" twice in one object");
}


/* --- the error form */

static void
errors(void **state)
{
    size_t  i;

    static const struct {
        const char      *text;
        nixery_error_e   kind;
        const char      *message;
    } cases[] = {
        { "{\"error\":\"not_found\",\"pkgs\":[\"nope\"]}",
          NIXERY_ERROR_NOT_FOUND, "package not found: \"nope\"" },

        { "{\"error\":\"not_found\",\"pkgs\":[\"a\",\"b\"]}",
          NIXERY_ERROR_NOT_FOUND, "packages not found: \"a\", \"b\"" },

        { "{\"error\":\"not_found\"}", NIXERY_ERROR_NOT_FOUND,
          "the builder says \"not_found\"" },

        { "{\"error\":\"not_found\",\"pkgs\":[]}", NIXERY_ERROR_NOT_FOUND,
          "the builder says \"not_found\"" },

        { "{\"error\":\"not_found\",\"pkgs\":[\"a\"],\"reasons\":{\"a\":"
          "\"not found\",\"b\":\"is marked as broken\"}}",
          NIXERY_ERROR_NOT_FOUND,
          "package not found: \"a\"; package can't be used: \"b\" (is marked"
          " as broken)" },

        { "{\"error\":\"not_found\",\"pkgs\":[\"a\"],\"reasons\":{\"a\":"
          "\"not found\"}}",
          NIXERY_ERROR_NOT_FOUND, "package not found: \"a\"" },

        { "{\"error\":\"unusable\",\"pkgs\":[\"a\",\"b\"],\"reasons\":"
          "{\"a\":\"why a\",\"b\":\"why b\"}}",
          NIXERY_ERROR_PACKAGE,
          "packages can't be used: \"a\" (why a), \"b\" (why b)" },

        { "{\"error\":\"unusable\",\"pkgs\":[\"a\"]}", NIXERY_ERROR_PACKAGE,
          "package can't be used: \"a\"" },

        { "{\"error\":\"quota\",\"message\":\"too large\"}",
          NIXERY_ERROR_PACKAGE, "too large" },

        { "{\"error\":\"quota\",\"message\":\"too large\",\"pkgs\":[\"a\"]}",
          NIXERY_ERROR_PACKAGE, "too large; package can't be used: \"a\"" },

        { "{\"error\":\"quota\",\"detail\":{\"any\":[1]}}",
          NIXERY_ERROR_PACKAGE, "the builder says \"quota\"" },

        { "{\"error\":\"\"}", NIXERY_ERROR_PACKAGE,
          "the builder says \"\"" },

        /* the error comes first, whatever else is there */

        { "{\"graph\":1,\"manifest\":2,\"error\":\"x\"}",
          NIXERY_ERROR_PACKAGE, "the builder says \"x\"" },

        /* a message is one line */

        { "{\"error\":\"x\",\"message\":\"one\\ntwo\\tthree\\u0007\"}",
          NIXERY_ERROR_PACKAGE, "one two three" },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        refused(cases[i].text, cases[i].kind, cases[i].message);
    }
}


static void
errors_of_wrong_types(void **state)
{
    char  *text;

    (void) state;

    malformed("{\"error\":1}", "\"error\" is not a string");
    malformed("{\"error\":null}", "\"error\" is not a string");
    malformed("{\"error\":[\"not_found\"]}", "\"error\" is not a string");
    malformed("{\"error\":\"x\",\"pkgs\":\"a\"}", "\"pkgs\" is not a list");
    malformed("{\"error\":\"x\",\"pkgs\":{\"a\":\"b\"}}",
              "\"pkgs\" is not a list");
    malformed("{\"error\":\"x\",\"pkgs\":[\"a\",1]}",
              "\"pkgs\" has what is not a string");
    malformed("{\"error\":\"x\",\"reasons\":[\"a\"]}",
              "\"reasons\" is not an object");
    malformed("{\"error\":\"x\",\"reasons\":{\"a\":{}}}",
              "a reason is not a string");
    malformed("{\"error\":\"x\",\"message\":[\"a\"]}",
              "\"message\" is not a string");

    text = repeat("{\"error\":\"not_found\",\"pkgs\":[", "\"%zu\"", 1001,
                  "]}");
    malformed(text, "\"pkgs\" has 1001 entries, at most 1000 are taken");
    free(text);

    text = repeat("{\"error\":\"x\",\"reasons\":{", "\"%zu\":\"\"", 1001,
                  "}}");
    malformed(text, "\"reasons\" has 1001 entries, at most 1000 are taken");
    free(text);

    text = repeat("{\"error\":\"x\",\"message\":\"", "%010zu", 6000, "\"}");
    malformed(text, "its error has more than 65536 bytes");
    free(text);
}


/* --- the closure form */

static void
closure(void **state)
{
    nixery_result_t  result;

    (void) state;

    accepted(&result,
             "{\"unknown\":{\"keys\":[1]},\"Error\":\"of another case\","
             "\"system\":\"builtin\",\"imageSystem\":\"x86_64-linux\","
             "\"contents\":\"" PATH("2", "c") "\","
             "\"graph\":["
             "{\"path\":\"" PATH("3", "d") "\",\"narSize\":7,"
             "\"closureSize\":9007199254740992,\"references\":["
             "\"" PATH("3", "d") "\",\"" PATH("1", "b") "\","
             "\"" PATH("0", "a") "\",\"" PATH("1", "b") "\"],\"deriver\":null},"
             "{\"references\":[],\"path\":\"" PATH("1", "b") "\","
             "\"narSize\":0},"
             "{\"path\":\"" PATH("2", "c") "\",\"narSize\":3.0e2,"
             "\"references\":[\"" PATH("3", "d") "\"]},"
             "{\"path\":\"" PATH("0", "a") "\",\"narSize\":-0,"
             "\"closureSize\":5,\"references\":[]}]}");

    assert_int_equal(result.form, NIXERY_RESULT_CLOSURE);
    assert_string_equal(result.contents, PATH("2", "c"));
    assert_string_equal(result.system, "x86_64-linux");

    /* sorted, each reference once, none to itself */

    assert_int_equal(result.nnodes, 4);
    assert_string_equal(result.nodes[0].path, PATH("0", "a"));
    assert_string_equal(result.nodes[1].path, PATH("1", "b"));
    assert_string_equal(result.nodes[2].path, PATH("2", "c"));
    assert_string_equal(result.nodes[3].path, PATH("3", "d"));

    assert_true(result.nodes[0].nar_size == 0);
    assert_true(result.nodes[0].closure_size == 5);
    assert_true(result.nodes[1].closure_size == 0);
    assert_true(result.nodes[2].nar_size == 300);
    assert_true(result.nodes[3].closure_size == 9007199254740992);

    assert_int_equal(result.nodes[0].nreferences, 0);
    assert_int_equal(result.nodes[2].nreferences, 1);
    assert_int_equal(result.nodes[2].references[0], 3);
    assert_int_equal(result.nodes[3].nreferences, 2);
    assert_int_equal(result.nodes[3].references[0], 0);
    assert_int_equal(result.nodes[3].references[1], 1);

    nixery_result_free(&result);

    /* nothing but what must be there */

    accepted(&result, GRAPH(C, ""));
    assert_null(result.system);
    assert_int_equal(result.nnodes, 1);
    nixery_result_free(&result);
}


static void
closures_of_wrong_types(void **state)
{
    size_t  i;

    static const struct {
        const char  *text;
        const char  *message;
    } cases[] = {
        { "{\"graph\":{}}", "\"graph\" is not a list" },
        { "{\"graph\":null}", "\"graph\" is not a list" },
        { "{\"graph\":[]}", "\"contents\" is not a store path" },
        { "{\"graph\":[],\"contents\":1}", "\"contents\" is not a store path" },
        { "{\"graph\":[],\"contents\":\"/tmp/x\"}",
          "\"contents\" is not a store path" },
        { "{\"graph\":[],\"contents\":\"" PATH("0", "c") "/x\"}",
          "\"contents\" is not a store path" },
        { GRAPH("", ""), "\"contents\" is not in the graph" },
        { GRAPH(NODE(PATH("1", "c"), ""), ""),
          "\"contents\" is not in the graph" },
        { GRAPH(C, ",\"imageSystem\":1"),
          "\"imageSystem\" is not a string" },
        { GRAPH("1", ""),
          "an entry of \"graph\" has no \"path\" that is a store path" },
        { GRAPH("[]", ""),
          "an entry of \"graph\" has no \"path\" that is a store path" },
        { GRAPH("{}", ""),
          "an entry of \"graph\" has no \"path\" that is a store path" },
        { GRAPH("{\"path\":[]}", ""),
          "an entry of \"graph\" has no \"path\" that is a store path" },
        { GRAPH(NODE("/nix/store/../../etc", ""), ""),
          "an entry of \"graph\" has no \"path\" that is a store path" },
        { GRAPH(NODE(PATH("0", "c") "/..", ""), ""),
          "an entry of \"graph\" has no \"path\" that is a store path" },
        { GRAPH("{\"path\":\"" PATH("0", "c") "\",\"narSize\":1}", ""),
          "\"references\" of \"" PATH("0", "c") "\" is not a list" },
        { GRAPH("{\"path\":\"" PATH("0", "c") "\",\"narSize\":1,"
                "\"references\":{}}",
                ""),
          "\"references\" of \"" PATH("0", "c") "\" is not a list" },
        { GRAPH("{\"path\":\"" PATH("0", "c") "\",\"narSize\":1,"
                "\"references\":[1]}",
                ""),
          "a reference of \"" PATH("0", "c") "\" is not a string" },
        { GRAPH("{\"path\":\"" PATH("0", "c") "\",\"narSize\":1,"
                "\"references\":[\"" PATH("1", "d") "\"]}",
                ""),
          "\"" PATH("0", "c") "\" refers to \"" PATH("1", "d") "\", which is"
          " not in the graph" },
        { GRAPH("{\"path\":\"" PATH("0", "c") "\",\"narSize\":1,"
                "\"references\":[\"../x\"]}",
                ""),
          "\"" PATH("0", "c") "\" refers to \"../x\", which is not in the"
          " graph" },
        { GRAPH(C "," NODE(PATH("1", "d"), "") "," C, ""),
          "\"graph\" has \"" PATH("0", "c") "\" twice" },
        { GRAPH("{\"path\":\"" PATH("0", "c") "\",\"references\":[]}", ""),
          "\"narSize\" of \"" PATH("0", "c") "\" is not a size in bytes" },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        malformed(cases[i].text, cases[i].message);
    }
}


static void
sizes(void **state)
{
    char    *text, *message;
    size_t   i, j;

    static const char  *keys[] = { "narSize", "closureSize" };

    static const char  *bad[] = {
        "-1", "0.5", "9007199254740994", "1e300", "\"1\"", "true", "null",
        "[]", "{}"
    };

    (void) state;

    for (i = 0; i < count_of(keys); i++) {
        for (j = 0; j < count_of(bad); j++) {
            assert_true(asprintf(&text, "{\"contents\":\"" PATH("0", "c") "\","
                                 "\"graph\":[{\"path\":\"" PATH("0", "c") "\","
                                 "\"references\":[],%s\"%s\":%s}]}",
                                 i ? "\"narSize\":1," : "", keys[i], bad[j])
                        != -1);
            assert_true(asprintf(&message, "\"%s\" of \"" PATH("0", "c") "\" is"
                                 " not a size in bytes",
                                 keys[i])
                        != -1);
            malformed(text, message);
            free(message);
            free(text);
        }
    }

    refused(GRAPH("{\"narSize\":1e400}", ""), NIXERY_ERROR_RESULT,
            "the builder's result is not valid JSON: a number is too large, at"
            " byte 80");
}


static void
many_paths(void **state)
{
    char             *text;
    nixery_result_t   result;

    (void) state;

    text = repeat("{\"contents\":\"" PATH("0", "0") "\",\"graph\":[",
                  "{\"path\":\"" PATH("0", "%zu") "\",\"narSize\":1,"
                  "\"references\":[\"" PATH("0", "0") "\"]}",
                  100000, "]}");
    accepted(&result, text);
    assert_int_equal(result.nnodes, 100000);
    assert_int_equal(result.nodes[99999].references[0], 0);
    nixery_result_free(&result);
    free(text);

    text = repeat("{\"contents\":\"" PATH("0", "0") "\",\"graph\":[", "%zu",
                  100001, "]}");
    malformed(text, "\"graph\" has 100001 paths, at most 100000 are taken");
    free(text);
}


static void
prepared(void **state)
{
    nixery_result_t  result;

    (void) state;

    /* all that a derivation's attributes have */

    accepted(&result,
             "{\"runtimeGraph\":{\"PATH\":\"/nix/store/x/bin\","
             "\"builder\":\"" PATH("7", "builder") "\","
             "\"exportReferencesGraph\":{\"graph\":[\"" PATH("1", "b") "\"]},"
             "\"graph\":["
             "{\"closureSize\":12,\"narHash\":\"sha256:0\",\"narSize\":7,"
             "\"path\":\"" PATH("1", "b") "\",\"references\":["
             "\"" PATH("0", "a") "\",\"" PATH("1", "b") "\"]},"
             "{\"closureSize\":5,\"narHash\":\"sha256:1\",\"narSize\":5,"
             "\"path\":\"" PATH("0", "a") "\",\"references\":[]}],"
             "\"name\":\"runtime-graph.json\",\"system\":\"x86_64-linux\"},"
             "\"symlinkLayer\":" TARBALL(PATH("2", "symlink-layer.tar"),
                                         HEX("e"), "10240") "}");

    assert_int_equal(result.form, NIXERY_RESULT_CLOSURE);
    assert_null(result.contents);
    assert_null(result.system);
    assert_string_equal(result.tarball.path, PATH("2", "symlink-layer.tar"));
    assert_string_equal(result.tarball.hash, HEX("e"));
    assert_true(result.tarball.size == 10240);

    assert_int_equal(result.nnodes, 2);
    assert_string_equal(result.nodes[0].path, PATH("0", "a"));
    assert_string_equal(result.nodes[1].path, PATH("1", "b"));
    assert_true(result.nodes[1].nar_size == 7);
    assert_true(result.nodes[1].closure_size == 12);
    assert_int_equal(result.nodes[1].nreferences, 1);
    assert_int_equal(result.nodes[1].references[0], 0);

    assert_ptr_equal(nixery_result_find(&result, PATH("1", "b")),
                     &result.nodes[1]);
    assert_null(nixery_result_find(&result, PATH("2", "b")));

    nixery_result_free(&result);

    /* a form of ours comes first */

    accepted(&result, GRAPH(C, ",\"runtimeGraph\":1"));
    assert_string_equal(result.contents, PATH("0", "c"));
    assert_null(result.tarball.path);
    nixery_result_free(&result);

    accepted(&result, PREPARED("", TARBALL(PATH("0", "t"), HEX("0"), "0")));
    assert_int_equal(result.nnodes, 0);
    nixery_result_free(&result);
}


static void
prepared_of_wrong_types(void **state)
{
    size_t  i;

    static const struct {
        const char  *text;
        const char  *message;
    } cases[] = {
        { "{\"runtimeGraph\":[]}", "\"runtimeGraph\" is not an object" },
        { "{\"runtimeGraph\":{}}", "\"symlinkLayer\" is not an object" },
        { "{\"runtimeGraph\":{},\"symlinkLayer\":\"" PATH("0", "t") "\"}",
          "\"symlinkLayer\" is not an object" },
        { "{\"runtimeGraph\":{},\"symlinkLayer\":{}}",
          "\"graph\" is not a list" },
        { PREPARED("1", "{}"),
          "an entry of \"graph\" has no \"path\" that is a store path" },
        { PREPARED(C "," C, "{}"),
          "\"graph\" has \"" PATH("0", "c") "\" twice" },
        { PREPARED(C, "{}"),
          "\"path\" of \"symlinkLayer\" is not a store path" },
        { PREPARED(C, "{\"path\":1}"),
          "\"path\" of \"symlinkLayer\" is not a store path" },
        { PREPARED(C, "{\"path\":\"/etc/passwd\"}"),
          "\"path\" of \"symlinkLayer\" is not a store path" },
        { PREPARED(C, "{\"path\":\"" PATH("0", "t") "/layer.tar\"}"),
          "\"path\" of \"symlinkLayer\" is not a store path" },
        { PREPARED(C, "{\"path\":\"" PATH("0", "t") "/../../../etc\"}"),
          "\"path\" of \"symlinkLayer\" is not a store path" },
        { PREPARED(C, "{\"path\":\"" PATH("0", "t") "\"}"),
          "\"tarHash\" of \"symlinkLayer\" is not a SHA-256 in hexadecimal" },
        { PREPARED(C, TARBALL(PATH("0", "t"), "sha256:" HEX("0"), "1")),
          "\"tarHash\" of \"symlinkLayer\" is not a SHA-256 in hexadecimal" },
        { PREPARED(C, TARBALL(PATH("0", "t"), HEX("A"), "1")),
          "\"tarHash\" of \"symlinkLayer\" is not a SHA-256 in hexadecimal" },
        { PREPARED(C, "{\"path\":\"" PATH("0", "t") "\",\"tarHash\":1}"),
          "\"tarHash\" of \"symlinkLayer\" is not a SHA-256 in hexadecimal" },
        { PREPARED(C, TARBALL(PATH("0", "t"), HEX("0"), "-1")),
          "\"size\" of \"symlinkLayer\" is not a size in bytes" },
        { PREPARED(C, TARBALL(PATH("0", "t"), HEX("0"), "\"1\"")),
          "\"size\" of \"symlinkLayer\" is not a size in bytes" },
        { PREPARED(C, "{\"path\":\"" PATH("0", "t") "\",\"tarHash\":\""
                   HEX("0") "\"}"),
          "\"size\" of \"symlinkLayer\" is not a size in bytes" },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        malformed(cases[i].text, cases[i].message);
    }
}


/* --- the prebuilt form */

static void
prebuilt(void **state)
{
    nixery_result_t  result;

    /* as odd as can be: all of it is part of the digest */

    static const char  manifest[] =
        "{ \"schemaVersion\" :2.0e0,\n\t\"layers\": [\r\n"
        "{\"size\":1,\"digest\":\"sha256:" HEX("2") "\"} ],"
        "\"z\\u00e4\":\"\\/\xc3\xa4\", \"a\":{\"manifest\":{}},"
        "\"config\" :{\"digest\":\"sha256:" HEX("1") "\"} , \"n\":null }";

    (void) state;

    accepted(&result,
             "{\"a\":{\"manifest\":1},\"layerLocations\" : {"
             "\"" HEX("3") "\":{\"path\":\"" PATH("3", "more") "/a/b.tar\","
             "\"md5\":\"AAAAAAAAAAAAAAAAAAAAAA==\"}," BOTH "},"
             "\"b\":[1,2],\"manifest\" :\n"
             "{ \"schemaVersion\" :2.0e0,\n\t\"layers\": [\r\n"
             "{\"size\":1,\"digest\":\"sha256:" HEX("2") "\"} ],"
             "\"z\\u00e4\":\"\\/\xc3\xa4\", \"a\":{\"manifest\":{}},"
             "\"config\" :{\"digest\":\"sha256:" HEX("1") "\"} , \"n\":null }"
             " , \"Error\":null, \"graph\":7 } \n");

    assert_int_equal(result.form, NIXERY_RESULT_PREBUILT);
    assert_int_equal(result.manifest.len, sizeof(manifest) - 1);
    assert_memory_equal(result.manifest.data, manifest, sizeof(manifest) - 1);

    assert_int_equal(result.nlocations, 3);
    assert_string_equal(result.locations[0].digest, HEX("1"));
    assert_string_equal(result.locations[1].digest, HEX("2"));
    assert_string_equal(result.locations[2].digest, HEX("3"));
    assert_string_equal(result.locations[0].path, PATH("1", "blob"));
    assert_string_equal(result.locations[2].path,
                        PATH("3", "more") "/a/b.tar");
    assert_null(result.locations[0].md5);
    assert_string_equal(result.locations[2].md5, "AAAAAAAAAAAAAAAAAAAAAA==");

    nixery_result_free(&result);

    /* an image of no layers */

    accepted(&result, PREBUILT(ALONE, LOCATION("1")));
    assert_int_equal(result.nlocations, 1);
    nixery_result_free(&result);
}


static void
prebuilt_of_wrong_types(void **state)
{
    size_t  i;

    static const struct {
        const char  *text;
        const char  *message;
    } cases[] = {
        { "{\"manifest\":1}", "\"manifest\" is not an object" },
        { "{\"manifest\":\"{}\"}", "\"manifest\" is not an object" },
        { "{\"manifest\":[]}", "\"manifest\" is not an object" },
        { "{\"manifest\":{}}", "\"layerLocations\" is not an object" },
        { "{\"manifest\":{},\"layerLocations\":[]}",
          "\"layerLocations\" is not an object" },
        { PREBUILT("{}", ""),
          "a config of the manifest has no sha256 digest" },
        { PREBUILT("{\"config\":1}", ""),
          "a config of the manifest has no sha256 digest" },
        { PREBUILT("{\"config\":{}}", ""),
          "a config of the manifest has no sha256 digest" },
        { PREBUILT("{\"config\":{\"digest\":1}}", ""),
          "a config of the manifest has no sha256 digest" },
        { PREBUILT("{\"config\":{\"digest\":\"sha512:" HEX("1") "\"}}", ""),
          "a config of the manifest has no sha256 digest" },
        { PREBUILT("{\"config\":{\"digest\":\"" HEX("1") "\"}}", ""),
          "a config of the manifest has no sha256 digest" },
        { PREBUILT("{\"config\":{\"digest\":\"sha256:" HEX("1") "0\"}}", ""),
          "a config of the manifest has no sha256 digest" },
        { PREBUILT("{\"config\":{\"digest\":\"sha256:" HEX("A") "\"}}", ""),
          "a config of the manifest has no sha256 digest" },
        { PREBUILT(MANIFEST, LOCATION("2")),
          "config " HEX("1") " of the manifest is missing in"
          " \"layerLocations\"" },
        { PREBUILT(MANIFEST, LOCATION("1")),
          "layer " HEX("2") " of the manifest is missing in"
          " \"layerLocations\"" },
        { PREBUILT("{\"config\":" DESCRIPTOR("1") "}", LOCATION("1")),
          "the manifest's \"layers\" is not a list" },
        { PREBUILT("{\"config\":" DESCRIPTOR("1") ",\"layers\":{}}",
                   LOCATION("1")),
          "the manifest's \"layers\" is not a list" },
        { PREBUILT("{\"config\":" DESCRIPTOR("1") ",\"layers\":[1]}",
                   LOCATION("1")),
          "a layer of the manifest has no sha256 digest" },
        { PREBUILT(MANIFEST, "\"xyz\":{}"),
          "\"layerLocations\" has \"xyz\" as a key, which is not a SHA-256 in"
          " hexadecimal" },
        { PREBUILT(MANIFEST, "\"" HEX("A") "\":{}"),
          "\"layerLocations\" has \"" HEX("A") "\" as a key, which is not a"
          " SHA-256 in hexadecimal" },
        { PREBUILT(MANIFEST, "\"../../" HEX("1") "\":{}"),
          "\"layerLocations\" has \"../../" HEX("1") "\" as a key, which is"
          " not a SHA-256 in hexadecimal" },
        { PREBUILT(MANIFEST, "\"sha256:" HEX("1") "\":{}"),
          "\"layerLocations\" has \"sha256:" HEX("1") "\" as a key, which is"
          " not a SHA-256 in hexadecimal" },
        { PREBUILT(MANIFEST, "\"" HEX("1") "\":1"),
          "layer " HEX("1") " has no \"path\" below /nix/store" },
        { PREBUILT(MANIFEST, "\"" HEX("1") "\":{\"path\":1}"),
          "layer " HEX("1") " has no \"path\" below /nix/store" },
        { "{\"m\\u0061nifest\":" MANIFEST ",\"layerLocations\":{" BOTH "}}",
          "the key \"manifest\" is written with escapes" },
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        malformed(cases[i].text, cases[i].message);
    }

    refused(PREBUILT(MANIFEST, BOTH "," BOTH), NIXERY_ERROR_RESULT,
            "the builder's result has the key \"" HEX("1") "\" twice in one"
            " object");
}


static void
locations(void **state)
{
    char             *text;
    size_t            i;
    nixery_result_t   result;

    static const char  *good[] = {
        PATH("1", "x"), PATH("1", "x") "/y", PATH("1", "x") "/y/.z/..w/...",
        PATH("1", "x+-._?=")
    };

    static const char  *bad[] = {
        "", "/", "x", "/etc/passwd", "/nix/store", "/nix/store/",
        "/nix/store/x", "/nix/store/../../etc/passwd", PATH("1", ""),
        PATH("1", "x") "/", PATH("1", "x") "//y", PATH("1", "x") "/y/",
        PATH("1", "x") "/.", PATH("1", "x") "/..", PATH("1", "x") "/../y",
        PATH("1", "x") "/./y", PATH("1", "x") "/y/../z", PATH("1", "x") "/y/..",
        PATH("1", ".x"), PATH("e", "x"), PATH("1", "x y"),
        " " PATH("1", "x"), "/nix/store//00000000000000000000000000000001-x",
        "/nix/stores/00000000000000000000000000000001-x",
        "/nix/var/../store/00000000000000000000000000000001-x"
    };

    static const char  *md5[] = {
        "1", "\"\"", "\"AAAAAAAAAAAAAAAAAAAAAA\"",
        "\"AAAAAAAAAAAAAAAAAAAAAA=A\"", "\"AAAAAAAAAAAAAAAAAAAAAAA=\"",
        "\"AAAAAAAAAAAAAAAAAAAAA===\"", "\"AAAAAAAAAAAAAAAAAAAAA-==\"",
        "\"d41d8cd98f00b204e9800998ecf8427e\""
    };

    (void) state;

    for (i = 0; i < count_of(good); i++) {
        assert_true(asprintf(&text,
                             PREBUILT(ALONE, ENTRY("\"path\":\"%s\"")),
                             good[i])
                    != -1);
        accepted(&result, text);
        assert_string_equal(result.locations[0].path, good[i]);
        nixery_result_free(&result);
        free(text);
    }

    for (i = 0; i < count_of(bad); i++) {
        assert_true(asprintf(&text,
                             PREBUILT(ALONE, ENTRY("\"path\":\"%s\"")),
                             bad[i])
                    != -1);
        malformed(text, "layer " HEX("1") " has no \"path\" below /nix/store");
        free(text);
    }

    for (i = 0; i < count_of(md5); i++) {
        assert_true(asprintf(&text,
                             PREBUILT(ALONE, ENTRY(X ",\"md5\":%s")), md5[i])
                    != -1);
        malformed(text, "layer " HEX("1") " has an \"md5\" that is not 16"
                  " bytes in base64");
        free(text);
    }
}


static void
many_locations(void **state)
{
    char             *text;
    nixery_result_t   result;

    static const char  open[] = "{\"manifest\":{\"layers\":[],\"config\":"
                                "{\"digest\":\"sha256:" HEX("0") "\"}},"
                                "\"layerLocations\":{";
    static const char  location[] = "\"%064zx\":{" X "}";

    (void) state;

    text = repeat(open, location, 1000, "}}");
    accepted(&result, text);
    assert_int_equal(result.nlocations, 1000);
    nixery_result_free(&result);
    free(text);

    text = repeat(open, location, 1001, "}}");
    malformed(text, "\"layerLocations\" has 1001 entries, at most 1000 are"
              " taken");
    free(text);
}


/* --- files */

static void
read_refused(const char *message)
{
    char             *whole;
    nixery_error_t    err = { 0 };
    nixery_result_t   result, empty = { 0 };

    assert_true(asprintf(&whole, message, path) != -1);

    assert_int_equal(nixery_result_read(&result, path, &err), NIXERY_ERROR);
    assert_string_equal(err.message, whole);
    assert_int_equal(err.kind, NIXERY_ERROR_RESULT);
    assert_memory_equal(&result, &empty, sizeof(nixery_result_t));

    nixery_error_free(&err);
    free(whole);
}


static void
make_sparse(off_t size)
{
    int  fd;

    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd != -1);
    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(close(fd), 0);
}


static void
files(void **state)
{
    int               fd;
    nixery_error_t    err = { 0 };
    nixery_result_t   result;

    static const char  text[] = GRAPH(C, "");

    (void) state;

    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd != -1);
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    assert_int_equal(close(fd), 0);

    assert_int_equal(nixery_result_read(&result, path, &err), NIXERY_OK);
    assert_int_equal(result.nnodes, 1);
    nixery_result_free(&result);

    make_sparse(0);
    read_refused("the builder's result is not valid JSON: it ends too early,"
                 " at byte 0");

    make_sparse(NIXERY_RESULT_MAX);
    read_refused("the builder's result is not valid JSON: a value is expected,"
                 " at byte 0");

    make_sparse((off_t) NIXERY_RESULT_MAX + 1);
    read_refused(MALFORMED "it has 67108865 bytes, at most 67108864 are read");

    make_sparse((off_t) 1 << 40);
    read_refused(MALFORMED "it has 1099511627776 bytes, at most 67108864 are"
                 " read");

    assert_int_equal(unlink(path), 0);
    read_refused("can't open the builder's result \"%s\": No such file or"
                 " directory");

    /* nobody writes to it: reading must not wait */

    assert_int_equal(mkfifo(path, 0644), 0);
    read_refused(MALFORMED "\"%s\" is not a regular file");
    assert_int_equal(unlink(path), 0);

    assert_int_equal(mkdir(path, 0755), 0);
    read_refused(MALFORMED "\"%s\" is not a regular file");
    assert_int_equal(rmdir(path), 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(no_form),
        cmocka_unit_test(errors),
        cmocka_unit_test(errors_of_wrong_types),
        cmocka_unit_test(closure),
        cmocka_unit_test(closures_of_wrong_types),
        cmocka_unit_test(sizes),
        cmocka_unit_test(many_paths),
        cmocka_unit_test(prepared),
        cmocka_unit_test(prepared_of_wrong_types),
        cmocka_unit_test(prebuilt),
        cmocka_unit_test(prebuilt_of_wrong_types),
        cmocka_unit_test(locations),
        cmocka_unit_test(many_locations),
        cmocka_unit_test_setup_teardown(files, make_file, remove_file),
    };

    return cmocka_run_group_tests_name("result", tests, NULL, NULL);
}
