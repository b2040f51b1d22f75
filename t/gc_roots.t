#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# What nix-build made is protected from the garbage collector until it is
# packed, and not any longer.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http/)->todo_alerts()->plan(15);

prepare($t);

my $set = unique($t, 'bb mkdir -p $out/share; bb head -c 33554432 /dev/urandom'
                     . ' > $out/share/unique');

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
        }
    }
}

EOF

$t->run();

###############################################################################

my ($socket, $link, $result, $worker, @paths);

# while nix-build has done its work but not ended

$socket = held($t);
($link) = links($t);
$result = readlink($link);
@paths = closure($result);

like($result, qr{^/nix/store/\w+-unique\.json$}, 'result');
is(scalar(grep { /-(unique|unique-contents|unique\.json)$/ } @paths), 3,
   'closure');

is(rooted($link, @paths), '', 'built, all of the closure has a root');
isnt(deleted(@paths), 0, 'built, can not be deleted');

go($t);
is(whole(answer($socket)), '', 'image');

# while it is packed

($worker) = workers($t);

ok(eventually(sub {
    wipe($t);
    $socket = held($t);
    go($t);

    # it may be over before we see it
    eventually(sub { packing($t) || !links($t) }, 0.001);
    stopped($worker);
    return 1 if packing($t);

    kill('CONT', $worker);
    answer($socket);
    return 0;
}), 'a layer is packed');

($link) = links($t);

is(rooted($link, @paths), '', 'packed, all of the closure has a root');
isnt(deleted(@paths), 0, 'packed, can not be deleted');

kill('CONT', $worker);
is(whole(answer($socket)), '', 'packed, image');

# afterwards

isnt(rooted($link, $result), '', 'stored, no root');

# a worker that dies leaves one behind, the next takes it away

$socket = held($t);
($link) = links($t);

is(rooted($link, $result), '', 'worker lives, result has a root');

kill('KILL', $worker);

ok(eventually(sub { !links($t) }), 'next worker, no link');
isnt(rooted($link, $result), '', 'next worker, no root');

# for all of these builds Nix keeps one link, which leads nowhere

fake_mode($t, 'real');
manifest('unique') for 1 .. 3;

my @kept = grep { (readlink($_) // '') =~ /^\Q@{[$t->testdir()]}\E/ }
           glob('/nix/var/nix/gcroots/auto/*');

is(@kept, 1, 'one link of Nix');

# nobody needs it any more

is(deleted(@paths), 0, 'can be deleted');

###############################################################################

# A client whose build is held when the result is there.

sub held {
    my ($t) = @_;

    fake_mode($t, 'after');

    my $socket = http("GET /v2/unique/manifests/latest HTTP/1.0\x0d\x0a"
                      . "Host: localhost\x0d\x0a\x0d\x0a", start => 1);

    eventually(sub { links($t) }) or die "no result\n";

    return $socket;
}

sub links {
    my ($t) = @_;
    return grep { -l } glob($t->testdir() . '/temp/nixery-work.*/result');
}

sub packing {
    my ($t) = @_;
    return scalar(() = glob($t->testdir() . '/temp/nixery-work.*/'
                            . '[0-9a-f]' x 64));
}

sub stopped {
    my ($pid) = @_;

    kill('STOP', $pid);
    eventually(sub { !grep { !/\) T / } map { qx(cat $_ 2>/dev/null) }
                                         glob("/proc/$pid/task/*/stat") });

    return;
}

sub answer {
    my ($socket) = @_;
    return reply(Test::Nginx::http_end($socket, timeout => 60));
}

sub closure {
    my ($path) = @_;
    chomp(my @paths = qx(nix-store -qR $path));
    return @paths;
}

# Those of the paths that the link does not keep.

sub rooted {
    my ($link, @paths) = @_;

    return join ' ', grep { qx(nix-store -q --roots $_ 2>/dev/null)
                            !~ /^\Q$link\E -> /m } @paths;
}

sub deleted {
    my (@paths) = @_;
    my @own = grep { /-unique/ } @paths;
    return system("nix-store --delete @own >/dev/null 2>&1");
}

###############################################################################
