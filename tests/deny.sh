#!/bin/bash
# Checks licences, sources and bans of all dependencies with cargo-deny: the one on PATH, else one that is built once and cached outside
# the checkout. Advisories are checked too where their database can be reached.
set -euo pipefail

cache=${MSB_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/msb-test}
version=0.20
if ! deny=$(command -v cargo-deny); then
    deny=$cache/bin/cargo-deny
    if [ ! -x "$deny" ]; then
        echo "deny: building cargo-deny, once (some minutes)" >&2
        scratch=$(mktemp -d)
        trap 'rm -rf "$scratch"' EXIT
        # --debug: it runs for a second, so building it faster counts more.
        CARGO_TARGET_DIR=$scratch cargo install --quiet --locked --debug --root "$cache" --version "^$version" cargo-deny
    fi
fi

cd "$(dirname "$0")/.."
"$deny" --locked check bans licenses sources
if timeout 60 "$deny" --locked fetch db >/dev/null 2>&1; then
    "$deny" --locked check advisories
else
    echo "deny: advisories not checked: their database cannot be reached from here" >&2
fi
