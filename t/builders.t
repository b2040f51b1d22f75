#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Builders that are there already work unchanged: those of Nixery's first
# versions, of 2019, which pack the image themselves, and its newest one, which
# packs but the links.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use Digest::SHA;
use File::Copy;
use File::Path;
use JSON::PP;

my $docker = 'application/vnd.docker.distribution.manifest.v2+json';
my $oci = 'application/vnd.oci.image.manifest.v1+json';

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('skopeo')->plan(67);

prepare($t);

my $d = $t->testdir();

copy("$FindBin::Bin/fixtures/nix/$_", "$d/packages/$_")
    for qw(prebuilt.nix prepared.nix);

chomp(my $system = qx(nix-instantiate --eval --expr builtins.currentSystem));
$system =~ s/"//g;

# what the config depends on, in many places; what is for any machine

$t->write_file('packages/set.nix', <<'EOF');
{ system ? builtins.currentSystem }:

let
  set = import ./default.nix { inherit system; };
  sh = "${builtins.path { name = "busybox"; path = ./seed; }}/busybox";

in set // {
  certs = derivation {
    name = "certs";
    inherit system;
    builder = sh;
    args = [ "sh" "-ec" ''
      ${sh} mkdir -p $out/etc/ssl/certs
      echo certificate > $out/etc/ssl/certs/ca-bundle.crt
    '' ];
  };

  portable = derivation {
    name = "portable";
    system = "builtin";
    builder = "builtin:buildenv";
    derivations = "";
    manifest = "/var/empty";
  };
}
EOF

# takes no "skip", and is asked to

$t->write_file('packages/trace.nix', <<'EOF');
{ name, packages }:

builtins.trace "nixery: evaluating \"${name}\"" (abort "and no further")
EOF

# takes whatever there is

$t->write_file('packages/open.nix', <<'EOF');
{ name, packages, pkgSource, ... } @ arguments:

import ./prebuilt.nix { inherit name packages pkgSource; }
EOF

chmod(0644, "$d/packages/$_") for qw(set.nix trace.nix open.nix);

my %locations = (
    8080 => { builder => "$d/packages/prepared.nix",
              packages => "path $d/packages/set.nix" },
    8081 => { builder => "$d/packages/prebuilt.nix",
              storage => "directory $d/old" },
    8082 => { builder => "$d/packages/trace.nix" },
    8083 => { builder => "$d/packages/open.nix",
              storage => "directory $d/open" },
    8084 => { builder => "$d/packages/text.nix",
              storage => "directory $d/texts" },
    8086 => { builder => "$d/packages/text.nix",
              storage => "directory $d/texts",
              nix_option => 'system riscv64-linux' },
    8085 => { packages => "path $d/packages/set.nix",
              storage => "directory $d/bundled" },
    8087 => { packages => "path $ENV{TEST_NIXERY_PACKAGES}" },
);

my $servers = join '', map {
    my $location = nixery($t, %{$locations{$_}});
    "server { listen 127.0.0.1:$_; location /v2 { $location } }\n"
} sort keys %locations;

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    $servers
}

EOF

$t->run();

###############################################################################

my ($r, $digest, $manifest, $text, $result, %arguments, @call, @again);

# --- a builder of 2019

my %old = (PeerAddr => '127.0.0.1:' . port(8081));

$r = manifest('tiny2/tiny', 'latest', %old);
$digest = $r->{headers}{'docker-content-digest'};
$manifest = $r->{body};

is(whole($r, %old), '', 'old builder');
is($r->{headers}{'content-type'}, $docker, 'old type');
is($digest, 'sha256:' . Digest::SHA::sha256_hex($manifest), 'old digest');
is(scalar @{$r->{json}{layers}}, 2, 'old layers');

my ($worker) = workers($t);

# called as it was then, and what comes behind is none of its business

@call = @{(calls($t))[-1]};

is(shift @call, '--out-link', 'old call, link');
like(shift @call, qr{^\Q$d\E/temp/nixery-work\.[^/]+/result$}, 'its name');
is(join("\n", splice(@call, 0, 9)),
   "--argstr\nname\ntiny/tiny2\n"
   . "--argstr\npackages\n[\"tiny\",\"tiny2\"]\n"
   . "--argstr\npkgSource\npath!$d/packages",
   'old call, arguments');
