#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Packages of a path that is a git checkout: images are labelled with its
# commit, and with what was changed since.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryGit;

my $t = Test::Nginx->new()->has(qw/http/)->plan(50);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');
my $tree = $set->{tree};
my $first = git($set, 'rev-parse', 'HEAD');

# other checkouts of it; one is another user's, one is beside its repository

my %trees = map { $_ => { %$set, tree => "$d/git/$_" } }
            qw(owned worktree bare);

git($set, 'clone', '-q', $set->{bare}, $trees{owned}{tree});
git($set, 'worktree', 'add', '-q', '--detach', $trees{worktree}{tree});
git($set, 'clone', '-q', '--bare', $set->{bare}, $trees{bare}{tree});

system("chown -R daemon:daemon '$trees{owned}{tree}'") == 0
    or die "can't give a checkout away\n" if $> == 0;

# what are no checkouts: without .git, and within one

mkdir("$d/git/plain");
git($set, 'checkout-index', '-a', "--prefix=$d/git/plain/");
mkdir("$tree/folder");
$t->write_file('git/set/folder/default.nix', "import ../set.nix\n");
my $commit = commit($set);

# one with nothing in it but files; one that is broken

my $unborn = { %$set, tree => "$d/git/unborn" };

mkdir($unborn->{tree});
git($unborn, 'init', '-q');
git($set, 'checkout-index', '-a', "--prefix=$unborn->{tree}/");
mkdir("$d/git/broken");
mkdir("$d/git/broken/.git");
git($set, 'checkout-index', '-a', "--prefix=$d/git/broken/");

symlink($tree, "$d/git/link");
chomp(my $store = qx(nix-store --add '$tree'));

my %paths = (
    8080 => $tree,
    8081 => "$d/git/plain",
    8082 => $trees{owned}{tree},
    8083 => $trees{worktree}{tree},
    8084 => "$tree/folder",
    8085 => "$tree/default.nix",
    8086 => $unborn->{tree},
    8087 => "$d/git/broken",
    8088 => "$d/git/link",
    8089 => $store,
);

my $servers = join '', map { registry($_, nixery($t, packages =>
                                                 "path $paths{$_}")) }
                       sort keys %paths;

$servers .= registry(8090, nixery($t, packages => "path $tree",
                                  build_timeout => '5s'));

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  revisions  '\$uri \$nixery_revision';
    access_log  %%TESTDIR%%/revisions.log revisions;

    $servers
}

EOF

start($t);

###############################################################################

my ($r, $n, $image, $client);

# as it was committed

$image = labelled($t, 8080, $commit, 2, 'a checkout');
is(whole($image), '', 'a checkout, image');

ok(eventually(sub { $t->read_file('revisions.log')
                    =~ m{^/v2/tiny/manifests/x $commit$}m }), 'logged');
like($t->read_file('error.log'), qr/image "tiny" of $commit built, build /,
     'the error log');

is(reply(http_head('/v2/tiny/manifests/x'))->{headers}{'nixery-revision'},
   $commit, 'head');

$r = labelled($t, 8081, undef, 0, 'no checkout');
is(digests($r), digests($image), 'no checkout, same layers');

labelled($t, 8082, $first, 2, "another user's");
labelled($t, 8083, $first, 2, 'a work tree of its own');
labelled($t, 8084, undef, 0, 'a folder of a checkout');
labelled($t, 8085, undef, 0, 'a file of a checkout');
labelled($t, 8086, undef, 2, 'no commit yet');
labelled($t, 8088, $commit, 2, 'behind a link');
labelled($t, 8089, undef, 0, 'in the store');

