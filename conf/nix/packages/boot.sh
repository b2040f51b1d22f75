# shellcheck shell=sh disable=SC2123,SC2154

# Unpacks $debs into $out, by $busybox alone.

set -e

"$busybox" mkdir -p "$out/applets"

for applet in $("$busybox" --list); do
    "$busybox" ln -s "$busybox" "$out/applets/$applet"
done

PATH=$out/applets

for deb in $debs; do
    ar p "$deb" data.tar.xz | unxz | tar -x -C "$out"
done
