#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Real clients against real nginx and real Nix: skopeo and podman pull, and the
# programs run.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

my @images = qw(shell/hello shell/git/htop python3/python3packages.requests
                builder);

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('skopeo')
    ->has_daemon('podman')->plan(4 * @images + 32);

prepare($t);
my $d = $t->testdir();

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      tls.crt;
    ssl_certificate_key  tls.key;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8081 ssl;
        server_name  localhost;

        location /v2 {
            ${\nixery($t, nix_build => undef, nix_option => 'max-jobs auto',
                      packages => "path $ENV{TEST_NIXERY_PACKAGES}")}
        }
    }
}

EOF

my $registry = '127.0.0.1:' . port(8080);
my $tls = '127.0.0.1:' . port(8081);

containers($t);

# a certificate that only this test's authority vouches for
my $openssl = 'openssl req -x509 -newkey rsa:2048 -nodes -days 1';

told("cd $d && $openssl -keyout ca.key -out ca.crt -subj /CN=test-authority"
     . " && $openssl -keyout tls.key -out tls.crt -subj /CN=test"
     . ' -CA ca.crt -CAkey ca.key -addext subjectAltName=IP:127.0.0.1'
     . ' -addext basicConstraints=CA:FALSE') =~ /^0 / or die "no certificate\n";

$t->run();

###############################################################################

