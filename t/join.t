#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Clients of one worker that ask for the same image share one build.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use IO::Select;

my $t = Test::Nginx->new()->has(qw/http http_v2 ssi/)
    ->plan(82);

prepare($t);

my $d = $t->testdir();

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

thread_pool small threads=1 max_queue=1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    add_header X-Cache \$nixery_cache always;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        location /v2 {
            ${\nixery($t)}
        }

        location /page.html {
            ssi on;
        }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        location / {
            ${\nixery($t)}
        }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, storage => "directory $d/another")}
        }
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, thread_pool => 'small')}
        }
    }

    server {
        listen       127.0.0.1:8084 http2;
        server_name  localhost;

        location /v2 {
            ${\nixery($t)}
        }
    }
}

EOF

$t->write_file('page.html', join ' and ', map {
    qq(<!--#include virtual="/v2/$_/manifests/latest"-->)
} qw(tiny tiny2));

$t->run();

###############################################################################

my ($r, $n, $before, $client, @clients, @replies);

my $image = manifest('tiny/tiny2');
my %body = (tiny => manifest('tiny')->{body}, tiny2 => manifest('tiny2')->{body},
            'tiny/tiny2' => $image->{body});

is(whole($image), '', 'image');
is($image->{headers}{'x-cache'}, 'MISS', 'image, new');

my ($worker) = workers($t);
my $descriptors = descriptors($worker);

# many clients, who don't all ask in the same way

$n = held($t);

@clients = map {
    my $name = (qw(tiny/tiny2 tiny2/tiny tiny/tiny/tiny2))[$_ % 3];
    my $uri = "/v2/$name/manifests/" . ($_ % 2 ? 'latest' : "v$_?ns=x");
    $_ % 5 ? http_get($uri, start => 1) : http_head($uri, start => 1);
} 1 .. 100;

ok(eventually(sub { calls($t) > $n }), 'nix-build runs');
seen();
is(calls($t) - $n, 1, 'nix-build runs once');
is(processes($t), 1, 'nix-build still runs');

# half of them go away, the first one among them

$before = seen();
close(splice(@clients, $_, 1)) for 0 .. 49;
ok(eventually(sub { seen() == $before - 50 }), 'half of them are gone');
is(processes($t), 1, 'nix-build runs on');

go($t);
@replies = map { answer($_) } @clients;
@clients = ();

is(scalar(grep { $_->{status} == 200 } @replies), 50, 'all are answered');
is(scalar(grep { $_->{body} eq $image->{body} } @replies), 40, 'bodies');
is(scalar(grep { $_->{body} eq '' } @replies), 10, 'no bodies of HEAD');

for my $header (qw/docker-content-digest content-length content-type etag/) {
    is(scalar(grep { $_->{headers}{$header} eq $image->{headers}{$header} }
              @replies), 50, "same $header");
}

is(scalar(grep { $_->{headers}{'x-cache'} eq 'WAIT' } @replies), 50,
   'all have joined');
is(calls($t) - $n, 1, 'one call for all');

is(manifest('tiny/tiny2')->{headers}{'x-cache'}, 'MISS', 'the next starts one');

# nobody is left

$n = held($t);
@clients = map { http_get('/v2/many/manifests/latest', start => 1) } 1 .. 10;
ok(eventually(sub { calls($t) > $n }), 'another image, nix-build runs');

$before = seen();
@clients = ();
ok(eventually(sub { seen() == $before - 10 }), 'all are gone');
is(processes($t), 1, 'nix-build runs on for nobody');
is(scalar(objects($t, 'manifests')), 3, 'not stored yet');

# who comes back, joins

$client = http_get('/v2/many/manifests/latest', start => 1);
seen();
close($client);

go($t);
ok(eventually(sub { objects($t, 'manifests') == 4 && left_over($t) eq '' }),
   'stored');
is(calls($t) - $n, 1, 'once');
is(whole(manifest('many')), '', 'and whole');

# all get the same error

fake_mode($t, 'closes');
$n = calls($t);
@clients = map { http_get('/v2/tiny/manifests/latest', start => 1) } 1 .. 5;
ok(eventually(sub { calls($t) > $n }), 'error, nix-build runs');
seen();
go($t);
@replies = map { answer($_) } @clients;

refused($_, 500, 'UNKNOWN', qr/printed no store path/, 'error') for @replies;
is(scalar(grep { $_->{body} eq $replies[0]{body} } @replies), 5, 'same error');

# locations that are configured alike are one registry

$n = held($t);
@clients = (http_get('/v2/tiny/manifests/latest', start => 1),
            from(8081, 'tiny'));
ok(eventually(sub { calls($t) > $n }), 'locations, nix-build runs');
seen();
is(calls($t) - $n, 1, 'for both');

push @clients, from(8082, 'tiny');
ok(eventually(sub { calls($t) - $n == 2 }), 'another storage, another build');
seen();

go($t);
@replies = map { answer($_) } @clients;
is($_->{body}, $body{tiny}, 'locations, same image') for @replies;
is(join(' ', sort map { $_->{headers}{'x-cache'} } @replies[0, 1]), 'MISS WAIT',
   'locations, joined');
is($replies[2]{headers}{'x-cache'}, 'MISS', 'another storage, not joined');
is(truth($t, "$d/another"), '', 'another storage');

# requests in a row on one connection

$n = held($t);
$client = http(request('GET', 'tiny') . request('HEAD', 'tiny2')
               . request('GET', 'tiny2'), start => 1);
ok(eventually(sub { calls($t) > $n }), 'pipeline, nix-build runs');
seen();
is(calls($t) - $n, 1, 'pipeline, one at a time');

# one more while the first waits

http(request('GET', 'tiny', 'close'), socket => $client, start => 1);
seen();
is(calls($t) - $n, 1, 'pipeline, the first still runs');
go($t);

@replies = pipelined(received($client), qw(GET HEAD GET GET));
is(scalar @replies, 4, 'pipeline, answers');
is($replies[0]{body}, $body{tiny}, 'pipeline, first');
is($replies[1]{headers}{'content-length'}, length($body{tiny2}),
   'pipeline, second');
is($replies[2]{body}, $body{tiny2}, 'pipeline, third');
is($replies[3]{body}, $body{tiny}, 'pipeline, fourth');

# who goes away with requests that have not begun

$n = held($t);
$client = http(request('GET', 'tiny') . request('GET', 'tiny2'), start => 1);
ok(eventually(sub { calls($t) > $n }), 'short pipeline, nix-build runs');
$before = seen();
close($client);
ok(eventually(sub { seen() == $before - 1 }), 'short pipeline, gone');
go($t);
ok(eventually(sub { left_over($t) eq '' }), 'short pipeline, ends');
is(calls($t) - $n, 1, 'short pipeline, nothing for nobody');

# requests with bodies: one that comes, one that never does

$n = held($t);
@clients = map {
    http("GET /v2/tiny/manifests/latest HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a"
         . "Content-Length: 4\x0d\x0aConnection: close\x0d\x0a\x0d\x0a$_",
         start => 1)
} 'body', 'bo';
ok(eventually(sub { calls($t) > $n }), 'body, nix-build runs');
$before = seen();
close($clients[1]);
ok(eventually(sub { seen() == $before - 1 }), 'half a body, gone');
go($t);
is(answer($clients[0])->{body}, $body{tiny}, 'body');
is(calls($t) - $n, 1, 'body, one build');

# the queue is full

$n = held($t);
@clients = from(8083, 'tiny');
ok(eventually(sub { calls($t) > $n }), 'queue, nix-build runs');
push @clients, from(8083, 'tiny2');
seen();

$r = answer(from(8083, 'many'));
refused($r, 429, 'TOOMANYREQUESTS', qr/too many builds/, 'queue, full');
like($r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'queue, retry after');

$r = reply(http_head('/v2/many/manifests/latest',
                     PeerAddr => '127.0.0.1:' . port(8083)));
is($r->{status}, 429, 'queue, head');
like($r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'queue, head, retry after');

# what is being built, or waits for it, can be joined

push @clients, from(8083, 'tiny'), from(8083, 'tiny2');
seen();
is(calls($t) - $n, 1, 'queue, one at a time');

go($t);
@replies = map { answer($_) } @clients;
is($_->{body}, $body{tiny}, 'queue, the one that ran') for @replies[0, 2];
is($_->{body}, $body{tiny2}, 'queue, the one that waited') for @replies[1, 3];
is(calls($t) - $n, 2, 'queue, two builds');
is(whole(answer(from(8083, 'many'))), '', 'queue, retried');

# subrequests

$n = held($t);
$client = http_get('/page.html', start => 1);
ok(eventually(sub { calls($t) - $n == 2 }), 'page, both builds run');
push @clients, http_get('/v2/tiny/manifests/latest', start => 1);
seen();
go($t);
$r = answer($client);
is($r->{body}, "$body{tiny} and $body{tiny2}", 'page');
is(answer($clients[-1])->{headers}{'x-cache'}, 'WAIT', 'page is joined');

$n = held($t);
$client = http_get('/page.html', start => 1);
ok(eventually(sub { calls($t) - $n == 2 }), 'short page, both builds run');
$before = seen();
close($client);
ok(eventually(sub { seen() < $before }), 'short page, gone');
go($t);
ok(eventually(sub { left_over($t) eq '' }), 'short page, builds end');

# streams of one HTTP/2 connection; half of them are reset

$n = held($t);
$client = http("PRI * HTTP/2.0\x0d\x0a\x0d\x0aSM\x0d\x0a\x0d\x0a"
               . frame(4, 0, 0, '')
               . join('', map { stream(2 * $_ - 1, 'tiny2') } 1 .. 20),
               start => 1, PeerAddr => '127.0.0.1:' . port(8084));
ok(eventually(sub { calls($t) > $n }), 'HTTP/2, nix-build runs');
http(join('', map { frame(3, 0, 4 * $_ - 3, pack('N', 8)) } 1 .. 10),
     socket => $client, start => 1);
seen();
go($t);

my %streams = streams($client, 10);
is(join(' ', sort { $a <=> $b } keys %streams),
   join(' ', map { 4 * $_ - 1 } 1 .. 10), 'HTTP/2, streams');
is(scalar(grep { $_ eq $body{tiny2} } values %streams), 10, 'HTTP/2, bodies');
is(calls($t) - $n, 1, 'HTTP/2, one build');
close($client);

# and all is as it was

ok(eventually(sub { left_over($t) eq '' && !children($worker) }),
   'nothing left');
ok(eventually(sub { descriptors($worker) == $descriptors }), 'descriptors');
is(join(' ', workers($t)), $worker, 'same worker');
is(truth($t), '', 'storage');

###############################################################################

# From now on nix-build waits until it may go on; the calls of it so far.

sub held {
    my ($test) = @_;

    fake_mode($test, 'wait');

    return scalar(calls($test));
}


# Returns when the worker has seen all that was sent before, since events of
# connections come in that order; how many descriptors it has.

sub seen {
    my $r = reply(http_get('/v2/'));
    die "no answer: $r->{status}\n" if $r->{status} != 200;

    return descriptors($worker);
}


sub from {
    my ($port, $name) = @_;

    return http_get("/v2/$name/manifests/latest", start => 1,
                    PeerAddr => '127.0.0.1:' . port($port));
}


sub answer {
    my ($socket) = @_;
    return reply(received($socket));
}


sub request {
    my ($method, $name, $connection) = @_;

    $connection //= 'keep-alive';

    return "$method /v2/$name/manifests/latest HTTP/1.1\x0d\x0a"
        . "Host: localhost\x0d\x0aConnection: $connection\x0d\x0a\x0d\x0a";
}


# The answers to those methods, one after the other.

sub pipelined {
    my ($text, @methods) = @_;
    my @answers;

    for my $method (@methods) {
        $text =~ s/^(HTTP.*?\x0d\x0a\x0d\x0a)//s or last;

        my $answer = reply($1);
        my $length = $answer->{headers}{'content-length'};

        $answer->{body} = substr($text, 0, $length, '') if $method eq 'GET';
        push @answers, $answer;
    }

    return $text eq '' ? @answers : ();
}


# --- HTTP/2, as far as it is needed: RFC 9113, section 4.1; RFC 7541, section 6

sub frame {
    my ($type, $flags, $id, $payload) = @_;
    my $length = length($payload);

    return pack('CnCCN', $length >> 16, $length & 0xffff, $type, $flags, $id)
        . $payload;
}


sub stream {
    my ($id, $name) = @_;
    my $path = "/v2/$name/manifests/latest";

    # GET, http, the path, the authority
    return frame(1, 5, $id, "\x82\x86\x04" . chr(length($path)) . $path
                            . "\x01\x09localhost");
}


# The bodies of so many streams that end well, by their numbers.

sub streams {
    my ($socket, $count) = @_;
    my ($text, %bodies, %ended) = '';
    my $select = IO::Select->new($socket);

    while (keys %ended < $count && $select->can_read(60)
           && sysread($socket, $text, 65536, length($text)))
    {
        while (length($text) >= 9) {
            my ($high, $low, $type, $flags, $id) = unpack('CnCCN', $text);
            my $length = ($high << 16) + $low;

            last if length($text) < 9 + $length;

            my $payload = substr(substr($text, 0, 9 + $length, ''), 9);

            $bodies{$id} .= $payload if $type == 0;
            $ended{$id} = 1 if $type == 0 && $flags & 1;
        }
    }

    return map { $_ => $bodies{$_} } keys %ended;
}

###############################################################################
