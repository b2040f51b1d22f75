#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# kill -9 of the worker, of all of nginx, of the supervisor and of nix-build,
# and stop, at every stage of a build: no process is left, no partial object is
# ever seen, the next request gets the whole image.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use constant IMAGE => 'big1/big2/big3';

# what can be seen of a build, in the order in which it comes; the config and
# the manifest stand beside the layers, whose number is the second argument
my @stages = (
    [ 'nix-build runs', sub { () = processes($_[0]) } ],
    [ 'the result is linked', sub { () = works($_[0], 'result') } ],
    [ 'a layer is packed', sub { () = works($_[0], '[0-9a-f]' x 64) } ],
    [ 'a layer is stored', sub { stored($_[0], 'layers') >= 1 } ],
    [ 'a layer is recorded', sub { stored($_[0], 'builds') >= 1 } ],
    [ 'half of the layers are recorded',
      sub { stored($_[0], 'builds') >= $_[1] / 2 } ],
    [ 'all layers are recorded', sub { stored($_[0], 'builds') >= $_[1] } ],
    [ 'the config is stored',
      sub { stored($_[0], 'layers') >= $_[1] + 1 } ],
    [ 'the manifest is stored',
      sub { stored($_[0], 'layers') >= $_[1] + 2 } ],
    [ 'the key is stored', sub { stored($_[0], 'manifests') >= 1 } ],
);

my $t = Test::Nginx->new()->has(qw/http/)->todo_alerts()
    ->plan(@stages * 6 + 48);

prepare($t);

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
}

EOF

$t->run();

###############################################################################

my ($r, $socket, $worker, $supervisor, $target, $body, $layers, $start);

$r = manifest(IMAGE);
is(whole($r), '', 'image');

