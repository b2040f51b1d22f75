package Test::NixeryGitServers;

# Copyright (C) The ngx_http_nixery_module authors

# Where the repositories of Test::NixeryGit are read from: git's own daemon, its
# CGI program behind an nginx, OpenSSH, and none.

use strict;
use warnings;

use base qw(Exporter);

our @EXPORT = qw(git_packages git_ssh git_url serve NOBODY SILENT);

use Cwd;
use IO::Socket::INET;
use POSIX ();

use Test::Nginx;
use Test::NixeryGit qw(give git_environment git_home shell);

# ports as a test names them

use constant {
    HTTP => 8091,
    HTTPS => 8092,
    STRANGER => 8093,       # its certificate is for another host
    GIT => 8094,
    SSH => 8095,
    SILENT => 8096,         # a fake: it accepts, and that is all
    NOBODY => 8097,         # none listens
    PROXY => 8098,          # for any host, as if it were this one
};


# The URL of a repository, of one of the kinds below; "reader" with "open
# sesame" may see what is private, and so may another one, whose words are harder
# to write.  Extra: login => "USER:PASSWORD", escaped as a URL has it; port =>
# SILENT or NOBODY.

sub git_url {
    my ($t, $kind, $repo, %extra) = @_;

    my ($before, $port, $after) = _url($t, $kind, $repo, %extra);

    return $before if !defined $port;
    return $before . ':' . port($port) . $after;
}


# What "nixery_packages" says of a repository, in a configuration that is still
# to be expanded; "ssh" comes with the good key.  Extra: as above, and more =>
# other parameters.

sub git_packages {
    my ($t, $kind, $repo, %extra) = @_;
    my $d = $t->testdir();

    my ($before, $port, $after) = _url($t, $kind, $repo, %extra);

    my $more = $extra{more}
        // ($kind eq 'ssh'
            ? "key=$d/git/ssh/key known_hosts=$d/git/ssh/known.hosts" : '');

    # ports that were expanded would be so once more
    return "git $before"
        . (defined $port ? ":$port$after" : '')
        . ($more ne '' ? " $more" : '');
}


