#!/bin/bash
# Installs the Debian packages that builds and tests need, those that are missing only. Needs root or sudo then, else neither.
set -euo pipefail

packages=(
    build-essential                                        # linker and libc.a for the guest's static PID 1; kernel
    bc bison flex libelf-dev xz-utils patch linux-source-6.12 # kernel
    e2fsprogs                                              # disk template; tests check disks with it
    qemu-system-x86                                        # the hypervisor where KVM is not usable; tests
    umoci skopeo docker-registry python3-minimal           # test images and the registry that serves them
    iproute2 nginx-light dnsmasq-base                      # networks of tests, and servers in them
    passt slirp4netns                                      # what benchmarks compare the network with
    openssl                                                # certificates of test registries
    iperf3                                                 # a server in networks of tests
    gnome-keyring libsecret-tools dbus-daemon              # a keyring for tests
    shellcheck
)

say() { echo "setup: $*" >&2; }

if ! command -v cargo >/dev/null; then
    say "cargo is missing: install Rust with https://rustup.rs and start a new shell"
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    say "no apt-get here: install the equivalents of ${packages[*]}"
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        say "run as root: apt-get install ${missing[*]}"
        exit 1
    fi
    as_root=(sudo)
fi
install() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2; }
say "installing ${missing[*]}"
install || { "${as_root[@]}" apt-get update -qq >&2 && install; }

# Debian starts some servers when their packages are installed. The tests start their own.
if [ -d /run/systemd/system ]; then
    for server in docker-registry nginx; do
        [[ " ${missing[*]} " != *" $server"[\ -]* ]] || "${as_root[@]}" systemctl disable --quiet --now "$server" || true
    done
fi
