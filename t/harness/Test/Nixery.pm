package Test::Nixery;

# Copyright (C) The ngx_http_nixery_module authors

# What the tests of this module share: a package set that builds in no time, a
# fake nix-build for faults, and looks at processes and stored objects.

use strict;
use warnings;

use base qw(Exporter);

our @EXPORT = qw(
    calls children containers cpu_time descriptors digests eventually fake_mode
    go labels leaving left_over logged_once manifest nixery objects package_set
    partial prepare processes received refused registry reloaded reply
    store_add text_result truth unique watch watched whole wipe workers
    workers_user
);

use Digest::SHA;
use File::Copy;
use File::Find;
use FindBin;
use IO::Handle;
use IO::Select;
use JSON::PP;
use POSIX ();
use Test::More ();
use Time::HiRes qw(sleep);

use Test::Nginx;


# Makes the test's directory fit for the workers' user, with the fixture set in
# packages/ and the fake nix-build, whose mode is "real".

sub prepare {
    my ($t) = @_;
    my $d = $t->testdir();

    # a person's own would stand in for what a test leaves out
    delete @ENV{grep { /^(NIXERY_|STORAGE_PATH$)
                          |^NIX_(BUILDER|TIMEOUT|POPULARITY_URL)$/x }
                keys %ENV};

    chmod(0755, $d);
    mkdir("$d/$_") for qw(packages packages/seed fake);
    chmod(0777, "$d/fake");

    copy("$FindBin::Bin/fixtures/nix/$_", "$d/packages/$_")
        for qw(default.nix text.nix);
    copy("$FindBin::Bin/harness/fake-program", "$d/fake/nix-build");

    for my $tool (qw(busybox bash-static)) {
        copy("/bin/$tool", "$d/packages/seed/$tool")
            or die "can't copy /bin/$tool: $!\n";
        chmod(0755, "$d/packages/seed/$tool");
    }

    chmod(0755, "$d/fake/nix-build");

    # a place that any user can read, wherever the checkout is
    system("cp -r '$FindBin::Bin/../conf/nix' '$d/builder'") == 0
        or die "can't copy the builder\n";

    fake_mode($t, 'real');

    return;
}


# Who the workers are: what "user" says, but only when root starts them.

sub workers_user {
    return scalar getpwuid($>) if $> != 0;

    my $globals = $ENV{TEST_NGINX_GLOBALS} // '';
    return $globals =~ /\buser\s+([^\s;]+)/ ? $1 : 'nobody';
}


# The directives of a location; what is given comes on top, or instead of the
# directive with that name.

sub nixery {
    my ($t, %directives) = @_;
    my $d = $t->testdir();

    my %all = (
        packages => "path $d/packages",
        builder => "$d/builder/builder.nix",
        storage => "directory $d/storage",
        temp_path => "$d/temp",
        nix_build => "$d/fake/nix-build",
        %directives,
    );

    my @lines = ('nixery;', "nixery_nix_env NIX_REMOTE daemon;",
                 "nixery_nix_env FAKE_DIR $d/fake;",
                 "nixery_nix_env RESULT $d/result.json;");

    push @lines, map { "nixery_$_ $all{$_};" }
                 grep { defined $all{$_} } sort keys %all;

    return join "\n", @lines;
}


# A server whose images are made by those directives.

sub registry {
    my ($port, $directives) = @_;

    return <<"EOF";
    server {
        listen       127.0.0.1:$port;
        server_name  localhost;

        location /v2 {
            $directives
        }
    }

EOF
}


# Puts a package "unique" into the fixture set, which no other test has built:
# the shell script makes $out.  Returns the path of the set.

sub unique {
    my ($t, $script) = @_;
    my $file = $t->testdir() . '/packages/unique.nix';

    $t->write_file('packages/unique.nix',
                   package_set($t, './default.nix', unique => $script));
    chmod(0644, $file);

    return $file;
}


