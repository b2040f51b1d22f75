# Where packages come from.
#
# In:  "path!DIR", "nixpkgs!CHANNEL-OR-COMMIT" or "git!URL!REF"
# Out: a function from { system } to the package set

source:

let
  inherit (builtins) concatStringsSep elemAt fetchGit fetchTarball filter genList
    isAttrs isFunction isString length match split;

  # a path or a URL may itself have a "!"
  parts = filter isString (split "!" source);
  count = length parts;
  between = first: last: concatStringsSep "!"
    (genList (i: elemAt parts (first + i)) (last - first + 1));

  kind = elemAt parts 0;
  ref = elemAt parts (count - 1);
  url = between 1 (count - 2);

  # where a set should be there may be anything
  load = path: arguments:
    let
      function = import path;
      set = function arguments;
    in
      if !isFunction function && !(function ? __functor)
        then throw "the package source \"${source}\" is not a function of { system, ... }"
      else if !isAttrs set
        then throw "the package source \"${source}\" is not a function to a set of packages"
      else set;

in

if kind == "path" && count >= 2 then
  load (/. + between 1 (count - 1))

else if kind == "nixpkgs" && count == 2
    && match "[A-Za-z0-9._-]+" ref != null then
  load (fetchTarball "https://github.com/NixOS/nixpkgs/archive/${ref}.tar.gz")

else if kind == "git" && count >= 3 then
  load (fetchGit (
    if match "[0-9a-f]{40}" ref != null
    then { inherit url; rev = ref; allRefs = true; }
    else { inherit url ref; }
  ))

else
  throw "the package source \"${source}\" is not one of \"path!DIR\", \"nixpkgs!CHANNEL\" and \"git!URL!REF\""
