#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Configuration: "nginx -t" refuses what can't work, with its place and what to
# do; levels, kinds of locations, reload.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Fcntl ();
use File::Copy;
use POSIX ();
use Test::Nginx qw/:DEFAULT http_end/;
use Test::Nixery;
use Test::NixeryConfig;

my $t = Test::Nginx->new()->has(qw/http rewrite access/);
my $d = $t->testdir();

my $root = $> == 0;
my $user = workers_user();
my $who = who();

prepare($t);

###############################################################################

# What "nginx -t" prints when another user runs it.

sub as {
    my ($t, $user, $file) = @_;
    my $d = $t->testdir();

    pipe(my $in, my $out) or die "can't make a pipe: $!\n";

    my $pid = fork() // die "can't fork: $!\n";

    if ($pid == 0) {
        my ($uid, $gid) = (getpwnam($user))[2, 3];

        open(STDERR, '>&', $out);
        ($(, $)) = ($gid, "$gid $gid");
        ($<, $>) = ($uid, $uid);
        exec("$d/open/nginx", '-t', '-p', "$d/", '-c', $file, '-e',
             'stderr') or POSIX::_exit(127);
    }

    close($out);
    local $/;
    my $output = <$in>;
    waitpid($pid, 0);

    return $output;
}


###############################################################################

# files that are not what a directive needs

mkdir("$d/$_") for qw(empty tree closed secret secret/packages secret/storage
                      folder bin bin/nix-build bin2 halved halved/layers);
mkdir("$d/tree/default.nix");

$t->write_file('file', '');
$t->write_file('unreadable.nix', '{ }');
$t->write_file('plain', "#!/bin/sh\n");
$t->write_file('bin2/nix-build', "#!/bin/sh\n");
$t->write_file('secret/packages/default.nix', '{ }: { }');
$t->write_file('secret/builder.nix', '{ }');
$t->write_file('secret/program', "#!/bin/sh\n");
$t->write_file('halved/manifests', '');

chmod(0755, "$d/secret/program", "$d/bin2/nix-build");
chmod(0700, "$d/secret");
chmod(0600, "$d/unreadable.nix");
chmod(0777, "$d/$_") for qw(secret/storage halved halved/layers);

POSIX::mkfifo("$d/fifo", 0777);
chmod(0777, "$d/fifo");
symlink("$d/none", "$d/dangling");

my $packages = '"nixery_packages path" must be a directory with a default.nix,'
    . " or a Nix file, that the workers' user can read";
my $builder = '"nixery_builder" must be a Nix file that the workers\' user can'
    . ' read';
my $program = '"nixery_nix_build" must be a program that the workers\' user can'
    . ' execute';
my $writable = "must be a directory that the workers' user can write";
my $storage = "\"nixery_storage directory\" $writable";
my $temp = "\"nixery_temp_path\" $writable";

my $absent = "(2: No such file or directory)";
my $denied = "(13: Permission denied)";
my $nodir = "(20: Not a directory)";
my $isdir = "(21: Is a directory)";
my $nofile = "(22: Invalid argument)";


# The messages that more than one directive has.