# The text of a set: the one of that file, which the seed is beside, with such
# packages on top, NAME => SHELL SCRIPT.

sub package_set {
    my ($t, $base, %scripts) = @_;
    my $d = $t->testdir();

    my $packages = join '', map { "  $_ = run \"$_\" ''$scripts{$_}'';\n" }
                            sort keys %scripts;

    return <<"EOF";
{ system ? builtins.currentSystem }:

let
  seed = builtins.path { name = "busybox"; path = ./seed; };

  run = name: script: derivation {
    inherit name system;
    builder = "\${seed}/busybox";
    args = [ "sh" "-ec" "bb() { \${seed}/busybox \\"\$@\\"; }; \${script}" ];
    test = "$d";
  };

in import $base { inherit system; } // {
$packages}
EOF
}


# What the fake does from now on: that of nix-build, or the one that is named,
# "git" or the git of Nix, "nix-git".

sub fake_mode {
    my ($t, $mode, $program) = @_;

    unlink($t->testdir() . '/fake/' . _fake_file($program, 'go'));
    _fake_write($t, $program, 'mode', "$mode\n");

    return;
}


# Lets a fake that waits go on.

sub go {
    my ($t, $program) = @_;
    _fake_write($t, $program, 'go', '');
    return;
}


# The calls of the fake so far, each a list of arguments.

sub calls {
    my ($t, $program) = @_;
    my $file = 'fake/' . _fake_file($program, 'calls');

    # a count as well
    return map { decode_json($_) }
           -e $t->testdir() . "/$file" ? split(/\n/, $t->read_file($file)) : ();
}


sub _fake_file {
    my ($program, $name) = @_;
    return defined $program ? "$program-$name" : $name;
}


sub _fake_write {
    my ($t, $program, $name, $content) = @_;
    my $file = 'fake/' . _fake_file($program, $name);

    $t->write_file($file, $content);
    chmod(0644, $t->testdir() . "/$file");

    return;
}


# A builder's result of any content, for builder text.nix.

sub text_result {
    my ($t, $content) = @_;

    $t->write_file('result.json', $content);
    chmod(0644, $t->testdir() . '/result.json');

    return;
}


# A file in the Nix store, or a folder that is there; returns its path.

sub store_add {
    my ($t, $name, $content) = @_;

    $t->write_file($name, $content) if defined $content;
    chomp(my $path = qx(nix-store --add '@{[$t->testdir()]}/$name'));
    die "can't add \"$name\" to the Nix store\n" if $path !~ m{^/nix/store/};

    return $path;
}


# All that comes from a server until it closes the connection: a build may take
# longer than http_end() of nginx's own library waits.

sub received {
    my ($socket) = @_;
    my $text = '';

    return if !defined $socket;

    my $select = IO::Select->new($socket);

    while ($select->can_read(120)) {
        sysread($socket, $text, 65536, length($text)) or last;
    }

    log_in($text);

    return $text;
}


# An answer taken apart: { status, headers (lower case), body, json }.

