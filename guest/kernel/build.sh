#!/usr/bin/env bash
# Builds the guest kernel and prints the path of the finished vmlinux (see README.md beside this file).
# Everything but that path goes to stderr. A kernel that is already in the cache is not built again.
set -euo pipefail

usage() {
    cat <<'END'
build.sh                print the path of the guest kernel (vmlinux), building it when it is not cached
build.sh --print-hash   print the name it has in the cache, build nothing

KERNEL_PATCHES=DIR      apply every DIR/*.patch with -p1, in the order of their names
KERNEL_CONFIG=FILE      configuration fragment merged last; it wins over msb.config
KERNEL_TARBALL=FILE     kernel.org's linux-6.12.*.tar.xz instead of Debian's package linux-source-6.12
KERNEL_SHA256=HEX       its SHA-256 from kernel.org's signed sha256sums.asc; required with KERNEL_TARBALL
KERNEL_JOBS=N           compile with N jobs (default: all processors)
MSB_KERNEL_CACHE=DIR    cache (default: ${XDG_CACHE_HOME:-~/.cache}/msb/kernels)
END
}

say() { printf 'kernel: %s\n' "$*" >&2; }
die() {
    printf 'kernel: error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf 'kernel:   %s\n' "$@" >&2
    exit 1
}

readonly package=linux-source-6.12
readonly package_tarball=/usr/src/$package.tar.xz
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
fragment=$here/msb.config
extra=${KERNEL_CONFIG:-}
cache=${MSB_KERNEL_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/msb/kernels}
patches=()
tarball=''
source_id=''

# The build answers to its inputs alone: not to the locale, nor to the make that may have called us.
export LC_ALL=C TZ=UTC
unset MAKEFLAGS MFLAGS MAKELEVEL ARCH CROSS_COMPILE KBUILD_OUTPUT KCFLAGS KCONFIG_CONFIG KCONFIG_ALLCONFIG
umask 077

check_inputs() {
    [[ $OSTYPE = linux* && $HOSTTYPE = x86_64 ]] || die "the guest kernel is built on x86-64 Linux, this is $MACHTYPE"
    if [ -n "$extra" ]; then
        [ -r "$extra" ] || die "KERNEL_CONFIG: cannot read $extra"
        extra=$(realpath -- "$extra")
    fi
    if [ -n "${KERNEL_PATCHES:-}" ]; then
        shopt -s nullglob
        patches=("$KERNEL_PATCHES"/*.patch)
        shopt -u nullglob
        [ ${#patches[@]} -gt 0 ] || die "KERNEL_PATCHES: no *.patch in $KERNEL_PATCHES"
    fi
}

# Names the source without unpacking, installing or reading it, so that a cached kernel is found at once.
choose_source() {
    local version
    if [ -n "${KERNEL_TARBALL:-}" ]; then
        [[ ${KERNEL_SHA256:-} =~ ^[0-9a-f]{64}$ ]] ||
            die "KERNEL_TARBALL needs KERNEL_SHA256, 64 hexadecimal digits" \
                "take them from https://cdn.kernel.org/pub/linux/kernel/v6.x/sha256sums.asc after checking its signature"
        [ -r "$KERNEL_TARBALL" ] || die "KERNEL_TARBALL: cannot read $KERNEL_TARBALL"
        tarball=$KERNEL_TARBALL
        source_id="tarball $KERNEL_SHA256"
        return
    fi
    tarball=$package_tarball
    version=$(dpkg-query -Wf '${Version}' "$package" 2>/dev/null) || version=
    if [ -z "$version" ] || [ ! -e "$package_tarball" ]; then
        version=$(candidate)
        if [ -z "$version" ] && may_install; then
            say "apt-get update"
            apt-get update >&2
            version=$(candidate)
        fi
    fi
    [ -n "$version" ] ||
        die "no kernel source: the package $package is neither installed nor on offer here" \
            "Debian 12: apt-get update && apt-get install $package" \
            "elsewhere: download linux-6.12.*.tar.xz from https://cdn.kernel.org/pub/linux/kernel/v6.x/ and set" \
            "KERNEL_TARBALL=FILE and KERNEL_SHA256=HEX (from the signed sha256sums.asc there)"
    source_id="debian $package $version"
}

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

candidate() {
    command -v apt-cache >/dev/null || return 0
    apt-cache policy "$package" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

# What decides the result: the source, the patches and their order, the settings (comments do not count), how it is built.
input_hash() {
    local sum
    sum=$({
        printf '%s\n' "$source_id" "${patches[@]##*/}"
        merge_fragments
        cat -- "${BASH_SOURCE[0]}" "$here/pack.c" "${patches[@]}"
    } | sha256sum)
    printf '%s\n' "${sum%% *}"
}

