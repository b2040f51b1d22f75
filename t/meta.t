#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Meta-packages of one's own: levels, what they stand for, a reload.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use JSON::PP;
use Test::Nginx;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http/)->plan(26);

prepare($t);

my $d = $t->testdir();

# names as attributes may have them, and requests may not

$t->write_file('packages/marks.nix', <<'EOF');
{ system ? builtins.currentSystem }:

let set = import ./default.nix { inherit system; };

in set // {
  "c++" = set.tiny;
  "tiny'" = set.tiny2;
  sets.MixedCase = set.MixedCase;
}
EOF

chmod(0644, "$d/packages/marks.nix");

configure($t, 'nixery_meta shell tiny tiny2;');

$t->run();

###############################################################################

my ($r, $tiny);

# from http

$tiny = manifest('tiny/tiny2')->{body};

$r = manifest('shell');
is(whole($r), '', 'redefined');
is($r->{body}, $tiny, 'is what it stands for');
is(packages($t), 'tiny/tiny2', 'which Nix was asked for');

is(manifest('shell/shell/tiny')->{body}, $tiny, 'with what it has');

is(manifest('shell/nested.inner')->{body},
   manifest('tiny/nested.inner/tiny2')->{body}, 'with more');

refused(manifest('tiny/shell'), 404, 'MANIFEST_UNKNOWN',
        qr/^package not found: "shell"$/, 'only in front');
refused(manifest('tools'), 404, 'MANIFEST_UNKNOWN', qr/"tools"/,
        'of another server');

refused(manifest('builder'), 404, 'MANIFEST_UNKNOWN',
        qr/^packages\ not\ found:\ "bashInteractive",\ "coreutils",
           \ "moreutils",\ "nano",\ "stdenv"$/x, 'another as ever');

# of the server: those of http are not there

my %server = (PeerAddr => '127.0.0.1:' . port(8081));

$r = manifest('tools', 'latest', %server);
is(whole($r, %server), '', 'of the server');
is(packages($t), 'MixedCase/nested.inner', 'in their case');

refused(manifest('shell', 'latest', %server), 404, 'MANIFEST_UNKNOWN',
        qr/"bashInteractive"/, 'not that of http');

$r = manifest('tools/two/tiny', 'latest', %server);
is($r->{status}, 200, 'two of them') or diag($r->{body});
is(packages($t), 'MixedCase/nested.inner/tiny/tiny2', 'one behind the other');

# a platform first, or between

is(manifest('arm64/two', 'latest', %server)->{json}{errors}[0]{code},
   'UNKNOWN', 'for another machine');
is(argument($t, 'system'), 'aarch64-linux', 'which Nix was told');
is(packages($t), 'tiny2', 'with the packages');

# of locations, which differ in nothing else

is(manifest('one', 'latest', PeerAddr => '127.0.0.1:' . port(8082))->{body},
   manifest('tiny')->{body}, 'of a location');
is(manifest('one', 'latest', PeerAddr => '127.0.0.1:' . port(8083))->{body},
   manifest('tiny2')->{body}, 'of another');

# attributes that no request can name

my %marks = (PeerAddr => '127.0.0.1:' . port(8084));

$r = manifest('marks', 'latest', %marks);
is(whole($r, %marks), '', 'marks');
is(packages($t), q{c++/sets.MixedCase/tiny'}, 'as they are');

refused(manifest('missing', 'latest', %marks), 404, 'MANIFEST_UNKNOWN',
        qr/^packages not found: "No\.Such", "x\+\+'"$/, 'not there');

refused(manifest('c++', 'latest', %marks), 400, 'NAME_INVALID', qr/"\+"/,
        'not from a request');

# another meaning: another image

configure($t, 'nixery_meta shell tiny2 nested.inner;');
$t->reload();

ok(eventually(sub { $r = manifest('shell'); $r->{body} ne $tiny }), 'reload');
is($r->{body}, manifest('tiny2/nested.inner')->{body}, 'another meaning');
is(manifest('tiny/tiny2')->{body}, $tiny, 'what it was is there');

is(truth($t), '', 'storage');

###############################################################################

sub configure {
    my ($t, $http) = @_;
    my $d = $t->testdir();

    my $nixery = nixery($t);
    my $marks = nixery($t, packages => "path $d/packages/marks.nix");

    my $servers = join "\n", map {
        my ($port, $text) = @$_;
        "server { listen 127.0.0.1:$port; location /v2 { $text } }"
    } (
        [8080, $nixery],
        [8082, "nixery_meta one tiny; $nixery"],
        [8083, "nixery_meta one tiny2; $nixery"],
        [8084, qq{nixery_meta marks c++ "tiny'" sets.MixedCase;
                  nixery_meta missing No.Such x++'; $marks}],
    );

    $t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    $http

    $servers

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        nixery_meta  tools MixedCase nested.inner;
        nixery_meta  two tiny2;

        location /v2 {
            $nixery
        }
    }
}

EOF

    return;
}


# What Nix was called with last.

sub argument {
    my ($t, $name) = @_;
    my @call = @{(calls($t))[-1]};

    while (@call) {
        return $call[1] if shift @call eq '--argstr' && $call[0] eq $name;
    }

    return '';
}


sub packages {
    my ($t) = @_;
    my $name = argument($t, 'name');

    # the name is made of the packages
    return join('/', @{decode_json(argument($t, 'packages'))}) eq $name
        ? $name : 'another name';
}

###############################################################################
