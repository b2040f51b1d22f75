#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# References that are not there, or try to be more; repositories that can't be
# reached, or are none; a git that does what it should not.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryGit;
use Test::NixeryGitServers;

my $zero = '0' x 40;

# references that are malformed, with their status and code; nobody is asked

my @malformed = (
    ['--upload-pack=x', 400, 'TAG_INVALID'],
    ['%2d%2dupload-pack=x', 400, 'TAG_INVALID'],
    ['-x', 400, 'TAG_INVALID'],
    ['ext::sh', 400, 'DIGEST_INVALID'],
    ['refs/', 400, 'TAG_INVALID'],
    ['refs%2f', 400, 'TAG_INVALID'],
    ['refs/heads/', 400, 'TAG_INVALID'],
    ['refs/heads/a..b', 400, 'TAG_INVALID'],
    ['refs/heads/.a', 400, 'TAG_INVALID'],
    ['refs/heads/a.', 400, 'TAG_INVALID'],
    ['refs/heads/a.lock', 400, 'TAG_INVALID'],
    ['refs/heads/a.lock/b', 400, 'TAG_INVALID'],
    ['refs/heads/a%20b', 400, 'TAG_INVALID'],
    ['refs/heads/a%0ab', 400, 'TAG_INVALID'],
    ['refs/heads/a%7fb', 400, 'TAG_INVALID'],
    ['refs/heads/%c3%a4', 400, 'TAG_INVALID'],
    ['refs/heads/a~1', 400, 'TAG_INVALID'],
    ['refs/heads/a%5e', 400, 'TAG_INVALID'],
    ['refs/heads/a%5e{}', 400, 'TAG_INVALID'],
    ['refs/heads/*', 400, 'TAG_INVALID'],
    ['refs/heads/a%3fb', 400, 'TAG_INVALID'],
    ['refs/heads/%5ba', 400, 'TAG_INVALID'],
    ['refs/heads/a%5cb', 400, 'TAG_INVALID'],
    ['refs/heads/a@{1}', 400, 'TAG_INVALID'],
    ['refs/heads/a:b', 400, 'DIGEST_INVALID'],
    ['refs/heads/' . 'a' x 245, 400, 'TAG_INVALID'],
    ['refs/' . 'a/' x 2000 . 'b', 400, 'TAG_INVALID'],
    ['heads/main', 400, 'TAG_INVALID'],
    ['a/b', 400, 'TAG_INVALID'],
    ['main%5e', 400, 'TAG_INVALID'],
    ['main~1', 400, 'TAG_INVALID'],
);

# ones that are not there, and what is said of them

my $digits = '; a commit is named by all of its 40 digits';

my @unknown = (
    ['nope', 'no branch or tag "nope"'],
    ['Main', 'no branch or tag "Main"'],
    ['mai', 'no branch or tag "mai"'],
    ['refs/heads/nope', 'no branch or tag "refs/heads/nope"'],
    ['refs/tags/main', 'no branch or tag "refs/tags/main"'],
    ['refs/heads/main/x', 'no branch or tag "refs/heads/main/x"'],
    ['refs/heads/--upload-pack=x',
     'no branch or tag "refs/heads/--upload-pack=x"'],
    ['refs/heads/' . 'a' x 244, 'no branch or tag "refs/heads/a{244}"'],
    ['a' x 128, 'no branch or tag "a{128}"' . $digits],
    ['deadbee', 'no branch or tag "deadbee"' . $digits],
    ['0' x 39, 'no branch or tag "0{39}"' . $digits],
    ['0' x 41, 'no branch or tag "0{41}"' . $digits],
    [$zero, "no commit $zero"],
);

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('fcgiwrap')
    ->has_daemon('ssh')->plan(@malformed + 2 * @unknown + 139);

prepare($t);

my $d = $t->testdir();
my $set = repository($t, 'set');
my $empty = { %$set, name => 'empty', bare => "$set->{home}/empty.git" };
my $none = { %$set, name => 'none', bare => "$set->{home}/none.git" };
my $broken = repository($t, 'broken');
my $evil = repository($t, 'evil');

git($set, 'init', '-q', '--bare', $empty->{bare});

# Nix has no need for a commit that it knows
commit($broken, other => "other\n");
point($broken, 'refs/heads/main');

serve($t, qw(http git ssh silent));

# a repository that is of no use: its kind, which one it is, port, status, what
# is said of it

