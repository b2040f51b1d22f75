# Finds packages by their names.
#
# In:  pkgs    the package set
#      system  that it was made for
#      skip    { package = reason; }: not to be evaluated
# Out: a function from a list of names to a list of
#      { package; paths; priority; }, what of it is to be installed, or
#      { package; reason; missing; }; it says on standard error what it is about
#      to evaluate, since not every error can be caught:
#      'nixery: evaluating "NAME"', at the end 'nixery: evaluated';
#      quietly does the same for one name

{ pkgs, system, skip }:

let
  inherit (builtins) attrNames concatStringsSep currentSystem deepSeq elem elemAt
    filter foldl' hasAttr head isAttrs isInt isString length match replaceStrings
    seq split stringLength tail trace tryEval;

  letters = [ "A" "B" "C" "D" "E" "F" "G" "H" "I" "J" "K" "L" "M" "N" "O" "P" "Q"
    "R" "S" "T" "U" "V" "W" "X" "Y" "Z" ];
  small = [ "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q"
    "r" "s" "t" "u" "v" "w" "x" "y" "z" ];
  lower = replaceStrings letters small;

  concatMap = f: list: foldl' (all: item: all ++ f item) [ ] list;

  # all values that a path may mean, [ { spelling; value; } ]: of the attributes
  # called like its first step, else like it with "_" before a digit, else like
  # one of them in whatever case
  walk = set: steps:
    let
      step = head steps;
      below = attribute: map (hit: hit // {
        spelling = [ attribute ] ++ hit.spelling;
      }) (walk set.${attribute} (tail steps));

      names = if match "[0-9].*" step == null then [ step ]
        else [ step "_${step}" ];
      exact = foldl' (hits: name:
        if hits == [ ] && hasAttr name set then below name else hits) [ ] names;

      sizes = map stringLength names;
      same = map lower names;
      others = filter (attribute: elem (stringLength attribute) sizes
        && elem (lower attribute) same && !elem attribute names) (attrNames set);

    in
      if steps == [ ] then [ { spelling = [ ]; value = set; } ]
      else if !isAttrs set then [ ]
      else if exact != [ ] then exact
      else concatMap below others;

  # throw and assert, as nixpkgs has them for packages that it refuses
  flag = value: name:
    let result = tryEval (value.meta.${name} or false == true);
    in result.success && result.value;

  outputs = derivation:
    let wanted = tryEval (derivation.meta.outputsToInstall or [ ]);
    in if derivation.outputSpecified or false || !wanted.success
        || wanted.value == [ ]
      then [ derivation ]
      else map (output: derivation.${output}) wanted.value;

  priority = derivation:
    let wanted = tryEval (derivation.meta.priority or 5);
    in if wanted.success && isInt wanted.value && wanted.value >= 0
        && wanted.value < 1000 then wanted.value else 5;

  # forced without a net when there is no better reason: the error itself is one
  judge = package: value:
    let
      bad = reason: { inherit package reason; missing = false; };
      good = {
        inherit package;
        paths = map toString (outputs value);
        priority = priority value;
      };
      usable = seq value.outPath (seq value.drvPath (deepSeq good true));
    in
      if !isAttrs value || value.type or "" != "derivation"
        then bad "is not a derivation"
      else if (tryEval usable).success then good
      else if flag value "unfree" then bad "has an unfree license"
      else if flag value "insecure" then bad "is marked as insecure"
      else if flag value "broken" then bad "is marked as broken"
      else if flag value "unsupported" then bad "is not available for ${system}"
      else seq usable (bad "can't be evaluated");

  # a set may refuse another platform as a whole
  refused = system != currentSystem && !(tryEval (seq pkgs true)).success;

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
      else if refused
        then {
          inherit package;
          reason = "is not available for ${system}";
          missing = false;
        }
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

  # the set comes first: what is wrong with it is no package's fault
  __functor = _: packages:
    let results = foldl' one [ ] packages;
    in seq (refused || isAttrs pkgs)
      (seq (length results) (trace "nixery: evaluated" results));
}
