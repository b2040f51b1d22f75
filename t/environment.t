#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Nixery's environment, for locations that lack the directive: what is taken and
# what is said about it, at work, after a reload and an upgrade of the binary.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;
use Test::NixeryGit;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('git');
my $d = $t->testdir();

prepare($t);

###############################################################################

sub configure {
    my ($t, $file, $http, $main) = @_;

    $main //= 'daemon off;';

    $t->write_file_expand($file, <<"EOC");

%%TEST_GLOBALS%%

$main

events {
}

http {
    %%TEST_GLOBALS_HTTP%%
    $http
}

EOC

    return;
}


# What "nginx -t" says in that environment to such locations, and whether it is
# content.  Of the places that it names only the kind is left: HERE is where the
# first location has its "nixery", ENV is the variable.

sub checked {
    my ($t, $env, $locations, $http) = @_;
    my $d = $t->testdir();

    my $n = 0;
    my $all = join '', map { 'location /' . $n++ . " {\n$_\n}\n" } @$locations;

    configure($t, 'test.conf', ($http // '')
              . " server { listen 127.0.0.1:8080; $all }");

    my ($before) = $t->read_file('test.conf') =~ /\A(.*?)^nixery;/ms
        or die "no location\n";
    my $here = " in $d/test.conf:" . (1 + $before =~ tr/\n//);

    local @ENV{keys %$env} = values %$env;

    my $command = "$Test::Nginx::NGINX -t -p '$d/' -c test.conf -e stderr";
    my $output = qx($command 2>&1);

    my @lines = $output =~ /\[(?:notice|warn|error|crit|alert|emerg)\]
                            \ \d+\#\d+:\ (.*)$/gmx;

    s/\Q$here\E$/ HERE/, s/ in (\w+) environment variable$/ ENV $1/ for @lines;

    push @lines, $1 if $output =~ /(runtime error.*|Sanitizer.*)/;

    return join("\n", @lines,
                $output =~ /test is successful/ ? 'successful' : 'failed');
}


# A notice.

sub taken {
    my ($variable, $value, $directive) = @_;

    return qq{$variable="$value" is taken from the environment, }
        . qq{no "nixery_$directive" is set HERE};
}


sub unused {
    my ($variable, $other) = @_;
    return "$variable of the environment is not used, $other is set too HERE";
}


# A location without those directives.

sub without {
    my ($t, @names) = @_;
    return nixery($t, map { $_ => undef } @names);
}

###############################################################################

my $default = 'no "nixery_packages" is set, packages come from channel '
    . '"nixos-24.11" HERE';

my %packages = (
    NIXERY_CHANNEL => 'nixos-23.11',
    NIXERY_PKGS_REPO => "file://$d/git/set.git",
    NIXERY_PKGS_PATH => "$d/packages",
);
my @packages = map { taken($_, $packages{$_}, 'packages') }
               qw(NIXERY_CHANNEL NIXERY_PKGS_REPO NIXERY_PKGS_PATH);

my %storage = (
    NIXERY_STORAGE_BACKEND => 'filesystem',
    STORAGE_PATH => "$d/other",
);
my @storage = map { taken($_, $storage{$_}, 'storage') }
              qw(NIXERY_STORAGE_BACKEND STORAGE_PATH);

my %rest = (NIX_BUILDER => "$d/builder/builder.nix", NIX_TIMEOUT => 60,
            NIX_POPULARITY_URL => 'https://127.0.0.1/x.json');
my @rest = (taken('NIX_BUILDER', "$d/builder/builder.nix", 'builder'),
            taken('NIX_TIMEOUT', 60, 'build_timeout'),
            taken('NIX_POPULARITY_URL', 'https://127.0.0.1/x.json',
                  'popularity'));

my %nonsense = (
    NIXERY_CHANNEL => '../x', NIXERY_PKGS_REPO => 'x', NIXERY_PKGS_PATH => 'x',
    NIX_BUILDER => 'x', NIX_TIMEOUT => 'x', NIXERY_STORAGE_BACKEND => 'x',
    STORAGE_PATH => "$d/none/x", NIX_POPULARITY_URL => 'ftp://x',
);

my $none = '"nixery_popularity" is not used, until this is mended: '
    . qq{can't open "$d/none": No such file or directory};

my $root = $> == 0;
my $user = ($ENV{TEST_NGINX_GLOBALS} // '') =~ /\buser\s+([^\s;]+)/
    ? $1 : 'nobody';
my $absent = ($root ? ", user \"$user\"" : '')
    . ' (2: No such file or directory)';

$t->write_file('table.json', '{ }');
chmod(0644, "$d/table.json");

# environment, locations, what is said, name, http

my @cases = (

    # each alone

    (map { [{$_ => $packages{$_}}, [without($t, 'packages')],
            [taken($_, $packages{$_}, 'packages')], $_] }
     sort keys %packages),
    [{NIXERY_CHANNEL => '0123456789abcdef' x 2 . '01234567'},
     [without($t, 'packages')],
     [taken('NIXERY_CHANNEL', '0123456789abcdef' x 2 . '01234567',
            'packages')], 'NIXERY_CHANNEL, a commit'],
    [{NIXERY_PKGS_PATH => 'packages'}, [without($t, 'packages')],
     [taken('NIXERY_PKGS_PATH', 'packages', 'packages')],
     'NIXERY_PKGS_PATH, below the prefix'],
    [{NIX_BUILDER => $rest{NIX_BUILDER}}, [without($t, 'builder')], [$rest[0]],
     'NIX_BUILDER'],
    [{NIX_TIMEOUT => 60}, [without($t)], [$rest[1]], 'NIX_TIMEOUT'],
    [{NIX_TIMEOUT => '1h'}, [without($t)],
     [taken('NIX_TIMEOUT', '1h', 'build_timeout')], 'NIX_TIMEOUT with a unit'],
    [{NIX_POPULARITY_URL => $rest{NIX_POPULARITY_URL}}, [without($t)],
     [$rest[2]], 'NIX_POPULARITY_URL'],
    (map { [{NIX_POPULARITY_URL => $_}, [without($t)],
            [taken('NIX_POPULARITY_URL', $_, 'popularity')],
            "NIX_POPULARITY_URL, $_"] }
     'http://127.0.0.1:1', "$d/table.json", 'table.json', 'off'),
    [{%storage}, [without($t, 'storage')], [@storage], 'STORAGE_PATH'],

    # together

    [{%packages, %storage, %rest},
     [without($t, qw(packages storage builder))],
     [$packages[0], unused('NIXERY_PKGS_REPO', 'NIXERY_CHANNEL'),
      unused('NIXERY_PKGS_PATH', 'NIXERY_CHANNEL'), @rest, @storage], 'all'],
    [{%packages, NIXERY_CHANNEL => ''}, [without($t, 'packages')],
     [$packages[1], unused('NIXERY_PKGS_PATH', 'NIXERY_PKGS_REPO')],
     'a repository before a path'],
    [{%packages, NIXERY_PKGS_REPO => ''}, [without($t, 'packages')],
     [$packages[0], unused('NIXERY_PKGS_PATH', 'NIXERY_CHANNEL')],
     'a channel before a path'],
    [{%nonsense, NIXERY_CHANNEL => 'x'},
     [nixery($t, packages => undef, build_timeout => '1m',
             popularity => 'off')],
     [taken('NIXERY_CHANNEL', 'x', 'packages'),
      unused('NIXERY_PKGS_REPO', 'NIXERY_CHANNEL'),
      unused('NIXERY_PKGS_PATH', 'NIXERY_CHANNEL')],
     'what is not used may be nonsense'],

    # against directives

    [{%nonsense}, [nixery($t, build_timeout => '1m', popularity => 'off')],
     [], 'directives win'],
    (map { [{NIX_POPULARITY_URL => $_->[0]},
            [nixery($t, popularity => $_->[1])], [],
            "NIX_POPULARITY_URL, \"nixery_popularity $_->[1]\" wins"] }
     ['https://127.0.0.1/x.json', 'off'], ["$d/none", 'off'],
     ['ftp://x', "$d/table.json"], ["$d/none", 'http://127.0.0.1:1/y']),
    [{%nonsense},
     [without($t, qw(packages storage builder))], [],
     'directives of http win',
     "nixery_packages path $d/packages; nixery_builder $rest{NIX_BUILDER};"
     . "nixery_storage directory $d/storage; nixery_build_timeout 1m;"
     . 'nixery_popularity off;'],
    [{%packages, %storage, %rest}, ['nixery;'],
     [$packages[0], unused('NIXERY_PKGS_REPO', 'NIXERY_CHANNEL'),
      unused('NIXERY_PKGS_PATH', 'NIXERY_CHANNEL'), @rest, @storage],
     'nothing but "nixery"',
     "nixery_temp_path $d/temp; nixery_nix_build $d/fake/nix-build;"],

    # many locations

    [{%packages, %storage, %rest},
     [(without($t, qw(packages storage builder))) x 3],
     [$packages[0], unused('NIXERY_PKGS_REPO', 'NIXERY_CHANNEL'),
      unused('NIXERY_PKGS_PATH', 'NIXERY_CHANNEL'), @rest, @storage],
     'one notice for all locations'],
    [{NIXERY_PKGS_PATH => "$d/packages", NIX_TIMEOUT => 60},
     [without($t, 'packages'), nixery($t, build_timeout => '1m')],
     [$packages[2], $rest[1]], 'a location beside one with directives'],
    [{NIX_POPULARITY_URL => "$d/none"},
     [without($t), nixery($t, popularity => "$d/table.json")],
     [taken('NIX_POPULARITY_URL', "$d/none", 'popularity'),
      "$none ENV NIX_POPULARITY_URL"], 'a location beside one with a table'],

    # empty is not set

    [{map { $_ => '' } keys %nonsense}, [without($t, 'packages')], [$default],
     'empty, packages'],
    [{map { $_ => '' } keys %nonsense}, [without($t, 'storage')],
     ['"nixery" needs "nixery_storage", add "nixery_storage directory PATH;" '
      . 'to this location or around it HERE'], 'empty, storage'],
    [{}, [without($t, 'packages')], [$default], 'none'],

    # nonsense

    (map { [{NIXERY_CHANNEL => $_, NIXERY_PKGS_PATH => "$d/packages"},
            [without($t, 'packages')],
            [qq{invalid channel "$_", a channel, branch or commit has letters, }
             . 'digits, "-", "_" and ".", and begins with a letter or digit '
             . 'ENV NIXERY_CHANNEL'], "NIXERY_CHANNEL, $_"] }
     '-x', 'a b', '../x', 'x;y', ' '),
    (map { [{NIXERY_PKGS_REPO => $_->[0], NIXERY_PKGS_PATH => "$d/packages"},
            [without($t, 'packages')],
            ['invalid URL in "nixery_packages": '
             . "$_->[1] ENV NIXERY_PKGS_REPO"],
            "NIXERY_PKGS_REPO, $_->[0]"] }
     ['ftp://127.0.0.1/x',
      'its protocol is not one of: https ssh http git file'],
     ['ext::sh -c x', q{its byte 8 can't stand in a URL, %20 can}],
     ['me@127.0.0.1:x', 'it is no URL, which begins with a protocol and "://" '
      . '(one of: https ssh http git file); "user@host:path" is written '
      . 'ssh://user@host/path'],
     ['file://x', 'a file URL is "file://" and an absolute path'],
     ['https:///x', 'it has no host']),
    [{NIXERY_PKGS_PATH => "$d/none"}, [without($t, 'packages')],
     [taken('NIXERY_PKGS_PATH', "$d/none", 'packages'),
      '"nixery_packages path" must be a directory with a default.nix, or a Nix '
      . qq{file, that the workers' user can read: "$d/none"$absent }
      . 'ENV NIXERY_PKGS_PATH'], 'NIXERY_PKGS_PATH that is not there'],
    [{NIX_BUILDER => "$d/none"}, [without($t, 'builder')],
     [taken('NIX_BUILDER', "$d/none", 'builder'),
      '"nixery_builder" must be a Nix file that the workers\' user can read: '
      . qq{"$d/none"$absent ENV NIX_BUILDER}], 'NIX_BUILDER that is not there'],
    (map { [{NIX_TIMEOUT => $_}, [without($t)],
            ['"nixery_build_timeout" directive invalid value ENV NIX_TIMEOUT'],
            "NIX_TIMEOUT, $_"] }
     '-1', 'x', '1.5', '99999999999999999999'),
    [{NIX_TIMEOUT => 0}, [without($t)],
     ['a build must have a time limit, "nixery_build_timeout" cannot be 0 '
      . 'ENV NIX_TIMEOUT'], 'NIX_TIMEOUT, 0'],
    (map { [{NIX_POPULARITY_URL => $_->[0]}, [without($t)],
            ["invalid URL in \"nixery_popularity\": $_->[1] "
             . 'ENV NIX_POPULARITY_URL'], "NIX_POPULARITY_URL, $_->[0]"] }
     ['ftp://127.0.0.1/x', 'its protocol is not one of: https http'],
     ['file:///x', 'its protocol is not one of: https http'],
     ['://', 'its protocol is not one of: https http'],
     ['https:///x', 'it has no host'],
     ['https://127.0.0.1/a b', 'its byte 20 can\'t stand in a URL, %20 can']),
    [{NIX_POPULARITY_URL => "$d/none"}, [without($t)],
     [taken('NIX_POPULARITY_URL', "$d/none", 'popularity'),
      "$none ENV NIX_POPULARITY_URL"], 'NIX_POPULARITY_URL that is not there'],
    (map { [{%storage, NIXERY_STORAGE_BACKEND => $_}, [without($t, 'storage')],
            [qq{NIXERY_STORAGE_BACKEND="$_" does not work yet, }
             . '"filesystem" does HERE'], "NIXERY_STORAGE_BACKEND, $_"] }
     qw(gcs s3)),
    (map { [{%storage, NIXERY_STORAGE_BACKEND => $_}, [without($t, 'storage')],
            [qq{NIXERY_STORAGE_BACKEND="$_" is unknown, the only one known is }
             . '"filesystem" HERE'], "NIXERY_STORAGE_BACKEND, $_"] }
     'Filesystem', 'directory', ' '),
    [{NIXERY_STORAGE_BACKEND => 'filesystem'}, [without($t, 'storage')],
     ['NIXERY_STORAGE_BACKEND="filesystem" needs STORAGE_PATH beside it, '
      . 'no "nixery_storage" is set HERE'], 'no STORAGE_PATH'],
    [{STORAGE_PATH => "$d/other"}, [without($t, 'storage')],
     [qq{STORAGE_PATH="$d/other" needs NIXERY_STORAGE_BACKEND="filesystem" }
      . 'beside it, no "nixery_storage" is set HERE'],
     'no NIXERY_STORAGE_BACKEND'],
    [{%storage, STORAGE_PATH => "$d/none/x"}, [without($t, 'storage')],
     [$storage[0], taken('STORAGE_PATH', "$d/none/x", 'storage'),
      qq{"nixery_storage" can't make directory "$d/none/x", make it or }
      . 'name another one (2: No such file or directory) ENV STORAGE_PATH'],
     'STORAGE_PATH that can\'t be made'],
);

$t->plan(@cases + 53);

for my $case (@cases) {
    my ($env, $locations, $lines, $name, $http) = @$case;

    my $end = @$lines && $lines->[-1] !~ /environment|come from|until this is/
        ? 'failed' : 'successful';

    is(checked($t, $env, $locations, $http), join("\n", @$lines, $end), $name);
}

# what is secret in a URL

my $shown = taken('NIXERY_PKGS_REPO', 'https://127.0.0.1/x', 'packages');

is(checked($t, {NIXERY_PKGS_REPO =>
                'https://me:planted@127.0.0.1/x'},
           [without($t, 'packages')]), "$shown\nsuccessful",
   'credentials are not shown');
like(checked($t, {NIXERY_PKGS_REPO => 'https://127.0.0.1/x?token=planted'},
             [without($t, 'packages')]),
     qr/\Ainvalid URL in "nixery_packages": a git repository's has no "\?"(?!.*planted)/s,
     'nor is a query, which a repository does not have');
is(checked($t, {NIXERY_PKGS_REPO => 'https://planted@127.0.0.1/x'},
           [without($t, 'packages')]), "$shown\nsuccessful",
   'a token is not shown');
unlike(checked($t, {NIXERY_PKGS_REPO => 'https://me:planted@/x'},
               [without($t, 'packages')]), qr/planted|successful/,
       'nor are those of a URL that can\'t be one');
is(checked($t, {"NIXERY_$_->[0]" => 'https://me:planted@127.0.0.1/x'},
           [without($t, 'packages')]),
   qq{"nixery_packages $_->[1]" takes no URL, "nixery_packages git" does }
   . "ENV NIXERY_$_->[0]\nfailed", "nor where a URL is wrong, $_->[1]")
    for ['CHANNEL', 'channel'], ['PKGS_PATH', 'path'];

$shown = taken('NIX_POPULARITY_URL', 'https://127.0.0.1/x', 'popularity');

is(checked($t, {NIX_POPULARITY_URL => $_}, [without($t)]),
   "$shown\nsuccessful", 'nor what is secret in the URL of a table')
    for 'https://me:planted@127.0.0.1/x', 'https://planted@127.0.0.1/x',
        'https://127.0.0.1/x?token=planted';
is(checked($t, {NIX_POPULARITY_URL => "$_->[0]://me:planted\@$_->[1]/x?planted"},
           [without($t)]),
   "invalid URL in \"nixery_popularity\": $_->[2] ENV NIX_POPULARITY_URL\n"
   . 'failed', "nor where it can't be one: $_->[2]")
    for ['ftp', '127.0.0.1', 'its protocol is not one of: https http'],
        ['https', '', 'it has no host'];

like(checked($t, {NIXERY_PKGS_REPO => 'file:///x', PATH => "$d/none"},
             [without($t, 'packages')]),
     qr/^no program "git" in PATH.* ENV NIXERY_PKGS_REPO\nfailed\z/m,
     'no git for the repository');

###############################################################################

# at work

sub server {
    my ($number, $location) = @_;
    return <<"EOS";
server {
    listen       127.0.0.1:$number;
    server_name  localhost;

    location /v2 {
        $location
    }
}
EOS
}


# How often that was said, by that process.

sub told {
    my ($t, $line, $pid) = @_;

    $pid //= '\d+';
    $line =~ s/ HERE$//;

    return scalar(() = $t->read_file('error.log')
                       =~ /\[\w+\] $pid#\d+: \Q$line\E in /g);
}


# The pid of what nginx.pid names, or 0.

sub master {
    my ($t) = @_;

    open(my $fh, '<', $t->testdir() . '/nginx.pid') or return 0;
    my $pid = <$fh> // 0;
    close($fh);

    return $pid + 0;
}


my $bare = without($t, qw(packages storage builder))
    . ' nixery_build_timeout 10m;';
my @names = qw(NIXERY_PKGS_PATH NIX_BUILDER NIX_TIMEOUT NIXERY_STORAGE_BACKEND
               STORAGE_PATH);
my ($r, $call, $master, $new, @daemons);

END {
    kill('TERM', grep { -e "/proc/$_" } @daemons);
}

configure($t, 'nginx.conf', server(8080, $bare) . server(8081, nixery($t)));

# "nginx -t" made one, which says that nginx runs
unlink("$d/nginx.pid");

$ENV{NIXERY_PKGS_PATH} = "$d/packages";
$ENV{NIX_BUILDER} = "$d/builder/builder.nix";
$ENV{NIX_TIMEOUT} = 1;
$ENV{NIXERY_STORAGE_BACKEND} = 'filesystem';
$ENV{STORAGE_PATH} = "$d/other";

my $path = taken('NIXERY_PKGS_PATH', "$d/packages", 'packages');
my $timeout = taken('NIX_TIMEOUT', 1, 'build_timeout');

$t->run();

$r = manifest('tiny');
is(whole($r), '', 'an image');
is(told($t, $_), 1, (split /=/)[0]) for $path, $rest[0], $timeout, @storage;

$call = (calls($t))[-1];
like("@$call", qr/ --argstr pkgSource path!\Q$d\E\/packages /,
     'of the packages at that path');
is($call->[-1], "$d/builder/builder.nix", 'by that builder');
is(scalar(objects($t, 'manifests', "$d/other")), 1, 'kept in that directory');
is(truth($t, "$d/other"), '', 'as it should be');

fake_mode($t, 'hang');
refused(manifest('tiny', 'latest', PeerAddr => '127.0.0.1:' . port(8081)), 504,
        'UNKNOWN', qr/^the build did not finish within 1s /, 'the timeout');
fake_mode($t, 'real');
is(scalar(objects($t, 'manifests')), 0, 'nothing where the directive says');

# a reload: the master's environment is what it was

wipe($t, "$d/other");
ok(reloaded($t), 'reload');

is(whole(manifest('tiny')), '', 'an image');
is(told($t, $_), 2, (split /=/)[0] . ', again')
    for $path, $rest[0], $timeout, @storage;

# a reload with a directive

configure($t, 'nginx.conf', "nixery_storage directory $d/storage;"
                            . server(8080, $bare));
ok(reloaded($t), 'reload with a directive');

is(whole(manifest('tiny')), '', 'an image');
is(scalar(objects($t, 'manifests')), 1, 'kept where the directive says');
is(told($t, $storage[1]), 2, 'no word about the variable');
is(told($t, $path), 3, 'but about the other one');

# a single process drops its environment when it has read it

my $needs = '"nixery" needs "nixery_storage", add "nixery_storage directory '
    . 'PATH;" to this location or around it';

$t->stop();
configure($t, 'nginx.conf', server(8080, $bare),
          'daemon off; master_process off;');
$t->run();

is(whole(manifest('tiny')), '', 'a single process');

$t->reload();
ok(eventually(sub { told($t, $needs) == 1 }), 'it has none when it reloads');
is(whole(manifest('tiny2')), '', 'it goes on as it was');

$t->stop();

# an upgrade of the binary: only a daemon can have one

# with what the sanitizers have to know in any case
my $daemon = join ' ', 'daemon on;', map { "env ${_}SAN_OPTIONS;" } qw(A L UB);
my $all = join ' ', map { "env $_;" } @names;

configure($t, 'nginx.conf', server(8080, $bare), $daemon);
is(system("$Test::Nginx::NGINX -p '$d/' -c nginx.conf -e error.log"), 0,
   'a daemon');
ok(eventually(sub { ($master = master($t)) && children($master) == 1 }),
   'which runs');
push @daemons, $master;

kill('USR2', $master);
ok(eventually(sub { told($t, $needs) == 2 && master($t) == $master
                    && children($master) == 1 }),
   'an upgraded binary has no environment');

configure($t, 'nginx.conf', server(8080, $bare), "$daemon $all");
ok(reloaded($t), 'reload with "env"');

kill('USR2', $master);
ok(eventually(sub { ($new = master($t)) && $new != $master
                    && children($new) == 1 }),
   'an upgraded binary has what "env" names');
push @daemons, $new;

kill('QUIT', $master);
ok(eventually(sub { !-e "/proc/$master" }), 'the old binary exits');
is(told($t, $_, $new), 1, (split /=/)[0] . ', of the new one')
    for $path, $rest[0], @storage;
is(whole(manifest('tiny')), '', 'an image');

kill('QUIT', $new);
ok(eventually(sub { !-e "/proc/$new" }), 'the new binary exits');

# a repository

my $repo = repository($t, 'set');
give($repo->{bare});

$ENV{NIXERY_PKGS_REPO} = "file://$repo->{bare}";

configure($t, 'nginx.conf', server(8080, $bare));
$t->run();

$r = manifest('tiny');
is(whole($r), '', 'an image of a repository');
is($r->{headers}{'nixery-revision'}, git($repo, 'rev-parse', 'HEAD'),
   'at its commit');

###############################################################################
