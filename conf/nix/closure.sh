# shellcheck shell=bash disable=SC1090,SC2154

# Writes the derivation's attributes, its closure's graph among them, to its
# output; the shell that runs this is the only tool.  Nix 2.8 leaves the files in
# the working directory and names another one.

attributes=.attrs
[ -e $attributes.json ] || attributes=${NIX_ATTRS_JSON_FILE%.json}

. "$attributes.sh"

printf '%s\n' "$(<"$attributes.json")" > "${outputs[out]}"
