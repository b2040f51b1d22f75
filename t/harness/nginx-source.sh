#!/bin/sh
#
# Copyright (C) The ngx_http_nixery_module authors
#
# nginx-source.sh DIR: puts the source of Debian's nginx into DIR: of the version
# that is installed, or where no mirror has that any more, of another one of this
# release.  Machines seldom list sources, so apt gets a list of its own, made of
# the entries that the binary package comes from.

set -eu

dir=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/lists/partial"

apt-cache policy nginx | awk '$2 ~ /^[a-z]+:\/\// {
    split($3, suite, "/"); print "deb-src", $2, suite[1], suite[2] }' \
    > "$work/sources.list"

if [ ! -s "$work/sources.list" ]; then
    echo "apt does not know where nginx comes from: run apt-get update" >&2
    exit 1
fi

apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" \
        -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$work/lists" \
        -o Dir::Cache::srcpkgcache="" -o Dir::Cache::pkgcache="" \
        -o APT::Sandbox::User=root "$@"
}

apt update

for version in $(apt-cache madison nginx | awk '{ print $3 }'); do
    echo "downloading the source of nginx $version"

    if (cd "$work" && apt source "nginx=$version") >"$work/log" 2>&1; then
        rm -rf "$dir"
        mkdir -p "$(dirname "$dir")"
        mv "$work"/nginx-*/ "$dir"
        exit 0
    fi

    rm -rf "$work"/nginx*
done

cat "$work/log" >&2
exit 1
