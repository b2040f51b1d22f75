#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# A channel is unpacked and fetched again when the garbage collector or somebody
# else has taken away what was made of it; and what is done where programs are
# not there that make it quick.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryChannel;
use Test::NixeryGit;
use Test::NixeryGitServers;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('fcgiwrap')->plan(39);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');

# a tree that no other test has: nobody else uses it in the store
my $commit = commit($set, 'default.nix' => package_set($t, './set.nix',
    mark => 'bb mkdir $out'));

point($set, 'refs/heads/main');
tarball($set, "$commit.tar.gz");
tarball($set, 'stable/nixexprs.tar.gz');
tarball($set, 'plain.tar.gz');
$t->write_file('git/files/stable/git-revision', "$commit\n");

my %channels = (
    8080 => ['main', channel_url('forge', '$channel.tar.gz')],
    8081 => ['stable', channel_url('files', '$channel/nixexprs.tar.gz')],
    8082 => ['plain', channel_url('files', '$channel.tar.gz')],
);

my $servers = join '', map { registry($_, nixery($t, cache_valid => 0,
    packages => "channel $channels{$_}[0]", channel_url => $channels{$_}[1],
    temp_path => "$d/temp-$_")) } sort keys %channels;

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    $servers
}

EOC

serve($t, 'http');

$t->run();

###############################################################################

for my $port (sort keys %channels) {
    my $name = $channels{$port}[0];
    my $downloads = "$d/temp-$port/downloads";

    # each of these is an image of its own, for which Nix is asked

    built($t, $port, 'mark', 1, "$name, first");
    built($t, $port, 'mark/tiny', 0, "$name, all of it is there");

    # what is in the store

    is(deleted($t), '', "$name, deleted");
    built($t, $port, 'mark/tiny2', 0, "$name, not in the store");

    is(deleted($t), '', "$name, deleted once more");
    unlink(glob("$downloads/*.nix"));
    built($t, $port, 'mark/many', 1, "$name, nor noted");

    # what is downloaded

    system('rm', '-r', $downloads) == 0 or die "can't remove downloads\n";
    built($t, $port, 'mark/twin1', 1, "$name, not downloaded");

    # both, and where downloads are

    is(deleted($t), '', "$name, deleted, all of it");
    system('rm', '-r', $downloads) == 0 or die "can't remove downloads\n";
    built($t, $port, 'mark/twin2', 1, "$name, nothing is there");

    # while it is built, what Nix has already is enough

    fake_mode($t, 'wait');

    my $before = () = calls($t);
    my $socket = http("GET /v2/mark/nested.inner/manifests/latest HTTP/1.0"
                      . "\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a", start => 1,
                      at($port));

    eventually(sub { (() = calls($t)) > $before }) or die "nothing is built\n";
    system('rm', '-r', $downloads) == 0 or die "can't remove downloads\n";
    go($t);

    is(whole(reply(received($socket)), at($port)), '',
       "$name, removed while it is built");

    fake_mode($t, 'real');
}

ok(eventually(sub { left_over($t) eq '' }), 'nothing left')
    or diag(left_over($t));
is(truth($t), '', 'storage');

is(deleted($t), '', 'no root');

# where there is neither git nor nix-prefetch-url, Nix unpacks it by itself

$t->stop();

unlink("$d/fake/git", "$d/fake/nix-prefetch-url");
tarball($set, 'main.tar.gz');

{
    local $ENV{PATH} = "$d/fake";
    $t->run();
}

for my $port (sort keys %channels) {
    my $name = $channels{$port}[0];

    built($t, $port, 'mark/twin1/twin2', 0, "$name, no programs");
    unlike(join(' ', @{(calls($t))[-1]}), qr/channelHash/, "$name, no hash");
}

###############################################################################

sub at {
    my ($port) = @_;
    return (PeerAddr => '127.0.0.1:' . port($port));
}


# One test: a whole image, for which Nix unpacked that often.

sub built {
    my ($t, $port, $name, $unpacked, $test) = @_;

    my $builds = () = calls($t);
    my $before = () = calls($t, 'prefetch');

    my $wrong = whole(manifest($name, 'latest', at($port)), at($port));

    $builds = (() = calls($t)) - $builds;
    $before = (() = calls($t, 'prefetch')) - $before;

    is("$wrong nix-build $builds prefetch $before",
       " nix-build 1 prefetch $unpacked", $test);

    return;
}


# Removes the unpacked tree from the store; says why it is still there.

sub deleted {
    my ($t) = @_;

    my ($hash) = join(' ', @{(calls($t))[-1]}) =~ / channelHash (\w+) /;

    chomp(my $path = qx(nix-store --print-fixed-path --recursive sha256 \\
                        $hash source));

    return "no $path" if !-d $path;

    my $output = qx(nix-store --delete $path 2>&1);

    return -e $path ? $output : '';
}

###############################################################################
