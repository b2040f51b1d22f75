#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# What is secret in "nixery_channel_url" stays where it has to be: in the
# configuration, at the server, and in files that only the workers can read while
# a job has them.

###############################################################################

use warnings;
use strict;

use File::Find;
use IO::Select;
use MIME::Base64;
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

use constant {
    USER => 'planted-user',
    PASSWORD => 'planted pass',
    WRONG => 'planted-mistake',
    TOKEN => 'planted-token',       # in a query
    ALONE => 'planted-alone',       # a user that is a token, with no password
};

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('fcgiwrap')->plan(28);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');
my $commit = git($set, 'rev-parse', 'HEAD');

tarball($set, "$commit.tar.gz");
tarball($set, 'stable.tar.gz');
tarball($set, 'stated/nixexprs.tar.gz');
$t->write_file('git/files/stated/git-revision', "$commit\n");
$t->write_file('git/files/garbage.tar.gz', "this is no tarball\n");

my %good = (login => USER . ':' . PASSWORD =~ s/ /%20/r,
            query => 'token=' . TOKEN . '&path=/a/b');
my %wrong = (%good, login => USER . ':' . WRONG);
my %alone = (%good, login => ALONE);
my $file = '$channel.tar.gz';

# a channel and its URL; the status of an image

my @cases = (
    ['main', channel_url('private_forge', $file, %good), 200],
    ['stable', channel_url('private_files', $file, %good), 200],
    ['stated', channel_url('private_files', '$channel/nixexprs.tar.gz', %good),
     200],
    ['none', channel_url('private_forge', $file, %good), 404],
    ['none', channel_url('private_files', $file, %good), 404],
    ['f' x 40, channel_url('private_forge', $file, %good), 404],
    ['garbage', channel_url('private_files', $file, %good), 502],
    ['main', channel_url('private_forge', $file, %wrong), 502],
    ['stable', channel_url('private_files', $file, %wrong), 502],
    ['main', channel_url('private_forge', $file, %alone), 502],
    ['stable', channel_url('private_files', $file, %alone), 502],
    ['stable', channel_url('broken', $file, %good), 502],
    ['main', channel_url('broken', "x/archive/$file", %good), 502],
    ['stable', channel_url('files', $file, %good, port => NOBODY), 502],
    ['main', channel_url('forge', $file, %good, port => NOBODY), 502],
    ['stable', channel_url('files', $file, %good, https => 1), 502],
    ['main', channel_url('forge', $file, %good, https => 1), 502],
    ['stable', channel_url('files', $file, %good, port => SILENT), 504],
    ['main', channel_url('forge', $file, %good, port => SILENT), 504],
);

my $servers = '';

for my $n (0 .. $#cases) {
    my ($channel, $url, $status) = @{$cases[$n]};

    $servers .= registry(8080, nixery($t,
        packages => "channel $channel", channel_url => "'$url'",
        cache_valid => 0, build_timeout => $status == 504 ? '1s' : undef))
        =~ s/server_name  localhost/server_name  n$n/r;
}

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  all  '\$request \$status \$nixery_image \$nixery_revision '
                     '\$nixery_digest \$nixery_build_id';
    access_log  %%TESTDIR%%/all.log all;

    $servers
}

EOC

serve($t, qw(http silent));

# one more who may read
$t->write_file('git/users', USER . ':{PLAIN}' . PASSWORD . "\n");

$t->run();

###############################################################################

my ($looked, $work, @answers) = (0, '');

# every outcome, with every program that is started looked at before it runs

for my $n (0 .. $#cases) {
    my ($channel, $url, $status) = @{$cases[$n]};
    my @seen;

    if ($status == 200) {
        for my $program (undef, qw(git prefetch)) {
            push @seen, held($t, $n, $program);
        }
    }

    my $text = received(ask($n));
    my $reply = reply($text);

    push @answers, $text;
    push @answers, received(blob($reply->{json}{config}{digest}))
        if $reply->{status} == 200;

    is("$reply->{status} @seen", "$status ", "$channel of $n")
        or diag($reply->{body});
}

# there was something to look at

