#!/bin/bash
# Runs every fuzz target of fuzz/ for a while: fuzz.sh [SECONDS [TARGET...]] (60 seconds, all targets). Inputs that were interesting stay in
# fuzz/corpus, and one that broke something in fuzz/artifacts; fuzz/seeds has what some targets begin with. Needs a nightly toolchain; cargo-fuzz is built once and cached.
set -euo pipefail

seconds=${1:-60}
shift || true
cache=${MSB_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/msb-test}
cd "$(dirname "$0")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: the sanitizers need a nightly toolchain: rustup toolchain install nightly" >&2
    exit 1
fi
if ! command -v cargo-fuzz >/dev/null; then
    if [ ! -x "$cache/bin/cargo-fuzz" ]; then
        echo "fuzz: building cargo-fuzz, once" >&2
        scratch=$(mktemp -d)
        trap 'rm -rf "$scratch"' EXIT
        CARGO_TARGET_DIR=$scratch cargo install --quiet --locked --debug --root "$cache" cargo-fuzz
    fi
    export PATH=$cache/bin:$PATH
fi

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
cargo +nightly fuzz build >&2
failed=()
for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    log=fuzz/target/$target.log
    corpus=("fuzz/corpus/$target")
    mkdir -p "${corpus[0]}"
    [ ! -d "fuzz/seeds/$target" ] || corpus+=("fuzz/seeds/$target")
    if ! cargo +nightly fuzz run "$target" "${corpus[@]}" -- -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 &>"$log"; then
        grep -m1 -A3 -E 'panicked at|ERROR: ' "$log" || tail -40 "$log"
        failed+=("$target")
        continue
    fi
    grep -E '^stat::(number_of_executed_units|new_units_added|peak_rss_mb)' "$log"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "fuzz: something broke in ${failed[*]}: see fuzz/target/*.log and fuzz/artifacts" >&2
    exit 1
fi
