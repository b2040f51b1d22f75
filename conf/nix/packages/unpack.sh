# shellcheck shell=sh disable=SC2123,SC2154

# Makes a store path of Debian packages, by busybox and patchelf alone.
#
# In:  debs     the .deb files
#      deps     store paths that they depend on
#      glibc    the C library, empty for what it is made of itself
#      dash     the shell of scripts and wrappers, empty likewise
#      links    "name=target" in bin/
#      wrap     programs in bin/ that need env, shell text that sets variables
#      post     shell text, run at the end
#      boot     busybox's applets, patchelf
#
# /usr, /sbin and /usr/games are folded: $out has bin, lib, share, include, etc.

set -e

PATH=$boot/applets
arch=$(cd "$boot/lib" && echo ./*-linux-gnu)
arch=${arch#./}
loader=$(echo "$boot"/lib/"$arch"/ld-linux-*)

patchelf() {
    "$loader" --library-path "$boot/lib/$arch:$boot/usr/lib/$arch" \
        "$boot/usr/bin/patchelf" "$@"
}

magic() {
    head -c 4 "$1" | xxd -p
}

mkdir -p root "$out/bin"

for deb in $debs; do
    ar p "$deb" data.tar.xz | unxz | tar -x -C root
done

# where a package has a file and another a link to it, the file stays
fold() {
    [ -d "root/$1" ] && [ ! -L "root/$1" ] || return 0
    mkdir -p "$out/$2"

    (cd "root/$1" && find . -type l) | while read -r link; do
        [ ! -e "$out/$2/$link" ] || rm "root/$1/$link"
    done

    cp -a "root/$1/." "$out/$2/"
}

for dir in bin sbin usr/bin usr/sbin usr/games; do
    fold $dir bin
done

for dir in lib lib64 usr/lib; do
    fold $dir lib
done

fold usr/include include
fold usr/libexec libexec
fold usr/share share
fold etc etc

for dir in doc man lintian bug locale info doc-base bash-completion; do
    rm -rf "$out/share/$dir"
done

rm -rf "$out/lib/systemd" "$out/etc/init.d" "$out/etc/default" \
    "$out/etc/cron.daily" "$out/etc/alternatives"

chmod -R u+w "$out"
find "$out" -type f -perm /6000 -exec chmod a-s {} +

# modules of Perl and Python look for what they import beside themselves

for lib in share/perl5 "lib/$arch/perl5" lib/python3/dist-packages; do
    for dep in $deps; do
        [ -d "$dep/$lib" ] || continue

        (cd "$dep/$lib" && find . ! -type d) | while read -r file; do
            [ ! -e "$out/$lib/$file" ] || continue
            mkdir -p "$out/$lib/${file%/*}"
            ln -s "$dep/$lib/$file" "$out/$lib/$file"
        done
    done
done

# a module of Python is of no use without Python: its closure has it

if [ -d "$out/lib/python3/dist-packages" ]; then
    mkdir "$out/nix-support"
    echo "$deps" > "$out/nix-support/propagated-build-inputs"
fi

find "$out" -depth -type d -empty -exec rmdir {} \; 2>/dev/null || true
mkdir -p "$out/bin"

# absolute links go to this path or to a dependency's, others by their last name

find "$out" -type l | while read -r link; do
    target=$(readlink "$link")

    case $target in
    /nix/*)
        continue
        ;;
    /*)
        below=${target#/usr}
        below=$(echo "$below" | sed 's,^/sbin/,/bin/,; s,^/games/,/bin/,')

        for path in $out $deps; do
            if [ -e "$path$below" ]; then
                ln -sfn "$path$below" "$link"
                break
            fi
        done
        ;;
    esac

    [ ! -e "$link" ] || continue

    dir=${link#"$out"}
    dir=${dir%/*}

    for path in "$out$dir" "$out/lib/$arch" "$out/bin" \
        $(for dep in $deps; do echo "$dep/lib/$arch" "$dep/lib" "$dep/bin"; done)
    do
        if [ -e "$path/${target##*/}" ] && [ "$path/${target##*/}" != "$link" ]
        then
            ln -sfn "$path/${target##*/}" "$link"
            break
        fi
    done

    # still leads nowhere: to what was left out
    [ -e "$link" ] || rm "$link"
done

# the loader and the libraries of a program are those of its dependencies

if [ -n "$glibc" ]; then
    interpreter=$(echo "$glibc"/lib/"$arch"/ld-linux-*)
    rpath=$out/lib/$arch:$out/lib

    for dep in $deps; do
        [ ! -d "$dep/lib/$arch" ] || rpath=$rpath:$dep/lib/$arch
    done

    find "$out" -type f \( -perm /111 -o -name '*.so' -o -name '*.so.*' \) \
    | while read -r file; do
        [ "$(magic "$file")" = 7f454c46 ] || continue
        needed=$(patchelf --print-needed "$file" 2>/dev/null) || continue

        if patchelf --print-interpreter "$file" >/dev/null 2>&1; then
            patchelf --set-interpreter "$interpreter" "$file"

        elif [ -z "$needed" ]; then
            continue
        fi

        # DT_RPATH, which libraries that are loaded at run time inherit
        patchelf --force-rpath --set-rpath "$rpath" "$file"
        patchelf --shrink-rpath "$file"
    done
fi

if [ -n "$dash" ]; then
    find "$out" -type f -perm /111 | while read -r file; do
        [ "$(head -c 2 "$file" | tr -d '\0')" = '#!' ] || continue

        line=$(head -n 1 "$file")
        # shellcheck disable=SC2086
        set -- ${line#??}

        [ "${1##*/}" != env ] || shift
        [ $# -gt 0 ] || continue

        interpreter=${1##*/}
        shift

        for path in $out $deps $dash; do
            if [ -e "$path/bin/$interpreter" ]; then
                sed -i "1s|.*|#!$path/bin/$interpreter${*:+ $*}|" "$file"
                break
            fi
        done
    done
fi

for link in $links; do
    ln -sfn "${link#*=}" "$out/bin/${link%%=*}"
done

eval "$post"

# as far from lib as bin is, where some look from themselves, and of one name

for program in $wrap; do
    mkdir -p "$out/libexec"
    mv "$out/bin/$program" "$out/libexec/$program"

    {
        echo "#!$dash/bin/dash"
        echo "$env" | sed "s|@out@|$out|g; s|@arch@|$arch|g"
        echo "exec $out/libexec/$program \"\$@\""
    } > "$out/bin/$program"

    chmod 755 "$out/bin/$program"
done
