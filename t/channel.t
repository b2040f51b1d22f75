#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Packages from a channel's tarball: what its revision is, what is asked for and
# started, and that the image is that of the same tree by path and by git.

###############################################################################

use warnings;
use strict;

use Digest::SHA;
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

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('fcgiwrap')
    ->plan(60);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');
my $commit = git($set, 'rev-parse', 'HEAD');

tag($set, 'v1');

# the archive that a git host makes; a folder as NixOS has them; just a file

tarball($set, "$commit.tar.gz");
tarball($set, 'stable/nixexprs.tar.gz');
tarball($set, 'plain.tar.gz');
tarball($set, 'kept.tar.gz');
tarball($set, 'archive/plain.tar.gz');
tarball($set, 'stable/archive/set.tar.gz');
tarball($set, "$commit/set.tar.gz");
$t->write_file('git/files/stable/git-revision', "$commit\n");

my $hash = 'sha256:'
    . Digest::SHA->new(256)->addfile("$d/git/files/plain.tar.gz")->hexdigest();

my $forge = channel_url('forge', '$channel.tar.gz');
my $files = channel_url('files', '$channel.tar.gz');

# what packages come from, and where the tarball is, after the port

my %channels = (
    8080 => ['main', $forge],
    8081 => ['v1', $forge],
    8082 => [$commit, $forge],
    8083 => ['stable', channel_url('files', '$channel/nixexprs.tar.gz')],
    8084 => ['plain', $files],
    8085 => ['plain', channel_url('moved', 'files/$channel.tar.gz')],
    8086 => ['main', channel_url('moved', 'forge/set/archive/$channel.tar.gz')],
    8087 => ['plain', channel_url('private_files', '$channel.tar.gz',
                                  login => 'reader:open%20sesame')],
    8088 => ['main', channel_url('private_forge', '$channel.tar.gz',
                                 login => 'reader:open%20sesame')],
    8089 => ['plain', channel_url('files', '$channel.tar.gz', https => 1)],
    8090 => ['main', channel_url('forge', '$channel.tar.gz', https => 1)],

    # there is no repository in front of it
    8105 => ['plain', channel_url('files', 'archive/$channel.tar.gz')],
    8106 => ['stable', channel_url('files', '$channel/archive/set.tar.gz')],
    8107 => ['plain', channel_url('files', 'plain.tar.gz',
                                  query => 'a=/archive/$channel')],

    # as GitLab has them
    8108 => ['main', 'http://127.0.0.1:8091/forge/set/-/archive/'
                     . '$channel/set.tar.gz'],
);

my $servers = '';

for my $port (sort keys %channels) {
    my ($name, $url) = @{$channels{$port}};

    # those of the first three are the same images
    my $n = $port <= 8082 ? 8080 : $port;

    $servers .= registry($port, nixery($t,
        packages => "channel $name", channel_url => $url, cache_valid => 0,
        storage => "directory $d/storage-$n", temp_path => "$d/temp-$n")
        . "\nnixery_nix_env NIX_SSL_CERT_FILE $d/git/tls/ca.crt;");
}

$servers .= registry(8101, nixery($t, packages => 'channel kept',
                                  channel_url => $files));
$servers .= registry(8102, nixery($t, packages => 'channel main',
                                  channel_url => $forge));
$servers .= registry(8103, nixery($t, packages => "path $set->{tree}"));
$servers .= registry(8104, nixery($t, packages =>
                                  git_packages($t, 'http', $set)));

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  revisions  '\$request_method \$uri \$nixery_cache '
                           '\$nixery_revision';
    access_log  %%TESTDIR%%/revisions.log revisions;

    $servers
}

EOC

serve($t, 'http');

$t->run();

###############################################################################

# the same tree by path and by git

my $layers = digests(from(8103));

like($layers, qr/^sha256:/, 'path');
is(digests(from(8104, 'main')), $layers, 'git');
requests($t);

# each form

my $server = 'http://127.0.0.1:' . port(8091);

pulled(8080, $commit, "$server/forge/set", 'a branch');
is(whole(from(8080), at(8080)), '', 'a branch, image');
pulled(8081, $commit, "$server/forge/set", 'a tag');
pulled(8082, $commit, "$server/forge/set", 'a commit');
pulled(8083, $commit, "$server/files/", 'a revision beside the tarball');
pulled(8084, $hash, "$server/files/", 'a hash');
is(whole(from(8084), at(8084)), '', 'a hash, image');

