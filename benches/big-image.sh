#!/bin/bash
# Prints the folder of a docker-registry store with the image `big`: six layers, somewhat more than 1 GiB compressed, of Debian packages with large
# and small files, programs and documents. Made once (some minutes, 1 GB of downloads) and kept in ~/.cache/msb-bench.
set -euo pipefail

layers=(
    "openjdk-17-jre-headless golang-1.19-go golang-1.19-src"
    "chromium firefox-esr"
    "ghc llvm-14-dev libllvm14 libclang-14-dev"
    "libwine blender-data qemu-system-x86 docker.io"
    "libreoffice-core libreoffice-common texlive-latex-extra texlive-latex-base texlive-pictures"
    "libstd-rust-dev gcc-12 g++-12 python3-scipy python3-numpy libboost1.81-dev git-doc linux-doc-6.1"
)
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/msb-bench
result=$cache/big-$(cat "$here/big-image.sh" "$here/oci_layout.py" | sha256sum | cut -c1-16)
if [ -d "$result" ]; then
    echo "$result"
    exit 0
fi

work=$cache/big.new
rm -rf "$work"
mkdir -p "$work/layers"
registry=
cleanup() {
    [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

layer() { # NUMBER PACKAGE...
    local number=$1 debs=$work/debs$1 root=$work/root$1 package deb
    shift
    mkdir "$debs" "$root"
    for package in "$@"; do
        (cd "$debs" && apt-get -o APT::Sandbox::User=root download -qq "$package" >&2) || echo "bench: no package $package here, left out" >&2
    done
    for deb in "$debs"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --no-same-owner; done
    tar -c -C "$root" --sort=name --owner=0 --group=0 --numeric-owner . | tee >(sha256sum | cut -d' ' -f1 >"$work/layers/$number.diff_id") |
        gzip -6n >"$work/layers/$number.tar.gz"
    rm -rf "$debs" "$root"
}

echo "bench: making an image of more than 1 GiB, once" >&2
for number in "${!layers[@]}"; do
    read -ra packages <<<"${layers[$number]}"
    layer "$number" "${packages[@]}" &
    [ $((number % 2)) = 0 ] || wait
done
wait
python3 "$here/oci_layout.py" "$work/layout" big "$work"/layers/*.tar.gz

mkdir "$work/store"
cat >"$work/registry.yml" <<YML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/store}}
http: {addr: "127.0.0.1:0"}
YML
docker-registry serve "$work/registry.yml" >/dev/null 2>&1 &
registry=$!
port=$(/usr/bin/python3 "$here/../tests/images/port_of.py" "$registry")
skopeo copy -q --dest-tls-verify=false "oci:$work/layout:big" "docker://127.0.0.1:$port/big:latest" >&2
mv "$work/store" "$result"
echo "$result"
