#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Clients that ask for the same under many names share one build; whatever is
# pushed meanwhile, an image is of one commit, whole, and says of which.

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
use JSON::PP;

use constant MOVES => 3;    # of a branch that are followed

my $t = Test::Nginx->new()->has(qw/http ssi/)->plan(95);

prepare($t);

my $d = $t->testdir();

copy("$FindBin::Bin/fixtures/nix/$_", "$d/packages/$_")
    for qw(prebuilt.nix prebuilt-git.nix);

my $set = repository($t, 'set');
my $kept = repository($t, 'kept');

serve($t, qw(git));

my %git = (packages => git_packages($t, 'git', $set), cache_valid => 0);
my %old = (builder => "$d/packages/prebuilt-git.nix");

# not the fake, which may have to wait
my ($nix_build) = grep { -x } map { "$_/nix-build" } split /:/, $ENV{PATH};
my %path = (packages => "path $set->{tree}", nix_build => $nix_build);

my $servers = registry(8080, nixery($t, %git))
    . registry(8081, nixery($t, %git, %old))
    . registry(8082, nixery($t, %old, packages =>
                            git_packages($t, 'git', $kept)))
    . registry(8083, nixery($t, %git, builder => "$d/packages/text.nix"))
    . registry(8084, nixery($t, %path))
    . registry(8085, nixery($t, %path,
                            builder => "$d/packages/prebuilt.nix"));

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

thread_pool nixery threads=8;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    add_header X-Cache \$nixery_cache always;

    $servers

    server {
        listen       127.0.0.1:8086;
        server_name  localhost;

        location /page.html {
            ssi on;
        }

        location /v2 {
            ${\nixery($t, %git)}
        }
    }
}

EOF

