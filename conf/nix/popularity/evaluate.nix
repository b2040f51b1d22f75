# Evaluates packages of a set, for those who want to realise them.
#
# In:  pkgSource  as builder.nix takes it
#      packages   JSON list of names, or null
#      all        whether the names are those that null gave: what throws is then
#                 no package but, as in nixpkgs, the old name of one
#      skip       as builder.nix takes it
# Out: of names: a list of
#      { package; outputs; paths; }, outputs as "DERIVATION!OUTPUT", or
#      { package; reason; missing; }; on standard error what lookup.nix says
#      of null: the names at the top level of the set

{ pkgSource, packages ? null, all ? false, skip ? "{}" }:

let
  inherit (builtins) attrNames concatMap fromJSON getContext isAttrs mapAttrs
    tryEval unsafeDiscardStringContext;

  system = builtins.currentSystem;
  pkgs = import ../source.nix {
    inherit pkgSource;
    revision = "";
    submodules = "";
    channelUrl = "";
    channelHash = "";
  } { inherit system; };

  catch = _: value: if (tryEval (isAttrs value)).success then value else null;

  lookup = import ../lookup.nix {
    pkgs = if all then mapAttrs catch pkgs else pkgs;
    inherit system;
    skip = fromJSON skip;
  };

  outputs = path:
    let context = getContext path;
    in concatMap (derivation:
      map (output: unsafeDiscardStringContext "${derivation}!${output}")
        (context.${derivation}.outputs or [ ])) (attrNames context);

  describe = found:
    if found ? reason then found
    else {
      inherit (found) package paths;
      outputs = concatMap outputs found.paths;
    };

in

if packages == null then attrNames pkgs
else map describe (lookup (fromJSON packages))
