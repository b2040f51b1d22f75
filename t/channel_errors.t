#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Channels that are not there, can't be reached or are of no use: who said what.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('fcgiwrap')
    ->plan(77);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');
my $commit = git($set, 'rev-parse', 'HEAD');
my $nowhere = 'f' x 40;

tarball($set, "$commit.tar.gz");
tarball($set, 'stable.tar.gz');

# what Nix can't make a package set of

$t->write_file('git/files/garbage.tar.gz', "this is no tarball\n" x 1000);
$t->write_file('git/files/empty.tar.gz', '');
archive('nothing', README => "no default.nix\n");
archive('text', 'default.nix' => "\"just a string\"\n");
archive('syntax', 'default.nix' => "{ system }: {\n");

my $wrong = 'reader:wrong%20secret';
my $tls = "nixery_nix_env NIX_SSL_CERT_FILE $d/git/tls/ca.crt;";
my $proxy = 'nixery_nix_env http_proxy http://127.0.0.1:';
my $file = '$channel.tar.gz';

# name of the test, channel, URL, status, message to be, and more directives

my $forge = 'http://127.0.0.1:8091/forge/set';
my $private = 'http://127.0.0.1:8091/private';
my $example = 'http://channels.example';

my @cases = (
    ['no branch', 'none', channel_url('forge', $file), 404,
     qq{git repository "$forge" has no branch or tag "none"}],
    ['half a commit', 'abcdef0', channel_url('forge', $file), 404,
     'has no branch or tag "abcdef0"; a commit is named by all of its 40'],
    ['no commit', $nowhere, channel_url('forge', $file), 404,
     qq{there is no channel "$nowhere" at "$forge"}],
    ['no file', 'none', channel_url('files', $file), 404,
     'there is no channel "none" at "http://127.0.0.1:8091/files/"'],
    ['no folder', 'none', channel_url('files', '$channel/nixexprs.tar.xz'), 404,
     'there is no channel "none" at "http://127.0.0.1:8091/files/"'],
    ['redirect to no file', 'none', channel_url('moved', "files/$file"), 404,
     'there is no channel "none" at "http://127.0.0.1:8091/moved/files/"'],

    ['nobody', 'stable', channel_url('files', $file, port => NOBODY), 502,
     q{can't get "http://127.0.0.1:8097/files/git-revision": }
     . 'Connection refused'],
    ['nobody, repository', 'main', channel_url('forge', $file, port => NOBODY),
     502, q{can't ask git repository "http://127.0.0.1:8097/forge/set": }],
    ['error', 'stable', channel_url('broken', $file), 502,
     q{can't get "http://127.0.0.1:8091/broken/stable.tar.gz": 127.0.0.1 }
     . 'answered 503'],
    ['error, repository', 'main', channel_url('broken', "x/archive/$file"), 502,
     q{The requested URL returned error: 503}],
    ['silent', 'stable', channel_url('files', $file, port => SILENT), 504,
     q{can't get "http://127.0.0.1:8096/files/git-revision": Operation timed },
     'nixery_build_timeout 1s;'],
    ['silent, repository', 'main', channel_url('forge', $file, port => SILENT),
     504, 'did not finish within 1s', 'nixery_build_timeout 1s;'],

    ['no password', 'stable', channel_url('private_files', $file), 502,
     qq{can't get "${private}_files/stable.tar.gz": 127.0.0.1 answered 401; it }
     . 'wants a user and a password'],
    ['no password, repository', 'main', channel_url('private_forge', $file),
     502, qq{can't ask git repository "${private}_forge/set": could not read }],
    ['no password, commit', $commit, channel_url('private_forge', $file), 502,
     qq{can't get "${private}_forge/set/archive/$commit.tar.gz": 127.0.0.1 }
     . 'answered 401; it wants'],
    ['wrong password', 'stable',
     channel_url('private_files', $file, login => $wrong), 502,
     q{answered 401; the URL's user and password are no good there}],
    ['wrong password, repository', 'main',
     channel_url('private_forge', $file, login => $wrong), 502,
     '/private_forge/set/\'; the credentials are refused'],
    ['wrong password, commit', $commit,
     channel_url('private_forge', $file, login => $wrong), 502,
     q{answered 401; the URL's user and password are no good there}],

    ['unknown authority', 'stable', channel_url('files', $file, https => 1),
     502, '"https://127.0.0.1:8092/files/git-revision": SSL certificate '],
    ['unknown authority, hint', 'stable',
     channel_url('files', $file, https => 1), 502,
     '; "nixery_nix_env NIX_SSL_CERT_FILE" says which authorities are trusted'],
    ['unknown authority, repository', 'main',
     channel_url('forge', $file, https => 1), 502,
     '; "nixery_nix_env NIX_SSL_CERT_FILE" says which authorities are trusted'],
    ['stranger', 'stable',
     channel_url('files', $file, https => 1, port => 8093), 502,
     '/files/git-revision": SSL: no alternative certificate subject', $tls],
    ['stranger, repository', 'main',
     channel_url('forge', $file, https => 1, port => 8093), 502,
     q{can't ask git repository "https://127.0.0.1:8093/forge/set": }, $tls],
    ['no authorities', 'stable', channel_url('files', $file, https => 1), 502,
     '/nonexistent/ca.crt',
     'nixery_nix_env NIX_SSL_CERT_FILE /nonexistent/ca.crt;'],

    ['no tarball', 'garbage', channel_url('files', $file), 502,
     q{Nix can't unpack the tarball of channel "garbage" from }
     . '"http://127.0.0.1:8091/files/": failed to open archive: '],
    ['nothing in it', 'empty', channel_url('files', $file), 500,
     'the package source "nixpkgs!empty" has no default.nix'],
    ['no default.nix', 'nothing', channel_url('files', $file), 500,
     'the package source "nixpkgs!nothing" has no default.nix'],
    ['no package set', 'text', channel_url('files', $file), 500,
     'the package source "nixpkgs!text" is not a function of'],
    ['no Nix', 'syntax', channel_url('files', $file), 500, 'syntax error'],

    # none is named: it is the default one, where nixpkgs is
    ['default', undef, undef, 502,
     q{can't ask git repository "https://github.com/NixOS/nixpkgs": unable to }
     . q{access 'https://github.com/NixOS/nixpkgs/': Failed to connect to }
     . '127.0.0.1 port %%PORT_8097%%',
     'nixery_nix_env https_proxy http://127.0.0.1:8097;'],

    ['proxy, nobody', 'stable', "$example/files/$file", 502,
     qq{can't get "$example/files/git-revision": Failed to connect to }
     . '127.0.0.1 port %%PORT_8097%%', "${proxy}8097;"],
    ['proxy, nobody, repository', 'main', "$example/forge/set/archive/$file",
     502, 'Failed to connect to 127.0.0.1 port %%PORT_8097%%', "${proxy}8097;"],
    ['proxy, no file', 'none', "$example/files/$file", 404,
     qq{there is no channel "none" at "$example/files/"}, "${proxy}8098;"],
    ['proxy', 'stable', "$example/files/$file", 200, '', "${proxy}8098;"],
    ['proxy, repository', 'main', "$example/forge/set/archive/$file", 200, '',
     "${proxy}8098;"],
    ['no proxy', 'stable', channel_url('files', $file), 200, '',
     "${proxy}8097; nixery_nix_env no_proxy 127.0.0.1;"],

    ['authorities', 'stable', channel_url('files', $file, https => 1), 200, '',
     $tls],
    ['authorities, repository', 'main', channel_url('forge', $file, https => 1),
     200, '', $tls],
);

my $servers = '';

for my $n (0 .. $#cases) {
    my ($name, $channel, $url, $status, $message, $more) = @{$cases[$n]};

    my $location = nixery($t, cache_valid => 0, channel_url => $url,
        packages => defined $channel ? "channel $channel" : undef);

    $location .= "\n$more" if defined $more;

    $servers .= registry(8080, $location)
                =~ s/server_name  localhost/server_name  n$n/r;
}

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

serve($t, qw(http silent));

$t->run();

###############################################################################

for my $n (0 .. $#cases) {
    my ($name, $channel, $url, $status, $message) = @{$cases[$n]};

    my $reply = ask($n);

    if ($status == 200) {
        is(whole($reply), '', $name);
        next;
    }

    # the ports that are in use
    $message =~ s/127\.0\.0\.1:(8\d{3})/'127.0.0.1:' . port($1)/ge;
    $message =~ s/%%PORT_(\d+)%%/port($1)/ge;

    refused($reply, $status, $status == 404 ? 'MANIFEST_UNKNOWN' : 'UNKNOWN',
            qr/\Q$message\E/, $name);

    # one line in the error log, with the build's id
    my ($id) = $reply->{body} =~ /"build":"(\w+)"/;
    my $lines = () = $t->read_file('error.log')
        =~ /^.*(?:channel|image) "[\w.-]+".* failed, build $id,.*$/gm;

    is($lines, 1, "$name, logged");
}

# that it is the default one is told when nginx starts

my @notices = $t->read_file('error.log')
    =~ /\[notice\] \S+ (no "nixery_packages" is set, .*) in /g;
is("@notices", 'no "nixery_packages" is set, packages come from channel '
   . '"nixos-24.11"', 'default, notice');

# a proxy is asked for the whole URL

my @asked = grep { /channels\.example/ } proxied($t);
my $archive = "$example/forge/set/archive/$commit.tar.gz 200";

is(scalar(grep { $_ eq "$example/files/stable.tar.gz 200" } @asked), 1,
   'proxy, file');
is(scalar(grep { $_ eq $archive } @asked), 1, 'proxy, archive');
is(scalar(grep { m{^\Q$example\E/forge/set/info/refs\?} } @asked), 1,
   'proxy, repository');

ok(eventually(sub { left_over($t) eq '' }), 'nothing left')
    or diag(left_over($t));
is(truth($t), '', 'storage');

###############################################################################

# A tarball of those files.

sub archive {
    my ($name, %files) = @_;
    my $files = "$set->{home}/files";

    mkdir("$files/$name");

    for my $file (keys %files) {
        open(my $fh, '>', "$files/$name/$file") or die "can't create: $!\n";
        print $fh $files{$file};
        close($fh);
    }

    system("tar -C '$files' -czf '$files/$name.tar.gz' '$name'") == 0
        or die "can't make $name.tar.gz\n";

    return;
}


sub ask {
    my ($n) = @_;

    return reply(received(http("GET /v2/tiny/manifests/latest HTTP/1.0\x0d\x0a"
                               . "Host: n$n\x0d\x0a\x0d\x0a", start => 1)));
}

###############################################################################
