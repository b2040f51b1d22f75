#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Variables in the access log and in headers, and what the error log says of a
# build.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx qw/:DEFAULT http_end/;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http/)->plan(59);

prepare($t);

# what is in the store never changes
chomp(my $store = qx(nix-store --add '@{[$t->testdir()]}/packages'));
symlink($store, $t->testdir() . '/link');

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format vars '\$arg_n \$status \$nixery_cache \$nixery_image '
                    '\$nixery_digest \$nixery_build_id \$nixery_build_time';

    access_log %%TESTDIR%%/vars.log vars;

    add_header X-Cache \$nixery_cache always;
    add_header X-Image \$nixery_image always;
    add_header X-Id    \$nixery_build_id always;
    add_header X-Time  \$nixery_build_time always;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        location / {
            return 200 "other";
        }

        location /v2 {
            ${\nixery($t)}
        }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, packages => "path $store")}
        }
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, packages => 'path %%TESTDIR%%/link')}
        }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, build_timeout => '1s')}
        }
    }
}

EOF

$t->run();

###############################################################################

my $requests = 0;


# A request that can be told from others, by its number.

sub request {
    my ($uri, %extra) = @_;

    my $method = $extra{method} // 'GET';

    $requests++;

    return http("$method $uri?n=$requests HTTP/1.0\x0d\x0a"
                . "Host: localhost\x0d\x0a\x0d\x0a", timeout => 60, %extra);
}


# What the access log has of the request with that number, else of the last one:
# status, cache, image, digest, id, time.

sub logged {
    my ($t, $number) = @_;

    $number //= $requests;

    my $line = eventually(sub {
        $t->read_file('vars.log') =~ /^$number (.*)\n/m ? $1 : '';
    });

    return split / /, $line;
}


# The lines of the error log, but for debugging, that have the build's id.

sub said {
    my ($t, $id) = @_;

    return grep { /^\S+ \S+ \[(?!debug)\w+\] .*\Q$id\E/ }
           split /\n/, $t->read_file('error.log');
}


# One test: there is one line, of that level, with that text about the image.

sub says {
    my ($t, $id, $level, $text, $name) = @_;

    my @lines = said($t, $id);

    ok(@lines == 1 && $lines[0] =~ /\[$level\] .*: nixery: image $text$/,
       "$name, one line") or diag(@lines ? join("\n", @lines) : 'none');

    return;
}


my $none = [('-') x 5];
my ($r, @vars, $digest, $config);

# a build

$r = reply(request('/v2/tiny2/tiny/tiny/manifests/latest'));
$digest = $r->{headers}{'docker-content-digest'} // 'none';
$config = $r->{json}{config}{digest};
@vars = logged($t);

is("@vars[0 .. 3]", "200 MISS tiny/tiny2 $digest", 'build');
like($vars[4], qr/^[0-9a-f]{16}$/, 'build id');
like($vars[5], qr/^\d+\.\d{3}$/, 'build time');

is($r->{headers}{'x-cache'}, 'MISS', 'cache in a header');
is($r->{headers}{'x-image'}, 'tiny/tiny2', 'image in a header');
is($r->{headers}{'x-id'}, $vars[4], 'build id in a header');
is($r->{headers}{'x-time'}, $vars[5], 'build time in a header');

says($t, $vars[4], 'notice', qr/"tiny\/tiny2" built, build $vars[4], digest /
     . qr/$digest, \d+ ms \(nix \d+, packing \d+\), layers: [1-9]\d* new /
     . qr/\(\d+ bytes\), 0 reused/, 'build');

# once more: the set may have changed, Nix is asked

my $id = $vars[4];

request('/v2/tiny/tiny2/manifests/latest', method => 'HEAD');
@vars = logged($t);
is("@vars[0 .. 3]", "200 MISS tiny/tiny2 $digest", 'another build');
isnt($vars[4], $id, 'another id');
says($t, $vars[4], 'notice',
     qr/"tiny\/tiny2" built, .*, layers: 0 new \(0 bytes\), [1-9]\d* reused/,
     'another build');

