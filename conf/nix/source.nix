# Where packages come from.
#
# In:  pkgSource    "path!DIR", "nixpkgs!CHANNEL-OR-COMMIT" or "git!URL!REF"
#      revision     that the reference stands for; "" when nobody looked
#      submodules   "true": those of a git repository too
#      channelUrl   where the channel's tarball is; "": where nixpkgs has it
#      channelHash  Nix's SHA-256 of what is in it; "": unknown
# Out: a function from { system } to the package set

{ pkgSource, revision, submodules, channelUrl, channelHash }:

let
  inherit (builtins) concatStringsSep elemAt fetchGit fetchTarball filter genList
    isAttrs isFunction isString length match pathExists split;

  # a path or a URL may itself have a "!"
  parts = filter isString (split "!" pkgSource);
  count = length parts;
  between = first: last: concatStringsSep "!"
    (genList (i: elemAt parts (first + i)) (last - first + 1));

  commit = text: match "[0-9a-f]{40}" text != null;

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
        then throw "the package source \"${pkgSource}\" is not a function of { system, ... }"
      else if !isAttrs set
        then throw "the package source \"${pkgSource}\" is not a function to a set of packages"
      else set;

  # what was fetched has a name of the store, which says nothing to anyone
  loadFetched = path:
    if pathExists (path + "/default.nix") then load path
    else throw "the package source \"${pkgSource}\" has no default.nix";

in

if kind == "path" && count >= 2 then
  load (/. + between 1 (count - 1))

else if kind == "nixpkgs" && count == 2
    && match "[A-Za-z0-9._-]+" ref != null then
  loadFetched (fetchTarball (
    if channelHash != "" then { url = channelUrl; sha256 = channelHash; }
    else if channelUrl != "" then channelUrl
    else "https://github.com/NixOS/nixpkgs/archive/${ref}.tar.gz"
  ))

# the history of what is wanted is of no use here
else if kind == "git" && count >= 3 then
  loadFetched (fetchGit ({
    inherit url;
    shallow = true;
    submodules = submodules == "true";
  } // (
    if commit ref then { rev = ref; allRefs = true; }
    else if commit revision then { inherit ref; rev = revision; }
    else { inherit ref; }
  )))

else
  throw "the package source \"${pkgSource}\" is not one of \"path!DIR\", \"nixpkgs!CHANNEL\" and \"git!URL!REF\""
