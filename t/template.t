#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# The template for the entry script of nginx's container image, filled in as the
# script does it: by envsubst, with the variables that there are and no others.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

my $t = Test::Nginx->new()->has(qw/http map/)->has_daemon('envsubst')->plan(19);
my $d = $t->testdir();

prepare($t);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    nixery_temp_path %%TESTDIR%%/temp;

    include conf.d/*.conf;
}

EOF

# an operator's own, beside ours
my $own = <<'EOF';
nixery_channel_url  http://127.0.0.1/$channel.tar.gz;
log_format          own  "$remote_addr ${status} $host";
EOF

mkdir("$d/$_") for qw(templates conf.d pages);
$t->write_file('pages/index.html', 'a page');
$t->write_file('templates/own.conf.template', $own);
system("cp '../conf/templates/nixery.conf.template' '$d/templates'") == 0
    or die "can't copy the template\n";

# the workers' user reads them
chmod(0755, "$d/pages");
chmod(0644, "$d/pages/index.html");

###############################################################################

# Makes conf.d of templates in an environment with those variables on top; undef
# removes one.

sub fill_in {
    my ($t, %env) = @_;
    my $d = $t->testdir();

    local %ENV = (%ENV, %env);
    delete @ENV{grep { !defined $ENV{$_} } keys %ENV};

    my $variables = join ' ', map { "\${$_}" } grep { /^\w+$/ } sort keys %ENV;

    for my $template (glob("$d/templates/*.template")) {
        my ($name) = $template =~ /([^\/]*)\.template$/;

        system("envsubst '$variables' < '$template' > '$d/conf.d/$name'") == 0
            or die "can't fill in \"$template\"\n";
    }

    return;
}


# What "nginx -t" has to say.

sub checked {
    my ($t) = @_;
    my $d = $t->testdir();

    my $command = "$Test::Nginx::NGINX -t -p '$d/' -c nginx.conf -e stderr";
    my $output = qx($command 2>&1);

    return join "\n", $output =~ /\[(?:warn|emerg)\] \d+#\d+: (.*)$/gm,
                      $output =~ /test is successful/ ? 'successful' : 'failed';
}

###############################################################################

my $port = port(8080);
my ($r, $conf);

$ENV{NIXERY_PKGS_PATH} = "$d/packages";
$ENV{NIX_BUILDER} = "$d/builder/builder.nix";
$ENV{NIXERY_STORAGE_BACKEND} = 'filesystem';
$ENV{STORAGE_PATH} = "$d/storage";

# both are set

fill_in($t, PORT => $port, WEB_DIR => "$d/pages");
$conf = $t->read_file('conf.d/nixery.conf');

is($t->read_file('conf.d/own.conf'), $own, 'variables of nginx stay');
like($conf, qr/ \$nixery_pages;/, 'in our template too');
unlike($conf, qr/PORT\}|WEB_DIR\}/, 'the others do not');
is(checked($t), 'successful', 'a configuration');

# "nginx -t" made one, which says that nginx runs
unlink("$d/nginx.pid");

$t->run();

$r = reply(http_get('/'));
is("$r->{status} $r->{body}", '200 a page', 'a page');
is(reply(http_get('/index.html'))->{body}, 'a page', 'by its name');
is(reply(http_get('/none'))->{status}, 404, 'one that is not there');
is(reply(http_get('/v2/'))->{body}, '{}', 'a registry');
is(whole(manifest('tiny')), '', 'an image');
is(truth($t), '', 'stored where the environment says');

# without pages of one's own

for my $case ([undef, 'not set'], ['', 'empty']) {
    my ($web_dir, $name) = @$case;

    fill_in($t, PORT => $port, WEB_DIR => $web_dir);
    is(checked($t), 'successful', "WEB_DIR $name");

    # the installed pages, which this machine need not have
    $conf = $t->read_file('conf.d/nixery.conf');
    is($conf =~ s/\/usr\/share\/nginx\/nixery\/html/$d\/pages/g, 1,
       "WEB_DIR $name, has a default");
    $t->write_file('conf.d/nixery.conf', $conf);

    reloaded($t);

    is(reply(http_get('/'))->{body}, 'a page', "WEB_DIR $name, a page");
}

# a path with blanks

rename("$d/pages", "$d/my pages");
fill_in($t, PORT => $port, WEB_DIR => "$d/my pages");

reloaded($t);

is(reply(http_get('/'))->{body}, 'a page', 'WEB_DIR with a blank');

# PORT has no default

fill_in($t, PORT => undef, WEB_DIR => $d);
like(checked($t), qr/"\$\{PORT\}" of the "listen" directive.*\nfailed/,
     'PORT not set');
fill_in($t, PORT => '', WEB_DIR => $d);
like(checked($t), qr/"listen" directive.*\nfailed/, 'PORT empty');

###############################################################################
