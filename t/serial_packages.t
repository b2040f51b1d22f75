#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Every root of the bundled set: in a container of it alone its main program
# does what it is for.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use Digest::SHA;
use IPC::Open3;
use JSON::PP;

# attribute => commands: [ what it runs, what it prints, what it reads ]; the
# image's own environment is in force, blanks separate arguments, "~" stands for
# one in an argument.  /busybox is there for packages without a program, and
# PYTHON is the closure's interpreter.

my $text = "one\ntwo\nthree\n";
my $c = "#include <stdio.h>\nint main(void) { return !puts(\"compiled\"); }\n";
my $sha256 = qr/\b@{[Digest::SHA::sha256_hex($text)]}\b/;

my %main = (
    bash => [['bash -c echo~$((6*7))', qr/^42$/]],
    bashInteractive => [['bash -c bind~-V', qr/^editing-mode is set to/m]],
    bc => [['bc', qr/^42$/, "6*7\n"]],
    binutils => [['as -o /tmp/a.o', qr/^$/, "ret\n"],
                 ['ld -e 0 -o /tmp/a /tmp/a.o', qr/^$/],
                 ['objdump -d /tmp/a', qr/ret/]],
    busybox => [['busybox sh -c echo~$((6*7))', qr/^42$/],
                ['ls /bin/busybox', qr/^\/bin\/busybox$/]],
    bzip2 => [['bzip2 -c', qr/^BZh/, $text]],
    cacert => [['/busybox sh -c cat~$SSL_CERT_FILE', qr/BEGIN CERTIFICATE/]],
    cmake => [['cmake --help-module CMakePrintHelpers',
               qr/cmake_print_variables/]],
    coreutils => [['sha256sum', $sha256, $text],
                  ['/usr/bin/env sort', qr/^one\nthree\ntwo$/, $text]],
    cowsay => [['cowsay moo', qr/< moo >.*\(oo\)/s]],
    cpio => [['cpio -o -H newc', qr/^070701.*TRAILER/ms, "/bin/cpio\n"]],
    curl => [['curl -s file:///etc/protocols', qr/^tcp\s+6/m]],
    dash => [['dash -c echo~$((6*7))', qr/^42$/]],
    diffutils => [['diff -s /bin/diff /bin/diff', qr/identical/],
                  ['cmp /bin/diff /bin/diff', qr/^$/]],
    figlet => [['figlet -f banner x', qr/#\s+#/]],
    file => [['file -b -', qr/POSIX shell script/, "#!/bin/sh\n"]],
    findutils => [['find /bin/ -name xargs', qr/^\/bin\/xargs$/],
                  ['xargs find /bin/ -name', qr/^\/bin\/find$/, "find\n"]],
    gawk => [['awk END~{~print~NR~}', qr/^3$/, $text],
             ['gawk -l filefuncs BEGIN~{~print~stat("/",s)~}', qr/^0$/]],
    gcc => [['gcc -O2 -Wall -x c -o /tmp/a -', qr/^$/, $c],
            ['/tmp/a', qr/^compiled$/]],
    gdbm => [['gdbmtool /tmp/x', qr/^value$/m, "store key value\nfetch key\n"]],
    git => [['git init -q /tmp/r', qr/^$/],
            ['git -C /tmp/r -c user.name=a -c user.email=b commit -q'
             . ' --allow-empty -m told', qr/^$/],
            ['git clone -q /tmp/r /tmp/s', qr/^$/],
            ['git -C /tmp/s log --oneline', qr/ told$/]],
    glibcLocales => [['/busybox env LC_ALL=C.UTF-8 locale charmap',
                      qr/^UTF-8$/]],
    gnugrep => [['grep -c o', qr/^2$/, $text]],
    gnum4 => [['m4', qr/^42$/, "define(x, 42)dnl\nx\n"]],
    gnumake => [['make -s -f - all', qr/^made/, "\$(info made)\nall: ;\n"]],
    gnupatch => [['patch -s -o - /tmp/a', qr/^\+?new$/m,
                  "--- /dev/null\n+++ a\n@@ -0,0 +1 @@\n+new\n"]],
    gnused => [['sed -n s/w/W/p', qr/^tWo$/, $text]],
    gnutar => [['tar -C /etc -chf - protocols', qr/^protocols\0/]],
    gzip => [['gzip -c', qr/^\x1f\x8b/, $text]],
    hello => [['hello', qr/^Hello, world!$/]],
    htop => [['htop --version', qr/^htop \d/]],
    'iana-etc' => [['/busybox grep ^https /etc/services', qr/443\/tcp/],
                   ['/busybox grep ^tcp /etc/protocols', qr/\b6\b/]],
    iproute2 => [['ip -br link', qr/^lo\s/]],
    jq => [['jq .a', qr/^42$/, '{"a": 42}']],
    less => [['less', qr/^one\ntwo\nthree$/, $text]],
    libdeflate => [['libdeflate-gzip -c', qr/^\x1f\x8b/, $text]],
    lsof => [['lsof -p 1', qr/^lsof +1 /m]],
    lua => [['lua -e print(6*7)', qr/^42$/]],
    moreutils => [['sponge', qr/^one\ntwo\nthree$/, $text],
                  ['ts x', qr/^x one$/m, $text],
                  ['combine - or /etc/protocols', qr/^three$/m, $text]],
    nano => [['nano --version', qr/GNU nano, version/]],
    ncurses => [['tput -T xterm-256color colors', qr/^256$/]],
    netcat => [['nc -h', qr/OpenBSD netcat/]],
    openssl => [['openssl sha256', $sha256, $text],
                ['openssl req -x509 -newkey rsa:2048 -nodes -keyout /tmp/k'
                 . ' -subj /CN=x', qr/BEGIN CERTIFICATE/]],
    patchelf => [['patchelf --print-interpreter /bin/patchelf',
                  qr/^\/nix\/store\/.*\/ld-linux/]],
    perl => [['perl -MPOSIX -MJSON::PP -e print~floor(42.5)', qr/^42$/]],
    pigz => [['pigz -c', qr/^\x1f\x8b/, $text]],
    procps => [['ps ax', qr/^ +1 .* ps ax$/m], ['free', qr/^Mem:/m]],
    psmisc => [['pstree -A', qr/^pstree$/]],
    python3 => [['python3 -c import~ssl,sqlite3,zlib;print(6*7)', qr/^42$/]],
    'python3Packages.certifi' =>
        [['PYTHON -c import~certifi;print(open(certifi.where()).read())',
          qr/BEGIN CERTIFICATE/]],
    'python3Packages.pyyaml' =>
        [['PYTHON -c import~yaml;print(yaml.load("a:~42",yaml.CSafeLoader))',
          qr/^\{'a': 42\}$/]],
    'python3Packages.requests' =>
        [['PYTHON -c import~requests;print(requests.Request("GET","http://a",'
          . 'params={"b":1}).prepare().url)', qr/^http:\/\/a\/\?b=1$/]],
    'python3Packages.six' =>
        [['PYTHON -c import~six;print(six.PY3)', qr/^True$/]],
    ripgrep => [['rg -c o', qr/^2$/, $text]],
    rsync => [['rsync -aL /etc/protocols /tmp/copy', qr/^$/],
              ['rsync /tmp/copy', qr/ copy$/]],
    skopeo => [['skopeo --version', qr/^skopeo version/]],
    socat => [['socat -u STDIN STDOUT', qr/^one\ntwo\nthree$/, $text]],
    sqlite => [['sqlite3 :memory: select~6*7', qr/^42$/]],
    strace => [['strace -e trace=execve strace -V', qr/strace -- version/]],
    tmux => [['tmux -V', qr/^tmux \d/]],
    tree => [['tree /etc', qr/-- protocols/]],
    umoci => [['umoci init --layout /tmp/l', qr/^$/]],
    unzip => [['unzip -v', qr/^UnZip \d/]],
    'util-linux' => [['rev', qr/^eno$/m, $text], ['findmnt -n -o TARGET /proc',
                                                  qr/^\/proc$/]],
    vim => [['vim -es -u NONE', qr/^2$/, "a\ntwo\n.\ns/two/2/p\nq!\n"]],
    wget => [['wget --version', qr/^GNU Wget/]],
    which => [['which which', qr/^\/bin\/which$/]],
    xz => [['xz -c', qr/^\xfd7zXZ/, $text]],
    zip => [['zip -q - -', qr/^PK/, $text]],
    zstd => [['zstd -q -c', qr/^\x28\xb5\x2f\xfd/, $text]],

    # made of others
    stdenv => [['bash -c cat~>/tmp/a.c', qr/^$/, $c],
               ['make -C /tmp a', qr/-o a/], ['/tmp/a', qr/^compiled$/]],
);

my @roots = ('stdenv', map { /^(\S+)/ } grep { /^\w/ }
                       split /\n/, slurp('../conf/nix/packages/roots'));

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('runc')->plan(@roots + 1);

prepare($t);
my $d = $t->testdir();

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
            ${\nixery($t, nix_build => undef, nix_option => 'max-jobs auto',
                      packages => "path $ENV{TEST_NIXERY_PACKAGES}")}
        }
    }
}

