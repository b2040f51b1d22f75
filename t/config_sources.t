#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Where packages come from, in the configuration: "nginx -t" refuses what can't
# be, says why, and shows no password.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use POSIX ();
use Test::Nginx;
use Test::Nixery;
use Test::NixeryConfig;
use Test::NixeryGit;

my $t = Test::Nginx->new()->has(qw/http limit_req/);
my $d = $t->testdir();

prepare($t);

###############################################################################

# files that git and ssh are to read

mkdir("$d/$_") for qw(folder secret own);

$t->write_file($_, '') for qw(credentials key unreadable secret/key own/open
                              own/group own/closed);

chmod(0644, "$d/credentials", "$d/key");
chmod(0600, "$d/unreadable", "$d/own/closed");
chmod(0640, "$d/own/group");
chmod(0644, "$d/own/open");
chmod(0700, "$d/secret");
give(map { "$d/own/$_" } qw(open group closed));

POSIX::mkfifo("$d/fifo", 0666);
chmod(0666, "$d/fifo");
symlink("$d/none", "$d/dangling");
symlink("$d/key", "$d/link");

my $who = who();
my $git = "git http://127.0.0.1/set.git";
my $files = '"nixery_packages git" must name files that the workers\' user can '
    . 'read';
my $private = 'ssh takes no key that others can read';

my $absent = '(2: No such file or directory)';
my $denied = '(13: Permission denied)';
my $isdir = '(21: Is a directory)';
my $nofile = '(22: Invalid argument)';


# What is said of a URL.

