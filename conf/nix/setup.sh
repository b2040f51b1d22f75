#!/bin/sh
#
# Copyright (C) The ngx_http_nixery_module authors
#
# setup.sh DIR: makes DIR the bundled package set: the Nix expressions, the lock
# that apt's metadata gives, and the .deb files, downloaded once and verified.
# It may be interrupted anywhere and run again.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/debs" "$1/seed" "$1/incoming"
cd "$1"

# a file is replaced only when it differs, and at once
update() {
    if ! cmp -s "$1" "$2"; then
        cp "$1" "$2.new"
        mv "$2.new" "$2"
    fi
}

# name, version and SHA-256 of each package in a lock
debs() {
    perl -MJSON::PP -e '
        local $/; my $debs = decode_json(<STDIN>)->{debs};
        print "$_ $debs->{$_}{version} $debs->{$_}{sha256}\n"
            for sort keys %$debs' < "$1"
}

verify() {
    debs "$1" | awk '{ print $3 "  debs/" $1 ".deb" }' \
        | sha256sum --check --strict --status 2>/dev/null
}

tell() {
    echo "the bundled package set is complete:" \
         "$(find debs -name '*.deb' | wc -l) .deb files"
}

for file in "$here"/packages/*; do
    update "$file" "${file##*/}"
done

if [ -x /bin/busybox ]; then
    update /bin/busybox seed/busybox
    chmod 755 seed/busybox

else
    echo "/bin/busybox is missing: apt-get install busybox-static" >&2
    exit 1
fi

inputs=$(cat "$here/packages/roots" "$here/resolve.pl" | sha256sum)

if [ -f lock.json ] && [ "$(cat inputs 2>/dev/null)" = "$inputs" ] \
    && verify lock.json
then
    tell
    exit 0
fi

echo "resolving the bundled package set from apt's lists"
perl "$here/resolve.pl" "$here/packages/roots" > lock.json.new

# what is there with the right hash stays, the rest is downloaded

debs lock.json.new > wanted
: > missing

while read -r name version sha256; do
    if ! echo "$sha256  debs/$name.deb" | sha256sum --check --status 2>/dev/null
    then
        echo "$name=$version" >> missing
    fi
done < wanted

total=$(wc -l < missing)

if [ "$total" != 0 ]; then
    echo "downloading $total .deb files"

    rm -rf incoming
    mkdir incoming

    sandbox=
    [ "$(id -u)" != 0 ] || sandbox="-o APT::Sandbox::User=root"

    (
        cd incoming
        # shellcheck disable=SC2086
        xargs -n 16 -P 6 apt-get -qq $sandbox download < ../missing \
            > ../download.log 2>&1
    ) &

    download=$!
    trap 'kill $download 2>/dev/null || true' EXIT
    trap 'exit 130' INT TERM

    while kill -0 $download 2>/dev/null; do
        sleep 1
        printf '\r%s of %s' \
            "$(find incoming -name '*.deb' | wc -l)" "$total"
    done

    echo

    if ! wait $download; then
        cat download.log >&2
        echo "the download failed, apt's messages stand above; run" \
             "\"apt-get update\" and try again" >&2
        exit 1
    fi

    trap - EXIT INT TERM

    for file in incoming/*.deb; do
        name=${file#incoming/}
        mv "$file" "debs/${name%%_*}.deb"
    done
fi

if ! verify lock.json.new; then
    echo "a downloaded file has another hash than apt's lists say;" \
         "run \"apt-get update\" and try again" >&2
    exit 1
fi

cut -d ' ' -f 1 wanted | sed 's/$/.deb/' > keep
(cd debs && find . -name '*.deb' -printf '%f\n' | grep -vxF -f ../keep \
    | xargs -r rm)

rm -rf incoming download.log missing wanted keep
echo "$inputs" > inputs
mv lock.json.new lock.json

tell
