#!/usr/bin/perl
#
# Copyright (C) The ngx_http_nixery_module authors
#
# count.pl SET [PACKAGE ...]: how popular the store paths of a package set are.
# Realises the packages, or all derivations at the top level of the set, and
# counts for each path of their closure how many others refer to it.  Prints
# JSON for nixery_popularity, { name: count }, and on standard error how far it
# is and which packages are left out.

use strict;
use warnings;

use Cwd;
use File::Temp;
use FindBin;
use JSON::PP;
use POSIX ();

use constant {
    CHUNK => 100,      # packages that are evaluated at once
    ARGUMENTS => 500,  # store paths of a command
    HASH => 33,        # characters of a store path's name before its own
};

my ($set, @names) = @ARGV;

die "usage: count.pl SET [PACKAGE ...]\n" if !defined $set;

my $dir = File::Temp->newdir();
my $json = JSON::PP->new()->utf8()->canonical();
my $all = !@names;

local $SIG{INT} = sub { exit 130 };
local $SIG{TERM} = sub { exit 143 };

die "there is no package set \"$set\"\n" if !-e $set;

$set = Cwd::abs_path($set);

my @packages = evaluate();
realise(map { @{$_->{outputs}} } @packages);

my %count = count(valid(@packages));

print JSON::PP->new()->utf8()->canonical()->indent()->indent_length(2)
    ->space_after()->encode(\%count);


# The packages that can be realised.

sub evaluate {
    my @good;
    my $done = 0;

    @names = @{$json->decode(instantiate())} if $all;

    while (my @some = splice @names, 0, CHUNK) {
        push @good, grep { !left_out($_) } evaluate_some(@some);

        $done += @some;
        say_step("evaluated: $done, " . @names . ' to go');
    }

    die "none of the packages can be realised\n" if !@good;

    return @good;
}


# Not every error can be caught: the package at fault is then left out, and the
# others are evaluated once more.

sub evaluate_some {
    my (@some) = @_;
    my %skip;

    for (;;) {
        my $output = instantiate('--arg', 'all', $all ? 'true' : 'false',
                                 '--argstr', 'packages', $json->encode(\@some),
                                 '--argstr', 'skip', $json->encode(\%skip));

        return @{$json->decode($output)} if defined $output;

        my $said = said();
        my ($name) = $said =~ /.*^trace: nixery: evaluating "(.*?)"$/ms;

        die "$said\"$set\" can't be evaluated, see above why\n"
            if !defined $name || exists $skip{$name}
                || $said =~ /^trace: nixery: evaluated$/m;

        $skip{$name} = "can't be evaluated: " . reason($said);
    }

    return;
}


# What evaluate.nix gives; undef for names that have an error.

sub instantiate {
    my (@arguments) = @_;

    my $output = command('nix-instantiate', '--eval', '--strict', '--json',
                         '--read-write-mode', '--argstr', 'pkgSource',
                         "path!$set", @arguments,
                         "$FindBin::Bin/evaluate.nix");

    die said(), "\"$set\" is no package set, see above why\n"
        if $? != 0 && !@arguments;

    return $? == 0 ? $output : undef;
}


# Whether a package has a reason; nobody asked for what is no package at all.

sub left_out {
    my ($package) = @_;

    return 0 if !defined $package->{reason};

    say_left_out($package->{package}, $package->{reason})
        if !$all || $package->{reason} ne 'is not a derivation';

    return 1;
}


# Builds all that can be built, and keeps it from the garbage collector until
# this ends; each derivation is a line.

sub realise {
    my %seen;
    my @outputs = grep { !$seen{$_}++ } @_;

    while (my @some = splice @outputs, 0, ARGUMENTS) {
        my $pid = open(my $fh, '-|') // die "can't fork: $!\n";

        if ($pid == 0) {
            open(STDERR, '>&', \*STDOUT) && open(STDOUT, '>', '/dev/null')
                && exec('nix-store', '--realise', '--keep-going',
                        '--add-root', "$dir/root", @some);
            POSIX::_exit(127);
        }

        while (<$fh>) {
            say_step($1) if /^((?:building|copying path) '[^']*')/;
            print STDERR $_ if /^(?:error|warning):/;
        }

        close($fh);
    }

    return;
}


# The paths of packages that are there now.

sub valid {
    my %package_of;

    for my $package (@_) {
        $package_of{$_} = $package for @{$package->{paths}};
    }

    my @invalid = in_chunks(['nix-store', '--check-validity',
                             '--print-invalid'], sort keys %package_of);

    for my $path (@invalid) {
        my $package = delete $package_of{$path} // next;

        say_left_out($package->{package}, "can't be built, see above why")
            if !$package->{said}++;
    }

    die "none of the packages can be built\n" if !%package_of;

    my @valid = sort keys %package_of;

    return @valid;
}


# How many paths of a closure refer to those with a name.

sub count {
    my %refers;
    my %counts;

    for (in_chunks(['nix-store', '--query', '--graph'], @_)) {
        $refers{"$1 $2"} = $1 if /^"([^"]+)" -> "([^"]+)"/;
    }

    die "nix-store prints no graph that this knows\n" if $? != 0;

    $counts{substr($_, HASH)}++ for values %refers;

    say_step('names with a count: ' . keys %counts);

    return %counts;
}


# --- commands

# The lines that a command prints for those arguments; $? is its last status.

sub in_chunks {
    my ($command, @arguments) = @_;
    my @lines;

    while (my @some = splice @arguments, 0, ARGUMENTS) {
        push @lines, split /\n/, command(@$command, @some);
    }

    return @lines;
}


sub command {
    my (@command) = @_;

    my $pid = open(my $fh, '-|') // die "can't fork: $!\n";

    if ($pid == 0) {
        open(STDERR, '>', "$dir/said") && exec(@command);
        POSIX::_exit(127);
    }

    local $/;
    my $output = <$fh> // '';
    close($fh);

    return $output;
}


# What the last command printed on standard error.

sub said {
    open(my $fh, '<', "$dir/said") or return '';
    local $/;
    return <$fh> // '';
}


sub reason {
    my ($said) = @_;
    return $said =~ /.*^error: *(.*?)$/ms ? $1 : 'no reason given';
}


sub say_left_out {
    my ($package, $reason) = @_;
    print STDERR "left out: \"$package\" $reason\n";
    return;
}


sub say_step {
    my ($step) = @_;
    print STDERR "$step\n";
    return;
}
