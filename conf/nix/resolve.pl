#!/usr/bin/perl
#
# Copyright (C) The ngx_http_nixery_module authors
#
# resolve.pl ROOTS: reads the list of roots, asks apt for what they depend on,
# and prints the lock of the bundled package set as JSON:
#
#   system       Nix's name of what the packages are made for
#   attributes   { attribute: unit }
#   units        { unit: { debs: [deb], deps: [unit] } }
#   debs         { deb: { version, sha256, size, description } }
#
# A unit becomes one store path.  Packages that depend on each other in a circle
# are one unit, since a store path can't.

use strict;
use warnings;

use File::Temp;
use JSON::PP;

# what only maintainer scripts need, and documentation
my %drop = map { $_ => 1 } qw(
    adduser base-files binfmt-support cdebconf containernetworking-plugins dbus
    debconf debconf-2.0 debianutils dirmngr dmsetup dpkg git-man gnupg
    init-system-helpers install-info iptables libasan8 libcc1-0 libitm1 liblsan0
    libnsl-dev libpam-modules libpam-modules-bin libpam-runtime libtirpc-dev
    libtsan2 libubsan1 login lsb-base mailcap media-types mount passwd
    readline-common rpcsvc-proto runit-helper sensible-utils tzdata ucf
    usr-is-merged usrmerge util-linux-extra vim-common xauth
);

my ($file) = @ARGV;

my %attributes;
my %unit_of;      # deb => unit
my %unit;         # unit => { debs, deps }
my %info;         # deb => fields of apt-cache show
my %provider;     # virtual package => deb
my %depends;      # deb => debs
my %asked;        # names that apt was asked for

# a cache of our own: where apt is told to keep none, each call would read all
# of its lists again
my $cache = File::Temp->newdir();
my @apt = ('apt-cache', '-q', '-o', "Dir::Cache=$cache",
           '-o', 'Dir::Cache::pkgcache=pkgcache.bin',
           '-o', 'Dir::Cache::srcpkgcache=srcpkgcache.bin');

read_roots($file);
ask_all(sort keys %unit_of);
depend();
merge_circles();
print_lock();


