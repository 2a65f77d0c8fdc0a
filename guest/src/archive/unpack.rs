//! From an archive to files, below one folder and nowhere else.
//!
//! Every folder on the way is opened without following links, so neither a link in the archive nor one that was there
//! before leads an entry out of the folder. Links themselves are made as the archive has them: where one leads is the
//! business of whoever follows it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use super::header::{Entry, Headers, Kind};
use super::{Error, Limits, place, shown, write, xattrs};

/// Bytes of content written at a time.
const BUFFER: usize = 256 << 10;
/// Longest path of an entry.
const PATH_LIMIT: usize = 4095;

/// Who owns what is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whoever unpacks.
    Caller,
    /// This user and group.
    Fixed(u32, u32),
    /// As the archive says.
    Archived,
}

/// How [`unpack`] unpacks.
#[derive(Clone, Debug)]
pub struct UnpackOptions {
    /// Owner of everything.
    pub owner: Owner,
    /// Keep the bits that lend the owner's rights (setuid, setgid), extended attributes and devices. Without it, such bits
    /// are taken off and devices are left out.
    pub privileged: bool,
    /// A folder may take the place of a file and a file that of a folder; otherwise that is an error.
    pub replace: bool,
    /// The one name, directly below the folder, that the archive may make or change; anything when absent.
    pub only: Option<Vec<u8>>,
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries that became files.
    pub entries: u64,
    /// Bytes of file contents.
    pub bytes: u64,
    /// Devices that were left out.
    pub left_out: u64,
}

/// Why an archive was not unpacked, or not wholly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] Error),
    /// The path of an entry or the target of a hard link is none that may be unpacked.
    #[error("entry \"{entry}\": {problem}")]
    Path {
        /// The entry.
        entry: String,
        /// What is wrong with its path.
        problem: &'static str,
    },
    /// A folder would take the place of something else.
    #[error("cannot put the folder \"{path}\" in place of what is there and is no folder")]
    FolderOverFile {
        /// Path below the folder.
        path: String,
    },
    /// Something else would take the place of a folder.
    #[error("cannot put the file \"{path}\" in place of the folder that is there")]
    FileOverFolder {
        /// Path below the folder.
        path: String,
    },
    /// A file cannot be made.
    #[error("cannot {action} \"{path}\": {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Path below the folder.
        path: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// Unpacks `archive` below the folder `into`, and reads it to its end. Entries come in the order of the archive; what was
/// there and is in the archive too is replaced, folders are joined. After an error what came before it stays.
///
/// # Errors
/// [`UnpackError`] naming the entry.
pub fn unpack(
    archive: impl Read,
    into: BorrowedFd<'_>,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let mut headers = Headers::new(archive, Limits::default());
    let mut unpacker = Unpacker {
        root: into,
        options,
        unpacked: Unpacked::default(),
        parent: None,
        open: Vec::new(),
        buffer: vec![0; BUFFER],
    };
    while let Some(entry) = headers.next()? {
        unpacker.add(&mut headers, &entry)?;
    }
    unpacker.close_folders(&[])?;
    headers.finish()?;
    Ok(unpacker.unpacked)
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    options: &'a UnpackOptions,
    unpacked: Unpacked,
    /// The folder of the entry before this one.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Folders that get their mode and time when all that is in them has come.
    open: Vec<(Vec<u8>, Entry)>,
    buffer: Vec<u8>,
}

/// Where an entry goes.
struct Spot<'a> {
    folder: BorrowedFd<'a>,
    name: &'a [u8],
    path: &'a [u8],
}

impl Spot<'_> {
    fn fail<E: Into<io::Error>>(&self, action: &'static str) -> impl FnOnce(E) -> UnpackError {
        let path = shown(self.path);
        move |error| UnpackError::File { action, path, source: error.into() }
    }

    /// What is there now.
    fn present(&self) -> Result<Option<u32>, UnpackError> {
        match fstatat(self.folder, self.name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_mode & libc::S_IFMT)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.fail("look at")(errno)),
        }
    }
}

