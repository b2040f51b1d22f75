#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Packages from git repositories, over each protocol: whatever a reference is
# called, the image is of its commit, and says so.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryGit;
use Test::NixeryGitServers;

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('fcgiwrap')
    ->has_daemon('ssh')->plan(101);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');
my $part = repository($t, 'part', 'inner.nix' => "\"2\"\n");
my %commit = (1 => marked($t, 1));

serve($t, qw(http git ssh));

# how each of them is named, after the port that it is at

my $login = 'reader:open%20sesame';

my %kinds = (
    8080 => ['file'],
    8081 => ['git'],
    8082 => ['ssh'],
    8083 => ['http'],
    8084 => ['https'],
    8085 => ['private', login => $login],
    8086 => ['private_https', login => $login],
    8087 => ['private_https', more => "credentials=$d/credentials"],
    8088 => ['moved'],
);

my $servers = '';

for my $port (sort keys %kinds) {
    my ($kind, %extra) = @{$kinds{$port}};

    # nothing of another one's makes up for what one can't do
    $servers .= registry($port, nixery($t, cache_valid => 0,
        packages => git_packages($t, $kind, $set, %extra),
        storage => "directory $d/storage-$port", temp_path => "$d/temp-$port")
        . "\nnixery_nix_env NIX_SSL_CERT_FILE $d/git/tls/ca.crt;");
}

$servers .= registry(8100, nixery($t, storage => "directory $d/storage-path",
                                  packages => "path $set->{tree}"));

my %latest = (8101 => 'a/b', 8102 => 'refs/tags/annotated',
              8103 => $commit{1});

$servers .= registry($_, nixery($t, cache_valid => 0, packages =>
    git_packages($t, 'git', $set, more => "ref=$latest{$_}")))
    for sort keys %latest;

$servers .= registry(8104, nixery($t, packages => "git file://$set->{tree}"));

# with submodules, and without

my %deep = (8110 => 'file', 8111 => 'git', 8112 => 'ssh', 8113 => 'http');

$servers .= registry($_, nixery($t, temp_path => "$d/temp-$_",
    packages => git_packages($t, $deep{$_}, $set) . ' submodules=on'))
    for sort keys %deep;

$servers .= registry(8114, nixery($t, packages =>
    git_packages($t, 'git', $set, more => 'submodules=off')));

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  revisions  '\$request_method \$uri \$nixery_revision';
    access_log  %%TESTDIR%%/revisions.log revisions;

    $servers
}

EOC

$t->write_file_expand('credentials',
                      "https://127.0.0.1:8999/\n"
                      . "https://$login\@127.0.0.1:8092\n");
chmod(0644, "$d/credentials");

start($t);

###############################################################################

my ($r, %layers);

# three commits, and what they are by path

for my $n (1 .. 3) {
    $commit{$n} //= marked($t, $n);

    $r = from(8100, 'latest');
    $layers{$n} = digests($r);

    is(whole($r, at(8100)), '', "path, image $n");
    is(labels($r, at(8100))->{'org.opencontainers.image.revision'}, $commit{$n},
       "path, commit $n");
}

isnt($layers{1}, $layers{2}, 'they differ');

my ($c1, $c2, $c3) = @commit{1 .. 3};

point($set, 'refs/heads/main', $commit{1});
point($set, 'refs/heads/a/b', $commit{2});
point($set, 'refs/heads/trunk', $commit{3});
point($set, 'refs/heads/both', $commit{1});
point($set, 'refs/tags/both', $commit{2});
point($set, 'refs/tags/light', $commit{1});
tag($set, 'annotated', $commit{2});
default_branch($set, 'trunk');

# what each name stands for; and more names, which make no difference to servers

my @names = (
    ['main', 1], ['annotated', 2], ['refs/heads/a/b', 2], [$commit{2}, 2],
    ['latest', 3],
);
my @more = (
    ['trunk', 3], ['both', 1], ['light', 1], ['refs/heads/both', 1],
    ['refs/tags/both', 2], ['refs/tags/light', 1], ['refs/tags/annotated', 2],
    ['HEAD', 3],
);

for my $port (sort keys %kinds) {
    my ($kind) = @{$kinds{$port}};
    my $source = git_url($t, $kind, $set);

    for my $case (@names, $kind eq 'git' ? @more : ()) {
        my ($name, $n) = @$case;

        pulled($port, $name, $n, $source);
    }

    is(whole(from($port, 'main'), at($port)), '', "$port, whole");
}

# what "latest" is may be said

my $url = git_url($t, 'git', $set);

pulled(8101, 'latest', 2, $url);
pulled(8101, 'main', 1, $url);
pulled(8102, 'latest', 2, $url);

