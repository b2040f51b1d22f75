#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Popularity of images that are pulled: which packages have layers of their own,
# when a table is fetched, who waits for it, and what happens without one.

use warnings;
use strict;

use File::Find;
use IO::Select;
use IO::Socket::INET;
use MIME::Base64;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryChannel;
use Test::NixeryGit;
use Test::NixeryGitServers;

use constant {
    HELD => 8099,       # its answers wait for the test
    IMAGE => 'amber/bronze/copper/diamond',

    # the layers of the image, without a table and with it
    BY_SIZE => 'diamond copper amber+bronze',
    BY_TABLE => 'amber diamond bronze+copper',

    USER => 'planted-user',
    PASSWORD => 'planted pass',
    WRONG => 'planted-mistake',
};

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('fcgiwrap')->plan(90);

prepare($t);

my $d = $t->testdir();

# four packages, each larger than the one before

my %sizes = (amber => 40, bronze => 50, copper => 60, diamond => 70);
my %scripts = map { $_ => "bb mkdir -p \$out/share; bb head -c $sizes{$_}000 "
                          . "/dev/zero > \$out/share/$_" } keys %sizes;

$t->write_file('packages/popular.nix',
               package_set($t, './default.nix', %scripts));

my $set = repository($t, 'set');
my $commit = commit($set, 'default.nix' => package_set($t, './set.nix',
                                                       %scripts));
point($set, 'refs/heads/main');
tarball($set, "$commit.tar.gz");

my $http = 'http://127.0.0.1:' . port(Test::NixeryGitServers::HTTP);
my $table = '{ "amber": 1000000, "bronze": 1 }';

$t->write_file($_, $table) for qw(table.json copy.json git/files/table.json);
$t->write_file('broken.json', '{ "amber": 1');
chmod(0644, glob("$d/*.json"));

mkdir("$d/go");

serve($t, qw(http silent));
$t->write_file('git/users', USER . ':{PLAIN}' . PASSWORD . "\n");

$t->run_daemon(\&hold, port(HELD), $d, $table);
$t->waitforsocket('127.0.0.1:' . port(HELD)) or die "no server\n";

# what is no good, and what is said of it

my $login = USER . ':' . PASSWORD =~ s/ /%20/r;
my $answered = '127.0.0.1 answered';

