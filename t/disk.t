#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# A full disk and a read-only one, as storage and as temp path: the error says
# what failed, no partial object is ever seen, and when there is room again the
# next request gets the whole image.

use warnings;
use strict;

use Test::More;

BEGIN {
    use FindBin;
    chdir($FindBin::Bin);

    # what is mounted here is gone with the last process of this test

    if (!$ENV{NIXERY_TEST_MOUNTS}) {
        if ($> != 0 || system('unshare --mount true') != 0) {
            plan(skip_all => 'can not mount');
        }

        $ENV{NIXERY_TEST_MOUNTS} = 1;
        exec('unshare', '--mount', '--propagation', 'private', $^X,
             (map { "-I$_" } @INC), "$FindBin::Bin/$FindBin::Script");
    }
}

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use constant { IMAGE => 'big1/big2', DISK => 32 * 1024 * 1024 };

# nobody else sees what is mounted here
my $m = '/mnt';

my $t = Test::Nginx->new()->has(qw/http/)->plan(75);
my $d = $t->testdir();

prepare($t);
disk($_) for $m, "$m/storage", "$m/temp", "$m/both";
mkdir("$_") for "$m/both/storage", "$m/both/temp", "$d/storage";
chmod(0777, glob("$m/both/*"), "$d/storage");

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
            ${\nixery($t, storage => "directory $m/storage")}
        }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, temp_path => "$m/temp")}
        }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, storage => "directory $m/both/storage",
                      temp_path => "$m/both/temp")}
        }
    }
}

EOF

$t->run();

###############################################################################

my ($r, $image, $digest, $blob, @small);
my @storages = ("$m/storage", "$d/storage", "$m/both/storage");

watch($t, @storages);

# the storage is full: nothing fits, or the small ones, or one of the big ones

for my $room (0, 4, 12) {
    fill("$m/storage", $room * 1024 * 1024);

    refused(pull(8080, IMAGE), 502, 'UNKNOWN',
            qr/store "\w+\/\w{64}": write: No space left on device/,
            "storage with $room MiB");
    is(partial($t, "$m/storage"), '',
       "storage with $room MiB, nothing partial");
    is(left_overs(), '', "storage with $room MiB, nothing left");

    unlink("$m/storage/ballast");

    is(whole(pull(8080, IMAGE), at(8080)), '',
       "storage with $room MiB, next request");

    wipe($t, "$m/storage");
}

# all fits but the config, the manifest, the key

$r = pull(8080, IMAGE);
$image = $r->{body};
$digest = $r->{headers}{'docker-content-digest'};
$blob = $r->{json}{layers}[0]{digest};