install_missing() {
    local missing=() tool
    for tool in make gcc ld bc bison flex xz tar patch; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    echo '#include <gelf.h>' | gcc -E -x c - >/dev/null 2>&1 || missing+=(libelf-dev)
    [ -e "$tarball" ] || missing+=("$package")
    [ ${#missing[@]} -gt 0 ] || return 0
    local needed=(build-essential bc bison flex libelf-dev xz-utils patch)
    [ -n "${KERNEL_TARBALL:-}" ] || needed+=("$package")
    may_install || die "missing: ${missing[*]}" "as root: apt-get install ${needed[*]}"
    say "installing what is missing: ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${needed[@]}" >&2
}

# unpack DIR: the source, less what a build for x86-64 never opens (a third of it)
unpack() {
    if [ -n "${KERNEL_TARBALL:-}" ]; then
        say "checking $tarball"
        printf '%s  %s\n' "$KERNEL_SHA256" "$tarball" | sha256sum --check --status ||
            die "$tarball has not the SHA-256 given in KERNEL_SHA256"
    fi
    say "unpacking $source_id"
    mkdir "$1"
    tar -xf "$tarball" -C "$1" --strip-components=1 --no-same-owner \
        --exclude='*/Documentation/*.rst' --exclude='*/Documentation/*.yaml' --exclude='*/tools/testing' \
        --exclude='*/drivers/gpu/*.[ch]' --exclude='*/sound/*.[ch]' --exclude='*/arch/*/boot/dts'
    local p
    for p in "${patches[@]}"; do
        say "applying ${p##*/}"
        patch -d "$1" -p1 --batch --forward <"$p" >&2 || die "$p does not apply to $source_id"
    done
}

# The fragments as one: the extra one wins, and takes with it what msb.config marks as hanging on its choices
# ("#needs X": gone when the extra one switches X off; "#unless X": gone when it switches X on).
merge_fragments() {
    awk '
        function symbol(line) { sub(/^# /, "", line); sub(/[= ].*/, "", line); return line }
        function is_setting(line) { return line ~ /^(# )?CONFIG_[A-Za-z0-9_]+(=| is not set$)/ }
        FILENAME != base {
            if (!is_setting($0)) next
            s = symbol($0)
            if (!(s in given)) order[++n] = s
            given[s] = $0
            state[s] = ($0 ~ /^#|=n$/) ? "off" : "on"
            next
        }
        /^#(needs|unless) / {
            wanted_state = ($1 == "#needs") ? "off" : "on"
            for (i = 2; i <= NF; i++) if (state[$i] == wanted_state) dropped = 1
            next
        }
        is_setting($0) { if (!dropped && !(symbol($0) in given)) print; dropped = 0 }
        END { for (i = 1; i <= n; i++) print given[order[i]] }
    ' base="$fragment" ${extra:+"$extra"} "$fragment"
}

# configure SOURCE WANTED: fails when an option asked for is not in the result, naming it
configure() {
    KCONFIG_ALLCONFIG=$2 run_make "$1" allnoconfig
    local lost
    lost=$(awk '
        FNR == NR { if (/^CONFIG_/) { i = index($0, "="); have[substr($0, 1, i - 1)] = substr($0, i + 1) }; next }
        /^# / || /=n$/ { s = $0; sub(/^# /, "", s); sub(/[= ].*/, "", s); if (s in have) print s " is on, not off"; next }
        { i = index($0, "="); s = substr($0, 1, i - 1); v = substr($0, i + 1) }
        !(s in have) { print s " is off, not " v; next }
        have[s] != v { print s " is " have[s] ", not " v }
    ' "$1/.config" "$2")
    [ -z "$lost" ] || die "the configuration lost options that were asked for:" "${lost//$'\n'/$'\nkernel:   '}"
}

# Same inputs, same bytes: no date, user, host or optional tool of this machine gets into the image.
run_make() {
    local dir=$1
    shift
    make -C "$dir" -j "${KERNEL_JOBS:-$(nproc)}" -s \
        KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_USER=msb KBUILD_BUILD_HOST=msb \
        KBUILD_BUILD_VERSION=1 RUSTC=false BINDGEN=false PAHOLE=false "$@" >&2 9>&-
}

build() {
    local result=$1 tmp=$cache/tmp started=$SECONDS
    # We hold the lock: whatever lies here was left by a build that was killed.
    rm -rf -- "$tmp"
    mkdir "$tmp"
    trap 'rm -rf -- "$cache/tmp"' EXIT
    trap 'exit 130' INT TERM HUP
    install_missing
    unpack "$tmp/linux"
    merge_fragments >"$tmp/wanted.config"
    configure "$tmp/linux" "$tmp/wanted.config"
    say "compiling (some minutes; once per configuration and source version)"
    run_make "$tmp/linux" vmlinux
    mkdir "$tmp/out"
    gcc -O2 -Wall -Wextra -o "$tmp/pack" "$here/pack.c"
    "$tmp/pack" "$tmp/linux/vmlinux" "$tmp/out/vmlinux"
    cp "$tmp/linux/.config" "$tmp/out/config"
    printf '%s\n' "$source_id" "${patches[@]##*/}" >"$tmp/out/source"
    rm -rf -- "$result"
    mv -T -- "$tmp/out" "$result"
    say "built in $((SECONDS - started)) s: $(stat -c %s "$result/vmlinux") bytes"
}

main() {
    case "${1:-}" in
    '') ;;
    --print-hash) ;;
    -h | --help) usage && return ;;
    *) usage >&2 && exit 2 ;;
    esac
    check_inputs
    choose_source
    local hash result
    hash=$(input_hash)
    if [ "${1:-}" = --print-hash ]; then
        printf '%s\n' "$hash"
        return
    fi
    result=$cache/$hash
    if [ ! -e "$result/vmlinux" ]; then
        mkdir -p -- "$cache"
        exec 9>"$cache/lock"
        flock --nonblock 9 || { say "waiting for another build" && flock 9; }
        [ -e "$result/vmlinux" ] || build "$result"
    fi
    printf '%s\n' "$result/vmlinux"
}

main "$@"
