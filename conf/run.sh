#!/bin/sh
#
# Copyright (C) The ngx_http_nixery_module authors
#
# run.sh: serves images in the foreground until Ctrl-C, with conf/nginx.conf.
# Called through with-nix.sh, as root.  From the environment:
#
#   PORT      where to listen
#   PACKAGES  a directory with a default.nix
#   MODULE    the module's .so file
#   STATE     images and work files, kept from run to run

set -eu

conf=$(cd "$(dirname "$0")" && pwd)

if [ -z "${BUNDLED:-}" ]; then
    # shellcheck disable=SC2153
    packages=$(cd "$PACKAGES" 2>/dev/null && pwd) || {
        echo "PACKAGES: there is no directory \"$PACKAGES\"" >&2
        exit 1
    }

    [ -f "$packages/default.nix" ] || {
        echo "PACKAGES: \"$packages\" has no default.nix" >&2
        exit 1
    }

    setpriv --reuid=www-data --regid=www-data --clear-groups \
        test -r "$packages/default.nix" || {
        echo "PACKAGES: the workers' user, www-data, can't read" \
             "\"$packages/default.nix\"" >&2
        exit 1
    }
fi

# the workers must be able to read what this checkout has, wherever it is:
# the Nix store is readable to all, and a package set in it never changes
add() {
    nix-store --realise --add-root "$STATE/$2" \
        "$(nix-store --add "$1")" >/dev/null
    readlink -f "$STATE/$2"
}

mkdir -p "$STATE"
STATE=$(cd "$STATE" && pwd)

echo "copying the builder and the pages into the Nix store"
share=$(add "$conf/nix" builder)
html=$(add "$conf/html" html)

option=

if [ -n "${BUNDLED:-}" ]; then
    echo "copying the bundled package set into the Nix store"
    packages=$(add "$BUNDLED" packages)

    # no one else has built what is made here
    option="nixery_nix_option substitute false;"
fi

# a path as the replacement of a sed command, and as nginx reads it
quoted() {
    printf '"%s"' "$1" | sed 's/[&|\\]/\\&/g'
}

sed -e "s|^include .*|load_module $(quoted "$MODULE");|" \
    -e "s|^pid .*|pid $(quoted "$STATE/nginx.pid");|" \
    -e "s|listen  8080;|listen $PORT;|" \
    -e "s|/usr/share/nginx/nixery/html|$html|" \
    -e "s|/usr/share/nginx/nixery|$share|" \
    -e "s|/var/lib/nixery/packages|$(quoted "$packages")|" \
    -e "s|/var/lib/nixery/storage|$(quoted "$STATE/storage")|" \
    -e "s|/var/lib/nixery/temp|$(quoted "$STATE/temp")|" \
    -e "s|nixery_nix_env .*|& $option|" \
    "$conf/nginx.conf" > "$STATE/nginx.conf"

nginx=

# shellcheck disable=SC2317,SC2329
finish() {
    trap '' INT TERM
    [ -z "$nginx" ] || { kill "$nginx" && wait "$nginx"; } 2>/dev/null || true
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

rm -f "$STATE/nginx.pid"

nginx -e stderr -p "$STATE/" -c "$STATE/nginx.conf" -g 'daemon off;' &
nginx=$!

until [ -s "$STATE/nginx.pid" ]; do
    kill -0 $nginx 2>/dev/null || { wait $nginx || exit $?; }
    sleep 0.1
done

cat <<EOF

Serving on port $PORT, images are kept in $STATE/storage.  Try, elsewhere:

    skopeo copy --src-tls-verify=false docker://127.0.0.1:$PORT/shell/git/hello oci:img:x
    podman run --tls-verify=false 127.0.0.1:$PORT/shell/git/hello hello
    curl http://127.0.0.1:$PORT/v2/hello/manifests/latest

EOF

rc=0
wait $nginx || rc=$?
nginx=

exit $rc
