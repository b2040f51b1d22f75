# Where packages come from.
#
# In:  "path!DIR", "nixpkgs!CHANNEL-OR-COMMIT" or "git!URL!REF"
# Out: a function from { system } to the package set

source:

let
  inherit (builtins) concatStringsSep elemAt fetchGit fetchTarball filter genList
    isString length match split;

  # a path or a URL may itself have a "!"
  parts = filter isString (split "!" source);
  count = length parts;
  between = first: last: concatStringsSep "!"
    (genList (i: elemAt parts (first + i)) (last - first + 1));

  kind = elemAt parts 0;
  ref = elemAt parts (count - 1);
  url = between 1 (count - 2);

in

if kind == "path" && count >= 2 then
  import (/. + between 1 (count - 1))

else if kind == "nixpkgs" && count == 2
    && match "[A-Za-z0-9._-]+" ref != null then
  import (fetchTarball "https://github.com/NixOS/nixpkgs/archive/${ref}.tar.gz")

else if kind == "git" && count >= 3 then
  import (fetchGit (
    if match "[0-9a-f]{40}" ref != null
    then { inherit url; rev = ref; allRefs = true; }
    else { inherit url ref; }
  ))

else
  throw "the package source \"${source}\" is not one of \"path!DIR\", \"nixpkgs!CHANNEL\" and \"git!URL!REF\""
