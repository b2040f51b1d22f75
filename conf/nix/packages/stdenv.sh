# shellcheck shell=sh disable=SC2123,SC2154

# Makes $out/bin of the programs of $inputs, by $busybox alone.

set -e

"$busybox" mkdir -p "$out/bin"

for input in $inputs; do
    for program in "$input"/bin/*; do
        "$busybox" ln -sf "$program" "$out/bin/"
    done
done
