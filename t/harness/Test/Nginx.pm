package Test::Nginx;

# Copyright (C) The ngx_http_nixery_module authors

# The part of nginx's own test library that the tests here use: the same names
# with the same meaning, so that they run under either.

use strict;
use warnings;

use base qw(Exporter);

our @EXPORT = qw(http http_get http_head log_in log_out port);
our @EXPORT_OK = qw(http_content http_end http_start);

use File::Path;
use File::Temp;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Test::More ();
use Time::HiRes qw(sleep);

use constant {
    FILE_TIMEOUT => 10,     # seconds
    HTTP_TIMEOUT => 8,
    QUIT_TIMEOUT => 90,
};

our $NGINX = $ENV{TEST_NGINX_BINARY} // '/usr/sbin/nginx';

our $TODO;
my %ports;      # number in the test => { number, lock }


sub new {
    my ($class) = @_;

    Test::More::BAIL_OUT("no nginx at $NGINX") if !-x $NGINX;

    my $dir = File::Temp::tempdir('nginx-test-XXXXXXXXXX', TMPDIR => 1);

    return bless {
        owner => $$, dir => $dir, daemons => [], alerts => 1, args => [],
    }, $class;
}


# --- plan

sub plan {
    my ($self, $tests) = @_;

    # alerts and sanitizer errors are looked for at the end
    Test::More::plan(tests => $tests + 2);

    return $self;
}


sub has {
    my ($self, @features) = @_;

    for my $feature (@features) {
        Test::More::plan(skip_all => "no $feature available")
            if !$self->has_module($feature);
    }

    return $self;
}


sub has_module {
    my ($self, $feature) = @_;

    my $build = $self->{build} //= qx($NGINX -V 2>&1);

    return $build !~ /--without-http(?!\S)/ if $feature eq 'http';
    return $build =~ /--with-http_v2_module/ if $feature eq 'http_v2';
    return $build =~ /--with-http_ssl_module/ if $feature eq 'http_ssl';

    return $build !~ /--without-http_\Q$feature\E_module/;
}


sub has_daemon {
    my ($self, $daemon) = @_;

    Test::More::plan(skip_all => "$daemon not found")
        if !grep { -x "$_/$daemon" } split /:/, $ENV{PATH};

    return $self;
}


sub todo_alerts {
    my ($self) = @_;
    $self->{alerts} = 0;
    return $self;
}


# --- files

sub testdir {
    my ($self) = @_;
    return $self->{dir};
}


sub read_file {
    my ($self, $name) = @_;

    open(my $fh, '<', "$self->{dir}/$name")
        or die "can't open \"$name\": $!\n";
    binmode $fh;
    local $/;
    my $content = <$fh>;
    close($fh);

    return $content;
}


sub write_file {
    my ($self, $name, $content) = @_;

    open(my $fh, '>', "$self->{dir}/$name")
        or die "can't create \"$name\": $!\n";
    binmode $fh;
    print $fh $content;
    close($fh);

    return $self;
}


sub write_file_expand {
    my ($self, $name, $content) = @_;

    $content =~ s/%%TEST_GLOBALS%%/$self->_globals()/ge;
    $content =~ s/%%TEST_GLOBALS_HTTP%%/$self->_globals_http()/ge;
    $content =~ s/%%TESTDIR%%/$self->{dir}/g;
    $content =~ s/127\.0\.0\.1:(8\d{3})/'127.0.0.1:' . port($1)/ge;
    $content =~ s/%%PORT_(\d+)%%/port($1)/ge;

    return $self->write_file($name, $content);
}