impl Unpacker<'_> {
    fn add<R: Read>(&mut self, headers: &mut Headers<R>, entry: &Entry) -> Result<(), UnpackError> {
        let path = place::relative(&entry.path, PATH_LIMIT)
            .map_err(|problem| UnpackError::Path { entry: shown(&entry.path), problem })?;
        self.must_be_allowed(&path, entry)?;
        self.close_folders(&path)?;
        if path.is_empty() {
            // The folder itself is not the archive's to change.
            return match entry.kind {
                Kind::Directory => Ok(()),
                _ => Err(UnpackError::Path { entry: shown(&entry.path), problem: "it has no name" }),
            };
        }
        let (parent, name) = place::split(&path);
        let folder = self.folder(parent)?;
        let spot = Spot { folder: folder.as_fd(), name, path: &path };
        match entry.kind {
            Kind::Directory => self.add_folder(&spot, entry)?,
            Kind::CharDevice | Kind::BlockDevice if !self.options.privileged => self.unpacked.left_out += 1,
            _ => {
                self.make_room(&spot)?;
                self.make(headers, &spot, entry)?;
            }
        }
        self.unpacked.entries += 1;
        self.parent = Some((parent.to_vec(), folder));
        Ok(())
    }

    fn must_be_allowed(&self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let Some(only) = &self.options.only else { return Ok(()) };
        match path.split(|&byte| byte == b'/').next() {
            Some(first) if first == only.as_slice() => Ok(()),
            _ => {
                Err(UnpackError::Path { entry: shown(&entry.path), problem: "it is not what was asked for" })
            }
        }
    }

    /// The folder with this path, made where it is missing.
    fn folder(&mut self, path: &[u8]) -> Result<OwnedFd, UnpackError> {
        if let Some((known, fd)) = self.parent.take()
            && known == path
        {
            return Ok(fd);
        }
        let mut fd = self.root.try_clone_to_owned().map_err(|source| UnpackError::File {
            action: "open",
            path: ".".into(),
            source,
        })?;
        let mut end = 0;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            end += usize::from(end > 0) + name.len();
            let spot = Spot { folder: fd.as_fd(), name, path: &path[..end] };
            let next = match open_folder(&spot) {
                Err(Errno::ENOENT) => {
                    mkdirat(&fd, name, Mode::from_bits_truncate(0o755))
                        .map_err(spot.fail("make the folder"))?;
                    if let Owner::Fixed(uid, gid) = self.options.owner {
                        own(&spot, (uid, gid))?;
                    }
                    open_folder(&spot)
                }
                other => other,
            };
            // A link or a file on the way says ENOTDIR.
            fd = next.map_err(spot.fail("open the folder"))?;
        }
        Ok(fd)
    }

    fn add_folder(&mut self, spot: &Spot<'_>, entry: &Entry) -> Result<(), UnpackError> {
        match spot.present()? {
            Some(libc::S_IFDIR) => {}
            Some(_) if !self.options.replace => {
                return Err(UnpackError::FolderOverFile { path: shown(spot.path) });
            }
            present => {
                if present.is_some() {
                    unlinkat(spot.folder, spot.name, UnlinkatFlags::NoRemoveDir)
                        .map_err(spot.fail("replace"))?;
                }
                mkdirat(spot.folder, spot.name, Mode::S_IRWXU).map_err(spot.fail("make the folder"))?;
            }
        }
        let mut entry = entry.clone();
        self.set_xattrs(spot, &entry)?;
        entry.xattrs = Vec::new();
        self.open.push((spot.path.to_vec(), entry));
        Ok(())
    }

    /// Gives the folders that `path` is not in their owners, modes and times.
    fn close_folders(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        while let Some((folder, _)) = self.open.last() {
            if !path.is_empty() && place::is_below(path, folder) {
                return Ok(());
            }
            let Some((path, entry)) = self.open.pop() else { break };
            let (parent, name) = place::split(&path);
            let fd = self.folder(parent)?;
            let spot = Spot { folder: fd.as_fd(), name, path: &path };
            // It may be something else by now: then that was described by its own entry.
            if spot.present()? == Some(libc::S_IFDIR) {
                self.describe(&spot, &entry)?;
            }
            self.parent = Some((parent.to_vec(), fd));
        }
        Ok(())
    }

    /// Takes away what is in the way of something that is no folder.
    fn make_room(&self, spot: &Spot<'_>) -> Result<(), UnpackError> {
        match spot.present()? {
            None => Ok(()),
            Some(libc::S_IFDIR) if !self.options.replace => {
                Err(UnpackError::FileOverFolder { path: shown(spot.path) })
            }
            Some(libc::S_IFDIR) => {
                place::remove_folder(spot.folder, spot.name).map_err(spot.fail("replace the folder"))
            }
            Some(_) => {
                unlinkat(spot.folder, spot.name, UnlinkatFlags::NoRemoveDir).map_err(spot.fail("replace"))
            }
        }
    }

    fn make<R: Read>(
        &mut self,
        headers: &mut Headers<R>,
        spot: &Spot<'_>,
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let device = libc::makedev(write::major(entry.device), write::minor(entry.device));
        let node = |kind| mknodat(spot.folder, spot.name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device);
        match entry.kind {
            Kind::Symlink => {
                symlinkat(entry.link.as_slice(), spot.folder, spot.name)
                    .map_err(spot.fail("make the symlink"))?;
                return self.describe(spot, entry);
            }
            Kind::HardLink => return self.link(spot, entry),
            Kind::Fifo => node(SFlag::S_IFIFO).map_err(spot.fail("make the pipe"))?,
            Kind::CharDevice => node(SFlag::S_IFCHR).map_err(spot.fail("make the device"))?,
            Kind::BlockDevice => node(SFlag::S_IFBLK).map_err(spot.fail("make the device"))?,
            Kind::File | Kind::Directory => {
                let written = self.write(headers, spot, entry);
                if written.is_err() {
                    // Half a file is worse than none; the first error is the one to tell.
                    let _ = unlinkat(spot.folder, spot.name, UnlinkatFlags::NoRemoveDir);
                }
                written?;
            }
        }
        self.set_xattrs(spot, entry)?;
        self.describe(spot, entry)
    }

    fn write<R: Read>(
        &mut self,
        headers: &mut Headers<R>,
        spot: &Spot<'_>,
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(spot.folder, spot.name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let file = File::from(file.map_err(spot.fail("make"))?);
        let size = entry.size();
        let mut body = headers.body(entry);
        loop {
            body.skip_holes(1);
            let (position, left) = (body.position(), size - body.position());
            if left == 0 {
                break;
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match body.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(body.truncated().into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(body.failed(error).into()),
            };
            file.write_all_at(&self.buffer[..count], position).map_err(spot.fail("write"))?;
            self.unpacked.bytes += count as u64;
        }
        if entry.sparse.is_some() {
            file.set_len(size).map_err(spot.fail("write"))?;
        }
        Ok(())
    }

    /// A further name of a file that is there already.
    fn link(&mut self, spot: &Spot<'_>, entry: &Entry) -> Result<(), UnpackError> {
        let refuse = |problem| UnpackError::Path { entry: shown(&entry.path), problem };
        let target = place::relative(&entry.link, PATH_LIMIT).map_err(refuse)?;
        self.must_be_allowed(&target, entry)?;
        if target.is_empty() {
            return Err(refuse("it is a link to nothing"));
        }
        let (parent, name) = place::split(&target);
        let folder = self.folder(parent)?;
        linkat(&folder, name, spot.folder, spot.name, AtFlags::empty())
            .map_err(spot.fail("make the hard link"))
    }

    fn set_xattrs(&self, spot: &Spot<'_>, entry: &Entry) -> Result<(), UnpackError> {
        if !self.options.privileged || entry.xattrs.is_empty() {
            return Ok(());
        }
        let path = xattrs::path_of(Some(spot.folder), spot.name).map_err(spot.fail("name"))?;
        for xattr in entry.xattrs.iter().filter(|xattr| !xattr.name.starts_with(b"trusted.overlay.")) {
            match xattrs::set(&path, xattr) {
                // A file system without such attributes, or a user without the right to set them: as `cp -a` does it.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM)) => {}
                other => other.map_err(spot.fail("set the attributes of"))?,
            }
        }
        Ok(())
    }

    /// Owner, mode and time, in the order in which none undoes another.
    fn describe(&self, spot: &Spot<'_>, entry: &Entry) -> Result<(), UnpackError> {
        match self.options.owner {
            Owner::Caller => {}
            Owner::Fixed(uid, gid) => own(spot, (uid, gid))?,
            Owner::Archived => own(spot, (entry.uid, entry.gid))?,
        }
        if entry.kind != Kind::Symlink {
            let kept = if self.options.privileged { 0o7777 } else { 0o1777 };
            let mode = Mode::from_bits_truncate(libc::mode_t::from(entry.mode) & kept);
            fchmodat(spot.folder, spot.name, mode, FchmodatFlags::FollowSymlink)
                .map_err(spot.fail("set the mode of"))?;
        }
        let (seconds, nanoseconds) = entry.mtime;
        let time = TimeSpec::new(seconds, nanoseconds.into());
        utimensat(spot.folder, spot.name, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(spot.fail("set the time of"))
    }
}

fn own(spot: &Spot<'_>, (uid, gid): (u32, u32)) -> Result<(), UnpackError> {
    fchownat(spot.folder, spot.name, Some(uid.into()), Some(gid.into()), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(spot.fail("set the owner of"))
}

fn open_folder(spot: &Spot<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_PATH;
    openat(spot.folder, spot.name, flags, Mode::empty())
}