my $gone = qr/^can't ask git repository "URL": .*(?:does not appear|denied)/;
my $nothing = qr/^there is no git repository at "URL" \(build /;
my $unborn = qr/^git repository "URL" has no default branch$/;
my $refused = qr/^can't ask git repository "URL": .*[Cc]onnect/;
my $late = qr/^git repository "URL" did not answer in time: the build did not/;
my $lost = qr/^can't fetch \w{40} of git repository "URL": .*not our ref/;

my @useless = (
    (map { [$_, $none, undef, 502, $gone] } qw(file git ssh)),
    (map { [$_, $none, undef, 502, $nothing] } qw(http https)),
    (map { [$_, $empty, undef, 404, $unborn] } qw(file git ssh http https)),
    (map { [$_, $broken, undef, 502, $lost] } qw(file git ssh http https)),
    (map { [$_, $set, NOBODY, 502, $refused] } qw(git ssh http https)),
    (map { [$_, $set, SILENT, 504, $late] } qw(git ssh http https)),
    ['broken', $set, undef, 502, qr/^can't ask git repository "URL": .* 503 /],
    ['page', $set, undef, 502, $nothing],
    ['astray', $set, undef, 502,
     qr/^can't ask git repository "URL": .*Protocol "file" not supported/],
);

my $servers = registry(8080, nixery($t, cache_valid => 0, packages =>
                                    git_packages($t, 'git', $set)));

$servers .= registry(8081, nixery($t));
$servers .= registry(8082, nixery($t, cache_valid => 0, thread_pool => 'small',
                                  packages => git_packages($t, 'git', $set)));
$servers .= registry(8083, nixery($t, cache_valid => 0, build_timeout => '2s',
                                  packages => git_packages($t, 'git', $set)));
$servers .= registry(8084, nixery($t, cache_valid => 0, packages =>
                                  git_packages($t, 'http', $evil)
                                  . ' submodules=on'));

my $port = 8100;

for my $case (@useless) {
    my ($kind, $repo, $other) = @$case;

    push @$case, $port;
    $servers .= registry($port++, nixery($t,
        packages => git_packages($t, $kind, $repo, port => $other),
        build_timeout => defined $other && $other == SILENT ? '2s' : '1m')
        . "\nnixery_nix_env NIX_SSL_CERT_FILE $d/git/tls/ca.crt;");
}

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

thread_pool small threads=1 max_queue=1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    large_client_header_buffers 4 16k;
    merge_slashes off;

    $servers
}

EOF

start($t);

###############################################################################

my ($r, $n, $image, $descriptors, $worker, @clients);

$image = from(8080, 'main');
is(whole($image), '', 'image');

($worker) = workers($t);
$descriptors = descriptors($worker);

# malformed

$n = calls($t, 'git') + calls($t);

refused(from(8080, $_->[0]), $_->[1], $_->[2], qr/./,
        'malformed: ' . substr($_->[0], 0, 40)) for @malformed;

refused(from(8081, 'refs/heads/main'), 400, 'TAG_INVALID', qr/./,
        'a full name, packages of a path');

is(calls($t, 'git') + calls($t), $n, 'nobody was asked');

# unknown

my $url = git_url($t, 'git', $set);

for my $case (@unknown) {
    my ($name, $like) = @$case;

    failed($t, from(8080, $name), 404,
           qr/^git repository "\Q$url\E" has $like$/,
           'unknown: ' . substr($name, 0, 40), 'info');
}

is(reply(received(http_head('/v2/tiny/manifests/nope', start => 1)))->{status},
   404, 'unknown, head');

# a branch that is called like an option

git($set, '--git-dir', $set->{bare}, 'update-ref',
    'refs/heads/--upload-pack=false', 'HEAD');

is(from(8080, 'refs/heads/--upload-pack=false')->{body}, $image->{body},
   'a branch like an option');

# repositories

for my $file (glob("$broken->{bare}/objects/??/*"),
              glob("$broken->{bare}/objects/pack/*"))
{
    unlink($file) or die "can't remove \"$file\": $!\n";
}

# those that are late are so at the same time

@clients = map {
    http_get('/v2/tiny/manifests/latest', start => 1, at($_->[5]))
} @useless;

for my $case (@useless) {
    my ($kind, $repo, $other, $status, $like) = @$case;

    my $shown = git_url($t, $kind, $repo, port => $other);
    my $text = "$like" =~ s/URL/\Q$shown\E/gr;

    failed($t, reply(received(shift @clients)), $status, qr/$text/,
           "$kind, $repo->{name}" . (defined $other ? " at $other" : ''),
           $status == 404 ? 'info' : 'error');
}

recovered($t, 'useless repositories');

# submodules from where no repository may be

my @modules = (
    ["file://$set->{bare}", qr/transport 'file' not allowed /],
    [$set->{bare}, qr/transport 'file' not allowed /],
    ["ext::sh -c touch% $d/evil", qr/transport 'ext' not allowed /],
    ['-u./x', qr/No url found for submodule path 'part'/],
    ["--upload-pack=touch $d/evil", qr/No url found for submodule path 'part'/],
);

for my $case (@modules) {
    my ($module, $like) = @$case;

    commit($evil, '.gitmodules' =>
           "[submodule \"part\"]\n\tpath = part\n\turl = $module\n");
    git($evil, 'update-index', '--add', '--cacheinfo',
        '160000,' . git($set, 'rev-parse', 'HEAD') . ',part');
    git($evil, 'commit', '-q', '-m', 'a submodule');
    point($evil, 'refs/heads/main');

    failed($t, from(8084, 'main'), 502,
           qr/^can't fetch \w{40} of git repository "http:\S+": $like/,
           "submodule $module", 'error');
}

ok(!-e "$d/evil", 'no command was run');
recovered($t, 'submodules');

# git itself

my @faults = (
    ['exit 3', 502, qr/^can't ask git repository "\Q$url\E": .*fake says no/],
    ['exit 128', 502, qr/^can't ask git repository "\Q$url\E": .*fake says no/],
    ['signal 9', 502, qr/^can't ask git repository "\Q$url\E": it printed no/],
    ['silent', 404, qr/^git repository "\Q$url\E" has no branch or tag "main"/],
    ['flood', 502, qr/^what git repository "\Q$url\E" answers is no list of/],
    ['print x', 502, qr/^what git repository "\Q$url\E" answers is no list of/],
    ["print $zero refs/heads/main\\n", 502,
     qr/^what git repository "\Q$url\E" answers is no list of references/],
    ["print $zero\tHEAD", 502, qr/^what git repository "\Q$url\E" answers is/],
    ["print $zero\trefs/heads/other\\n", 404, qr/has no branch or tag "main"/],
);

for my $case (@faults) {
    my ($mode, $status, $like) = @$case;

    fake_mode($t, $mode, 'git');
    failed($t, from(8080, 'main'), $status, $like, "git, $mode",
           $status == 404 ? 'info' : 'error');
    recovered($t, "git, $mode");
}

fake_mode($t, 'noisy', 'git');
is(from(8080, 'main')->{body}, $image->{body}, 'git, noisy');
fake_mode($t, 'grandchild', 'git');
is(from(8080, 'main')->{body}, $image->{body}, 'git, grandchild');
recovered($t, 'git, grandchild');

for my $mode (qw(hang stubborn closes)) {
    fake_mode($t, $mode, 'git');
    failed($t, from(8083, 'main'), 504, qr/^git repository "\Q$url\E" did not/,
           "git, $mode", 'error');
    recovered($t, "git, $mode");
}

rename("$d/fake/git", "$d/fake/away") or die "can't rename: $!\n";
failed($t, from(8080, 'main'), 500,
       qr{^can't run "$d/fake/git": No such file or directory},
       'git, not there', 'error');
rename("$d/fake/away", "$d/fake/git") or die "can't rename: $!\n";
recovered($t, 'git, not there');

# the queue is full, while what a tag stands for is asked

fake_mode($t, 'wait', 'git');

@clients = map { http_get("/v2/tiny/manifests/$_", start => 1, at(8082)) }
           qw(main latest);
ok(eventually(sub { processes($t) }), 'queue, git runs');
http_get('/v2/');

$r = from(8082, 'refs/heads/main');
refused($r, 429, 'TOOMANYREQUESTS', qr/too many builds/, 'queue, full');
like($r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'queue, retry after');

go($t, 'git');
like(reply(received($_))->{status}, qr/^(200|429)$/, 'queue, one that waited')
    for @clients;
recovered($t, 'queue');

# nobody waits any more

fake_mode($t, 'wait', 'git');
$n = calls($t, 'git');
my $client = http_get('/v2/tiny/manifests/main', start => 1);
ok(eventually(sub { calls($t, 'git') > $n }), 'gone, git runs');
close($client);
http_get('/v2/');
go($t, 'git');
ok(eventually(sub { left_over($t) eq '' }), 'gone, git ends');
recovered($t, 'gone');

###############################################################################

sub at {
    my ($number) = @_;
    return (PeerAddr => '127.0.0.1:' . port($number));
}


sub from {
    my ($number, $reference) = @_;
    return manifest('tiny', $reference, at($number));
}


# Two tests: an error, and the line of the error log.

sub failed {
    my ($test, $reply, $status, $like, $name, $level) = @_;

    refused($reply, $status, $status == 404 ? 'MANIFEST_UNKNOWN' : 'UNKNOWN',
            $like, $name);
    logged_once($test, $reply, $level, $name);

    return;
}


# Two tests: nothing is left, and all is as it was.

sub recovered {
    my ($test, $name) = @_;

    fake_mode($test, 'real', 'git');

    ok(eventually(sub { left_over($test) eq '' && !children($worker)
                        && descriptors($worker) == $descriptors }),
       "$name, nothing left") or diag(left_over($test));
    is(from(8080, 'main')->{body}, $image->{body}, "$name, next request");

    return;
}

###############################################################################
