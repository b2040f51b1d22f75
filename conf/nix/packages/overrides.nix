# What Debian's packages need to work from the Nix store: links that Debian makes
# at installation, and variables in place of paths that are compiled in.
#
# In:  the units, for paths to other ones.
# Out: { unit = { links, wrap, env, post, extra }; }, as unpack.sh takes them.

units:

let
  caBundle = "${units.ca-certificates}/etc/ssl/certs/ca-bundle.crt";
  terminfo = "export TERMINFO_DIRS=\${TERMINFO_DIRS:-${units.ncurses-bin}/lib/terminfo}";
  locales = "export LOCPATH=\${LOCPATH:-${units.libc-bin}/lib/locale}";
  perlLib = "export PERL5LIB=\${PERL5LIB:+$PERL5LIB:}@out@/share/perl5:@out@/lib/@arch@/perl5/5.36";

in {
  bash.links = [ "sh=bash" ];

  busybox-static.post = "for a in $($out/bin/busybox --list); do ln -s busybox $out/bin/$a 2>/dev/null || true; done";

  # the private keys' tools of the package need openssl, the bundle needs nothing
  ca-certificates.post = ''
    mkdir -p $out/etc/ssl/certs
    cat $out/share/ca-certificates/mozilla/*.crt > $out/etc/ssl/certs/ca-bundle.crt
    ln -s ca-bundle.crt $out/etc/ssl/certs/ca-certificates.crt
    rm -rf $out/bin/* $out/etc/ca-certificates*
  '';

  cowsay = {
    wrap = [ "cowsay" ];
    env = ''
      export COWPATH=''${COWPATH:-@out@/share/cowsay/cows}
      ${perlLib}
    '';
  };

  curl = {
    wrap = [ "curl" ];
    env = "export CURL_CA_BUNDLE=\${CURL_CA_BUNDLE:-\${SSL_CERT_FILE:-${caBundle}}}";
  };

  dash.links = [ "sh=dash" ];
  debianutils.links = [ "which=which.debianutils" ];

  figlet = {
    links = [ "figlet=figlet-figlet" ];
    wrap = [ "figlet-figlet" ];
    env = "export FIGLET_FONTDIR=\${FIGLET_FONTDIR:-@out@/share/figlet}";
  };

  file = {
    wrap = [ "file" ];
    env = "export MAGIC=\${MAGIC:-@out@/lib/file/magic.mgc}";
  };

  gawk = {
    links = [ "awk=gawk" ];
    wrap = [ "gawk" ];
    env = ''
      export AWKPATH=''${AWKPATH:-.:@out@/share/awk}
      export AWKLIBPATH=''${AWKLIBPATH:-@out@/lib/@arch@/gawk}
    '';
  };

  # what a Debian machine has at the root of its file system
  gcc = {
    links = [ "cc=gcc" ];
    wrap = [ "x86_64-linux-gnu-gcc-12" ];
    env = ''
      set -- -B@out@/lib/gcc/@arch@/12 -B@out@/lib/@arch@ -B${units.binutils}/bin -isystem @out@/include -isystem @out@/include/@arch@ "$@"
      case " $* " in
      *" -c "*|*" -S "*|*" -E "*|*" -M "*|*" -MM "*)
          ;;
      *)
          set -- "$@" -L@out@/lib/@arch@ -L${units.libc6}/lib/@arch@ -Wl,-rpath,${units.libc6}/lib/@arch@ -Wl,-dynamic-linker,$(echo ${units.libc6}/lib/@arch@/ld-linux-*)
          ;;
      esac
    '';
    # linker scripts of the C library name files at the root
    post = ''
      for script in $out/lib/$arch/lib*.so; do
          [ -f $script ] && [ ! -L $script ] || continue
          [ "$(magic $script)" != 7f454c46 ] || continue
          sed -i "s|/usr/lib/$arch/|$out/lib/$arch/|g; s|/lib/$arch/|$glibc/lib/$arch/|g; s|$out$glibc|$out|g; s|/lib64/ld-linux|$glibc/lib/$arch/ld-linux|g" $script
      done
    '';
  };

  # its remote helpers are run by /bin/sh
  git = {
    links = [ "sh=${units.dash}/bin/dash" ];
    wrap = [ "git" ];
    env = ''
      export GIT_EXEC_PATH=''${GIT_EXEC_PATH:-@out@/lib/git-core}
      export GIT_TEMPLATE_DIR=''${GIT_TEMPLATE_DIR:-@out@/share/git-core/templates}
      export GIT_SSL_CAINFO=''${GIT_SSL_CAINFO:-''${SSL_CERT_FILE:-${caBundle}}}
      export GITPERLLIB=''${GITPERLLIB:-@out@/share/perl5}
    '';
  };

  htop = { wrap = [ "htop" ]; env = terminfo; };
  less = { wrap = [ "less" ]; env = terminfo; };
  "lua5.4".links = [ "lua=lua5.4" ];

  libc-bin = {
    wrap = [ "locale" ];
    env = "export LOCPATH=\${LOCPATH:-@out@/lib/locale}";
  };

  moreutils = {
    wrap = [ "chronic" "combine" "ts" "vidir" "vipe" "zrun" ];
    env = perlLib;
  };

  nano = { wrap = [ "nano" ]; env = terminfo; };
  netcat-openbsd.links = [ "nc=nc.openbsd" "netcat=nc.openbsd" ];

  openssl = {
    wrap = [ "openssl" ];
    env = "export OPENSSL_CONF=\${OPENSSL_CONF:-@out@/etc/ssl/openssl.cnf}";
  };

  perl = {
    wrap = [ "perl" ];
    env = "export PERL5LIB=\${PERL5LIB:+$PERL5LIB:}@out@/lib/@arch@/perl/5.36:@out@/share/perl/5.36:@out@/lib/@arch@/perl-base:/share/perl5:/lib/@arch@/perl5/5.36";
  };

  # modules stand at the root of an image
  python3 = {
    wrap = [ "python3.11" ];
    env = "export PYTHONPATH=\${PYTHONPATH:+$PYTHONPATH:}/lib/python3/dist-packages";
  };

  # it refuses to start without UTF-8
  tmux = {
    wrap = [ "tmux" ];
    env = ''
      ${terminfo}
      ${locales}
      export LC_CTYPE=''${LC_ALL:-''${LC_CTYPE:-''${LANG:-C.UTF-8}}}
    '';
  };

  vim-tiny.links = [ "vim=vim.tiny" "vi=vim.tiny" ];
}