EOF

$t->run();

###############################################################################

my %listed = map { $_ => 1 } @roots;
is(join(' ', grep { !$listed{$_} } sort keys %main), '', 'no root but those');

mkdir("$d/$_") for qw(layers bundle bundle/rootfs upper work);

for my $attribute (@roots) {
    my $image = unpacked($d, $attribute);

    is($main{$attribute} ? run_all($d, $image, $main{$attribute})
                         : 'no line in this table', '', $attribute);
}

###############################################################################

sub slurp {
    my ($name) = @_;

    open(my $fh, '<', $name) or die "can't open \"$name\": $!\n";
    local $/;
    my $content = <$fh>;
    close($fh);

    return $content;
}


# Pulls an image; each layer is unpacked once.  Returns { env, layers, python }.

sub unpacked {
    my ($dir, $attribute) = @_;

    my $m = manifest(lc $attribute)->{json};
    my $blobs = '/v2/' . lc($attribute) . '/blobs';
    my $config = reply(http_get("$blobs/$m->{config}{digest}"))->{json};
    my $image = { env => $config->{config}{Env}, layers => [] };

    for my $digest (map { $_->{digest} } @{$m->{layers}}) {
        my $layer = substr($digest, length('sha256:'), 12);

        if (!-d "$dir/layers/$layer") {
            mkdir("$dir/layers/$layer");
            system('curl -sf http://127.0.0.1:' . port(8080) . "$blobs/$digest"
                   . " | tar -xz -p -C $dir/layers/$layer") == 0
                or die "can't unpack \"$digest\"\n";
        }

        # the last layer is the upper one
        unshift @{$image->{layers}}, $layer;

        my ($python) = glob("$dir/layers/$layer/nix/store/*/bin/python3");
        $image->{python} = substr($python, length("$dir/layers/$layer"))
            if $python;
    }

    return $image;
}