$t->write_file('page.html', join ' and ', map {
    qq(<!--#include virtual="/v2/$_/manifests/main"-->)
} qw(tiny mark));

start($t);

###############################################################################

my ($r, $n, $one, $two, $three, $commit, @clients, @replies);

my $base = git($set, 'rev-parse', 'HEAD');

# many clients, one ls-remote and one build

$commit = pushed($t, $set, 1);

fake_mode($t, 'wait', 'git');
fake_mode($t, 'wait');

$n = calls($t, 'git');
@clients = map { get(8080, 'mark', 'main') } 1 .. 50;
ok(eventually(sub { calls($t, 'git') > $n }), 'many, git runs');
http_get('/v2/');
is(calls($t, 'git'), $n + 1, 'many, once');
is(processes($t), 1, 'many, and nothing else');

# others ask for another image of the branch, and for what is known already

push @clients, map { get(8080, 'tiny', 'main') } 1 .. 5;
http_get('/v2/');
is(calls($t, 'git'), $n + 1, 'another image, git runs once');

go($t, 'git');
ok(eventually(sub { calls($t) == 2 }), 'many, a build for each image');

push @clients, map { get(8080, 'mark', $commit) } 1 .. 5;
http_get('/v2/');
is(scalar(calls($t)), 2, 'by commit, joined');

go($t);
@replies = map { answer($_) } @clients;
is(scalar(grep { $_->{status} == 200
                 && $_->{headers}{'nixery-revision'} eq $commit } @replies),
   60, 'many, all are answered');
is(scalar(grep { $_->{headers}{'x-cache'} eq 'MISS' } @replies), 2,
   'many, two have started builds');
is(scalar(grep { $_->{body} eq $replies[0]{body} } @replies), 55,
   'many, same image');
is(scalar(calls($t, 'git')), $n + 1, 'many, git ran once');
is(digests($replies[0]), expected(8084), 'many, it is the right one');

# a branch and its commit, whichever comes first; names of one commit

for my $order ([qw(main COMMIT)], [qw(COMMIT main)],
               [qw(main refs/heads/main latest COMMIT)])
{
    $commit = pushed($t, $set, rand());
    my @names = map { $_ eq 'COMMIT' ? $commit : $_ } @$order;

    fake_mode($t, 'wait');
    $n = calls($t);
    @clients = get(8080, 'mark', shift @names);
    ok(eventually(sub { calls($t) > $n }), "@$order, a build runs");

    my $asked = grep { $_ ne 'COMMIT' } @$order;
    push @clients, map { get(8080, 'mark', $_) } @names;
    ok(eventually(sub { resolved($t, $commit) == $asked }), "@$order, asked");
    http_get('/v2/');
    go($t);

    @replies = map { answer($_) } @clients;
    is(join(' ', map { $_->{headers}{'x-cache'} } @replies),
       join(' ', 'MISS', map { 'WAIT' } @names), "@$order, one build");
    is(calls($t) - $n, 1, "@$order, nix-build runs once");
    is(scalar(grep { $_->{body} eq $replies[0]{body}
                     && $_->{headers}{'nixery-revision'} eq $commit }
              @replies), scalar @$order, "@$order, one image");
}

# images that are built at once, of a commit that none of them has yet

fake_mode($t, 'real', 'git');
fake_mode($t, 'real');

$commit = pushed($t, $set, 2);
@clients = map { get(8080, $_, 'main') } qw(mark tiny tiny2 mark/tiny twin1);
is(scalar(grep { answer($_)->{headers}{'nixery-revision'} eq $commit }
          @clients), 5, 'at once, from one repository');

# a push while a build runs, before Nix has the commit and after it

for my $mode (qw(wait after)) {
    $one = pushed($t, $set, "$mode 1");
    $r = expected(8084);

    ($n, @clients) = building($t, 8080, $mode);
    $two = pushed($t, $set, "$mode 2");
    go($t);

    $_ = answer($clients[0]);
    is("$_->{headers}{'nixery-revision'} " . digests($_), "$one $r",
       "push, $mode, the image is what it says");
    is(whole($_), '', "push, $mode, whole");
    is(labels($_)->{'org.opencontainers.image.revision'}, $one,
       "push, $mode, label");
    is(calls($t) - $n, 1, "push, $mode, one build");

    fake_mode($t, 'real');
    is(from(8080, 'mark', 'main')->{headers}{'nixery-revision'}, $two,
       "push, $mode, and then the other");
}

# a branch that is moved by force: the commit is where nobody finds it

$one = pushed($t, $set, 'forced 1');
($n, @clients) = building($t, 8080, 'wait');
git($set, 'reset', '-q', '--hard', $base);
$two = pushed($t, $set, 'forced 2');
go($t);

$r = answer($clients[0]);
is("$r->{headers}{'nixery-revision'} " . digests($r),
   "$two " . expected(8084), 'forced, the other commit');
is(calls($t) - $n, 2, 'forced, two builds');
is(left($t), '', 'forced, nothing left');

fake_mode($t, 'real');
refused(from(8080, 'mark', $one), 404, 'MANIFEST_UNKNOWN',
        qr/^git repository "git:\S+" has no commit $one$/,
        'forced, what was there before');

# and back again, before anybody looks

$one = pushed($t, $set, 'back 1');
($n, @clients) = building($t, 8080, 'step');
point($set, 'refs/heads/main', $base);
step($t);
ok(eventually(sub { processes($t) == 1 && !fetching($t) }),
   'back, Nix is done');
point($set, 'refs/heads/main', $one);
step($t);
refused(answer($clients[0]), 404, 'MANIFEST_UNKNOWN',
        qr/^git repository "git:\S+" has no commit $one$/,
        'back, but Nix did not find it');
fake_mode($t, 'real');
is(from(8080, 'mark', 'main')->{headers}{'nixery-revision'}, $one,
   'back, the next one does');

# a branch that is gone

$one = pushed($t, $set, 'gone');
point($set, 'refs/heads/gone');
($n, @clients) = building($t, 8080, 'wait', 'gone');
forget($set, 'refs/heads/gone');
point($set, 'refs/heads/main', $base);
go($t);
refused(answer($clients[0]), 404, 'MANIFEST_UNKNOWN',
        qr/^git repository "git:\S+" has no branch or tag "refs\/heads\/gone"/,
        'gone while it was built');
fake_mode($t, 'real');

# a builder that fetches by name; the one above says what comes of a commit

for my $mode (qw(wait after)) {
    $one = pushed($t, $set, "old $mode 1");

    ($n, @clients) = building($t, 8081, $mode);
    push @clients, get(8081, 'mark', $one);
    http_get('/v2/');
    $two = pushed($t, $set, "old $mode 2");
    $r = expected(8085);
    go($t);

    $_ = answer($clients[0]);
    is("$_->{headers}{'nixery-revision'} " . digests($_), "$two $r",
       "by name, $mode, the image is what it says");
    is(whole($_), '', "by name, $mode, whole");

    # who asked for the commit gets that
    $_ = answer($clients[1]);
    is($_->{headers}{'nixery-revision'}, $one, "by name, $mode, by commit");
    isnt(digests($_), $r, "by name, $mode, by commit, image");

    fake_mode($t, 'real');
    $n = calls($t);
    is(from(8081, 'mark', 'main')->{headers}{'nixery-revision'}, $two,
       "by name, $mode, again");
    is(scalar(calls($t)), $n, "by name, $mode, it is stored");
}

# one whose branch had moved before, which nobody was to ask for

$one = pushed($t, $kept, 'kept 1');
is(from(8082, 'mark', 'main')->{headers}{'nixery-revision'}, $one, 'kept');
$two = pushed($t, $kept, 'kept 2');
$n = calls($t);
is(from(8082, 'mark', 'main')->{headers}{'nixery-revision'}, $one,
   'kept, what is stored');
is(scalar(calls($t)), $n, 'kept, no build');
is(from(8082, 'tiny', 'main')->{headers}{'nixery-revision'}, $two,
   'kept, what has to be built is of now');
is(calls($t) - $n, 2, 'kept, two builds');
is(from(8082, 'mark', 'main')->{headers}{'nixery-revision'}, $two,
   'kept, and so is all from then on');

# a branch that moves during each build

$one = pushed($t, $set, 'moving');
($n, @clients) = building($t, 8081, 'step');
push @clients, get(8081, 'mark', 'refs/heads/main');
ok(eventually(sub { resolved($t, $one) == 2 }), 'moving, two clients');
http_get('/v2/');

for my $move (0 .. MOVES) {
    ok(eventually(sub { calls($t) == $n + $move + 1 }), "moving, build $move");
    $two = $three // $one;
    $three = pushed($t, $set, "moving $move");
    step($t);
    step($t);
}

for my $client (@clients) {
    $r = answer($client);
    refused($r, 502, 'UNKNOWN',
            qr{^"refs/heads/main" moved from $two to $three while it was },
            'moving, given up');
}

is(calls($t) - $n, MOVES + 1, 'moving, builds');
is(left($t), '', 'moving, nothing left');
fake_mode($t, 'real');
is(from(8081, 'mark', 'main')->{headers}{'nixery-revision'}, $three,
   'moving, when it stands still');

# a repository that is gone when it is looked at again

$one = pushed($t, $set, 'lost');
($n, @clients) = building($t, 8081, 'after');
ok(eventually(sub { processes($t) == 1 && !fetching($t) }),
   'lost, Nix is done');
rename($set->{bare}, "$set->{bare}.away") or die "can't rename: $!\n";
go($t);
refused(answer($clients[0]), 502, 'UNKNOWN',
        qr/^can't ask git repository "git:.*access denied/, 'lost');
rename("$set->{bare}.away", $set->{bare}) or die "can't rename: $!\n";
fake_mode($t, 'real');

# a builder that says of which revision its result is

mkdir("$d/contents");
$t->write_file('contents/file', "a file\n");

my $contents = store_add($t, 'contents');

for my $case ([$one, 200], [$base, 500]) {
    my ($revision, $status) = @$case;

    text_result($t, encode_json({
        graph => [{ path => $contents, narSize => 500, references => [] }],
        contents => $contents, revision => $revision,
    }));

    my $asked = calls($t, 'git');
    $r = from(8083, $status == 200 ? 'tiny' : 'tiny2', 'main');
    is($r->{status}, $status, "said revision, $status");
    is(calls($t, 'git') - $asked, 1, 'said revision, git runs once');
}

refused($r, 500, 'UNKNOWN', qr/^the\ builder's\ result\ is\ of\ revision
                               \ "$base",\ not\ of\ "$one"\ /x,
        'another revision');

# requests in a row, and at once as parts of a page: each waits twice

$commit = pushed($t, $set, 'in a row');
@replies = pipelined(received(http(join('',
    request('GET', 'mark', 'main', 'keep-alive'),
    request('HEAD', 'tiny', 'refs/heads/main', 'keep-alive'),
    request('GET', 'mark', $commit, 'keep-alive'),
    request('GET', 'tiny', 'main', 'close')), start => 1)),
    qw(GET HEAD GET GET));
is(scalar(grep { $_->{headers}{'nixery-revision'} eq $commit } @replies), 4,
   'in a row');
is($replies[2]{body}, $replies[0]{body}, 'in a row, same image');
is($replies[3]{headers}{'docker-content-digest'},
   $replies[1]{headers}{'docker-content-digest'}, 'in a row, the other');

$commit = pushed($t, $set, 'page');
$r = answer(http_get('/page.html', start => 1, at(8086)));
is($r->{body}, join(' and ', map { from(8080, $_, 'main')->{body} }
                             qw(tiny mark)), 'page');

# a client that is gone when its build runs

$commit = pushed($t, $set, 'left alone');
($n, @clients) = building($t, 8080, 'wait');
ok(eventually(sub { resolved($t, $commit) }), 'left alone, asked');
close($clients[0]);
http_get('/v2/');
go($t);
ok(eventually(sub { left_over($t) eq '' }), 'left alone, nothing left');
fake_mode($t, 'real');
is(from(8080, 'mark', $commit)->{headers}{'x-cache'}, 'HIT',
   'left alone, the image is stored');

# a reload while it is asked for

fake_mode($t, 'wait', 'git');
$n = calls($t, 'git');
my ($worker) = workers($t);
@clients = get(8080, 'tiny', 'main');
ok(eventually(sub { calls($t, 'git') > $n }), 'reload, git runs');
$t->reload();
ok(eventually(sub { leaving($worker) }), 'reload, worker is leaving');
go($t, 'git');
is(answer($clients[0])->{headers}{'nixery-revision'}, $commit,
   'reload, the client gets its image');
ok(eventually(sub { !-e "/proc/$worker" }), 'reload, worker exits');

is(left($t), '', 'nothing left');
is(truth($t), '', 'storage');

# an end while it is asked for

fake_mode($t, 'wait', 'git');
$n = calls($t, 'git');
@clients = get(8080, 'tiny', 'main');
ok(eventually(sub { calls($t, 'git') > $n }), 'end, git runs');
close($clients[0]);
$t->stop();
is(left_over($t), '', 'end, nothing left');

###############################################################################

sub at {
    my ($port) = @_;
    return (PeerAddr => '127.0.0.1:' . port($port));
}


sub get {
    my ($port, $name, $reference) = @_;
    return http_get("/v2/$name/manifests/$reference", start => 1, at($port));
}


sub answer {
    my ($socket) = @_;
    return reply(received($socket));
}


sub from {
    my ($port, $name, $reference) = @_;
    return answer(get($port, $name, $reference));
}


sub request {
    my ($method, $name, $reference, $connection) = @_;

    return "$method /v2/$name/manifests/$reference HTTP/1.1\x0d\x0a"
        . "Host: localhost\x0d\x0aConnection: $connection\x0d\x0a\x0d\x0a";
}


# The answers to those methods, one after the other.

sub pipelined {
    my ($text, @methods) = @_;
    my @answers;

    for my $method (@methods) {
        $text =~ s/^(HTTP.*?\x0d\x0a\x0d\x0a)//s or last;

        my $reply = reply($1);
        my $length = $reply->{headers}{'content-length'};

        $reply->{body} = substr($text, 0, $length, '') if $method eq 'GET';
        push @answers, $reply;
    }

    return @answers;
}


# A commit whose package "mark" is like no other's, on the server's main branch.

sub pushed {
    my ($test, $repo, $text) = @_;

    my $new = commit($repo, 'default.nix' => package_set($test, './set.nix',
        mark => "bb mkdir -p \$out; echo '$text' > \$out/mark"));

    point($repo, 'refs/heads/main');

    return $new;
}


# The layers of "mark" by path, where the work tree is at.

sub expected {
    my ($port) = @_;
    return digests(from($port, 'mark', 'latest'));
}


# A client whose build is running, in that mode of the fake nix-build, and how
# often that was called before.

sub building {
    my ($test, $port, $mode, $reference) = @_;

    fake_mode($test, $mode);

    my $before = calls($test);
    my $client = get($port, 'mark', $reference // 'main');

    eventually(sub { calls($test) > $before }) or die "no build runs\n";

    # it is done with what it may do now
    eventually(sub { processes($test) == 1 && !fetching($test) })
        if $mode eq 'after';

    return ($before, $client);
}


# How often a reference has been found to be that commit.

sub resolved {
    my ($test, $revision) = @_;
    return scalar(() = $test->read_file('error.log')
                           =~ /tag "\S+" is revision $revision,/g);
}


# Whether a nix-build runs that is the real one.

sub fetching {
    my ($test) = @_;

    return grep { (readlink("/proc/$_/exe") // '') !~ /perl/ }
           processes($test);
}


# Lets a fake nix-build take one of its two steps.

sub step {
    my ($test) = @_;

    go($test);
    eventually(sub { !-e $test->testdir() . '/fake/go' })
        or die "no step was taken\n";

    return;
}


sub left {
    my ($test) = @_;

    eventually(sub { left_over($test) eq '' });

    return left_over($test);
}

###############################################################################
