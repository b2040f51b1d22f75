#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Who may read a repository, and whom it is read from: passwords, tokens, keys,
# hosts, certificates.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryGit;
use Test::NixeryGitServers;

use File::Copy;

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('fcgiwrap')
    ->has_daemon('ssh')->plan(75);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');
my $commit = git($set, 'rev-parse', 'HEAD');

serve($t, qw(http ssh));

# files with names that shells, git and ssh have a meaning for

my $odd = "$d/o'd d\"%h\\\$HOME";

mkdir($odd);
copy("$d/git/ssh/key", "$odd/key") or die "can't copy a key: $!\n";
copy("$d/git/ssh/known.hosts", "$odd/hosts") or die "can't copy: $!\n";
copy("$d/git/tls/ca.crt", "$odd/ca") or die "can't copy: $!\n";

chmod(0600, "$odd/key");
give("$odd/key");

# a key that nobody can use without being asked

system("ssh-keygen -q -t ed25519 -N secret -f '$d/git/ssh/locked'") == 0
    or die "can't make a key\n";
give("$d/git/ssh/locked");

my $ssh = "$d/git/ssh";
my $login = 'reader:open%20sesame';
my $odd_login = 'o%40d%2fd:p%2Fa%40s%25%22%27%5c$%20w%3F%23';

# what works: kind, more

my @good = (
    ['private', login => $login],
    ['private', login => $odd_login],
    ['private_https', login => $odd_login],
    ['private', more => "credentials=$d/right"],
    ['private_https', more => "credentials=$d/right"],
    ['private_https', more => quoted("credentials=$odd/right")],
    ['private', login => $login, more => "credentials=$d/wrong"],
    ['ssh'],
    ['ssh', more => quoted("key=$odd/key") . ' '
                    . quoted("known_hosts=$odd/hosts")],
    ['https', ca => $odd . '/ca'],
    ['https', variable => 'SSL_CERT_FILE'],
);

# what does not: kind, more; what is said of it

my $wanted = qr/could not read Username for 'URL': .*; it wants credentials/;
my $refused = qr/Authentication failed for 'URL[^']*'; the credentials are ref/;
my $key = qr/Permission denied \(publickey\); "key=" has to be a key that/;
my $unknown = qr/host key.*; "known_hosts=" has to have the host's key/i;
my $changed = qr/host key.*; the host's key is not the one that "known_hosts/i;
my $untrusted = qr/certificate.*; "nixery_nix_env NIX_SSL_CERT_FILE" says/;

my @bad = (
    ['private', $wanted],
    ['private_https', $wanted],
    ['private', $wanted, more => "credentials=$d/other"],
    ['private', $wanted, more => "credentials=$d/garbage"],
    ['private', $wanted, more => "credentials=$d/empty"],
    ['private', $refused, more => "credentials=$d/wrong"],
    ['private_https', $refused, more => "credentials=$d/wrong"],
    ['private', $refused, login => 'reader:wrong'],
    ['private', $refused, login => 'reader'],
    ['private', $refused, login => 'reader:'],
    ['private_https', $refused, login => 'a-token'],
    ['private', $refused, login => 'wrong:x', more => "credentials=$d/right"],
    ['ssh', $key, more => "key=$ssh/other known_hosts=$ssh/known.hosts"],
    ['ssh', $key, more => "key=$ssh/locked known_hosts=$ssh/known.hosts"],
    ['ssh', $key, more => "key=$d/garbage known_hosts=$ssh/known.hosts"],
    ['ssh', $key, more => "known_hosts=$ssh/known.hosts"],
    ['ssh', $key, login => 'nobody'],
    ['ssh', $unknown, more => "key=$ssh/key known_hosts=$ssh/none.hosts"],
    ['ssh', $unknown, more => "key=$ssh/key known_hosts=$d/garbage"],
    ['ssh', $unknown, more => "key=$ssh/key"],
    ['ssh', $changed, more => "key=$ssh/key known_hosts=$ssh/wrong.hosts"],
    ['https', $untrusted, variable => 'NOTHING'],
    ['https', $untrusted, ca => "$d/empty"],
    ['https', qr/SSL CA cert.*; "nixery_nix_env NIX_SSL_CERT_FILE" has to name/,
     ca => "$d/none"],
    ['https', $untrusted, ca => "$d/git/tls/stranger.crt"],
    ['stranger', qr/target host name.*; its certificate is another host's/],
);

my $servers = '';
my $port = 8100;

for my $case (@good) {
    my ($kind, %extra) = @$case;
    $servers .= server($t, $port++, $kind, %extra);
}

for my $case (@bad) {
    my ($kind, $like, %extra) = @$case;
    $servers .= server($t, $port++, $kind, %extra);
}

# a place that asks for another password

$servers .= server($t, 8200, 'away', login => $login);
$servers .= server($t, 8201, 'away', more => "credentials=$d/right");

# and one whose file changes

$servers .= server($t, 8202, 'private', more => "credentials=$d/changing");

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    $servers
}