@small = map { s/sha256:/layers\//r } $r->{json}{config}{digest},
         $digest;
push @small, 'manifests/*';

for my $n (0 .. $#small) {
    unlink(glob("$m/storage/{" . join(',', @small) . '}'));
    fill("$m/storage", $n * 4096);

    refused(pull(8080, IMAGE), 502, 'UNKNOWN',
            qr/store "$small[$n]\w*": write: No space left on device/,
            "storage without $small[$n]");
    is(partial($t, "$m/storage"), '',
       "storage without $small[$n], nothing partial");
    is(left_overs(), '', "storage without $small[$n], nothing left");

    unlink("$m/storage/ballast");

    is(pull(8080, IMAGE)->{body}, $image,
       "storage without $small[$n], next request");
}

# the temp path is full

for my $room (0, 4, 7) {
    fill("$m/temp", $room * 1024 * 1024);

    refused(pull(8081, IMAGE), 500, 'UNKNOWN',
            qr/can't write work file "\S+": No space left on device/,
            "temp path with $room MiB");
    is(partial($t), '', "temp path with $room MiB, nothing partial");
    is(left_overs(), '', "temp path with $room MiB, nothing left");

    unlink("$m/temp/ballast");

    is(whole(pull(8081, IMAGE), at(8081)), '',
       "temp path with $room MiB, next request");

    wipe($t);
}

# both are one disk that is full

for my $room (0, 4, 12) {
    fill("$m/both", $room * 1024 * 1024);

    $r = pull(8082, IMAGE);

    # a work file, or a layer's record while another work file grows
    like("$r->{status} $r->{body}", qr/^50[02] .*No space left on device/,
         "disk with $room MiB");
    is(partial($t, "$m/both/storage"), '',
       "disk with $room MiB, nothing partial");
    is(left_overs(), '', "disk with $room MiB, nothing left");

    unlink("$m/both/ballast");

    is(whole(pull(8082, IMAGE), at(8082)), '',
       "disk with $room MiB, next request");

    wipe($t, "$m/both/storage");
}

# a read-only storage: what it has is served

remount("$m/storage", 'ro');

is(pull(8080, IMAGE)->{body}, $image, 'read-only storage, tag');
is(pull(8080, IMAGE, $digest)->{body}, $image, 'read-only storage, digest');
is(reply(http_get("/v2/x/blobs/$blob", at(8080)))->{status}, 200,
   'read-only storage, blob');

refused(pull(8080, 'tiny'), 502, 'UNKNOWN',
        qr/store "layers\/\w{64}": make work directory .*Read-only file system/,
        'read-only storage, new image');
is(left_overs(), '', 'read-only storage, nothing left');

remount("$m/storage", 'rw');

is(whole(pull(8080, 'tiny'), at(8080)), '', 'read-only storage, next request');

# a read-only temp path

remount("$m/temp", 'ro');

refused(pull(8081, 'tiny'), 500, 'UNKNOWN',
        qr/make work directory "\S+": Read-only file system/,
        'read-only temp path');

remount("$m/temp", 'rw');

is(whole(pull(8081, 'tiny'), at(8081)), '',
   'read-only temp path, next request');

# folders that the workers' user may not write

for my $folder (qw(tmp layers builds manifests)) {
    wipe($t, "$m/storage");
    chown(0, 0, "$m/storage/$folder");

    refused(pull(8080, 'tiny'), 502, 'UNKNOWN',
            qr/store "\w+\/\w{64}": .*Permission denied/,
            "$folder of another user");
    is(partial($t, "$m/storage"), '',
       "$folder of another user, nothing partial");
    is(left_overs(), '', "$folder of another user, nothing left");

    chown((stat("$d/storage/$folder"))[4, 5], "$m/storage/$folder");

    is(whole(pull(8080, 'tiny'), at(8080)), '',
       "$folder of another user, next request");
}

# at no time

my ($seen, $wrong) = watched($t);

cmp_ok($seen, '>', 50, 'objects were looked at');
is($wrong, '', 'no partial object was seen');

is(join(' ', map { truth($t, $_) } @storages), '  ', 'storages');

###############################################################################

sub disk {
    my ($path) = @_;

    mkdir($path);
    system('mount', '-t', 'tmpfs', '-o', 'mode=777,size=' . DISK, 'tmpfs',
           $path) == 0 or die "can't mount\n";

    return;
}

sub remount {
    my ($path, $how) = @_;

    system('mount', '-o', "remount,$how", $path) == 0 or die "can't remount\n";

    return;
}

# Leaves that many bytes of a disk.

sub fill {
    my ($path, $room) = @_;
    my ($block, $size) = ("\0" x 4096, 0);

    # what was removed takes room as long as somebody reads it
    eventually(sub { bytes("df -B 1 --output=avail $path")
                     + bytes("du -s -B 1 $path") == DISK })
        or die "the room of \"$path\" is not what it should be\n";

    open(my $fh, '>', "$path/ballast") or die "can't make ballast: $!\n";

    while (my $n = syswrite($fh, $block)) {
        $size += $n;
    }

    truncate($fh, $size - $room) or die "can't truncate ballast: $!\n";
    close($fh);

    return;
}

sub bytes {
    my ($command) = @_;
    return qx($command) =~ /^(\d+)/m ? $1 : 0;
}

sub at {
    my ($port) = @_;
    return (PeerAddr => '127.0.0.1:' . port($port));
}

sub pull {
    my ($port, $name, $reference) = @_;
    return manifest($name, $reference, at($port));
}

sub left_overs {
    return join ' ', map { glob("{$d,$m,$m/both}/$_") }
                         qw(temp/nixery-work.* storage/tmp/*);
}

###############################################################################
