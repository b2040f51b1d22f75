package Bench;

# Copyright (C) The ngx_http_nixery_module authors

# What a bench is made of: rounds, the table of what they gave, programs that
# are run, files.

use strict;
use warnings;

use base qw(Exporter);

our @EXPORT = qw(
    ROUNDS by_turns command measure median row say_step seconds slurp table
    write_file
);

use File::Temp;
use POSIX ();
use Time::HiRes qw(time);

use constant ROUNDS => 5;

my @rows;   # what, ours, limit, ratio, bar, "ok" or "missed"


sub say_step {
    my ($text) = @_;
    print "bench: $text\n";
    return;
}


# Runs each so many times, by turns; the medians of both and of their quotient.

sub by_turns {
    my ($ours, $limit) = @_;
    my (@ours, @limits, @shares);

    $ours->();

    for my $round (0 .. ROUNDS - 1) {
        my @turns = (sub { push @ours, $ours->() },
                     sub { push @limits, $limit->() });

        $_->() for $round % 2 ? @turns : reverse @turns;
        push @shares, $ours[-1] / $limits[-1];
    }

    return (median(@ours), median(@limits), median(@shares));
}


sub seconds {
    my ($code) = @_;
    my $start = time();

    $code->();

    return time() - $start;
}


sub median {
    my (@values) = @_;
    @values = sort { $a <=> $b } @values;
    return $values[@values / 2];
}


# --- the table

# Without a bar it is but shown.

sub row {
    my ($what, $ours, $limit, $text, $value, $relation, $bar) = @_;

    my $ok = !defined $bar ? ''
        : ($relation eq '<=' ? $value <= $bar : $value >= $bar) ? 'ok'
                                                                : 'missed';

    push @rows, [$what, $ours, $limit, $text,
                 defined $bar ? "$relation $bar" : '', $ok];
    return;
}


sub table {
    my $missed = grep { $_->[5] eq 'missed' } @rows;

    print "\n";
    printf "%-24s %13s %15s %8s %9s  %s\n", @$_
        for ['', 'measured', 'limit', 'ratio', 'bar', ''], @rows;
    print "\n", $missed ? "$missed of the bars missed\n" : "all bars reached\n";

    return $missed ? 1 : 0;
}


# --- programs

# Runs a program of ours, which prints rows.

sub measure {
    my (@command) = @_;

    open(my $fh, '-|', @command) or die "can't run $command[0]: $!\n";

    while (<$fh>) {
        chomp;
        push @rows, [split /\t/];
    }

    close($fh) or die "$command[0] failed\n";

    return;
}


# What a program prints; what else it says, only if it fails.

sub command {
    my (@command) = @_;
    my $log = File::Temp->new();

    my $pid = open(my $fh, '-|') // die "can't fork: $!\n";

    if ($pid == 0) {
        open(STDERR, '>&', $log) && exec(@command);
        POSIX::_exit(127);
    }

    local $/;
    my $output = <$fh>;

    close($fh) or die "$command[0] failed: ", slurp("$log"), "\n";

    return $output;
}


# --- files

sub write_file {
    my ($name, $content) = @_;

    open(my $fh, '>', $name) or die "can't create \"$name\": $!\n";
    print $fh $content;
    close($fh) or die "can't write \"$name\": $!\n";
    chmod(0644, $name);

    return;
}


sub slurp {
    my ($name) = @_;

    open(my $fh, '<', $name) or return '';
    local $/;
    my $content = <$fh>;
    close($fh);

    return $content;
}


1;