EOF

my @hosts = ('http://%s@127.0.0.1:8091', 'https://%s@127.0.0.1:8092');

$t->write_file_expand('right', join '', map { sprintf("$_\n", $login) } @hosts);
$t->write_file_expand('wrong', join '', map { "$_\n" =~ s/%s/reader:wrong/r }
                                        @hosts);
$t->write_file_expand('other', "https://$login\@127.0.0.1:8999\n");
$t->write_file('garbage', "\0\xff\nnonsense\n://\n");
$t->write_file('empty', '');
$t->write_file('changing', '');

copy("$d/right", "$odd/right") or die "can't copy: $!\n";

chmod(0600, "$d/right", "$odd/right", map { "$d/$_" }
            qw(wrong other garbage empty changing));
give("$d/right", "$odd/right", map { "$d/$_" }
     qw(wrong other garbage empty changing));

start($t);

###############################################################################

my ($r, $n);

$port = 8100;

for my $case (@good) {
    my ($kind, %extra) = @$case;

    $r = from($port++);
    is($r->{headers}{'nixery-revision'}, $commit, named('good', @$case))
        or diag($r->{body});
}

for my $case (@bad) {
    my ($kind, $like, %extra) = @$case;

    my $url = git_url($t, $kind, $set, %extra) =~ s{//[^/]*\@}{//}r;
    my ($host) = $url =~ m{^(\w+://[^/]+)};
    my $text = "$like" =~ s/URL/\Q$host\E/gr;

    $r = from($port++);
    refused($r, 502, 'UNKNOWN',
            qr/^can't ask git repository "\S+\/set\.git": .*$text/,
            named('bad', $kind, %extra));
    logged_once($t, $r, 'error', named('bad', $kind, %extra));
}

# a password is not taken to another place

refused(from(8200), 502, 'UNKNOWN',
        qr/could not read Username for 'https:\S+': .*; it wants credentials/,
        'another place, password');
is(from(8201)->{headers}{'nixery-revision'}, $commit,
   'another place, for which there is one');

my @away = grep { /GET \/private/ } split /\n/, $t->read_file('git/access.log');
ok((grep { m{ - - .*/private/.* 401 } } @away), 'another place, asked without');

# a file is looked into each time, and left as it is

my $right = $t->read_file('right');

refused(from(8202), 502, 'UNKNOWN', $wanted =~ s/URL/.*/r,
        'a file that changes, empty');
$t->write_file('changing', $t->read_file('wrong'));
refused(from(8202), 502, 'UNKNOWN', $refused =~ s/URL/.*/r,
        'a file that changes, refused');
is($t->read_file('changing'), $t->read_file('wrong'),
   'a file that changes, it still has what was refused');
$t->write_file('changing', $right);
is(from(8202)->{headers}{'nixery-revision'}, $commit,
   'a file that changes, accepted');
unlink("$d/changing");
refused(from(8202), 502, 'UNKNOWN', $wanted =~ s/URL/.*/r,
        'a file that is gone');
is($t->read_file('right'), $right, 'files are as they were');
is($t->read_file('git/ssh/none.hosts'), '', 'and so are lists of hosts');

is(join(' ', glob("$d/temp*/home/.ssh"), glob("$d/temp*/home/.git-cred*")), '',
   'nothing is remembered elsewhere');

ok(eventually(sub { left_over($t) eq '' }), 'nothing left');

###############################################################################

# A value of nginx.conf.

sub quoted {
    my ($text) = @_;
    return '"' . $text =~ s/(["\\])/\\$1/gr . '"';
}


# Nothing is shared: what one has fetched is of no use to another.

sub server {
    my ($test, $number, $kind, %extra) = @_;

    my $ca = quoted($extra{ca} // "$d/git/tls/ca.crt");
    my $variable = $extra{variable} // 'NIX_SSL_CERT_FILE';

    return registry($number, nixery($test, cache_valid => 0,
        packages => git_packages($test, $kind, $set, %extra),
        storage => "directory $d/storage-$number",
        temp_path => "$d/temp-$number")
        . "\nnixery_nix_env $variable $ca;");
}


sub from {
    my ($number) = @_;
    return manifest('tiny', 'main', PeerAddr => '127.0.0.1:' . port($number));
}


sub named {
    my ($what, $kind, %extra) = @_;

    my $more = join ' ', map { "$_ $extra{$_}" =~ s/\Q$d\E//gr }
                         sort keys %extra;

    return "$what, $kind, " . ($more || 'nothing');
}

###############################################################################
