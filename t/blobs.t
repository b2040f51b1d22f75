#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Blobs: nginx's own static machinery, and ranges.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http/)->plan(32);

prepare($t);

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    sendfile on;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        location /v2 {
            ${\nixery($t)}
        }
    }
}

EOF

$t->run();

###############################################################################

my $manifest = manifest('tiny')->{json};
my ($layer) = sort { $b->{size} <=> $a->{size} } @{$manifest->{layers}};
my $uri = "/v2/tiny/blobs/$layer->{digest}";
my $r = reply(http_get($uri));
my $body = $r->{body};

is($r->{status}, 200, 'blob');
is(length($body), $layer->{size}, 'blob size');
is('sha256:' . Digest::SHA::sha256_hex($body), $layer->{digest}, 'blob bytes');
is($r->{headers}{'content-length'}, $layer->{size}, 'blob length');
is($r->{headers}{'content-type'}, 'application/octet-stream', 'blob type');
is($r->{headers}{'docker-content-digest'}, $layer->{digest}, 'blob digest');
is($r->{headers}{etag}, "\"$layer->{digest}\"", 'blob etag');
is($r->{headers}{'accept-ranges'}, 'bytes', 'blob ranges');
like($r->{headers}{'cache-control'}, qr/immutable/, 'blob cache control');

for my $descriptor ($manifest->{config}, @{$manifest->{layers}}) {
    $r = reply(http_get("/v2/x/blobs/$descriptor->{digest}"));
    is('sha256:' . Digest::SHA::sha256_hex($r->{body}), $descriptor->{digest},
       "blob $descriptor->{digest}");
}

$r = reply(http_head($uri));
is($r->{status}, 200, 'head');
is($r->{headers}{'content-length'}, $layer->{size}, 'head length');
is($r->{body}, '', 'head body');

# ranges

sub range {
    my ($range, $extra) = @_;
    return reply(http("GET $uri HTTP/1.0\x0d\x0aHost: localhost\x0d\x0a"
                      . "Range: $range\x0d\x0a" . ($extra // '')
                      . "\x0d\x0a"));
}

my $size = $layer->{size};

$r = range('bytes=0-9');
is($r->{status}, 206, 'first');
is($r->{body}, substr($body, 0, 10), 'first bytes');
is($r->{headers}{'content-range'}, "bytes 0-9/$size", 'first range');

is(range('bytes=100-299')->{body}, substr($body, 100, 200), 'middle');
is(range('bytes=-7')->{body}, substr($body, -7), 'suffix');
is(range('bytes=' . ($size - 5) . '-')->{body}, substr($body, -5), 'resumed');
is(range("bytes=$size-")->{status}, 416, 'past the end');
is(range('bytes=0-1,4-5')->{status}, 206, 'several');

is(range('bytes=0-9', "If-Range: \"$layer->{digest}\"\x0d\x0a")->{status}, 206,
   'if range');
is(range('bytes=0-9', "If-Range: \"other\"\x0d\x0a")->{status}, 200,
   'if range, another');

$r = reply(http("GET $uri HTTP/1.0\x0d\x0aHost: localhost\x0d\x0a"
                . "If-None-Match: \"$layer->{digest}\"\x0d\x0a\x0d\x0a"));
is($r->{status}, 304, 'not modified');

is(reply(http_get("$uri?ns=docker.io"))->{body}, $body, 'query string');

# blobs that are not there

my $none = 'sha256:' . 'f' x 64;

$r = reply(http_get("/v2/tiny/blobs/$none"));
refused($r, 404, 'BLOB_UNKNOWN', qr/\Q$none\E/, 'no blob');
$r = reply(http_head("/v2/tiny/blobs/$none"));
is($r->{status}, 404, 'no blob, head');
is($r->{body}, '', 'no blob, head body');

refused(reply(http_get('/v2/tiny/blobs/sha512:' . 'f' x 128)), 400,
        'DIGEST_INVALID', qr/sha256/, 'another algorithm');

###############################################################################
