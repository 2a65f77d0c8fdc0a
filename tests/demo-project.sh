#!/bin/bash
# A project of four sandboxes that depend on each other, from nothing: up in order, used, changed, down.
# Needs what `make build` made, or the msb of MSB. Leaves nothing but the caches of images and kernels.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/msb-demo.XXXXXX")
registry=
cleanup() {
    if [ -e "$work/project/Sandboxfile" ]; then (cd "$work/project" && msb --quiet down --time 0s) || true; fi
    [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

say() { printf '\n%s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}
fail() {
    echo "demo-project: $*" >&2
    exit 1
}

MSB_KERNEL=${MSB_KERNEL:-$("$root/guest/kernel/build.sh")}
export MSB_KERNEL
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

mkdir -p "$work/bin" "$work/home"
ln -s "$(realpath "${MSB:-${CARGO_TARGET_DIR:-$root/target}/release/msb}")" "$work/bin/msb"
export PATH=$work/bin:$PATH MSB_HOME=$work/home
cp -r "$root/examples/compose" "$work/project"
cd "$work/project"
# The example names images of Docker Hub; here they come from the registry above.
sed -i "s|image: python:|image: 127.0.0.1:$port/python:|" Sandboxfile

say "What is to be done"
run msb apply --dry-run
say "Up, in the order of what they depend on"
run msb up -d
run msb ps
say "A job for the web server; the worker does it"
run msb exec web -- python3 /app/ask.py add 21
for _ in $(seq 600); do
    found=$(msb exec web -- python3 /app/ask.py list)
    case $found in *441*) break ;; esac
    sleep 0.1
done
echo "$found"
case $found in *441*) ;; *) fail "the worker did nothing" ;; esac
run msb logs worker
say "One of them changes; the others stay"
sed -i '/^  worker:/a\    envs: [MODE=fast]' Sandboxfile
run msb apply
[ "$(msb exec worker -- python3 -c 'import os; print(os.environ["MODE"])')" = fast ] || fail "the worker has not changed"
say "Down, the other way round"
run msb down
[ "$(msb ps --format json)" = "[]" ] || fail "something still runs"
echo "demo-project: done"
