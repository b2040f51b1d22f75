#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# From names to packages: which one a name means, what is wrong with a package
# or with a whole set, and how it is told.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use File::Copy;
use JSON::PP ();
use POSIX ();
use Test::Nginx;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http rewrite/);
my $d = $t->testdir();

prepare($t);

copy("fixtures/nix/$_.nix", "$d/packages/$_.nix") for qw(nixpkgs odd);
$t->write_file('packages/config.nix', '{ allowUnfree = true; }');

# sets that can't be used, each in a way of its own

my %sets = (
    syntax => "{ system }: {\n  tiny = 1\n}\n",
    empty => '',
    plain => '{ tiny = 1; }',
    list => '{ system }: [ 1 ]',
    string => '{ system }: "tiny"',
    strict => '{ pkgs }: pkgs',
    bare => '{ }: { tiny = 1; }',
    throws => '{ system }: throw "no packages today"',
    aborts => 'abort "this set needs a newer Nix"',
    imports => '{ system }: import ./none.nix',
    assertion => '{ system }: assert system == "pdp11-none"; { }',
);

# and some that can

my %good = (
    native => '{ system }: if system == builtins.currentSystem'
        . ' then import ../packages { inherit system; } else throw "no"',
    functor => '{ __functor = self: import ../packages; }',
    overlay => '{ system, ... }: import ../packages/nixpkgs.nix {'
        . ' inherit system; config.allowUnfree = true;'
        . ' overlays = [ (self: super: { hello = super.nano; }) ]; }',
);

%sets = (%sets, %good);

for my $set (keys %sets) {
    mkdir("$d/set!$set");
    $t->write_file("set!$set/default.nix", $sets{$set});
}

# /SET/v2/... is /v2/... of that set

my %sources = (
    main => "path $d/packages",
    nixpkgs => "path $d/packages/nixpkgs.nix",
    unfree => "path $d/packages/nixpkgs.nix;\n"
        . 'nixery_nix_env NIXPKGS_ALLOW_UNFREE 1',
    config => "path $d/packages/nixpkgs.nix;\n"
        . "nixery_nix_env NIXPKGS_CONFIG $d/packages/config.nix",
    odd => "path $d/packages/odd.nix",
    map { $_ => "path $d/set!$_" } keys %sets,
);

my $locations = join '', map {
    "location /$_/ {\nrewrite ^/$_(/.*)\$ \$1 break;\n"
    . nixery($t, packages => $sources{$_}) . "\n}\n"
} sort keys %sources;

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        $locations

        location /v2 {
            ${\nixery($t)}
        }
    }
}

EOF

###############################################################################

sub ask {
    my ($set, $name) = @_;
    return reply(http_get("/$set/v2/$name/manifests/latest", timeout => 120));
}


# Where the files of an image, but those below nix/, come from: "bin/tiny" =>
# "tiny".  A folder of one package is a link as a whole.

sub files {
    my ($t, $reply) = @_;
    my $d = $t->testdir();
    my (%tree, %files);

    for my $layer (@{$reply->{json}{layers}}) {
        my $hex = $layer->{digest} =~ s/^sha256://r;

        for (qx(tar -tvzf '$d/storage/layers/$hex')) {
            my ($name, undef, $target) =
                m{^(?:\S+\s+){5}(?:\./)?(.*?)( -> /(.*))?\n} or next;
            $tree{$name} = $target // '';
        }
    }

    for my $name (grep { $tree{$_} ne '' && !m{^nix/} } keys %tree) {
        my $target = $tree{$name};
        my @below = grep { m{^\Q$target\E/.*[^/]$} } keys %tree;

        $files{$name . substr($_, length($target))} = _package($_)
            for @below ? @below : $target;
    }

    return \%files;
}


sub _package {
    my ($path) = @_;
    return $path =~ m{^nix/store/[^/-]+-([^/]+)} ? $1 : $path;
}


# One test: the programs of an image, and what they come from.

sub found {
    my ($t, $set, $name, $programs, $what) = @_;

    my $r = ask($set, $name);
    my $files = $r->{status} == 200 ? files($t, $r) : {};
    my %programs = map { s{^bin/}{}r => $files->{$_} }
                   grep { m{^bin/} } keys %$files;

    is_deeply(\%programs, $programs, "$what: $set, $name")
        or diag("status $r->{status}: $r->{body}");

    return $r;
}