like(planted($work), qr/planted%20pass/, 'work folders have them');

# master, worker, supervisor and program; two of the channels have no git
cmp_ok($looked, '>=', 7 * 4 + 2 * 2, 'processes');

# the URL without them is shown

my ($labels) = grep { /org.opencontainers.image.source/ } @answers;
my $place = 'http://127.0.0.1:' . port(8091) . '/private_forge/set';

like($labels, qr/"org.opencontainers.image.source":"\Q$place\E"/, 'label');

is(planted(join '', @answers), '', 'answers');

ok(eventually(sub { left_over($t) eq '' }), 'nothing left')
    or diag(left_over($t));

# all that is written, but by those who have to know

is(files($d), '', 'files');

$t->stop();

my $said = qx($Test::Nginx::NGINX -t -p '$d/' -c nginx.conf -e error.log 2>&1);

like($said, qr/test is successful/, 'nginx -t');
is(planted($said), '', 'nginx -t, what it says');
is(files($d), '', 'files, stopped');

###############################################################################

# Whoever has one of the secrets while that program waits: its processes, and
# files outside of work folders.  Nothing is there for it before.

sub held {
    my ($t, $n, $program) = @_;
    my $d = $t->testdir();

    wipe($t);
    unlink(glob("$d/temp/downloads/*"));

    my $before = () = calls($t, $program);

    fake_mode($t, 'wait', $program);
    my $socket = ask($n);

    # some of the channels start no git
    eventually(sub { (() = calls($t, $program)) > $before
                     || IO::Select->new($socket)->can_read(0) });

    my @seen = (files($d), modes($d), running($t));

    $work .= content($_) for glob("$d/temp/nixery-work.*/*");

    go($t, $program);
    push @answers, received($socket);
    fake_mode($t, 'real', $program);

    return grep { $_ ne '' } @seen;
}


# Processes of nginx that have one of them in a command line or an environment.

sub running {
    my ($t) = @_;
    my (%seen, @found);
    my @pids = ($t->read_file('nginx.pid') + 0, processes($t));

    while (defined(my $pid = shift @pids)) {
        next if $seen{$pid}++;

        $looked++;
        push @pids, children($pid);

        for my $file ("/proc/$pid/cmdline", "/proc/$pid/environ") {
            my $found = planted(content($file));
            push @found, "$file $found" if $found ne '';
        }
    }

    return join ' ', @found;
}


# Files that have one of them, but for work folders, whose files no other user
# can read; see modes().

sub files {
    my ($dir) = @_;
    my @found;

    find({ no_chdir => 1, wanted => sub {
        $File::Find::prune = 1
            if m{^\Q$dir\E/(?:git|packages|builder)$}
            || m{/nixery-work\.\d+$};

        return if !-f $_ || $_ eq "$dir/nginx.conf";

        my $found = planted(content($_));
        push @found, "$_ $found" if $found ne '';
    } }, $dir);

    return join ' ', @found;
}


sub modes {
    my ($dir) = @_;

    return join ' ', grep { (stat)[2] & 077 } glob("$dir/temp/nixery-work.*"),
                     glob("$dir/temp/nixery-work.*/git*");
}


# Those that a text has, as they are or as they are sent.

sub planted {
    my ($text) = @_;

    my @secrets = (USER, PASSWORD, PASSWORD =~ s/ /%20/r, WRONG, TOKEN, ALONE,
                   map { encode_base64($_, '') } USER . ':' . PASSWORD,
                   USER . ':' . WRONG, ALONE . ':');

    return join ' ', grep { index($text, $_) >= 0 } @secrets;
}


sub content {
    my ($file) = @_;

    open(my $fh, '<', $file) or return '';
    local $/;

    return <$fh> // '';
}


sub ask {
    my ($n) = @_;

    return http("GET /v2/tiny/manifests/latest HTTP/1.0\x0d\x0a"
                . "Host: n$n\x0d\x0a\x0d\x0a", start => 1);
}


sub blob {
    my ($digest) = @_;
    return http_get("/v2/any/blobs/$digest", start => 1);
}

###############################################################################
