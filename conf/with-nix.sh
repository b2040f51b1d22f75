#!/bin/sh
#
# Copyright (C) The ngx_http_nixery_module authors
#
# with-nix.sh COMMAND ...: runs a command with a nix-daemon at hand.  Where none
# answers one is started, with the sandbox on if the kernel allows it, and
# stopped when the command ends.  SUBSTITUTERS, if set (an empty value too), is
# where the started one looks for what is built already.

set -eu

NIX_REMOTE=daemon
export NIX_REMOTE

answers() {
    nix --extra-experimental-features nix-command store ping \
        >/dev/null 2>&1
}

if answers; then
    exec "$@"
fi

if [ "$(id -u)" != 0 ]; then
    echo "no nix-daemon answers, and only root can start one:" \
         "run this as root" >&2
    exit 1
fi

work=$(mktemp -d)
daemon=
command=

# shellcheck disable=SC2317,SC2329
finish() {
    trap '' INT TERM
    [ -z "$command" ] || { kill "$command" && wait "$command"; } 2>/dev/null \
        || true
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null \
        || true
    rm -rf "$work"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

config="sandbox = true
sandbox-fallback = false"

# the daemon's own first build is the test: a derivation that needs no tool
mkdir "$work/seed"
cp /bin/busybox "$work/seed"

cat > "$work/probe.nix" <<'EOF'
derivation {
  name = "nixery-sandbox-probe";
  system = builtins.currentSystem;
  builder = "${./seed}/busybox";
  args = [ "sh" "-c" "echo ${toString ./.} > $out" ];
}
EOF

if ! NIX_REMOTE='' NIX_CONFIG="$config
substituters =" nix-build --no-out-link "$work/probe.nix" \
    >/dev/null 2>"$work/probe.log"
then
    if NIX_REMOTE='' NIX_CONFIG="sandbox = false
substituters =" nix-build --no-out-link "$work/probe.nix" \
        >/dev/null 2>>"$work/probe.log"
    then
        echo "Nix builds without its sandbox: the kernel of this machine does" \
             "not allow it" >&2
        config="sandbox = false"

    else
        cat "$work/probe.log" >&2
        echo "Nix can't build on this machine, its messages stand above" >&2
        exit 1
    fi
fi

if [ "${SUBSTITUTERS+set}" ]; then
    config="$config
substituters = $SUBSTITUTERS"
fi

NIX_REMOTE='' NIX_CONFIG="$config" setsid nix-daemon >"$work/daemon.log" 2>&1 &
daemon=$!

tries=0

until answers; do
    tries=$((tries + 1))

    if [ $tries = 100 ] || ! kill -0 $daemon 2>/dev/null; then
        cat "$work/daemon.log" >&2
        echo "nix-daemon did not start, its messages stand above" >&2
        exit 1
    fi

    sleep 0.1
done

# what runs in the background is deaf to Ctrl-C, unless told otherwise
env --default-signal=INT,QUIT "$@" &
command=$!

rc=0
wait $command || rc=$?
command=

exit $rc
