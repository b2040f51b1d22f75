#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Tests for nixery_cache_use_stale: what is served when it can't be asked what a
# branch is at.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryGit;
use Test::NixeryGitServers;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(18);

prepare($t);

my $repo = repository($t, 'set');
my %git = (packages => 'git ' . git_url($t, 'file', $repo), cache_valid => 0);

my %locations = (
    off => nixery($t, %git),
    none => nixery($t, %git, cache_use_stale => 'error off'),
    error => nixery($t, %git, cache_use_stale => 'error',
                    build_timeout => '5s'),
    timeout => nixery($t, %git, cache_use_stale => 'timeout',
                      build_timeout => '5s'),
    both => nixery($t, %git, cache_use_stale => 'error timeout',
                   build_timeout => '5s'),
);

my $servers = join '', map { <<"EOS" } sort keys %locations;
    server {
        listen       127.0.0.1:8080;
        server_name  $_;

        location /v2 {
            $locations{$_}
        }
    }
EOS

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  images  '\$host \$status \$nixery_cache \$nixery_revision';
    access_log  %%TESTDIR%%/images.log images;

$servers
}

EOC

$t->run();

###############################################################################

my $commit = git($repo, 'rev-parse', 'HEAD');

is(pull('off', 'main'), "200 $commit", 'the branch is there');

rename($repo->{bare}, "$repo->{bare}.gone") or die "can't rename: $!\n";

my $gone = qr/does not appear to be a git repository/;

refused(get('off', 'main'), 502, 'UNKNOWN', $gone, 'not allowed');
refused(get('none', 'main'), 502, 'UNKNOWN', $gone, 'forbidden');
refused(get('timeout', 'main'), 502, 'UNKNOWN', $gone,
        'an error is no timeout');
refused(get('error', 'other'), 502, 'UNKNOWN', $gone,
        'a branch that was never asked for');

is(pull('error', 'main'), "200 $commit", 'an error');
is(pull('both', 'main'), "200 $commit", 'an error, among others');

# Nix has the commit
is(pull('error', 'main', 'tiny2'), "200 $commit", 'another image of it');

rename("$repo->{bare}.gone", $repo->{bare}) or die "can't rename: $!\n";

fake_mode($t, 'hang', 'git');

refused(get('error', 'main'), 504, 'UNKNOWN', qr/did not finish within 5s/,
        'a timeout is no error');
is(pull('timeout', 'main'), "200 $commit", 'a timeout');
is(pull('both', 'main'), "200 $commit", 'a timeout, among others');

fake_mode($t, 'real', 'git');

default_branch($repo, 'other');
forget($repo, 'refs/heads/main');
refused(get('both', 'main'), 404, 'MANIFEST_UNKNOWN', qr/no branch or tag/,
        'that it is gone is an answer like any other');

my $next = commit($repo, more => "more\n");
point($repo, 'refs/heads/main');

is(pull('both', 'main'), "200 $next", 'the branch is back, and has moved');

$t->stop();

my $log = $t->read_file('images.log');

like($log, qr/^off 200 MISS $commit$/m, 'built');
like($log, qr/^error 200 STALE $commit$/m, 'stale for an error');
like($log, qr/^timeout 200 STALE $commit$/m, 'stale for a timeout');
like($log, qr/^off 502 - -$/m, 'not stale');
like($t->read_file('error.log'),
     qr/\[error\].*nixery: tag "main" failed, build \w+, \d+ ms: can't ask/,
     'the error log has why');

###############################################################################

sub get {
    my ($host, $tag, $name) = @_;

    $name //= 'tiny';

    my $request = "GET /v2/$name/manifests/$tag HTTP/1.0\n"
                  . "Host: $host\n\n";

    return reply(received(http($request, start => 1)));
}


sub pull {
    my $reply = get(@_);
    return "$reply->{status} "
           . ($reply->{headers}{'nixery-revision'} // $reply->{body});
}

###############################################################################
