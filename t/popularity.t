#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Popularity: what "nginx -t" says of the directive, and the table that "make
# popularity" makes of a package set.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use POSIX ();
use Test::Nginx;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http/);
my $d = $t->testdir();

prepare($t);

###############################################################################

# What "nginx -t" prints of a configuration, and its exit code.

sub check {
    my ($t, $http) = @_;
    my $d = $t->testdir();

    $t->write_file_expand('test.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%
    $http
}

EOF

    my $command = "$Test::Nginx::NGINX -t -p '$d/' -c test.conf -e error.log";
    my $output = qx($command 2>&1);

    return ($output, $? >> 8);
}


sub location {
    my ($t, %directives) = @_;
    return "location /v2 {\n" . nixery($t, %directives) . "\n}\n";
}


sub server {
    my ($t, %directives) = @_;
    return "server { listen 127.0.0.1:8080;\n" . location($t, %directives)
        . "}\n";
}


# The messages of a level, without their places.

sub messages {
    my ($level, $output) = @_;
    return map { s/ in \S+:\d+$//r } $output =~ /^nginx: \[$level\] (.*)$/gm;
}


# One test: refused with that message, and no other.

sub wrong {
    my ($t, $value, $message, $name) = @_;

    my ($output, $code) = check($t, server($t, popularity => $value));

    ok($code == 1 && join("\n", messages('emerg', $output)) eq $message
       && $output !~ /runtime error|Sanitizer|secret/, "refused: $name")
        or diag("exit code $code: $output");

    return;
}


# One test: accepted, with those warnings.

sub right {
    my ($t, $http, $warnings, $name) = @_;

    my ($output, $code) = check($t, $http);
    my @warnings = map { '"nixery_popularity" is not used, until this is '
                         . "mended: $_" } @$warnings;

    ok($code == 0
       && join("\n", messages('warn', $output)) eq join("\n", @warnings)
       && $output !~ /\[(?:error|crit|alert|emerg)\]/
       && $output !~ /runtime error|Sanitizer|secret/, "accepted: $name")
        or diag("exit code $code: $output");

    return;
}


# Exit code, standard output and standard error of what counts.

sub count {
    my ($t, @arguments) = @_;
    my $d = $t->testdir();

    my $pid = fork() // die "can't fork: $!\n";

    if ($pid == 0) {
        $ENV{NIX_REMOTE} = 'daemon';
        $ENV{NIX_CONFIG} = 'substitute = false';
        open(STDOUT, '>', "$d/count.out") or POSIX::_exit(127);
        open(STDERR, '>', "$d/count.err") or POSIX::_exit(127);
        exec('../conf/nix/popularity/count.pl', @arguments)
            or POSIX::_exit(127);
    }

    waitpid($pid, 0);

    return ($? >> 8, $t->read_file('count.out'), $t->read_file('count.err'));
}

###############################################################################

$t->write_file('good.json', '{ "glibc-2.36-9": 300000, "bash-5.2": 7 }');
$t->write_file('empty.json', '{ }');
$t->write_file('text.json', "none\n");
$t->write_file('list.json', '[ ]');
$t->write_file('negative.json', '{ "good": 1, "bash-5.2": -1 }');
$t->write_file('nothing.json', '');
$t->write_file('closed.json', '{ }');
$t->write_file('off', '{ }');

mkdir("$d/folder.json");
POSIX::mkfifo("$d/fifo.json", 0777);

chmod(0644, glob("$d/*.json"), "$d/off");
chmod(0755, "$d/folder.json");
chmod(0600, "$d/closed.json");

my $invalid = 'invalid URL in "nixery_popularity":';
my $twice = '"nixery_popularity" directive is duplicate';

# value, message, what is wrong; nothing that is "secret" may be shown

my @wrong = (
    ['""', 'empty path in "nixery_popularity"', 'empty'],
    ['a b', 'invalid number of arguments in "nixery_popularity" directive',
     'two files'],
    ["$d/good.json; nixery_popularity $d/good.json", $twice, 'a file twice'],
    ["off; nixery_popularity $d/good.json", $twice, 'off and a file'],
    ["$d/good.json; nixery_popularity off", $twice, 'a file and off'],
    ['http://127.0.0.1/a; nixery_popularity http://127.0.0.1/b', $twice,
     'two URLs'],

    (map { ["$_://user:secret\@127.0.0.1/secret?secret",
            "$invalid its protocol is not one of: https http",
            "protocol $_"] }
     qw(ftp file git ssh httpx)),
    ['://127.0.0.1/secret', "$invalid its protocol is not one of: https http",
     'no protocol'],
    ['https:///secret', "$invalid it has no host", 'no host'],
    ['https://', "$invalid it has no host", 'a protocol alone'],
    ['https://user:secret@/x', "$invalid it has no host",
     'a user, but no host'],
    (map { [$_, "$invalid behind its host is no port; in a user or a password "
            . '"/" is written %2F, "?" %3F and "#" %23', $_ =~ s/secret/x/r] }
     (map { "https://user:secret\@127.0.0.1:$_/" } qw(0 65536 x -1 1.5)),
     'https://user:pass/secret@127.0.0.1/'),
    ['"https://127.0.0.1/sec ret"', "$invalid its byte 22 can't stand in a "
     . 'URL, %20 can', 'a space in a URL'],
    ['https://user:%zzsecret@127.0.0.1/', "$invalid its password has a \"%\" "
     . 'without two hexadecimal digits of a character',
     'a malformed password'],
);

# value, what is said of it, what it is

my $none = qq{can't open "$d/none.json": No such file or directory};
my $folder = qq{"$d/folder.json" is not a regular file};

my @values = (
    ["$d/good.json", undef, 'a table'],
    ['good.json', undef, 'a table, relative to the prefix'],
    ["$d/empty.json", undef, 'an empty table'],
    ['off', undef, 'off'],
    ['./off', undef, 'a table in a file called off'],

    ["$d/none.json", $none, 'a file that is not there'],
    ['none.json', $none, 'the same, relative to the prefix'],
    ["$d/folder.json", $folder, 'a folder'],
    ["$d/fifo.json", qq{"$d/fifo.json" is not a regular file}, 'a named pipe'],
    ["$d/closed.json",
     $> == 0 ? qq{can't open "$d/closed.json": Permission denied} : undef,
     'a file that is root\'s alone'],
    ["$d/text.json", qq{"$d/text.json" is not valid JSON: a value is }
     . 'expected, at byte 0', 'a text'],
    ["$d/nothing.json", qq{"$d/nothing.json" is not valid JSON: it ends too }
     . 'early, at byte 0', 'an empty file'],
    ["$d/list.json", qq{"$d/list.json" is not an object of names and counts},
     'a list'],
    ["$d/negative.json", qq{"$d/negative.json" has a count of "bash-5.2" that }
     . 'is not a whole number from 0 to 9007199254740992', 'a negative count'],

    # nobody is asked before an image is made
    ['http://127.0.0.1:1/x.json', undef, 'a URL'],
    ['HTTPS://127.0.0.1:1', undef, 'a URL without a path'],
    ['http://[::1]:1/x', undef, 'a URL with an address'],
    ['http://user:secret@127.0.0.1:1/secret?secret', undef,
     'a URL with a password'],
    ['http://secret@127.0.0.1:1/x', undef, 'a URL with a token'],
);

$t->plan(@wrong + @values + 6 + 14);

wrong($t, @$_) for @wrong;

for my $test (@values) {
    my ($value, $warning, $name) = @$test;
    right($t, server($t, popularity => $value), [$warning // ()], $name);
}

# levels

right($t, "nixery_popularity $d/none.json;\n" . server($t), [$none],
      'inherited from http');
right($t, "nixery_popularity $d/none.json;\n"
      . server($t, popularity => "$d/good.json"), [], 'a location\'s own');
right($t, "nixery_popularity $d/none.json;\n"
      . server($t, popularity => 'off'), [], 'off in a location');
right($t, "nixery_popularity $d/none.json;\n"
      . "server { listen 127.0.0.1:8081;\n"
      . "nixery_popularity $d/folder.json;\n" . location($t) . "}\n"
      . server($t), [$folder, $none], 'a server\'s own');
right($t, "nixery_popularity $d/none.json;\n", [], 'no registry');

# locations that are alike have one registry

right($t, "server { listen 127.0.0.1:8080;\n"
      . location($t, popularity => "$d/none.json")
      . location($t, popularity => "$d/none.json") =~ s{/v2}{/a}r
      . location($t, popularity => "$d/folder.json") =~ s{/v2}{/b}r
      . location($t) =~ s{/v2}{/c}r . "}\n", [$none, $folder],
      'locations that are alike');

###############################################################################

# a set: top refers to both others, and all of them to busybox

$t->write_file('packages/popular.nix', <<"EOF");
{ system ? builtins.currentSystem }:

let
  seed = builtins.path { name = "busybox"; path = ./seed; };

  make = name: script: derivation {
    inherit name system;
    builder = "\${seed}/busybox";
    args = [ "sh" "-ec" ''
      \${seed}/busybox mkdir \$out
      echo \${seed} \$out > \$out/seed
      \${script}
    '' ];
    test = "$d";
  };

in rec {
  base = make "base-1.0" "";
  middle = make "middle-2" "echo \${base} > \$out/base";
  top = make "top" "echo \${base} \${middle} > \$out/both";
  nested.inner = make "inner" "echo \${base} > \$out/base";

  fails = make "fails" "echo 'no luck' >&2; exit 1";
  needs = make "needs" "echo \${fails} > \$out/fails";
  throws = throw "an old name";
  aborts = abort "out of luck";
  unfree = { type = "derivation"; outPath = throw "x"; meta.unfree = true; };
  text = "a text";
}
EOF

my $set = "$d/packages/popular.nix";

my ($code, $output, $said) = count($t, $set);

is($code, 0, 'counted');
is($output, <<'EOF', 'how many refer to each, by name');
{
  "base-1.0": 2,
  "busybox": 3,
  "middle-2": 1
}
EOF

like($said, qr/^left out: "aborts" can't be evaluated: .*out of luck/m,
     'what aborts is left out');
like($said, qr/^left out: "unfree" has an unfree license$/m,
     'what is refused is left out');
like($said, qr/^error: .*fails.*^left out: "fails" can't be built/ms,
     'what fails is left out');
like($said, qr/^left out: "needs" can't be built/m,
     'what needs that is left out');
unlike($said, qr/"(?:throws|text|top|middle|base|nested)"/,
       'nothing is said of others');

# by name

($code, $output, $said) = count($t, $set, qw(nested.inner middle nope throws));

is($code, 0, 'counted by name');
is($output, qq({\n  "base-1.0": 2,\n  "busybox": 3\n}\n), 'nothing else');
like($said, qr/^left out: "nope" not found$/m, 'a name that is not there');
like($said, qr/^left out: "throws" can't be evaluated: an old name$/m,
     'a name that throws');

# nothing to count

($code, $output, $said) = count($t, $set, 'fails');

ok($code != 0 && $output eq '' && $said =~ /^none of .* can be built$/m,
   'nothing can be built');

($code, $output, $said) = count($t, "$d/none.nix");

ok($code != 0 && $output eq ''
   && $said eq qq{there is no package set "$d/none.nix"\n}, 'no set');

($code, $output, $said) = count($t, "$d/folder.json");

ok($code != 0 && $output eq ''
   && $said =~ /^"\Q$d\E\/folder\.json" is no package set, see above why$/m,
   'a folder without a set');

###############################################################################
