#!/bin/bash
#
# Copyright (C) The ngx_http_nixery_module authors
#
# lint.sh: format and static analysis of everything; BUILD is where the module
# was built.  Every finding is a failure.

set -eu -o pipefail

cd "$(dirname "$0")/../.."

core=ngx_http_nixery_module/core
http=ngx_http_nixery_module/http
nginx=/usr/share/nginx/src
failed=0

files() {
    git ls-files --cached --others --exclude-standard "$@"
}

mapfile -t c < <(files '*.[ch]')
mapfile -t sh < <(files '*.sh' .ci/run)
mapfile -t nix < <(files '*.nix')
mapfile -t perl < <(files '*.t' '*.pm' '*.pl' t/harness/fake-program)

says() {
    echo "lint: $1"
}

fail() {
    says "$1"
    failed=1
}

# clang-format knows nothing of nginx's aligned columns, nor where it breaks long
# expressions: blanks are compared as one, and what continues a line is joined
# to it, on both sides
fold() {
    sed -z -e 's/[ \t]\+/ /g' -e 's/ | /|/g' -e 's/for ( /for (/g' \
        -e 's/ ;/;/g' -e 's/;; )/;;)/g' -e 's/\]) {/]){/g' -e 's/,\n /, /g' \
        -e 's/\n \([?:=<"]\|||\|&&\|->\)/ \1/g' -e 's/"\n \([A-Z]\)/" \1/g'
}

says "clang-format"

for f in "${c[@]}"; do
    diff -u --label "$f" --label "$f, formatted" \
        <(fold < "$f") <(clang-format "$f" | fold) || fail "format of $f"
done

says "lines"

git grep --untracked -nIP '\t| +$|\r' -- '*.[ch]' '*.sh' '*.t' '*.p[lm]' \
    '*.nix' config .ci && fail "a tab or blanks at the end of a line"

awk 'length > 80 { print FILENAME ":" FNR ": " length " columns"; n++ }
     END { exit !!n }' "${c[@]}" || fail "a line of more than 80 columns"

git grep --untracked -n '^ *//' -- '*.[ch]' && fail "a // comment"

says "symbols"

# nginx loads modules RTLD_GLOBAL: names must not meet those of others
nm -D --defined-only "$BUILD/ngx_http_nixery_module.so" | awk '
    $3 !~ /^(ngx_http_)?nixery_/ \
    && $3 !~ /^ngx_(modules|module_names|module_order)$/ { print; n++ }
    END { exit n || !NR }' || fail "a symbol without our prefix"

grep -nP '\bngx_(?!http_nixery_module authors)' $core/*.[ch] \
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

printf '%s\n' $core/*.c $http/*.c t/bench/*.c t/fuzz/*.c \
    | xargs -P "$(nproc)" -I{} \
    clang-tidy --quiet --warnings-as-errors='*' --checks="$checks" {} \
    -- -std=gnu11 -D_GNU_SOURCE -I$core -I$http "${includes[@]}" \
    -isystem"$BUILD/nginx" -isystem/usr/include/libxml2 2>&1 \
    | sed '/^[0-9]* warnings* generated\.$/d' || fail "clang-tidy"

says "cppcheck"

cppcheck --quiet --error-exitcode=1 --std=c11 -j "$(nproc)" -I $core \
    --enable=warning,performance,portability --inline-suppr \
    --suppress=missingIncludeSystem $core $http t/bench t/fuzz \
    || fail "cppcheck"

says "shellcheck"
shellcheck "${sh[@]}" || fail "shellcheck"

says "perlcritic"
perlcritic --quiet --gentle "${perl[@]}" || fail "perlcritic"

says "nix"
nix-instantiate --store dummy:// --parse "${nix[@]}" >/dev/null || fail "nix"

[ $failed = 0 ] && says "clean"
exit $failed