my $asked = calls($t, 'git');
pulled(8103, 'latest', 1, $url);
is(calls($t, 'git'), $asked, 'a commit for latest is asked of nobody');

# a work tree, whatever is changed in it

$t->write_file('git/set/default.nix', 'throw "not committed"');
pulled(8104, 'latest', 3, "file://$set->{tree}");
pulled(8104, $commit{1}, 1, "file://$set->{tree}");
git($set, 'checkout', '-q', 'default.nix');

# a head that is no branch

git($set, '--git-dir', $set->{bare}, 'update-ref', '--no-deref', 'HEAD',
    $commit{2});
pulled(8081, 'latest', 2, $url);
pulled(8081, 'HEAD', 2, $url);
default_branch($set, 'trunk');

# the header and the variable, of GET and HEAD; a digest has no revision

$r = from(8081, 'main');
my $digest = $r->{headers}{'docker-content-digest'};

my $head = reply(http_head('/v2/tiny/mark/manifests/main', at(8081)));
is($head->{headers}{'nixery-revision'}, $commit{1}, 'head, revision');
is($head->{headers}{'docker-content-digest'}, $digest, 'head, digest');

$r = from(8081, $digest);
is($r->{status}, 200, 'by digest');
is($r->{headers}{'nixery-revision'}, undef, 'by digest, no revision');

refused(manifest('nope', 'main', at(8081)), 404, 'MANIFEST_UNKNOWN',
        qr/^package not found: "nope" \(revision $c1\)$/,
        'not found, in that revision');

my $logged = eventually(sub {
    $t->read_file('revisions.log') =~ m{^(.*/nope/.*)\n}m ? $1 : '';
});
is($logged, "GET /v2/nope/manifests/main $commit{1}", 'logged, not found');
like($t->read_file('revisions.log'),
     qr{^HEAD /v2/tiny/mark/manifests/main $c1$}m, 'logged, head');
like($t->read_file('revisions.log'),
     qr{^GET /v2/tiny/mark/manifests/$digest -$}m, 'logged, no revision');
like($t->read_file('error.log'),
     qr/\[notice\].*image "mark\/tiny" of $c3 built, build /,
     'the error log, a build');
like($t->read_file('error.log'),
     qr/\[info\].*image "mark\/tiny" of $c1 was stored, build /,
     'the error log, what was stored');
like($t->read_file('error.log'),
     qr/\[info\].*tag "refs\/heads\/a\/b" is revision $c2, build /,
     'the error log, a reference');

# submodules: without them there is no file

submodule($set, $part, 'part');
$commit{4} = commit($set, 'default.nix' => <<'EOF');
{ system }: let set = import ./set.nix { inherit system; }; in
{ inherit (set) bash; mark = set.${"tiny" + import ./part/inner.nix}; }
EOF
point($set, 'refs/heads/submodules');

for my $port (8110 .. 8113) {
    $r = manifest('mark', 'submodules', at($port));
    is($r->{status}, 200, "submodules, $port") or diag($r->{body});
    is($r->{headers}{'nixery-revision'}, $commit{4}, "submodules, revision");
}

for my $port (8114, 8081) {
    refused(manifest('mark', 'submodules', at($port)), 404, 'MANIFEST_UNKNOWN',
            qr{part/inner\.nix': No such file or directory},
            "no submodules, $port");
}

ok(eventually(sub { left_over($t) eq '' }), 'nothing left') or
    diag(left_over($t));
is(join(' ', grep { $_ } map { truth($t, $_) } glob("$d/storage*")), '',
   'storage');

###############################################################################

# A commit whose package "mark" is like no other's.

sub marked {
    my ($test, $n) = @_;

    return commit($set, 'default.nix' => package_set($test, './set.nix',
        mark => "bb mkdir -p \$out/share; echo $n > \$out/share/mark"));
}


sub at {
    my ($port) = @_;
    return (PeerAddr => '127.0.0.1:' . port($port));
}


sub from {
    my ($port, $reference) = @_;
    return manifest('tiny/mark', $reference, at($port));
}


# One test: by that name comes the image of that commit, labelled with it.

sub pulled {
    my ($port, $name, $n, $source) = @_;

    my $r = from($port, $name);
    my $labels = labels($r, at($port));

    is(join("\n", $r->{status}, $r->{headers}{'nixery-revision'} // '',
            $labels->{'org.opencontainers.image.revision'} // '',
            $labels->{'org.opencontainers.image.source'} // '', digests($r)),
       join("\n", 200, $commit{$n}, $commit{$n}, $source, $layers{$n}),
       ($kinds{$port} // [$port])->[0] . ", $name") or diag($r->{body});

    return;
}

###############################################################################
