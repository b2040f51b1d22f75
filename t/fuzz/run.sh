#!/bin/sh
#
# Copyright (C) The ngx_http_nixery_module authors
#
# run.sh: runs each fuzzer for a while, from a few inputs that are written here;
# what they find interesting stays in BUILD.  From the environment:
#
#   BUILD  absolute path of the build directory, with the fuzzers in it
#   JOBS   how many fuzzers at a time
#   LIMIT  seconds for each fuzzer
#   RUNS   how many inputs at most; without it, as many as there is time for
#   SEED   of the random numbers: begins anew, and with RUNS does the same each
#          time

set -eu

self=$(realpath "$0")
limit=${LIMIT:-60}

cd "$BUILD/fuzz"

# fuzz NAME OPTION...
fuzz() {
    name=$1
    shift

    echo "fuzzing: $name, for $limit s"

    if ! "./${name}_fuzz" -runs="${RUNS:--1}" -timeout=10 \
        -max_total_time="$limit" -artifact_prefix="$name-" \
        ${SEED:+-seed="$SEED"} "$@" "$name.corpus" > "$name.log" 2>&1
    then
        tail -n 100 "$name.log"
        echo "the input is in $BUILD/fuzz/$name-*"
        exit 1
    fi

    echo "fuzzing: $name: $(tail -n 1 "$name.log")"
}

