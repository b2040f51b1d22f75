#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Names, tags and digests: what is malformed, and what tries to be more.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use JSON::PP;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http/);

prepare($t);

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    merge_slashes off;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        location / {
            return 404 nobody;
        }

        location /v2 {
            ${\nixery($t)}
        }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        merge_slashes on;

        location /v2 {
            ${\nixery($t)}
        }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, packages => "path %%TESTDIR%%/packages/long.nix")}
        }
    }
}

EOF

my $long = join('/', ('a') x 128);
my $hex = '0123456789abcdef' x 4;

# 255 bytes as one name, and 254 as 85 of them

my $longest = 'x-' . 'y' x 251 . '.z';
my @short = (map { my $x = $_; map { "$x$_" } 'a' .. 'h' } 'a' .. 'k')[0 .. 84];
my @bases = qw(tiny tiny2 MixedCase _1tool nested.inner twin1 twin2);

$t->write_file('packages/long.nix', <<"EOF");
{ system }: let set = import ./default.nix { inherit system; }; in {
  inherit (set) bash;
  ${\($longest =~ s/\.z//r)} = { z = set.tiny; };
  ${\join("\n  ", map { qq{"$short[$_]" = set.$bases[$_ % @bases];} } 0 .. 84)}
}
EOF

# what is asked for below /v2/, the status and code it gets

my @malformed = (
    # names
    ['/manifests/x', 400, 'NAME_INVALID'],
    ['-a/manifests/x', 400, 'NAME_INVALID'],
    ['a-/manifests/x', 400, 'NAME_INVALID'],
    ['.a/manifests/x', 400, 'NAME_INVALID'],
    ['a./manifests/x', 400, 'NAME_INVALID'],
    ['_a/manifests/x', 400, 'NAME_INVALID'],
    ['a_/manifests/x', 400, 'NAME_INVALID'],
    ['a..b/manifests/x', 400, 'NAME_INVALID'],
    ['a___b/manifests/x', 400, 'NAME_INVALID'],
    ['a._b/manifests/x', 400, 'NAME_INVALID'],
    ['a//b/manifests/x', 400, 'NAME_INVALID'],
    ['a///b/manifests/x', 400, 'NAME_INVALID'],
    ['/a/manifests/x', 400, 'NAME_INVALID'],
    ['a//manifests/x', 400, 'NAME_INVALID'],
    ['A/manifests/x', 400, 'NAME_INVALID'],
    ['aB/manifests/x', 400, 'NAME_INVALID'],
    ['shell/Git/manifests/x', 400, 'NAME_INVALID'],
    ['a%20b/manifests/x', 400, 'NAME_INVALID'],
    ['a%0ab/manifests/x', 400, 'NAME_INVALID'],
    ['a%7fb/manifests/x', 400, 'NAME_INVALID'],
    ['a%c3%a4/manifests/x', 400, 'NAME_INVALID'],
    ['a%ffb/manifests/x', 400, 'NAME_INVALID'],
    ['a%22b/manifests/x', 400, 'NAME_INVALID'],
    ['a%5cb/manifests/x', 400, 'NAME_INVALID'],
    ['a:b/manifests/x', 400, 'NAME_INVALID'],
    ['a@b/manifests/x', 400, 'NAME_INVALID'],
    ['a+b/manifests/x', 400, 'NAME_INVALID'],
    ['a*/manifests/x', 400, 'NAME_INVALID'],
    ['a%2fB/manifests/x', 400, 'NAME_INVALID'],
    ['a%2f%2fb/manifests/x', 400, 'NAME_INVALID'],
    ['a%252fb/manifests/x', 400, 'NAME_INVALID'],
    ['%252e%252e/manifests/x', 400, 'NAME_INVALID'],
    ['a%c0%afb/manifests/x', 400, 'NAME_INVALID'],
    ['a%0d%0aX-Evil:1/manifests/x', 400, 'NAME_INVALID'],
    ["$long/manifests/x" =~ s{^a}{aa}r, 400, 'NAME_INVALID'],
    ['a' x 256 . '/manifests/x', 400, 'NAME_INVALID'],
    ['a' x 4000 . '/manifests/x', 400, 'NAME_INVALID'],
    ['arm64/manifests/x', 400, 'NAME_INVALID'],
    ['A/blobs/sha256:' . $hex, 400, 'NAME_INVALID'],

    # tags
    ['a/manifests/', 400, 'TAG_INVALID'],
    ['a/manifests/.x', 400, 'TAG_INVALID'],
    ['a/manifests/-x', 400, 'TAG_INVALID'],
    ['a/manifests/a%20b', 400, 'TAG_INVALID'],
    ['a/manifests/a%00b', 400, undef],
    ['a/manifests/a+b', 400, 'TAG_INVALID'],
    ['a/manifests/%c3%a4', 400, 'TAG_INVALID'],
    ['a/manifests/x%0d%0aX-Evil:1', 400, 'DIGEST_INVALID'],
    ['a/manifests/x%0d%0ax', 400, 'TAG_INVALID'],
    ['a/manifests/x%2fy', 400, 'TAG_INVALID'],
    ['a/manifests/' . 'x' x 129, 400, 'TAG_INVALID'],
    ['a/manifests/--option', 400, 'TAG_INVALID'],

    # digests
    ['a/manifests/sha256:', 400, 'DIGEST_INVALID'],
    ['a/manifests/sha256:abc', 400, 'DIGEST_INVALID'],
    ["a/manifests/sha256:${hex}0", 400, 'DIGEST_INVALID'],
    ['a/manifests/sha256:' . uc($hex), 400, 'DIGEST_INVALID'],
    ['a/manifests/sha256:' . 'g' x 64, 400, 'DIGEST_INVALID'],
    ["a/manifests/sha1:$hex", 400, 'DIGEST_INVALID'],
    ["a/manifests/sha512:$hex$hex", 400, 'DIGEST_INVALID'],
    ['a/blobs/', 400, 'DIGEST_INVALID'],
    ['a/blobs/latest', 400, 'DIGEST_INVALID'],
    ['a/blobs/sha256:..%2f..%2fetc%2fpasswd', 400, undef],
    ["a/blobs/$hex", 400, 'DIGEST_INVALID'],
    ["a/blobs/sha256:$hex%00", 400, undef],
);

# out of the location: nginx takes paths apart before it looks for one

my @paths = (
    ['../etc/passwd', 404],
    ['../../../etc/passwd', 400],
    ['%2e%2e/etc/passwd', 404],
    ['..%2fetc/passwd', 404],
    ['a/manifests/../../../x', 404],
    ['%00', 400],
    ['a/../../x', 404],
    ['a/manifests/..', 404],
    ['a/manifests/%2e%2e', 404],
    ['a/manifests/.', 400],
    ['a/blobs/../../../etc/passwd', 404],
    ['a/blobs/sha256:/../../../../etc/passwd', 404],
    ['./a/./manifests/-x', 400],
);

my @code = (
    '--option', '-E', '--expr', '--argstr', '-A', '--arg', '--impure',
    '--option/sandbox/false', '${builtins.abort', '%24%7bbuiltins.abort%7d',
    'a%22%3babort', 'a";abort "', "a'';abort ''", 'import%20%3cnixpkgs%3e',
    '(abort)', '%28abort%20%22x%22%29', 'builtins', '<nixpkgs>',
    'tiny%0a--option', 'a;b', '`id`', '$(id)', '%24%28id%29', 'a|b', '..',
    'let', 'tiny.outpath', 'tiny.drvpath', 'nested.__functor',
    'tiny.type', 'x--argstr', 'a--option', 'with.tiny', 'rec', 'throws.x',
);

$t->plan(@malformed + @paths + @code + 18);
$t->run();

###############################################################################

my $r;

for my $case (@malformed) {
    my ($uri, $status, $code) = @$case;

    $r = reply(http_get("/v2/$uri"));
    my $got = $r->{json}{errors}[0]{code};

    ok($r->{status} == $status && (!defined $code || $got eq $code)
       && !exists $r->{headers}{'x-evil'}, "$status $uri")
        or diag($r->{status}, ' ', $r->{body});
}

for my $case (@paths) {
    my ($uri, $status) = @$case;
    is(reply(http_get("/v2/$uri"))->{status}, $status, "$status $uri");
}

is(scalar(my @none = calls($t)), 0, 'nothing malformed reached Nix');

# names of any length and number are fine up to the limits

refused(manifest($long), 404, 'MANIFEST_UNKNOWN', qr/not found: "a"/,
        '255 bytes');

my @names = map { my $x = $_; map { "$x$_" } 'a' .. 'h' } 'a' .. 'h';
my $many = join('/', @names, @names[0 .. 20]);

refused(manifest($many), 404, 'MANIFEST_UNKNOWN', qr/"aa", "ab".*"hh"/,
        'many packages, all named');

my ($call) = grep { "@$_" =~ /"hh"/ } calls($t);
is(scalar(@{decode_json($call->[7])}), 64, 'each of them once');

my $other = '127.0.0.1:' . port(8082);

$r = manifest($longest, 'latest', PeerAddr => $other);
is($r->{status}, 200, 'a name of 255 bytes builds') or diag($r->{body});
is(whole($r), '', 'its image is whole');

$r = manifest(join('/', reverse @short), 'latest', PeerAddr => $other);
is($r->{status}, 200, '85 packages build') or diag($r->{body});
is(whole($r), '', 'their image is whole');
is($r->{body}, manifest(join('/', @short), 'latest', PeerAddr => $other)
               ->{body}, 'in any order');

$r = manifest("${longest}z", 'latest', PeerAddr => $other);
refused($r, 400, 'NAME_INVALID', qr/256 bytes long, more than 255/,
        'one byte more');

is(manifest('tiny%2Ftiny2')->{body}, manifest('tiny/tiny2')->{body},
   'an encoded slash is one');

# what tries to be Nix: refused, or looked up as a name and not found

for my $name (@code) {
    $r = reply(http_get("/v2/$name/manifests/latest", timeout => 60));

    ok($r->{status} == 400 || $r->{status} == 404, "code: $name")
        or diag($r->{status}, ' ', $r->{body});
}

my @odd = grep { !/^(--out-link|--argstr|name|packages|pkgSource|src(Type|Args)
                    |system|skip)$/x && !m{^(path!)?/} && !/^\[("[a-z0-9._-]+",?)+\]$/
                 && !/^[a-z0-9._\/-]+$/i && !/^\{".*\}$/s }
          map { @$_ } calls($t);

is("@odd", '', 'no argument but the expected ones');

my @options = grep { /^-/ && !/^--(out-link|argstr)$/ } map { @$_ } calls($t);
is("@options", '', 'no option from a name');

my %counts = map { scalar(@$_) => 1 } calls($t);
is(join(' ', sort keys %counts), '21 24', 'as many arguments as ever');

# doubled slashes are one where nginx merges them

$r = reply(http_get('/v2//tiny//manifests/latest', timeout => 60,
                    PeerAddr => '127.0.0.1:' . port(8081)));
is($r->{status}, 200, 'merged slashes');

# the same set is the same image

my $one = manifest('tiny/tiny2/nested.inner')->{body};
is(manifest('tiny2/nested.inner/tiny')->{body}, $one, 'any order');
is(manifest('tiny2/tiny/tiny2/nested.inner/tiny')->{body}, $one, 'repetition');

# a package may be called like a route

refused(manifest('manifests/blobs'), 404, 'MANIFEST_UNKNOWN',
        qr/"blobs", "manifests"/, 'packages called like routes');

###############################################################################
