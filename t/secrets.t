#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Passwords, tokens, queries and keys that are planted: whatever works or fails,
# none of them is in an answer, a log, a command line, an environment, an image
# or a file that is left.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryChannel;
use Test::NixeryConfig;
use Test::NixeryGit;
use Test::NixeryGitServers;

use Fcntl qw(S_IMODE);
use File::Find;
use MIME::Base64;

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('fcgiwrap')
    ->has_daemon('ssh')->plan(97);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');

serve($t, qw(http ssh silent));
tarball($set, 'plain.tar.gz');
tarball($set, 'cut.tar.gz');
truncate("$d/git/files/cut.tar.gz", 1000) or die "can't truncate: $!\n";

# what must not be seen; a user is no secret, unless that is all there is

my %secrets = (
    'the password' => 'open sesame',
    'the password, encoded' => 'open%20sesame',
    'the password, in a header' => encode_base64('reader:open sesame', ''),
    'a wrong password' => 'plantedPassword',
    'a token' => 'plantedToken',
    'a query' => 'plantedQuery',
    'a password in a file' => 'plantedInFile',
    'a key' => (split /\n/, $t->read_file('git/ssh/key'))[2],
);

my $login = 'reader:open%20sesame';
my %login = (login => $login);
my %wrong = (login => 'reader:plantedPassword');
my %token = (login => 'plantedToken');
my %file = (more => "credentials=$d/planted");
my $key = "key=$d/git/ssh/key known_hosts=$d/git/ssh";

# what is asked for at each, and what comes of it

my @places = (
    [200, git_packages($t, 'private', $set, %login)],
    [200, git_packages($t, 'private_https', $set, %login)],
    [200, git_packages($t, 'private', $set, more => "credentials=$d/right")],
    [200, git_packages($t, 'ssh', $set)],
    [502, git_packages($t, 'private', $set, %wrong)],
    [502, git_packages($t, 'private_https', $set, %wrong)],
    [502, git_packages($t, 'private', $set, %token)],
    [502, git_packages($t, 'private', $set, %file)],
    [502, git_packages($t, 'private', $set, more => "credentials=$d/garbage")],
    [502, git_packages($t, 'away', $set, %login)],
    [502, git_packages($t, 'astray', $set, %login)],
    [502, git_packages($t, 'broken', $set, %login)],
    [502, git_packages($t, 'page', $set, %login)],
    [502, git_packages($t, 'stranger', $set, %login)],
    [502, git_packages($t, 'http', $set, %login, port => NOBODY)],
    [502, git_packages($t, 'private', { %$set, name => 'none' }, %login)],
    [502, git_packages($t, 'ssh', $set, more => "$key/wrong.hosts")],
    [502, git_packages($t, 'ssh', $set, login => 'nobody')],

    [200, 'channel plain', channel_url('private_files', '$channel.tar.gz',
                                       %login)],
    [200, 'channel plain', channel_url('files', '$channel.tar.gz',
                                       query => 'x=plantedQuery')],
    [502, 'channel plain', channel_url('private_files', '$channel.tar.gz',
                                       %wrong, query => 'x=plantedQuery')],
    [404, 'channel none', channel_url('files', '$channel.tar.gz', %token,
                                      query => 'x=plantedQuery')],
    [undef, 'channel cut', channel_url('files', '$channel.tar.gz', %token,
                                       query => 'x=plantedQuery')],
);

# those that are late

my @silent = (
    git_packages($t, 'http', $set, %login, port => SILENT),
    git_packages($t, 'https', $set, %token, port => SILENT),
    git_packages($t, 'http', $set, %file, port => SILENT),
    git_packages($t, 'ssh', $set, port => SILENT),
);

my $servers = '';
my $port = 8100;

for my $place (@places) {
    my ($status, $packages, $url) = @$place;

    push @$place, $port;
    $servers .= registry($port++, nixery($t, packages => $packages,
        channel_url => $url, cache_valid => 0)
        . "\nnixery_nix_env NIX_SSL_CERT_FILE $d/git/tls/ca.crt;");
}

$servers .= registry(8200 + $_, nixery($t, packages => $silent[$_],
                                       build_timeout => '5s'))
    for 0 .. $#silent;

# with nothing fetched before

