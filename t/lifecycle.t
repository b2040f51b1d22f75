#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Reload and quit let builds end that someone waits for, within
# worker_shutdown_timeout; a build that nobody waits for is canceled.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw(sleep);

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http/)->plan(51);

prepare($t);
configure($t, '');

$t->run();

###############################################################################

my ($old, $new, $cpu, $r, $stored, @clients);

# a reload while clients wait

@clients = waiting($t, 'tiny', 3);
$old = worker($t);

$t->reload();

ok(eventually(sub { leaving($old) }), 'reload, old worker is leaving');
ok(eventually(sub { ($new) = workers($t) }), 'reload, new worker');

# a worker that has no timer left spins until its threads end

$cpu = cpu_time($old);

fake_mode($t, 'real');

$r = manifest('tiny2');
is($r->{status}, 200, 'reload, new worker serves');

is(reply(http_get("/v2/x/blobs/$r->{json}{config}{digest}"))->{status}, 200,
   'reload, new worker serves blobs');

sleep(1.2);

cmp_ok(cpu_time($old) - $cpu, '<', 0.2, 'reload, old worker is idle');
ok(leaving($old), 'reload, old worker waits');

go($t);

for my $n (1 .. 3) {
    is(whole(answer(shift @clients)), '', "reload, client $n gets its image");
}

is(scalar(() = calls($t)), 2, 'reload, one build for each image');
ok(eventually(sub { !-e "/proc/$old" }), 'reload, old worker exits');
is_deeply([workers($t)], [$new], 'reload, one worker');
is(left_over($t), '', 'reload, nothing left');

# a quit while clients wait

@clients = waiting($t, 'MixedCase', 2);
$old = worker($t);

signal($t, 'QUIT');

ok(eventually(sub { leaving($old) }), 'quit, worker is leaving');
ok(eventually(sub { !connects() }), 'quit, no more connections');

$cpu = cpu_time($old);
sleep(1.2);

cmp_ok(cpu_time($old) - $cpu, '<', 0.2, 'quit, worker is idle');

go($t);

for my $n (1 .. 2) {
    is(answer(shift @clients)->{status}, 200, "quit, client $n");
}

ok(ended($t), 'quit, nginx exits');
is(left_over($t), '', 'quit, nothing left');

$t->run();

is(whole(manifest('mixedcase')), '', 'quit, started again');

# a reload and a quit while layers are packed

for my $name (qw(HUP QUIT)) {
    wipe($t);
    $old = worker($t);
    @clients = get('big1/big2/big3');

    ok(eventually(sub { packing($t) }, 0.001), "$name, a layer is packed");
    signal($t, $name);

    is(missing($t, answer(shift @clients)), '',
       "$name, client gets its image");
    ok(eventually(sub { !-e "/proc/$old" }), "$name, worker exits");
    is(left_over($t), '', "$name, nothing left");
    is(truth($t), '', "$name, storage");
}

ok(ended($t), 'QUIT, nginx exits');
$t->run();

# a quit while nobody waits

$stored = () = objects($t, 'layers');
waiting($t, 'many', 1);

ok(eventually(sub { hung_up($t) == 1 }), 'abandoned, client is gone');
isnt(join(' ', processes($t)), '', 'abandoned, build goes on');

signal($t, 'QUIT');

ok(ended($t), 'abandoned, nginx exits');
is(left_over($t), '', 'abandoned, nothing left');
is(scalar(() = objects($t, 'layers')), $stored, 'abandoned, nothing stored');

$t->run();

# one client of two goes away while the worker is leaving, then the only one

@clients = waiting($t, 'many', 2);
$old = worker($t);

$t->reload();

ok(eventually(sub { leaving($old) }), 'two clients, old worker is leaving');

close(shift @clients);
ok(eventually(sub { hung_up($t) == 2 }), 'two clients, one is gone');

go($t);

is(whole(answer(shift @clients)), '', 'two clients, the other gets its image');
ok(eventually(sub { !-e "/proc/$old" }), 'two clients, old worker exits');

@clients = waiting($t, 'twin1', 1);
$old = worker($t);

$t->reload();

ok(eventually(sub { leaving($old) }), 'one client, old worker is leaving');

close(shift @clients);
ok(eventually(sub { !-e "/proc/$old" }), 'one client, old worker exits');
is(left_over($t), '', 'one client, nothing left');

# time to shut down is up

configure($t, 'worker_shutdown_timeout 1s;');
$old = worker($t);
$t->reload();
eventually(sub { !-e "/proc/$old" });

@clients = waiting($t, 'many', 2);
$old = worker($t);

$t->reload();

ok(eventually(sub { !-e "/proc/$old" }), 'timeout, old worker exits');
is(answer(shift @clients)->{status}, 0, 'timeout, client gets no answer');
is(left_over($t), '', 'timeout, nothing left');

fake_mode($t, 'real');
is(whole(manifest('many')), '', 'timeout, new worker builds');

@clients = waiting($t, 'many', 1);

signal($t, 'QUIT');

ok(ended($t), 'timeout, nginx quits');
is(left_over($t), '', 'timeout, nothing left after quit');

$t->run();

fake_mode($t, 'real');
is(whole(manifest('many')), '', 'timeout, started again');

###############################################################################

sub configure {
    my ($t, $globals) = @_;

    $t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
$globals

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
}

EOF

    return;
}

sub get {
    my ($name) = @_;

    return http("GET /v2/$name/manifests/latest HTTP/1.0\x0d\x0a"
                . "Host: localhost\x0d\x0a\x0d\x0a", start => 1);
}

# Clients that wait for one image, whose build has begun and is held.

sub waiting {
    my ($t, $name, $n) = @_;
    my $calls = () = calls($t);

    fake_mode($t, 'wait');

    my @sockets = map { get(lc $name) } 1 .. $n;

    eventually(sub { (() = calls($t)) > $calls })
        or die "nix-build was not run\n";

    return @sockets;
}

sub answer {
    my ($socket) = @_;
    return reply(Test::Nginx::http_end($socket, timeout => 60));
}

# The one worker, which may only just have been started.

sub worker {
    my ($t) = @_;
    my $worker;

    eventually(sub { ($worker) = workers($t) });

    return $worker;
}

sub packing {
    my ($t) = @_;
    return scalar(() = glob($t->testdir() . '/temp/nixery-work.*/'
                            . '[0-9a-f]' x 64));
}

# What the storage has not of an image.

sub missing {
    my ($t, $reply) = @_;
    my $manifest = $reply->{json} // return "status $reply->{status}";
    my $layers = $t->testdir() . '/storage/layers';

    return join ' ', grep { !-e "$layers/" . s/^sha256://r }
                     map { $_->{digest} }
                         $manifest->{config}, @{$manifest->{layers}};
}

# Requests whose client did not wait.

sub hung_up {
    my ($t) = @_;
    return scalar(() = $t->read_file('access.log') =~ /" 499 /g);
}

sub connects {
    return IO::Socket::INET->new(Proto => 'tcp',
                                 PeerAddr => '127.0.0.1:' . port(8080));
}

sub signal {
    my ($t, $name) = @_;
    kill($name, $t->read_file('nginx.pid'));
    return;
}

sub ended {
    my ($t) = @_;
    return eventually(sub { !-e $t->testdir() . '/nginx.pid' });
}

###############################################################################
