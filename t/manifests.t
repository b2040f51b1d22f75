#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Manifests: by tag and by digest, headers, conditions, methods.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http rewrite/)->plan(59);

prepare($t);

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    gzip on;
    gzip_types *;
    gzip_min_length 0;
    gzip_vary on;

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

        location ~ ^/(v2|V2) {
            ${\nixery($t)}
        }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        location / {
            try_files /none \@registry;
        }

        location \@registry {
            ${\nixery($t)}
        }
    }
}

EOF

$t->run();

###############################################################################

my ($r, $digest, $body);
my $type = 'application/vnd.oci.image.manifest.v1+json';

# the base

for my $uri ('/v2', '/v2/', '/v2/?ns=docker.io') {
    $r = reply(http_get($uri));
    is($r->{status}, 200, "$uri status");
    is($r->{headers}{'docker-distribution-api-version'}, 'registry/2.0',
       "$uri version");
}

is($r->{body}, '{}', 'base body');
is($r->{headers}{'content-type'}, 'application/json', 'base type');

# by tag

$r = manifest('tiny');
$digest = $r->{headers}{'docker-content-digest'} // '';
$body = $r->{body};

is($r->{status}, 200, 'tag');
is($r->{headers}{'content-type'}, $type, 'tag type');
is($r->{headers}{'content-length'}, length($body), 'tag length');
is($digest, 'sha256:' . Digest::SHA::sha256_hex($body), 'tag digest');
is($r->{headers}{etag}, "\"$digest\"", 'tag etag');
is($r->{headers}{'cache-control'}, 'no-cache', 'tag cache control');
is($r->{headers}{'docker-distribution-api-version'}, 'registry/2.0',
   'tag version');
is($r->{json}{schemaVersion}, 2, 'manifest schema');
is($r->{json}{mediaType}, $type, 'manifest media type');

is(manifest('tiny', 'latest?ns=docker.io')->{body}, $body, 'query string');
is(manifest('tiny', 'v1.0_rc-1')->{body}, $body, 'another tag');

# HEAD says the same

$r = reply(http_head('/v2/tiny/manifests/latest', timeout => 60));
is($r->{status}, 200, 'head');
is($r->{headers}{'content-length'}, length($body), 'head length');
is($r->{headers}{'docker-content-digest'}, $digest, 'head digest');
is($r->{headers}{'content-type'}, $type, 'head type');
is($r->{body}, '', 'head body');

# by digest

$r = manifest('tiny', $digest);
is($r->{status}, 200, 'digest');
is($r->{body}, $body, 'digest body');
is($r->{headers}{'docker-content-digest'}, $digest, 'digest digest');
is($r->{headers}{'content-type'}, $type, 'digest type');
is($r->{headers}{etag}, "\"$digest\"", 'digest etag');
like($r->{headers}{'cache-control'}, qr/max-age=31536000.*immutable/,
     'digest cache control');

is(manifest('any/other/name', $digest)->{body}, $body, 'digest, any name');

$r = reply(http_head("/v2/tiny/manifests/$digest"));
is($r->{status}, 200, 'digest head');
is($r->{headers}{'content-length'}, length($body), 'digest head length');
is($r->{body}, '', 'digest head body');

refused(manifest('tiny', 'sha256:' . '0' x 64), 404, 'MANIFEST_UNKNOWN',
        qr/0{64}/, 'unknown digest');

# a blob is no manifest

my $config = $r = manifest('tiny')->{json}{config}{digest};
refused(manifest('tiny', $config), 404, 'MANIFEST_UNKNOWN', qr/\Q$config\E/,
        'config as manifest');

my ($layer) = map { $_->{digest} } @{manifest('tiny')->{json}{layers}};
refused(manifest('tiny', $layer), 404, 'MANIFEST_UNKNOWN', qr/\Q$layer\E/,
        'layer as manifest');

# conditions

$r = reply(http(<<"EOF", timeout => 60));
GET /v2/tiny/manifests/latest HTTP/1.0
Host: localhost
If-None-Match: "$digest"

EOF

is($r->{status}, 304, 'not modified');
is($r->{headers}{etag}, "\"$digest\"", 'not modified etag');
is($r->{body}, '', 'not modified body');

$r = reply(http(<<"EOF"));
GET /v2/tiny/manifests/$digest HTTP/1.0
Host: localhost
If-None-Match: "other", W/"$digest"

EOF

is($r->{status}, 304, 'digest not modified');

# never encoded: the digest is of these bytes

$r = reply(http(<<"EOF", timeout => 60));
GET /v2/tiny/manifests/$digest HTTP/1.1
Host: localhost
Accept-Encoding: gzip
Connection: close

EOF

is($r->{headers}{'content-encoding'}, undef, 'no content encoding');
is($r->{body}, $body, 'plain body');

# no range of a manifest is anything

$r = reply(http(<<"EOF"));
GET /v2/tiny/manifests/$digest HTTP/1.0
Host: localhost
Range: bytes=0-3

EOF

is($r->{status}, 200, 'range ignored');

# what is not a pull

for my $request ('PUT /v2/tiny/manifests/latest',
                 'DELETE /v2/tiny/manifests/latest',
                 'POST /v2/tiny/blobs/uploads/', 'PATCH /v2/tiny/blobs/uploads/1')
{
    $r = reply(http("$request HTTP/1.0\x0d\x0aHost: localhost\x0d\x0a"
                    . "Content-Length: 4\x0d\x0a\x0d\x0abody"));
    refused($r, 405, 'UNSUPPORTED', qr/pull/, "405 $request");
    is($r->{headers}{allow}, 'GET, HEAD', "allow $request");
}

refused(reply(http_get('/v2/tiny/blobs/uploads/')), 405, 'UNSUPPORTED',
        qr/pull/, 'uploads');

# routes that are none

for my $uri ('/v2/tiny', '/v2/tiny/manifests', '/v2/x/unknown/y', '/v22/') {
    is(reply(http_get($uri))->{status}, 404, "404 $uri");
}

# other kinds of locations

for my $port (8081, 8082) {
    $r = reply(http_get('/v2/tiny/manifests/latest', timeout => 60,
                        PeerAddr => '127.0.0.1:' . port($port)));
    is($r->{body}, $body, "port $port");
}

###############################################################################
