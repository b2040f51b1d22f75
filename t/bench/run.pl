#!/usr/bin/perl
#
# Copyright (C) The ngx_http_nixery_module authors
#
# run.pl: "make bench" calls it through with-nix.sh.  Everything is measured
# beside its limit in this same run, five times, the two by turns; a table of
# the medians comes last.  Ends with 1 when a bar is missed, with another status
# when something can't be measured.  From the environment:
#
#   BUILD  absolute path of the build directory, where the module is

use strict;
use warnings;

use Digest::SHA;
use File::Temp;
use FindBin;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Time::HiRes qw(time);

use lib $FindBin::Bin, "$FindBin::Bin/../harness";
use Bench;
use Test::Nginx;
use Test::Nixery;

use constant {
    SEED => 20,              # of the random images
    IMAGES => 50,
    BLOB => 50_000_000,      # bytes
    FETCHES => 20,           # of it, in a round
    PULLS => 20,             # of a branch, in a round
    LARGE => 1 << 30,
    PACKED => 200_000_000,   # the closure's layers have less
};

# A closure of some 420 MB, as the name of an image.  git and the programs in Go
# are not in it: level 1 leaves half of what they add, whoever calls it.
my $closure = join '/', qw(
    builder cmake curl file htop iproute2 jq openssl perl procps python3
    python3packages.pyyaml python3packages.requests ripgrep rsync sqlite
    strace tmux util-linux vim wget zstd
);

# Their closure is small enough that each of its paths has a layer of its own.
my @small = qw(curl htop jq less lsof sqlite tree wget which zip);

my $build = $ENV{BUILD} // die "BUILD is not set\n";
my $bench = $FindBin::Bin;
my $master;               # of nginx
my $daemon;               # of git

# what the other user, the worker's, can read
my $dir = File::Temp->newdir('nixery-bench-XXXXXXXXXX', DIR => '/var/tmp');
chmod(0755, $dir);

local $SIG{INT} = sub { exit 130 };
local $SIG{TERM} = sub { exit 143 };

END {
    my $status = $?;

    stop_nginx();

    # it has a child that serves
    if ($daemon) {
        kill('TERM', -$daemon);
        waitpid($daemon, 0);
    }

    $? = $status;
}

$| = 1;

my $builder = store_add_root("$bench/../../conf/nix", 'builder');
my $packages = packages();

# in the Nix store before anything is measured: what it takes to build them is
# no concern of this
say_step('realising the packages');
realise(roots(), 'stdenv');

say_step('packing');
bench_pack();

start_git();
start_nginx();

say_step("a worker's memory while packing");
bench_memory();

say_step('a blob');
bench_blob();

say_step('a cached manifest');
bench_manifest();

say_step('a branch and a commit');
bench_branch();
bench_commit();

say_step('new images');
bench_new();

say_step(IMAGES . ' random images');
measure("$build/bench/layers", popularity(), random_images());

exit table();


# --- what is measured

# Its limit is in memory, so the layers are as well, where there is room: how
# fast the disk is, and what else it does, is no matter of packing.

sub bench_pack {
    my $work = File::Temp->newdir('nixery-bench-XXXXXXXXXX',
        DIR => free_bytes('/dev/shm') > PACKED ? '/dev/shm' : $dir);

    measure("$build/bench/pack", nix_build(image_packages($closure)), $work);

    return;
}


sub free_bytes {
    my ($path) = @_;

    return -w $path && command('df', '--output=avail', '-B1', $path) =~ /(\d+)/
        ? $1 : 0;
}


# A worker that packs the closure, and one file larger than all that it may
# take, five times over.

sub bench_memory {
    my ($worker) = children($master);

    http_get('/v2/');

    my $idle = status($worker, 'VmRSS');

    for my $round (1 .. ROUNDS) {
        print "  round $round of ", ROUNDS, "\n";

        pull("$closure/large");
        unlink(glob "$dir/storage/{manifests,builds,layers}/*");
    }

    forget(nix_build(image_packages("$closure/large")), qr/-large$/);

    my $more = (status($worker, 'VmHWM') - $idle) / 1024;

    row('memory of a worker', sprintf('+%.1f MiB', $more),
        sprintf('idle %.1f MiB', $idle / 1024), sprintf('%.1f', $more),
        $more, '<=', 64);

    return;
}