# by digest, whatever the name

request("/v2/any/manifests/$digest");
is_deeply([logged($t)], [200, 'HIT', 'any', $digest, '-', '-'], 'digest');

request("/v2/any/blobs/$config");
is_deeply([logged($t)], [200, 'HIT', 'any', $config, '-', '-'], 'blob');

request("/v2/any/blobs/$config", method => 'HEAD');
is_deeply([logged($t)], [200, 'HIT', 'any', $config, '-', '-'], 'blob, head');

my $absent = 'sha256:' . '0' x 64;

request("/v2/any/manifests/$absent");
is_deeply([logged($t)], [404, '-', 'any', '-', '-', '-'], 'no such digest');

request("/v2/any/blobs/$absent");
is_deeply([logged($t)], [404, '-', 'any', '-', '-', '-'], 'no such blob');

# what has no image

$r = reply(request('/v2/'));
is_deeply([logged($t)], [200, @$none], 'base');
ok(!exists $r->{headers}{'x-cache'} && !exists $r->{headers}{'x-id'},
   'no headers of nothing');

request('/v2/tiny');
is_deeply([logged($t)], [404, @$none], 'no route');

request('/v2/A/manifests/latest');
is_deeply([logged($t)], [400, @$none], 'malformed name');

request('/v2/tiny/manifests/.x');
is_deeply([logged($t)], [400, '-', 'tiny', '-', '-', '-'], 'malformed tag');

request('/v2/tiny/manifests/latest', method => 'PUT');
is_deeply([logged($t)], [405, @$none], 'push');

request('/other');
is_deeply([logged($t)], [200, @$none], 'another location');

# two clients, one build

fake_mode($t, 'wait');

my $calls = calls($t);
my $first = request('/v2/tiny/nested.inner/manifests/latest', start => 1);
ok(eventually(sub { calls($t) > $calls }), 'a build runs');

my $second = request('/v2/nested.inner/tiny/manifests/x', start => 1);
my $gone = request('/v2/nested.inner/tiny/manifests/y', start => 1);

# they are accepted in turn: when this one is answered, they wait
http_get('/v2/');
close($gone);

@vars = logged($t, $requests);
is("@vars[0 .. 3]", '499 WAIT nested.inner/tiny -', 'client gone');
like($vars[4], qr/^[0-9a-f]{16}$/, 'client gone, build id');
is($vars[5], '-', 'client gone, no build time');
is(scalar(() = said($t, $vars[4])), 0, 'nothing to say yet');

go($t);
$digest = reply(http_end($first, timeout => 60))
          ->{headers}{'docker-content-digest'} // 'none';
$r = reply(http_end($second, timeout => 60));

my @first = logged($t, $requests - 2);
my @second = logged($t, $requests - 1);

is("@first[0 .. 3]", "200 MISS nested.inner/tiny $digest", 'first');
is("@second[0 .. 3]", "200 WAIT nested.inner/tiny $digest", 'second');
is($r->{headers}{'x-cache'}, 'WAIT', 'second, in a header');
is($second[4], $first[4], 'one build, one id');
is($vars[4], $first[4], 'of all three');
is($second[5], $first[5], 'one time');
says($t, $first[4], 'notice', qr/"nested.inner\/tiny" built, .*/, 'for all');

# one that fails for both

unlink($t->testdir() . '/fake/go');
$calls = calls($t);
$first = request('/v2/nope/manifests/latest', start => 1);
ok(eventually(sub { calls($t) > $calls }), 'a build runs');
$second = request('/v2/nope/manifests/latest', start => 1);
http_get('/v2/');
go($t);

refused(reply(http_end($first, timeout => 60)), 404, 'MANIFEST_UNKNOWN',
        qr/^package not found: "nope"$/, 'not found');