$servers .= registry(8300, nixery($t, packages => $places[0][1],
                                  cache_valid => 0,
                                  temp_path => "$d/temp-held",
                                  storage => "directory $d/storage-held"));

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  all  '\$request \$status \$nixery_cache \$nixery_image '
                     '\$nixery_digest \$nixery_revision \$nixery_build_id';
    access_log  %%TESTDIR%%/all.log all;

    $servers
}

EOF

$t->write_file_expand('right', "http://$login\@127.0.0.1:8091\n");
$t->write_file_expand('planted', join '', map {
    "http://reader:plantedInFile\@127.0.0.1:$_\n"
} 8091, SILENT);
$t->write_file('garbage', "plantedInFile\nhttp://plantedInFile\n");

chmod(0600, "$d/right", "$d/planted", "$d/garbage");
give("$d/right", "$d/planted", "$d/garbage");

start($t);

###############################################################################

my ($r, $text, $n, $client, @clients);
my $told = '';      # all that clients were told

# what the files are that have secrets because they were put there

my %planted = map { $_ => 1 } qw(nginx.conf test.conf right planted garbage);

# everything, once

for my $place (@places) {
    my ($status, $packages) = @$place;

    $r = from($place->[-1], 'tiny', 'latest');

    my $name = "$place->[-1], " . ($status // 'any');
    is($r->{status}, $status // $r->{status}, $name) or diag($r->{body});
}

from(8100, @$_) for ['tiny', 'nope'], ['failing', 'main'], ['nope', 'main'],
                    ['tiny', 'refs/heads/a..b'], ['tiny', '0' x 40];

is(seen(left($t)), '', 'what is left');
is(seen($told), '', 'answers');

# programs that tell all that they know

my $url = git_url($t, 'private', $set, %login);

for my $program ('git', '') {
    for my $words ("fatal: unable to access '$url/': no", "fatal: $url",
                   'fatal: password "open sesame" is no good',
                   "fatal: https://plantedToken\@127.0.0.1/",
                   "error: (HTTP://x:plantedToken\@127.0.0.1/ $url)",
                   "error: $url$url", "trace: nixery: evaluating \"$url\"",
                   "error: program 'git' failed\\nfatal: $url open sesame")
    {
        fake_mode($t, "complain $words", $program || undef);
        $r = from(8300, 'tiny', 'main');
        is(($r->{status} >= 500) . seen($r->{body}), 1,
           ($program || 'nix-build') . ' says too much') or diag($words);
    }

    fake_mode($t, 'real', $program || undef);
}

is(seen(left($t)), '', 'what is left, of those who talk');

# while it runs: only one file may have it, for its own user

for my $program ('git', '', 'nix-git') {
    my $name = $program || 'nix-build';

    # which Nix does not have yet
    commit($set, new => "for $name\n");
    point($set, 'refs/heads/main');

    fake_mode($t, 'wait', $program || undef);
    $n = calls($t, $program || undef);
    $client = get(8300, 'tiny', 'main');
    ok(eventually(sub { calls($t, $program || undef) > $n }), "$name runs");

    is(seen(running($t)), '', "$name, command lines and environments");

    my ($held) = glob("$d/temp-held/nixery-work.*/git-credentials");
    is(seen_in($held), 'the password, encoded', "$name, the file that has it");
    is(sprintf('%o', S_IMODE((stat($held // ''))[2])), '600',
       "$name, its mode");

    $planted{substr($held, length("$d/"))} = 1;
    is(seen(left($t)), '', "$name, no other file");

    go($t, $program || undef);
    $r = reply(told($client));
    is($r->{status}, 200, "$name, it works") or diag($r->{body});
    ok(eventually(sub { !-e $held }), "$name, the file is gone");

    fake_mode($t, 'real', $program || undef);
}

# the programs that git starts, which wait for a server

@clients = map { get(8200 + $_, 'tiny', 'main') } 0 .. $#silent;

ok(eventually(sub { my $text = running($t);
                    4 == grep { $text =~ $_ }
                    qr/remote-http\0.*:\d+\//, qr/remote-https\0/,
                    qr/ssh\0-o\0/, qr/FAKE_DIR/ }), 'they wait');
is(seen(running($t)), '', 'waiting, command lines and environments');

for my $client (@clients) {
    is(reply(told($client))->{status}, 504, 'waited');
}

is(seen(left($t)), '', 'what is left, after they waited');

# what "nginx -t" says

for my $value ("git $url x=plantedPassword", "git $url ref=",
               "git $url submodules=plantedPassword",
               "git $url/?plantedQuery", "git $url#plantedQuery",
               'git http://x:plantedPassword/y@127.0.0.1/',
               'git ssh://x:plantedPassword@127.0.0.1/x',
               'git git://plantedToken@127.0.0.1/x',
               'git plantedToken@127.0.0.1:x',
               'git http://plantedToken@/x', 'git http://%zz:plantedToken@x/',
               'git ftp://plantedToken@127.0.0.1/',
               'git http://x:plantedPassword@127.0.0.1/x"y',
               "git $url credentials=$d/none",
               "channel $url", "path $url", "$url path", "$url ref=x")
{
    my ($output, $code) = check($t, configure($t, location($t,
                                              packages => "'$value'" =~
                                              s/ /' '/gr)));

    is("$code " . seen($output), '1 ', 'nginx -t, ' . (split ' ', $value)[0])
        or diag($output);
}

for my $value ("$url/\$channel", $url,
               "http://x:plantedPassword\@127.0.0.1?\$channel",
               "ftp://plantedToken\@127.0.0.1/\$channel")
{
    my ($output, $code) = check($t, configure($t, location($t,
        packages => 'channel x', channel_url => "'$value'")));

    is(seen($output), '', 'nginx -t, channel') or diag($output);
}

is(seen($told), '', 'all answers');
is(seen(left($t)), '', 'what is left, all in all');
is(left_over($t), '', 'nothing is left');

# that it would have been found

is(join(' ', grep { seen_in("$d/nginx.conf") !~ /\Q$_/ }
             sort grep { !/header|file|key|^the password$/ } keys %secrets), '',
   'planted in nginx.conf');
is(seen_in("$d/planted") . ', ' . seen_in("$d/git/ssh/key"),
   'a password in a file, a key', 'planted in files');

###############################################################################

sub get {
    my ($number, $name, $reference) = @_;
    return http_get("/v2/$name/manifests/$reference", start => 1,
                    PeerAddr => '127.0.0.1:' . port($number));
}


sub told {
    my ($socket) = @_;
    my $answer = received($socket);

    $told .= $answer;

    return $answer;
}


# An image, with all that a client has of it.

sub from {
    my ($number, $name, $reference) = @_;
    my $reply = reply(told(get($number, $name, $reference)));

    $told .= join ' ', %{labels($reply, PeerAddr => '127.0.0.1:'
                                                    . port($number))};

    return $reply;
}


# Which secrets are in a text.

sub seen {
    my ($content) = @_;
    return join ', ', grep { index($content, $secrets{$_}) >= 0 }
                      sort keys %secrets;
}


sub seen_in {
    my ($path) = @_;

    open(my $fh, '<', $path) or return "can't open \"$path\": $!";
    binmode $fh;
    local $/;

    return seen(<$fh> // '');
}


# Command lines and environments of what runs for this test.

sub running {
    my ($test) = @_;
    my $content = '';

    for my $pid (processes($test)) {
        for my $file (qw(cmdline environ)) {
            open(my $fh, '<', "/proc/$pid/$file") or next;
            local $/;
            $content .= "$pid: " . (<$fh> // '') . "\n";
        }
    }

    return $content;
}


# The files of the test, their names too, but not those of the servers and those
# where secrets are planted: logs, calls of programs, images, work files, what
# Nix keeps.

sub left {
    my ($test) = @_;
    my $dir = $test->testdir();
    my $content = '';

    find({ no_chdir => 1, wanted => sub {
        my $name = $_ eq $dir ? '' : substr($_, length($dir) + 1);

        $content .= "$_\n";

        if ($name eq 'git' || $name =~ m{^fake/.*mode$}) {
            $File::Find::prune = 1;
            return;
        }

        return if $planted{$name} || !-f $_;

        open(my $fh, '<', $_) or return;
        binmode $fh;
        local $/;
        $content .= <$fh> // '';
    } }, $dir);

    return $content;
}

###############################################################################
