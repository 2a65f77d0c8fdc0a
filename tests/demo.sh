#!/bin/bash
# The main job from nothing: a registry with a Python image, a project, a sandbox, Python's output from inside a microVM.
# Needs what `make build` made, or the msb of MSB. Leaves nothing but the caches of images and kernels.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/msb-demo.XXXXXX")
registry=
cleanup() {
    [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {
    printf '\033[1m$ %s\033[0m\n' "$*"
    "$@"
}
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
[ -t 1 ] || run() {
    printf '$ %s\n' "$*"
    "$@"
}

say "The guest kernel (minutes the first time, then cached)"
MSB_KERNEL=${MSB_KERNEL:-$("$root/guest/kernel/build.sh")}
export MSB_KERNEL
echo "$MSB_KERNEL"

say "A registry on this machine, with an image of Debian's Python"
images=$("$root/tests/images/build.sh")
cat >"$work/registry.yml" <<YML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $images/registry}, maintenance: {readonly: {enabled: true}}}
http: {addr: "127.0.0.1:0"}
YML
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry=$!
port=$(/usr/bin/python3 "$root/tests/images/port_of.py" "$registry")
echo "127.0.0.1:$port/python:3.11"

mkdir "$work/bin" "$work/project"
ln -s "$(realpath "${MSB:-${CARGO_TARGET_DIR:-$root/target}/release/msb}")" "$work/bin/msb"
export PATH=$work/bin:$PATH MSB_HOME=$work/home
msb self link --dir "$work/bin"
cd "$work/project"

say "What this machine can run"
run msb doctor || true

say "A project with one sandbox"
run msb pull "127.0.0.1:$port/python:3.11"
run msb image ls
run msb init
run msb add app --image "127.0.0.1:$port/python:3.11" --cpus 1 --memory 512 \
    --start 'python3 -c "import platform; print(\"hello from\", platform.python_implementation(), platform.python_version(), \"on Linux\", platform.release())"'
cat Sandboxfile

say "Run it"
run msr app

say "A throw-away sandbox, with input from here"
echo 'print("6 * 7 =", 6 * 7, "- computed inside a microVM")' | run msx "127.0.0.1:$port/python:3.11" -- python3 -