# Runs commands one after the other in containers on one root file system;
# returns what is wrong.

sub run_all {
    my ($dir, $image, $commands) = @_;

    # relative names: the options of a mount have to fit in a page
    mkdir("$dir/$_") for qw(upper work);
    system("cd $dir/layers && mount -t overlay overlay -o lowerdir="
           . join(':', @{$image->{layers}})
           . ",upperdir=../upper,workdir=../work ../bundle/rootfs") == 0
        or return 'no overlay';

    system("cp /bin/busybox $dir/bundle/rootfs/busybox");

    my $wrong = '';

    for my $command (@$commands) {
        my ($line, $like, $input) = @$command;
        my @args = map { tr/~/ /r } split / /, $line;
        $args[0] = $image->{python} // 'python' if $args[0] eq 'PYTHON';

        my ($rc, $output) = contain($dir, $image, \@args, $input // '');
        next if $rc == 0 && $output =~ $like;

        $wrong = "\"$line\" ends with $rc: " . substr($output, 0, 2000);
        last;
    }

    system("umount $dir/bundle/rootfs") == 0 or die "can't umount\n";
    system("rm -rf $dir/upper $dir/work");

    return $wrong;
}


sub contain {
    my ($dir, $image, $args, $input) = @_;

    open(my $fh, '>', "$dir/bundle/config.json")
        or die "can't create \"$dir/bundle/config.json\": $!\n";
    print $fh encode_json({
        ociVersion => '1.0.2',
        root => { path => 'rootfs' },
        process => {
            args => $args, cwd => '/', env => $image->{env},
            user => { uid => 0, gid => 0 },
            capabilities => { map { $_ => [qw(CAP_CHOWN CAP_DAC_OVERRIDE
                                              CAP_FOWNER CAP_SETGID CAP_SETUID)]
                            } qw(bounding effective permitted) },
        },
        mounts => [
            { destination => '/proc', type => 'proc', source => 'proc' },
            { destination => '/dev', type => 'tmpfs', source => 'tmpfs' },
        ],
        linux => {
            cgroupsPath => "/nixery-test-$$",
            namespaces => [map { { type => $_ } }
                           qw(mount pid ipc uts network)],
        },
    });
    close($fh);

    open(my $in, '+>', undef) or die "can't create a file: $!\n";
    syswrite($in, $input);
    sysseek($in, 0, 0);

    my $pid = open3('<&' . fileno($in), my $out, undef, 'runc', '--root',
                    "$dir/runc", 'run', '-b', "$dir/bundle", "nixery-test-$$");
    my $output = do { local $/; <$out> };
    waitpid($pid, 0);

    return ($? >> 8, $output =~ s/\n\z//r);
}
