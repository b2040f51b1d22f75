#!/bin/bash
#
# Copyright (C) The ngx_http_nixery_module authors
#
# lint.sh: format and static analysis of everything; BUILD is where the module
# was built.  Every finding is a failure.

set -eu

cd "$(dirname "$0")/../.."

core=ngx_http_nixery_module/core
http=ngx_http_nixery_module/http
nginx=/usr/share/nginx/src
failed=0

mapfile -t c < <(git ls-files '*.[ch]')
mapfile -t sh < <(git ls-files '*.sh' .ci/run)
mapfile -t perl < <(git ls-files '*.t' '*.pm')

says() {
    echo "lint: $1"
}

fail() {
    says "$1"
    failed=1
}

# clang-format knows nothing of nginx's aligned columns: blanks are compared as
# one, and two habits that it can't be told are folded on both sides
fold() {
    sed -e 's/[ \t]\+/ /g' -e 's/ | /|/g' -e 's/for ( ;; )/for (;;)/'
}

says "clang-format"

for f in "${c[@]}"; do
    diff -u --label "$f" --label "$f, formatted" \
        <(fold < "$f") <(clang-format "$f" | fold) || fail "format of $f"
done

says "lines"

git grep -nIP '\t| +$|\r' -- '*.[ch]' '*.sh' '*.t' '*.pm' '*.nix' config \
    && fail "a tab or blanks at the end of a line"

awk 'length > 80 { print FILENAME ":" FNR ": " length " columns"; n++ }
     END { exit !n }' "${c[@]}" && fail "a line of more than 80 columns"

git grep -n '^ *//' -- '*.[ch]' && fail "a // comment"

says "symbols"

# nginx loads modules RTLD_GLOBAL: names must not meet those of others
nm -D --defined-only "$BUILD/ngx_http_nixery_module.so" | awk '
    $3 !~ /^(ngx_http_)?nixery_/ && $3 !~ /^ngx_(modules|module_names|module_order)$/ {
        print; n++ } END { exit !n }' && fail "a symbol without our prefix"

grep -ln 'ngx_' $core/*.c | xargs -r grep -n '#include.*ngx_' \
    && fail "nginx in the core"

says "clang-tidy"

includes=()

for dir in src/core src/event src/event/modules src/event/quic src/os/unix \
    src/http src/http/modules src/http/v2
do
    includes+=("-isystem$nginx/$dir")
done

checks='-*,clang-analyzer-*,bugprone-*,cert-*,concurrency-*,performance-*'
checks+=',-bugprone-easily-swappable-parameters,-bugprone-narrowing-conversions'
checks+=',-bugprone-implicit-widening-of-multiplication-result'
checks+=',-bugprone-assignment-in-if-condition,-bugprone-macro-parentheses'
checks+=',-bugprone-reserved-identifier,-cert-dcl37-c,-cert-dcl51-cpp'
checks+=',-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling'
checks+=',-cert-err33-c,-concurrency-mt-unsafe,-performance-no-int-to-ptr'

printf '%s\n' $core/*.c $http/*.c | xargs -P "$(nproc)" -n 4 \
    clang-tidy --quiet --warnings-as-errors='*' --checks="$checks" \
    -- -std=gnu11 -D_GNU_SOURCE -I$core -I$http "${includes[@]}" \
    -isystem"$BUILD/nginx" -isystem/usr/include/libxml2 2>/dev/null \
    || fail "clang-tidy"

says "cppcheck"

cppcheck --quiet --error-exitcode=1 --std=c11 -j "$(nproc)" -I $core \
    --enable=warning,performance,portability --inline-suppr \
    --suppress=missingIncludeSystem $core $http || fail "cppcheck"

says "shellcheck"
shellcheck "${sh[@]}" || fail "shellcheck"

says "perlcritic"
perlcritic --quiet --gentle "${perl[@]}" || fail "perlcritic"

[ $failed = 0 ] && says "clean"
exit $failed