for my $image (@images) {
    my $m = manifest($image);
    my $digest = $m->{headers}{'docker-content-digest'};

    like(told("skopeo copy --src-tls-verify=false docker://$registry/$image"
              . " oci:$d/oci:x"), qr/^0 /, "skopeo copies $image");
    like($t->read_file('oci/index.json'), qr/"\Q$digest\E"/,
         "skopeo has its manifest");
    is(join(' ', grep { !-s "$d/oci/blobs/sha256/$_" }
            map { $_->{digest} =~ s/^sha256://r } @{$m->{json}{layers}}), '',
       'skopeo has its layers');


    my $id = $m->{json}{config}{digest} =~ s/^sha256://r;
    like(told("podman pull -q --tls-verify=false $registry/$image"),
         qr/^0 $id$/, "podman pulls $image");
}

# a shell

like(run('shell/hello', 'hello'), qr/^0 Hello, world!$/, 'hello');
like(run('shell/hello', '', '-i', "echo \$0 \$((6*7))\n"),
     qr/^0 \/bin\/bash 42$/, 'a shell without a command');
like(run('shell/hello', 'id -un'), qr/^0 root$/, 'root has a name');
like(run('shell/hello', 'stat -c %a /tmp'), qr/^0 1777$/, '/tmp for all');

my $script = q('printf "#!/usr/bin/env bash\necho scripted\n" > /tmp/script;)
    . q( chmod 755 /tmp/script; /tmp/script');

like(run('shell/hello', "bash -c $script"), qr/^0 scripted$/,
     '/usr/bin/env in a script');
like(run('shell/hello', "bash -c $script", '--user 1000:1000'),
     qr/^0 scripted$/, '/tmp of a user without a name');
like(run('shell/hello', "bash -c $script", '--user nobody'),
     qr/^0 scripted$/, '/tmp of nobody');
like(run('shell/hello', 'nano --version'), qr/^0  GNU nano/, 'nano');
like(run('shell/hello', 'sponge', '-i', "soaked\n"), qr/^0 soaked$/,
     'moreutils');

# git, htop on a terminal

like(run('shell/git/htop', q(sh -ec 'cd /tmp; git init -q r; cd r; date > f;)
         . q( git add f; git -c user.name=a -c user.email=b commit -qm told;)
         . q( git clone -q . ../s; git -C ../s log --format=%s')),
     qr/^0 told$/, 'git');
like(run('shell/git/htop', 'htop', '-it -e TERM=xterm', 'q'),
     qr/^0 .*Load average/s, 'htop');

# Python

like(run('python3/python3packages.requests', q(python3 -c 'import requests;)
         . qq( print(requests.get("http://$registry/v2/").json())')),
     qr/^0 \{\}$/, 'requests');
like(run('python3/python3packages.requests', q(python3 -c 'import ssl;)
         . q( c = ssl.create_default_context(); print(len(c.get_ca_certs()))'),
         '--user 1000'),
     qr/^0 [1-9]\d\d$/, 'authorities of a user without a name');

# a compiler

my $source = <<'EOF';
#include <math.h>
#include <stdio.h>
int main(int argc, char **argv) { printf("%g\n", sqrt(1764 * argc)); return 0; }
EOF

like(run('builder', q(sh -ec 'cat > /tmp/a.c; cd /tmp; make -s LDLIBS=-lm a;)
         . q( ./a'), '-i', $source), qr/^0 42$/, 'make compiles C');
like(run('builder', q(sh -ec 'cat > /tmp/a.c; cd /tmp; gcc -O2 -Wall -o a a.c)
         . q( -lm; ./a; strip a; tar -czf a.tgz a; ls a.tgz'),
         '-i --user 1000', $source), qr/^0 42\na\.tgz$/,
     'a user without a name compiles C');

# TLS, to a server and back: the programs look where the image says, first at
# authorities who don't know the server, then at a file that does

my $trust = "-v $d/ca.crt:/etc/ssl/certs/ca-bundle.crt:ro";

like(run('shell/curl/openssl/wget', 'sh -c ' . q('cat $SSL_CERT_FILE')),
     qr/^0 .*-----BEGIN CERTIFICATE-----/s, 'authorities');

like(run('shell/curl/openssl/wget', "curl -s https://$tls/v2/"), qr/^60 /,
     'curl verifies');
like(run('shell/curl/openssl/wget', "curl -s https://$tls/v2/", $trust),
     qr/^0 \{\}$/, 'curl trusts');

my $s_client = "openssl s_client -connect $tls -verify_return_error -brief";

like(run('shell/curl/openssl/wget', $s_client), qr/^1 .*unable to get local/s,
     'openssl verifies');
like(run('shell/curl/openssl/wget', $s_client, $trust),
     qr/^0 .*Verification: OK/s, 'openssl trusts');

my $wget = "wget -nv -O - https://$tls/v2/";

like(run('shell/curl/openssl/wget', $wget), qr/^5 .*(?:not trusted|issuer)/s,
     'wget verifies');
like(run('shell/curl/openssl/wget', $wget, $trust), qr/^0 \{\}/, 'wget trusts');

my $git = "git ls-remote https://$tls/v2/none/";

like(run('shell/git/htop', $git), qr/^128 .*certificate/s, 'git verifies');
like(run('shell/git/htop', $git, $trust), qr/^128 .*not found/s, 'git trusts');

for my $get ('requests.get(U).text', 'urllib.request.urlopen(U).reason') {
    my $python = "python3 -c 'import requests, urllib.request; U ="
        . " \"https://$tls/v2/\"; print($get)'";

    like(run('python3/python3packages.requests', $python),
         qr/^1 .*CERTIFICATE_VERIFY_FAILED/s, "$get verifies");
    like(run('python3/python3packages.requests', $python, $trust),
         qr/^0 (\{\}|OK)$/, "$get trusts");
}

# clients over TLS

mkdir("$d/certs");
system('cp', "$d/ca.crt", "$d/certs/ca.crt");

like(told("skopeo copy --src-cert-dir $d/certs docker://$tls/shell/hello"
          . " oci:$d/tls:x"), qr/^0 /, 'skopeo over TLS');
like(told("podman pull -q --cert-dir $d/certs $tls/shell/hello"),
     qr/^0 [0-9a-f]{64}$/, 'podman over TLS');

# what is not there

like(told("podman pull --tls-verify=false $registry/shell/none"),
     qr/^125 .*not found: "none"/s, 'podman shows what is wrong');
like(told("skopeo copy --src-tls-verify=false docker://$registry/shell/none"
          . " oci:$d/oci:none"), qr/^1 .*not found: \\"none/s,
     'skopeo shows what is wrong');

###############################################################################

# A command's exit code and output.

sub told {
    my ($command, $input) = @_;

    open(my $fh, '>', "$d/input") or die "can't create \"$d/input\": $!\n";
    print $fh $input // '';
    close($fh);

    my $output = qx({ $command; } < $d/input 2>&1);

    return ($? >> 8) . ' ' . $output =~ s/\r?\n\z//r;
}


sub run {
    my ($image, $command, $options, $input) = @_;

    $options //= '';

    return told("podman run --rm -q --tls-verify=false $options"
                . " $registry/$image $command", $input);
}