is(join("\n", @call),
   "--argstr\nsystem\n$system\n"
   . "--argstr\nsrcType\npath\n--argstr\nsrcArgs\n$d/packages\n"
   . "$d/packages/prebuilt.nix", 'old call, more');

@call = @{(calls($t))[-1]};

is(manifest('tiny/tiny2/tiny', 'v1', %old)->{body}, $manifest, 'in any order');
@again = @{(calls($t))[-1]};
is("@again[2 .. $#again]", "@call[2 .. $#call]", 'by the same call');

# what it printed: the manifest byte for byte, odd as it is

$text = printed(@call);
$result = decode_json($text);

like($manifest, qr/^\{  "schemaVersion":2 , "\\u0078":"\\\/",\n.*\} \}$/s,
     'old bytes');
is(substr($text, index($text, $manifest)), "$manifest }\n",
   'as they stand in the result');

# and what it named

is(join(' ', objects($t, 'layers', "$d/old")),
   join(' ', sort(keys %{$result->{layerLocations}}, $digest =~ s/^sha256://r)),
   'old blobs');
is(join(' ', grep {
       $t->read_file("old/layers/$_")
           ne bytes($result->{layerLocations}{$_}{path})
   } keys %{$result->{layerLocations}}), '', 'byte for byte');

$r = manifest('any', $digest, %old);
is($r->{body}, $manifest, 'old by digest');
is($r->{headers}{'content-type'}, $docker, 'old by digest type');

# as a client sees it

is(pulled($t, 8081, 'tiny/tiny2', "$d/old"), '', 'old, pulled');
is($t->read_file('pulled/manifest.json'), $manifest, 'old, pulled manifest');

$r = manifest('arm64/tiny', 'latest', %old);
is(whole($r, %old), '', 'old builder, system');
like("@{(calls($t))[-1]}", qr/ --argstr system aarch64-linux /,
     'it was called with one');

refused(manifest('tiny/nope/gone', 'latest', %old), 404, 'MANIFEST_UNKNOWN',
        qr/^packages not found: "gone", "nope"$/, 'old builder, not found');
is(truth($t, "$d/old"), '', 'old storage');

# one that takes all arguments, one that takes but few

my %open = (PeerAddr => '127.0.0.1:' . port(8083));

$r = manifest('tiny/tiny2', 'latest', %open);
is($r->{body}, $manifest, 'takes anything');

$r = manifest('tiny', 'latest', PeerAddr => '127.0.0.1:' . port(8082));
refused($r, 404, 'MANIFEST_UNKNOWN',
        qr/^package\ can't\ be\ used:\ "tiny"\ \(evaluation\ aborted\ .*
           and\ no\ further/x, 'builder without skip');
like("@{(calls($t))[-1]}", qr/ --argstr skip /, 'it was called with skip');

# --- the newest one

$r = manifest('tiny/certs/bash');
$digest = $r->{headers}{'docker-content-digest'};
$manifest = $r->{json};

is(whole($r), '', 'newest builder');
is($r->{headers}{'content-type'}, $oci, 'newest type');

@call = @{(calls($t))[-1]};
%arguments = arguments(@call);

is($arguments{srcType}, 'path', 'newest call, kind of source');
is($arguments{srcArgs}, "$d/packages/set.nix", 'newest call, source');
is($arguments{system}, $system, 'newest call, system');
is($arguments{packages}, '["bash","certs","tiny"]', 'newest call, packages');

$result = decode_json(printed(@call));

# the top layer is its tar

my @layers = @{$manifest->{layers}};
my $config = blob($t, $manifest->{config}{digest});
my @ids = @{$config->{rootfs}{diff_ids}};
my $tar = $result->{symlinkLayer};

is($ids[-1], "sha256:$tar->{tarHash}", 'diff id of the top layer');
ok(unpacked($t, $layers[-1]) eq bytes($tar->{path}), 'its bytes');
is(length(bytes($tar->{path})), $tar->{size}, 'its size');

# those below are the closure

my @paths = sort map { $_->{path} } @{$result->{runtimeGraph}{graph}};

cmp_ok(scalar(@paths), '>', 3, 'a closure');
is(scalar(@layers), @paths + 1, 'a layer each');
is(join(' ', grep { "sha256:" . Digest::SHA::sha256_hex(unpacked($t,
                        $layers[$_])) ne $ids[$_] } 0 .. $#layers),
   '', 'diff ids');

mkdir("$d/root");
extract($t, $_) for @layers;

is(join(' ', map { "/nix/store/$_" } names("$d/root/nix/store")), "@paths",
   'the closure');
is(join(' ', grep { system("diff -r --no-dereference $_ $d/root$_") != 0 }
             @paths), '', 'as it is in the store');
is(readlink("$d/root/bin/tiny") =~ s{/bin/tiny$}{}r,
   (grep { /-tiny$/ } @paths)[0], 'links into it');

# the config knows what the tar has

is_deeply($config->{config}{Cmd}, ['/bin/bash'], 'bash');
ok((grep { $_ eq 'SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt' }
    @{$config->{config}{Env}}), 'certificates');
is($config->{config}{Labels}{'org.opencontainers.image.title'},
   'bash/certs/tiny', 'title');

$r = manifest('tiny/tiny2');
$config = blob($t, $r->{json}{config}{digest});

is(whole($r), '', 'another image');
is($config->{config}{Cmd}, undef, 'without bash');
is(scalar(grep { /SSL/ } @{$config->{config}{Env}}), 0, 'nor certificates');

# what is known is not packed again; shared with others of the same location

my @objects = objects($t, 'layers');

is(manifest('bash/tiny/certs')->{headers}{'docker-content-digest'}, $digest,
   'the same image');
is(join(' ', objects($t, 'layers')), "@objects", 'the same objects');

wipe($t);
is(manifest('bash/certs/tiny')->{headers}{'docker-content-digest'}, $digest,
   'in another storage');

# the layers of the bundled builder but for the top one

my %bundled = (PeerAddr => '127.0.0.1:' . port(8085));

$r = manifest('bash/certs/tiny', 'latest', %bundled);
is(whole($r, %bundled), '', 'bundled builder');
is_deeply([(sort map { $_->{digest} } @{$r->{json}{layers}}[0 .. $#paths])],
          [(sort map { $_->{digest} } @layers[0 .. $#paths])],
          'the layers of the closure are the same');

is(pulled($t, 8080, 'bash/certs/tiny', "$d/storage"), '', 'newest, pulled');

# a platform

$r = manifest('arm64/portable');
is(whole($r), '', 'newest builder, system') or diag($r->{body});
%arguments = arguments(@{(calls($t))[-1]});
is($arguments{system}, 'aarch64-linux', 'it was called with one');
is(blob($t, $r->{json}{config}{digest})->{architecture}, 'arm64',
   'architecture');

SKIP: {
    skip 'no other platform', 1 if $system eq 'aarch64-linux';

    $r = manifest('arm64/git/hello', 'latest',
                  PeerAddr => '127.0.0.1:' . port(8087));
    refused($r, 404, 'MANIFEST_UNKNOWN', qr/^packages\ can't\ be\ used:
            \ "git"\ \(is\ not\ available\ for\ aarch64-linux\),
            \ "hello"\ \(is\ not\ available\ for\ aarch64-linux\)/x,
            'bundled set, system');
}

# what is not there

refused(manifest('tiny/nope/gone'), 404, 'MANIFEST_UNKNOWN',
        qr/^packages not found: "gone", "nope"$/, 'newest builder, not found');

# one that lies, or whose tar the garbage collector took

my %texts = (PeerAddr => '127.0.0.1:' . port(8084));

for my $case (
    [tarHash => '0' x 64, qr/^the\ builder\ says\ the\ SHA-256\ of\ layer
        \ "$tar->{path}"\ is\ 0{64},\ but\ it\ is\ $tar->{tarHash}\ /x],
    [size => $tar->{size} + 1, qr/"$tar->{path}" has \d+ bytes, but it has \d+/],
    [path => '/nix/store/' . '0' x 32 . '-gone',
     qr/"\/nix\/store\/0{32}-gone", which can't be read: No such file/],
    [path => $paths[0], qr/"$paths[0]", which is not a regular file/],
) {
    my ($key, $value, $like) = @$case;

    text_result($t, encode_json({ %$result,
        symlinkLayer => { %$tar, $key => $value } }));
    refused(manifest('x', 'latest', %texts), 500, 'UNKNOWN', $like,
            "newest result, another $key");
}

is(join(' ', objects($t, '*', "$d/texts")), '', 'nothing of it stored');

# a machine whose Nix builds for another one

my %other = (PeerAddr => '127.0.0.1:' . port(8086));

text_result($t, encode_json($result));

$r = manifest('x', 'latest', %other);
is(whole($r, %other), '', 'another system');
%arguments = arguments(@{(calls($t))[-1]});
is($arguments{system}, 'riscv64-linux', 'it is told');
$r = reply(http_get("/v2/x/blobs/$r->{json}{config}{digest}", %other));
is($r->{json}{architecture}, 'riscv64', 'and in the config');

is(join(' ', map { truth($t, "$d/$_") } qw(storage open bundled texts)), '   ',
   'storage');
ok(eventually(sub { left_over($t) eq '' && !children($worker) }),
   'nothing left');

###############################################################################

# What Nix prints when it is called like that.

sub printed {
    my ($option, $link, @arguments) = @_;

    open(my $fh, '-|', 'nix-build', '--no-out-link', @arguments)
        or die "can't run nix-build: $!\n";
    chomp(my $path = <$fh>);
    close($fh) or die "nix-build failed\n";

    return bytes($path);
}


sub arguments {
    my (@arguments) = @_;
    my %named;

    while (@arguments) {
        my $option = shift @arguments;
        $named{$arguments[0]} = $arguments[1] if $option eq '--argstr';
    }

    return %named;
}


sub bytes {
    my ($path) = @_;

    open(my $fh, '<', $path) or die "can't open \"$path\": $!\n";
    binmode $fh;
    local $/;
    my $bytes = <$fh>;
    close($fh);

    return $bytes;
}


# Of a stored object.

sub blob {
    my ($test, $name) = @_;

    return decode_json($test->read_file('storage/layers/'
                                        . $name =~ s/^sha256://r));
}


sub file {
    my ($test, $layer) = @_;

    return $test->testdir() . '/storage/layers/'
        . $layer->{digest} =~ s/^sha256://r;
}


sub unpacked {
    my ($test, $layer) = @_;

    open(my $fh, '-|', 'gzip -dc < ' . file($test, $layer))
        or die "can't run gzip: $!\n";
    binmode $fh;
    local $/;
    my $bytes = <$fh>;
    close($fh) or die "gzip failed\n";

    return $bytes;
}


sub extract {
    my ($test, $layer) = @_;
    my $dir = $test->testdir();

    system("tar -xzf @{[file($test, $layer)]} -C $dir/root") == 0
        or die "tar failed\n";

    return;
}


sub names {
    my ($folder) = @_;

    return map { s{.*/}{}r } glob("$folder/*");
}


# What is wrong with an image that skopeo pulls: each of its blobs is the one
# that is stored.

sub pulled {
    my ($test, $number, $image, $storage) = @_;
    my $dir = $test->testdir();

    rmtree("$dir/pulled");

    my $output = qx(skopeo copy --insecure-policy --src-tls-verify=false \\
        docker://127.0.0.1:@{[port($number)]}/$image dir:$dir/pulled 2>&1);

    return "skopeo: $output" if $? != 0;

    my @names = grep { /^[0-9a-f]{64}$/ } names("$dir/pulled");
    my $manifest = decode_json($test->read_file('pulled/manifest.json'));

    return "blobs: @names"
        if join(' ', @names) ne join(' ', sort map {
            $_->{digest} =~ s/^sha256://r
        } $manifest->{config}, @{$manifest->{layers}});

    return join ' ', grep { bytes("$dir/pulled/$_")
                            ne bytes("$storage/layers/$_") } @names;
}

###############################################################################
