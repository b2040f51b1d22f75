# Finds packages by their names.
#
# In:  pkgs    the package set
#      system  that it was made for
#      skip    { package = reason; }: not to be evaluated
# Out: a function from a list of names to a list of
#      { package; derivation; } or { package; reason; missing; }, which says on
#      standard error what it is about to evaluate, since not every error can be
#      caught: 'nixery: evaluating "NAME"', at the end 'nixery: evaluated';
#      quietly does the same for one name

{ pkgs, system, skip }:

let
  inherit (builtins) attrNames concatStringsSep elemAt filter foldl' hasAttr head
    isAttrs isString length match replaceStrings seq split stringLength tail trace
    tryEval;

  letters = [ "A" "B" "C" "D" "E" "F" "G" "H" "I" "J" "K" "L" "M" "N" "O" "P" "Q"
    "R" "S" "T" "U" "V" "W" "X" "Y" "Z" ];
  small = [ "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q"
    "r" "s" "t" "u" "v" "w" "x" "y" "z" ];
  lower = replaceStrings letters small;

  # the attributes that a name may mean: itself, else with "_" before a digit,
  # else in whatever case
  spellings = set: name:
    if hasAttr name set then [ name ]
    else if match "[0-9].*" name != null && hasAttr "_${name}" set
      then [ "_${name}" ]
    else
      let
        size = stringLength name;
        same = lower name;
      in filter (attribute: stringLength attribute == size
        && lower attribute == same) (attrNames set);

  # all values that a path may mean: [ { spelling; value; } ]
  walk = set: steps:
    if steps == [ ] then [ { spelling = [ ]; value = set; } ]
    else if !isAttrs set then [ ]
    else concatMap (attribute: map (hit: hit // {
      spelling = [ attribute ] ++ hit.spelling;
    }) (walk set.${attribute} (tail steps))) (spellings set (head steps));

  concatMap = f: list: foldl' (all: item: all ++ f item) [ ] list;

  # throw and assert, as nixpkgs has them for packages that it refuses
  flag = value: name:
    let result = tryEval (value.meta.${name} or false == true);
    in result.success && result.value;

  # forced without a net when there is no better reason: the error itself is one
  judge = package: value:
    let
      bad = reason: { inherit package reason; missing = false; };
      usable = seq value.outPath (seq value.drvPath true);
    in
      if !isAttrs value || value.type or "" != "derivation"
        then bad "is not a derivation"
      else if (tryEval usable).success then { inherit package; derivation = value; }
      else if flag value "unfree" then bad "has an unfree license"
      else if flag value "insecure" then bad "is marked as insecure"
      else if flag value "broken" then bad "is marked as broken"
      else if flag value "unsupported" then bad "is not available for ${system}"
      else seq usable (bad "can't be evaluated");

  quietly = package:
    let
      hits =
        if hasAttr package pkgs
        then [ { spelling = [ package ]; value = pkgs.${package}; } ]
        else walk pkgs (filter isString (split "\\." package));
      names = map (hit: concatStringsSep "." hit.spelling) hits;
    in
      if hasAttr package skip
        then { inherit package; reason = skip.${package}; missing = false; }
      else if hits == [ ]
        then { inherit package; reason = "not found"; missing = true; }
      else if length hits > 1
        then {
          inherit package;
          reason = "ambiguous: ${concatStringsSep ", " names}";
          missing = false;
        }
      else judge package (elemAt hits 0).value;

  # one after the other, so that the last line said is about the one at fault
  one = all: package:
    let
      result = quietly package;
      told = trace "nixery: evaluating \"${package}\""
        (seq (result ? reason) result);
    in seq told (all ++ [ told ]);

in {
  inherit quietly;

  __functor = _: packages:
    let results = foldl' one [ ] packages;
    in seq (length results) (trace "nixery: evaluated" results);
}