# started by itself, for one of them
if [ $# != 0 ]; then
    fuzz "$@"
    exit 0
fi

[ -z "${SEED:-}" ] || rm -rf ./*.corpus

mkdir -p image.corpus popularity.corpus reference.corpus refs.corpus \
    result.corpus text.corpus type.corpus

repeat() {
    printf "%0.s$1$1$1$1" 1 2 3 4 5 6 7 8
}

a=$(repeat a)
b=$(repeat b)
digest=$a$b
commit=0123456789abcdef0123456789abcdef01234567
tab=$(printf '\t')

# seed FUZZER NAME: standard input, without the last line feed
seed() {
    printf %s "$(cat)" > "$1.corpus/$2"
}

# refs NAME: standard input, with all of its line feeds
refs() {
    cat > "refs.corpus/$1"
}

seed image name <<EOF
shell/git/python3packages.requests
EOF

seed image meta <<EOF
arm64/builder/a__b/c-d/1e.f_g
EOF

seed image package <<EOF
_1.python3Packages.libstdc++-x'
EOF

seed image tag <<EOF
V1.0_rc-1
EOF

seed image digest <<EOF
sha256:$digest
EOF

seed popularity versions <<EOF
{"glibc-2.36-9":300000,"glibc-2.37-lib":1e3,"a":0,"a+b-1":2.0,"f--1":5}
EOF

seed popularity one <<EOF
{"python3.11-requests-2.28.1":9007199254740992}
EOF

seed reference ref <<EOF
refs/heads/a.b/c-d
EOF

seed reference latest <<EOF
latest
EOF

seed reference commit <<EOF
$commit
EOF

seed reference https <<EOF
https://a:%7e@[::1]:80/a?b#c
EOF

seed reference ssh <<EOF
ssh://git@host:22/~a/b.git
EOF

seed reference file <<EOF
file:///a%20b
EOF

refs branch <<EOF
main
$commit${tab}refs/heads/main
$commit${tab}refs/tags/main
$commit${tab}refs/tags/main^{}
EOF

refs head <<EOF

ref: refs/heads/main${tab}HEAD
$commit${tab}HEAD
EOF

refs name <<EOF
refs/tags/v1
$commit${tab}refs/tags/v1
$commit${tab}refs/tags/v1^{}
EOF

refs cause <<EOF
Host key verification failed.
fatal: Could not read from remote repository.

Please make sure you have the correct access rights
EOF

seed result missing <<EOF
{"error":"not_found","pkgs":["a","b"],"reasons":{"b":"no \u00e9 é","c":"x"}}
EOF

seed result unusable <<EOF
{"error": "unusable", "message": "text", "pkgs": []}
EOF

seed result closure <<EOF
{"graph":[{"path":"/nix/store/$a-x","narSize":3,"closureSize":10,"references":
["/nix/store/$b-y","/nix/store/$a-x"]},{"path":"/nix/store/$b-y","narSize":1e2,
"references":[]},{"path":"/nix/store/$b-w","narSize":0,"references":[]},{
"path":"/nix/store/$b-z","narSize":7,"references":[
"/nix/store/$a-x"]}],"contents":"/nix/store/$b-z","system":"x86_64-linux"}
EOF

seed result prepared <<EOF
{"runtimeGraph":{"exportReferencesGraph":{"graph":["/nix/store/$a-x"]},"graph":[
{"path":"/nix/store/$a-x","narSize":3,"closureSize":10,"references":[
"/nix/store/$b-y"]},{"path":"/nix/store/$b-y","narSize":7,"references":[]}]},
"symlinkLayer":{"size":10240,"tarHash":"$digest","path":"/nix/store/$b-z"}}
EOF

seed result prebuilt <<EOF
{"manifest":{"schemaVersion":2,"config":{"digest":"sha256:$digest"},"layers":[
{"digest":"sha256:$b$b"}]},"layerLocations":{"$digest":{"path":
"/nix/store/$a-x"},"$b$b":{"path":"/nix/store/$a-x/d/f",
"md5":"1B2M2Y8AsgTpgAmY7PhCfg=="}}}
EOF

seed result values <<EOF
[{"a":[]},"\ud83d\ude00\n",-0.5e-3,true,false,null,[[[{}]]]]
EOF

seed type oci <<EOF
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}
EOF

seed type docker <<EOF
{"schemaVersion":2,"config":{"mediaType":
"application/vnd.docker.container.image.v1+json"},"layers":[]}
EOF

seed type index <<EOF
{"schemaVersion":2,"manifests":[{"size":-1.5E+3,"a\u00e9\"":[true,null]}]}
EOF

seed text lines <<EOF
error: builder for '/nix/store/$a-x.drv' failed with exit code 1;
       last 3 log lines:
       > é € 😀
       For full logs, run 'nix log /nix/store/$a-x.drv'.

EOF

printf '\033[31;1merror:\033[0m \033]0;title\007\tx\r\377\303\n' \
    > text.corpus/escapes

cat > json.dict <<EOF
"{"
"}"
"["
"]"
","
":"
"\\""
"\\\\u00"
"true"
"null"
"1e9"
"\\"error\\":"
"\\"pkgs\\":"
"\\"reasons\\":"
"\\"message\\":"
"\\"manifest\\":"
"\\"manifests\\":"
"\\"layerLocations\\":"
"\\"graph\\":"
"\\"path\\":"
"\\"narSize\\":"
"\\"closureSize\\":"
"\\"references\\":"
"\\"contents\\":"
"\\"runtimeGraph\\":"
"\\"symlinkLayer\\":"
"\\"tarHash\\":"
"\\"size\\":"
"\\"system\\":"
"\\"digest\\":"
"\\"md5\\":"
"\\"config\\":"
"\\"layers\\":"
"\\"schemaVersion\\":2"
"\\"mediaType\\":"
"\\"sha256:$digest\\""
"\\"/nix/store/$a-x\\""
"\\"/nix/store/$b-y\\""
"application/"
EOF

cat > reference.dict <<EOF
"refs/"
"heads/"
"tags/"
"latest"
"HEAD"
".lock"
"@{"
"://"
"https://"
"ssh://"
"git://"
"file:///"
"ext::"
"%2d"
"%0a"
"[::1]"
":65536"
EOF

cat > refs.dict <<EOF
"$commit\\x09"
"ref: "
"refs/"
"refs/heads/"
"refs/tags/"
"\\x09HEAD\\x0a"
"^{}"
"fatal: "
"Could not read from remote repository"
EOF

xargs -L 1 -P "${JOBS:-1}" "$self" <<EOF
image -max_len=300
reference -max_len=300 -dict=reference.dict
refs -max_len=2048 -dict=refs.dict
popularity -max_len=1024 -dict=json.dict
result -max_len=4096 -dict=json.dict
text -max_len=2048
type -max_len=2048 -dict=json.dict
EOF
