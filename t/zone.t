#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Tests for what is kept in shared memory: what tags stand for, in a zone that
# is too small for all of them.

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

use constant TAGS => 150;

my $t = Test::Nginx->new()->has(qw/http/)->plan(7);

prepare($t);

my $repo = repository($t, 'set');

# all at once: a push for each takes its time
$t->write_file('refs', join '', map { "create refs/heads/b$_ HEAD\n" }
                                1 .. TAGS);
system("git --git-dir=$repo->{bare} -c safe.directory='*' update-ref --stdin <"
       . $t->testdir() . '/refs') == 0 or die "can't make branches\n";

my $location = nixery($t, packages => 'git ' . git_url($t, 'file', $repo),
                      cache_valid => '1h');

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

worker_processes 2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    nixery_zone  small:32k;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        location /v2 {
            $location
        }
    }
}

EOC

$t->run();

###############################################################################

my $digest = manifest('tiny', 'b1')->{headers}{'docker-content-digest'} // '';

like($digest, qr/^sha256:/, 'a branch');
is(resolved($t, 'b1'), 1, 'it was asked for');

manifest('tiny', 'b1');

is(resolved($t, 'b1'), 1, 'its answer is kept');

my $same = grep {
    (manifest('tiny', "b$_")->{headers}{'docker-content-digest'} // '')
        eq $digest
} 2 .. TAGS;

is($same, TAGS - 1, 'more branches than there is room for');

manifest('tiny', 'b' . TAGS);
manifest('tiny', 'b1');

is(resolved($t, 'b' . TAGS), 1, 'the last one is kept');
is(resolved($t, 'b1'), 2, 'the first one was forgotten');

$t->stop();

unlike($t->read_file('error.log'), qr/no memory|ngx_slab_alloc/,
       'which is no news');

###############################################################################

# How often a branch has been asked for.

sub resolved {
    my ($t, $tag) = @_;
    my $n = () = $t->read_file('error.log')
        =~ /tag "\Q$tag\E" is revision/g;
    return $n;
}

###############################################################################
