#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Clients of several workers that ask for the same image: at worst each worker
# builds it once, and all get the same.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use constant WORKERS => 3;

my $t = Test::Nginx->new()->has(qw/http/)->plan(15);

prepare($t);

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

worker_processes @{[WORKERS]};

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    add_header X-Worker \$pid always;
    add_header X-Cache \$nixery_cache always;

    server {
        # each worker gets its share of the connections
        listen       127.0.0.1:8080 reuseport;
        server_name  localhost;

        location /v2 {
            ${\nixery($t)}
        }
    }
}

EOF

$t->run();

###############################################################################

my (@clients, @replies, %misses, $r);

ok(eventually(sub { workers($t) == WORKERS }), 'workers');

fake_mode($t, 'wait');
@clients = map { http_get('/v2/tiny/tiny2/manifests/latest', start => 1) }
           1 .. 100;

ok(eventually(sub { calls($t) }), 'nix-build runs');

# when each worker has answered someone behind them, all have been heard

my %heard;
ok(eventually(sub { $heard{reply(http_get('/v2/'))->{headers}{'x-worker'}} = 1;
                    keys %heard == WORKERS }), 'all are heard');

go($t);
@replies = map { reply(received($_)) } @clients;

is(scalar(grep { $_->{status} == 200 } @replies), 100, 'all are answered');
is(scalar(grep { $_->{body} eq $replies[0]{body} } @replies), 100,
   'same bodies');
is(whole($replies[0]), '', 'image');

$misses{$_->{headers}{'x-worker'}} += $_->{headers}{'x-cache'} eq 'MISS'
    for @replies;

is(scalar(keys %misses), WORKERS, 'all workers answered');
cmp_ok($misses{$_}, '<=', 1, "worker $_ built once") for sort keys %misses;
cmp_ok(scalar(calls($t)), '<=', WORKERS, 'no more builds than workers');

ok(eventually(sub { left_over($t) eq '' }), 'nothing left');
is(scalar(objects($t, 'manifests')), 1, 'one key');
is(truth($t), '', 'storage');

# what one of them has stored, any serves

$r = manifest('any', $replies[0]{headers}{'docker-content-digest'});
is($r->{body}, $replies[0]{body}, 'by digest');

###############################################################################