sub _url {
    my ($t, $kind, $repo, %extra) = @_;
    my $d = $t->testdir();

    return "file://$repo->{bare}" if $kind eq 'file';

    my ($scheme, $port, $path) = @{{
        git => ['git', GIT, ''],
        ssh => ['ssh', SSH, "$d/git"],
        http => ['http', HTTP, '/open'],
        private => ['http', HTTP, '/private'],
        moved => ['http', HTTP, '/moved'],
        away => ['http', HTTP, '/away'],
        astray => ['http', HTTP, '/astray'],
        broken => ['http', HTTP, '/broken'],
        page => ['http', HTTP, '/page'],
        https => ['https', HTTPS, '/open'],
        private_https => ['https', HTTPS, '/private'],
        stranger => ['https', STRANGER, '/open'],
    }->{$kind} // die "there is no git server \"$kind\"\n"};

    my $login = $extra{login} // ($kind eq 'ssh' ? scalar getpwuid($<) : '');
    $login .= '@' if $login ne '';

    return ("$scheme://${login}127.0.0.1", $extra{port} // $port,
            "$path/$repo->{name}.git");
}


# The command that git takes from GIT_SSH_COMMAND.  Extra: key => "other" is
# refused; hosts => "wrong" has another key for this server, "none" has no key.

sub git_ssh {
    my ($t, %extra) = @_;
    my $ssh = $t->testdir() . '/git/ssh';

    my $key = $extra{key} // 'key';
    my $hosts = $extra{hosts} // 'known';

    return join ' ', "ssh -F none -i $ssh/$key",
                map { "-o $_" } 'BatchMode=yes', 'IdentitiesOnly=yes',
                                'IdentityAgent=none',
                                'StrictHostKeyChecking=yes',
                                'GlobalKnownHostsFile=none',
                                "UserKnownHostsFile=$ssh/$hosts.hosts";
}


# Starts servers of all repositories: http (https too), git, ssh, silent.

sub serve {
    my ($t, @kinds) = @_;

    git_home($t);

    my %kinds = (http => \&_serve_http, git => \&_serve_git,
                 ssh => \&_serve_ssh, silent => \&_serve_silent);

    for my $kind (@kinds) {
        my @ports = $kinds{$kind}->($t);

        for my $port (@ports) {
            $t->waitforsocket('127.0.0.1:' . port($port))
                or die "no $kind server\n";
        }
    }

    return;
}


sub _serve_http {
    my ($t) = @_;
    my $d = $t->testdir();

    _certificates("$d/git/tls");

    chomp(my $core = qx(git --exec-path));
    my $user = $> == 0 ? 'user  root;' : '';

    # no crypt() has an opinion on {PLAIN}
    $t->write_file('git/users', "reader:{PLAIN}open sesame\n"
                                . "o\@d/d:{PLAIN}p/a\@s%\"'\\\$ w?#\n");

    $t->write_file_expand('git/nginx.conf', <<"EOF");

daemon  off;
pid     %%TESTDIR%%/git/nginx.pid;

$user

events {
}

http {
    access_log  %%TESTDIR%%/git/access.log;

    client_body_temp_path  %%TESTDIR%%/git/client_body_temp;
    fastcgi_temp_path      %%TESTDIR%%/git/fastcgi_temp;
    proxy_temp_path        %%TESTDIR%%/git/proxy_temp;
    uwsgi_temp_path        %%TESTDIR%%/git/uwsgi_temp;
    scgi_temp_path         %%TESTDIR%%/git/scgi_temp;

    fastcgi_param  SCRIPT_FILENAME      $core/git-http-backend;
    fastcgi_param  GIT_PROJECT_ROOT     %%TESTDIR%%/git;
    fastcgi_param  GIT_HTTP_EXPORT_ALL  1;
    fastcgi_param  PATH_INFO            \$repository;
    fastcgi_param  REQUEST_METHOD       \$request_method;
    fastcgi_param  QUERY_STRING         \$query_string;
    fastcgi_param  CONTENT_TYPE         \$content_type;
    fastcgi_param  CONTENT_LENGTH       \$content_length;
    fastcgi_param  REMOTE_USER          \$remote_user;
    fastcgi_param  REMOTE_ADDR          \$remote_addr;

    ssl_certificate_key  %%TESTDIR%%/git/tls/server.key;

    server {
        listen       127.0.0.1:${\HTTP};
        listen       127.0.0.1:${\HTTPS} ssl;
        server_name  localhost;

        ssl_certificate  %%TESTDIR%%/git/tls/server.crt;

        location ~ ^/open(?<repository>/.*) {
            fastcgi_pass  unix:%%TESTDIR%%/git/cgi.sock;
        }

        location ~ ^/private(?<repository>/.*) {
            auth_basic            private;
            auth_basic_user_file  %%TESTDIR%%/git/users;
            fastcgi_pass          unix:%%TESTDIR%%/git/cgi.sock;
        }

        location ~ ^/moved(?<place>/(?:files|forge)/.*) {
            return  302 \$place\$is_args\$args;
        }

        location ~ ^/moved(?<repository>/.*) {
            return  302 /open\$repository\$is_args\$args;
        }

        location ~ ^/away(?<repository>/.*) {
            return  302 https://127.0.0.1:${\HTTPS}/private\$repository?\$args;
        }

        location ~ ^/astray/ {
            return  302 file://%%TESTDIR%%/git\$uri;
        }

        location /broken/ {
            return  503;
        }

        location /page/ {
            return  200 "<html>\\nno repository\\n</html>\\n";
        }

        location /files/ {
            root  %%TESTDIR%%/git;
        }

        location ~ ^/private_files(?<file>/.*) {
            auth_basic            private;
            auth_basic_user_file  %%TESTDIR%%/git/users;
            alias                 %%TESTDIR%%/git/files\$file;
        }

        location ~ ^/forge/[^/]+(?:/-)?/archive(?<file>/.*) {
            alias  %%TESTDIR%%/git/files\$file;
        }

        location ~ ^/forge/(?<name>[^/]+)(?<service>/.*) {
            set           \$repository /\$name.git\$service;
            fastcgi_pass  unix:%%TESTDIR%%/git/cgi.sock;
        }

        location ~ ^/private_forge/[^/]+/archive(?<file>/.*) {
            auth_basic            private;
            auth_basic_user_file  %%TESTDIR%%/git/users;
            alias                 %%TESTDIR%%/git/files\$file;
        }

        location ~ ^/private_forge/(?<name>[^/]+)(?<service>/.*) {
            auth_basic            private;
            auth_basic_user_file  %%TESTDIR%%/git/users;
            set                   \$repository /\$name.git\$service;
            fastcgi_pass          unix:%%TESTDIR%%/git/cgi.sock;
        }
    }

    server {
        listen       127.0.0.1:${\STRANGER} ssl;
        server_name  localhost;

        ssl_certificate  %%TESTDIR%%/git/tls/stranger.crt;
    }

    server {
        listen       127.0.0.1:${\PROXY};
        server_name  localhost;
        access_log   %%TESTDIR%%/git/proxy.log;

        location / {
            proxy_pass  http://127.0.0.1:${\HTTP};
        }
    }
}

EOF

    _start($t, 'cgi', 'fcgiwrap', '-s', "unix:$d/git/cgi.sock");
    $t->waitforfile("$d/git/cgi.sock") or die "no fcgiwrap\n";

    _start($t, 'nginx', Cwd::abs_path($Test::Nginx::NGINX), '-p', "$d/git/",
           '-c', 'nginx.conf', '-e', 'error.log');

    return (HTTP, HTTPS, STRANGER, PROXY);
}


# An authority, git/tls/ca.crt, and certificates that only it vouches for.

sub _certificates {
    my ($dir) = @_;

    my %names = (server => 'IP:127.0.0.1', stranger => 'DNS:elsewhere.example');

    mkdir($dir);

    my $new = 'openssl req -x509 -nodes -days 1 -newkey ec'
        . ' -pkeyopt ec_paramgen_curve:P-256';

    shell("$new -keyout $dir/ca.key -out $dir/ca.crt -subj /CN=test-authority");
    shell("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
         . " -out $dir/server.key");

    for my $name (sort keys %names) {
        shell("openssl req -x509 -days 1 -key $dir/server.key"
             . " -out $dir/$name.crt -subj /CN=test -CA $dir/ca.crt"
             . " -CAkey $dir/ca.key -addext subjectAltName=$names{$name}"
             . ' -addext basicConstraints=CA:FALSE');
    }

    return;
}


sub _serve_git {
    my ($t) = @_;

    chomp(my $core = qx(git --exec-path));

    # git would start it as a process of its own
    _start($t, 'git-daemon', "$core/git-daemon", '--verbose', '--export-all',
           '--reuseaddr', '--listen=127.0.0.1', '--port=' . port(GIT),
           '--base-path=' . $t->testdir() . '/git');

    return GIT;
}


# A key that logs its user in, who is the test's own, as one who may read
# repositories; another that nobody knows; and lists of hosts.

sub _serve_ssh {
    my ($t) = @_;
    my $d = $t->testdir();
    my $ssh = "$d/git/ssh";
    my ($user, $password) = getpwuid($<);

    mkdir($ssh);

    shell("ssh-keygen -q -t ed25519 -N '' -C '' -f $ssh/$_")
        for qw(host_key key other);

    give(map { "$ssh/$_" } qw(key other));

    my %public = map { $_ => $t->read_file("git/ssh/$_.pub") =~ s/\s+$//r }
                 qw(host_key key other);
    my $host = '[127.0.0.1]:' . port(SSH);

    $t->write_file('git/ssh/known.hosts', "$host $public{host_key}\n");
    $t->write_file('git/ssh/wrong.hosts', "$host $public{other}\n");
    $t->write_file('git/ssh/none.hosts', '');
    $t->write_file('git/ssh/authorized_keys',
                   "restrict,command=\"$ssh/command\" $public{key}\n");

    # the key may be anybody's who can read it: it is good for nothing else
    $t->write_file('git/ssh/command', <<'EOF');
#!/bin/sh

case $SSH_ORIGINAL_COMMAND in
git-upload-pack\ *)
    exec git-shell -c "$SSH_ORIGINAL_COMMAND"
    ;;
*)
    echo "this server is for reading repositories" >&2
    exit 1
    ;;
esac
EOF

    chmod(0755, "$ssh/command");

    # PAM, which a test can do without, has to do with locked passwords
    my $pam = ($password // '') =~ /^!/ ? 'yes' : 'no';

    $t->write_file_expand('git/ssh/sshd_config', <<"EOF");
ListenAddress 127.0.0.1:${\SSH}
HostKey $ssh/host_key
AuthorizedKeysFile $ssh/authorized_keys
AuthenticationMethods publickey
AllowUsers $user
PermitRootLogin prohibit-password
StrictModes no
PidFile none
UsePAM $pam
AcceptEnv GIT_PROTOCOL
SetEnv HOME=$d/git GIT_CONFIG_NOSYSTEM=1
EOF

    chomp(my $sshd = qx(PATH="\$PATH:/usr/sbin" command -v sshd));
    my @command = ($sshd, '-D', '-e', '-f', "$ssh/sshd_config");

    # root's wants a folder in /run, which only a started service has
    @command = ('unshare', '-m', 'sh', '-c', 'mount -t tmpfs tmpfs /run'
                . ' && mkdir /run/sshd && exec "$@"', 'sh', @command)
        if $> == 0;

    _start($t, 'sshd', @command);

    return SSH;
}


sub _serve_silent {
    my ($t) = @_;

    $t->run_daemon(\&_accept, port(SILENT));

    return SILENT;
}


sub _accept {
    my ($port) = @_;
    my @sockets;

    my $server = IO::Socket::INET->new(Proto => 'tcp', Listen => 64,
                                       LocalAddr => "127.0.0.1:$port",
                                       ReuseAddr => 1)
        or die "can't listen on port $port: $!\n";

    while (my $socket = $server->accept()) {
        push @sockets, $socket;
    }

    return;
}


# A server in the foreground, with its messages in git/NAME.log.

sub _start {
    my ($t, $name, @command) = @_;

    $t->run_daemon(\&_exec, $t->testdir() . '/git', $name, @command);

    return;
}


sub _exec {
    my ($home, $name, @command) = @_;

    git_environment($home);
    $ENV{PATH} .= ':/usr/sbin';

    open(STDIN, '<', '/dev/null');
    open(STDOUT, '>>', "$home/$name.log");
    open(STDERR, '>&', \*STDOUT);
    exec(@command) or POSIX::_exit(127);
}


1;
