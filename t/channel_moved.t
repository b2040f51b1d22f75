#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Channels that move, between two pulls and while an image is built: what comes
# is of one tarball, and says which; and builders that know nothing of all this.

###############################################################################

use warnings;
use strict;

use Digest::SHA;
use File::Copy;
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

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('fcgiwrap')->plan(66);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');
my $first = git($set, 'rev-parse', 'HEAD');

tarball($set, "$first.tar.gz");

# what 2019 had, with its own busybox

mkdir("$d/old");
copy("$FindBin::Bin/fixtures/nix/$_", "$d/old/$_")
    for qw(channel.nix prebuilt.nix);
system("cp -a $d/packages/seed $d/old/seed") == 0 or die "can't copy\n";

my %url = (
    branch => channel_url('forge', '$channel.tar.gz'),
    beside => channel_url('files', '$channel/nixexprs.tar.gz'),
    hash => channel_url('files', '$channel.tar.gz'),
);

my @always = (cache_valid => 0);
my @old = (@always, builder => "$d/old/channel.nix");
my $channels = "\nnixery_nix_env CHANNELS http://127.0.0.1:8091/files;";

my $servers = join '',
    registry(8080, nixery($t, packages => 'channel main', @always,
                          channel_url => $url{branch})),
    registry(8081, nixery($t, packages => 'channel stable', @always,
                          channel_url => $url{beside})),
    registry(8082, nixery($t, packages => 'channel hash', @always,
                          channel_url => $url{hash})),
    registry(8083, nixery($t, packages => 'channel kept', cache_valid => '1h',
                          channel_url => $url{hash},
                          temp_path => "$d/temp-kept")),

    registry(8100, nixery($t, packages => "path $set->{tree}")),

    registry(8101, nixery($t, packages => 'channel old', @old,
                          channel_url => $url{hash}) . $channels),
    registry(8102, nixery($t, packages => 'channel main', @old,
                          channel_url => $url{branch}) . $channels),
    registry(8104, nixery($t, packages => "channel $first", @old,
                          channel_url => $url{branch}) . $channels),
    registry(8103, nixery($t, packages => "path $set->{tree}",
                          builder => "$d/old/prebuilt.nix"));

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

# three trees, what they are by path, and what builders of 2019 make of them

my (@commit, @layers, @old_layers, @hash);

for my $n (1 .. 3) {
    $commit[$n] = commit($set, 'default.nix' => package_set($t, './set.nix',
        mark => "bb mkdir -p \$out/share; echo $n > \$out/share/mark"));

    $layers[$n] = digests(from(8100));
    $old_layers[$n] = digests(from(8103));

    tarball($set, "$commit[$n].tar.gz", $commit[$n]);
    $hash[$n] = 'sha256:' . Digest::SHA->new(256)
        ->addfile("$d/git/files/$commit[$n].tar.gz")->hexdigest();
}

is(scalar(grep { /^sha256:/ } @layers[1 .. 3], @old_layers[1 .. 3]), 6,
   'trees');
isnt($layers[1], $layers[2], 'they differ');

# between two pulls

my %forms = (8080 => 'branch', 8081 => 'revision beside', 8082 => 'hash');
my %digest;

for my $port (sort keys %forms) {
    my @revision = $port == 8082 ? @hash : @commit;

    for my $n (1, 2) {
        moves($_, $n) for qw(main stable hash);

        my $r = pulled($port, $revision[$n], $layers[$n], "$forms{$port}, $n");
        is(whole($r, at($port)), '', "$forms{$port}, $n, image");
        $digest{$n} = $r->{headers}{'docker-content-digest'};
    }

    is(digests(from($port, $digest{1})), $layers[1],
       "$forms{$port}, old image by digest");

    my $built = calls($t);
    moves($_, 1) for qw(main stable hash);
    pulled($port, $revision[1], $layers[1], "$forms{$port}, moved back");
    is(calls($t), $built, "$forms{$port}, which builds nothing");
}

# within nixery_cache_valid an image is of what it was, as long as that is here

moves('kept', 1);
pulled(8083, $hash[1], $layers[1], 'kept');
moves('kept', 2);
pulled(8083, $hash[1], $layers[1], 'kept, moved');

my $r = manifest('mark/tiny', 'latest', at(8083));
is($r->{headers}{'nixery-revision'}, $hash[1], 'kept, another image');

system("rm -rf $d/temp-kept/downloads") == 0 or die "can't remove downloads\n";

$r = manifest('mark/tiny2', 'latest', at(8083));
is($r->{headers}{'nixery-revision'}, $hash[2], 'gone, another image');
is(labels($r, at(8083))->{'org.opencontainers.image.revision'}, $hash[2],
   'gone, label');
pulled(8083, $hash[2], $layers[2], 'gone, first image');
like($t->read_file('error.log'),
     qr/channel "kept" moved from $hash[1] to $hash[2] while it was built/,
     'gone, error log');

