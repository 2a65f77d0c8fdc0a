//! From a path to an archive.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::{Whence, lseek64};

use super::header::{Entry, Kind};
use super::sparse::{Map, Piece};
use super::{device_number, shown, write, xattrs};

/// Bytes that go out at a time.
const BUFFER: usize = 256 << 10;
/// A file in more pieces is written whole: its map would be larger than what its holes save.
const MAX_PIECES: usize = 4096;
/// Most bytes of a file whose size is known only when it was read.
const GENERATED_LIMIT: u64 = 64 << 20;

/// File systems whose files the kernel makes up, by the magic numbers of `linux/magic.h`. Nobody who copies `/` wants them.
const GENERATED: [i64; 12] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup2
    0x0027_e0eb, // cgroup
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x6165_676c, // pstore
];

/// How [`pack`] packs.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Name of the path in the archive; `.` when empty.
    pub name: Vec<u8>,
    /// Devices (`st_dev`) that are not entered from others.
    pub leave_out: Vec<u64>,
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries written.
    pub entries: u64,
    /// Sockets and other things that archives cannot hold.
    pub left_out: u64,
}

/// A path cannot be packed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct PackError {
    /// The path, as shown to people.
    pub path: String,
    /// What the kernel says.
    #[source]
    pub source: io::Error,
}

/// A folder being gone through.
struct Folder {
    entries: OwningIter,
    fd: File,
    /// Path in the archive.
    path: Vec<u8>,
    device: u64,
}

struct Packer<W: Write> {
    out: BufWriter<W>,
    options: PackOptions,
    packed: Packed,
    /// Files with more than one name, and the first of them.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

/// Writes an archive of `source` to `out`: a file, a folder with all that is in it, or a symlink itself. Parents of the path
/// may be links. Owners, modes, times to the nanosecond, extended attributes, hard links, holes and devices are kept.
///
/// A file that changes meanwhile is archived with the size it had when it was opened; one that vanishes is left out. Of file
/// systems that the kernel makes up (`/proc`), only the mount point is taken when they are met on the way.
///
/// # Errors
/// [`PackError`] naming the path that cannot be read, or `source` itself when it is `out` that fails.
pub fn pack(source: &Path, options: PackOptions, out: impl Write) -> Result<Packed, PackError> {
    let mut packer = Packer {
        out: BufWriter::with_capacity(BUFFER, out),
        options,
        packed: Packed::default(),
        linked: HashMap::new(),
    };
    let fail = |source_error| PackError { path: shown(source.as_os_str().as_bytes()), source: source_error };
    let name = match packer.options.name.as_slice() {
        b"" => b".".to_vec(),
        name => name.to_vec(),
    };
    let mut folders = Vec::new();
    let root = packer.add(None, source.as_os_str(), name).map_err(fail)?;
    folders.extend(root);
    while let Some(folder) = folders.last_mut() {
        let Some(child) = folder.entries.next() else {
            folders.pop();
            continue;
        };
        let at = |path: &[u8], source: Errno| PackError { path: shown(path), source: source.into() };
        let child = child.map_err(|errno| at(&folder.path, errno))?;
        let name = child.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let path = [&folder.path[..], b"/", name].concat();
        let place = Some((folder.fd.as_fd(), folder.device));
        match packer.add(place, OsStr::from_bytes(name), path.clone()) {
            Ok(None) => {}
            Ok(Some(inner)) => folders.push(inner),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PackError { path: shown(&path), source }),
        }
    }
    write::put_end(&mut packer.out).and_then(|()| packer.out.flush()).map_err(fail)?;
    Ok(packer.packed)
}

