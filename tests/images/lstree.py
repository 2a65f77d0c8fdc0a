#!/usr/bin/env python3
"""Prints every file of a tree, one line each, exactly enough to compare two trees.

usage: lstree.py ROOT [SKIP...]        (SKIP: absolute paths below ROOT to leave out)

Runs with nothing but Python's standard library, so that the same file lists what `umoci unpack` made on the host and what
a guest sees (`msx IMAGE -- python3 - / /proc ... < lstree.py`). Fields, separated by tabs:

    path  type+mode  uid:gid  size  mtime  nlink  rdev  link  content  xattrs

- path, link and xattrs are bytes: everything but printable ASCII is written as \\xNN.
- size: files and symlinks only.
- nlink: not for directories, whose count depends on the filesystem; `=PATH` behind it names the first path of the inode.
- mtime: seconds.nanoseconds; `-` for ROOT itself and for folders named `implicit*`, which no layer describes.
- content: SHA-256 of a file, target of a symlink.

Of a folder with more than 10,000 names, one line has the digest of all names, and every thousandth is listed.
"""
import hashlib
import os
import stat
import sys

KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}


MANY = 10_000


def text(raw):
    return "".join(chr(b) if 0x20 < b < 0x7F and b != 0x5C else "\\x%02x" % b for b in raw)


def digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()


def xattrs(path):
    names = sorted(os.listxattr(path, follow_symlinks=False))
    pairs = ((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names)
    return ",".join(f"{text(name)}={text(value)}" for name, value in pairs) or "-"


def line(full, shown, info, first_paths):
    kind = KINDS[stat.S_IFMT(info.st_mode)]
    implicit = shown == b"/" or (kind == "d" and os.path.basename(shown).startswith(b"implicit"))
    links = "-"
    if kind != "d":
        first = first_paths.setdefault((info.st_dev, info.st_ino), shown)
        links = "%d" % info.st_nlink if info.st_nlink == 1 else "%d=%s" % (info.st_nlink, text(first))
    fields = [
        text(shown),
        "%s%04o" % (kind, stat.S_IMODE(info.st_mode)),
        "%d:%d" % (info.st_uid, info.st_gid),
        str(info.st_size) if kind in "fl" else "-",
        "-" if implicit else "%d.%09d" % divmod(info.st_mtime_ns, 10**9),
        links,
        "%d:%d" % (os.major(info.st_rdev), os.minor(info.st_rdev)) if kind in "cb" else "-",
        text(os.readlink(full)) if kind == "l" else "-",
        digest(full) if kind == "f" else "-",
        xattrs(full),
    ]
    return "\t".join(fields)


def walk(root, shown, skip, first_paths, out):
    full = root + shown
    info = os.lstat(full)
    out.write(line(full, shown or b"/", info, first_paths) + "\n")
    if not stat.S_ISDIR(info.st_mode):
        return
    names = sorted(os.listdir(full))
    if len(names) > MANY:
        out.write("%s\t%d names\t%s\n" % (text(shown), len(names), hashlib.sha256(b"\0".join(names)).hexdigest()))
        names = names[::1000]
    for name in names:
        child = shown.rstrip(b"/") + b"/" + name
        if child not in skip:
            walk(root, child, skip, first_paths, out)


def main():
    sys.setrecursionlimit(10000)
    root = os.fsencode(sys.argv[1]).rstrip(b"/")
    walk(root, b"" if root else b"/", set(map(os.fsencode, sys.argv[2:])), {}, sys.stdout)


main()