http_end($second, timeout => 60);

@first = logged($t, $requests - 1);
@second = logged($t, $requests);
is("@first[0 .. 3]", '404 MISS nope -', 'not found, first');
is("@second[0 .. 3]", '404 WAIT nope -', 'not found, second');
is("@second[4, 5]", "@first[4, 5]", 'not found, one build');
like($first[5], qr/^\d+\.\d{3}$/, 'not found, build time');

says($t, $first[4], 'info', qr/"nope" failed, build $first[4], \d+ ms: /
     . qr/package not found: "nope"/, 'not found');

fake_mode($t, 'real');

# a package that fails

$r = reply(request('/v2/failing/manifests/latest'));
@vars = logged($t);
is("@vars[0 .. 3]", '500 MISS failing -', 'failed');
like($r->{json}{errors}[0]{message}, qr/\(build $vars[4]\)/,
     'failed, the id in the answer');
is($r->{json}{errors}[0]{detail}{build}, $vars[4], 'failed, and in its detail');

says($t, $vars[4], 'error', qr/"failing" failed, build $vars[4], \d+ ms: a /
     . qr/package failed to build: .*; last line: this build fails on purpose/,
     'failed');

# meta-packages have names of their own

request('/v2/shell/tiny/manifests/latest');
@vars = logged($t);
is($vars[2], 'bashInteractive/coreutils/moreutils/nano/tiny', 'meta-package');

# too late

fake_mode($t, 'hang');

$r = reply(request('/v2/tiny/manifests/latest',
                   PeerAddr => '127.0.0.1:' . port(8082)));
@vars = logged($t);
is("@vars[0 .. 3]", '504 MISS tiny -', 'timed out');
cmp_ok($vars[5], '>=', 1, 'timed out, build time');
refused($r, 504, 'UNKNOWN',
        qr/^the build did not finish within 1s \(build $vars[4]\)$/,
        'timed out, the id in the answer');

says($t, $vars[4], 'error', qr/"tiny" failed, build $vars[4], \d+ ms: the /
     . qr/build did not finish within 1s/, 'timed out');

fake_mode($t, 'real');

# a set that never changes

my $immutable = '127.0.0.1:' . port(8081);

request('/v2/tiny/manifests/latest', PeerAddr => $immutable);
@vars = logged($t);
is("@vars[0 .. 2]", '200 MISS tiny', 'immutable');

$calls = calls($t);
$r = reply(request('/v2/tiny/manifests/latest', PeerAddr => $immutable));
$digest = $r->{headers}{'docker-content-digest'} // 'none';
@vars = logged($t);
is("@vars[0 .. 3]", "200 HIT tiny $digest", 'immutable, stored');
is(calls($t), $calls, 'immutable, no word with Nix');

says($t, $vars[4], 'info', qr/"tiny" was stored, build $vars[4], digest /
     . qr/$digest, \d+ ms/, 'immutable');

# a link to it may lead elsewhere tomorrow

my @link = (PeerAddr => '127.0.0.1:' . port(8083));

request('/v2/tiny/manifests/latest', @link);
request('/v2/tiny/manifests/latest', @link);
@vars = logged($t);
is("@vars[0 .. 3]", "200 MISS tiny $digest", 'behind a link');

# a builder that changes makes other images, when it is read again

$t->write_file('builder/extra.nix', "# imported, perhaps\n");

request('/v2/tiny/manifests/latest', PeerAddr => $immutable);
@vars = logged($t);
is($vars[1], 'HIT', 'a builder that has changed');

my ($worker) = workers($t);
$t->reload();
ok(eventually(sub { my @now = workers($t); @now == 1 && $now[0] != $worker }),
   'reload');

request('/v2/tiny/manifests/latest', PeerAddr => $immutable);
@vars = logged($t);
is($vars[1], 'MISS', 'a builder that was read again');

###############################################################################
