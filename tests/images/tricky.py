"""The layers of the image `tricky`, lowest first. Everything lives under /t but for what the image's configuration needs."""
import struct
import tarfile

CAP_NET_RAW = struct.pack("<5I", 0x0200_0001, 1 << 13, 0, 0, 0)  # struct vfs_cap_data, revision 2, effective

ENTRY = r"""#!/bin/sh
# Prints how it was started, one thing a line.
for arg in "$0" "$@"; do printf 'arg=%s\n' "$arg"; done
printf 'cwd=%s\n' "$(pwd)"
printf 'id=%s\n' "$(id)"
for name in HOME PATH GREETING QUOTES EMPTY; do eval "printf '%s=%s\n' $name \"\$$name\""; done
"""


def first(out):
    out.file("entry.sh", ENTRY, mode=0o755)
    out.dir("home/app/wörk dir", uid=1000, gid=1000)
    out.dir("t")
    for name in ("whiteout", "whiteout/dir", "opaque", "opaque/sub", "order", "tree", "tree/deep", "links", "xattr"):
        out.dir("t/" + name, mtime="1600000000.5")
    for name in ("modes", "dev", "names", "replace", "sizes", "times", "owners", "many"):
        out.dir("t/" + name, mtime="1600000000.5")
    for name in ("gone", "kept", "comes-back", "dir/a", "dir/b"):
        out.file("t/whiteout/" + name, name)
    for name in ("opaque/old1", "opaque/old2", "opaque/sub/x", "order/old", "tree/old", "tree/deep/old"):
        out.file("t/" + name, name)
    links(out)
    attributes(out)
    names(out)
    for name in ("file-to-dir", "file-to-dir-and-back", "file-to-symlink"):
        out.file("t/replace/" + name, name)
    for name in ("dir-to-file", "dir-to-symlink", "dir-to-file-and-back"):
        out.dir("t/replace/" + name)
        out.file(f"t/replace/{name}/inner", "inner")
    out.symlink("t/replace/symlink-to-file", "file-to-dir")
    out.symlink("t/replace/symlink-to-dir", "dir-to-file")
    for size in (0, 1, 4095, 4096, 4097, 12288, 70_000):
        out.file(f"t/sizes/{size}", bytes(i * 7 % 251 for i in range(size)))
    out.file("t/sizes/zeros", bytes(1 << 20))
    out.dir("t/implicit")
    out.file("t/implicit/implicit1/implicit2/file", "its parents have no entry of their own")
    for number in range(600):
        out.file(f"t/many/a rather long file name, number {number:04}", str(number))


def links(out):
    out.file("t/links/one", "linked", mode=0o640)
    out.hardlink("t/links/two", "t/links/one")
    out.hardlink("t/links/three", "./t/links/two")
    out.file("t/links/replaced", "old")
    out.hardlink("t/links/survivor", "t/links/replaced")
    out.file("t/links/removed", "removed")
    out.hardlink("t/links/last-name", "t/links/removed")
    out.symlink("t/links/relative", "one", uid=1000)
    out.symlink("t/links/absolute", "/etc/passwd")
    out.symlink("t/links/dangling", "../no/such/file")
    out.symlink("t/links/to-dir", "../opaque")
    out.symlink("t/links/long", "x/" * 150 + "end")
    out.symlink("t/links/self", "self")