sub reply {
    my ($text) = @_;

    my $end = index($text // '', "\x0d\x0a\x0d\x0a");
    my $head = $end < 0 ? $text // '' : substr($text, 0, $end);

    return { status => 0, headers => {}, body => '' }
        if $head !~ /^HTTP\/\S+ (\d+)/;

    my $reply = { status => $1, headers => {} };

    $reply->{headers}{lc $1} = $2 while $head =~ /^([\w-]+): (.*?)\x0d?$/gm;
    $reply->{body} = $end < 0 ? '' : substr($text, $end + 4);
    $reply->{json} = eval { decode_json($reply->{body}) }
        if $reply->{body} =~ /^\s*[{\[]/;

    return $reply;
}


sub manifest {
    my ($name, $reference, %extra) = @_;

    $reference //= 'latest';

    return reply(received(http_get("/v2/$name/manifests/$reference", start => 1,
                                   %extra)));
}


# One test: an error of that status and code, its message like that.

sub refused {
    my ($reply, $status, $code, $like, $name) = @_;

    my $error = ref $reply->{json} eq 'HASH' ? $reply->{json}{errors}[0] : {};
    my $message = $error->{message} // '';

    my $ok = $reply->{status} == $status && ($error->{code} // '') eq $code
        && $message =~ $like
        && ($reply->{headers}{'content-type'} // '') eq 'application/json'
        && ($reply->{headers}{'docker-distribution-api-version'} // '')
           eq 'registry/2.0';

    Test::More::ok($ok, $name)
        or Test::More::diag("status $reply->{status}: $reply->{body}");

    return;
}


# One test: the error log has one line, of that level, about an error's job, with
# the same words.

sub logged_once {
    my ($t, $reply, $level, $name) = @_;

    my $error = ref $reply->{json} eq 'HASH' ? $reply->{json}{errors}[0] : {};
    my $id = $error->{detail}{build} // 'none';
    my $words = $error->{message} // 'none';

    # the log has these elsewhere in the line, and not what Nix printed
    $words =~ s/ \((?:build \Q$id\E)?(?:, )?(?:revision \S+)?\)(?:\n.*)?$//s;

    my @lines = grep { /^\S+ \S+ \[(?!debug)\w+\] .*\Q$id\E/ }
                split /\n/, $t->read_file('error.log');

    Test::More::ok(@lines == 1 && $lines[0] =~ /\[$level\] .*: nixery: /
                   && index($lines[0], $words) >= 0, "$name, one line")
        or Test::More::diag("\"$words\" is not in: ", join "\n", @lines);

    return;
}


# What is missing or wrong of an image that a client pulls by that answer: each
# of its blobs is fetched.

sub whole {
    my ($reply, %extra) = @_;

    return "status $reply->{status}: $reply->{body}" if $reply->{status} != 200;

    my $manifest = $reply->{json};
    my @wrong;

    return 'no layers' if !@{$manifest->{layers} // []};

    for my $blob ($manifest->{config}, @{$manifest->{layers}}) {
        my $uri = "/v2/any/blobs/$blob->{digest}";
        my $r = reply(received(http_get($uri, start => 1, %extra)));

        push @wrong, "$uri: status $r->{status}"
            if $r->{status} != 200 || length($r->{body}) != $blob->{size}
            || 'sha256:' . Digest::SHA::sha256_hex($r->{body})
               ne $blob->{digest};
    }

    return join ' ', @wrong;
}


# The digests of an image's layers.

sub digests {
    my ($reply) = @_;
    my $manifest = ref $reply->{json} eq 'HASH' ? $reply->{json} : {};

    return join ' ', map { $_->{digest} } @{$manifest->{layers} // []};
}


# The labels in an image's configuration.

sub labels {
    my ($reply, %extra) = @_;

    return {} if $reply->{status} != 200;

    my $digest = $reply->{json}{config}{digest};
    my $r = reply(received(http_get("/v2/any/blobs/$digest", start => 1,
                                    %extra)));

    return $r->{json}{config}{Labels} // {};
}


# Waits until something is true, for a minute at most; looks every 20 ms if not
# told otherwise.

sub eventually {
    my ($code, $tick) = @_;
    my $end = time() + 60;

    for (;;) {
        my $value = $code->();
        return $value if $value || time() > $end;
        sleep($tick // 0.02);
    }
}


# --- processes

sub children {
    my ($pid) = @_;

    opendir(my $dh, '/proc') or die "can't open /proc: $!\n";
    my @pids = grep { /^\d+$/ && (_stat($_))[1] eq $pid
                      && (_stat($_))[0] ne 'Z' } readdir($dh);
    closedir($dh);

    return @pids;
}


# State and parent of a process.

sub _stat {
    my ($pid) = @_;

    open(my $fh, '<', "/proc/$pid/stat") or return ('X', '');
    my $line = <$fh> // '';
    close($fh);

    return $line =~ /\) (\S) (\d+)/ ? ($1, $2) : ('X', '');
}


# Live processes whose environment has the fake's directory of this test: those
# of its builds.

sub processes {
    my ($t) = @_;
    my $d = $t->testdir();
    my @pids;

    opendir(my $dh, '/proc') or die "can't open /proc: $!\n";

    for my $pid (grep { /^\d+$/ } readdir($dh)) {
        open(my $fh, '<', "/proc/$pid/environ") or next;
        local $/;
        my $environ = <$fh> // '';
        close($fh);

        push @pids, $pid
            if $environ =~ /FAKE_DIR=\Q$d\E/ && (_stat($pid))[0] ne 'Z';
    }

    closedir($dh);

    return @pids;
}


# The workers, but those that are leaving.

sub workers {
    my ($t) = @_;

    return grep { _title($_) eq 'nginx: worker process' }
           children($t->read_file('nginx.pid') + 0);
}


# Reloads; true when one worker is left, a new one.

sub reloaded {
    my ($t) = @_;
    my ($old) = workers($t);
    my $master = $t->read_file('nginx.pid') + 0;

    kill('HUP', $master);

    return eventually(sub { my @pids = children($master);
                            @pids == 1 && $pids[0] != $old });
}


sub leaving {
    my ($pid) = @_;
    return _title($pid) eq 'nginx: worker process is shutting down';
}


sub _title {
    my ($pid) = @_;

    open(my $fh, '<', "/proc/$pid/cmdline") or return '';
    my $title = <$fh> // '';
    close($fh);

    return $title =~ s/[\0 ]+$//r;
}


# Seconds of CPU time that a process has used.

sub cpu_time {
    my ($pid) = @_;

    open(my $fh, '<', "/proc/$pid/stat") or return 0;
    my @stat = split / /, <$fh> =~ s/.*\) //r;
    close($fh);

    return ($stat[11] + $stat[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}


sub descriptors {
    my ($pid) = @_;
    return scalar(() = glob("/proc/$pid/fd/*"));
}


# What a build that has ended must not leave: processes and work folders.

sub left_over {
    my ($t) = @_;
    my $d = $t->testdir();

    return join ' ', processes($t), glob("$d/temp*/nixery-work.*"),
                     glob("$d/storage*/tmp/*");
}


# --- podman

my $containers;     # { owner, dir }


# Lets podman keep everything in the test's directory, with limits that a machine
# can have which may not raise its own.

sub containers {
    my ($t) = @_;
    my $d = $t->testdir();

    $t->write_file('containers.conf', <<"EOF");
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
netns = "host"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc"
tmp_dir = "$d/containers/tmp"
EOF

    $t->write_file('storage.conf', <<"EOF");
[storage]
driver = "overlay"
graphroot = "$d/containers/root"
runroot = "$d/containers/run"

[storage.options.overlay]
skip_mount_home = "true"
EOF

    $ENV{CONTAINERS_CONF} = "$d/containers.conf";
    $ENV{CONTAINERS_STORAGE_CONF} = "$d/storage.conf";
    $containers = { owner => $$, dir => "$d/containers" };

    return;
}


# A container that ended may still be cleaned up; what is mounted then would keep
# the directory in place.

END {
    if ($containers && $containers->{owner} == $$) {
        local $?;

        # one that is just replaced by another may be missed
        eventually(sub { !_podmen() && !_podmen() });

        open(my $fh, '<', '/proc/self/mounts') or die "can't see mounts: $!\n";
        my @mounts = map { (split)[1] } <$fh>;
        close($fh);

        system('umount', '-l', $_)
            for grep { /^\Q$containers->{dir}\E/ } reverse @mounts;
    }
}


sub _podmen {
    my @pids;

    for my $file (glob('/proc/[0-9]*/cmdline')) {
        open(my $fh, '<', $file) or next;
        my $command = <$fh> // '';
        close($fh);

        push @pids, $file if $command =~ /\0\Q$containers->{dir}\E/;
    }

    return @pids;
}


# --- storage

# The objects of a storage below that folder.

sub objects {
    my ($t, $folder, $storage) = @_;

    $storage //= $t->testdir() . '/storage';

    return map { s{.*/}{}r } glob("$storage/$folder/*");
}


# Names of stored layers whose content is not what their name says, and of files
# that have no business in the storage.

sub truth {
    my ($t, $storage) = @_;
    my @wrong;

    $storage //= $t->testdir() . '/storage';

    find(sub {
        return if !-f $_;

        my $folder = $File::Find::dir =~ s{.*/}{}r;

        push @wrong, $File::Find::name
            if $folder !~ /^(layers|manifests|builds)$/
            || !/^[0-9a-f]{64}$/
            || ($folder eq 'layers'
                && Digest::SHA->new(256)->addfile($_)->hexdigest() ne $_);
    }, $storage) if -d $storage;

    return join ' ', @wrong;
}


# Removes all objects of a storage.

sub wipe {
    my ($t, $storage) = @_;

    $storage //= $t->testdir() . '/storage';

    unlink(_visible($storage));

    return;
}


# From now on looks, in a process of its own, at every object of those storages
# as soon as it can be seen.

sub watch {
    my ($t, @storages) = @_;
    my $d = $t->testdir();

    @storages = ("$d/storage") if !@storages;

    $t->run_daemon(\&_watch, "$d/watched", @storages);
    $t->waitforfile("$d/watched");

    return;
}


# How many objects have been looked at, and what was wrong with them.

sub watched {
    my ($t) = @_;
    my @lines = split /\n/, $t->read_file('watched');

    return (scalar @lines, join ' ', grep { !/ ok$/ } @lines);
}


sub _watch {
    my ($log, @storages) = @_;
    my %seen;

    open(my $fh, '>', $log) or die "can't open \"$log\": $!\n";
    $fh->autoflush(1);

    while (1) {
        my %there;

        for my $file (map { _visible($_) } @storages) {
            my $inode = (stat $file)[1] // next;

            $there{"$file $inode"} = 1;
            next if $seen{"$file $inode"};

            my $wrong = _wrong($file);

            # unless it was wiped meanwhile
            print $fh "$file ", $wrong || 'ok', "\n"
                if ((stat $file)[1] // 0) == $inode;
        }

        %seen = %there;
        sleep(0.002);
    }
}


# Objects that can be seen now and that are wrong.

sub partial {
    my ($t, $storage) = @_;

    $storage //= $t->testdir() . '/storage';

    return join ' ', map { my $wrong = _wrong($_); $wrong ? "$_ $wrong" : () }
                     _visible($storage);
}


# The files of all objects, those first that name others.

sub _visible {
    my ($storage) = @_;
    return map { glob("$storage/$_/*") } qw(manifests builds layers);
}


# An object is what its name says, and what it names is there.

sub _wrong {
    my ($file) = @_;

    open(my $fh, '<', $file) or return "can't be read: $!";
    binmode $fh;

    my ($storage, $folder, $name) = $file =~ m{(.*)/(.*)/(.*)};

    if ($folder eq 'layers') {
        my $digest = Digest::SHA->new(256)->addfile($fh)->hexdigest();
        return $digest eq $name ? '' : 'has another digest';
    }

    local $/;
    my $json = eval { decode_json(<$fh>) } // return 'is no JSON';

    for my $blob ($folder eq 'builds'
                  ? $json : ($json->{config}, @{$json->{layers}}))
    {
        my $hex = $blob->{digest} =~ s/^sha256://r;

        return "names $hex" if (-s "$storage/layers/$hex" // -1)
                               != $blob->{size};
    }

    return '';
}


1;
