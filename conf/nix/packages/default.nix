# The bundled package set: Debian's packages as a set of derivations, with the
# attributes that nixpkgs has for them.
#
# In:  system; config and overlays are taken as nixpkgs takes them, and ignored.
#      Beside this file: lock.json (resolve.pl), debs/ and seed/busybox (setup.sh).
# Out: { bashInteractive = <derivation>; python3Packages = { ... }; stdenv; ... }

{ system ? builtins.currentSystem, config ? { }, overlays ? [ ] }:

let
  inherit (builtins) attrNames elem elemAt filter foldl' fromJSON genericClosure
    head isString mapAttrs match path readFile replaceStrings split tail;

  lock = fromJSON (readFile ./lock.json);

  seed = path { name = "busybox"; path = ./seed; };
  busybox = "${seed}/busybox";

  deb = name: path {
    name = "${name}.deb";
    path = ./debs + "/${name}.deb";
    recursive = false;
    sha256 = lock.debs.${name}.sha256;
  };

  # what patchelf itself needs to run, just unpacked
  boot = derivation {
    name = "patchelf-boot";
    inherit system busybox;
    builder = busybox;
    args = [ "sh" ./boot.sh ];
    debs = map deb [ "libc6" "libgcc-s1" "libstdc++6" "patchelf" ];
  };

  closure = name: map (node: node.key) (genericClosure {
    startSet = [ { key = name; } ];
    operator = node: map (key: { inherit key; }) lock.units.${node.key}.deps;
  });

  # what the C library, and the shell of the wrappers, are made of can't refer
  # to them
  belowGlibc = closure "libc6";
  belowDash = closure "dash";

  overrides = import ./overrides.nix units;

  # without Debian's epoch
  versionOf = name: replaceStrings [ "~" ] [ "." ]
    (elemAt (match "([0-9]+:)?(.*)" lock.debs.${name}.version) 1);

  unit = name: { debs, deps }:
    let
      override = {
        links = [ ]; wrap = [ ]; env = ""; post = ""; extra = [ ];
      } // overrides.${name} or { };

    in derivation {
      name = "${replaceStrings [ "+" ] [ "p" ] name}-${versionOf (head debs)}";
      inherit system busybox boot;
      inherit (override) links wrap env post;
      builder = busybox;
      args = [ "sh" ./unpack.sh ];
      debs = map deb debs;
      deps = map (dep: units.${dep}) deps ++ override.extra;
      glibc = if elem name belowGlibc then "" else units.libc6;
      dash = if elem name belowDash then "" else units.dash;
    } // {
      pname = name;
      version = versionOf (head debs);
      meta = {
        inherit (lock.debs.${head debs}) description;
        available = true;
        platforms = [ lock.system ];
      };
    };

  units = mapAttrs unit lock.units;

  # { "a.b" = x; } -> { a = { b = x; }; }
  insert = set: name:
    let
      steps = filter isString (split "\\." name);
      put = inner: rest: value:
        if rest == [ ] then value
        else inner // {
          ${head rest} = put (inner.${head rest} or { }) (tail rest) value;
        };
    in put set steps units.${lock.attributes.${name}};

  attributes = foldl' insert { } (attrNames lock.attributes);

  stdenv = derivation {
    name = "stdenv";
    inherit system busybox;
    builder = busybox;
    args = [ "sh" ./stdenv.sh ];
    inputs = with attributes; [
      bashInteractive binutils bzip2 coreutils diffutils file findutils gawk gcc
      gnugrep gnumake gnupatch gnused gnutar gzip patchelf xz
    ];
  } // {
    pname = "stdenv";
    meta = { description = "C compiler and core tools"; available = true; };
  };

in

if system != lock.system then
  throw "the bundled package set is made for ${lock.system}, not for ${system}"
else
  attributes // { inherit stdenv; }
