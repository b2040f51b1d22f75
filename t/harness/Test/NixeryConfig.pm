package Test::NixeryConfig;

# Copyright (C) The ngx_http_nixery_module authors

# Tests of what "nginx -t" says.

use strict;
use warnings;

use base qw(Exporter);

our @EXPORT = qw(
    around check configure line_of location number right who wrong
);

use Test::More ();

use Test::Nginx;
use Test::Nixery;


# A configuration in a file of its own.  Extra: file, its name; main, what is
# outside of http.

sub configure {
    my ($t, $http, %extra) = @_;

    my $file = $extra{file} // 'test.conf';
    my $main = $extra{main} // '';

    $t->write_file_expand($file, <<"EOC");

%%TEST_GLOBALS%%

daemon off;
$main

events {
}

http {
    %%TEST_GLOBALS_HTTP%%
    $http
}

EOC

    return $file;
}


# A location with those directives; one with a text before them.

sub location {
    my ($t, %directives) = @_;
    return "server { listen 127.0.0.1:8080; location /v2 {\n"
        . nixery($t, %directives) . "\n} }\n";
}


sub around {
    my ($t, $text) = @_;
    return location($t) =~ s/nixery;/nixery;\n$text/r;
}


# What "nginx -t" prints, and its exit code.  Extra: path, PATH; mount, a command
# in a mount namespace of its own.

sub check {
    my ($t, $file, %extra) = @_;
    my $d = $t->testdir();

    local $ENV{PATH} = $extra{path} // $ENV{PATH};

    my $command = "$Test::Nginx::NGINX -t -p '$d/' -c '$file' -e error.log";

    $command = "unshare -m sh -c \"$extra{mount} && $command\""
        if $extra{mount};

    my $output = qx($command 2>&1);

    return ($output, $? >> 8);
}


# The line of a file that has the mark, or begins with that directive.

sub line_of {
    my ($t, $file, $mark) = @_;
    my $n = 0;

    for my $line (split /\n/, $t->read_file($file)) {
        $n++;
        return $n if $line =~ /# here$/
            || defined $mark && $line =~ /^\s*\Q$mark\E[ ;]/;
    }

    die "no line is marked in \"$file\"\n";
}


# One test: refused with that message, once, and the place.  Extra: place, a file
# that is included; mark, a directive.

sub wrong {
    my ($t, $http, $message, $name, %extra) = @_;
    my $d = $t->testdir();

    my $file = configure($t, $http, %extra);
    my $place = $extra{place} // $file;
    my $line = line_of($t, $place, $extra{mark});

    my ($output, $code) = check($t, $file, %extra);
    my @errors = $output =~ /^nginx: \[emerg\] (.*)$/gm;

    Test::More::ok($code == 1 && "@errors" eq "$message in $d/$place:$line"
                   && $output !~ /runtime error|Sanitizer/, "refused: $name")
        or Test::More::diag("exit code $code, line $line: $output");

    return;
}


# One test: accepted, and nothing to say about it.

sub right {
    my ($t, $http, $name, %extra) = @_;

    my ($output, $code) = check($t, configure($t, $http, %extra), %extra);

    Test::More::ok($code == 0 && $output =~ /test is successful/
                   && $output !~ /\[(?:warn|error|crit|alert|emerg)\]/
                   && $output !~ /runtime error|Sanitizer/, "accepted: $name")
        or Test::More::diag("exit code $code: $output");

    return;
}


# How messages end that more than one directive has: of arguments, and of files
# that the workers' user, who is another one only for root, can't use.

sub number {
    my ($directive) = @_;
    return qq{invalid number of arguments in "nixery_$directive" directive};
}


sub who {
    return $> == 0 ? ', user "' . workers_user() . '"' : '';
}


1;
