#!/bin/bash
# Prints the command line that runs `true` in a sandbox of microsandbox 0.7.11 (its wheel from PyPI), for MSB_BENCH_RIVAL. It boots a
# folder, the fastest way it has, with the kernel it is given, where that must be wrapped for it: so both programs boot the same one.
#   benches/rival.sh OCI_LAYOUT [KERNEL WRAPPER]    WRAPPER KERNEL OUT.so makes a libkrunfw of a vmlinux
#   benches/rival.sh --pull                         instead the command that pulls an image, for MSB_BENCH_RIVAL_PULL
# Everything is kept in ~/.cache/msb-bench; nothing is printed when the wheel cannot be had.
set -euo pipefail

version=0.7.11
sha256=65f1e4bbf8d721c9f7f557329fb6c8cf41f554c1c6942eac8b941198fa283fe0
layout=$1 kernel=${2:-} wrapper=${3:-}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/msb-bench/microsandbox-$version
wheel=$cache/microsandbox-$version-cp310-abi3-manylinux_2_28_x86_64.whl

mkdir -p "$cache"
if [ ! -e "$wheel" ]; then
    echo "bench: getting microsandbox $version from PyPI" >&2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$cache" "microsandbox==$version" >&2 || {
        echo "bench: microsandbox cannot be had here; its figures are left out" >&2
        exit 0
    }
fi
echo "$sha256  $wheel" | sha256sum --check --quiet >&2
[ -d "$cache/wheel" ] || { python3 -m zipfile -e "$wheel" "$cache/wheel.new" && mv "$cache/wheel.new" "$cache/wheel"; }
program=$(find "$cache/wheel" -path '*/bin/msb' | head -1)
library=$(find "$cache/wheel" -name 'libkrunfw.so.*' | head -1)
chmod +x "$program"
if [ "$layout" = --pull ]; then
    printf 'MSB_HOME={home} %q pull --quiet --insecure\n' "$program"
    exit 0
fi

if [ -n "$kernel" ]; then
    wrapped=$cache/$(sha256sum "$kernel" | cut -c1-16)/$(basename "$library")
    if [ ! -e "$wrapped" ]; then
        mkdir -p "$(dirname "$wrapped")"
        python3 "$wrapper" "$kernel" "$wrapped.new" >&2
        mv "$wrapped.new" "$wrapped"
    fi
    library=$wrapped
fi
if [ ! -d "$cache/root" ]; then
    umoci unpack --rootless --image "$layout:busybox" "$cache/bundle" >&2
    mv "$cache/bundle/rootfs" "$cache/root"
    rm -rf "$cache/bundle"
fi
printf 'MSB_HOME=%q MSB_LIBKRUNFW_PATH=%q %q run %q -- /bin/true\n' "$cache/home" "$library" "$program" "$cache/root"
