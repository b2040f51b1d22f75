#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# What a builder may give as its result, and what it may not.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use JSON::PP;

my $path = '/nix/store/' . '0' x 32 . '-x';
my $other = '/nix/store/' . '1' x 32 . '-y';
my $node = qq({"path":"$path","narSize":1,"references":[]});
my $graph = qq({"contents":"$path","graph":[$node]});

# a result, and what is wrong with it

my @malformed = (
    ['', qr/^the builder's result is not valid JSON: it ends too early, at/],
    ['not found', qr/^the builder's result is not valid JSON: a value is expe/],
    [substr($graph, 0, -1), qr/is not valid JSON: "," or "\}" is expected, at/],
    [substr($graph, 0, -9), qr/is not valid JSON/],
    ["$graph$graph", qr/something stands behind the value, at byte \d+/],
    ['[' x 100_000, qr/is nested too deeply, at byte 64 /],
    ['{"a":' x 100_000, qr/is nested too deeply, at byte 320 /],
    ['[0' . ',0' x 4_000_000 . ']', qr/it has too many values, at byte /],
    [qq({"graph":[],"graph":[$node]}), qr/has the key "graph" twice in one/],
    [qq({"graph":[],"gr\\u0061ph":[$node]}), qr/has the key "graph" twice in/],
    [qq({"\xff":1}), qr/a string is not UTF-8, at byte 2 /],
    [qq({"graph":"\xed\xa0\x80"}), qr/a string is not UTF-8, at byte 10 /],
    [qq({"graph":"\\ud800"}), qr/half a surrogate pair/],
    [qq({"graph":"a\\u0000b"}), qr/a string has a NUL/],
    [qq({"graph":"a\nb"}), qr/a string has a control character/],
    [$graph =~ s/:1,/:1e400,/r, qr/a number is too large, at byte /],
    [$graph =~ s/:1,/:@{['9' x 5000]},/r, qr/a number is too long, at byte /],
    [$graph =~ s/:1,/:NaN,/r, qr/a value is expected, at byte /],
    [$graph =~ s/:1,/:-1,/r, qr/"narSize" of "$path" is not a size in bytes/],
    [$graph =~ s/:1,/:1.5,/r, qr/"narSize" of "$path" is not a size in bytes/],
    [$graph =~ s/:1,/:1e30,/r, qr/"narSize" of "$path" is not a size in byte/],
    [$graph =~ s/:1,/:"1",/r, qr/"narSize" of "$path" is not a size in bytes/],

    ['[]', qr/^the builder's result is malformed: it is not an object/],
    ['null', qr/^the builder's result is malformed: it is not an object/],
    ['{}', qr/none of the keys "error", "manifest", "graph" and "runtimeGraph"/],
    ['{"Graph":[],"ERROR":"x"}', qr/has none of the keys "error", "manifest", "/],
    ['{"graph":{}}', qr/"graph" is not a list/],
    [qq({"graph":[$node]}), qr/"contents" is not a store path/],
    [qq({"graph":[],"contents":"$path"}), qr/"contents" is not in the graph/],
    [qq({"graph":[$node,$node],"contents":"$path"}), qr/has "$path" twice/],
    [$graph =~ s/"contents":"[^"]*"/"contents":"\/etc"/r,
     qr/"contents" is not a store path/],
    [$graph =~ s/\[\{"path":"[^"]*"/[{"path":"\/etc\/passwd"/r,
     qr/an entry of "graph" has no "path" that is a store path/],
    [$graph =~ s/\[\{"path":"[^"]*"/[{"path":"$path\/..\/..\/..\/etc"/r,
     qr/an entry of "graph" has no "path" that is a store path/],
    [$graph =~ s/"references":\[\]/"references":{}/r,
     qr/"references" of "$path" is not a list/],
    [$graph =~ s/"references":\[\]/"references":["$other"]/r,
     qr/"$path" refers to "$other", which is not in the graph/],
    [$graph, qr/\Q$path\E": No such file or directory/],

    ['{"error":404}', qr/"error" is not a string/],
    ['{"error":"not_found","pkgs":"a"}', qr/"pkgs" is not a list/],
    ['{"error":"not_found","pkgs":[' . join(',', ('"a"') x 1001) . ']}',
     qr/"pkgs" has 1001 entries, at most 1000 are taken/],
    ['{"error":"x","message":"' . 'x' x 70_000 . '"}',
     qr/its error has more than 65536 bytes/],
);

# errors that a builder may give

my @errors = (
    ['{"error":"not_found","pkgs":["nope"]}', qr/^package not found: "nope"$/],
    ['{"error":"not_found","pkgs":["a","b"],"unknown":[1]}',
     qr/^packages not found: "a", "b"$/],
    ['{"error":"quota","message":"too\u000alarge","pkgs":["b"]}',
     qr/^too large; package can't be used: "b"$/],
    ['{"error":"any kind"}', qr/^the builder says "any kind"$/],
);

my $t = Test::Nginx->new()->has(qw/http/)
    ->plan(2 * @malformed + @errors + 14);

prepare($t);

my $d = $t->testdir();
my $directives = nixery($t, builder => "$d/packages/text.nix",
                        nix_build => 'nix-build');

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        location /v2 {
            $directives
        }
    }
}

EOF

$t->run();

###############################################################################

my ($r, $config);

# a worker has its title when it answers
is(reply(http_get('/v2/'))->{status}, 200, 'base');
my ($worker) = workers($t);

for my $case (@malformed) {
    my ($result, $like) = @$case;
    my $name = substr($result, 0, 60) =~ s/[^\x20-\x7e]/?/gr;

    text_result($t, $result);
    refused(manifest('x'), 500, 'UNKNOWN', $like, $name);

    # not even a blob
    is(join(' ', objects($t, '*')), '', "$name, storage");
}

for my $case (@errors) {
    my ($result, $like) = @$case;

    text_result($t, $result);
    refused(manifest('x'), 404, 'MANIFEST_UNKNOWN', $like, "$like");
}

like($t->read_file('error.log'), qr/\[info\].*: too large; package can't/,
     'one line of the log');

# what is right, and more than that

mkdir("$d/contents");
mkdir("$d/contents/bin");
$t->write_file('contents/bin/hello', "#!/bin/sh\n");

my $contents = store_add($t, 'contents');

text_result($t, encode_json({
    graph => [{ path => $contents, narSize => 500, closureSize => 500,
                references => [$contents], unknown => [undef] }],
    contents => $contents, imageSystem => 'aarch64-linux', Error => 'no key',
    more => { graph => 1 }, version => '2',
}));

$r = manifest('x');
is(whole($r), '', 'closure');

$config = reply(http_get("/v2/x/blobs/$r->{json}{config}{digest}"))->{json};
is($config->{architecture}, 'arm64', 'system of the image');

text_result($t, encode_json({
    graph => [{ path => $contents, narSize => 500, references => [] }],
    contents => $contents,
}));

$r = manifest('x');
is(whole($r), '', 'closure, nothing but what it needs');

$config = reply(http_get("/v2/x/blobs/$r->{json}{config}{digest}"))->{json};
isnt($config->{architecture}, undef, 'system of the machine');

text_result($t, encode_json({
    graph => [{ path => $contents, narSize => 500, references => [] }],
    contents => $contents, imageSystem => "z80\n-cpm",
}));
refused(manifest('x'), 500, 'UNKNOWN',
        qr/^system "z80 -cpm" has no platform in container images/,
        'unknown system');

# another result of the same image

my @manifests = objects($t, 'manifests');
is(scalar @manifests, 1, 'one key');

text_result($t, '{"error":"not_found","pkgs":["gone"]}');
refused(manifest('x'), 404, 'MANIFEST_UNKNOWN', qr/"gone"/, 'gone');

# nothing is left of all these

ok(eventually(sub { left_over($t) eq '' && !children($worker) }),
   'nothing left');
is(truth($t), '', 'storage');
is(join(' ', workers($t)), $worker, 'same worker');
is(join(' ', objects($t, 'manifests')), "@manifests", 'key is kept');
is($r->{body}, manifest('x', $r->{headers}{'docker-content-digest'})->{body},
   'by its digest');

###############################################################################
