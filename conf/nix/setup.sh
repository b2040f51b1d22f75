#!/bin/sh
#
# Copyright (C) The ngx_http_nixery_module authors
#
# setup.sh DIR: makes DIR the bundled package set: the Nix expressions, the lock
# that apt's metadata gives, and the .deb files, downloaded once and verified.
# It may be interrupted anywhere and run again.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/debs" "$1/seed"
cd "$1"

# one at a time
exec 9< .
flock 9

# Nix takes the whole of DIR into its store: work files stay beside it
work=$PWD.work
mkdir -p "$work/incoming"

root=
[ "$(id -u)" = 0 ] || root=sudo

download=

# shellcheck disable=SC2317,SC2329
finish() {
    trap '' INT TERM
    [ -z "$download" ] || kill -- "-$download" "$download" 2>/dev/null || true
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# a file is replaced only when it differs, and at once
update() {
    if ! cmp -s "$1" "$2"; then
        cp "$1" "$work/new"
        mv "$work/new" "$2"
    fi
}

# the packages of a lock that are not there with the right hash: name=version
missing() {
    perl -MJSON::PP -e '
        local $/; my $debs = decode_json(<STDIN>)->{debs};
        print "$_ $debs->{$_}{version} $debs->{$_}{sha256}\n"
            for sort keys %$debs' < "$1" > "$work/wanted"

    awk '{ print $3 "  debs/" $1 ".deb" }' "$work/wanted" \
        | LC_ALL=C sha256sum --check --quiet 2>/dev/null \
        | awk 'NR == FNR { sub(/^debs\//, ""); sub(/\.deb: [^:]*$/, "")
                           bad[$0] = 1; next }
               $1 in bad { print $1 "=" $2 }' - "$work/wanted"
}

# what was downloaded, by this run or an interrupted one
take() {
    for file in "$work"/incoming/*.deb; do
        [ -e "$file" ] || continue
        name=${file##*/}
        mv "$file" "debs/${name%%_*}.deb"
    done
}

fetch() {
    total=$(wc -l < "$work/missing")
    [ "$total" != 0 ] || return 0

    echo "downloading $total .deb files"

    sandbox=
    [ -n "$root" ] || sandbox="-o APT::Sandbox::User=root"

    # in a group of its own, so that all of it ends with this script
    # shellcheck disable=SC2086
    (
        cd "$work/incoming"
        exec setsid xargs -n 16 -P 6 apt-get -qq -o Acquire::Retries=3 \
            $sandbox download < ../missing > ../download.log 2>&1
    ) &

    download=$!
    seconds=0

    while kill -0 $download 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        count=$(find "$work/incoming" -name '*.deb' | wc -l)

        if [ -t 1 ]; then
            printf '\r%s of %s' "$count" "$total"

        elif [ $((seconds % 5)) = 0 ]; then
            echo "$count of $total"
        fi
    done

    [ ! -t 1 ] || echo

    rc=0
    wait $download || rc=$?
    download=
    [ $rc = 0 ] || cat "$work/download.log" >&2

    return $rc
}

gather() {
    echo "resolving the bundled package set from apt's lists"
    perl "$here/resolve.pl" "$here/packages/roots" > "$work/lock.json" \
        || return 1

    take
    missing "$work/lock.json" > "$work/missing"
    fetch || return 1

    take
    missing "$work/lock.json" > "$work/missing"
    [ -s "$work/missing" ] || return 0

    echo "not what apt's lists say: $(xargs < "$work/missing")" >&2
    return 1
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
    && [ -z "$(missing lock.json)" ]
then
    rm -rf "$work"
    tell
    exit 0
fi

# lists that are missing or old are the usual reason
if ! gather; then
    echo "updating apt's lists"
    $root apt-get -qq update

    gather || {
        echo "the bundled package set is not complete, see above why" >&2
        exit 1
    }
fi

cut -d ' ' -f 1 "$work/wanted" | sed 's/$/.deb/' > "$work/keep"
(cd debs && find . -name '*.deb' -printf '%f\n' | grep -vxF -f "$work/keep" \
    | xargs -r rm)

mv "$work/lock.json" lock.json
echo "$inputs" > inputs
rm -rf "$work"

tell
