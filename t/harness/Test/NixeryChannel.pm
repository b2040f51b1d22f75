package Test::NixeryChannel;

# Copyright (C) The ngx_http_nixery_module authors

# Channels, whose tarballs are those of Test::NixeryGit, at the web server of
# Test::NixeryGitServers.

use strict;
use warnings;

use base qw(Exporter);

our @EXPORT = qw(channel_url proxied requests);

use Test::Nginx;
use Test::Nixery qw(eventually);
use Test::NixeryGitServers;


# What "nixery_channel_url" says, in a configuration that is still to be
# expanded, for that file of a place at http: "files" and "private_files", what
# is in git/files; "forge" and "private_forge", repository "set", which has those
# files as its archives; "moved", "broken".  Extra: login and port, as git_url()
# has them; https => 1; query.

sub channel_url {
    my ($place, $file, %extra) = @_;

    my $port = $extra{port}
        // ($extra{https} ? Test::NixeryGitServers::HTTPS
            : Test::NixeryGitServers::HTTP);
    my $login = defined $extra{login} ? "$extra{login}\@" : '';
    my $query = defined $extra{query} ? "?$extra{query}" : '';

    $place .= '/set/archive' if $place =~ /forge$/;

    return ($extra{https} ? 'https' : 'http')
           . "://${login}127.0.0.1:$port/$place/$file$query";
}


# What http and https have been asked for since the last time, "URI STATUS"
# each, with the method before it when that is not GET.

sub requests {
    my ($t) = @_;
    return _logged($t, 'access.log', Test::NixeryGitServers::HTTP);
}


# The same of the proxy.

sub proxied {
    my ($t) = @_;
    return _logged($t, 'proxy.log', Test::NixeryGitServers::PROXY);
}


my ($marks, %read) = (0);

sub _logged {
    my ($t, $file, $port) = @_;
    my $mark = '/mark/' . ++$marks;

    # there is one worker: what it did before is in the log when this is
    http_get($mark, PeerAddr => '127.0.0.1:' . port($port));

    my $log = eventually(sub {
        my $text = substr($t->read_file("git/$file"), $read{$file} // 0);
        $text =~ m{"GET \Q$mark\E } && $text;
    }) or die "nothing is logged in git/$file\n";

    $read{$file} += length $log;

    return map { "$1 $2 $3" =~ s/^GET //r if /"(\S+) (\S+) \S+" (\d+) / }
           grep { !m{ /mark/\d+ } } split /\n/, $log;
}


1;
