
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_oci.h"


#define A  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B  "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C  "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define D  "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
#define E  "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

#define LABEL   "\"org.opencontainers.image."

#define DOCKER  "application/vnd.docker.distribution.manifest.v2+json"


static int make_contents(void **state);
static int remove_contents(void **state);
static void touch(const char *dir, const char *folders, const char *name);
static char *config_of(const char *contents, const char *system);
static void assert_type(const char *json, const char *type);


static nixery_oci_layer_t  layers[] = {
    { A, B, 9007199254740991 },
    { C, D, 42 },
};


static void
whole_config(void **state)
{
    char  *json;

    touch(*state, "bin", "bash");
    touch(*state, "etc/ssl/certs", "ca-bundle.crt");

    json = config_of(*state, "x86_64-linux");

    assert_string_equal(json,
        "{\"created\":\"1970-01-01T00:00:01Z\","
        "\"architecture\":\"amd64\",\"os\":\"linux\","
        "\"config\":{"
        "\"Env\":[\"PATH=/bin:/usr/bin:/sbin:/usr/sbin\","
        "\"SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt\","
        "\"NIX_SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt\"],"
        "\"Cmd\":[\"/bin/bash\"],"
        "\"Labels\":{\"org.opencontainers.image.title\":\"a/b\"}},"
        "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":["
        "\"sha256:" B "\",\"sha256:" D "\"]},"
        "\"history\":["
        "{\"created\":\"1970-01-01T00:00:01Z\",\"created_by\":\"nixery\"},"
        "{\"created\":\"1970-01-01T00:00:01Z\",\"created_by\":\"nixery\"}]}");

    free(json);
}


static void
bare_config(void **state)
{
    char  *json;

    json = config_of(*state, "aarch64-linux");

    assert_non_null(strstr(json, "\"architecture\":\"arm64\","
                                 "\"variant\":\"v8\",\"os\":\"linux\","));
    assert_non_null(strstr(json, "\"Env\":[\"PATH=/bin:/usr/bin:/sbin:"
                                 "/usr/sbin\"],\"Labels\""));
    assert_null(strstr(json, "Cmd"));
    assert_null(strstr(json, "SSL_CERT_FILE"));

    free(json);
}


/* Of a top layer that is not looked into. */

static void
told_config(void **state)
{
    size_t               i;
    nixery_buf_t         json = { 0 };
    nixery_error_t       err = { 0 };
    nixery_oci_image_t   image = { 0 };

    (void) state;

    image.system = "x86_64-linux";
    image.title = "a/b";
    image.layers = layers;
    image.nlayers = 2;

    for (i = 0; i < 4; i++) {
        image.bash = i & 1;
        image.ca = i >> 1;

        assert_int_equal(nixery_oci_config(&image, &json, &err), NIXERY_OK);

        assert_int_equal(!strstr(json.data, "\"Cmd\":[\"/bin/bash\"]"),
                         !image.bash);
        assert_int_equal(!strstr(json.data, "\"SSL_CERT_FILE=/etc/ssl/certs/"
                                            "ca-bundle.crt\",\"NIX_SSL"),
                         !image.ca);

        nixery_buf_free(&json);
    }
}


static void
platforms(void **state)
{
    char                *json;
    size_t               i;
    nixery_buf_t         buf = { 0 };
    nixery_error_t       err = { 0 };
    nixery_oci_image_t   image = { 0 };

    static const char  *systems[][2] = {
        { "x86_64-linux", "\"architecture\":\"amd64\",\"os\"" },
        { "aarch64-linux", "\"arm64\",\"variant\":\"v8\",\"os\"" },
        { "i686-linux", "\"architecture\":\"386\",\"os\"" },
        { "armv7l-linux", "\"arm\",\"variant\":\"v7\",\"os\"" },
        { "armv6l-linux", "\"arm\",\"variant\":\"v6\",\"os\"" },
        { "riscv64-linux", "\"architecture\":\"riscv64\",\"os\"" },
        { "powerpc64le-linux", "\"architecture\":\"ppc64le\",\"os\"" },
        { "s390x-linux", "\"architecture\":\"s390x\",\"os\"" },
    };

    static const char  *none[] = { "x86_64-darwin", "", "linux", "x86_64" };

    for (i = 0; i < sizeof(systems) / sizeof(systems[0]); i++) {
        json = config_of(*state, systems[i][0]);
        assert_non_null(strstr(json, systems[i][1]));
        free(json);
    }

    image.title = "a";
    image.contents = *state;

    for (i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        image.system = none[i];
        assert_int_equal(nixery_oci_config(&image, &buf, &err), NIXERY_ERROR);
        assert_int_equal(err.kind, NIXERY_ERROR_RESULT);
        assert_non_null(strstr(err.message, none[i]));
        nixery_error_free(&err);
    }
}


static void
labels(void **state)
{
    char                *expected;
    size_t               i;
    nixery_buf_t         json;
    nixery_error_t       err = { 0 };
    nixery_oci_image_t   image = { 0 };

    static const struct {
        const char  *revision;
        const char  *source;
        const char  *labels;
    } cases[] = {
        { NULL, NULL, "" },
        { "0123", NULL, "," LABEL "revision\":\"0123\"" },
        { "0123-dirty", "https://host/a",
          "," LABEL "revision\":\"0123-dirty\","
          LABEL "source\":\"https://host/a\"" },
        { NULL, "file:///a\"b\\c",
          "," LABEL "source\":\"file:///a\\\"b\\\\c\"" },
        { "", "", "," LABEL "revision\":\"\"," LABEL "source\":\"\"" },
    };

    image.system = "x86_64-linux";
    image.title = "a/b";
    image.contents = *state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(&json, 0, sizeof(nixery_buf_t));

        image.revision = cases[i].revision;
        image.source = cases[i].source;

        assert_int_equal(nixery_oci_config(&image, &json, &err), NIXERY_OK);
        assert_int_not_equal(asprintf(&expected, "\"Labels\":{" LABEL
                                      "title\":\"a/b\"%s}}", cases[i].labels),
                             -1);

        if (strstr(json.data, expected) == NULL) {
            fail_msg("%s is not in %s", expected, json.data);
        }

        free(expected);
        nixery_buf_free(&json);
    }
}


