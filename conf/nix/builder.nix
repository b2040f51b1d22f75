# Realises the packages of an image and describes their closure.
#
# In:  name       the image's name, packages joined by "/"
#      packages   JSON list of package names, as they were asked for
#      pkgSource  "path!DIR", "nixpkgs!CHANNEL-OR-COMMIT" or "git!URL!REF"
#      system     of the image
#      revision, submodules, channelUrl, channelHash
#                 more about the source, see source.nix
#      skip       JSON object of packages not to be evaluated, and why: Nix can't
#                 catch every error, so whoever calls names those in a second run
# Out: one derivation, a JSON file:
#      { "graph": [ { "path", "narSize", "closureSize", "references" } ],
#        "contents": "/nix/store/...", "imageSystem", "revision", ... }  or
#      { "error": "not_found" | "unusable", "pkgs": [ ... ],
#        "reasons": { package: text } }

{ name, packages, pkgSource, system ? builtins.currentSystem, revision ? ""
, submodules ? "", channelUrl ? "", channelHash ? "", skip ? "{}" }:

let
  inherit (builtins) concatStringsSep currentSystem elemAt filter fromJSON genList
    hashString length listToAttrs match replaceStrings toFile toJSON;

  load = import ./source.nix {
    inherit pkgSource revision submodules channelUrl channelHash;
  };
  pkgs = load { inherit system; };

  lookup = import ./lookup.nix { inherit pkgs system; skip = fromJSON skip; };
  found = lookup (fromJSON packages);
  bad = filter (result: result ? reason) found;
  missing = filter (result: result.missing) bad;

  # certificates and protocol names, where the set has them
  extra = filter (result: !(result ? reason)) (map lookup.quietly
    (filter (attribute: pkgs ? ${attribute}) [ "cacert" "iana-etc" ]));

  installed = found ++ extra;

  # of two files with one name the lower number wins: no two are the same
  entry = index:
    let inherit (elemAt installed index) paths priority;
    in concatStringsSep " " ([
      "true" (toString (priority * 1000 + index)) (toString (length paths))
    ] ++ paths);

  storeName =
    let safe = replaceStrings [ "/" ] [ "-" ] name;
    in if match "[A-Za-z0-9+_?=-][A-Za-z0-9+._?=-]{0,150}" safe != null
      then safe else "image";

  # the tree of links at the image's root; made by Nix itself
  contents = derivation {
    name = "${storeName}-contents";
    system = "builtin";
    builder = "builtin:buildenv";
    derivations = concatStringsSep " " (genList entry (length installed));
    manifest = "/var/empty";
    preferLocalBuild = true;
    allowSubstitutes = false;
  };

  # runs here, whatever machine the image is for
  native = if system == currentSystem then pkgs
    else load { system = currentSystem; };

  closure = derivation {
    name = "${storeName}.json";
    system = currentSystem;
    builder = "${native.bash or native.bashInteractive}/bin/bash";
    args = [ ./closure.sh ];
    inherit contents revision;
    imageSystem = system;
    exportReferencesGraph.graph = [ contents ];
    __structuredAttrs = true;
    outputs = [ "out" ];
    preferLocalBuild = true;
    allowSubstitutes = false;
  };

  # a text as a derivation; made by Nix itself
  textFile = text: derivation {
    name = "${storeName}.json";
    system = "builtin";
    builder = "builtin:fetchurl";
    url = "file://${toFile "text" text}";
    urls = [ ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = hashString "sha256" text;
    unpack = false;
    executable = false;
    preferLocalBuild = true;
    allowSubstitutes = false;
  };

  reported = if missing != [ ] then missing else bad;

in

if bad == [ ] then closure else textFile (toJSON {
  error = if missing != [ ] then "not_found" else "unusable";
  pkgs = map (result: result.package) reported;
  reasons = listToAttrs (map (result: {
    name = result.package;
    value = result.reason;
  }) bad);
})
