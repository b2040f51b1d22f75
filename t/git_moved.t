#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# A branch that moves, and one that does not: what is served, and what is
# started for it, in every worker and after a reload.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryGit;
use Test::NixeryGitServers;

my $t = Test::Nginx->new()->has(qw/http/)->plan(36);

prepare($t);

# each location has one of its own: what a tag stands for is known to all

my @sets = map { repository($t, $_) } qw(asked kept soon);

serve($t, qw(git));

my @valid = (0, undef, '1s');
my $servers = '';

for my $n (0 .. 2) {
    # each worker gets its share of the connections
    $servers .= registry("808$n reuseport",
        nixery($t, packages => git_packages($t, 'git', $sets[$n]),
               cache_valid => $valid[$n]));
}

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

worker_processes 2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    nixery_zone tags:1m;

    add_header X-Worker \$pid always;
    add_header X-Cache \$nixery_cache always;

    $servers
}

EOF

start($t);

###############################################################################

my ($r, $first, $second, $worker, @workers);

ok(eventually(sub { workers($t) == 2 }), 'workers');

# a branch that is always asked for

$first = git($sets[0], 'rev-parse', 'main');

$r = pulled($t, 8080, 'main', 'a first pull', 1, 1, $first);
is($r->{headers}{'x-cache'}, 'MISS', 'a first pull, cache');
is(whole($r), '', 'a first pull, image');

$r = pulled($t, 8080, 'main', 'not moved', 1, 0, $first);
is($r->{headers}{'x-cache'}, 'HIT', 'not moved, cache');

pulled($t, 8080, $first, 'its commit', 0, 0, $first);
pulled($t, 8080, 'latest', 'another name', 1, 0, $first);
pulled($t, 8080, 'refs/heads/main', 'its full name', 1, 0, $first);

$second = push_one($sets[0]);

pulled($t, 8080, 'main', 'moved', 1, 1, $second);
pulled($t, 8080, 'main', 'moved, again', 1, 0, $second);
pulled($t, 8080, $first, 'the commit it was at', 0, 0, $first);

point($sets[0], 'refs/heads/main', $first);
pulled($t, 8080, 'main', 'moved back', 1, 0, $first);
pulled($t, 8080, $second, 'a commit that is no more', 0, 0, $second);

tag($sets[0], 'v1', $second);
pulled($t, 8080, 'v1', 'a tag', 1, 0, $second);
tag($sets[0], 'v1', $first);
pulled($t, 8080, 'v1', 'a tag that moved', 1, 0, $first);

forget($sets[0], 'refs/tags/v1');
refused(manifest('tiny', 'v1', at(8080)), 404, 'MANIFEST_UNKNOWN',
        qr/has no branch or tag "v1"/, 'a tag that was removed');
pulled($t, 8080, $first, 'and its commit', 0, 0, $first);

# a commit that was built under no other name

$second = push_one($sets[0]);
pulled($t, 8080, $second, 'a commit', 0, 1, $second);
pulled($t, 8080, 'main', 'the branch that it is on', 1, 0, $second);

# one that is asked for every five minutes

$first = git($sets[1], 'rev-parse', 'main');

$r = pulled($t, 8081, 'main', 'kept, a first pull', 1, 1, $first);
$worker = $r->{headers}{'x-worker'};

$second = push_one($sets[1]);

pulled($t, 8081, 'main', 'kept', 0, 0, $first);
is(join(' ', processes($t)), '', 'kept, nothing runs');

# in the other worker

$r = eventually(sub {
    my $reply = pull(8081, 'main');
    $reply->{headers}{'x-worker'} ne $worker && $reply;
});
is($r->{headers}{'nixery-revision'}, $first, 'kept, another worker');
pulled($t, 8081, 'main', 'kept, any worker', 0, 0, $first);

# other names have not been asked for, other images need Nix alone

pulled($t, 8081, 'refs/heads/main', 'kept, another name', 1, 1, $second);
pulled($t, 8081, 'refs/heads/main', 'kept, it too', 0, 0, $second);

my ($git, $nix) = counts($t);
$r = manifest('tiny2', 'main', at(8081));
is($r->{headers}{'nixery-revision'}, $first, 'kept, another image');
is_deeply([counts($t)], [$git, $nix + 1], 'kept, another image, Nix alone');

# after a reload

@workers = workers($t);
$t->reload();
ok(eventually(sub { my %old = map { $_ => 1 } @workers;
                    my @now = workers($t);
                    @now == 2 && !grep { $old{$_} } @now }), 'reload');

pulled($t, 8081, 'main', 'reload, kept', 0, 0, $first);
pulled($t, 8080, 'main', 'reload, always asked for', 1, 0,
       git($sets[0], 'rev-parse', 'main'));

# one that is asked for every second

$first = git($sets[2], 'rev-parse', 'main');
is(pull(8082, 'main')->{headers}{'nixery-revision'}, $first,
   'soon, a first pull');

$second = push_one($sets[2]);
ok(eventually(sub { pull(8082, 'main')
                    ->{headers}{'nixery-revision'} eq $second }),
   'soon, moved');

ok(eventually(sub { left_over($t) eq '' }), 'nothing left');
is(truth($t), '', 'storage');

###############################################################################

sub at {
    my ($port) = @_;
    return (PeerAddr => '127.0.0.1:' . port($port));
}


# A commit that is on the server's main branch at once.

sub push_one {
    my ($repo) = @_;

    my $commit = commit($repo, change => rand());
    point($repo, 'refs/heads/main', $commit);

    return $commit;
}


# How often git, but not the one of Nix, and nix-build were called.

sub counts {
    my ($test) = @_;
    return (scalar(() = calls($test, 'git')), scalar(() = calls($test)));
}


sub pull {
    my ($port, $reference) = @_;
    return manifest('tiny', $reference, at($port));
}


# One test: an image of that commit, for so many calls of git and nix-build.

sub pulled {
    my ($test, $port, $reference, $name, $asked, $built, $commit) = @_;

    my ($g, $n) = counts($test);
    my $reply = pull($port, $reference);
    my ($g2, $n2) = counts($test);

    is(join(' ', $reply->{status}, $reply->{headers}{'nixery-revision'} // '-',
            'git', $g2 - $g, 'nix-build', $n2 - $n),
       "200 $commit git $asked nix-build $built", $name)
        or diag($reply->{body});

    return $reply;
}

###############################################################################