static void
whole_manifest(void **state)
{
    char                *type;
    nixery_buf_t         json = { 0 };
    nixery_error_t       err = { 0 };
    nixery_oci_image_t   image = { 0 };

    (void) state;

    image.layers = layers;
    image.nlayers = 2;

    assert_int_equal(nixery_oci_manifest(&image, E, 1234, &json, &err),
                     NIXERY_OK);
    assert_string_equal(json.data,
        "{\"schemaVersion\":2,\"mediaType\":"
        "\"application/vnd.oci.image.manifest.v1+json\","
        "\"config\":{\"mediaType\":"
        "\"application/vnd.oci.image.config.v1+json\","
        "\"digest\":\"sha256:" E "\",\"size\":1234},"
        "\"layers\":[{\"mediaType\":"
        "\"application/vnd.oci.image.layer.v1.tar+gzip\","
        "\"digest\":\"sha256:" A "\",\"size\":9007199254740991},"
        "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\","
        "\"digest\":\"sha256:" C "\",\"size\":42}]}");

    assert_int_equal(nixery_oci_media_type(json.data, json.len, &type),
                     NIXERY_OK);
    assert_string_equal(type, NIXERY_OCI_MANIFEST);

    free(type);
    nixery_buf_free(&json);
}


static void
types_of_manifests(void **state)
{
    (void) state;

    assert_type("{\"mediaType\":\"" DOCKER "\",\"schemaVersion\":2}", DOCKER);
    assert_type("{\"mediaType\":\"application/x!#$&-^_.+9\"}",
                "application/x!#$&-^_.+9");
    assert_type(" \t\r\n{\"schemaVersion\":2,\"layers\":[],\"config\":{}}\n",
                NIXERY_OCI_MANIFEST);
    assert_type("{\"schemaVersion\":2,\"config\":{\"mediaType\":"
                "\"application/vnd.oci.image.config.v1+json\"},"
                "\"layers\":[{}]}",
                NIXERY_OCI_MANIFEST);
    assert_type("{\"schemaVersion\":2,\"config\":{\"size\":1,\"mediaType\":"
                "\"application/vnd.docker.container.image.v1+json\"},"
                "\"layers\":[]}", DOCKER);
    assert_type("{\"schemaVersion\":2,"
                "\"manifests\":[{\"mediaType\":\"text/x\"}]}",
                NIXERY_OCI_INDEX);

    /* members further down are none of the manifest's */

    assert_type("{\"schemaVersion\":2,\"annotations\":{\"mediaType\":"
                "\"application/x\"},\"manifests\":[]}", NIXERY_OCI_INDEX);
    assert_type("{\"x\":{\"schemaVersion\":2,\"manifests\":[]}}", NULL);

    /* every kind of value */

    assert_type("{\"a\":[true,false,null,0,-0,1.5,-1e5,1E+5,2e-3,[],{},[[1]],"
                "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00Ff\",{\"b\":{}}],"
                "\"schemaVersion\":2,\"manifests\":[]}", NIXERY_OCI_INDEX);

    /* the last of two counts */

    assert_type("{\"mediaType\":\"application/a\",\"mediaType\":"
                "\"application/b\"}", "application/b");
}