pulled(8085, $hash, "$server/moved/files/", 'redirect, a hash');
pulled(8086, $commit, "$server/moved/forge/set", 'redirect, a branch');
pulled(8087, $hash, "$server/private_files/", 'password, a hash');
pulled(8088, $commit, "$server/private_forge/set", 'password, a branch');

my $https = 'https://127.0.0.1:' . port(8092);

pulled(8089, $hash, "$https/files/", 'https, a hash');
pulled(8090, $commit, "$https/forge/set", 'https, a branch');

pulled(8105, $hash, "$server/files", 'no repository');
pulled(8106, $hash, "$server/files/", 'no repository behind the name');
pulled(8107, $hash, "$server/files/plain.tar.gz", 'a name in the query');
pulled(8108, $commit, "$server/forge/set", 'a branch, GitLab');

# a tag says nothing, but what it may be

is(from(8080, 'any.tag')->{headers}{'nixery-revision'}, $commit, 'any tag');
is(from(8080, 'v2')->{status}, 200, 'one that no repository has');
refused(from(8080, 'no+tag'), 400, 'TAG_INVALID', qr/tag/, 'one that is none');
refused(from(8080, 'refs/heads/main'), 400, 'TAG_INVALID', qr/at byte 5/,
        'a reference is no tag of a channel');

# the header and the variable

my $r = from(8084);
my $digest = $r->{headers}{'docker-content-digest'};

my $head = reply(http_head('/v2/tiny/manifests/latest', at(8084)));
is($head->{headers}{'nixery-revision'}, $hash, 'head, revision');
is($head->{headers}{'docker-content-digest'}, $digest, 'head, digest');
is(from(8084, $digest)->{headers}{'nixery-revision'}, undef,
   'by digest, no revision');

refused(manifest('nope', 'latest', at(8084)), 404, 'MANIFEST_UNKNOWN',
        qr/^package not found: "nope" \(revision $hash\)$/, 'not found');

###############################################################################

# what is asked for and started: all of that again with nothing that is kept

system("rm -rf $d/temp-8080/downloads $d/temp-8083/downloads"
       . " $d/temp-8084/downloads") == 0 or die "can't remove downloads\n";
wipe($t, $_) for glob("$d/storage-*");
requests($t);

my $refs = '/forge/set/info/refs?service=git-upload-pack 200';
my $ask = "$refs POST /forge/set/git-upload-pack 200";

does($t, 8080, 'tiny', "git 1 prefetch 1 nix-build 1 $ask"
     . " /forge/set/archive/$commit.tar.gz 200", 'a branch, first pull');
does($t, 8080, 'tiny', "git 1 prefetch 0 nix-build 0 $ask",
     'a branch, not moved');
does($t, 8080, 'tiny2', "git 1 prefetch 0 nix-build 1 $ask",
     'a branch, another image');
does($t, 8081, 'tiny', "git 1 prefetch 0 nix-build 0 $ask",
     'a tag of that commit');
does($t, 8082, 'tiny', 'git 0 prefetch 0 nix-build 0', 'the commit');
does($t, 8082, 'tiny2/tiny', 'git 0 prefetch 0 nix-build 1',
     'the commit, another image');

my $beside = '/files/stable/git-revision';
my $tarball = '/files/stable/nixexprs.tar.gz';

does($t, 8083, 'tiny', "git 0 prefetch 1 nix-build 1 $beside 200 $tarball 200"
     . " $beside 200 $beside 200 $tarball 304 $beside 200",
     'a revision beside, first pull');
does($t, 8083, 'tiny', "git 0 prefetch 0 nix-build 0 $beside 200 $tarball 304"
     . " $beside 200", 'a revision beside, not moved');
does($t, 8083, 'tiny2', "git 0 prefetch 0 nix-build 1 $beside 200 $tarball 304"
     . " $beside 200 $beside 200 $tarball 304 $beside 200",
     'a revision beside, another image');

does($t, 8084, 'tiny', 'git 0 prefetch 1 nix-build 1 /files/git-revision 404'
     . ' /files/plain.tar.gz 200', 'a hash, first pull');
does($t, 8084, 'tiny', 'git 0 prefetch 0 nix-build 0 /files/git-revision 404'
     . ' /files/plain.tar.gz 304', 'a hash, not moved');
does($t, 8084, 'tiny2', 'git 0 prefetch 0 nix-build 1 /files/git-revision 404'
     . ' /files/plain.tar.gz 304', 'a hash, another image');

# within nixery_cache_valid

