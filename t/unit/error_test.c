
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include "unit.h"
#include "nixery_error.h"


static void
first_error_is_kept(void **state)
{
    nixery_error_t  err = { 0 };

    (void) state;

    assert_int_equal(nixery_error_set(&err, NIXERY_ERROR_NAME, "first %d", 1),
                     NIXERY_ERROR);
    (void) nixery_error_set(&err, NIXERY_ERROR_NIX, "second");

    assert_int_equal(err.kind, NIXERY_ERROR_NAME);
    assert_string_equal(err.message, "first 1");

    nixery_error_free(&err);
    assert_null(err.message);
}


static void
errno_is_spelled_out(void **state)
{
    nixery_error_t  err = { 0 };

    (void) state;

    (void) nixery_error_errno(&err, NIXERY_ERROR_SYSTEM, ENOSPC,
                              "write \"%s\"", "f");
    assert_string_equal(err.message, "write \"f\": No space left on device");

    nixery_error_free(&err);
}


static void
message_is_one_line(void **state)
{
    nixery_error_t  err = { 0 };

    (void) state;

    (void) nixery_error_set(&err, NIXERY_ERROR_RESULT, "%.8s",
                            "a\nb\tc\033[1md");
    assert_string_equal(err.message, "a b c");
    nixery_error_free(&err);

    /* a name that is cut within a character, one that is none */

    (void) nixery_error_errno(&err, NIXERY_ERROR_SYSTEM, ENOENT, "%.2s \xff",
                              "a\xc3\xa4");
    assert_string_equal(err.message, "a? ?: No such file or directory");
    nixery_error_free(&err);
}


static void
memory_needs_no_memory(void **state)
{
    nixery_error_t  err = { 0 };

    (void) state;

    (void) nixery_error_nomem(&err);
    assert_int_equal(err.kind, NIXERY_ERROR_SYSTEM);
    assert_string_equal(err.message, "out of memory");

    nixery_error_free(&err);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(first_error_is_kept),
        cmocka_unit_test(errno_is_spelled_out),
        cmocka_unit_test(message_is_one_line),
        cmocka_unit_test(memory_needs_no_memory),
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