my %bad = (
    missing => ["$d/missing.json",
                qq{can't open "$d/missing.json": No such file or directory}],
    broken => ["$d/broken.json",
               qq{"$d/broken.json" is not valid JSON: "," or "\}" is expected, }
               . 'at byte 12'],
    gone => [table('none.json'),
             qq{can't get "$http/files/none.json": $answered 404}],
    refused => [table('table.json', port => NOBODY),
                q{can't get "http://127.0.0.1:} . port(NOBODY)
                . '/files/table.json": Connection refused'],
    text => [channel_url('page', 'table.json'),
             qq{"$http/page/table.json" is not valid JSON: }
             . 'a value is expected, at byte 0'],
    sick => [channel_url('broken', 'table.json'),
             qq{can't get "$http/broken/table.json": $answered 503}],
    closed => [channel_url('private_files', 'table.json'),
               qq{can't get "$http/private_files/table.json": $answered 401; }
               . 'it wants a user and a password in the URL'],
    denied => [channel_url('private_files', 'table.json',
                           login => USER . ':' . WRONG),
               qq{can't get "$http/private_files/table.json": $answered 401; }
               . 'the URL\'s user and password are no good there'],
    silent => [table('table.json', port => SILENT),
               q{can't get "http://127.0.0.1:} . port(SILENT)
               . '/files/table.json": Operation timed out'],
);

my %sources = (
    path => [undef, 'latest'],
    git => [git_packages($t, 'http', $set), 'main'],
    commit => [git_packages($t, 'http', $set), $commit],
    channel => ['channel main', 'latest'],
);

my %locations = (
    none => {},
    off => { popularity => 'off' },
    file => { popularity => "$d/table.json" },
    copy => { popularity => "$d/copy.json" },
    url => { popularity => table('table.json') },
    private => { popularity => channel_url('private_files', 'table.json',
                                           login => $login) },
    (map { $_ => { popularity => $bad{$_}[0] } } keys %bad),
    (map { $_ => { popularity => table('table.json', query => $_),
                   packages => $sources{$_}[0],
                   channel_url => channel_url('forge', '$channel.tar.gz') } }
     keys %sources),
    (map { $_ => { popularity => 'http://127.0.0.1:' . HELD . "/$_" } }
     qw(together alone reload left quit stop)),
);

configure($t, %locations);
$t->run();

###############################################################################

my ($r, $n, $calls, $worker, $client, @clients, @replies);

# a silent one has its time, while the others are asked

my $silent = ask('silent');

# a file

$r = pull('none');
my $digest = $r->{headers}{'docker-content-digest'};
is(layers($r), BY_SIZE, 'no table');
is(whole($r), '', 'no table, whole');

$r = pull('file');
is(layers($r), BY_TABLE, 'a file');
is(whole($r), '', 'a file, whole');
isnt($r->{headers}{'docker-content-digest'}, $digest, 'a file, another digest');
is(scalar(objects($t, 'manifests')), 2, 'a file, another key');

is(pull('copy')->{body}, $r->{body}, 'the same table in another file');
is(pull('off')->{headers}{'docker-content-digest'}, $digest, 'off');
is(scalar(objects($t, 'manifests')), 2, 'nothing new');

# no good

for my $name (sort grep { $_ ne 'silent' } keys %bad) {
    @replies = (pull($name), pull($name));

    is(join(' ', map { $_->{headers}{'docker-content-digest'} // $_->{body} }
                 @replies), "$digest $digest", "$name, an image as without");
    is(join(' ', told($t, $bad{$name}[1])), 'warn', "$name, one warning");
}

is(join(' ', requests($t)), join(' ',
   '/private_files/table.json 401', '/private_files/table.json 401',
   '/files/none.json 404', '/broken/table.json 503', '/page/table.json 200'),
   'each URL is asked once');

# a URL

is(layers(pull('url')), BY_TABLE, 'a URL');
is(layers(pull('url', 'amber/bronze/copper')), 'amber copper bronze',
   'a URL, another image');
is(join(' ', requests($t)), '/files/table.json 200', 'a URL, asked once');

is(layers(pull('private')), BY_TABLE, 'a password');
is(join(' ', requests($t)), '/private_files/table.json 200',
   'a password, let in');

# every kind of source waits for its first table

for my $name (sort keys %sources) {
    $r = pull($name, IMAGE, $sources{$name}[1]);
    is(layers($r), BY_TABLE, "$name, by the first table");
    is($r->{headers}{'nixery-revision'} // '', $name eq 'path' ? '' : $commit,
       "$name, revision");
}

is(join(' ', grep { /table/ } requests($t)),
   join(' ', map { "/files/table.json?$_ 200" } sort keys %sources),
   'each fetched its own');

# a server that is silent

$r = answer($silent);
is($r->{headers}{'docker-content-digest'}, $digest, 'silent');
is(pull('silent')->{body}, $r->{body}, 'silent, once more');
is(join(' ', told($t, $bad{silent}[1])), 'warn', 'silent, one warning');

# many at once; the first of them goes away

$calls = () = calls($t);
@clients = map { ask('together', $_) }
           (IMAGE, qw(amber bronze copper diamond), IMAGE);
ok(eventually(sub { asked($t, 'together') }), 'together, asked');

$n = hung_up($t);
close(shift @clients);
ok(eventually(sub { hung_up($t) > $n }), 'together, one is gone');
seen();
is(scalar(() = calls($t)), $calls, 'together, all wait');

go_on($t, 'together');
@replies = map { answer($_) } @clients;
is(join(' ', map { $_->{status} } @replies), '200 200 200 200 200',
   'together, images');
is(layers($replies[4]), BY_TABLE, 'together, by the table');
is(asked($t, 'together'), 1, 'together, asked once');

# nobody is left who waits

$client = ask('alone');
ok(eventually(sub { asked($t, 'alone') }), 'alone, asked');

$n = hung_up($t);
close($client);
ok(eventually(sub { hung_up($t) > $n }), 'alone, gone');

go_on($t, 'alone');
is(layers(pull('alone')), BY_TABLE, 'alone, the next one has the table');
is(asked($t, 'alone'), 1, 'alone, asked once');

# a reload while one waits, and while nobody does any more

$client = ask('reload');
ok(eventually(sub { asked($t, 'reload') }), 'reload, asked');

($worker) = workers($t);
$t->reload();
ok(eventually(sub { leaving($worker) }), 'reload, worker is leaving');

go_on($t, 'reload');
is(layers(answer($client)), BY_TABLE, 'reload, the client has its image');
ok(eventually(sub { !-e "/proc/$worker" && workers($t) == 1 }),
   'reload, worker exits');

$client = ask('left');
ok(eventually(sub { asked($t, 'left') }), 'left, asked');

$n = hung_up($t);
close($client);
ok(eventually(sub { hung_up($t) > $n }), 'left, client is gone');
ok(reloaded($t), 'left, worker exits');
is(join(' ', told($t, q{can't get "http://127.0.0.1:} . port(HELD))), '',
   'left, canceled');

# another table in the file, and none

$t->write_file('table.json', '{ "bronze": 1000000 }');
ok(reloaded($t), 'reload');
is(layers(pull('file')), 'bronze diamond amber+copper', 'another table');

unlink("$d/table.json");
ok(reloaded($t), 'reload');
is(pull('file')->{headers}{'docker-content-digest'}, $digest,
   'no table, as before');

# a quit while one waits, and while nobody does

$client = ask('quit');
ok(eventually(sub { asked($t, 'quit') }), 'quit, asked');

($worker) = workers($t);
kill('QUIT', $t->read_file('nginx.pid'));
ok(eventually(sub { leaving($worker) }), 'quit, worker is leaving');

go_on($t, 'quit');
is(layers(answer($client)), BY_TABLE, 'quit, the client has its image');
ok(ended($t), 'quit, nginx exits');

$t->run();
$client = ask('silent');
seen();

$n = hung_up($t);
close($client);
ok(eventually(sub { hung_up($t) > $n }), 'nobody, client is gone');

kill('QUIT', $t->read_file('nginx.pid'));
ok(ended($t), 'nobody, nginx exits');
is(join(' ', told($t, $bad{silent}[1])), 'warn', 'nobody, canceled');

# a stop

$t->run();
$client = ask('stop');
ok(eventually(sub { asked($t, 'stop') }), 'stop, asked');

kill('TERM', $t->read_file('nginx.pid'));
ok(ended($t), 'stop, nginx exits');
is(answer($client)->{status}, 0, 'stop, no answer');

# what was fetched before a restart

requests($t);
$t->run();

is(layers(pull('url')), BY_TABLE, 'started again');
is(join(' ', requests($t)), '/files/table.json 304', 'asked by its ETag');

$t->stop();
wipe($t);

kill('QUIT', $t->read_file('git/nginx.pid'));
ok(eventually(sub { !-e "$d/git/nginx.pid" }), 'the server is gone');

# and what the environment says

$n = () = told($t, qq{can't get "$http/files/table.json": });

{
    local $ENV{NIX_POPULARITY_URL} = "$d/copy.json";
    $t->run();
}

is(layers(pull('url')), BY_TABLE, 'the server is gone, its table is kept');
is(scalar(() = told($t, qq{can't get "$http/files/table.json": })), $n + 1,
   'the server is gone, one warning');

is(layers(pull('none')), BY_TABLE, 'a table that the environment names');
is(pull('off')->{headers}{'docker-content-digest'}, $digest,
   'off in spite of the environment');

# nothing of it was more than a warning; nothing is left, no secret told

is(join("\n", grep { / \[(?:error|crit|alert|emerg)\] / }
              split /\n/, $t->read_file('error.log')), '', 'no errors');
is(left_over($t), '', 'nothing left');
is(join(' ', grep { !m{/[0-9a-f]{64}(?:\.json|\.nix)?$} }
             glob("$d/temp/downloads/*")), '', 'no half downloads');
is(truth($t), '', 'storage');

my $said = qx($Test::Nginx::NGINX -t -p '$d/' -c nginx.conf -e error.log 2>&1);
like($said, qr/test is successful/, 'nginx -t');

$t->stop();
isnt(planted($t->read_file('nginx.conf')), '', 'secrets are seen');
is(planted($said), '', 'nginx -t, what it says');
is(files($d), '', 'files');

###############################################################################

# The URL of a file in git/files.

sub table {
    my ($file, %extra) = @_;
    return channel_url('files', $file, %extra);
}


# One server each, by that name.

sub configure {
    my ($t, %locations) = @_;
    my $d = $t->testdir();

    my $servers = join '', map {
        my %directives = (max_layers => 4, %{$locations{$_}});

        $directives{packages} //= "path $d/packages/popular.nix";

        $directives{channel_url} = "'$directives{channel_url}'"
            if defined $directives{channel_url};

        registry(8080, nixery($t, %directives))
            =~ s/server_name  localhost/server_name  $_/r;
    } sort keys %locations;

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

    return;
}


# A server that tells in "asked" what it is asked for, and sends the table when
# there is a file of that name in "go".

sub hold {
    my ($port, $d, $table) = @_;
    my (@new, @held);

    $SIG{PIPE} = 'IGNORE';

    my $server = IO::Socket::INET->new(Proto => 'tcp', Listen => 64,
                                       LocalAddr => "127.0.0.1:$port",
                                       ReuseAddr => 1)
        or die "can't listen on port $port: $!\n";
    my $select = IO::Select->new($server);

    open(my $asked, '>', "$d/asked") or die "can't create a file: $!\n";
    $asked->autoflush(1);

    while (1) {
        for my $socket ($select->can_read(0.02)) {
            if ($socket == $server) {
                $select->add($server->accept());
                next;
            }

            # one packet has it all
            $select->remove($socket);
            sysread($socket, my $request, 65536) or next;

            my ($name) = $request =~ m{^GET /(\w+) } or next;

            push @held, [$name, $socket];
            print $asked "$name\n";
        }

        for my $held (grep { -e "$d/go/$_->[0]" } @held) {
            my ($name, $socket) = @$held;

            syswrite($socket, "HTTP/1.1 200 OK\x0d\x0aConnection: close\x0d\x0a"
                              . 'Content-Length: ' . length($table)
                              . "\x0d\x0a\x0d\x0a$table");
            close($socket);
        }

        @held = grep { $_->[1]->opened() } @held;
    }

    return;
}


sub go_on {
    my ($t, $name) = @_;
    $t->write_file("go/$name", '');
    return;
}


# How often it was asked for that.

sub asked {
    my ($t, $name) = @_;
    return scalar(() = $t->read_file('asked') =~ /^$name$/mg);
}


# The image, or another one, of the server with that name.

sub ask {
    my ($name, $image, $tag) = @_;

    $image //= IMAGE;
    $tag //= 'latest';

    return http("GET /v2/$image/manifests/$tag HTTP/1.0\x0d\x0a"
                . "Host: $name\x0d\x0a\x0d\x0a", start => 1);
}


sub pull {
    return reply(received(ask(@_)));
}


sub answer {
    my ($socket) = @_;
    return reply(received($socket));
}


# Returns when the worker has seen all that was sent before.

sub seen {
    my $r = reply(http_get('/v2/'));
    die "no answer: $r->{status}\n" if $r->{status} != 200;
    return;
}


# Requests whose client did not wait.

sub hung_up {
    my ($t) = @_;
    return scalar(() = $t->read_file('access.log') =~ /" 499 /g);
}


sub ended {
    my ($t) = @_;
    return eventually(sub { !-e $t->testdir() . '/nginx.pid' });
}


# Which packages share which layer, the lowest first.

sub layers {
    my ($r) = @_;
    my @layers;

    return "status $r->{status}: $r->{body}" if $r->{status} != 200;

    for my $digest (split / /, digests($r)) {
        my $file = "$d/storage/layers/" . $digest =~ s/^sha256://r;
        my %names = map { $_ => 1 }
                    qx(tar -tzf $file) =~ m{nix/store/\w{32}-(\w+)/share/}g;

        push @layers, join '+', sort keys %names if %names;
    }

    return join ' ', @layers;
}


# The levels of what a worker says that begins so.

sub told {
    my ($t, $message) = @_;

    return $t->read_file('error.log')
           =~ /\[(\w+)\]\ .*popularity\ is\ not\ up\ to\ date,
               \ build\ \w+:\ \Q$message\E/gx;
}


# Files that have a secret, but for those of the servers and the configuration.

sub files {
    my ($dir) = @_;
    my @found;

    find({ no_chdir => 1, wanted => sub {
        $File::Find::prune = 1 if m{^\Q$dir\E/(?:git|packages|builder)$};

        return if !-f $_ || $_ eq "$dir/nginx.conf";

        open(my $fh, '<', $_) or die "can't open \"$_\": $!\n";
        local $/;
        my $found = planted(<$fh> // '');
        push @found, "$_ $found" if $found ne '';
    } }, $dir);

    return join ' ', @found;
}


# Those that a text has, as they are or as they are sent.

sub planted {
    my ($text) = @_;

    my @secrets = (USER, PASSWORD, PASSWORD =~ s/ /%20/r, WRONG,
                   map { encode_base64(USER . ":$_", '') } PASSWORD, WRONG);

    return join ' ', grep { index($text, $_) >= 0 } @secrets;
}

###############################################################################
