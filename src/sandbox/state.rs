//! The folder of a sandbox that outlives its runs: its disk, what the disk belongs to, and who is using it.
//!
//! The lock is an open file description lock (fcntl(2)) on a byte far behind the end of the disk file. The VMM inherits that very
//! descriptor, so the lock lasts until the last process that could write the disk is gone, even when the caller is killed first.
//! Unlike that of flock(2) it can be asked about without being taken.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::image::{self, Reference};
use crate::{disk, paths};

/// How long a lock may outlive its holder: the VMM dies with its caller, but not in the same instant.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// What the disk was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The image's name when the disk was made.
    pub image: String,
    /// The digest of its manifest: the disk's contents only make sense on top of it.
    pub digest: String,
}

impl Stamp {
    /// The image, by its digest.
    ///
    /// # Errors
    /// [`Error::Image`] when this is not a name and a digest.
    pub fn reference(&self) -> Result<Reference, Error> {
        let name: Reference = self.image.parse().map_err(image::Error::from)?;
        let pinned = format!("{}/{}@{}", name.registry(), name.repository(), self.digest);
        Ok(pinned.parse().map_err(image::Error::from)?)
    }
}

/// The process that runs a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id on the host.
    pub pid: u32,
    /// The name of the program, as `ps` shows it.
    pub command: String,
}

impl Holder {
    /// Whether the process runs. A number that another process has got since counts as that.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_alive(self.pid)
    }
}

/// Whether a kept sandbox runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// No disk yet: it has never run.
    New,
    /// It has a disk and nobody uses it.
    Stopped,
    /// Somebody runs it.
    Running(Option<Holder>),
}

/// The disk of a kept sandbox, locked for this process and those that inherit [`KeptDisk::file`].
#[derive(Debug)]
pub struct KeptDisk {
    /// The locked disk.
    pub file: File,
    dir: PathBuf,
}

fn disk_path(dir: &Path) -> PathBuf {
    dir.join("disk.ext4")
}

fn io_error(path: PathBuf) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::State { path, source }
}

impl KeptDisk {
    /// Opens or makes the disk in `dir` and locks it.
    ///
    /// # Errors
    /// [`Error::InUse`] when another run holds it.
    pub fn lock(name: &str, dir: &Path, size: Option<u64>) -> Result<Self, Error> {
        paths::create_private(dir).map_err(io_error(dir.to_owned()))?;
        let mut file = disk::open_or_create(&disk_path(dir), size)?;
        let deadline = Instant::now() + ORPHAN_GRACE;
        loop {
            match try_lock(&file) {
                Ok(()) if is_at(&file, &disk_path(dir)) => break,
                // Somebody recreated the disk between our open and our lock.
                Ok(()) => file = disk::open_or_create(&disk_path(dir), size)?,
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    let holder = read_holder(dir);
                    let orphaned = holder.as_ref().is_some_and(|holder| !is_alive(holder.pid));
                    if !orphaned || Instant::now() > deadline {
                        return Err(Error::InUse { name: name.to_owned(), holder });
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(errno) => return Err(io_error(disk_path(dir))(errno.into())),
            }
        }
        let this = Self { file, dir: dir.to_owned() };
        this.write("holder.json", &Holder { pid: std::process::id(), command: own_name() })?;
        Ok(this)
    }

    /// What the disk was made for; `None` for a new one.
    ///
    /// # Errors
    /// The stamp cannot be read or is not one.
    pub fn stamp(&self) -> Result<Option<Stamp>, Error> {
        read_stamp(&self.dir)
    }

    /// Records what the disk is for.
    ///
    /// # Errors
    /// The stamp cannot be written.
    pub fn set_stamp(&self, stamp: &Stamp) -> Result<(), Error> {
        self.write("stamp.json", stamp)
    }

    /// Throws the contents away and starts from an empty disk of `size` bytes, still locked.
    ///
    /// # Errors
    /// The new disk cannot be made.
    pub fn recreate(self, name: &str, size: Option<u64>) -> Result<Self, Error> {
        let size = match size {
            Some(size) => size,
            None => self.file.metadata().map_err(io_error(disk_path(&self.dir)))?.len(),
        };
        fs::remove_file(disk_path(&self.dir)).map_err(io_error(disk_path(&self.dir)))?;
        Self::lock(name, &self.dir, Some(size))
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let path = self.dir.join(name);
        let partial = self.dir.join(format!("{name}.tmp"));
        let bytes = serde_json::to_vec(value).map_err(io::Error::from);
        let mut private = File::options();
        private.write(true).create(true).truncate(true).mode(0o600);
        let written = bytes.and_then(|bytes| private.open(&partial)?.write_all(&bytes));
        written.and_then(|()| fs::rename(&partial, &path)).map_err(io_error(path))
    }
}

/// Whether the sandbox kept in `dir` runs.
///
/// # Errors
/// The disk exists but cannot be looked at.
pub fn status(dir: &Path) -> Result<Status, Error> {
    let path = disk_path(dir);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Status::New),
        Err(error) => return Err(io_error(path)(error)),
    };
    match is_locked(&file) {
        Ok(false) => Ok(Status::Stopped),
        Ok(true) => Ok(Status::Running(read_holder(dir))),
        Err(errno) => Err(io_error(path)(errno.into())),
    }
}

