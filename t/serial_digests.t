#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# One set of packages, one digest: in whatever order they are asked for, however
# many threads pack, wherever the set and the storage are, after the storage is
# wiped and after the Nix store lost what it had.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use File::Path;

my $t = Test::Nginx->new()->has(qw/http/)->plan(23);

prepare($t);
my $d = $t->testdir();

# the bundled set with a line of its own in what each package is made with: no
# other test has these store paths
for my $set (qw(set elsewhere)) {
    system("mkdir $d/$set && cd $ENV{TEST_NIXERY_PACKAGES}"
           . " && cp -r *.nix *.sh lock.json seed $d/$set"
           . " && ln -s $ENV{TEST_NIXERY_PACKAGES}/debs $d/$set/debs"
           . " && chmod -R u+w $d/$set && echo '# $d' >> $d/$set/unpack.sh") == 0
        or die "can't copy the bundled set\n";
}

# what all that is made of them refers to
chomp(my $mark = qx(nix-store --add $d/set/unpack.sh));

my @servers = (
    [8080],
    [8081, storage => "directory $d/storage2"],
    [8082, storage => "directory $d/storage3", packages => "path $d/elsewhere"],
    [8083, storage => "directory $d/storage4", max_layers => 3],
);

sub configure {
    my ($test, $workers) = @_;
    my $dir = $test->testdir();
    my $text = '';

    for (@servers) {
        my ($port, %directives) = @$_;
        my $location = nixery($test, nix_build => undef,
                              packages => "path $dir/set",
                              storage => "directory $dir/storage",
                              temp_path => "$dir/temp$port", %directives);
        $text .= <<"EOF";
    server {
        listen       127.0.0.1:$port;
        server_name  localhost;

        location /v2 {
            $location
        }
    }
EOF
    }

    $test->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
$workers

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

$text
}

EOF

    return;
}

configure($t, 'worker_processes 1;');
$t->run();

###############################################################################

my $first = manifest('figlet/tree');
my $digest = $first->{headers}{'docker-content-digest'};

is($first->{status}, 200, 'built');
is(truth($t), '', 'stored');

my @objects = objects($t, 'layers');
my %hash = map { $_ => nar_hash($_) } outputs($mark);

# the order of the packages, and repeated ones

is(digest($_), $digest, $_)
    for qw(tree/figlet figlet/tree/figlet tree/tree/figlet/figlet);


# another storage, another place of the same packages

is(digest('figlet/tree', 8081), $digest, 'another storage');
is(join(' ', objects($t, 'layers', "$d/storage2")),
   join(' ', @objects), 'the same objects');
is(digest('tree/figlet', 8082), $digest, 'packages at another path');

# what differs

isnt(digest('figlet/tree', 8083), $digest, 'fewer layers');
isnt(digest('figlet', 8083), $digest, 'fewer packages');

# one thread, as many as there are cores before

$t->stop();
rmtree("$d/storage");
configure($t, "worker_processes 1;\nworker_cpu_affinity 01;");
$t->run();

is(digest('figlet/tree'), $digest, 'one thread');
is(digest('figlet/tree', 8081), $digest, 'stored before');

# the storage is wiped while nginx runs

rmtree([glob("$d/storage/*")]);

is(digest('tree/figlet'), $digest, 'storage wiped');
is(join(' ', objects($t, 'layers')), join(' ', @objects), 'all objects again');
is(truth($t), '', 'stored again');

# the store is garbage collected

cmp_ok(scalar(grep { /-(figlet|tree|libc6)-\d/ } keys %hash), '==', 3,
       'the Nix store has the packages');

collect($d, outputs($mark));
is(join(' ', outputs($mark)), '', 'collected')
    or diag($t->read_file('delete.log'));

is(manifest('any', $digest)->{body}, $first->{body}, 'the digest is stored');
is(join(' ', outputs($mark)), '', 'nothing was built for it');

rmtree([glob("$d/storage/*")]);

is(digest('figlet/tree'), $digest, 'rebuilt');
is(join(' ', grep { nar_hash($_) ne $hash{$_} } sort keys %hash), '',
   'bit for bit');
is(join(' ', objects($t, 'layers')), join(' ', @objects), 'the same objects');
is(truth($t), '', 'stored after all');

$t->stop();
collect($d, outputs($mark), referrers($mark));

###############################################################################

sub digest {
    my ($image, $number) = @_;

    my $r = manifest($image, undef, $number ? (PeerAddr => '127.0.0.1:'
                                                           . port($number)) : ());

    return $r->{headers}{'docker-content-digest'} // "status $r->{status}";
}


sub referrers {
    my ($path) = @_;
    return split /\n/, qx(nix-store -q --referrers-closure $path);
}


# What was built with the mark.

sub outputs {
    my ($path) = @_;
    my @derivations = grep { /\.drv$/ } referrers($path);

    my @made = grep { -e } split /\n/, qx(nix-store -q --outputs @derivations);

    return @made;
}


sub nar_hash {
    my ($path) = @_;

    chomp(my $hash = qx(nix-store -q --hash $path 2>&1));

    return $hash;
}


sub collect {
    my ($dir, @dead) = @_;

    system("nix-store --delete @dead >$dir/delete.log 2>&1");

    return;
}
