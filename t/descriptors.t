#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# No descriptors left in a worker: a build that runs out of them at whatever it
# opens says so and leaves none behind; so do blobs and manifests.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use constant LIMIT => 64;

my $t = Test::Nginx->new()->has(qw/http/)->plan(11);

prepare($t);

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_rlimit_nofile ${\LIMIT};

events {
    worker_connections 256;
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
}

EOF

$t->run();

###############################################################################

my ($r, $image, $digest, $worker, $before, @idle, @wrong);

$r = manifest('tiny');
is(whole($r), '', 'image');

$image = $r->{body};
$digest = $r->{headers}{'docker-content-digest'};
($worker) = workers($t);

$before = used($worker);

@idle = connections($worker);
is(used($worker), LIMIT, 'no descriptor left');

is(get(shift @idle, "/v2/tiny/blobs/$digest")->{status}, 502, 'blob');
push @idle, connections($worker);
is(get(shift @idle, "/v2/tiny/manifests/$digest")->{status}, 502, 'manifest');
push @idle, connections($worker);

# each request leaves one descriptor more to the next

for my $free (0 .. LIMIT) {
    wipe($t);

    $r = get(shift @idle, '/v2/tiny/manifests/latest');
    last if $r->{status} == 200;

    push @wrong, "$free free: $r->{status} $r->{body}"
        if $r->{status} !~ /^50[02]$/ || $r->{body} !~ /Too many open files/;
    push @wrong, "$free free: left " . left_over($t) if left_over($t);
    push @wrong, "$free free: storage " . truth($t) if truth($t);
}

is(join("\n", @wrong), '', 'no descriptors left');
is($r->{body}, $image, 'enough descriptors');

cmp_ok(LIMIT - used($worker), '>', 8, 'all that is opened has failed');

is(get(shift @idle, "/v2/tiny/blobs/$digest")->{status}, 200, 'next blob');

@idle = ();

ok(eventually(sub { used($worker) == $before }), 'none was lost');
is(whole(manifest('tiny')), '', 'next request');
is((workers($t))[0], $worker, 'same worker');

###############################################################################

# Descriptors of a worker that count for its limit; those that it was started
# with may be above.

sub used {
    my ($pid) = @_;
    return scalar(grep { m{/(\d+)$} && $1 < LIMIT } glob("/proc/$pid/fd/*"));
}

# Connections that take all the others.

sub connections {
    my ($pid) = @_;
    my @sockets;

    while ((my $now = used($pid)) < LIMIT) {
        push @sockets, IO::Socket::INET->new(Proto => 'tcp',
                                             PeerAddr => '127.0.0.1:'
                                                         . port(8080));
        eventually(sub { used($pid) > $now });
    }

    return @sockets;
}

sub get {
    my ($socket, $uri) = @_;

    return reply(http("GET $uri HTTP/1.0\x0d\x0aHost: localhost"
                      . "\x0d\x0a\x0d\x0a", socket => $socket, timeout => 60));
}

###############################################################################
