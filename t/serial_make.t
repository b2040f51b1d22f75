#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# The tasks of the Makefile that a person runs, most on a machine of this test's
# own: namespaces in which no nix-daemon answers, there is no network, and what
# is installed is gone at the end.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use Cwd;
use File::Spec;
use POSIX ();

plan(skip_all => 'this nginx is not the one that make serves with')
    if $Test::Nginx::NGINX ne '/usr/sbin/nginx';

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('skopeo')
    ->has_daemon('podman')->plan(64);

prepare($t);
containers($t);

my $d = $t->testdir();
my $top = Cwd::abs_path('..');
my $build = $ENV{BUILD};

# what "make test" hands down is not what a person has
delete @ENV{qw(BUILD JOBS MAKEFLAGS MAKELEVEL MAKEOVERRIDES MFLAGS NIX_REMOTE
               SUBSTITUTERS TESTS)};
$ENV{TMPDIR} = "$d/tmp";

# a folder of the test's own, with what "make test" built
system("mkdir $d/tmp $d/build && cd $build"
       . " && cp -a --reflink=auto nginx packages sources *.so $d/build") == 0
    or die "can't copy \"$build\"\n";

my $make = "make -C $top BUILD=$d/build";

$t->write_file('machine.sh', <<"EOF");
set -e

for dir in etc run usr var/lib; do
    mkdir -p $d/upper/\$dir $d/work/\$dir
    mount -t overlay overlay /\$dir \\
        -o lowerdir=/\$dir,upperdir=$d/upper/\$dir,workdir=$d/work/\$dir
done

rm -rf /var/lib/nixery
mount -t tmpfs -o mode=0770,gid=nix-users tmpfs /nix/var/nix/daemon-socket
busybox ip link set lo up
echo \$\$ > $d/machine.new
mv $d/machine.new $d/machine
cd $d
exec sleep 100000
EOF

# tells what a build sees
$t->write_file('root.nix', <<"EOF");
let
  seed = builtins.path { name = "seed"; path = ./packages/seed; };

in derivation {
  name = "root-\${builtins.getEnv "TELL"}-${\($d =~ s{.*/}{}r)}";
  system = builtins.currentSystem;
  builder = "\${seed}/busybox";
  args = [ "sh" "-c" "exec ls / > \$out" ];
}
EOF

$t->write_file('look.sh', <<"EOF");
cat \$(NIX_REMOTE=daemon nix-build --no-out-link $d/root.nix)
EOF

# what Nix sees of a kernel that does not allow its sandbox
$t->write_file('zero', "0\n");
$t->write_file('forbid.sh', <<"EOF");
mount --bind $d/zero /proc/sys/user/max_user_namespaces
exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "\$@"
EOF

my @jobs;

$t->run_daemon('unshare', '-m', '-n', 'sh', "$d/machine.sh");
$t->waitforfile("$d/machine") or die "no machine\n";
chomp(my $machine = $t->read_file('machine'));
my $inside = "nsenter -t $machine -m -n -r -w";

END {
    kill('TERM', map { -$_->{pid} } grep { !$_->{ended} } @jobs);
}

###############################################################################

# help

my $help = told("$make -s help");

like($help, qr/^ +$_ +\S.*/m, "help has $_")
    for qw(run test test-asan lint bench build install module popularity clean);

# nothing to do, nothing done

like(told("$inside $make -s build"), qr/^0 $/, 'built');
like(told("$inside $make -s packages"),
     qr/^0 the bundled package set is complete: \d+ \.deb files$/,
     'a second time nothing is downloaded');
is(told("diff -r $build/packages $d/build/packages"), '0 ',
   'the package set is the same');

# a package set that lost some files

my ($bad, $gone) = map { "$d/build/packages/debs/$_.deb" } qw(hello tree);
my $stray = "$d/build/packages/debs/stray.deb";

system("echo x >> $bad; rm $gone; touch $stray");

like(told("$inside $make -s packages"), qr/^2 .*not complete, see above why/s,
     'without a network it is not complete');

my $job = start("$make -s packages");
ok(said($job, qr/^downloading 2 \.deb files$/m), 'two files are downloaded');
interrupt($job);
is(left(), '', 'nothing is left of an interrupted download');

my $packages = told("$make -s packages");
like($packages, qr/^0 .*is complete: \d+ \.deb files$/s, 'the set is complete');
unlike($packages, qr/\r/, 'lines, not for a terminal');
is(told("diff -r $build/packages $d/build/packages"), '0 ',
   'the package set is what it was');

# popularity: nothing but the table on standard output

