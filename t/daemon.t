#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# kill -9 of the nix-daemon, of its process for one client, and of both, while
# they build.  It is one of our own, on the store that all share.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

plan(skip_all => 'a nix-daemon must be root') if $> != 0;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('nix-daemon')->plan(18);
my $d = $t->testdir();

prepare($t);

my $set = unique($t, 'bb mkdir $out');

mkdir("$d/daemon");

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
            ${\nixery($t, packages => "path $set")}
            nixery_nix_env NIX_DAEMON_SOCKET_PATH $d/daemon/socket;
        }
    }
}

EOF

start($t);
$t->run();

###############################################################################

my ($daemon, $client, $builder, $socket);

is(whole(manifest('unique')), '', 'image');
like($t->read_file('daemon/log'), qr/accepted connection/, 'own daemon');

# the process for one client

($socket, $daemon, $client, $builder) = building($t, 'client');

kill('KILL', $client);

refused(answer($socket), 500, 'UNKNOWN', qr/was nix-daemon ended\?/,
        'client process killed');
is(left_over($t), '', 'client process killed, nothing left');
ok(eventually(sub { !-e "/proc/$builder" }), 'client process killed, builder');

is(whole(manifest('unique')), '', 'client process killed, next request');

# nix-build, whose process in the daemon ends with it

($socket, $daemon, $client, $builder) = building($t, 'program');

kill('KILL', processes($t));

refused(answer($socket), 500, 'UNKNOWN', qr/nix-build was ended by signal 9/,
        'nix-build killed');
is(left_over($t), '', 'nix-build killed, nothing left');
ok(eventually(sub { !-e "/proc/$client" && !-e "/proc/$builder" }),
   'nix-build killed, builder');

is(whole(manifest('unique')), '', 'nix-build killed, next request');

# the daemon: its processes for clients go on

($socket, $daemon, $client, $builder) = building($t, 'daemon');

kill('KILL', $daemon);

is(whole(answer($socket)), '', 'daemon killed, image');

refused(manifest('tiny'), 500, 'UNKNOWN',
        qr/cannot connect to socket .* is nix-daemon running/,
        'daemon killed, next request');
is(left_over($t), '', 'daemon killed, nothing left');

start($t);

is(whole(manifest('tiny')), '', 'daemon started, next request');

# both

($socket, $daemon, $client, $builder) = building($t, 'both');

kill('KILL', $daemon, $client);

refused(answer($socket), 500, 'UNKNOWN', qr/was nix-daemon ended\?/,
        'both killed');
is(left_over($t), '', 'both killed, nothing left');

start($t);

is(whole(manifest('unique')), '', 'both started, next request');
is(truth($t), '', 'storage');

###############################################################################

sub start {
    my ($t) = @_;
    my $dir = $t->testdir() . '/daemon';

    unlink("$dir/socket");
    $t->run_daemon(\&nix_daemon, $dir);
    $t->waitforfile("$dir/socket") or die "nix-daemon did not start\n";

    return;
}

sub nix_daemon {
    my ($dir) = @_;

    open(my $fh, '>', "$dir/pid") or die "can't write pid: $!\n";
    print $fh $$;
    close($fh);

    open(STDERR, '>>', "$dir/log") or die "can't open log: $!\n";

    $ENV{NIX_REMOTE} = '';
    $ENV{NIX_DAEMON_SOCKET_PATH} = "$dir/socket";
    $ENV{NIX_CONFIG} = "sandbox = true\nsubstituters =";

    # ends with this test, however that ends
    exec('setpriv', '--pdeathsig', 'TERM', 'nix-daemon')
        or die "can't run nix-daemon: $!\n";
}

# A client whose package is being built, for the first time; the daemon, its
# process for nix-build, and the builder.

sub building {
    my ($t, $name) = @_;
    my (@clients, @builders);

    unique($t, "bb sleep 3; bb mkdir -p \$out/$name");

    my $daemon = $t->read_file('daemon/pid');
    my $socket = http("GET /v2/unique/manifests/latest HTTP/1.0\x0d\x0a"
                      . "Host: localhost\x0d\x0a\x0d\x0a", start => 1);

    eventually(sub { @clients = children($daemon);
                     @builders = map { children($_) } @clients })
        or die "nothing is built\n";

    return ($socket, $daemon, $clients[0], $builders[0]);
}

sub answer {
    my ($socket) = @_;
    return reply(Test::Nginx::http_end($socket, timeout => 60));
}

###############################################################################
