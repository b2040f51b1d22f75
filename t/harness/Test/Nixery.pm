package Test::Nixery;

# Copyright (C) The ngx_http_nixery_module authors

# What the tests of this module share: a package set that builds in no time, a
# fake nix-build for faults, and looks at processes and stored objects.

use strict;
use warnings;

use base qw(Exporter);

our @EXPORT = qw(
    calls children descriptors eventually fake_mode go manifest nixery objects
    prepare processes refused reply store_add text_result truth
);

use Digest::SHA;
use File::Copy;
use File::Find;
use FindBin;
use JSON::PP;
use Test::More ();

use Test::Nginx;


# Makes the test's directory fit for the workers' user, with the fixture set in
# packages/ and the fake nix-build, whose mode is "real".

sub prepare {
    my ($t) = @_;
    my $d = $t->testdir();

    chmod(0755, $d);
    mkdir("$d/$_") for qw(packages packages/seed fake);
    chmod(0777, "$d/fake");

    copy("$FindBin::Bin/fixtures/nix/$_", "$d/packages/$_")
        for qw(default.nix text.nix);
    copy("$FindBin::Bin/harness/fake-nix-build", "$d/fake/nix-build");

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


sub fake_mode {
    my ($t, $mode) = @_;

    unlink($t->testdir() . '/fake/go');
    $t->write_file('fake/mode', "$mode\n");
    chmod(0644, $t->testdir() . '/fake/mode');

    return;
}


# Lets a fake that waits go on.

sub go {
    my ($t) = @_;
    $t->write_file('fake/go', '');
    return;
}


# The calls of the fake so far, each a list of arguments.

sub calls {
    my ($t) = @_;

    return if !-e $t->testdir() . '/fake/calls';

    return map { decode_json($_) } split /\n/, $t->read_file('fake/calls');
}


# A builder's result of any content, for builder text.nix.

sub text_result {
    my ($t, $content) = @_;

    $t->write_file('result.json', $content);
    chmod(0644, $t->testdir() . '/result.json');

    return;
}


# A file in the Nix store; returns its path.

sub store_add {
    my ($t, $name, $content) = @_;

    $t->write_file($name, $content);
    chomp(my $path = qx(nix-store --add '@{[$t->testdir()]}/$name'));
    die "can't add \"$name\" to the Nix store\n" if $path !~ m{^/nix/store/};

    return $path;
}


# An answer taken apart: { status, headers (lower case), body, json }.

sub reply {
    my ($text) = @_;

    return { status => 0, headers => {}, body => '' }
        if !defined $text || $text !~ /^HTTP\/\S+ (\d+)/;

    my $reply = { status => $1, headers => {}, body => '' };
    my ($head, $body) = split /\x0d\x0a\x0d\x0a/, $text, 2;

    $reply->{headers}{lc $1} = $2 while $head =~ /^([\w-]+): (.*?)\x0d?$/gm;
    $reply->{body} = $body // '';
    $reply->{json} = eval { decode_json($reply->{body}) };

    return $reply;
}


sub manifest {
    my ($name, $reference, %extra) = @_;

    $reference //= 'latest';

    return reply(http_get("/v2/$name/manifests/$reference", timeout => 120,
                          %extra));
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


# Waits until something is true, for a minute at most.

sub eventually {
    my ($code) = @_;

    for (1 .. 3000) {
        my $value = $code->();
        return $value if $value;
        select(undef, undef, undef, 0.02);
    }

    return 0;
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


sub descriptors {
    my ($pid) = @_;
    return scalar(() = glob("/proc/$pid/fd/*"));
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


1;
