#!/bin/sh
#
# Copyright (C) The ngx_http_nixery_module authors
#
# apt.sh PACKAGE ...: installs the Debian packages that are missing, through
# sudo when not root.  Nothing is asked, and no service is started.

set -eu

missing=

for package; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) \
        || status=

    [ "$status" = installed ] || missing="$missing $package"
done

[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "these packages are missing, and neither root nor sudo is here" \
             "to install them:$missing" >&2
        exit 1
    }

    echo "installing with apt, through sudo:$missing"
    # shellcheck disable=SC2086
    exec sudo "$0" $missing
fi

echo "installing with apt:$missing"

# packages ask policy-rc.d before they start a service; 101 means "don't"
policy=/usr/sbin/policy-rc.d
rc=0
[ ! -x $policy ] || $policy nginx start >/dev/null 2>&1 || rc=$?

if [ "$rc" != 101 ]; then
    trap 'rm -f $policy; [ ! -e $policy.nixery ] || mv $policy.nixery $policy' \
        EXIT
    trap 'exit 130' INT TERM

    [ ! -e $policy ] || mv $policy $policy.nixery
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
fi

export DEBIAN_FRONTEND=noninteractive

install() {
    {
        # shellcheck disable=SC2086
        apt-get -q -y -o Dpkg::Use-Pty=0 -o APT::Install-Recommends=false \
            -o DPkg::Lock::Timeout=300 install $missing && echo "apt: done"
    } | {
        finished=1
        unpacked=0
        configured=0

        while read -r line; do
            case $line in
            "Need to get "*|"Fetched "*)
                echo "$line"
                ;;
            "Unpacking "*)
                unpacked=$((unpacked + 1))
                [ $((unpacked % 10)) != 0 ] \
                    || echo "$unpacked packages unpacked"
                ;;
            "Setting up "*)
                configured=$((configured + 1))
                [ $((configured % 10)) != 0 ] \
                    || echo "$configured packages set up"
                ;;
            "apt: done")
                finished=0
                ;;
            esac
        done

        return $finished
    }
}

# the lists of a fresh machine are empty or old: one update mends both
# shellcheck disable=SC2086
if ! apt-get -qq --simulate install $missing >/dev/null 2>&1; then
    echo "updating apt's lists"
    apt-get -qq update
fi

install || { echo "updating apt's lists"; apt-get -qq update; install; }

for package in $missing; do
    dpkg-query -W "$package" >/dev/null 2>&1 || {
        echo "apt did not install \"$package\"; see its messages above" >&2
        exit 1
    }
done
