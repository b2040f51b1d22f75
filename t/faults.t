#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# A nix-build, or a builder, that does what it should not: each gets the right
# status and a message that helps, and leaves nothing behind; the next request
# works.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use File::Copy;

my $none = '/nix/store/' . '0' x 32 . '-none';
my $other = '/nix/store/' . '1' x 32 . '-other';

# what the fake nix-build does, and what comes of it

my @fakes = (
    ['silent', 500, qr/^nix-build printed no store path \(build /],
    ['flood', 500, qr/^nix-build printed more than one store path; /],
    ["print $none\\n$other\\n", 500,
     qr/^nix-build printed more than one store path; the builder must be a/],
    ['print /etc/passwd\\n', 500,
     qr{^nix-build printed "/etc/passwd", which is not a path in /nix/store}],
    ['print /nix/store/../../etc/passwd\\n', 500,
     qr{"/nix/store/../../etc/passwd", which is not a path in /nix/store}],
    ["print $none\\n", 500,
     qr/^nix-build printed "$none", which can't be read: No such file/],
    ['exit 1', 500,
     qr/^nix-build\ failed\ with\ exit\ code\ 1:\ the\ fake\ says\ no
        \ \(build\ \w{16}\)\nerror:\ the\ fake\ says\ no$/x],
    ['exit 100', 500, qr/^a package failed to build: the fake says no/],
    ['exit 101', 504, qr/^a time limit of Nix has passed: the fake says no/],
    ['signal 9', 500, qr/^nix-build was ended by signal 9 /],
    ['signal 11', 500, qr/^nix-build was ended by signal 11 /],
    ['signal 15', 500, qr/^nix-build was ended by signal 15 /],
    ['noisy', 200],
    ['grandchild', 200],
);

# the same with a time limit of two seconds

my @late = (
    ['hang', 504, qr/^the build did not finish within 2s \(build /],
    ['stubborn', 504, qr/^the build did not finish within 2s \(build /],
    ['closes', 504, qr/^the build did not finish within 2s \(build /],
);

# what t/fixtures/nix/faults.nix does, by the real Nix

my @builders = (
    ['traces', 200],
    ['prints', 404, qr/^and then it says this$/],
    ['nothing', 500, qr/^nix-build printed no store path \(build /],
    ['two', 500, qr/^nix-build printed more than one store path; the builder/],
    ['text', 500, qr/^nix-build failed with exit code 1: .* derivation/],
    ['broken', 500, qr/exit code 1: the builder itself is broken \(build /],
    ['aborts', 500, qr/exit code 1: evaluation aborted .*the builder gives up/],
    ['recursion', 500, qr/exit code 1: infinite recursion encountered/],
    ['no-such', 500, qr/exit code 1: attribute 'no-such' missing/],
    ['folder', 500, qr/malformed: ".*-faults-folder" is not a regular file/],
    ['link', 500, qr{-faults-link", which leads out of /nix/store \(build }],
    ['empty', 500, qr/^the builder's result is not valid JSON: it ends too/],
    ['huge', 500, qr/has 67108865 bytes, at most 67108864 are read/],
    ['fails', 500,
     qr/^a\ package\ failed\ to\ build:\ builder\ for\ '\S+-faults-fails\.drv'
        \ failed\ with\ exit\ code\ 3\ \(build\ .*\nthis\ fails\ on\ purpose\n/xs],
    ['noout', 500, qr/^a package failed to build: .* failed to produce output/],
    ['orphan', 404, qr/^and leaves a child$/],
);

my $t = Test::Nginx->new()->has(qw/http/)
    ->plan(6 * (@fakes + @late + @builders) + 48);

prepare($t);

my $d = $t->testdir();

copy("$FindBin::Bin/fixtures/nix/faults.nix", "$d/packages/faults.nix");
$t->write_file('packages/syntax.nix', '{ name }: (');

my $faults = nixery($t, builder => "$d/packages/faults.nix",
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
            ${\nixery($t)}
        }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, build_timeout => '2s')}
        }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        location /v2 {
            $faults
        }
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        location /v2 {
            $faults
            nixery_build_timeout 15s;
        }
    }

    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        location /v2 {
            $faults
            nixery_nix_option timeout 2;
        }
    }

    server {
        listen       127.0.0.1:8085;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, builder => "$d/packages/syntax.nix")}
        }
    }
}

EOF

$t->run();

###############################################################################

my ($r, $socket, $error);

# how all is, and has to be again

my $image = manifest('tiny');
is(whole($image), '', 'image');

my ($worker) = workers($t);
my $descriptors = descriptors($worker);

# nix-build

for my $case (@fakes) {
    my ($mode, $status, $like) = @$case;

    fake_mode($t, $mode);
    answered(manifest('tiny'), $status, $like, $mode);
    recovered($t, $mode);
}

for my $case (@late) {
    my ($mode, $status, $like) = @$case;

    fake_mode($t, $mode);
    answered(from(8081, 'tiny'), $status, $like, $mode);
    recovered($t, $mode);
}

# it closes its output, goes on, and ends

fake_mode($t, 'closes');
$socket = http_get('/v2/tiny/manifests/latest', start => 1);
ok(eventually(sub { processes($t) }), 'closed output, runs');
go($t);
answered(reply(received($socket)), 500,
         qr/^nix-build printed no store path/, 'closed output');
recovered($t, 'closed output');

# it can't be run

chmod(0644, "$d/fake/nix-build");
answered(manifest('tiny'), 500,
         qr{^can't run "$d/fake/nix-build": Permission denied \(build },
         'not executable');
chmod(0755, "$d/fake/nix-build");
recovered($t, 'not executable');

rename("$d/fake/nix-build", "$d/fake/away");
answered(manifest('tiny'), 500,
         qr{^can't run "$d/fake/nix-build": No such file or directory},
         'not there');

$t->write_file('fake/nix-build', '');
chmod(0755, "$d/fake/nix-build");
answered(manifest('tiny'), 500,
         qr{^can't run "$d/fake/nix-build": Exec format error}, 'no program');

rename("$d/fake/away", "$d/fake/nix-build");
recovered($t, 'no program');

# the builder

for my $case (@builders) {
    my ($name, $status, $like) = @$case;

    answered(from(8082, $name), $status, $like, $name);
    recovered($t, $name);
}

ok(!building('orphan'), 'orphan is gone');

answered(from(8085, 'tiny'), 500,
         qr/exit code 1: syntax error, unexpected end of file/, 'syntax');

# how a failure is told, and logged

$r = from(8082, 'fails');
$error = $r->{json}{errors}[0];

like($error->{detail}{build}, qr/^[0-9a-f]{16}$/, 'build id');
like($error->{message}, qr/\(build $error->{detail}{build}\)/,
     'build id in message');
ok(scalar(grep { $_ eq 'this fails on purpose' } @{$error->{detail}{log}}),
   'log in detail');
like($t->read_file('error.log'),
     qr/\[error\].*image "fails" failed, build $error->{detail}{build},/,
     'build id in log');

$r = reply(received(http_head('/v2/fails/manifests/latest', start => 1,
                              PeerAddr => '127.0.0.1:' . port(8082))));
is($r->{status}, 500, 'head');
is($r->{body}, '', 'head body');

# a build that never ends: the processes in Nix's sandbox end as well

my %sockets = map {
    $_ => http_get("/v2/$_/manifests/latest", start => 1,
                   PeerAddr => '127.0.0.1:' . port(8083))
} qw(hangs stubborn);

for my $name (sort keys %sockets) {
    ok(eventually(sub { building($name) }), "$name, builder runs");
}

# what Nix may leave there when it is killed goes with the build's folder
is(scalar(() = glob("$d/temp/nixery-work.*/nix-build-*")), 2,
   'temporary files of Nix');

for my $name (sort keys %sockets) {
    answered(reply(received($sockets{$name})), 504,
             qr/^the build did not finish within 15s \(build /, $name);
    ok(eventually(sub { !building($name) }), "$name, builder is gone");
}

undef %sockets;
recovered($t, 'endless builds');

answered(from(8084, 'hangs'), 504,
         qr/^a time limit of Nix has passed: .*timed out after 2 seconds/,
         'limit of Nix');
ok(eventually(sub { !building('hangs') }), 'limit of Nix, builder is gone');
recovered($t, 'limit of Nix');

###############################################################################

sub from {
    my ($port, $name) = @_;
    return manifest($name, 'latest', PeerAddr => '127.0.0.1:' . port($port));
}


sub answered {
    my ($reply, $status, $like, $name) = @_;

    if ($status == 200) {
        is(whole($reply), '', $name);
        return;
    }

    refused($reply, $status, $status == 404 ? 'MANIFEST_UNKNOWN' : 'UNKNOWN',
            $like, $name);

    return;
}


# Five tests: nothing is left of a build, and another one works.

sub recovered {
    my ($test, $name) = @_;

    fake_mode($test, 'real');

    ok(eventually(sub { left_over($test) eq '' && !children($worker) }),
       "$name, nothing left")
        or diag(left_over($test));
    ok(eventually(sub { descriptors($worker) == $descriptors }),
       "$name, descriptors");
    is(join(' ', workers($test)), $worker, "$name, same worker");
    is(truth($test), '', "$name, storage");
    is(manifest('tiny')->{body}, $image->{body}, "$name, next request");

    return;
}


# Whether Nix runs that builder of this test: its command line says so.

sub building {
    my ($name) = @_;

    for my $file (glob('/proc/[0-9]*/cmdline')) {
        open(my $fh, '<', $file) or next;
        my $line = <$fh> // '';
        close($fh);

        return 1 if $line =~ /busybox\0sh\0-c\0: \Q$d\E\/fake $name;/;
    }

    return 0;
}

###############################################################################
