"""The images `corpus:NAME`: each looks hard at one thing a layer may hold. A layer is a function that adds entries, lowest first."""
import os
import struct
import subprocess
import tarfile
import tempfile

GNU = {"style": tarfile.GNU_FORMAT}


def capability(bits, root=None):
    """security.capability: struct vfs_cap_data of revision 2, or 3 with a user namespace's root."""
    words = struct.pack("<5I", 0x0200_0001 if root is None else 0x0300_0001, bits, 0, 0, 0)
    return words if root is None else words + struct.pack("<I", root)


def acl(*entries):
    """system.posix_acl_*: tag, permissions, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, bits, number) for tag, bits, number in entries)


NOBODY = 0xFFFF_FFFF
ACCESS = acl((1, 6, NOBODY), (2, 4, 1000), (4, 4, NOBODY), (8, 6, 2000), (0x10, 6, NOBODY), (0x20, 0, NOBODY))
DEFAULT = acl((1, 7, NOBODY), (2, 5, 4_000_000_000), (4, 5, NOBODY), (0x10, 5, NOBODY), (0x20, 0, NOBODY))


def links_1(out):
    out.dir("a")
    for name in ("one", "kept", "replaced", "removed", "chain"):
        out.file(f"a/{name}", name, mode=0o640, uid=7)
    out.hardlink("a/second-name", "a/one")
    out.symlink("a/symlink", "one")
    out.hardlink("a/name-of-a-symlink", "a/symlink")
    out.add("a/fifo", tarfile.FIFOTYPE)
    out.hardlink("a/name-of-a-fifo", "a/fifo")


def links_2(out):
    out.dir("b")
    out.hardlink("b/across", "a/one")
    out.hardlink("b/again", "b/across")
    out.hardlink("b/chain", "a/chain")
    out.hardlink("b/replaced", "a/replaced")
    out.file("a/replaced", "another one")
    out.hardlink("b/survivor", "a/removed")
    out.whiteout("a/removed")


def links_3(out):
    out.hardlink("c", "b/chain")
    out.whiteout("b/chain")
    out.hardlink("a/kept-twice", "/a/kept")
    out.hardlink("a/second-name", "a/chain")


def whiteouts_1(out):
    for name in ("d", "d/sub", "d/sub/deep", "e", "full"):
        out.dir(name)
    for name in ("d/file", "d/sub/x", "d/sub/deep/y", "e/z", "full/1", "full/2", "back"):
        out.file(name, name)
    out.symlink("link", "d")
    out.add("device", tarfile.CHRTYPE, dev=(1, 3))


def whiteouts_2(out):
    for name in ("d/sub", "./link", "./device", "./never", "e/never", "full/1", "./back"):
        out.whiteout(name)
    out.file("full/3", "3")


def whiteouts_3(out):
    out.file("d/sub", "a file where a folder was")
    out.file("back", "again")
    out.file("link", "no longer one")
    out.whiteout("./full")
    out.whiteout("./e")
    out.dir("e", mode=0o700)


def opaque_1(out):
    for name in ("a", "a/b", "a/b/c", "x", "y"):
        out.dir(name, mode=0o750)
        out.file(f"{name}/low", name)


def opaque_2(out):
    out.dir("a")
    out.dir("a/b")
    out.opaque("a/b")
    out.file("a/b/new", "new")
    out.dir("a/b/c")
    out.file("x/high", "before the marker")
    out.opaque("x")
    out.dir("made")
    out.opaque("made")
    out.file("made/in", "in")


def opaque_3(out):
    out.file("a/b/third", "third")
    out.dir("y", mode=0o711)
    out.opaque("y")


def attributes_1(out):
    out.file("ping", "p", mode=0o755, xattrs={"security.capability": capability(1 << 13)})
    out.file("rooted", "p", mode=0o755, xattrs={"security.capability": capability(1 << 10, 100_000)})
    out.file("acl", "a", mode=0o660, xattrs={"system.posix_acl_access": ACCESS})
    out.dir("acls", mode=0o750, xattrs={"system.posix_acl_default": DEFAULT})
    out.file("many", "m", xattrs={f"user.number{number:02}": bytes([65 + number]) * number * 5 for number in range(1, 20)})
    out.file("large", "l", xattrs={"user.large": b"x" * 3500})
    out.file("long", "n", xattrs={"user." + "n" * 250: b"v"})
    out.dir("dir", xattrs={"user.dir": b"\x01\x02"})
    out.file("lost", "l", xattrs={"user.lost": b"1"})
    out.file("trusted", "t", xattrs={"trusted.of.root": b"only"})


def attributes_2(out):
    out.file("lost", "l")
    out.dir("dir", xattrs={"user.other": b"replaced"})
    out.hardlink("ping-again", "ping")


def devices_1(out):
    for index, (major, minor) in enumerate([(0, 1), (1, 3), (5, 0), (255, 255), (256, 256), (4095, 0), (0, 1_048_575), (4095, 1_048_575)]):
        out.add(f"char{index}", tarfile.CHRTYPE, dev=(major, minor), mode=0o600 + index)
        out.add(f"block{index}", tarfile.BLKTYPE, dev=(major, minor), gid=6)
    out.add("fifo", tarfile.FIFOTYPE, mode=0o622, uid=1000)


def devices_2(out):
    out.file("char0", "a file now")
    out.add("block0", tarfile.CHRTYPE, dev=(9, 9))
    out.add("fifo", tarfile.BLKTYPE, dev=(1, 1))


def names_pax(out):
    out.dir("n")
    for name in (b"\xff\xfe", b"caf\xe9", b"\xc3(", b"a\tb", b"a\nb", b"\x01\x7f", b"\\", b"'\"$`*?[", b" ", b"...", b"-rf", b"n" * 255):
        out.file(b"n/" + name, name)
    out.file("n/" + "\u00fc" * 127, "254 bytes of UTF-8")
    out.dir("deep")
    path = "deep"
    for level in range(30):
        path += f"/{level:02}" + "d" * 60
        out.dir(path)
    out.file(path + "/bottom", "bottom")
    out.symlink("n/long-link", "t" * 2000)
    out.dir("n/dotted")
    out.file("./n/./dotted//twice", "cleaned")
    out.file("/n/absolute", "made relative")


def names_gnu(out):
    out.file("n/" + "g" * 200, "a GNU long name")
    out.file(b"n/" + b"\x80" * 150, "not UTF-8 either")
    out.symlink("n/gnu-link", "u" * 300)
    out.hardlink("n/gnu-hard", "n/" + "g" * 200)


def huge_1(out):
    out.dir("many")
    for number in range(200_000):
        out.file(f"many/{number:06}", b"x" if number % 1000 == 0 else b"", uid=number)


def huge_2(out):
    for number in range(0, 200_000, 500):
        out.whiteout(f"many/{number:06}")
    out.file("many/more", "one more")


def modes_1(out):
    for mode in (0, 0o1, 0o111, 0o400, 0o644, 0o755, 0o1777, 0o2755, 0o4755, 0o6755, 0o7777):
        out.file(f"file-{mode:04o}", "m", mode=mode, uid=1000, gid=1000)
        out.dir(f"dir-{mode:04o}", mode=mode)
        out.file(f"dir-{mode:04o}/in", "in")


def modes_2(out):
    out.dir("dir-0000", mode=0o1755, uid=5)
    out.file("file-4755", "m", mode=0o755)


def symlinks_1(out):
    for name, target in {"self": "self", "to-b": "to-c", "to-c": "to-b", "up": "../../../..", "root": "/", "nowhere": "no/where", "dot": "."}.items():
        out.symlink(name, target)
    out.dir("real")
    out.file("real/file", "f")
    out.symlink("dir", "real")
    out.symlink("long", "l/" * 1000)
    out.symlink("bytes", os.fsdecode(b"\xff/\x01"))


def symlinks_2(out):
    out.symlink("self", "real/file", uid=3, gid=4, mtime="1500000000.25")
    out.dir("dot")
    out.file("dot/file", "a folder now")
    out.symlink("real", "elsewhere")


def replace_1(out):
    kinds(out, ["file", "dir", "link", "fifo"], "first")


def replace_2(out):
    kinds(out, ["dir", "file", "fifo", "link"], "second")


def replace_3(out):
    kinds(out, ["file", "dir", "dir", "dir"], "third")


def kinds(out, order, text):
    for number, kind in enumerate(order):
        name = f"entry{number}"
        if kind == "file":
            out.file(name, text)
        elif kind == "dir":
            out.dir(name)
            out.file(f"{name}/{text}", text)
        elif kind == "link":
            out.symlink(name, text)
        else:
            out.add(name, tarfile.FIFOTYPE)


def nothing(out):
    pass


def one_file(out):
    out.file("file", "the only one")


def root_only(out):
    out.dir("./", mode=0o711, uid=12, gid=34)


def duplicates_1(out):
    out.file("twice", "first", mode=0o600)
    out.file("twice", "second and last", mode=0o644)
    out.file("file-dir", "f")
    out.dir("file-dir")
    out.file("file-dir/in", "in")
    out.dir("dir", mode=0o700)
    out.file("dir/in", "stays")
    out.dir("dir", mode=0o755)
    out.file("linked", "first")
    out.hardlink("linked-too", "linked")
    out.file("linked", "second")
    out.symlink("link", "a")
    out.symlink("link", "b")


def owners_1(out):
    for number in (0, 1, 65_535, 65_536, 2_097_151, 2_097_152, 2_147_483_647, 2_147_483_648, 4_294_967_294):
        out.file(f"owner-{number}", "o", uid=number, gid=4_294_967_294 - number)
    for number, mtime in enumerate(("0.000000001", "1.999999999", "-1", "-1.5", "-1000000000.123456789", "4294967296.5", "9000000000")):
        out.file(f"time-{number}", "t", mtime=mtime)
        out.dir(f"dir-{number}", mtime=mtime)
        out.symlink(f"link-{number}", "t", mtime=mtime)


def owners_2(out):
    """Numbers in base 256."""
    out.file("gnu-owner", "g", uid=3_000_000_000, gid=2_500_000_000)
    out.file("gnu-time", "g", mtime=-5_000_000)


def sparse(*flags):
    """A layer as GNU tar writes it for files with holes."""

    def build(path):
        with tempfile.TemporaryDirectory() as folder:
            root = os.path.join(folder, flags[-1].rpartition("=")[2])
            os.mkdir(root)
            files = {"middle": [(10 << 20, b"middle")], "ends": [(0, b"start"), (40 << 20, b"end")], "hole": []}
            files["comb"] = [(number << 17, bytes([number + 1]) * 4096) for number in range(60)]
            for name, pieces in files.items():
                with open(os.path.join(root, name), "wb") as file:
                    for offset, piece in pieces:
                        os.pwrite(file.fileno(), piece, offset)
                    os.truncate(file.fileno(), (pieces[-1][0] if pieces else 0) + (9 << 20))
                os.utime(os.path.join(root, name), (1_700_000_000, 1_700_000_000))
            os.utime(root, (1_700_000_000, 1_700_000_000))
            owner = ["--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX", "--sort=name"]
            subprocess.run(["tar", "-c", "-f", path, "-C", folder, "--sparse", *owner, *flags, os.path.basename(root)], check=True)

    build.writes_file = True
    return build


IMAGES = {
    "links": [links_1, links_2, links_3],
    "whiteouts": [whiteouts_1, whiteouts_2, whiteouts_3],
    "opaque": [opaque_1, opaque_2, opaque_3],
    "attributes": [attributes_1, attributes_2],
    "devices": [devices_1, devices_2],
    "names": [names_pax, (names_gnu, GNU)],
    "huge": [huge_1, huge_2],
    "modes": [modes_1, modes_2],
    "symlinks": [symlinks_1, symlinks_2],
    "replace": [replace_1, replace_2, replace_3],
    "empty": [nothing, one_file, nothing, root_only],
    "duplicates": [duplicates_1],
    "owners": [owners_1, (owners_2, GNU)],
    # Not GNU's own sparse entries: umoci refuses them.
    "sparse": [sparse("--format=posix", "--sparse-version=0.1"), sparse("--format=posix", "--sparse-version=1.0")],
}