sub _globals {
    my ($self) = @_;

    $self->{globals} = 1;

    return join("\n", "pid $self->{dir}/nginx.pid;",
                "error_log $self->{dir}/error.log debug;",
                $ENV{TEST_NGINX_GLOBALS} // '');
}


sub _globals_http {
    my ($self) = @_;

    return join("\n", "root $self->{dir};",
                "access_log $self->{dir}/access.log;",
                (map { "${_}_temp_path $self->{dir}/${_}_temp;" }
                 qw(client_body proxy fastcgi uwsgi scgi)),
                $ENV{TEST_NGINX_GLOBALS_HTTP} // '');
}


# --- nginx

sub run {
    my ($self) = @_;

    my $pid = fork() // die "can't fork: $!\n";

    if ($pid == 0) {
        exec($self->_command()) or POSIX::_exit(127);
    }

    $self->waitforfile("$self->{dir}/nginx.pid", $pid)
        or die "nginx did not start\n";

    $self->{running} = 1;

    return $self;
}


sub _command {
    my ($self) = @_;

    my @globals = $self->{globals} ? ()
        : ('-g', "pid $self->{dir}/nginx.pid; "
                 . "error_log $self->{dir}/error.log debug;");

    return ($NGINX, '-p', "$self->{dir}/", '-c', 'nginx.conf', '-e',
            'error.log', @{$self->{args}}, @globals);
}


sub args {
    my ($self, @args) = @_;
    $self->{args} = \@args;
    return $self;
}


sub dump_config {
    my ($self) = @_;

    my $command = join ' ', map { "'$_'" } $self->_command(), '-T';

    return qx($command 2>&1);
}


sub reload {
    my ($self) = @_;

    kill('HUP', $self->read_file('nginx.pid')) if $self->{running};

    return $self;
}


sub stop {
    my ($self) = @_;

    return $self if !$self->{running};

    $self->{running} = 0;

    chomp(my $pid = $self->read_file('nginx.pid'));

    kill('QUIT', $pid);

    if (!_exited($pid, QUIT_TIMEOUT)) {
        kill('TERM', $pid);
        waitpid($pid, 0);
    }

    return $self;
}


sub _exited {
    my ($pid, $timeout) = @_;

    for (1 .. $timeout * 50) {
        return 1 if waitpid($pid, POSIX::WNOHANG()) != 0;
        sleep(0.02);
    }

    return 0;
}


# --- others

sub run_daemon {
    my ($self, $code, @args) = @_;

    my $pid = fork() // die "can't fork: $!\n";

    if ($pid == 0) {
        if (ref $code) {
            $code->(@args);
            exit 0;
        }

        exec($code, @args) or POSIX::_exit(127);
    }

    push @{$self->{daemons}}, $pid;

    return $self;
}


sub stop_daemons {
    my ($self) = @_;

    while (defined(my $pid = shift @{$self->{daemons}})) {
        kill('TERM', $pid);

        if (!_exited($pid, 5)) {
            kill('KILL', $pid);
            waitpid($pid, 0);
        }
    }

    return $self;
}


sub waitforfile {
    my ($self, $file, $pid) = @_;

    my $exited = 0;

    for (1 .. FILE_TIMEOUT * 50) {
        return 1 if -e $file;
        return 0 if $exited;

        # one more look: it may have written the file and ended
        $exited = waitpid($pid, POSIX::WNOHANG()) != 0 if $pid;
        sleep(0.02);
    }

    return;
}


sub waitforsocket {
    my ($self, $peer) = @_;

    for (1 .. FILE_TIMEOUT * 50) {
        return 1 if IO::Socket::INET->new(Proto => 'tcp', PeerAddr => $peer);
        sleep(0.02);
    }

    return;
}


# A port of this machine for one of the test; a UDP socket on the same number
# keeps other tests away from it.

sub port {
    my ($number) = @_;

    return $ports{$number}{number} if $ports{$number};

    for my $try (0 .. 200) {
        my $free = $try ? 8000 + int(rand(1000)) : $number;

        my $lock = IO::Socket::INET->new(Proto => 'udp',
                                         LocalAddr => "127.0.0.1:$free")
            or next;
        my $probe = IO::Socket::INET->new(Proto => 'tcp', Listen => 1,
                                          LocalAddr => "127.0.0.1:$free",
                                          ReuseAddr => 1)
            or next;

        close($probe);
        $ports{$number} = { number => $free, lock => $lock };

        return $free;
    }

    die "no port is free\n";
}


# --- HTTP

sub http_get {
    my ($uri, %extra) = @_;
    return http("GET $uri HTTP/1.0\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a",
                %extra);
}


sub http_head {
    my ($uri, %extra) = @_;
    return http("HEAD $uri HTTP/1.0\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a",
                %extra);
}


sub http {
    my ($request, %extra) = @_;

    my $socket = http_start($request, %extra);

    return $socket if $extra{start} || !defined $socket;
    return http_end($socket, %extra);
}


sub http_start {
    my ($request, %extra) = @_;

    my $socket = $extra{socket}
        // IO::Socket::INET->new(Proto => 'tcp',
                                 PeerAddr => $extra{PeerAddr}
                                             // '127.0.0.1:' . port(8080))
        // return;

    log_out($request);

    local $SIG{PIPE} = 'IGNORE';
    $socket->autoflush(1);
    $socket->print($request);

    sleep($extra{sleep}) if $extra{sleep};
    $socket->print($extra{body}) if defined $extra{body};

    return $socket;
}


sub http_end {
    my ($socket, %extra) = @_;

    my $reply = '';
    my $select = IO::Select->new($socket);
    my $end = time() + ($extra{timeout} // HTTP_TIMEOUT);

    while (time() <= $end) {
        $select->can_read(1) or next;

        my $n = sysread($socket, my $buf, 65536);

        last if !$n;
        $reply .= $buf;
    }

    log_in($reply);

    return $reply;
}


sub http_content {
    my ($reply) = @_;

    return if !defined $reply || $reply !~ /\x0d\x0a\x0d\x0a(.*)/s;
    my $content = $1;

    return $content if $reply !~ /^Transfer-Encoding: chunked/im;

    my $plain = '';

    while ($content =~ s/^([0-9a-f]+)\x0d\x0a//i) {
        my $len = hex $1 or last;
        $plain .= substr($content, 0, $len, '');
        $content =~ s/^\x0d\x0a//;
    }

    return $plain;
}


sub log_in {
    my (@lines) = @_;
    _log('<< ', @lines);
    return;
}


sub log_out {
    my (@lines) = @_;
    _log('>> ', @lines);
    return;
}


sub _log {
    my ($prefix, @texts) = @_;

    return if !$ENV{TEST_NGINX_VERBOSE};

    for my $text (@texts) {
        $text =~ s/[^\x20-\x7e\x0a]//g;
        Test::More::note("$prefix$_") for split /\n/, $text;
    }

    return;
}


# --- the end

sub DESTROY {
    my ($self) = @_;

    return if $self->{owner} != $$;

    # the test's exit code, and an error that is being reported
    local ($?, $@);

    $self->stop();
    $self->stop_daemons();

    my $log = -e "$self->{dir}/error.log" ? $self->read_file('error.log') : '';

    if (Test::More->builder->expected_tests) {
        {
            local $TODO = $self->{alerts} ? undef : 'alerts';
            Test::More::is(join("\n", $log =~ /.+\[alert\].+/g), '',
                           'no alerts');
        }

        Test::More::is(join("\n", $log =~ /.+Sanitizer.+/g), '',
                       'no sanitizer errors');
    }

    print $log if $ENV{TEST_NGINX_CATLOG};

    File::Path::rmtree($self->{dir}) if !$ENV{TEST_NGINX_LEAVE};

    return;
}



1;