$body = $r->{body};
$layers = @{$r->{json}{layers} // []};

watch($t);

# the worker, at each stage

for my $stage (@stages) {
    my ($name, $reached) = @$stage;

    wipe($t);
    ($worker) = workers($t);
    $socket = get(IMAGE);

    ok(eventually(sub { $reached->($t, $layers) }, 0.001), $name);

    kill('KILL', $worker);

    is(partial($t), '', "$name, storage after kill");
    like(answer($socket), qr/^$|\Q$body\E$/, "$name, all or nothing");

    ok(eventually(sub { grep { $_ != $worker } workers($t) }),
       "$name, new worker");
    ok(eventually(sub { left_over($t) eq '' }), "$name, nothing left");

    is(manifest(IMAGE)->{body}, $body, "$name, next request");
}

is(whole(manifest(IMAGE)), '', 'image after kills');

# a nix-build that does not end when it is asked to

($worker) = workers($t);
$socket = held($t, 'stubborn', 'tiny');

kill('KILL', $worker);

ok(eventually(sub { left_over($t) eq '' }), 'stubborn nix-build is gone');

fake_mode($t, 'real');
is(whole(manifest('tiny')), '', 'stubborn, next request');

# the supervisor

($worker) = workers($t);
$socket = held($t, 'wait', 'tiny2');
($supervisor) = children($worker);

kill('KILL', $supervisor);

refused(reply(answer($socket)), 500, 'UNKNOWN', qr/supervisor.*killed/,
        'supervisor killed');
ok(eventually(sub { left_over($t) eq '' }), 'supervisor killed, nothing left');

fake_mode($t, 'real');
is(whole(manifest('tiny2')), '', 'supervisor killed, next request');

# nix-build

$socket = held($t, 'wait', 'mixedcase');
($supervisor) = children($worker);
($target) = children($supervisor);

kill('KILL', $target);

refused(reply(answer($socket)), 500, 'UNKNOWN',
        qr/nix-build was ended by signal 9/, 'nix-build killed');
is(left_over($t), '', 'nix-build killed, nothing left');

fake_mode($t, 'real');
is(whole(manifest('mixedcase')), '', 'nix-build killed, next request');

is((workers($t))[0], $worker, 'same worker');

# the worker, while the storage is not where it was

my ($storage, $away) = map { $t->testdir() . "/$_" } qw(storage away);

rename($storage, $away);
mkdir($storage, 0755);
($worker) = workers($t);

kill('KILL', $worker);
eventually(sub { grep { $_ != $worker } workers($t) });

refused(manifest('tiny'), 502, 'UNKNOWN', qr/make directory "\S+\/layers"/,
        'no storage, tag');
refused(reply(http_get("/v2/x/blobs/sha256:" . '0' x 64)), 502, 'UNKNOWN',
        qr/make directory "\S+\/layers"/, 'no storage, blob');

rmdir($storage);
rename($away, $storage);

is(whole(manifest('tiny')), '', 'no storage, next request');

# all of nginx, and a new start

for my $stage (@stages[0, 2, 4]) {
    my ($name, $reached) = @$stage;

    wipe($t);
    $socket = get(IMAGE);

    ok(eventually(sub { $reached->($t, $layers) }, 0.001), "all, $name");

    kill_all($t);

    is(partial($t), '', "all, $name, storage after kill");
    ok(eventually(sub { !processes($t) }), "all, $name, no process left");

    $t->run();

    ok(eventually(sub { left_over($t) eq '' }), "all, $name, nothing left");
    is(manifest(IMAGE)->{body}, $body, "all, $name, next request");
}

# stop, and a start on the same port at once

for my $stage (@stages[0, 2, 4]) {
    my ($name, $reached) = @$stage;

    wipe($t);
    $socket = get(IMAGE);

    ok(eventually(sub { $reached->($t, $layers) }, 0.001), "stop, $name");

    kill('TERM', $t->read_file('nginx.pid'));
    eventually(sub { !-e $t->testdir() . '/nginx.pid' });

    is(partial($t), '', "stop, $name, storage");

    $t->run();

    ok(eventually(sub { left_over($t) eq '' }), "stop, $name, nothing left");
    is(manifest(IMAGE)->{body}, $body, "stop, $name, next request");
}

$socket = held($t, 'wait', 'many');
$start = time();

kill('TERM', $t->read_file('nginx.pid'));
eventually(sub { !-e $t->testdir() . '/nginx.pid' });

cmp_ok(time() - $start, '<', 10, 'stop does not wait for nix-build');
ok(eventually(sub { left_over($t) eq '' }), 'stop, nothing left');

$t->run();

fake_mode($t, 'real');
is(whole(manifest('many')), '', 'stop, next request');

# at no time

my ($seen, $wrong) = watched($t);

cmp_ok($seen, '>', 10 * $layers, 'objects were looked at');
is($wrong, '', 'no partial object was seen');

is(truth($t), '', 'storage');

is(join("\n", grep { !/ exited on signal 9/ }
                   $t->read_file('error.log') =~ /.+\[alert\].+/g),
   '', 'no alerts but of kills');

###############################################################################

sub works {
    my ($t, $file) = @_;
    return glob($t->testdir() . "/temp/nixery-work.*/$file");
}

sub stored {
    my ($t, $folder) = @_;
    return scalar(() = objects($t, $folder));
}

sub get {
    my ($name) = @_;

    return http("GET /v2/$name/manifests/latest HTTP/1.0\x0d\x0a"
                . "Host: localhost\x0d\x0a\x0d\x0a", start => 1);
}

# A client whose build has begun with a fake in that mode.

sub held {
    my ($t, $mode, $name) = @_;
    my $calls = () = calls($t);

    fake_mode($t, $mode);

    my $socket = get($name);

    eventually(sub { (() = calls($t)) > $calls })
        or die "nix-build was not run\n";

    return $socket;
}

sub answer {
    my ($socket) = @_;
    return Test::Nginx::http_end($socket, timeout => 60);
}

sub kill_all {
    my ($t) = @_;
    my $master = $t->read_file('nginx.pid') + 0;
    my @workers = workers($t);

    # the master first, as it starts new ones
    kill('KILL', $master, @workers);
    waitpid($master, 0);
    eventually(sub { !grep { -e "/proc/$_" } @workers });

    unlink($t->testdir() . '/nginx.pid');

    return;
}

###############################################################################