sub bench_blob {
    open(my $random, '<', '/dev/urandom') or die "can't open urandom: $!\n";
    read($random, my $bytes, BLOB) == BLOB or die "can't read urandom: $!\n";
    close($random);

    my $hex = Digest::SHA::sha256_hex($bytes);
    write_file("$dir/storage/layers/$hex", $bytes);

    # one after the other, many times: whatever else is going on meets both
    my $socket = http('', start => 1);
    my (@ours, @limits);

    for my $round (1 .. ROUNDS) {
        my ($ours, $limit) = (0, 0);

        for (1 .. FETCHES) {
            $ours += fetch($socket, "/v2/any/blobs/sha256:$hex");
            $limit += fetch($socket, "/static/$hex");
        }

        push @ours, FETCHES * BLOB / $ours / 1e9;
        push @limits, FETCHES * BLOB / $limit / 1e9;
    }

    my $share = median(map { $ours[$_] / $limits[$_] } 0 .. $#ours);

    row('blob of 50 MB', sprintf('%.2f GB/s', median(@ours)),
        sprintf('%.2f GB/s', median(@limits)), sprintf('%.3f', $share),
        $share, '>=', 0.95);

    return;
}


# Downloads a blob over a connection that stays; the seconds that it took.

sub fetch {
    my ($socket, $uri) = @_;
    my ($start, $head, $left) = (time(), '');

    print $socket "GET $uri HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a";

    until (defined $left) {
        sysread($socket, $head, 4096, length($head)) or die "$uri: cut off\n";
        $left = BLOB - length($1) if $head =~ /\x0d\x0a\x0d\x0a(.*)/s;
    }

    die "$uri: $head\n" if $head !~ /^HTTP\/1.1 200/;

    while ($left > 0) {
        $left -= sysread($socket, my $buf, 1 << 20) || die "$uri: cut off\n";
    }

    return time() - $start;
}


sub bench_manifest {
    my $digest = pull('hello')->{headers}{'docker-content-digest'};
    my $hex = $digest =~ s/^sha256://r;

    my ($ours, $limit, $share) = by_turns(
        sub { wrk("/v2/hello/manifests/$digest") },
        sub { wrk("/static/$hex") });

    row('manifest by digest', sprintf('%.0f /s', $ours),
        sprintf('%.0f /s', $limit), sprintf('%.2f', $share));

    return;
}


# A branch that stays where it is, asked for each time.

sub bench_branch {
    my (@ours, @limits, @more);

    pull('git/hello', 'main', 8081);

    for my $round (1 .. ROUNDS) {
        my (@pulls, @asked);

        for (1 .. PULLS) {
            push @pulls, seconds(sub { pull('git/hello', 'main', 8081) });
            push @asked, seconds(sub {
                command('git', 'ls-remote', repository_url(),
                        'refs/heads/main') });
        }

        push @ours, 1000 * median(@pulls);
        push @limits, 1000 * median(@asked);
        push @more, $ours[-1] - $limits[-1];
    }

    my $more = median(@more);

    row('branch, not moved', sprintf('%.1f ms', median(@ours)),
        sprintf('%.1f ms', median(@limits)), sprintf('%+.1f ms', $more),
        $more, '<=', 30);

    return;
}


sub bench_commit {
    chomp(my $commit = command('git', '-C', "$dir/repository", 'rev-parse',
                               'main'));
    my $reply = pull('git/hello', $commit, 8081);
    my $hex = $reply->{headers}{'docker-content-digest'} =~ s/^sha256://r;

    my ($ours, $limit, $share) = by_turns(
        sub { wrk("/v2/git/hello/manifests/$commit", 8081) },
        sub { wrk("/static/$hex") });

    row('commit, cached', sprintf('%.0f /s', $ours),
        sprintf('%.0f /s', $limit), sprintf('%.2f', $share));

    return;
}


# Images of packages whose layers are stored, in combinations that are new.
# What Nix makes for one is deleted again, so that nix-build alone does the same
# work.

sub bench_new {
    my (@ours, @limits, @more);

    pull(join '/', @small);

    for my $round (0 .. ROUNDS - 1) {
        my @image = sort @small[$round, $round + 3, $round + 5];
        my @turns = (
            sub { push @ours, seconds(sub { pull_new(@image) }) },
            sub { push @limits, seconds(sub { nix_build(@image) }) });

        # packages and evaluation caches are there afterwards
        forget(nix_build(@image));

        for my $turn ($round % 2 ? @turns : reverse @turns) {
            $turn->();
            forget(nix_build(@image));
        }

        push @more, 1000 * ($ours[-1] - $limits[-1]);
    }

    my $more = median(@more);

    row('new image', sprintf('%.0f ms', 1000 * median(@ours)),
        sprintf('%.0f ms', 1000 * median(@limits)), sprintf('%+.0f ms', $more),
        $more, '<=', 150);

    return;
}


# The results of images of one to six packages of the bundled set, the same ones
# in each run.

sub random_images {
    my @all = roots();
    my @images;

    srand(SEED);

    for (1 .. IMAGES) {
        my %image;
        my $n = 1 + int(rand 6);

        $image{$all[rand @all]} = 1 while keys %image < $n;
        push @images, [sort keys %image];
    }

    # one evaluation of them all
    write_file("$dir/images.nix", join "\n", 'map (packages:',
        "import $builder/builder.nix {",
        '  name = builtins.concatStringsSep "/" packages;',
        '  packages = builtins.toJSON packages;',
        "  pkgSource = \"path!$packages\";",
        '}) [', (map { "[ @{[map { qq(\"$_\") } @$_]} ]" } @images), ']');

    return split /\n/, command('nix-build', '--no-out-link',
                               "$dir/images.nix");
}


# What "make popularity" counts of the bundled set.

sub popularity {
    write_file("$dir/popularity.json",
               command("$bench/../../conf/nix/popularity/count.pl", $packages,
                       roots(), 'stdenv'));

    return "$dir/popularity.json";
}


# Requests a second, by wrk.

sub wrk {
    my ($uri, $port) = @_;

    write_file("$dir/wrk.lua", <<'EOF') if !-e "$dir/wrk.lua";
function done(summary)
    local e = summary.errors
    io.write(string.format("result %d %d %d\n", summary.requests,
                           summary.duration,
                           e.connect + e.read + e.write + e.status + e.timeout))
end
EOF

    my $output = command('wrk', '-t', 1, '-c', 4, '-d', '1s', '-s',
                         "$dir/wrk.lua", 'http://127.0.0.1:'
                                         . port($port // 8080) . $uri);

    $output =~ /^result (\d+) (\d+) (\d+)/m
        or die "wrk says: $output\n";
    my ($n, $us, $errors) = ($1, $2, $3);

    die "$uri: $errors of $n requests failed\n" if $errors || !$n;

    return $n / $us * 1e6;
}


sub pull {
    my ($name, $tag, $port) = @_;

    $tag //= 'latest';

    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1:' . port($port // 8080))
        or die "can't connect: $!\n";

    my $reply = reply(http_get("/v2/$name/manifests/$tag", timeout => 300,
                               socket => $socket));

    die "$name: status $reply->{status}: $reply->{body}\n"
        if $reply->{status} != 200;

    return $reply;
}


# Nothing but the top layer, the config and the manifest may be new.

sub pull_new {
    my (@packages) = @_;
    my $before = () = glob "$dir/storage/layers/*";

    pull(join '/', @packages);

    my $new = (() = glob "$dir/storage/layers/*") - $before;
    die "@packages: $new new blobs\n" if $new != 3;

    return;
}


# --- Nix

# A store path that anyone can read, kept until the end.

sub store_add_root {
    my ($path, $name) = @_;

    chomp(my $added = command('nix-store', '--add', $path));
    command('nix-store', '--realise', '--add-root', "$dir/$name", $added);

    return $added;
}


# The bundled set, and a package with one large file.

sub packages {
    my $set = store_add_root("$build/packages", 'bundled');

    mkdir("$dir/set");
    write_file("$dir/set/default.nix", <<"EOF");
{ system ? builtins.currentSystem }:

let set = import $set { inherit system; };

in set // {
  large = derivation {
    name = "large";
    inherit system;
    builder = "\${set.busybox}/bin/busybox";
    args = [ "sh" "-ec" ''
      \${set.busybox}/bin/busybox mkdir \$out
      \${set.busybox}/bin/busybox truncate -s @{[LARGE]} \$out/file
    '' ];
  };
}
EOF

    return store_add_root("$dir/set", 'packages');
}


# The packages of the bundled set.

sub roots {
    return slurp("$build/packages/roots") =~ /^([^#\s]\S*)/mg;
}


# Calls the builder as the module does.

sub nix_build {
    my (@packages) = @_;

    chomp(my $result = command(nix_build_command(@packages)));

    return $result;
}


sub nix_build_command {
    my (@packages) = @_;
    @packages = sort @packages;

    return ('nix-build', '--out-link', "$dir/result",
            '--argstr', 'name', join('/', @packages),
            '--argstr', 'packages', encode_json(\@packages),
            '--argstr', 'pkgSource', "path!$packages",
            "$builder/builder.nix");
}


# The same where it may take long: each derivation is a line.

sub realise {
    my (@packages) = @_;

    my $pid = open(my $fh, '-|') // die "can't fork: $!\n";

    if ($pid == 0) {
        open(STDERR, '>&', \*STDOUT) && open(STDOUT, '>', '/dev/null')
            && exec(nix_build_command(@packages));
        POSIX::_exit(127);
    }

    while (<$fh>) {
        print "  $1\n" if /^building '[^-]*-(.*)\.drv'/;
    }

    close($fh);

    # says why, if it failed
    nix_build(@packages);

    return;
}


sub image_packages {
    my ($name) = @_;
    return map { $_ eq 'builder' ? qw(bashInteractive coreutils moreutils nano
                                      stdenv) : $_ } split /\//, $name;
}


# Deletes a result, the tree of links that was made for it, and what else of its
# closure has such a name.

sub forget {
    my ($result, $like) = @_;
    my @closure = split /\n/,
        command('nix-store', '-q', '--requisites', $result);

    unlink("$dir/result");
    command('nix-store', '--delete', $result,
            grep { /-contents$/ || ($like && /$like/) } @closure);

    return;
}


# --- git

# The bundled set as a repository, which a daemon serves.

sub start_git {
    my $repository = "$dir/repository";

    mkdir($repository);
    write_file("$repository/default.nix", slurp("$dir/set/default.nix"));

    command('git', 'init', '-q', '-b', 'main', $repository);
    command('git', '-C', $repository, 'add', 'default.nix');
    command('git', '-C', $repository, '-c', 'user.name=bench', '-c',
            'user.email=bench', 'commit', '-q', '-m', 'bench');

    my $port = port(8082);
    $daemon = fork() // die "can't fork: $!\n";

    if ($daemon == 0) {
        setpgrp();
        exec('git', 'daemon', '--listen=127.0.0.1', "--port=$port",
             '--export-all', "--base-path=$dir", $dir) or POSIX::_exit(127);
    }

    eventually(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") })
        or die "git daemon did not start\n";

    return;
}


sub repository_url {
    return 'git://127.0.0.1:' . port(8082) . '/repository';
}


# --- nginx

sub start_nginx {
    my $root = $> == 0;

    mkdir("$dir/$_") for qw(storage storage/layers temp);

    if ($root) {
        my ($uid, $gid) = (getpwnam('www-data'))[2, 3];
        chown($uid, $gid, map { "$dir/$_" } qw(storage storage/layers temp));
    }

    write_file("$dir/nginx.conf", <<"EOF");
load_module $build/ngx_http_nixery_module.so;
@{[$root ? 'user www-data nix-users;' : '']}
worker_processes 1;
daemon off;
pid $dir/nginx.pid;
error_log $dir/error.log notice;

events {
}

http {
    access_log off;
    sendfile on;
    keepalive_requests 10000000;
    @{[map { "${_}_temp_path $dir/${_}_temp;" }
           qw(client_body proxy fastcgi uwsgi scgi)]}

    server {
        listen 127.0.0.1:@{[port(8080)]};

        location /v2 {
            nixery;
            nixery_packages path $packages;
            nixery_builder $builder/builder.nix;
            nixery_storage directory $dir/storage;
            nixery_temp_path $dir/temp;
            nixery_nix_env NIX_REMOTE daemon;
        }

        location /static/ {
            alias $dir/storage/layers/;
        }
    }

    server {
        listen 127.0.0.1:@{[port(8081)]};

        location /v2 {
            nixery;
            nixery_packages git @{[repository_url()]};
            nixery_builder $builder/builder.nix;
            nixery_storage directory $dir/storage;
            nixery_temp_path $dir/temp;
            nixery_nix_env NIX_REMOTE daemon;
            nixery_cache_valid 0;
        }
    }
}
EOF

    $master = fork() // die "can't fork: $!\n";

    if ($master == 0) {
        exec('nginx', '-p', "$dir/", '-e', 'error.log', '-c',
             "$dir/nginx.conf") or POSIX::_exit(127);
    }

    my $started = eventually(sub {
        -s "$dir/nginx.pid" || waitpid($master, POSIX::WNOHANG()) != 0;
    });

    die "nginx did not start: ", slurp("$dir/error.log"), "\n"
        if !$started || !-s "$dir/nginx.pid";

    return;
}


sub stop_nginx {
    return if !$master;

    kill('TERM', $master);
    waitpid($master, 0);
    undef $master;

    return;
}


# KiB of a line of a process's status.

sub status {
    my ($pid, $name) = @_;

    return slurp("/proc/$pid/status") =~ /^$name:\s+(\d+)/m
        ? $1 : die "can't read $name of $pid\n";
}