###############################################################################

# while an image is built: its tarball is held

for my $program (undef, 'prefetch') {
    for my $port (sort keys %forms) {
        my @revision = $port == 8082 ? @hash : @commit;
        my $name = "$forms{$port}, while " . ($program ? 'unpacked' : 'built');

        # nothing is there, nor noted
        wipe($t);
        unlink(glob("$d/temp/downloads/*"));

        moves($_, 1) for qw(main stable hash);

        my $before = calls($t, $program);

        fake_mode($t, 'wait', $program);

        my $socket = ask($port);

        eventually(sub { calls($t, $program) > $before })
            or die "nothing is built\n";
        moves($_, 3) for qw(main stable hash);
        go($t, $program);

        $r = reply(received($socket));
        is(state_of($r), "200 $revision[1] $layers[1]", $name);
        is(whole($r, at($port)), '', "$name, image");

        fake_mode($t, 'real', $program);
        pulled($port, $revision[3], $layers[3], "$name, afterwards");
    }
}

###############################################################################

# a builder of 2019 gets what it got then, and Nix is told to look again

moves('old', 1);
is(whole(pulled(8101, $hash[1], $old_layers[1], 'by name'), at(8101)), '',
   'by name, image');

my $call = join ' ', @{(calls($t))[-1]};

like($call, qr/ --option tarball-ttl 0 /, 'by name, no old tarball');
like($call, qr/ --argstr name mark --argstr packages \["mark"\] /,
     'by name, packages');
like($call, qr{ --argstr pkgSource nixpkgs!old .*/old/channel\.nix$},
     'by name, source');

moves('old', 2);
pulled(8101, $hash[2], $old_layers[2], 'by name, moved');

# while it is built, before it fetches and after

for my $mode (qw(wait after)) {
    wipe($t);
    moves('old', 1);

    my $before = calls($t);

    fake_mode($t, $mode);

    my $socket = ask(8101);

    # Nix's answer is there when its root is
    eventually(sub { calls($t) > $before
                     && ($mode eq 'wait'
                         || glob("$d/temp/nixery-work.*/result")) })
        or die "nothing is built\n";
    moves('old', 3);
    go($t);

    $r = reply(received($socket));
    is(state_of($r), "200 $hash[3] $old_layers[3]", "by name, moved, $mode");
    is(whole($r, at(8101)), '', "by name, moved, $mode, image");
    fake_mode($t, 'real');
}

# what a branch is at comes from its repository, the builder takes its archive

moves('main', 1);
pulled(8102, $commit[1], $old_layers[1], 'by name, branch');
moves('main', 2);
pulled(8102, $commit[2], $old_layers[2], 'by name, branch, moved');

# a commit never changes

$r = manifest('tiny', 'latest', at(8104));
is($r->{headers}{'nixery-revision'}, $first, 'by name, commit');
is(whole($r, at(8104)), '', 'by name, commit, image');

$call = join ' ', @{(calls($t))[-1]};

like($call, qr/ --argstr pkgSource nixpkgs!$first /,
     'by name, commit, argument');
unlike($call, qr/tarball-ttl/, 'by name, commit, never changes');

ok(eventually(sub { left_over($t) eq '' }), 'nothing left')
    or diag(left_over($t));
is(truth($t), '', 'storage');

###############################################################################

# That tree is now the one of a channel.

sub moves {
    my ($channel, $n) = @_;
    my $folder = $channel eq 'stable' ? 'stable/nixexprs' : $channel;

    point($set, "refs/heads/$channel", $commit[$n]);
    tarball($set, "$folder.tar.gz", $commit[$n]);
    revision("$d/git/files/stable/git-revision", $commit[$n])
        if $channel eq 'stable';

    return;
}


sub revision {
    my ($file, $commit) = @_;

    open(my $fh, '>', $file) or die "can't create \"$file\": $!\n";
    print $fh "$commit\n";
    close($fh);

    return;
}


sub at {
    my ($port) = @_;
    return (PeerAddr => '127.0.0.1:' . port($port));
}


sub from {
    my ($port, $reference) = @_;
    return manifest('mark', $reference // 'latest', at($port));
}


sub ask {
    my ($port) = @_;

    return http("GET /v2/mark/manifests/latest HTTP/1.0\x0d\x0a"
                . "Host: localhost\x0d\x0a\x0d\x0a", start => 1, at($port));
}


sub state_of {
    my ($reply) = @_;

    return join ' ', $reply->{status},
                $reply->{headers}{'nixery-revision'} // $reply->{body},
                digests($reply);
}


# One test: an image of that revision, with those layers.

sub pulled {
    my ($port, $revision, $layers, $name) = @_;

    my $reply = from($port);
    is(state_of($reply), "200 $revision $layers", $name);

    return $reply;
}

###############################################################################
