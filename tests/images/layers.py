#!/usr/bin/env python3
"""Writes the layer archives of the test images as plain tar files.

usage: layers.py busybox|python|clients|tricky|corpus WORKDIR

WORKDIR/debs holds the unpacked packages `busybox`, `python` and `clients` are made from; the archives go to WORKDIR/layers. `corpus` prints
the name of each image and those of its layers. Times and owners are fixed, so the same recipe and packages give the same archives.
"""
import io
import os
import stat
import subprocess
import sys
import tarfile

EPOCH = 1_700_000_000
PASSWD = """root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
app:x:1000:1000:An App:/home/app:/bin/sh
"""
GROUP = "root:x:0:\naudio:x:29:app\nusers:x:100:\nextra:x:2000:nobody,app\napp:x:1000:\nnogroup:x:65534:\n"
LEAVE_OUT = {
    *(f"usr/share/{name}" for name in ("applications", "binfmts", "doc", "lintian", "locale", "man", "pixmaps")),
    *(f"usr/lib/{arch}-linux-gnu/gconv" for arch in ("x86_64", "aarch64")),
    *(f"usr/lib/python3.11/{name}" for name in ("distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "unittest")),
}


class Layer:
    """One layer archive. Every method adds one entry, in the order of the calls."""

    def __init__(self, path, style=tarfile.PAX_FORMAT):
        self.tar = tarfile.open(path, "w", format=style, encoding="utf-8", errors="surrogateescape")

    def add(self, name, kind, data=None, mode=0o644, uid=0, gid=0, mtime=EPOCH, link="", dev=(0, 0), xattrs=None):
        info = tarfile.TarInfo(name if isinstance(name, str) else os.fsdecode(name))
        info.type, info.mode, info.uid, info.gid, info.linkname = kind, mode, uid, gid, link
        info.devmajor, info.devminor = dev
        # Python's tarfile keeps nanoseconds only as text: a float has too few digits.
        info.mtime = int(float(mtime))
        if isinstance(mtime, str):
            info.pax_headers["mtime"] = mtime
        for key, value in (xattrs or {}).items():
            info.pax_headers["SCHILY.xattr." + key] = value.decode("utf-8", "surrogateescape")
        if data is not None:
            info.size = len(data)
        self.tar.addfile(info, None if data is None else io.BytesIO(data))

    def file(self, name, data=b"", **more):
        self.add(name, tarfile.REGTYPE, data if isinstance(data, bytes) else data.encode(), **more)

    def dir(self, name, mode=0o755, **more):
        self.add(name, tarfile.DIRTYPE, mode=mode, **more)

    def symlink(self, name, target, **more):
        self.add(name, tarfile.SYMTYPE, link=target, mode=0o777, **more)

    def hardlink(self, name, target):
        self.add(name, tarfile.LNKTYPE, link=target)

    def whiteout(self, name):
        head, _, tail = name.rpartition("/")
        self.file(f"{head}/.wh.{tail}", mode=0)

    def opaque(self, name):
        self.file(f"{name}/.wh..wh..opq", mode=0)

    def close(self):
        self.tar.close()


def busybox(work):
    """A root filesystem of one static binary, in the places a Debian user expects."""
    out = Layer(f"{work}/layers/busybox.tar")
    binary = open(f"{work}/debs/bin/busybox", "rb").read()
    for name in ("bin", "dev", "etc", "home", "proc", "run", "sbin", "srv", "sys", "usr", "usr/bin", "usr/sbin", "var"):
        out.dir(name)
    out.dir("root", mode=0o700)
    out.dir("tmp", mode=0o1777)
    out.dir("home/app", mode=0o750, uid=1000, gid=1000)
    out.file("bin/busybox", binary, mode=0o755)
    for path in subprocess.check_output([f"{work}/debs/bin/busybox", "--list-full"], text=True).split():
        if path != "bin/busybox" and path.split("/")[0] in ("bin", "sbin", "usr"):
            out.symlink(path, "/bin/busybox")
    out.file("etc/passwd", PASSWD)
    out.file("etc/group", GROUP)
    out.close()


def python(work):
    """Debian's python3.11 on top of busybox."""
    out = packages(work, "python")
    out.symlink("usr/bin/python3", "python3.11")
    out.symlink("usr/bin/python", "python3.11")
    out.close()


def clients(work):
    """curl, node and iperf3 on top of python, and the certificates they trust."""
    folder = f"{work}/debs/usr/share/ca-certificates/mozilla"
    bundle = b"".join(open(f"{folder}/{name}", "rb").read() for name in sorted(os.listdir(folder)))
    out = packages(work, "clients")
    out.file("etc/ssl/certs/ca-certificates.crt", bundle)
    out.close()


def packages(work, name):
    """What the packages hold but for documentation."""
    root = f"{work}/debs"
    out = Layer(f"{work}/layers/{name}.tar")
    for folder, dirs, files in os.walk(root):
        dirs.sort()
        inside = os.path.relpath(folder, root)
        dirs[:] = [d for d in dirs if os.path.normpath(f"{inside}/{d}") not in LEAVE_OUT]
        for name in sorted(dirs + files):
            path, full = os.path.normpath(f"{inside}/{name}"), f"{folder}/{name}"
            mode = os.lstat(full).st_mode
            if stat.S_ISLNK(mode):
                out.symlink(path, os.readlink(full))
            elif stat.S_ISDIR(mode):
                out.dir(path)
            elif path != "bin/busybox":
                out.file(path, open(full, "rb").read(), mode=stat.S_IMODE(mode))
    return out


def tricky(work):
    """Everything a layer may hold that is easy to get wrong, in four layers."""
    import tricky as recipe

    for number, build in enumerate(recipe.LAYERS, 1):
        out = Layer(f"{work}/layers/tricky{number}.tar", getattr(build, "style", tarfile.PAX_FORMAT))
        build(out)
        out.close()


def corpus(work):
    """The images of corpus.py."""
    import corpus as recipe

    for image, layers in recipe.IMAGES.items():
        names = [f"corpus-{image}{number}" for number in range(len(layers))]
        for name, layer in zip(names, layers):
            build, options = layer if isinstance(layer, tuple) else (layer, {})
            if getattr(build, "writes_file", False):
                build(f"{work}/layers/{name}.tar")
                continue
            out = Layer(f"{work}/layers/{name}.tar", **options)
            build(out)
            out.close()
        print(image, *names)


{"corpus": corpus, "busybox": busybox, "python": python, "clients": clients, "tricky": tricky}[sys.argv[1]](sys.argv[2])
