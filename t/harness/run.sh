#!/bin/sh
#
# Copyright (C) The ngx_http_nixery_module authors
#
# run.sh: runs the tests against a built module; "make test" and "make test-asan"
# call it through with-nix.sh.  From the environment:
#
#   BUILD              absolute path of the build directory
#   JOBS               how many test files at once
#   TESTS              files to run, instead of all
#   TEST_NGINX_BINARY  an nginx with the module inside, else Debian's and the .so
#   TEST_NGINX_LIB     where nginx's own Test::Nginx is, to use it instead of ours

set -eu

cd "$(dirname "$0")/.."

if [ -z "${TEST_NGINX_BINARY:-}" ]; then
    TEST_NGINX_BINARY=/usr/sbin/nginx
    TEST_NGINX_GLOBALS="load_module $BUILD/ngx_http_nixery_module.so;"
fi

# workers are what they are in production
if [ "$(id -u)" = 0 ]; then
    TEST_NGINX_GLOBALS="${TEST_NGINX_GLOBALS:-} user www-data nix-users;"
fi

export TEST_NGINX_BINARY TEST_NGINX_GLOBALS

# where workers can read it, wherever this checkout is
TEST_NIXERY_PACKAGES=$(nix-store --realise --add-root "$BUILD/packages.root" \
    "$(nix-store --add "$BUILD/packages")" | xargs readlink -f)
export TEST_NIXERY_PACKAGES

# a dynamic module's globals are seen twice; nginx itself leaks and misaligns
ASAN_OPTIONS="detect_odr_violation=0:${ASAN_OPTIONS:-}"
UBSAN_OPTIONS="print_stacktrace=1:suppressions=$PWD/harness/ubsan.supp"
LSAN_OPTIONS="suppressions=$PWD/harness/lsan.supp:print_suppressions=0"
export ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS

lib=${TEST_NGINX_LIB:+-I$TEST_NGINX_LIB}

parallel=
serial=

for test in ${TESTS:-*.t}; do
    test=${test#t/}

    case $test in
    serial_*)
        serial="$serial $test"
        ;;
    *)
        parallel="$parallel $test"
        ;;
    esac
done

# the serial ones disturb what all share: the Nix store and its daemon
# shellcheck disable=SC2086
{
    [ -z "$parallel" ] || prove -j"$JOBS" ${VERBOSE:+-v} $lib -Iharness $parallel
    [ -z "$serial" ] || prove ${VERBOSE:+-v} $lib -Iharness $serial
}
