#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# A worker that served 1,000 requests of all kinds, under valgrind: no memory is
# lost or misused, no descriptor left open.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

plan(skip_all => 'the sanitizers look for leaks themselves')
    if qx($Test::Nginx::NGINX -V 2>&1) =~ /-fsanitize=/;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('valgrind')->plan(34);
my $d = $t->testdir();

prepare($t);

mkdir("$d/valgrind");
mkdir("$d/broken");
chmod(0777, "$d/valgrind", "$d/broken");

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

        location /v2 {
            ${\nixery($t)}
        }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, storage => "directory $d/broken")}
        }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, build_timeout => '500ms')}
        }
    }
}

EOF

$t->run_daemon('valgrind', "--log-file=$d/valgrind/%p", '--leak-check=full',
               '--show-leak-kinds=definite,possible',
               '--errors-for-leak-kinds=definite,possible',
               '--keep-debuginfo=yes',
               "--suppressions=$FindBin::Bin/harness/valgrind.supp",
               $Test::Nginx::NGINX, '-p', "$d/", '-c', 'nginx.conf',
               '-e', 'error.log');

my $worker;

eventually(sub { -s "$d/nginx.pid"
                 && (($worker) = children($t->read_file('nginx.pid') + 0)) })
    or die "nginx did not start\n";

###############################################################################

my ($before, $r, $manifest, $blob, $big, $none, %statuses, @clients);

# images, new ones and known ones

for my $name ('tiny', 'tiny2/many', 'tiny2/many', 'mixedcase/twin1', 'big1',
              'nested.inner', 'tiny', 'big1', 'tiny')
{
    is(manifest($name)->{status}, 200, $name);
}

$before = descriptors($worker);

$r = manifest('tiny');
$manifest = "/v2/tiny/manifests/$r->{headers}{'docker-content-digest'}";
$blob = "/v2/tiny/blobs/$r->{json}{layers}[0]{digest}";
$big = "/v2/big1/blobs/" . manifest('big1')->{json}{layers}[0]{digest};
$none = 'sha256:' . '0' x 64;

# builds that fail, each in another way

%statuses = map { $_ => manifest($_)->{status} }
            qw(nope tiny/nope failing throws aborts/tiny tiny/broken);
is_deeply(\%statuses, { nope => 404, 'tiny/nope' => 404, failing => 500,
                        throws => 404, 'aborts/tiny' => 404,
                        'tiny/broken' => 404 }, 'failed packages');

%statuses = ();

for my $mode ('noisy', 'silent', 'flood', 'print /etc/passwd\n', 'exit 1',
              'signal 9', 'grandchild')
{
    fake_mode($t, $mode);
    $statuses{$mode} = manifest('tiny')->{status};
}

is_deeply(\%statuses, { noisy => 200, silent => 500, flood => 500,
                        'print /etc/passwd\n' => 500, 'exit 1' => 500,
                        'signal 9' => 500, grandchild => 200 },
          'failed calls of nix-build');

fake_mode($t, 'hang');
is(manifest('tiny', 'latest', at(8082))->{status}, 504, 'too slow');

fake_mode($t, 'real');
chown(0, 0, glob("$d/broken/*"));
is(manifest('tiny', 'latest', at(8081))->{status}, 502, 'broken storage');

# clients that wait for one build, half of them not until its end

for my $leaving (10, 20) {
    my $calls = () = calls($t);

    fake_mode($t, 'wait');

    @clients = map { http("GET /v2/twin2/manifests/latest HTTP/1.0\x0d\x0a"
                          . "Host: localhost\x0d\x0a\x0d\x0a", start => 1) }
               1 .. 20;
    eventually(sub { (() = calls($t)) > $calls });
    splice(@clients, 0, $leaving);
    go($t);

    is(join(' ', map { answer($_)->{status} } @clients),
       join(' ', (200) x (20 - $leaving)), "$leaving of 20 clients left");
    eventually(sub { left_over($t) eq '' });
}

fake_mode($t, 'real');

# what needs no build

is(several(150, "GET $manifest"), 200, 'manifest');
is(several(50, "HEAD $manifest"), 200, 'manifest, head');
is(several(50, "GET $manifest", "If-None-Match: *"), 304, 'manifest, known');
is(several(150, "GET $blob"), 200, 'blob');
is(several(50, "HEAD $blob"), 200, 'blob, head');
is(several(100, "GET $blob", 'Range: bytes=100-'), 206, 'blob, range');
is(several(20, "GET $blob", 'Range: bytes=0-1,4-5'), 206, 'blob, ranges');
is(several(20, "GET $blob", 'Range: bytes=99999999-'), 416, 'blob, no range');
is(several(50, "GET /v2/tiny/manifests/$none"), 404, 'unknown manifest');
is(several(50, "GET /v2/tiny/blobs/$none"), 404, 'unknown blob');
is(several(100, 'GET /v2/BAD--/manifests/latest'), 400, 'bad name');
is(several(50, 'GET /v2/tiny/manifests/-'), 400, 'bad tag');
is(several(50, 'GET /v2/tiny/blobs/sha256:0'), 400, 'bad digest');
is(several(50, 'PUT /v2/tiny/manifests/latest', 'Content-Length: 0'), 405,
   'push');
is(several(50, 'GET /v2/'), 200, 'base');
is(several(50, 'GET /v2/tiny'), 404, 'no route');

# a client that goes away in the middle of a blob

for (1 .. 20) {
    my $socket = http("GET $big HTTP/1.0\x0d\x0aHost: localhost"
                      . "\x0d\x0a\x0d\x0a", start => 1);
    sysread($socket, my $buf, 1000);
}

ok(eventually(sub { descriptors($worker) == $before }), 'no descriptor lost');

kill('QUIT', $t->read_file('nginx.pid'));
eventually(sub { !-e "$d/nginx.pid" });

cmp_ok(scalar(() = $t->read_file('access.log') =~ /\n/g), '>=', 1000,
       'requests');

$r = $t->read_file("valgrind/$worker");
like($r, qr/ERROR SUMMARY: 0 errors/, 'valgrind') or diag($r);

###############################################################################

sub at {
    my ($port) = @_;
    return (PeerAddr => '127.0.0.1:' . port($port));
}

sub answer {
    my ($socket) = @_;
    return reply(Test::Nginx::http_end($socket, timeout => 60));
}

# The statuses of a number of requests, each given once.

sub several {
    my ($n, @lines) = @_;
    my %seen;

    $lines[0] .= ' HTTP/1.0';
    my $request = join "\x0d\x0a", @lines, 'Host: localhost', '', '';

    $seen{reply(http($request))->{status}} = 1 for 1 .. $n;

    return join ' ', sort keys %seen;
}

###############################################################################