sub unmade {
    my ($directive, $path, $why) = @_;

    return qq{"nixery_$directive" can't make directory "$path", make it or }
        . "name another one $why";
}


sub closed {
    my ($what, $path) = @_;
    return qq{$what: "$d/secret/$path"$who can't enter "$d/secret" $denied};
}


sub misplaced {
    my ($text) = @_;
    return '"' . (split ' ', $text)[0] . '" directive is not allowed here';
}


# directive, value, message, what is wrong

my @wrong = (
    ['packages', "path $d/none", qq{$packages: "$d/none"$who $absent},
     'packages that are not there'],
    ['packages', "path $d/empty",
     qq{$packages: "$d/empty/default.nix"$who $absent},
     'packages without default.nix'],
    ['packages', "path $d/tree",
     qq{$packages: "$d/tree/default.nix"$who $isdir},
     'packages with a folder for default.nix'],
    ['packages', "path $d/dangling", qq{$packages: "$d/dangling"$who $absent},
     'packages that are a dangling link'],
    ['packages', "path $d/fifo", qq{$packages: "$d/fifo"$who $nofile},
     'packages that are a pipe'],
    ['packages', "path $d/file/default.nix",
     qq{$packages: "$d/file/default.nix"$who $nodir},
     'packages below a file'],
    ['packages', 'path none', qq{$packages: "$d/none"$who $absent},
     'packages relative to the prefix'],
    ['packages', 'path ""', 'empty path in "nixery_packages"',
     'packages, empty path'],
    ['packages', "$d/packages", number('packages'), 'packages, no kind'],
    ['packages', 'path', number('packages'), 'packages, no path'],
    ['packages', "path $d/packages x",
     'invalid parameter "x" of "nixery_packages"', 'packages, two paths'],

    ['builder', "$d/none.nix", qq{$builder: "$d/none.nix"$who $absent},
     'builder that is not there'],
    ['builder', "$d/folder", qq{$builder: "$d/folder"$who $isdir},
     'builder that is a folder'],
    ['builder', "$d/fifo", qq{$builder: "$d/fifo"$who $nofile},
     'builder that is a pipe'],
    ['builder', 'none.nix', qq{$builder: "$d/none.nix"$who $absent},
     'builder relative to the prefix'],
    ['builder', '""', 'empty path in "nixery_builder"', 'builder, empty'],
    ['builder', '/a /b', number('builder'), 'two builders'],

    ['nix_build', "$d/none", qq{$program: "$d/none"$who $absent},
     'program that is not there'],
    ['nix_build', "$d/plain", qq{$program: "$d/plain"$who $denied},
     'program that is not executable'],
    ['nix_build', "$d/folder", qq{$program: "$d/folder"$who $isdir},
     'program that is a folder'],
    ['nix_build', "$d/fifo", qq{$program: "$d/fifo"$who $nofile},
     'program that is a pipe'],
    ['nix_build', './none', qq{$program: "$d/./none"$who $absent},
     'program relative to the prefix'],
    ['nix_build', 'no-such-program', qq{no program "no-such-program" in PATH, }
     . 'install Nix or set "nixery_nix_build" to its full path',
     'program that is not in PATH'],
    ['nix_build', '""', 'empty path in "nixery_nix_build"', 'program, empty'],
    ['nix_build', 'nix-build --option', number('nix_build'),
     'program with arguments'],

    ['storage', "directory $d/none/storage",
     unmade('storage', "$d/none/storage", $absent),
     'storage in a directory that is not there'],
    ['storage', "directory $d/file/storage",
     unmade('storage', "$d/file/storage", $nodir), 'storage in a file'],
    ['storage', "directory $d/" . 'x' x 300,
     unmade('storage', "$d/" . 'x' x 300, '(36: File name too long)'),
     'storage, name too long'],
    ['storage', "directory $d/file", qq{$storage: "$d/file"$who $nodir},
     'storage that is a file'],
    ['storage', "directory $d/dangling",
     qq{$storage: "$d/dangling"$who $absent},
     'storage that is a dangling link'],
    ['storage', "directory $d/halved",
     qq{$storage: "$d/halved/manifests" is not a directory},
     'storage with a file for a folder'],
    ['storage', 'directory ""', 'empty path in "nixery_storage"',
     'storage, empty path'],
    ['storage', 's3 bucket', 'unknown kind "s3" of "nixery_storage", '
     . 'the only one known is "directory"',
     'storage of an unknown kind'],
    ['storage', "$d/storage", number('storage'), 'storage, no kind'],
    ['storage', 'directory', number('storage'), 'storage, no path'],
    ['storage', "directory $d/storage x", number('storage'),
     'storage, two paths'],

    ['temp_path', "$d/none/temp", unmade('temp_path', "$d/none/temp", $absent),
     'temp path in a directory that is not there'],
    ['temp_path', "$d/file", qq{$temp: "$d/file"$who $nodir},
     'temp path that is a file'],
    ['temp_path', '""', 'empty path in "nixery_temp_path"',
     'temp path, empty'],
    ['temp_path', "$d/temp 1 2", number('temp_path'), 'temp path with levels'],

    ['thread_pool', 'undefined', 'unknown thread pool "undefined"',
     'thread pool that is not defined'],
    ['thread_pool', 'a b', number('thread_pool'), 'two thread pools'],

    (map { ['max_layers', $_, '"nixery_max_layers" must be between 2 and 125, '
            . 'which is what images can have', "$_ layers"] }
     qw(0 1 126 1000000)),
    (map { ['max_layers', $_, '"nixery_max_layers" directive invalid number',
            "$_ layers"] }
     qw(-1 x 2.5 10k 99999999999999999999 "")),
    ['max_layers', '2 3', number('max_layers'), 'two numbers of layers'],

    (map { ['build_timeout', $_, 'a build must have a time limit, '
            . '"nixery_build_timeout" cannot be 0', "timeout $_"] }
     qw(0 0s 0ms)),
    (map { ['build_timeout', $_,
            '"nixery_build_timeout" directive invalid value', "timeout $_"] }
     qw(-1 x 5q 1.5m off 99999999999999999999d "")),
    ['build_timeout', '1m 30s', number('build_timeout'), 'two timeouts'],
);

# text in the location, message, what is wrong

my @texts = (
    (map { [qq{nixery_nix_env "$_" x; # here},
            qq{invalid name "$_" in "nixery_nix_env"}, "environment $_"] }
     'A=B', '1A', 'A-B', 'A B', '', 'A.B', "A\xc3\xa4", '-A'),
    (map { [qq{nixery_nix_option "$_" x; # here},
            qq{invalid name "$_" in "nixery_nix_option"}, "option $_"] }
     '--option', '-x', '1x', 'a b', '', 'a=b', 'a/b'),

    (map { ["nixery_$_;\nnixery_$_; # here",
            '"nixery_' . (split ' ')[0] . '" directive is duplicate',
            "$_ twice"] }
     "builder $d/a", "nix_build $d/a", "packages path $d/a",
     "storage directory $d/a", "temp_path $d/a", 'thread_pool a',
     'thread_pool nixery', 'max_layers 5', 'build_timeout 5m'),

    ['nixery; # here', '"nixery" directive is duplicate', 'nixery twice'],
    ['nixery on; # here', 'invalid number of arguments in "nixery" directive',
     'nixery with an argument'],
    ["nixery_nix_env A 1; nixery_nix_env B 1;\nnixery_nix_env A 2; # here",
     'duplicate name "A" in "nixery_nix_env"', 'a variable twice'],
    ["nixery_nix_option a 1; nixery_nix_option b 1;\n"
     . "nixery_nix_option a 2; # here",
     'duplicate name "a" in "nixery_nix_option"', 'an option twice'],
    ['nixery_nix_env A; # here', number('nix_env'),
     'a variable without a value'],
    ['nixery_nix_option cores; # here', number('nix_option'),
     'an option without a value'],
    ['nixery_nix_option cores 1 2; # here', number('nix_option'),
     'an option with two values'],
    ['nixery_layers 5; # here', 'unknown directive "nixery_layers"',
     'an unknown directive'],

    (map { my ($name, $message) = @$_;
           [qq{nixery_meta "$name" x; # here}, $message . ' in "nixery_meta"',
            "meta-package $name"] }
     ['', 'the meta-package is empty'],
     ['Shell', 'meta-package "Shell": "S" at byte 1: names are lower-case'],
     ['a/b', 'meta-package "a/b" is more than one component of a name'],
     ['-a', 'meta-package "-a": "-" at byte 1: a component begins with a letter'
      . ' or a digit'],
     ['x' x 256, 'meta-package "' . 'x' x 64 . '..." is 256 bytes long, more '
      . 'than 255'],
     ['arm64', '"arm64" is a platform and can\'t be a meta-package']),
    (map { my ($package, $message) = @$_;
           [qq{nixery_meta a x "$package" y; # here},
            qq{package "$package" $message in "nixery_meta"},
            "package $package"] }
     ['-x', 'begins with "-"'], ['--argstr', 'begins with "-"'],
     ['a..b', 'has an attribute without a name'],
     map { [$_, 'is not made of letters, digits, ".", "_", "-", "+" and "\'"'] }
     'a b', 'a/b', '${x}', 'a;b', "caf\xc3\xa9"),
    ['nixery_meta a x ""; # here',
     'the name of a package is empty in "nixery_meta"', 'package, empty'],
    ['nixery_meta a; # here', number('meta'), 'a meta-package of nothing'],
    ['nixery_meta a ' . join(' ', ('x') x 65) . '; # here',
     '"a" has 65 packages in "nixery_meta", at most 64 are taken',
     'a meta-package of too many'],
    ["nixery_meta a x; nixery_meta b x;\nnixery_meta a y; # here",
     'duplicate name "a" in "nixery_meta"', 'a meta-package twice'],

    # what is made for the whole location has no place in a part of it
    (map { ["if (\$arg_x) {\n$_; # here\n}", misplaced($_), "$_ in if"] }
     'nixery', 'nixery_max_layers 5'),
    (map { ["limit_except GET {\n$_; # here\n}", misplaced($_),
            "$_ in limit_except"] }
     'nixery', "nixery_temp_path $d/temp"),
);

# http block, message, what is wrong

my $own = nixery($t);
my $needs = 'to this location or around it';

my @blocks = (
    ["server {\nnixery; # here\n}", misplaced('nixery'), 'nixery in server'],
    ["nixery; # here", misplaced('nixery'), 'nixery in http'],
    ["upstream u {\nnixery_max_layers 5; # here\n}",
     misplaced('nixery_max_layers'), 'in upstream'],
    ['', misplaced('nixery_max_layers'), 'outside of http',
     main => 'nixery_max_layers 5; # here'],
    ["nixery_max_layers 0; # here", '"nixery_max_layers" must be between 2 and '
     . '125, which is what images can have', 'layers in http'],

    # what is needed
    ["server { location /v2 {\nnixery; # here\n"
     . "nixery_packages path $d/packages; } }",
     '"nixery" needs "nixery_storage", add "nixery_storage directory PATH;" '
     . $needs, 'no storage'],
    ["server { nixery_packages path $d/packages;\n"
     . "location /a { nixery_storage directory $d/storage; }\n"
     . "location /v2 {\nnixery; # here\n } }",
     '"nixery" needs "nixery_storage", add "nixery_storage directory PATH;" '
     . $needs, 'storage of another location'],

    # a value is named where it stands, not where it is used
    ["nixery_packages path $d/none; # here\nserver { location /v2 { nixery;\n"
     . "nixery_storage directory $d/storage; nixery_temp_path $d/temp; } }",
     qq{$packages: "$d/none"$who $absent}, 'a value of http'],
    ["server { nixery_thread_pool none; # here\nlocation /v2 { $own } }",
     'unknown thread pool "none"', 'a pool of server'],

    # a default stands nowhere
    ["server { location /v2 { # a comment\nnixery; # here\n"
     . nixery($t, nix_build => undef) =~ s/^nixery;//r . '} }',
     'no program "nix-build" in PATH, install Nix or set "nixery_nix_build" to '
     . 'its full path',
     'the default program is not in PATH', path => "$d/empty"],

    # all are looked at
    ["server { listen 127.0.0.1:8080; location /v2 { $own } }\n"
     . "server { listen 127.0.0.1:8081; location ~ ^/v2 { $own }\n"
     . "location /x { location /x/y {\n nixery_builder $d/none; # here\n"
     . nixery($t, builder => undef) . ' } } }',
     qq{$builder: "$d/none"$who $absent}, 'the last of many locations'],
);

# what only the workers' user may not do

my @denied = (
    ['packages', "path $d/secret/packages",
     closed($packages, 'packages'), 'packages in a closed directory'],
    ['packages', "path $d/unreadable.nix",
     qq{$packages: "$d/unreadable.nix"$who $denied},
     'packages that are not readable'],
    ['builder', "$d/unreadable.nix",
     qq{$builder: "$d/unreadable.nix"$who $denied},
     'builder that is not readable'],
    ['builder', "$d/secret/builder.nix", closed($builder, 'builder.nix'),
     'builder in a closed directory'],
    ['nix_build', "$d/secret/program", closed($program, 'program'),
     'program in a closed directory'],
    ['storage', "directory $d/closed", qq{$storage: "$d/closed"$who $denied},
     'storage that is not writable'],
    ['storage', "directory $d/secret/storage", closed($storage, 'storage'),
     'storage in a closed directory'],
    ['storage', "directory $d/locked",
     qq{$storage: "$d/locked/builds"$who $denied},
     'storage with a folder that is not writable'],
    ['temp_path', "$d/closed", qq{$temp: "$d/closed"$who $denied},
     'temp path that is not writable'],
    ['temp_path', "$d/secret/storage/temp", closed($temp, 'storage/temp'),
     'temp path in a closed directory'],
);

# what works, with nothing to say about it: http block, name, more

my $nested = "location /a { location /a/b { $own } location ~ c\$ { $own } }";
my $values = nixery($t) =~ s/^nixery;//r;

my @right = (
    ["$values server { location /v2 { nixery; } }", 'all of it in http'],
    ["server { $values location /v2 { nixery; } }", 'all of it in server'],
    ["nixery_max_layers 5; nixery_storage directory $d/none/x;
      nixery_builder $d/none;
      server { nixery_max_layers 6; location /v2 { $own
      nixery_max_layers 7; nixery_thread_pool nixery; } }",
     'a value in each level'],
    ["server { nixery_builder $d/none; nixery_packages path $d/none; }",
     'values that nothing uses'],

    (map { ["server { location $_ { $own } }", "location $_"] }
     '/v2', '/v2/', '/', '= /v2/', '^~ /v2', '~ ^/v2(/|$)', '~* ^/V2',
     '@registry'),
    ["server { $nested }", 'nested locations'],
    ["server { location /v2 { $own location /v2/x { $own } } }",
     'a registry within another'],
    ["server { location /v2 { $own if (\$arg_x) { return 403; } } }", 'if'],
    ["server { location /v2 { $own limit_except GET { deny all; } } }",
     'limit_except'],

    [location($t, packages => 'path packages', builder => 'builder/builder.nix',
              storage => 'directory storage', temp_path => 'temp',
              nix_build => 'fake/nix-build'), 'paths below the prefix'],
    [location($t, packages => "path $d/packages//",
              storage => "directory $d/storage/", temp_path => "$d/temp//"),
     'slashes at the end'],
    [location($t, packages => "path $d/packages/default.nix"),
     'packages in one file'],
    [location($t, packages => "path $d/link"), 'packages behind a link'],
    [location($t, storage => "directory $d/open-link"),
     'storage behind a link'],
    [location($t, storage => "directory $d/shared", temp_path => "$d/shared"),
     'storage and temp path in one place'],
    [location($t, temp_path => undef), 'the default temp path'],
    [location($t, nix_build => undef), 'the default program',
     path => "$d/bin:bin:$d/bin2"],
    [location($t, nix_build => 'nix-build'), 'a program in PATH',
     path => "$d/bin2"],
    [location($t, nix_build => undef), 'a program without PATH', path => ''],

    (map { [location($t, max_layers => $_), "$_ layers"] } qw(2 125)),
    (map { [location($t, build_timeout => $_), "timeout $_"] }
     qw(1ms 1 30m 1h30m 100d)),

    [location($t), 'a single process', main => 'master_process off;'],
    [location($t, thread_pool => 'nixery'), 'the default pool'],
    [location($t, thread_pool => 'default'), "nginx's own default pool"],
    [location($t, thread_pool => 'builds'), 'a pool',
     main => 'thread_pool builds threads=1;'],
    [location($t, thread_pool => 'nixery'), 'an own default pool',
     main => 'thread_pool nixery threads=1 max_queue=1;'],
    ["aio threads=nixery;" . location($t), 'the pool of other files',
     main => 'thread_pool nixery threads=1;'],

    [around($t, 'nixery_nix_env A ""; nixery_nix_env _b9 "c d=e";
                 nixery_nix_env a x; nixery_nix_env B "\"$x"; '),
     'variables of the environment'],
    [around($t, 'nixery_nix_option substituters "";
                 nixery_nix_option max-jobs 1; nixery_nix_option X2-y "a b";'),
     'options'],
    [around($t, 'nixery_meta shell zsh; nixery_meta py-3.x python3Packages.x
                 "_1\'" libstdc++5 x; nixery_meta arm a; nixery_meta many '
                . join(' ', 1 .. 64) . ';'), 'meta-packages'],
    ["nixery_meta a x; server { nixery_meta a y; location /v2 { nixery_meta a z;
      $own } }", 'a meta-package of each level'],
    ["include $d/part.conf;", 'an included file'],
);

# what is made by "nginx -t"

sub state {
    my ($path) = @_;

    my ($mode, $uid) = (stat($path))[2, 4] or return 'none';

    return sprintf('%04o %s', Fcntl::S_IMODE($mode), scalar getpwuid($uid));
}


$t->plan(@wrong + @texts + @blocks + @denied + @right + 43);

mkdir("$d/locked");
mkdir("$d/locked/$_") for qw(layers manifests builds tmp);
chmod(0777, "$d/locked", map { "$d/locked/$_" } qw(layers manifests tmp));
chmod(0755, "$d/closed", "$d/locked/builds");

symlink("$d/packages", "$d/link");
mkdir("$d/$_") for qw(open shut);
chmod(0777, "$d/open");
symlink("$d/open", "$d/open-link");

for my $case (@wrong) {
    my ($directive, $value, $message, $name) = @$case;

    wrong($t, location($t, $directive => $value), $message, $name,
          mark => "nixery_$directive");
}

for my $case (@texts) {
    my ($text, $message, $name) = @$case;

    wrong($t, around($t, $text), $message, $name);
}

for my $case (@blocks) {
    my ($http, $message, $name, %extra) = @$case;

    wrong($t, $http, $message, $name, %extra);
}

SKIP: {
    skip 'only root has workers of another user', scalar(@denied) if !$root;

    for my $case (@denied) {
        my ($directive, $value, $message, $name) = @$case;

        wrong($t, location($t, $directive => $value), $message, $name,
              mark => "nixery_$directive");
    }
}

SKIP: {
    skip 'no mount namespace here', 2
        if system('unshare -m mount -t tmpfs none /mnt 2>/dev/null') != 0;

    my $mount = "mount -t tmpfs -o ro none '$d/shut'";
    my $why = '(30: Read-only file system)';

    wrong($t, location($t, storage => "directory $d/shut"),
          qq{$storage: "$d/shut"$who $why}, 'storage that is read-only',
          mark => 'nixery_storage', mount => $mount);
    wrong($t, location($t, temp_path => "$d/shut"),
          qq{$temp: "$d/shut"$who $why}, 'temp path that is read-only',
          mark => 'nixery_temp_path', mount => $mount);
}

# in a file that is included, the place is there

$t->write_file('part.conf', "# the first line\n"
                            . location($t, builder => "$d/none"));
wrong($t, "include $d/part.conf;", qq{$builder: "$d/none"$who $absent},
      'a value in an included file', place => 'part.conf',
      mark => 'nixery_builder');

$t->write_file('part.conf', "\n\n" . around($t, 'nixery; # here'));
wrong($t, "include $d/par?.conf;", '"nixery" directive is duplicate',
      'twice in a file that a pattern includes', place => 'part.conf');

$t->write_file('part.conf', location($t));

for my $case (@right) {
    my ($http, $name, %extra) = @$case;

    right($t, $http, $name, %extra);
}

is(scalar(my @none = calls($t)), 0, 'no word with Nix');

# what it leaves behind

is(state("$d/nixery_temp"), "0700 $user", 'a temp path that was made');
is(state("$d/storage"), "0700 $user", 'a storage that was made');
is(state("$d/storage/$_"), "0755 $user", "its $_")
    for qw(layers manifests builds);
is(state("$d/storage/tmp"), "0700 $user", 'its work files');
is(state("$d/open"), '0777 ' . getpwuid($>), 'a storage that was there');
is(state("$d/closed"), '0755 ' . getpwuid($>), 'one that is not good');
is(state("$d/none"), 'none', 'nothing made for others');

# a user of its own, with no master to change it

SKIP: {
    skip 'only root can be someone else', 2 if !$root;

    my $globals = ($ENV{TEST_NGINX_GLOBALS} // '') =~ s/\buser\s[^;]*;//r;

    # where that user can read them
    copy($Test::Nginx::NGINX, "$d/open/nginx") or die "can't copy nginx: $!\n";
    chmod(0755, "$d/open/nginx");

    if ($globals =~ s/load_module\s+([^\s;]+)/load_module $d\/open\/module.so/)
    {
        copy($1, "$d/open/module.so") or die "can't copy the module: $!\n";
    }

    my @paths = map { "${_}_temp_path $d/open/$_;" }
                qw(client_body proxy fastcgi uwsgi scgi);
    my $conf = "error_log stderr; pid $d/open/pid; $globals events { }\n"
        . "http { access_log off; @paths\n%s }";

    $t->write_file('own.conf', sprintf($conf, location($t, storage =>
        "directory $d/closed", temp_path => "$d/open", nix_build => 'sh')));

    like(as($t, $user, 'own.conf'),
         qr/: \Q$storage: "$d\/closed" $denied in $d\/own.conf:\E\d+$/m,
         'no user to name');

    $t->write_file('own.conf', sprintf($conf, location($t, storage =>
        "directory $d/open", temp_path => "$d/open", nix_build => 'sh')));

    like(as($t, $user, 'own.conf'), qr/test is successful/, 'its own storage');
}

###############################################################################

# levels and kinds of locations at work

sub registries {
    my ($t, $location, $more) = @_;
    my $d = $t->testdir();

    return configure($t, <<"EOF", file => 'nginx.conf');
    nixery_packages path $d/packages;
    nixery_builder $d/builder/builder.nix;
    nixery_storage directory $d/http;
    nixery_temp_path $d/temp;
    nixery_nix_build $d/fake/nix-build;
    nixery_nix_env NIX_REMOTE daemon;
    nixery_nix_env FAKE_DIR $d/fake;
    nixery_nix_option cores 1;
    nixery_nix_option max-jobs 1;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        $more

        location /v2 {
            nixery;
            $location

            if (\$arg_deny) {
                return 403;
            }

            if (\$arg_set) {
                set \$x 1;
            }

            limit_except GET {
                allow 127.0.0.1;
                deny all;
            }
        }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        nixery_storage directory $d/server;
        nixery_nix_option cores 2;
        nixery_max_layers 2;

        location /v2 {
            nixery;

            location /v2/static {
            }

            location /v2/tiny2 {
                nixery;
                nixery_max_layers 94;
            }

            limit_except GET {
                deny all;
            }
        }

        location = /v2/ {
            nixery;
        }
    }
EOF
}


sub layers {
    my ($reply) = @_;
    return scalar(@{$reply->{json}{layers} // []});
}


# The options of the last call.

sub options {
    my ($t) = @_;
    my $call = (calls($t))[-1];

    return "@$call" =~ /((?:--option \S+ \S+ )+)/ ? $1 : '';
}


my $other = '127.0.0.1:' . port(8081);
my ($r, $body);

mkdir("$d/v2");
$t->write_file('v2/static', 'a plain file');

# "nginx -t" made one, which says that nginx runs
unlink("$d/nginx.pid");

registries($t, '', 'location /generation { return 200 one; }');
$t->run();

is(scalar(@none = calls($t)), 0, 'no word with Nix, to start');

$r = manifest('tiny');
$body = $r->{body};

is($r->{status}, 200, 'values of http');
is(layers($r), 3, 'default of layers');
is(scalar(objects($t, 'manifests', "$d/http")), 1, 'storage of http');
is(options($t), '--option cores 1 --option max-jobs 1 ', 'options of http');

is(manifest('tiny', 'latest?set=1')->{body}, $body, 'through if');
is(manifest('tiny', 'latest?deny=1')->{status}, 403, 'denied by if');
refused(reply(http("PUT /v2/tiny/manifests/x HTTP/1.0\x0d\x0a\x0d\x0a")),
        405, 'UNSUPPORTED', qr/pull/, 'through limit_except');

$r = manifest('tiny', 'latest', PeerAddr => $other);
is($r->{status}, 200, 'values of server');
is(layers($r), 2, 'layers of server');
is(scalar(objects($t, 'manifests', "$d/server")), 1, 'storage of server');
is(options($t), '--option cores 2 ', 'options of server');

is(layers(manifest('tiny2', 'latest', PeerAddr => $other)), 3,
   'layers of a location within');
is(reply(http_get('/v2/static', PeerAddr => $other))->{body}, 'a plain file',
   'a location within that is no registry');
is(reply(http_get('/v2/', PeerAddr => $other))->{body}, '{}', 'location =');
is(reply(http("PUT /v2/x HTTP/1.0\x0d\x0a\x0d\x0a", PeerAddr => $other))
   ->{status}, 403, 'denied by limit_except');

# "nginx -t" while a build runs

fake_mode($t, 'wait');

my $before = calls($t);
my $s = http("GET /v2/tiny/tiny2/manifests/latest HTTP/1.0\x0d\x0a\x0d\x0a",
             start => 1);

ok(eventually(sub { calls($t) > $before }), 'a build runs');

my ($output, $code) = check($t, 'nginx.conf');
is($code, 0, 'accepted while a build runs') or diag($output);

go($t);
$r = reply(http_end($s, timeout => 60));
is($r->{status}, 200, 'the build did not mind');
is(truth($t, "$d/http"), '', 'nor did the storage');

fake_mode($t, 'real');

# a reload with a mistake changes nothing

registries($t, "nixery_builder $d/none;",
           'location /generation { return 200 two; }');
$t->reload();

ok(eventually(sub { $t->read_file('error.log') =~ /\[emerg\] .*$builder/ }),
   'reload with a mistake');
like(reply(http_get('/generation'))->{body}, qr/one/, 'the old configuration');
is(manifest('tiny')->{body}, $body, 'which still builds');

# one without does

registries($t, "nixery_storage directory $d/after; nixery_max_layers 2;",
           'location /generation { return 200 three; }');
$t->reload();

chomp(my $master = $t->read_file('nginx.pid'));

# for a moment the old worker accepts connections too
ok(eventually(sub { reply(http_get('/generation'))->{body} =~ /three/
                    && children($master) == 1 }),
   'reload');

$r = manifest('tiny');
is(layers($r), 2, 'other layers');
is(scalar(objects($t, 'manifests', "$d/after")), 1, 'another storage');
is(reply(http_get('/v2/tiny/blobs/' . $r->{json}{config}{digest}))->{status},
   200, 'served from there');

###############################################################################