impl<W: Write> Packer<W> {
    /// Adds what is called `name` in a folder (or anywhere), under `path`. The folder to go through next, if it is one.
    fn add(
        &mut self,
        place: Option<(BorrowedFd<'_>, u64)>,
        name: &OsStr,
        path: Vec<u8>,
    ) -> io::Result<Option<Folder>> {
        let folder = place.map(|(fd, _)| fd);
        let stat = fstatat(folder.unwrap_or(AT_FDCWD), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let open = |flags: OFlag| {
            let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
            openat(folder.unwrap_or(AT_FDCWD), name, flags, Mode::empty()).map(File::from)
        };
        let xattr_path = xattrs::path_of(folder, name.as_bytes())?;
        let mut entry = describe(&stat, path);
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => {
                let Some(first) = self.first_name(&stat, &entry.path) else {
                    entry.xattrs = xattrs::read(&xattr_path)?;
                    return self.add_file(open(OFlag::O_RDONLY)?, entry).map(|()| None);
                };
                (entry.kind, entry.link) = (Kind::HardLink, first);
            }
            libc::S_IFDIR => {
                let fd = open(OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                entry.kind = Kind::Directory;
                entry.xattrs = xattrs::read(&xattr_path)?;
                let path = entry.path.clone();
                entry.path.push(b'/');
                self.put(&entry)?;
                let crossed = place.is_some_and(|(_, device)| device != stat.st_dev);
                if crossed && (self.options.leave_out.contains(&stat.st_dev) || generated(&fd)) {
                    return Ok(None);
                }
                let entries = Dir::from_fd(fd.try_clone()?.into())?.into_iter();
                return Ok(Some(Folder { entries, fd, path, device: stat.st_dev }));
            }
            libc::S_IFLNK => {
                entry.kind = Kind::Symlink;
                entry.link = readlinkat(folder.unwrap_or(AT_FDCWD), name).map(OsString::into_vec)?;
            }
            libc::S_IFCHR => entry.kind = Kind::CharDevice,
            libc::S_IFBLK => entry.kind = Kind::BlockDevice,
            libc::S_IFIFO => entry.kind = Kind::Fifo,
            _ => {
                self.packed.left_out += 1;
                return Ok(None);
            }
        }
        self.put(&entry)?;
        Ok(None)
    }

    /// The name under which a file with several names is in the archive already.
    fn first_name(&mut self, stat: &FileStat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let known = self.linked.get(&(stat.st_dev, stat.st_ino)).cloned();
        if known.is_none() {
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        known
    }

    fn put(&mut self, entry: &Entry) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(2048);
        write::put_entry(&mut bytes, entry);
        self.packed.entries += 1;
        self.out.write_all(&bytes)
    }

    /// Adds a regular file: exactly as many bytes as are announced, whatever becomes of the file meanwhile.
    fn add_file(&mut self, mut file: File, mut entry: Entry) -> io::Result<()> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        entry.stored = metadata.size();
        if metadata.blocks() == 0 && generated(&file) {
            return self.add_generated(file, entry);
        }
        entry.sparse = sparse(&file, &metadata)?;
        let whole = [Piece { offset: 0, length: entry.stored }];
        let pieces = entry.sparse.as_ref().map_or(&whole[..], |map| &map.pieces);
        entry.stored = pieces.iter().map(|piece| piece.length).sum();
        self.put(&entry)?;
        for piece in entry.sparse.as_ref().map_or(&whole[..], |map| &map.pieces) {
            file.seek(SeekFrom::Start(piece.offset))?;
            let copied = io::copy(&mut (&file).take(piece.length), &mut self.out)?;
            io::copy(&mut io::repeat(0).take(piece.length - copied), &mut self.out)?;
        }
        self.out.write_all(&[0; 512][..write::padding(entry.stored)])
    }

    /// Adds a file of the kernel's, which says its size only by being read.
    fn add_generated(&mut self, file: File, mut entry: Entry) -> io::Result<()> {
        let mut content = Vec::new();
        file.take(GENERATED_LIMIT).read_to_end(&mut content)?;
        entry.stored = content.len() as u64;
        self.put(&entry)?;
        self.out.write_all(&content)?;
        self.out.write_all(&[0; 512][..write::padding(entry.stored)])
    }
}

fn describe(stat: &FileStat, path: Vec<u8>) -> Entry {
    Entry {
        path,
        kind: Kind::File,
        link: Vec::new(),
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        device: device_number(libc::major(stat.st_rdev), libc::minor(stat.st_rdev)).unwrap_or(0),
        xattrs: Vec::new(),
        stored: 0,
        sparse: None,
    }
}

fn generated(file: &File) -> bool {
    nix::sys::statfs::fstatfs(file).is_ok_and(|fs| GENERATED.contains(&fs.filesystem_type().0))
}

/// Where the data of a file with holes are.
fn sparse(file: &File, metadata: &std::fs::Metadata) -> io::Result<Option<Map>> {
    let size = metadata.size();
    if metadata.blocks().saturating_mul(512) >= size {
        return Ok(None);
    }
    let seek = |from: u64, whence| match lseek64(file, from.cast_signed(), whence) {
        Ok(found) => Ok(Some(found.unsigned_abs().min(size))),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(io::Error::from(errno)),
    };
    let mut pieces = Vec::new();
    let mut from = 0;
    while from < size {
        let Some(start) = seek(from, Whence::SeekData)? else { break };
        let end = seek(start, Whence::SeekHole)?.unwrap_or(size);
        if end > start {
            pieces.push(Piece { offset: start, length: end - start });
        }
        if pieces.len() > MAX_PIECES || end <= from {
            return Ok(None);
        }
        from = end;
    }
    let whole = matches!(pieces.as_slice(), [piece] if piece.length == size);
    Ok((!whole).then_some(Map { size, pieces }))
}
