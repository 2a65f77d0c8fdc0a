"""What a program may expect of a file system, tried in the folder given as argument. Prints what fails, then how many checks ran."""
import errno, fcntl, mmap, os, socket, stat, sys, time

os.chdir(sys.argv[1])
checks = 0


def check(what, holds):
    global checks
    checks += 1
    if not holds:
        print("FAILED:", what)


def refused(what, number, action, *arguments):
    try:
        action(*arguments)
        check(f"{what}: nothing was refused", False)
    except OSError as error:
        check(f"{what}: {error}, not {errno.errorcode[number]}", error.errno == number)


def write(name, text=b"x"):
    with open(name, "wb") as file:
        file.write(text)


def read(name):
    with open(name, "rb") as file:
        return file.read()


def mode(name):
    return stat.S_IMODE(os.lstat(name).st_mode)


def modes():
    os.umask(0o022)
    os.close(os.open("m", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    check("umask counts", mode("m") == 0o644)
    for bits in (0o000, 0o400, 0o755, 0o1777, 0o777):
        os.chmod("m", bits)
        check(f"mode {bits:o}", mode("m") == bits)
    os.mkdir("md", 0o777)
    check("umask counts for folders", mode("md") == 0o755)
    os.chmod("md", 0o1755)
    check("the sticky bit stays", mode("md") == 0o1755)
    write("run", b"#!/bin/sh\nexit 7\n")
    os.chmod("run", 0o755)
    check("a script runs", os.waitstatus_to_exitcode(os.system("./run")) == 7)
    os.chmod("run", 0o644)
    check("one without the bit does not", os.waitstatus_to_exitcode(os.system("./run 2>/dev/null")) == 126)
    refused("set-user-id", errno.EPERM, os.chmod, "m", 0o4755)
    refused("set-group-id", errno.EPERM, os.chmod, "m", 0o2755)
    os.chown("m", os.getuid(), os.getgid())
    refused("giving away", errno.EPERM, os.chown, "m", 12345, 12345)
    refused("a device", errno.EPERM, os.mknod, "dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))


def names():
    write("n")
    refused("exclusive creation", errno.EEXIST, os.open, "n", os.O_CREAT | os.O_EXCL)
    refused("a file as folder", errno.ENOTDIR, os.open, "n/x", os.O_RDONLY)
    refused("a name too long", errno.ENAMETOOLONG, write, "n" * 256)
    write("n" * 255)
    for odd in ("with space", "new\nline", "tab\t", "-dash", "quote'\"", "ünï", b"not\xffutf8", "a:b", "\\"):
        write(odd, b"odd")
        check(f"the name {odd!r}", read(odd) == b"odd" and os.fsencode(odd) in os.listdir(b"."))
    os.mkdir("deep")
    path = "deep/" + "/".join("d" * 50 for _ in range(20))
    os.makedirs(path)
    write(path + "/f")
    check("a deep path", read(path + "/f") == b"x")
    os.mkdir("many")
    for number in range(1500):
        os.close(os.open(f"many/{number}", os.O_CREAT | os.O_WRONLY, 0o644))
    check("a large folder", sorted(map(int, os.listdir("many"))) == list(range(1500)))
    refused("removing a full folder", errno.ENOTEMPTY, os.rmdir, "many")


def links():
    write("l1", b"one")
    os.link("l1", "l2")
    check("two names", os.stat("l1").st_nlink == 2 and os.stat("l1").st_ino == os.stat("l2").st_ino)
    with open("l2", "ab") as file:
        file.write(b"+")
    check("one file", read("l1") == b"one+")
    os.unlink("l1")
    check("the other name stays", read("l2") == b"one+" and os.stat("l2").st_nlink == 1)
    refused("a second name of a folder", errno.EPERM, os.link, ".", "dot")
    for target in ("l2", "/etc/hosts", "../../../../etc/hosts", "nowhere", "x" * 4000):
        os.symlink(target, "s")
        check(f"the link to {target[:20]}", os.readlink("s") == target and os.lstat("s").st_size == len(target))
        os.unlink("s")
    os.symlink("/etc/hosts", "hosts")
    check("a link leads into the sandbox", read("hosts") == open("/etc/hosts", "rb").read())
    os.symlink("loop", "loop")
    refused("a loop", errno.ELOOP, open, "loop")


def renames():
    write("r1", b"1")
    write("r2", b"2")
    os.rename("r1", "r2")
    check("replaced", read("r2") == b"1" and not os.path.exists("r1"))
    os.makedirs("ra/sub")
    os.mkdir("rb")
    write("ra/sub/f", b"f")
    os.rename("ra/sub", "rb/sub")
    check("moved to another folder", read("rb/sub/f") == b"f" and os.listdir("ra") == [])
    refused("into itself", errno.EINVAL, os.rename, "rb", "rb/sub/rb")
    refused("over a full folder", errno.ENOTEMPTY, os.rename, "ra", "rb")
    refused("a folder over a file", errno.ENOTDIR, os.rename, "ra", "r2")
    refused("a file over a folder", errno.EISDIR, os.rename, "r2", "ra")
    with open("r2", "rb") as file:
        os.rename("r2", "r3")
        check("open across a rename", file.read() == b"1")


def contents():
    write("c", b"0123456789")
    with open("c", "r+b", buffering=0) as file:
        file.truncate(4)
        check("shorter", read("c") == b"0123")
        file.truncate(8)
        check("longer is zeros", read("c") == b"0123\0\0\0\0")
        file.seek(1 << 20)
        file.write(b"end")
        check("a hole", os.fstat(file.fileno()).st_size == (1 << 20) + 3)
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
        check("preallocation", os.posix_fallocate(file.fileno(), 0, 2 << 20) is None and os.stat("c").st_size == 2 << 20)
    os.truncate("c", 3)
    check("by name", read("c") == b"012")
    first = os.open("c", os.O_WRONLY | os.O_APPEND)
    second = os.open("c", os.O_WRONLY | os.O_APPEND)
    for number in range(10):
        os.write(first if number % 2 else second, str(number).encode())
    check("appending from two sides", read("c") == b"0120123456789")
    check("reading what is open for writing only", raises(os.read, first, 1) == errno.EBADF)
    big = os.urandom(3 << 20)
    write("big", big)
    check("three megabytes", read("big") == big)
    fd = os.open("big", os.O_RDWR)
    check("in the middle", os.pread(fd, 100, 1 << 20) == big[1 << 20 : (1 << 20) + 100])
    os.pwrite(fd, b"here", 1 << 20)
    check("written in the middle", read("big")[1 << 20 : (1 << 20) + 4] == b"here")
    os.close(fd)
    write("gone", b"still here")
    with open("gone", "r+b", buffering=0) as file:
        os.unlink("gone")
        check("no name, contents", file.read() == b"still here" and os.fstat(file.fileno()).st_nlink == 0)
        file.write(b"!")
        file.truncate(3)
        os.fchmod(file.fileno(), 0o600)
        check("no name, still written", os.fstat(file.fileno()).st_size == 3)
    os.mkdir("inside")
    handle = os.open("inside", os.O_RDONLY)
    os.rmdir("inside")
    check("an open folder without a name", os.listdir(handle) == [])


def raises(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return error.errno
    return 0


def mapping():
    write("map", b"." * 8192)
    with open("map", "r+b") as file:
        with mmap.mmap(file.fileno(), 8192) as memory:
            memory[4096:4100] = b"mmap"
            memory.flush()
            check("a mapped file is written", read("map")[4096:4100] == b"mmap")
            os.pwrite(file.fileno(), b"pwrite", 0)
            check("and sees what is written", memory[0:6] == b"pwrite")


def times():
    write("t")
    os.utime("t", ns=(1_000_000_001, 2_000_000_002))
    found = os.stat("t")
    check("times are set to the nanosecond", (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_001, 2_000_000_002))
    with open("t", "ab") as file:
        file.write(b"more")
    check("writing changes the time", abs(os.stat("t").st_mtime - time.time()) < 3600)
    os.symlink("t", "tl")
    os.utime("tl", ns=(5, 6), follow_symlinks=False)
    check("the time of a link", os.lstat("tl").st_mtime_ns == 6)


def locks():
    write("lock")
    first, second = os.open("lock", os.O_RDWR), os.open("lock", os.O_RDWR)
    fcntl.flock(first, fcntl.LOCK_EX)
    check("flock excludes", raises(fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB) == errno.EWOULDBLOCK)
    fcntl.flock(first, fcntl.LOCK_UN)
    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(first, fcntl.LOCK_EX, 10, 0)
    child = os.fork()
    if child == 0:
        fd = os.open("lock", os.O_RDWR)
        taken = raises(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0) in (errno.EAGAIN, errno.EACCES)
        free = raises(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 10) == 0
        os._exit(0 if taken and free else 1)
    check("record locks exclude", os.waitpid(child, 0)[1] == 0)


def attributes():
    write("x")
    os.setxattr("x", "user.colour", b"blue")
    check("an attribute", os.getxattr("x", "user.colour") == b"blue" and "user.colour" in os.listxattr("x"))
    os.removexattr("x", "user.colour")
    refused("a removed attribute", errno.ENODATA, os.getxattr, "x", "user.colour")
    refused("a trusted attribute", errno.EPERM, os.setxattr, "x", "trusted.x", b"1")
    refused("a capability", errno.EPERM, os.setxattr, "x", "security.capability", b"\1\0\0\2" + b"\0" * 16)


def specials():
    os.mkfifo("fifo")
    if os.fork() == 0:
        with open("fifo", "wb") as pipe:
            pipe.write(b"through")
        os._exit(0)
    check("a pipe with a name", read("fifo") == b"through")
    os.wait()
    server = socket.socket(socket.AF_UNIX)
    server.bind("sock")
    server.listen(1)
    client = socket.socket(socket.AF_UNIX)
    client.connect("sock")
    client.send(b"hello")
    check("a socket with a name", server.accept()[0].recv(5) == b"hello")
    space = os.statvfs(".")
    check("free space", space.f_bfree > 0 and space.f_bsize > 0)


for part in (modes, names, links, renames, contents, mapping, times, locks, attributes, specials):
    place = part.__name__
    os.mkdir(place)
    os.chdir(place)
    part()
    os.chdir("..")
print(checks, "checks")