static void
what_is_no_manifest(void **state)
{
    size_t  i;

    static const char  *texts[] = {
        "", " ", "{", "{}", "}", "[]", "[{\"schemaVersion\":2}]", "null", "2",
        "\"{}\"", "\x1f\x8b\x08", "\xef\xbb\xbf{}",
        "{\"schemaVersion\":2}",
        "{\"schemaVersion\":1,\"manifests\":[]}",
        "{\"schemaVersion\":2.0,\"manifests\":[]}",
        "{\"schemaVersion\":\"2\",\"manifests\":[]}",
        "{\"schemaVersion\":2,\"manifests\":{}}",
        "{\"schemaVersion\":2,\"layers\":[]}",
        "{\"schemaVersion\":2,\"config\":{}}",
        "{\"schemaVersion\":2,\"config\":[],\"layers\":[]}",
        "{\"schemaVersion\":2,\"config\":{},\"layers\":{}}",
        "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},"
        "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}",

        /* what must not become a header */

        "{\"mediaType\":\"\"}", "{\"mediaType\":null}", "{\"mediaType\":2}",
        "{\"mediaType\":\"text/html\"}", "{\"mediaType\":\"application/\"}",
        "{\"mediaType\":\"application/x\\r\\nX: y\"}",
        "{\"mediaType\":\"application/x\r\nX: y\"}",
        "{\"mediaType\":\"application/x; charset=utf-8\"}",
        "{\"mediaType\":\"application/x\\u0000\"}",
        "{\"mediaType\":\"application/\xc3\xa9\"}",
        "{\"mediaType\":{\"a\":\"application/x\"}}",
        "{\"mediaType\":\"text/html\",\"schemaVersion\":2,\"manifests\":[]}",

        /* what is no JSON */

        "{\"mediaType\":\"application/x\"", "{\"mediaType\":\"application/x",
        "{\"mediaType\":\"application/x\"}}",
        "{\"mediaType\":\"application/x\"}x",
        "{\"mediaType\":\"application/x\"},",
        "{\"mediaType\":\"application/x\",}",
        "{,\"mediaType\":\"application/x\"}",
        "{\"mediaType\" \"application/x\"}",
        "{\"mediaType\":}", "{\"mediaType\"}", "{mediaType:\"application/x\"}",
        "{'mediaType':'application/x'}",
        "{\"mediaType\":\"application/x\",\"a\":01}",
        "{\"mediaType\":\"application/x\",\"a\":1.}",
        "{\"mediaType\":\"application/x\",\"a\":.5}",
        "{\"mediaType\":\"application/x\",\"a\":+1}",
        "{\"mediaType\":\"application/x\",\"a\":-}",
        "{\"mediaType\":\"application/x\",\"a\":1e}",
        "{\"mediaType\":\"application/x\",\"a\":1e+}",
        "{\"mediaType\":\"application/x\",\"a\":tru}",
        "{\"mediaType\":\"application/x\",\"a\":True}",
        "{\"mediaType\":\"application/x\",\"a\":nul",
        "{\"mediaType\":\"application/x\",\"a\":NaN}",
        "{\"mediaType\":\"application/x\",\"a\":[1,]}",
        "{\"mediaType\":\"application/x\",\"a\":[,1]}",
        "{\"mediaType\":\"application/x\",\"a\":[1 2]}",
        "{\"mediaType\":\"application/x\",\"a\":[1}",
        "{\"mediaType\":\"application/x\",\"a\":\"\\x\"}",
        "{\"mediaType\":\"application/x\",\"a\":\"\\u00g0\"}",
        "{\"mediaType\":\"application/x\",\"a\":\"\\u00",
        "{\"mediaType\":\"application/x\",\"a\":\"\\",
        "{\"mediaType\":\"application/x\",\"a\":\"\t\"}",
        NULL
    };

    (void) state;

    for (i = 0; texts[i] != NULL; i++) {
        assert_type(texts[i], NULL);
    }
}