like(told("$make -s popularity ATTRIBUTES=hello 2>$d/tmp/said"),
     qr/^0 \{\n  "libc6-[^"]+": 1\n\}$/, 'popularity');
like(content("$d/tmp/said"), qr/^evaluated: 1, 0 to go$/m, 'how far it is');
unlink("$d/tmp/said");

# run: what can't work

like(told("$inside $make run PACKAGES=/nonexistent"),
     qr/^2 .*^PACKAGES: there is no directory "\/nonexistent"$/ms,
     'no package set');
like(told("$inside $make run PACKAGES=$d/tmp"),
     qr/^2 .*^PACKAGES: "\Q$d\E\/tmp" has no default\.nix$/ms,
     'no default.nix');

mkdir("$d/private set", 0700);
system('cp', "$d/packages/default.nix", "$d/private set");

like(told("$inside $make run PACKAGES='$d/private set'"),
     qr/^2 .*www-data, can't read "\Q$d\E\/private set\/default\.nix"$/ms,
     'a set that workers can\'t read');
is(left(), '', 'nothing is left of that');

# run: Ctrl-C, at any moment

for my $moment (qr/is complete/, qr/copying the builder/,
                qr/copying the bundled/, qr/start worker processes/)
{
    $job = start("$inside $make run");
    ok(said($job, $moment), "said: $moment");
    interrupt($job);

    is(left(), '', 'nothing is left after Ctrl-C');
}

# run: as it is

$job = start("$inside $make run");
ok(said($job, qr/^Serving on port 8080, .*Try, elsewhere:\n\n( +\S.*\n){3}\n/m),
   'serves, and says what to try');

my ($skopeo, $podman, $curl) = output($job) =~ /^    (.*)$/mg;

like($skopeo, qr/^skopeo copy .*8080\/shell\/git\/hello oci:img:x$/, 'skopeo');
like(told("$inside $skopeo"), qr/^0 /, 'skopeo copies');
like($podman, qr/^podman run .*8080\/shell\/git\/hello hello$/, 'podman');
like(told("$inside $podman"), qr/^0 .*^Hello, world!$/ms, 'podman runs');
like(told("$inside $curl -s"), qr/^0 \{"schemaVersion":2,/, $curl);

my $page = told("$inside curl -si http://127.0.0.1:8080/");
like($page, qr/^0 HTTP\/1\.1 200 .*Content-Type: text\/html.*docker pull/s,
     'a page that says how to pull');
like(told("$inside curl -si http://127.0.0.1:8080/index.html"), qr/200 OK/,
     'a file by its name');

unlike(output($job), qr/download|installing|without its sandbox/,
       'nothing was downloaded or installed, Nix has its sandbox');

like(told("$inside env TELL=with sh $d/look.sh"),
     qr/^0 (?!.*^home$).*^build$/ms, 'Nix builds in its sandbox');

my ($worker) = map { /^(\d+) nginx: worker/ } processes_left();
my $group = getgrnam('nix-users');

is((stat("/proc/$worker"))[4], scalar getpwnam('www-data'), 'workers\' user');
like(content("/proc/$worker/status"), qr/^(Gid|Groups):.*\b$group\b/m,
     'in the group that may talk to Nix');

interrupt($job);
is(left(), '', 'Ctrl-C stops all');

# run: a set of one's own, another port and state, on the machine of all
# tests, whose nix-daemon answers already

mkdir("$d/a set");
system("cp -r $d/packages/* '$d/a set'");
my $relative = File::Spec->abs2rel("$d/a set", $top);
my $port = port(8081);

$job = start("$make run PORT=$port STATE=$d/state PACKAGES='$relative'");
ok(said($job, qr/^Serving on port $port, .*\Q$d\E\/state\/storage/m),
   'another port and state');
like(told("curl -s http://127.0.0.1:$port/v2/tiny/manifests/latest"),
     qr/^0 \{"schemaVersion":2,/, 'a set of one\'s own');
is(truth($t, "$d/state/storage"), '', 'stored well');
cmp_ok(scalar(objects($t, 'layers', "$d/state/storage")), '>', 2, 'stored');

interrupt($job);
is(left(), '', 'Ctrl-C stops that too');
like(told('nix --extra-experimental-features nix-command'
          . ' --store daemon store ping'), qr/^0 /, 'but not the nix-daemon');

# install

like(told("$make -s install DESTDIR=$d/dest"), qr/^0 /, 'install');
is(told("cd $d/dest && find . ! -type d -printf '%P\\n' | LC_ALL=C sort"),
   '0 ' . join("\n", sort 'etc/nginx/modules-enabled/50-mod-http-nixery.conf',
        'usr/lib/nginx/modules/ngx_http_nixery_module.so',
        (map { "usr/share/doc/ngx_http_nixery_module/$_" }
         'nginx.conf', 'templates/nixery.conf.template'),
        'usr/share/nginx/modules-available/mod-http-nixery.conf',
        'usr/share/nginx/nixery/html/index.html',
        map { "usr/share/nginx/nixery/$_" } imported('builder.nix')),
   'all that is installed');

like(told("$inside $make -s install"), qr/^0 /, 'install, for good');
like(told("$inside nginx -t"), qr/^0 .*test is successful/s,
     "Debian's nginx.conf loads it");

# nginx as one would start it, in that machine
told("$inside ln -sfn $ENV{TEST_NIXERY_PACKAGES} /var/lib/nixery/packages");

$job = start("$inside $top/conf/with-nix.sh nginx"
             . ' -c /usr/share/doc/ngx_http_nixery_module/nginx.conf'
             . " -g 'daemon off;'");
like(told("$inside curl -s --retry 20 --retry-connrefused --retry-delay 1"
          . ' http://127.0.0.1:8080/v2/hello/manifests/latest'),
     qr/^0 \{"schemaVersion":2,/, 'the installed one serves');
like(told("$inside curl -s http://127.0.0.1:8080/"), qr/docker pull/,
     'the installed page');
interrupt($job);
is(left(), '', 'nothing is left');

# a kernel that does not allow Nix's sandbox

my $message = qr/Nix builds without its sandbox/;
my $said = told("$inside unshare -m sh $d/forbid.sh $top/conf/with-nix.sh"
                . " env TELL=without sh $d/look.sh");

like($said, qr/^0 .*$message.*^home$/ms, 'no sandbox, which is said');
is(scalar(() = $said =~ /$message/g), 1, 'once');

# any source tree

like(told("$make -s module NGINX_SRC=/nonexistent"),
     qr/^2 .*nginx source tree/s, 'no source tree');
like(told("$make -s module NGINX_SRC=/usr/share/nginx/src"),
     qr/^0 .*^the module is \S+\/module\/ngx_http_nixery_module\.so$/ms,
     'module');
like(told("$inside nginx -t -c /dev/null -g 'load_module"
          . " $d/build/module/ngx_http_nixery_module.so;'"),
     qr/no "events" section/, 'nginx loads it');

# alerts are looked for at the end
$t->write_file('error.log', join '', map { output($_) } @jobs);

###############################################################################

# A command's exit code and output; what it leaves running may hold the output.

sub told {
    my ($command) = @_;

    local $ENV{COMMAND} = $command;
    system("timeout 300 sh -c 'eval \"\$COMMAND\"' </dev/null >$d/told 2>&1");

    return ($? >> 8) . ' ' . content("$d/told") =~ s/\n\z//r;
}


# A command in a group of its own, as a terminal has it.

sub start {
    my ($command) = @_;

    my $started = { log => "$d/job." . @jobs };
    $started->{pid} = fork() // die "can't fork: $!\n";

    if ($started->{pid} == 0) {
        POSIX::setpgid(0, 0);
        $SIG{INT} = 'DEFAULT';
        open(STDIN, '<', '/dev/null') or POSIX::_exit(127);
        open(STDOUT, '>', $started->{log}) or POSIX::_exit(127);
        open(STDERR, '>&', \*STDOUT) or POSIX::_exit(127);
        exec('sh', '-c', "exec $command") or POSIX::_exit(127);
    }

    push @jobs, $started;

    return $started;
}


sub output {
    my ($started) = @_;
    return content($started->{log});
}


# Of a file that may not be there any more.

sub content {
    my ($name) = @_;

    open(my $fh, '<', $name) or return '';
    local $/;
    my $content = <$fh> // '';
    close($fh);

    return $content;
}


# A file of the builder, and those that it imports.

sub imported {
    my ($name, $seen) = @_;

    $seen //= {};

    if (!$seen->{$name}++) {
        imported($_, $seen)
            for content("$top/conf/nix/$name") =~ m{\./([\w-]+\.\w+)}g;
    }

    return keys %$seen;
}


# Waits until a command said that, or ended without.

sub said {
    my ($started, $like) = @_;

    eventually(sub { ended($started) || output($started) =~ $like });

    return 1 if output($started) =~ $like;

    diag(output($started));
    return 0;
}


sub ended {
    my ($started) = @_;

    $started->{ended} ||= waitpid($started->{pid}, POSIX::WNOHANG()) != 0;

    return $started->{ended};
}


# Ctrl-C.

sub interrupt {
    my ($started) = @_;

    kill('INT', -$started->{pid});
    eventually(sub { ended($started) });

    return;
}


# Processes of the machine or of this test, after they had time to end, and
# temporary files.

sub left {
    my @left;

    eventually(sub { !(@left = (processes_left(), glob("$d/tmp/*"))) });

    return join ', ', @left;
}


sub processes_left {
    my $space = readlink("/proc/$machine/ns/mnt");
    my @left;

    for my $pid (map { m{(\d+)} } glob('/proc/[0-9]*')) {
        next if $pid == $machine || $pid == $$;

        my $command = content("/proc/$pid/cmdline") =~ tr/\0/ /r or next;

        push @left, "$pid $command"
            if (readlink("/proc/$pid/ns/mnt") // '') eq $space
            || content("/proc/$pid/environ") =~ /\0TMPDIR=\Q$d\E/;
    }

    return @left;
}
