#!/bin/bash
# Makes the OCI images of the tests with umoci and skopeo, once, outside the checkout, and prints the folder that holds them:
#
#   oci/               one OCI layout with every image as a tag
#   registry/          a docker-registry store with the same images pushed
#   archives/          busybox as docker-archive.tar, oci-archive.tar and layout/
#   tricky.tree        what `umoci unpack` makes of the image `tricky`, listed by lstree.py
#   corpus/NAME.tree   the same of each image `corpus:NAME`
#
# The folder is ${MSB_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/msb-test}/images-HASH, HASH over the files beside this script.
# Needs root (or sudo) for device nodes and owners of the unpacked tree, and the Debian packages that `make setup` installs.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${MSB_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/msb-test}
hash=$(cat "$here"/*.sh "$here"/*.py | sha256sum | cut -c1-16)
done_dir=$cache/images-$hash

if [ -d "$done_dir" ]; then
    echo "$done_dir"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/images-$hash.lock"
flock 9
if [ -d "$done_dir" ]; then # another process made it while this one waited
    echo "$done_dir"
    exit 0
fi

log() { echo "images: $*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

python=/usr/bin/python3
for tool in umoci skopeo docker-registry dpkg-deb apt-get $python; do
    command -v "$tool" >/dev/null || { log "$tool is missing: run 'make setup'"; exit 1; }
done

work=$(mktemp -d "$cache/tmp-images.XXXXXX")
registry_pid=
cleanup() {
    status=$?
    [ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true
    as_root rm -rf "$work"
    exit $status
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP
mkdir -p "$work/packages" "$work/debs" "$work/layers" "$work/result/archives"

# Packages: downloaded and unpacked, not installed.
fetch() { # UNPACK_INTO PACKAGE...
    into=$1
    shift
    rm -f "$work"/packages/*.deb
    (cd "$work/packages" && apt-get download -qq -o APT::Sandbox::User=root "$@" >&2) || {
        as_root apt-get update -qq >&2
        (cd "$work/packages" && apt-get download -qq -o APT::Sandbox::User=root "$@" >&2)
    }
    mkdir -p "$into"
    for deb in "$work"/packages/*.deb; do dpkg-deb -x "$deb" "$into"; done
}
log "fetching packages"
fetch "$work/debs" busybox-static
"$python" "$here/layers.py" busybox "$work"
"$python" -B "$here/layers.py" tricky "$work" # -B: leave no compiled module in the checkout
"$python" -B "$here/layers.py" corpus "$work" >"$work/corpus"
rm -rf "$work/debs"
fetch "$work/debs" python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 zlib1g libexpat1 libbz2-1.0 libffi8 liblzma5

# Compiled modules make Python start several times faster; the fetched interpreter compiles them itself.
loader=$(find "$work/debs" -name 'ld-linux*.so.*' -path '*linux-gnu*' | head -n 1)
PYTHONHOME=$work/debs/usr "$loader" --library-path "$(dirname "$loader"):$work/debs/usr/lib/$(basename "$(dirname "$loader")")" \
    "$work/debs/usr/bin/python3.11" -m compileall -q -j 2 --invalidation-mode unchecked-hash -s "$work/debs" -p / "$work/debs/usr/lib/python3.11" >&2
"$python" "$here/layers.py" python "$work"

# With all they need: as if nothing were installed.
rm -rf "$work/debs" "$work"/packages/*
mkdir "$work/packages/partial" "$work/debs"
apt-get install -qq --no-install-recommends --download-only -o Dir::Cache::archives="$work/packages" -o Dir::State::status=/dev/null \
    -o Debug::NoLocking=1 -o APT::Sandbox::User=root curl nodejs ca-certificates iperf3 >&2
for deb in "$work"/packages/*.deb; do dpkg-deb -x "$deb" "$work/debs"; done
"$python" "$here/layers.py" clients "$work"

oci=$work/result/oci
umoci init --layout "$oci"
image() { # NAME LAYER...
    name=$1
    shift
    umoci new --image "$oci:$name"
    for layer in "$@"; do umoci raw add-layer --image "$oci:$name" "$work/layers/$layer.tar"; done
}
config() { # FROM NAME FLAGS...: the same layers with another configuration
    from=$1 name=$2
    shift 2
    umoci config --image "$oci:$from" --tag "$name" "$@"
}
log "making images"
path=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
image bare busybox
config bare busybox --config.cmd sh --config.env "$path"
image python busybox python
config python python --config.cmd python3 --config.env "$path" --config.env LANG=C.UTF-8
image clients busybox python clients
config clients clients --config.cmd sh --config.env "$path" --config.env LANG=C.UTF-8
image tree busybox python tricky1 tricky2 tricky3 tricky4
config tree tree --config.env "$path" --config.cmd sh
config tree tricky --config.user app --config.entrypoint /entry.sh --config.entrypoint fixed --config.cmd one --config.cmd 'two words' \
    --config.env 'GREETING=grüß dich, wörld' --config.env "QUOTES=a\"b'c \$HOME" --config.env EMPTY= \
    --config.workingdir '/home/app/wörk dir' --config.stopsignal SIGUSR1
config bare config-entrypoint --config.entrypoint printf --config.entrypoint '[%s]' --config.cmd 'a b' --config.cmd c
config bare config-cmd --config.cmd printf --config.cmd '%s' --config.cmd 'from CMD'
config busybox config-workdir --config.workingdir /home/app
config busybox config-uid --config.user 1000
config busybox config-uid-gid --config.user 1000:2000
config busybox config-names --config.user nobody:users
config busybox config-unknown-user --config.user ghost
config busybox config-stopsignal --config.stopsignal SIGUSR1
config busybox arm64 --architecture arm64 --config.cmd printf --config.cmd 'the wrong platform'
"$python" "$here/index.py" "$oci" multi busybox arm64

log "unpacking the tricky one with umoci"
as_root umoci unpack --image "$oci:tree" "$work/bundle"
as_root "$python" "$here/lstree.py" "$work/bundle/rootfs" /dev /proc /sys /run /tmp >"$work/result/tricky.tree"

log "making the corpus and unpacking it with umoci"
mkdir "$work/result/corpus"
while read -ra words; do
    name=corpus-${words[0]}
    image "$name" "${words[@]:1}"
    as_root umoci unpack --image "$oci:$name" "$work/bundle-$name"
    as_root "$python" "$here/lstree.py" "$work/bundle-$name/rootfs" >"$work/result/corpus/${words[0]}.tree"
    as_root rm -rf "$work/bundle-$name"
done <"$work/corpus"
"$python" "$here/encodings.py" "$oci" corpus-whiteouts corpus-encodings

log "writing archives"
skopeo copy -q "oci:$oci:busybox" "docker-archive:$work/result/archives/docker-archive.tar:localhost/busybox:saved"
skopeo copy -q "oci:$oci:busybox" "oci-archive:$work/result/archives/oci-archive.tar:busybox:archived"
skopeo copy -q "oci:$oci:busybox" "oci:$work/result/archives/layout:busybox:laid-out"

log "pushing to a registry"
cat >"$work/registry.yml" <<YML
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $work/result/registry}}
http: {addr: "127.0.0.1:0"}
YML
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry_pid=$!
port=$("$python" "$here/port_of.py" "$registry_pid")
push() { # TAG REPOSITORY:TAG FLAGS...
    from=$1 to=$2
    shift 2
    skopeo copy -q --dest-tls-verify=false "$@" "oci:$oci:$from" "docker://127.0.0.1:$port/$to"
}
push busybox busybox:latest
push busybox busybox:docker --format v2s2
# Through a folder of its own: a registry that has the layer as gzip would be given no other.
skopeo copy -q "oci:$oci:busybox" "oci:$work/zstd:busybox" --dest-compress-format zstd
oci=$work/zstd push busybox busybox:zstd --preserve-digests
push multi busybox:multi --all
push python python:latest
push python python:3.11
push clients clients:latest
push tree tricky:tree
push tricky tricky:latest
while read -r name _; do push "corpus-$name" "corpus:$name"; done <"$work/corpus"
push corpus-encodings corpus:encodings --preserve-digests
skopeo copy -q "oci:$oci:corpus-links" "oci:$work/zstd:links" --dest-compress-format zstd
oci=$work/zstd push links corpus:zstd --preserve-digests
(cd "$work/result/corpus" && ln whiteouts.tree encodings.tree && ln links.tree zstd.tree)
for name in entrypoint cmd workdir uid uid-gid names unknown-user stopsignal; do push "config-$name" "config:$name"; done
kill "$registry_pid"
wait "$registry_pid" 2>/dev/null || true
registry_pid=

chmod -R go-w "$work/result"
mv "$work/result" "$done_dir"
log "made $done_dir ($(du -sh "$done_dir" | cut -f1))"
echo "$done_dir"