# Two tests: the answer, and the line in the log.

sub failed {
    my ($t, $set, $name, $status, $message, %extra) = @_;

    my $r = ask($set, $name);
    my $code = $status == 404 ? 'MANIFEST_UNKNOWN' : 'UNKNOWN';
    my $level = $status == 404 ? 'info' : 'error';
    my $image = $extra{image} // join '/', sort split /\//, $name;

    $message = ref $message ? $message : qr/^\Q$message\E$/;

    refused($r, $status, $code, $message, "$status: $set, $name");

    my $error = $r->{json}{errors}[0];
    my ($first) = split / \(build /, $error->{message} // '';
    utf8::encode($first);
    my $id = $error->{detail}{build} // 'no id';
    my @lines = grep { /\Q$id\E/ } split /\n/, $t->read_file('error.log');

    ok(@lines == 1 && $lines[0] =~ /\[$level\]/
       && $lines[0] =~ /nixery: image "\Q$image\E" failed, build \Q$id\E, /
       && index($lines[0], " ms: $first") > 0, "log: $set, $name")
        or diag("build $id: @lines");

    return $r;
}

###############################################################################

# set, name, programs, what is looked at

my @found = (
    ['main', 'tiny', { tiny => 'tiny' }, 'exact'],
    ['main', 'mixedcase', { mixed => 'mixed' }, 'another case'],
    ['main', '1tool', { '1tool' => '1tool' }, 'a digit'],
    ['main', 'nested.inner', { inner => 'inner' }, 'a dot'],
    ['main', 'nested.deep.er', { deeper => 'deeper' }, 'two dots'],
    ['main', 'many', { many => 'many-bin' }, 'outputs to install'],
    ['main', 'many.bin', { many => 'many-bin' }, 'an output'],
    ['main', 'many.out', { }, 'another output'],
    ['main', 'tiny/tiny.out', { tiny => 'tiny' }, 'one twice'],
    ['main', 'tiny/tiny2/nested.inner',
     { tiny => 'tiny', tiny2 => 'tiny2', inner => 'inner' }, 'several'],

    ['odd', 'a.b', { dotted => 'dotted' }, 'an exact dotted name first'],
    ['odd', 'a.c', { c => 'c' }, 'but not for its neighbour'],
    ['odd', 'sets.one', { one => 'one' }, 'a set in another case'],
    ['odd', 'sets.two', { two => 'two' }, 'the other set'],
    ['odd', 'exact.one', { exact => 'exact' }, 'an exact set first'],
    ['odd', 'exact.two', { two => 'two' }, 'the other when it has none'],
    ['odd', '1tool', { quoted => 'quoted' }, 'a digit, exact first'],
    ['odd', '3dtool', { mixed3d => 'mixed3d' }, 'a digit, another case'],
    ['odd', 'lazymeta', { lazy => 'lazy' }, 'meta that throws'],
    ['odd', 'first/second', { twin => 'twin-1' }, 'by priority'],
    ['odd', 'second/zeroth', { twin => 'twin-2' }, 'by priority'],

    ['nixpkgs', 'hello', { hello => 'hello-bin' }, 'outputs to install'],
    ['nixpkgs', 'hello.out', { }, 'an output'],
    ['nixpkgs', 'python3packages.requests', { requests => 'requests' },
     'a set of packages'],
    ['nixpkgs', 'python3.pkgs.requests', { requests => 'requests' },
     'a set in a package'],
    ['nixpkgs', 'pkgs.pkgs.hello', { hello => 'hello-bin' }, 'the set itself'],
    ['nixpkgs', 'shell', { bash => 'bash', ls => 'ls', sponge => 'sponge',
                           nano => 'nano' }, 'shell'],
    ['nixpkgs', 'shell/bashinteractive',
     { bash => 'bash', ls => 'ls', sponge => 'sponge', nano => 'nano' },
     'of shell in another spelling'],
    ['nixpkgs', 'builder/hello',
     { bash => 'bash', ls => 'ls', sponge => 'sponge', nano => 'nano',
       cc => 'cc', hello => 'hello-bin' }, 'builder'],
    ['nixpkgs', 'shell/nano/bash',
     { bash => 'bash', ls => 'ls', sponge => 'sponge', nano => 'nano' },
     'of shell twice'],
    ['unfree', 'refusedunfree', { unfree => 'unfree' }, 'allowed'],
    ['config', 'refusedunfree', { unfree => 'unfree' }, 'allowed by a file'],
    ['overlay', 'hello/refusedunfree',
     { nano => 'nano', unfree => 'unfree' }, 'an overlay'],
    ['functor', 'tiny', { tiny => 'tiny' }, 'a set that is a function'],
    ['native', 'tiny', { tiny => 'tiny' }, 'for this platform'],
);

# set, name, message with status 404, the image's name if it is another

my $system = (POSIX::uname())[4] . '-linux';
my $drv = qr{/nix/store/[0-9a-z]{32}};
my $exit3 = qr/builder for '$drv-failing\.drv' failed with exit code 3/;
my $abort = 'evaluation aborted with the following error message: ';

my @unusable = (
    ['main', 'nope', 'package not found: "nope"'],
    ['main', 'nope/tiny/nada.x', 'packages not found: "nada.x", "nope"'],
    ['main', 'tiny.nope', 'package not found: "tiny.nope"'],
    ['main', 'nope.inner', 'package not found: "nope.inner"'],
    ['main', 'nested.nope', 'package not found: "nested.nope"'],
    ['main', 'nested.inner.nope.nope',
     'package not found: "nested.inner.nope.nope"'],
    ['main', 'notderivation.x', 'package not found: "notderivation.x"'],
    ['main', '1nope', 'package not found: "1nope"'],
    ['main', 'tool', 'package not found: "tool"'],
    ['main', 'tiny/shell', 'package not found: "shell"'],
    ['main', 'shell', 'packages not found: "bashInteractive", "coreutils", '
     . '"moreutils", "nano"', 'bashInteractive/coreutils/moreutils/nano'],
    ['main', 'builder', 'packages not found: "bashInteractive", "coreutils", '
     . '"moreutils", "nano", "stdenv"',
     'bashInteractive/coreutils/moreutils/nano/stdenv'],

    ['main', 'nested',
     'package can\'t be used: "nested" (is not a derivation)'],
    ['main', 'tiny.name',
     'package can\'t be used: "tiny.name" (is not a derivation)'],
    ['main', 'notderivation',
     'package can\'t be used: "notderivation" (is not a derivation)'],
    ['main', 'afunction',
     'package can\'t be used: "afunction" (is not a derivation)'],
    ['main', 'case', 'package can\'t be used: "case" (ambiguous: Case, cASE)'],
    ['main', 'unfree',
     'package can\'t be used: "unfree" (has an unfree license)'],
    ['main', 'insecure',
     'package can\'t be used: "insecure" (is marked as insecure)'],
    ['main', 'broken',
     'package can\'t be used: "broken" (is marked as broken)'],
    ['main', 'unsupported',
     "package can't be used: \"unsupported\" (is not available for $system)"],
    ['main', 'throws',
     'package can\'t be used: "throws" (this package throws)'],
    ['main', 'evilmeta',
     'package can\'t be used: "evilmeta" (and so does the path)'],
    ['main', 'aborts', 'package can\'t be used: "aborts" (' . $abort
     . "'abort cannot be caught')"],
    ['main', 'typo',
     'package can\'t be used: "typo" (attribute \'missing\' missing)'],
    ['main', 'recursion',
     'package can\'t be used: "recursion" (infinite recursion encountered)'],

    ['odd', 'sets.three', 'package can\'t be used: "sets.three" (ambiguous: '
     . 'Sets.three, sETS.three)'],
    ['odd', 'thrower.x',
     'package can\'t be used: "thrower.x" (this set throws)'],
    ['odd', 'abortingmeta', 'package can\'t be used: "abortingmeta" (' . $abort
     . "'meta aborts')"],
    ['odd', 'missingoutput',
     'package can\'t be used: "missingoutput" (attribute \'doc\' missing)'],
    ['odd', 'nooutpath',
     'package can\'t be used: "nooutpath" (attribute \'outPath\' missing)'],
    ['odd', 'nodrvpath',
     'package can\'t be used: "nodrvpath" (attribute \'drvPath\' missing)'],
    ['odd', 'overflow', 'package can\'t be used: "overflow" (stack overflow '
     . '(possible infinite recursion))'],
    ['odd', 'wordy',
     "package can't be used: \"wordy\" (first \"line\" \\ \x{2013} \x{20ac})"],
    ['odd', 'shell/bashinteractive', 'packages not found: "coreutils", '
     . '"moreutils", "nano"; packages can\'t be used: "bashInteractive" (no '
     . 'shell today), "bashinteractive" (no shell today)',
     'bashInteractive/bashinteractive/coreutils/moreutils/nano'],
    ['odd', 'imported', qr/^package can't be used: "imported" \($exit3\)$/],
    ['odd', 'warns',
     'package can\'t be used: "warns" (' . $abort . "'after all that')"],

    ['nixpkgs', 'refusedunfree',
     'package can\'t be used: "refusedunfree" (has an unfree license)'],
    ['nixpkgs', 'refusedbroken',
     'package can\'t be used: "refusedbroken" (is marked as broken)'],
    ['nixpkgs', 'refusedinsecure',
     'package can\'t be used: "refusedinsecure" (is marked as insecure)'],
    ['nixpkgs', 'refusedunsupported', 'package can\'t be used: '
     . "\"refusedunsupported\" (is not available for $system)"],
    ['nixpkgs', 'badmeta',
     'package can\'t be used: "badmeta" (attribute \'typo\' missing)'],
    ['nixpkgs', 'throwingmeta',
     'package can\'t be used: "throwingmeta" (who knows)'],
    ['nixpkgs', 'oldhello', 'package can\'t be used: "oldhello" (\'oldHello\' '
     . 'has been renamed to/replaced by \'hello\')'],
    ['nixpkgs', 'lib', 'package can\'t be used: "lib" (is not a derivation)'],
    ['nixpkgs', 'lib.id',
     'package can\'t be used: "lib.id" (is not a derivation)'],
    ['nixpkgs', 'python3packages',
     'package can\'t be used: "python3packages" (is not a derivation)'],
    ['nixpkgs', 'python3packages.buildpythonpackage', 'package can\'t be used: '
     . '"python3packages.buildpythonpackage" (a function that nobody calls)'],
    ['nixpkgs', 'hello.override',
     'package can\'t be used: "hello.override" (is not a derivation)'],
    ['nixpkgs', 'stdenv.mkderivation',
     'package can\'t be used: "stdenv.mkderivation" (is not a derivation)'],

    # all of them at once
    ['main', 'aborts/case/nested/recursion/throws/tiny/typo/unfree',
     'packages can\'t be used: "aborts" (' . $abort
     . '\'abort cannot be caught\'), "case" (ambiguous: Case, cASE), "nested" '
     . '(is not a derivation), "recursion" (infinite recursion encountered), '
     . '"throws" (this package throws), "typo" (attribute \'missing\' missing)'
     . ', "unfree" (has an unfree license)'],
    ['main', 'aborts/broken/nope/nada/throws', 'packages not found: "nada", '
     . '"nope"; packages can\'t be used: "aborts" (' . $abort
     . '\'abort cannot be caught\'), "broken" (is marked as broken), "throws" '
     . '(this package throws)'],
);

# what is wrong with a set is no package's fault: set, message with status 500

my @broken = (
    ['syntax', "syntax error, unexpected '}', expecting ';'",
     qr{at $d/set!syntax/default\.nix:3:1:}],
    ['empty', 'syntax error, unexpected end of file',
     qr{at $d/set!empty/default\.nix}],
    ['plain', "the package source \"path!$d/set!plain\" is not a function of "
     . '{ system, ... }', qr/$/],
    ['list', "the package source \"path!$d/set!list\" is not a function to a "
     . 'set of packages', qr/$/],
    ['string', "the package source \"path!$d/set!string\" is not a function to "
     . 'a set of packages', qr/$/],
    ['strict', "anonymous function at $d/set!strict/default.nix:1:1 called "
     . "without required argument 'pkgs'", qr/$/],
    ['bare', "anonymous function at $d/set!bare/default.nix:1:1 called with "
     . "unexpected argument 'system'", qr/$/],
    ['throws', 'no packages today', qr/$/],
    ['aborts', $abort . "'this set needs a newer Nix'", qr/$/],
    ['imports', "getting status of '$d/set!imports/none.nix': No such file or "
     . 'directory', qr/$/],
    ['assertion', q{assertion '(system == "pdp11-none")' failed},
     qr{at $d/set!assertion/default\.nix:1:13:}],
);

$t->plan(@found + 2 * @unusable + 2 * @broken + 23);
$t->run();

found($t, @$_) for @found;
failed($t, $_->[0], $_->[1], 404, $_->[2], image => $_->[3]) for @unusable;

my $exit1 = qr/nix-build failed with exit code 1: /;
my $build = qr/\(build [0-9a-f]{16}\)/;

for my $case (@broken) {
    my ($set, $message, $like) = @$case;

    failed($t, $set, 'tiny/throws', 500,
           qr/^$exit1\Q$message\E $build\n(?:.*\n)*.*$like/);
}

my ($r, $files, $error);

# one file in two packages: always the same one

$r = found($t, 'main', 'twin1/twin2', { twin => 'twin1' }, 'one file');
my $digest = $r->{headers}{'docker-content-digest'} // 'none';
$r = found($t, 'main', 'twin2/twin1/twin2', { twin => 'twin1' }, 'any order');
is($r->{headers}{'docker-content-digest'}, $digest, 'one file, one digest');

# what an image gets without being asked

$r = found($t, 'nixpkgs', 'nano', { nano => 'nano' }, 'with certificates');
$files = files($t, $r);
is($files->{'etc/ssl/certs/ca-bundle.crt'}, 'cacert', 'certificates');
is($files->{'etc/protocols'}, 'iana-etc', 'protocols');
ok(!exists $files->{'etc/ssl/many'}, 'not all of its outputs');

$r = ask('main', 'tiny');
is_deeply([grep { m{^etc/.*/|protocols} } keys %{files($t, $r)}], [],
          'unless the set has none');

# a package that fails to build

$r = failed($t, 'main', 'failing/tiny', 500,
            qr/^a package failed to build: $exit3 $build\n/);
$error = $r->{json}{errors}[0];
like($error->{message}, qr/\(build $error->{detail}{build}\)/,
     'the id is in the message');
like($error->{message}, qr/^this build fails on purpose$/m,
     'its last lines are in the message');
ok((grep { $_ eq 'this build fails on purpose' } @{$error->{detail}{log}}),
   'and on their own');
like((grep { /build $error->{detail}{build}, / }
      split /\n/, $t->read_file('error.log'))[0] // '',
     qr/; last line: this build fails on purpose$/, 'its last line in the log');

# what a person sees

SKIP: {
    skip 'no skopeo', 1 if !grep { -x "$_/skopeo" } split /:/, $ENV{PATH};

    my $image = 'docker://127.0.0.1:' . port(8080) . '/nope/throws/case';
    my $output = qx(skopeo inspect --raw --tls-verify=false $image 2>&1);

    my $message = 'package not found: "nope"; packages can\'t be used: "case" '
        . '(ambiguous: Case, cASE), "throws" (this package throws)';

    like($output =~ s/\\//gr, qr/manifest unknown: \Q$message\E/, 'at a pull');
}

# another platform

$r = ask('odd', 'arm64/portable');
is($r->{status}, 200, 'for another platform') or diag($r->{body});
my $hex = $r->{json}{config}{digest} =~ s/^sha256://r;
my $config = JSON::PP::decode_json($t->read_file("storage/layers/$hex"));
is($config->{architecture}, 'arm64', 'its architecture');

SKIP: {
    skip 'no other platform', 6 if $system eq 'aarch64-linux';

    failed($t, 'native', 'arm64/tiny', 404, 'package can\'t be used: "tiny" '
           . '(is not available for aarch64-linux)', image => 'tiny');
    failed($t, 'native', 'arm64/nope/tiny', 404, 'packages can\'t be used: '
           . '"nope" (is not available for aarch64-linux), "tiny" (is not '
           . 'available for aarch64-linux)', image => 'nope/tiny');

    my $needed = qr/a 'aarch64-linux' .* is required to build '$drv-tiny\.drv'/;

    failed($t, 'main', 'arm64/tiny', 500,
           qr/^$exit1$needed.*; Nix knows no machine of that kind $build\n/,
           image => 'tiny');
}

###############################################################################