static void
hostile_bytes(void **state)
{
    char               *text, *type;
    size_t              i, n, len;
    static const char   head[] = "{\"mediaType\":\"application/x\",\"a\":";

    (void) state;

    len = NIXERY_MANIFEST_MAX;
    text = malloc(len);
    assert_non_null(text);

    n = sizeof(head) - 1;

    for (i = 0; i < 4; i++) {
        memset(text, "[{\" "[i], len);
        memcpy(text, head, n);
        assert_int_equal(nixery_oci_media_type(text, len, &type),
                         NIXERY_DECLINED);
        assert_null(type);
    }

    /* all the depth there may be, and one more */

    for (i = 62; i <= 64; i++) {
        memset(text + n, '[', i);
        memset(text + n + i, ']', i);
        text[n + i * 2] = '}';

        assert_int_equal(nixery_oci_media_type(text, n + i * 2 + 1, &type),
                         i <= 63 ? NIXERY_OK : NIXERY_DECLINED);
        free(type);
    }

    /* cut off anywhere, in memory of just that size */

    for (i = 0; i < n; i++) {
        char  *cut;

        cut = malloc(i + 1);
        assert_non_null(cut);
        memcpy(cut, head, i);
        assert_int_equal(nixery_oci_media_type(cut, i, &type),
                         NIXERY_DECLINED);
        free(cut);
    }

    free(text);
}


static int
make_contents(void **state)
{
    char  *dir;

    dir = strdup("/tmp/nixery-oci-test.XXXXXX");

    if (dir == NULL || mkdtemp(dir) == NULL) {
        return -1;
    }

    *state = dir;

    return 0;
}


static int
remove_contents(void **state)
{
    int    rc;
    char  *command;

    if (asprintf(&command, "rm -rf '%s'", (char *) *state) == -1) {
        return -1;
    }

    rc = system(command);

    free(command);
    free(*state);

    return rc;
}


static void
touch(const char *dir, const char *folders, const char *name)
{
    char  *command;

    assert_int_not_equal(asprintf(&command, "mkdir -p '%s/%s' && : > "
                                  "'%s/%s/%s'", dir, folders, dir, folders,
                                  name),
                         -1);
    assert_int_equal(system(command), 0);
    free(command);
}


static char *
config_of(const char *contents, const char *system)
{
    nixery_buf_t        json = { 0 };
    nixery_error_t      err = { 0 };
    nixery_oci_image_t  image = { 0 };

    image.system = system;
    image.title = "a/b";
    image.contents = contents;
    image.layers = layers;
    image.nlayers = 2;

    assert_int_equal(nixery_oci_config(&image, &json, &err), NIXERY_OK);

    return json.data;
}


static void
assert_type(const char *json, const char *type)
{
    char  *found;

    assert_int_equal(nixery_oci_media_type(json, strlen(json), &found),
                     type ? NIXERY_OK : NIXERY_DECLINED);

    if (type != NULL) {
        assert_string_equal(found, type);

    } else {
        assert_null(found);
    }

    free(found);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(whole_config, make_contents,
                                        remove_contents),
        cmocka_unit_test_setup_teardown(bare_config, make_contents,
                                        remove_contents),
        cmocka_unit_test(told_config),
        cmocka_unit_test_setup_teardown(platforms, make_contents,
                                        remove_contents),
        cmocka_unit_test_setup_teardown(labels, make_contents,
                                        remove_contents),
        cmocka_unit_test(whole_manifest),
        cmocka_unit_test(types_of_manifests),
        cmocka_unit_test(what_is_no_manifest),
        cmocka_unit_test(hostile_bytes),
    };

    return cmocka_run_group_tests_name("oci", tests, NULL, NULL);
}