/// Bytes the disk in `dir` takes on the host; 0 where there is none.
#[must_use]
pub fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(disk_path(dir)).map_or(0, |data| data.blocks() * 512)
}

/// What the disk in `dir` was made for.
///
/// # Errors
/// The stamp cannot be read or is not one.
pub fn read_stamp(dir: &Path) -> Result<Option<Stamp>, Error> {
    let path = dir.join("stamp.json");
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| io_error(path)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// The process that last ran the sandbox in `dir`.
pub(super) fn read_holder(dir: &Path) -> Option<Holder> {
    serde_json::from_slice(&fs::read(dir.join("holder.json")).ok()?).ok()
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |data: io::Result<fs::Metadata>| data.ok().map(|data| (data.dev(), data.ino()));
    identity(file.metadata()).is_some_and(|ours| Some(ours) == identity(fs::metadata(path)))
}

/// The supervisor of the sandbox in `dir` that was last there, if it was not one that belongs to a caller.
#[must_use]
pub fn supervisor_of(dir: &Path) -> Option<Holder> {
    read_holder(dir).filter(|holder| super::supervisor::NAME.to_str() == Ok(holder.command.as_str()))
}

/// Whether a process runs. One that was killed and not yet waited for does not, though it still has its number; its
/// other threads may hold the lock for another moment.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn own_name() -> String {
    fs::read_to_string("/proc/self/comm").map_or_else(|_| "msb".to_owned(), |name| name.trim().to_owned())
}

/// The byte that is locked: no disk is so large, and whatever else locks disks (QEMU does) locks others.
const LOCKED_BYTE: libc::off_t = 1 << 62;

fn byte_lock(kind: libc::c_int) -> libc::flock {
    // Both constants are small.
    let (kind, whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    libc::flock { l_type: kind, l_whence: whence, l_start: LOCKED_BYTE, l_len: 1, l_pid: 0 }
}

fn try_lock(file: &File) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&byte_lock(libc::F_WRLCK))).map(drop)
}

fn is_locked(file: &File) -> Result<bool, Errno> {
    let mut lock = byte_lock(libc::F_RDLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_run_at_a_time_and_the_second_learns_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(status(dir.path()).unwrap(), Status::New);
        let first = KeptDisk::lock("app", dir.path(), None).unwrap();
        let Err(Error::InUse { holder: Some(holder), .. }) = KeptDisk::lock("app", dir.path(), None) else {
            panic!("the second run must be refused");
        };
        assert_eq!(holder.pid, std::process::id());
        assert!(matches!(status(dir.path()).unwrap(), Status::Running(Some(_))));
        drop(first);
        assert_eq!(status(dir.path()).unwrap(), Status::Stopped);
        KeptDisk::lock("app", dir.path(), None).unwrap();
    }

    #[test]
    fn the_lock_lasts_as_long_as_an_heir_of_the_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let first = KeptDisk::lock("app", dir.path(), None).unwrap();
        let heir = first.file.try_clone().unwrap();
        drop(first);
        assert!(matches!(status(dir.path()).unwrap(), Status::Running(_)));
        drop(heir);
        assert_eq!(status(dir.path()).unwrap(), Status::Stopped);
    }

    #[test]
    fn a_killed_process_does_not_run_even_before_it_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        assert!(is_alive(child.id()));
        child.kill().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_alive(child.id()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!is_alive(child.id()));
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
    }

    #[test]
    fn a_stamp_is_read_back_and_recreating_keeps_the_size() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptDisk::lock("app", dir.path(), Some(1 << 30)).unwrap();
        assert_eq!(kept.stamp().unwrap(), None);
        let stamp = Stamp { image: "busybox".into(), digest: "sha256:0".into() };
        kept.set_stamp(&stamp).unwrap();
        assert_eq!(read_stamp(dir.path()).unwrap(), Some(stamp));
        let kept = kept.recreate("app", None).unwrap();
        assert_eq!(kept.file.metadata().unwrap().len(), 1 << 30);
        assert!(matches!(status(dir.path()).unwrap(), Status::Running(_)));
    }
}