def attributes(out):
    out.file("t/xattr/capability", "c", mode=0o755, xattrs={"security.capability": CAP_NET_RAW})
    out.file("t/xattr/user", "u", xattrs={"user.comment": "grüß".encode(), "user.long": b"v" * 3000})
    out.file("t/xattr/stripped", "s", xattrs={"user.gone": b"1"})
    out.dir("t/xattr/dir", xattrs={"user.on.a.dir": b"yes"})
    for number in range(3):
        out.file(f"t/xattr/same{number}", "s", xattrs={"user.shared": b"the same on several files"})
    for mode in (0o4755, 0o2755, 0o6711, 0o0000, 0o0111, 0o7777, 0o600):
        out.file(f"t/modes/{mode:04o}", "m", mode=mode)
    out.dir("t/modes/sticky", mode=0o1777)
    out.dir("t/modes/setgid", mode=0o2775, gid=2000)
    out.file("t/modes/changed", "same content", mode=0o600)
    out.add("t/dev/null", tarfile.CHRTYPE, mode=0o666, dev=(1, 3))
    out.add("t/dev/wide", tarfile.CHRTYPE, mode=0o600, dev=(4095, 1_048_575))
    out.add("t/dev/disk", tarfile.BLKTYPE, mode=0o660, gid=6, dev=(7, 99))
    out.add("t/dev/fifo", tarfile.FIFOTYPE, mode=0o620)
    out.file("t/times/nanoseconds", "n", mtime="1234567890.123456789")
    out.file("t/times/epoch", "e", mtime=0)
    out.file("t/times/2100", "f", mtime=4_102_444_800)
    out.file("t/owners/app", "a", uid=1000, gid=100)
    out.file("t/owners/large", "l", uid=4_000_000_000, gid=4_000_000_001)
    out.dir("t/owners/nobody", uid=65534, gid=65534)


def names(out):
    for name in ("sp ace", "new\nline", "ünï-☃", "back\\slash", "quo'te\"s", "-dash", "wh.x", ".whatever", "*", "n" * 255):
        out.file("t/names/" + name, name)
    deep = "t/names"
    for level in range(12):
        deep += "/" + f"deep{level}-" * 5
        out.dir(deep)
    out.file(deep + "/bottom", "bottom")


def second(out):
    """Removes and replaces."""
    out.whiteout("t/whiteout/gone")
    out.whiteout("t/whiteout/dir")
    out.whiteout("t/whiteout/comes-back")
    out.whiteout("t/whiteout/never-existed")
    out.whiteout("t/links/removed")
    out.dir("t/opaque", mode=0o700, mtime=1_650_000_000)
    out.opaque("t/opaque")
    out.file("t/opaque/new", "new")
    # The marker may come after the entries it must not hide: it speaks of lower layers only.
    out.file("t/order/new", "new")
    out.opaque("t/order")
    out.hardlink("t/links/across-layers", "t/links/one")
    out.file("t/links/replaced", "new content")
    out.file("t/xattr/stripped", "s")
    out.file("t/modes/changed", "same content", mode=0o755)
    for name in ("file-to-dir", "file-to-dir-and-back", "symlink-to-dir"):
        out.dir("t/replace/" + name)
        out.file(f"t/replace/{name}/inside", "inside")
    for name in ("dir-to-file", "dir-to-file-and-back", "symlink-to-file"):
        out.file("t/replace/" + name, "now a file")
    out.symlink("t/replace/dir-to-symlink", "dir-to-file")
    out.symlink("t/replace/file-to-symlink", "/t/sizes/1")
    out.file("t/sizes/twice", "first of two entries")
    out.file("t/sizes/twice", "the last entry counts")


def third(out):
    """Brings back and removes once more."""
    out.dir("t/whiteout/comes-back")
    out.file("t/whiteout/comes-back/inside", "back as a folder")
    out.file("t/whiteout/dir", "back as a file")
    out.whiteout("t/opaque/new")
    out.file("t/replace/file-to-dir-and-back", "a file again")
    out.dir("t/replace/dir-to-file-and-back")
    out.file("t/replace/dir-to-file-and-back/new", "new")
    out.whiteout("t/tree")
    out.dir("t/tree")
    out.file("t/tree/new", "the old ones are gone")
    out.hardlink("t/links/in-third", "t/links/across-layers")


def fourth(out):
    """GNU headers instead of PAX: names that are no UTF-8, long names and links, numbers in base 256."""
    out.file(b"t/names/\xff\xfe-bytes", "no UTF-8")
    out.dir(b"t/names/dir-\x80")
    out.file(b"t/names/dir-\x80/inner", "inner")
    out.file("t/names/" + "gnu-long-" * 20, "long")
    out.symlink("t/names/gnu-long-link", "y/" * 100 + "end")
    out.file("t/owners/base256", "b", uid=3_000_000_000, gid=3_000_000_000)


fourth.style = tarfile.GNU_FORMAT
LAYERS = (first, second, third, fourth)