$r = from(8087);
refused($r, 502, 'UNKNOWN',
        qr{^can't ask git repository "$d/git/broken": not a git repository},
        'broken');
is($r->{headers}{'nixery-revision'}, undef, 'broken, no label');

# changes

change('a file that is new', "$commit-dirty", sub {
    $t->write_file('git/set/new', "new\n");
});
change('which is in the index', "$commit-dirty", sub {
    git($set, 'add', 'new');
});
change('and taken back', $commit, sub {
    git($set, 'rm', '-q', '-f', 'new');
});
change('a file that was changed', "$commit-dirty", sub {
    $t->write_file('git/set/default.nix', "import ./set.nix # changed\n");
});
change('and restored', $commit, sub {
    git($set, 'checkout', '-q', 'default.nix');
});
change('a file that is gone', "$commit-dirty", sub {
    unlink("$tree/seed/bash-static.x", "$tree/folder/default.nix");
});
change('and restored', $commit, sub {
    git($set, 'checkout', '-q', '--', 'folder');
});
change('another mode', "$commit-dirty", sub {
    chmod(0755, "$tree/set.nix");
});
change('and the old one', $commit, sub {
    chmod(0644, "$tree/set.nix");
});
change('a time alone', $commit, sub {
    utime(1, 1, "$tree/set.nix");
});

my $next;

change('what is ignored', undef, sub {
    $next = commit($set, '.gitignore' => "*.o\n");
    $t->write_file('git/set/x.o', "object\n");
    return $next;
});
change('another branch', $first, sub {
    unlink("$tree/x.o");
    git($set, 'checkout', '-q', '-b', 'other', $first);
});
change('and back', $next, sub {
    git($set, 'checkout', '-q', 'main');
});

# what the operator says of git makes no difference

change('a setting of the checkout', "$next-dirty", sub {
    git($set, 'config', 'status.showUntrackedFiles', 'no');
    $t->write_file('git/set/new', "new\n");
});
change('a program of the checkout', "$next-dirty", sub {
    git($set, 'config', 'core.fsmonitor', "touch $d/fake/evil; false");
    git($set, 'config', 'core.pager', "touch $d/fake/evil");
});
ok(!-e "$d/fake/evil", 'which is not run');
git($set, 'config', '--unset', 'core.fsmonitor');
unlink("$tree/new");

# commits while it is built: of which one an image is, nobody knows

for my $mode (qw(wait after)) {
    fake_mode($t, $mode);
    $n = calls($t);
    $client = http_get('/v2/tiny/manifests/x', start => 1);
    ok(eventually(sub { calls($t) > $n }), "commit, $mode, nix-build runs");
    $next = commit($set, change => "$mode\n");
    go($t);
    $r = reply(received($client));
    is($r->{headers}{'nixery-revision'}, "$next-dirty", "commit, $mode");
    is(labels($r)->{'org.opencontainers.image.revision'}, "$next-dirty",
       "commit, $mode, label");
    fake_mode($t, 'real');
}

labelled($t, 8080, $next, 2, 'commit, then');

# changes while it is built

for my $mode (qw(wait after)) {
    fake_mode($t, $mode);
    $n = calls($t);
    $client = http_get('/v2/tiny/manifests/x', start => 1);
    ok(eventually(sub { calls($t) > $n }), "change, $mode, nix-build runs");
    $t->write_file('git/set/new', "new\n");
    go($t);
    is(reply(received($client))->{headers}{'nixery-revision'}, "$next-dirty",
       "change, $mode");
    fake_mode($t, 'real');
    unlink("$tree/new");
}

# git that fails

fake_mode($t, 'exit 3', 'git');
refused(from(8080), 502, 'UNKNOWN',
        qr/^can't ask git repository "\Q$tree\E": .*fake says no/, 'git fails');
fake_mode($t, 'hang', 'git');
refused(from(8090), 504, 'UNKNOWN', qr/^the build did not finish within 5s/,
        'git hangs');
fake_mode($t, 'real', 'git');
is(from(8080)->{headers}{'nixery-revision'}, $next, 'git works again');

is(git($set, 'status', '--porcelain'), '', 'the checkout is as it was');
ok(!-e "$tree/.git/index.lock", 'and not locked');
ok(eventually(sub { left_over($t) eq '' }), 'nothing left');
is(truth($t), '', 'storage');

###############################################################################

sub from {
    my ($port) = @_;
    return manifest('tiny', 'x', PeerAddr => '127.0.0.1:' . port($port));
}


# One test: an image of that revision, or of none, for so many calls of git.

sub labelled {
    my ($test, $port, $revision, $asked, $name) = @_;

    my $before = calls($test, 'git');
    my $reply = from($port);
    my $labels = labels($reply, PeerAddr => '127.0.0.1:' . port($port));
    my $label = 'org.opencontainers.image';

    is(join(' ', $reply->{status}, calls($test, 'git') - $before,
            $reply->{headers}{'nixery-revision'} // 'none',
            $labels->{"$label.revision"} // 'none',
            $labels->{"$label.source"} // 'none'),
       join(' ', 200, $asked, $revision // 'none', $revision // 'none', 'none'),
       $name) or diag($reply->{body});

    return $reply;
}


# The same after something was done to the checkout.

sub change {
    my ($name, $revision, $code) = @_;

    my $result = $code->();
    my $reply = from(8080);

    is($reply->{headers}{'nixery-revision'}, $revision // $result, $name)
        or diag($reply->{body});

    return;
}

###############################################################################