sub url {
    my ($why, $directive) = @_;
    return 'invalid URL in "nixery_' . ($directive // 'packages') . "\": $why";
}


sub kind {
    my ($name) = @_;
    return qq{unknown kind "$name" of "nixery_packages", known are "path", }
        . '"git" and "channel"';
}


sub channel {
    my ($name) = @_;
    return qq{invalid channel "$name", a channel, branch or commit has }
        . 'letters, digits, "-", "_" and ".", and begins with a letter or '
        . 'digit';
}


sub ref_ {
    my ($value) = @_;
    return qq{invalid "$value", it is a branch, a tag, "refs/..." or the 40 }
        . 'digits of a commit';
}


sub parameter {
    my ($name) = @_;
    return qq{invalid parameter "$name" of "nixery_packages"};
}


sub byte {
    my ($n, $code) = @_;
    return url("its byte $n can't stand in a URL, %$code can");
}


my $protocols = 'it is no URL, which begins with a protocol and "://" (one of: '
    . 'https ssh http git file)';
my $scp = '; "user@host:path" is written ssh://user@host/path';
my $protocol = 'its protocol is not one of: https ssh http git file';
my $file = 'a file URL is "file://" and an absolute path';
my $digits = 'its %s has a "%%" without two hexadecimal digits of a character';
my $port = 'behind its host is no port; in a user or a password "/" is written '
    . '%2F, "?" %3F and "#" %23';
my $place = '"nixery_channel_url" must have "$channel" once behind its host, '
    . 'in place of the channel\'s name';

# directive, value, message

my @wrong = (
    # kinds
    (map { ['packages', "$_ http://127.0.0.1/x", kind($_ =~ s/"//gr)] }
     'Path', 'Git', 'gits', 'nixpkgs', '""'),
    ['packages', 'git', number('packages')],
    ['packages', 'channel', number('packages')],
    (map { ['packages', "$_ x", '"nixery_packages" needs a kind before its '
            . 'URL, which "git" is'] }
     'http://x:secret@127.0.0.1/x', 'file:///x'),
    (map { ['packages', "$_ http://x:secret\@127.0.0.1/x",
            qq{"nixery_packages $_" takes no URL, "nixery_packages git" does}] }
     qw(path channel)),

    # what is no URL
    (map { ['packages', "git $_", url($protocols)] }
     '""', 'x', '/srv/set', './set', 'http:', 'http:/x', 'http//x', '//x/y',
     '127.0.0.1/x', '--upload-pack=x', 'ext::sh', 'ext::http://127.0.0.1/x',
     'ext::x@y'),
    (map { ['packages', "git $_", url($protocols . $scp)] }
     'git@127.0.0.1:set', 'user:secret@host'),
    (map { ['packages', "git $_", url($protocol)] }
     'ftp://127.0.0.1/x', 'ext://127.0.0.1/x', 'rsync://127.0.0.1/x',
     'git+ssh://127.0.0.1/x', 'httpss://127.0.0.1/x', '://127.0.0.1/x',
     'fd://0/x'),

    # bytes
    ['packages', "git 'http://127.0.0.1/a b'", byte(19, '20')],
    ['packages', "git 'ext::sh -c x'", byte(8, '20')],
    ['packages', "git 'http://127.0.0.1/\"'", byte(18, '22')],
    ['packages', "git 'http://127.0.0.1/a\tb'", byte(19, '09')],
    ['packages', "git 'http://127.0.0.1/a\rb'", byte(19, '0D')],
    ['packages', "git http://127.0.0.1/\xc3\xa4", byte(18, 'C3')],
    ['packages', "git http://127.0.0.1/\x7f", byte(18, '7F')],
    ['packages', 'git "http://127.0.0.1/{x}"', byte(18, '7B')],
    ['packages', "git 'http://127.0.0.1/\\\\x'", byte(18, '5C')],

    # hosts
    (map { ['packages', "git $_", url('it has no host')] }
     'http://', 'http:///x', 'http://:80/x', 'http://@/x', 'ssh://user@/x',
     'git://'),
    (map { ['packages', "git $_", url('a host can\'t begin with "-"')] }
     'ssh://-oProxyCommand=x/y', 'ssh://%2doProxyCommand=x/y', 'http://-/x',
     'ssh://user@-x/y'),
    (map { ['packages', "git $_", url($port)] }
     'http://x:y/z', 'http://127.0.0.1:0/x', 'http://127.0.0.1:65536/x',
     'http://x:secret/y@127.0.0.1/z', 'http://x:secret?y@127.0.0.1/z'),
    ['packages', 'git http://[::1/x',
     url('an address in "[" has no "]", or is empty')],
    ['packages', 'git http://[]/x',
     url('an address in "[" has no "]", or is empty')],
    ['packages', 'git http://a[b]/x',
     url('a host can\'t have "[" or "]" in it')],
    (map { ['packages', "git file:$_", url($file)] }
     '//', '//127.0.0.1/x', '//localhost/x', '//srv'),

    # users
    ['packages', 'git ssh://git:secret@127.0.0.1/x',
     url('ssh takes no password, it takes a key')],
    (map { ['packages', "git $_", url('a user can\'t begin with "-"')] }
     'ssh://-x@127.0.0.1/y', 'ssh://%2Dx@127.0.0.1/y'),
    ['packages', 'git git://secret@127.0.0.1/x', url('git has no users')],
    ['packages', 'git file://secret@/x', url('file has no users')],
    (map { ['packages', "git http://$_\@127.0.0.1/x",
            url(sprintf($digits, 'user'))] }
     '%', '%z1', '%1', 'a%00b', '%0a', '%1f:secret'),
    (map { ['packages', "git http://x:$_\@127.0.0.1/x",
            url(sprintf($digits, 'password'))] }
     'secret%', 'secret%4', 'secret%0d'),
    (map { ['packages', "git $_",
            url('a git repository\'s has no "?" and no "#"')] }
     'http://127.0.0.1/x?secret', 'http://127.0.0.1/x#secret',
     'http://127.0.0.1?secret', 'http://127.0.0.1/x?', 'file:///x?secret'),

    # parameters
    (map { ['packages', "$git submodules=$_", parameter('submodules...')] }
     'yes', '', 'ON', '1'),
    (map { ['packages', "$git $_", parameter($_)] }
     'submodules', 'x', 'ref', 'on', '-x'),
    (map { ['packages', "$git $_", parameter(s/[=:\/@].*/.../r)] }
     'password=secret', 'Ref=main', 'credentials=', 'key=', 'known_hosts=',
     'http://secret@127.0.0.1/', 'user:secret', 'user@x'),
    (map { ['packages', "$_ submodules=on", parameter('submodules...')] }
     "path $d/packages", 'channel x'),
    ['packages', 'channel x ref=y', parameter('ref...')],
    ['packages', "path $d/packages key=$d/key", parameter('key...')],
    (map { ['packages', "$git 'ref=$_'", ref_("ref=$_")] }
     '', '-x', '--upload-pack=x', '.x', 'x.', 'a..b', 'a b', 'x.lock', 'a~1',
     'a^', 'a:b', 'a?', 'a*', '[a', 'a@{1}', '/a', 'a/', 'a//b', "a\x7f",
     "\xc3\xa4", 'refs/', 'refs/heads/', 'refs/a..b', 'a' x 245,
     'refs/' . 'a' x 251),

    # files
    (map { my $name = $_;
           (["packages", "$git $name=$d/none",
             qq{$files: "$d/none"$who $absent}],
            ["packages", "$git $name=none", qq{$files: "$d/none"$who $absent}],
            ["packages", "$git $name=$d/folder",
             qq{$files: "$d/folder"$who $isdir}],
            ["packages", "$git $name=$d/fifo",
             qq{$files: "$d/fifo"$who $nofile}],
            ["packages", "$git $name=$d/dangling",
             qq{$files: "$d/dangling"$who $absent}]) }
     qw(credentials key known_hosts)),
    (map { ['packages', "$git key=$d/own/$_",
            qq{$private: "$d/own/$_", run chmod 600}] } qw(open group)),

    # channels
    (map { ['packages', "channel '$_'", channel($_)] }
     '', '-x', '.x', '_x', '../x', 'a/b', 'a b', 'a:b', '$x', "\xc3\xa4",
     'a' x 256),
    (map { ['channel_url', $_, $place] }
     '""', 'x', '$channel', 'http://127.0.0.1/x', 'http://127.0.0.1/$chan',
     'http://127.0.0.1/$channel/$channel', 'http://$channel/x',
     'http://$channel.example/x', 'http://127.0.0.1?$channel',
     'http://x:$channel@127.0.0.1/x', 'http://127.0.0.1#/$channel'),
    (map { ['channel_url', $_, url('its protocol is not one of: https http',
                                   'channel_url')] }
     'ftp://127.0.0.1/$channel', 'file:///x/$channel', 'git://x/$channel'),
    ['channel_url', 'http:///$channel', url('it has no host', 'channel_url')],
    ['channel_url', 'http://x:y/$channel', url($port, 'channel_url')],
    ['channel_url', 'http://127.0.0.1/$channel x', number('channel_url')],

    # how long a tag is what it was
    (map { ['cache_valid', $_, '"nixery_cache_valid" directive invalid value'] }
     '-1', 'x', '5q', '1.5m', 'off', '""', '99999999999999999999d'),
    ['cache_valid', '1m 30s', number('cache_valid')],
);

# what workers can't read, but root can

my @denied = (
    (map { ['packages', "$git $_=$d/unreadable",
            qq{$files: "$d/unreadable"$who $denied}] }
     qw(credentials key known_hosts)),
    ['packages', "$git key=$d/secret/key",
     qq{$files: "$d/secret/key"$who can't enter "$d/secret" $denied}],
);

# in http, or elsewhere; message

my $location = location($t);
my $own = nixery($t);

my @blocks = (
    (map { ["nixery_zone '$_'; # here\n$location",
            qq{invalid zone "$_", it is "NAME:SIZE"}] }
     '', 'x', '1m', ':1m', ':'),
    (map { ["nixery_zone '$_'; # here\n$location",
            qq{invalid zone size "$_"}] }
     'x:', 'x:y', 'x:1q', 'x:-1', 'x:1m:2m', 'x:1.5m'),
    (map { ["nixery_zone '$_'; # here\n$location", 'zone "' . $_
            . '" is too small'] }
     'x:0', 'x:1', 'x:31k'),
    ["nixery_zone a:1m;\nnixery_zone b:1m; # here\n$location",
     '"nixery_zone" directive is duplicate'],
    ["nixery_zone a; nixery_zone b 1m; # here\n$location",
     'invalid zone "a", it is "NAME:SIZE"'],
    ["nixery_zone a:1m x; # here\n$location", number('zone')],
    ["limit_req_zone \$uri zone=x:1m rate=1r/s;\nnixery_zone x:1m; # here\n"
     . $location, 'the shared memory zone "x" is already declared for a '
     . 'different use'],
    ["server {\nnixery_zone x:1m; # here\n}\n$location",
     '"nixery_zone" directive is not allowed here'],
    [around($t, 'nixery_zone x:1m; # here'),
     '"nixery_zone" directive is not allowed here'],

    (map { [around($t, "nixery_$_;\nnixery_$_; # here"),
            '"nixery_' . (split ' ')[0] . '" directive is duplicate'] }
     'packages git http://127.0.0.1/x', 'packages channel x', 'cache_valid 1m',
     'channel_url http://127.0.0.1/$channel'),
);

# what works

my $long = 'refs/' . 'a' x 250;

my @right = (
    (map { ["git $_", $_] }
     'https://127.0.0.1/set.git', 'http://127.0.0.1:8080/a/b', 'HTTP://x/y',
     'ssh://127.0.0.1/set', 'ssh://git@127.0.0.1:22/~/set',
     'git://127.0.0.1/set', 'git://127.0.0.1:/set', 'http://[::1]:80/x',
     'file:///srv/set', 'file:///srv/with%20blank', 'http://127.0.0.1/a!b',
     'http://reader:a%2Fb%40c@127.0.0.1/x', 'http://a@b@127.0.0.1/x',
     'https://token@127.0.0.1/x', 'https://user:@127.0.0.1/x', 'http://x'),
    (map { ["$git $_", $_] }
     'submodules=on', 'submodules=off', 'ref=main', 'ref=a/b', 'ref=v1.0',
     'ref=refs/heads/a', 'ref=HEAD', 'ref=a@b', "'ref=a{b'", "ref=$long",
     'ref=' . '0' x 40, 'ref=a submodules=on ref=b',
     "credentials=$d/credentials", "key=$d/key", "known_hosts=$d/key",
     "key=$d/link", "key=$d/own/closed", 'credentials=credentials',
     "ref=x submodules=on credentials=$d/credentials key=$d/key "
     . "known_hosts=$d/key"),
    (map { ["channel $_", "channel $_"] }
     'nixos-24.11', 'nixpkgs-unstable', '0' x 40, 'master', '1', 'a_b.c',
     'a' x 255),
);

my @texts = (
    (map { [around($t, "nixery_cache_valid $_;"), "cache valid $_"] }
     qw(0 0s 1ms 5m 1d 30d)),
    (map { [around($t, "nixery_channel_url $_;"), "channel url $_"] }
     'http://127.0.0.1/$channel',
     'https://x:y@127.0.0.1:81/a/$channel.tar.gz?z',
     'https://127.0.0.1/$channel/nixexprs.tar.xz',
     'https://127.0.0.1/x?name=$channel', '"http://127.0.0.1/a-$channel-b"'),
    (map { ["nixery_zone $_;\n$location", "zone $_"] }
     'x:32k', 'nixery:16m', 'a-b_c:1M', 'x:32768'),
    ["nixery_zone x:1m;", 'a zone that nobody needs'],
    ["nixery_packages $git; nixery_cache_valid 0;
      server { nixery_packages channel x; nixery_cache_valid 1m;
      location /v2 { $own } }",
     'each level'],
    ["nixery_packages git file:///none; " . location($t, packages => undef),
     'a repository that is not there'],
);

$t->plan(@wrong + @denied + @blocks + @right + @texts + 5);

for my $case (@wrong) {
    my ($directive, $value, $message) = @$case;

    wrong($t, location($t, $directive => $value), $message,
          substr("$directive $value" =~ s/\Q$d\E|[^ -~]//gr, 0, 60),
          mark => "nixery_$directive");
}

SKIP: {
    skip 'only root has workers of another user', scalar(@denied) if $> != 0;

    for my $case (@denied) {
        my ($directive, $value, $message) = @$case;

        wrong($t, location($t, $directive => $value), $message,
              $value =~ s/\Q$d\E//r, mark => "nixery_$directive");
    }
}

for my $case (@blocks) {
    my ($http, $message) = @$case;

    wrong($t, $http, $message, $message);
}

for my $case (@right) {
    my ($value, $name) = @$case;

    right($t, location($t, packages => $value),
          substr($name =~ s/\Q$d\E//gr, 0, 60));
}

for my $case (@texts) {
    my ($http, $name) = @$case;

    right($t, $http, $name);
}

# where there is no git

mkdir("$d/bin");
symlink("$d/fake/nix-build", "$d/bin/nix-build");

wrong($t, location($t, packages => $git),
      'no program "git" in PATH, which "nixery_packages git" needs', 'no git',
      mark => 'nixery_packages', path => "$d/bin");
right($t, location($t), 'no git, which nobody needs', path => "$d/bin");

# all that is shown of passwords and tokens, in all of it

my $key = quotemeta "\"$d/secret";
is(join("\n", grep { /secret/ && !/$key/ }
              split /\n/, $t->read_file('error.log')), '',
   'nothing secret in the log');

is(scalar(my @none = calls($t)), 0, 'no word with Nix');
is(scalar(@none = calls($t, 'git')), 0, 'nor with git');

###############################################################################
