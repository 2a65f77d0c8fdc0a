#!/bin/bash
# Builds an fsck.erofs that knows blocks of 512 bytes, once, and prints its path. Debian 12 has version 1.5, which knows 4 KiB blocks only; the
# source is that of Debian 13. A few seconds with the C compiler alone: no compression library, no autotools.
set -euo pipefail

version=1.8.6
sha256=5b221dc3fd6d151425b30534ede46fb7a90dc233a8659cba0372796b0a066547
cache=${MSB_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/msb-test}
program=$cache/bin/fsck.erofs-$version
if [ ! -x "$program" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    archive=erofs-utils_$version.orig.tar.gz
    (cd "$work" && /usr/lib/apt/apt-helper download-file "http://deb.debian.org/debian/pool/main/e/erofs-utils/$archive" "$archive" "SHA256:$sha256" >&2)
    tar -x -C "$work" -f "$work/$archive" --strip-components=1
    cd "$work"
    # What ./configure would find on any Linux.
    for name in LINUX_FALLOC_H FALLOCATE FTRUNCATE PREAD64 PWRITE64 MEMSET STRUCT_STAT_ST_ATIM SYS_STATFS_H SYS_SYSMACROS_H SYS_XATTR_H SYS_IOCTL_H \
        UNISTD_H LINUX_TYPES_H LINUX_XATTR_H LINUX_FS_H DIRENT_H FCNTL_H GETOPT_H INTTYPES_H LIMITS_H STDINT_H STDLIB_H STRING_H LSEEK64 TMPFILE64 \
        UTIMENSAT LGETXATTR LLISTXATTR LSETXATTR FSETXATTR MEMRCHR SYSCONF; do
        echo "#define HAVE_$name 1"
    done >config.h
    echo "#define PACKAGE_VERSION \"$version\"
#define EROFS_MAX_BLOCK_SIZE 4096" >>config.h
    mapfile -t sources < <(find lib -name '*.c' ! -name 'compressor_*' ! -name uuid.c ! -name workqueue.c)
    cc -O1 -w -DHAVE_CONFIG_H -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -Iinclude fsck/main.c "${sources[@]}" lib/compressor_deflate.c -o fsck.erofs
    mkdir -p "$cache/bin"
    mv fsck.erofs "$program"
fi
echo "$program"
