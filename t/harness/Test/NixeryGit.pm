package Test::NixeryGit;

# Copyright (C) The ngx_http_nixery_module authors

# Package sets in git repositories, all of them in the folder git/ of the test's
# directory, after prepare().

use strict;
use warnings;

use base qw(Exporter);

our @EXPORT = qw(
    commit default_branch forget git give point repository start submodule tag
    tarball
);
our @EXPORT_OK = qw(git_environment git_home shell);

use File::Basename;
use File::Copy;
use File::Path;
use FindBin;
use POSIX ();

use Test::Nixery;


# Makes git/NAME.git, as a server has it, and the work tree git/NAME, where
# commits are made; "main" has a first one, of those files or the fixture set, on
# top of which default.nix may later be package_set($t, './set.nix', ...).
# Returns { name, tree, bare, ... }.

sub repository {
    my ($t, $name, %files) = @_;
    my $d = $t->testdir();
    my $home = git_home($t);

    my $repo = { name => $name, home => $home, tree => "$home/$name",
                 bare => "$home/$name.git" };

    mkdir($repo->{tree});

    if (!%files) {
        shell("cp -a '$d/packages/seed' '$repo->{tree}'");
        copy("$d/packages/default.nix", "$repo->{tree}/set.nix");
        %files = ('default.nix' => "import ./set.nix\n");
    }

    git($repo, 'init', '-q');
    git($repo, 'init', '-q', '--bare', $repo->{bare});
    git($repo, 'remote', 'add', 'origin', $repo->{bare});

    commit($repo, %files);
    point($repo, 'refs/heads/main');

    return $repo;
}


# Makes the folder, where git finds its configuration and the servers too, which
# don't mind whose a repository is.  The fake git, which counts, comes with it,
# and so does nix-prefetch-url.

sub git_home {
    my ($t) = @_;
    my $d = $t->testdir();

    return "$d/git" if -d "$d/git";

    # the workers read most of it
    umask(022);

    mkdir("$d/git") or die "can't create \"$d/git\": $!\n";

    $t->write_file('git/.gitconfig', <<'EOF');
[user]
    name = A person
    email = person@example.org
[init]
    defaultBranch = main
[core]
    compression = 0
[safe]
    directory = *
[protocol "file"]
    allow = always
EOF

    for my $program (qw(git nix-prefetch-url)) {
        copy("$FindBin::Bin/harness/fake-program", "$d/fake/$program");
        chmod(0755, "$d/fake/$program");
    }

    return "$d/git";
}


# Leaves nothing in the environment that has a say in what git and ssh do, but
# that folder and one time for all commits.

sub git_environment {
    my ($home) = @_;

    delete @ENV{grep { /^(GIT|SSH)_|^XDG_CONFIG_HOME$/ } keys %ENV};

    $ENV{HOME} = $home;
    $ENV{GIT_CONFIG_NOSYSTEM} = 1;
    $ENV{GIT_AUTHOR_DATE} = $ENV{GIT_COMMITTER_DATE} = '1600000000 +0000';

    return;
}


# Runs git in the work tree; returns its output.

sub git {
    my ($repo, @arguments) = @_;

    my $pid = open(my $fh, '-|') // die "can't fork: $!\n";

    if ($pid == 0) {
        git_environment($repo->{home});
        chdir($repo->{tree}) && exec('git', @arguments);
        POSIX::_exit(127);
    }

    local $/;
    my $output = <$fh> // '';

    close($fh) or die "git @arguments: exit code ", $? >> 8, "\n";

    return $output =~ s/\n\z//r;
}


# Writes those files, undef removes one, and commits all that there is on top of
# what the work tree has; the server does not know it yet.  Returns the commit:
# the same files after the same commits give the same one.

sub commit {
    my ($repo, %files) = @_;

    for my $name (sort keys %files) {
        my $file = "$repo->{tree}/$name";

        if (!defined $files{$name}) {
            unlink($file) or die "can't remove \"$file\": $!\n";
            next;
        }

        mkpath(dirname($file));

        open(my $fh, '>', $file) or die "can't create \"$file\": $!\n";
        binmode $fh;
        print $fh $files{$name};
        close($fh);
    }

    git($repo, 'add', '-A');
    git($repo, 'commit', '-q', '--allow-empty', '-m', 'a change');

    return git($repo, 'rev-parse', 'HEAD');
}


# Has the server's reference name that object, HEAD if not told otherwise,
# whatever it was before: a push, a forced one, a light tag.  Returns the
# object.

sub point {
    my ($repo, $reference, $object) = @_;

    $object = git($repo, 'rev-parse', '--verify', $object // 'HEAD');
    git($repo, 'push', '-q', '-f', 'origin', "$object:$reference");

    return $object;
}


# Makes or moves an annotated tag; returns the tag's object, not the commit.

sub tag {
    my ($repo, $name, $commit) = @_;

    git($repo, 'tag', '-f', '-a', '-m', 'a tag', $name, $commit // 'HEAD');

    return point($repo, "refs/tags/$name", "refs/tags/$name");
}


sub forget {
    my ($repo, $reference) = @_;
    git($repo, 'push', '-q', 'origin', ":$reference");
    return;
}


# What the server's HEAD is; the branch need not be there.

sub default_branch {
    my ($repo, $branch) = @_;
    git($repo, '--git-dir', $repo->{bare}, 'symbolic-ref', 'HEAD',
        "refs/heads/$branch");
    return;
}


# Adds a repository as a submodule, by a URL that is relative to its own, which
# every server knows; to be committed.

sub submodule {
    my ($repo, $other, $path) = @_;

    git($repo, 'submodule', '--quiet', 'add', "../$other->{name}.git", $path);

    return;
}


# A commit's files as git/files/NAME, at http's /files/NAME; always the same
# bytes.

my $tarballs = 1_500_000_000;

sub tarball {
    my ($repo, $name, $commit) = @_;
    my $dir = "$repo->{home}/files";

    $commit = git($repo, 'rev-parse', '--verify', $commit // 'HEAD');

    my $packed = "$repo->{home}/$commit.tar.gz";

    mkpath(dirname("$dir/$name"));
    git($repo, 'archive', '--format=tar.gz', '--prefix=set/', '-o', $packed,
        $commit) if !-e $packed;
    copy($packed, "$dir/new.tar.gz") or die "can't copy \"$packed\": $!\n";

    # the server knows it for another by its time and size alone
    utime(++$tarballs, $tarballs, "$dir/new.tar.gz");
    rename("$dir/new.tar.gz", "$dir/$name")
        or die "can't create \"$dir/$name\": $!\n";

    return;
}


# The workers' user gets those files: ssh reads no key that is another user's,
# git no repository on this machine, but a bare one's folder itself is enough.

sub give {
    my (@files) = @_;

    return if $> != 0;

    my $user = workers_user();
    my ($uid, $gid) = (getpwnam($user))[2, 3];

    chown($uid, $gid, @files) == @files
        or die "can't give files to \"$user\": $!\n";

    return;
}


# Starts nginx, which finds the fake git.

sub start {
    my ($t) = @_;

    local $ENV{PATH} = $t->testdir() . "/fake:$ENV{PATH}";
    $t->run();

    return;
}


sub shell {
    my ($command) = @_;

    my $output = qx({ $command; } 2>&1);

    die "$command: $output\n" if $? != 0;

    return;
}


1;