does($t, 8101, 'tiny', 'git 0 prefetch 1 nix-build 1 /files/git-revision 404'
     . ' /files/kept.tar.gz 200', 'kept, first pull');
does($t, 8101, 'tiny', 'git 0 prefetch 0 nix-build 0', 'kept');
does($t, 8101, 'tiny2', 'git 0 prefetch 0 nix-build 1', 'kept, another image');

# as it is when another location has asked; what is in the tarball is known from
# the same one elsewhere
does($t, 8102, 'tiny', 'git 0 prefetch 0 nix-build 1'
     . " /forge/set/archive/$commit.tar.gz 200", 'a branch, kept');

# Nix is given what is here, and what comes out of it

my ($call) = grep { grep { /nixpkgs!kept/ } @$_ } calls($t);
my %argstr = arguments($call);

is($argstr{pkgSource}, 'nixpkgs!kept', 'argument, source');
is($argstr{revision}, $hash, 'argument, revision');
is($argstr{channelUrl}, "file://$d/temp/downloads/"
   . $argstr{revision} =~ s/^sha256://r, 'argument, tarball');
is(-s ($argstr{channelUrl} =~ s{^file://}{}r),
   -s "$d/git/files/kept.tar.gz", 'which is there');
like($argstr{channelHash}, qr/^[0-9a-z]{52}$/, 'argument, hash');
is($argstr{srcType}, 'nixpkgs', 'argument, type');
is($argstr{srcArgs}, 'kept', 'argument, channel');

($call) = grep { grep { /nixpkgs!main/ } @$_ } calls($t);
%argstr = arguments($call);
is($argstr{revision}, $commit, 'argument, commit');
is($argstr{srcArgs}, $commit, 'argument, commit as channel');

# downloads are the workers' alone

my @modes = map { sprintf '%o', (stat)[2] & 07777 }
            ("$d/temp/downloads", glob("$d/temp/downloads/*"));
is("@modes", join(' ', '700', ('600') x (@modes - 1)), 'modes');

ok(eventually(sub { left_over($t) eq '' }), 'nothing left')
    or diag(left_over($t));
is(join(' ', grep { $_ } map { truth($t, $_) } glob("$d/storage*")), '',
   'storage');

$t->stop();

my $log = $t->read_file('revisions.log');

like($log, qr{^GET /v2/tiny/manifests/latest MISS $commit$}m, 'log, built');
like($log, qr{^GET /v2/tiny/manifests/latest HIT $commit$}m, 'log, stored');
like($log, qr{^HEAD /v2/tiny/manifests/latest HIT $hash$}m, 'log, a hash');
like($log, qr{^GET /v2/nope/manifests/latest MISS $hash$}m, 'log, not found');
like($t->read_file('error.log'),
     qr/\[notice\].*image "tiny" of $commit built, build /, 'error log');

###############################################################################

sub at {
    my ($port) = @_;
    return (PeerAddr => '127.0.0.1:' . port($port));
}


sub from {
    my ($port, $tag) = @_;
    return manifest('tiny', $tag // 'latest', at($port));
}


# One test: the image that is one by path, labelled.

sub pulled {
    my ($port, $revision, $source, $name) = @_;

    my $reply = from($port);
    my $labels = labels($reply, at($port));

    is(join("\n", $reply->{status}, $reply->{headers}{'nixery-revision'} // '',
            $labels->{'org.opencontainers.image.revision'} // '',
            $labels->{'org.opencontainers.image.source'} // '',
            digests($reply)),
       join("\n", 200, $revision, $revision, $source, $layers), $name)
        or diag($reply->{body});

    return;
}


# One test: an image, the programs that were started and the server's answers.

sub does {
    my ($t, $port, $name, $expected, $test) = @_;

    my %before = counts($t);
    my $reply = manifest($name, 'latest', at($port));
    my %after = counts($t);

    my $did = join ' ', (map { ($_, $after{$_} - $before{$_}) }
                         qw(git prefetch nix-build)), requests($t);

    is("$reply->{status} $did", "200 $expected", $test)
        or diag($reply->{body});

    return;
}


sub counts {
    my ($t) = @_;

    return ('nix-build' => scalar(() = calls($t)),
            map { $_ => scalar(() = calls($t, $_)) } qw(git prefetch));
}


# What follows each --argstr.

sub arguments {
    my ($call) = @_;
    my %arguments;

    for my $i (grep { $call->[$_] eq '--argstr' } 0 .. $#$call - 2) {
        $arguments{$call->[$i + 1]} = $call->[$i + 2];
    }

    return %arguments;
}

###############################################################################