sub read_roots {
    my ($name) = @_;

    open(my $fh, '<', $name) or die "can't open \"$name\": $!\n";

    while (my $line = <$fh>) {
        $line =~ s/#.*//;
        my ($attribute, @debs) = split ' ', $line or next;

        die "$name:$.: \"$attribute\" names no Debian package\n" if !@debs;
        die "$name:$.: \"$attribute\" is there twice\n"
            if $attributes{$attribute};

        $attributes{$attribute} = $debs[0];

        # another name of one that is there
        next if @debs == 1 && ($unit_of{$debs[0]} // '') eq $debs[0];

        $unit{$debs[0]} = { debs => [@debs], deps => {} };

        for my $deb (@debs) {
            die "$name:$.: \"$deb\" is part of two packages\n"
                if $unit_of{$deb};
            $unit_of{$deb} = $debs[0];
        }
    }

    close($fh);
    return;
}


# Fetches what apt knows of packages and of all that they depend on, a call of
# apt-cache for each step away from the roots.

sub ask_all {
    my @wanted = @_;
    my %seen = map { $_ => 1 } @wanted;

    ask(@wanted);

    while (@wanted) {
        my %next;

        for my $deb (@wanted) {
            die "apt does not know the package \"$deb\": is it spelled as"
                . " Debian does, and is \"apt-get update\" done?\n"
                if !$info{$deb};
        }

        ask(map { @$_ } map { clauses($_) } @wanted);

        for my $dep (map { depends($_) } @wanted) {
            $next{$dep} = 1 if !$seen{$dep}++;
        }

        @wanted = sort keys %next;
    }

    return;
}


sub ask {
    my %new = map { $_ => 1 } grep { !$asked{$_}++ } @_;
    my @debs = sort keys %new or return;

    # what is installed and in no archive can't be downloaded: another version
    my @elsewhere = show('--no-all-versions', @debs);
    show('--all-versions', @elsewhere) if @elsewhere;

    return;
}


# Keeps what an archive has, and returns the names of what only is installed.

sub show {
    my @arguments = @_;
    my @elsewhere;

    local $/ = '';

    open(my $fh, '-|', @apt, 'show', @arguments)
        or die "can't run apt-cache: $!\n";

    while (my $stanza = <$fh>) {
        $stanza =~ s/\n[ \t]+/ /g;
        my %fields = $stanza =~ /^([\w-]+): ?(.*)$/mg;

        if ($fields{SHA256}) {
            $info{$fields{Package}} //= \%fields;

        } else {
            push @elsewhere, $fields{Package};
        }
    }

    close($fh);
    return @elsewhere;
}


# What a package depends on: lists of alternatives.

sub clauses {
    my ($deb) = @_;
    my @clauses;

    for my $clause (map { split /\s*,\s*/ }
                    grep { defined } @{$info{$deb}}{qw(Pre-Depends Depends)})
    {
        my @choice = map { /^([^\s:(]+)/ } split /\s*\|\s*/, $clause;

        push @clauses, \@choice
            if !grep { $drop{$_} } @choice;
    }

    return @clauses;
}


# The same with alternatives and virtual packages decided, the first time that it
# is asked for.

sub depends {
    my ($deb) = @_;

    return @{$depends{$deb}} if $depends{$deb};

    my %deps;

    for my $choice (clauses($deb)) {
        my ($real) = grep { $info{$_} } @$choice;
        my $dep = $real // provider(@$choice);

        $deps{$dep} = 1 if $dep ne $deb;
    }

    $depends{$deb} = [sort keys %deps];

    return @{$depends{$deb}};
}


sub provider {
    my @choice = @_;

    for my $name (@choice) {
        return $provider{$name} if $provider{$name};

        my $text = qx(@apt showpkg $name);
        my ($reverse) = $text =~ /^Reverse Provides:\s*\n(.*)/ms;
        my @debs = sort map { /^(\S+)/ } split /\n/, $reverse // '';

        my ($taken) = grep { $unit_of{$_} || $info{$_} } @debs;
        $taken //= $debs[0];

        next if !defined $taken;

        ask($taken);

        return $provider{$name} = $taken;
    }

    die "nothing in apt's lists provides \"@choice\"\n";
}


sub depend {
    for my $deb (sort keys %depends) {
        next if $unit_of{$deb};

        $unit_of{$deb} = $deb;
        $unit{$deb} = { debs => [$deb], deps => {} };
    }

    for my $name (keys %unit) {
        for my $deb (@{$unit{$name}{debs}}) {
            for my $dep (depends($deb)) {
                my $other = $unit_of{$dep};
                $unit{$name}{deps}{$other} = 1 if $other ne $name;
            }
        }
    }

    return;
}


# Strongly connected components (Tarjan 1972) become one unit, named after the
# first of them that is a root, else after the first by name.

sub merge_circles {
    my (%index, %low, %on, @stack, @circles);
    my $n = 0;

    my $visit;
    $visit = sub {
        my ($v) = @_;

        $index{$v} = $low{$v} = $n++;
        push @stack, $v;
        $on{$v} = 1;

        for my $w (sort keys %{$unit{$v}{deps}}) {
            if (!defined $index{$w}) {
                $visit->($w);
                $low{$v} = $low{$w} if $low{$w} < $low{$v};

            } elsif ($on{$w} && $index{$w} < $low{$v}) {
                $low{$v} = $index{$w};
            }
        }

        return if $low{$v} != $index{$v};

        my @circle;

        while (1) {
            my $w = pop @stack;
            $on{$w} = 0;
            push @circle, $w;
            last if $w eq $v;
        }

        push @circles, [@circle] if @circle > 1;
    };

    for my $v (sort keys %unit) {
        $visit->($v) if !defined $index{$v};
    }

    my %root = map { $_ => 1 } values %attributes;

    for my $circle (@circles) {
        my ($name, @others) = sort { ($root{$b} // 0) <=> ($root{$a} // 0)
                                     || $a cmp $b } @$circle;

        for my $other (@others) {
            push @{$unit{$name}{debs}}, sort @{$unit{$other}{debs}};
            $unit{$name}{deps}{$_} = 1 for keys %{$unit{$other}{deps}};
            $unit_of{$_} = $name for @{$unit{$other}{debs}};
            delete $unit{$other};
        }

        for my $u (keys %unit) {
            for my $other (@others) {
                delete $unit{$u}{deps}{$other} or next;
                $unit{$u}{deps}{$name} = 1;
            }

            delete $unit{$u}{deps}{$u};
        }

        for my $attribute (keys %attributes) {
            $attributes{$attribute} = $unit_of{$attributes{$attribute}};
        }
    }

    return;
}


sub print_lock {
    my (%units, %debs, %reached);
    my %system = (amd64 => 'x86_64-linux', arm64 => 'aarch64-linux');

    chomp(my $arch = qx(dpkg --print-architecture));
    die "no Nix system is known for Debian's \"$arch\"\n" if !$system{$arch};

    my @todo = values %attributes;

    while (defined(my $name = shift @todo)) {
        next if $reached{$name}++;
        push @todo, keys %{$unit{$name}{deps}};
    }

    for my $name (keys %reached) {
        $units{$name} = { debs => $unit{$name}{debs},
                          deps => [sort keys %{$unit{$name}{deps}}] };

        for my $deb (@{$unit{$name}{debs}}) {
            my $i = $info{$deb};

            $debs{$deb} = { version => $i->{Version}, sha256 => $i->{SHA256},
                            size => $i->{Size} + 0,
                            description => $i->{'Description-en'}
                                           // $i->{Description} // '' };
            $debs{$deb}{description} =~ s/  .*//;
            $debs{$deb}{description} = substr($debs{$deb}{description}, 0, 80);
        }
    }

    print JSON::PP->new->canonical->pretty->encode(
        { system => $system{$arch}, attributes => \%attributes,
          units => \%units, debs => \%debs });

    return;
}
