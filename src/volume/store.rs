//! Named volumes: each a folder with an ext4 disk, written by one sandbox at a time.
//!
//! The lock is a `flock` on the disk, held by the very descriptor the VMM inherits, exclusive for a sandbox that writes and
//! shared for those that only read. So it lasts until the last process that could write is gone.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::paths::{self, Paths};
use crate::{disk, manifest};

/// How long a lock may outlive its holder: the VMM dies with its caller, but not in the same instant.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);
const DISK: &str = "disk.ext4";
const USER: &str = "user.json";

/// The named volumes of a user.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// A named volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// The folder it is kept in.
    pub folder: PathBuf,
    /// The most it holds, bytes.
    pub size: u64,
    /// Bytes it takes on the host.
    pub used: u64,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// Who uses it now.
    pub users: Vec<User>,
}

/// A process that uses a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Process id on the host.
    pub pid: u32,
    /// The sandbox, where known.
    pub sandbox: Option<String>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sandbox {
            Some(sandbox) => write!(f, "sandbox `{sandbox}` (process {})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

impl Store {
    /// The volumes kept under `paths`.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self { folder: paths.data.join("volumes") }
    }

    /// Makes volume `name` for `size` bytes; only what is written takes space.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Name`], or the disk's error.
    pub fn create(&self, name: &str, size: Option<u64>) -> Result<(), Error> {
        let folder = self.folder_of(name)?;
        paths::create_private(&folder).map_err(failed(&folder))?;
        let path = folder.join(DISK);
        if path.exists() {
            return Err(Error::Exists { name: name.to_owned() });
        }
        disk::open_or_create(&path, size)?;
        Ok(())
    }

    /// The volumes by name.
    ///
    /// # Errors
    /// The folder exists but cannot be listed.
    pub fn list(&self) -> Result<Vec<Named>, Error> {
        self.names()?.iter().filter_map(|name| self.get(name).transpose()).collect()
    }

    /// The names, sorted.
    ///
    /// # Errors
    /// The folder exists but cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.folder)(error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| self.folder.join(name).join(DISK).exists())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Volume `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Name`].
    pub fn inspect(&self, name: &str) -> Result<Named, Error> {
        match self.get(name)? {
            Some(named) => Ok(named),
            None => Err(Error::Unknown { name: name.to_owned(), known: self.names()? }),
        }
    }

    fn get(&self, name: &str) -> Result<Option<Named>, Error> {
        let folder = self.folder_of(name)?;
        let path = folder.join(DISK);
        let data = match fs::metadata(&path) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path)(error)),
        };
        Ok(Some(Named {
            name: name.to_owned(),
            size: data.len(),
            used: data.blocks() * 512,
            created: data.created().ok(),
            users: users(&folder, &data).into_iter().filter(|user| is_alive(user.pid)).collect(),
            folder,
        }))
    }

    /// Removes volume `name` and all it holds. Does not ask who is defined to use it.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::InUse`].
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let folder = self.inspect(name)?.folder;
        let path = folder.join(DISK);
        let file = File::open(&path).map_err(failed(&path))?;
        lock(&file, &folder, name, libc::LOCK_EX)?;
        // The disk first: without it there is no volume.
        fs::remove_file(&path).and_then(|()| fs::remove_dir_all(&folder)).map_err(failed(&folder))
    }

    /// Opens volume `name` for `sandbox`, making it when it is missing, and locks it.
    pub(super) fn open(&self, name: &str, read_only: bool, sandbox: &str) -> Result<File, Error> {
        let folder = self.folder_of(name)?;
        paths::create_private(&folder).map_err(failed(&folder))?;
        let path = folder.join(DISK);
        let operation = if read_only { libc::LOCK_SH } else { libc::LOCK_EX };
        loop {
            let mut file = disk::open_or_create(&path, None)?;
            if read_only {
                // The machine gets no descriptor that could write.
                file = File::open(&path).map_err(failed(&path))?;
            }
            lock(&file, &folder, name, operation)?;
            // Otherwise it was removed between our open and our lock.
            if is_at(&file, &path) {
                if !read_only {
                    let user = User { pid: std::process::id(), sandbox: Some(sandbox.to_owned()) };
                    note(&folder, &user)?;
                }
                return Ok(file);
            }
        }
    }

    fn folder_of(&self, name: &str) -> Result<PathBuf, Error> {
        let good = manifest::is_name(name);
        good.then(|| self.folder.join(name)).ok_or_else(|| Error::Name { name: name.to_owned() })
    }
}

fn lock(file: &File, folder: &Path, name: &str, operation: libc::c_int) -> Result<(), Error> {
    let deadline = Instant::now() + ORPHAN_GRACE;
    loop {
        // SAFETY: flock takes no pointers; the descriptor is open for as long as `file` is borrowed.
        match Errno::result(unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) }) {
            Ok(_) => return Ok(()),
            Err(Errno::EWOULDBLOCK) => {
                let data = file.metadata().map_err(failed(folder))?;
                let mut users = users(folder, &data);
                users.retain(|user| is_alive(user.pid));
                if !users.is_empty() || Instant::now() > deadline {
                    return Err(Error::InUse { name: name.to_owned(), users });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(errno) => return Err(failed(&folder.join(DISK))(errno.into())),
        }
    }
}

/// Who holds a lock on the disk `data` is about, by `/proc/locks`. The device is not compared: several file systems show another
/// one there than in `stat`. A holder that has ended, or that is out of sight, has a number that no process has.
fn users(folder: &Path, data: &fs::Metadata) -> Vec<User> {
    let noted: Option<User> =
        fs::read(folder.join(USER)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next()?;
        let pid: u32 = words.nth(2)?.parse().ok()?;
        let inode: u64 = words.next()?.rsplit(':').next()?.parse().ok()?;
        let held = kind == "FLOCK" && inode == data.ino();
        let sandbox = noted.as_ref().filter(|user| user.pid == pid).and_then(|user| user.sandbox.clone());
        held.then_some(User { pid, sandbox })
    };
    locks.lines().filter_map(holder).collect()
}

fn note(folder: &Path, user: &User) -> Result<(), Error> {
    let path = folder.join(USER);
    let written = serde_json::to_vec(user).map_err(io::Error::from).and_then(|bytes| fs::write(&path, bytes));
    written.map_err(failed(&path))
}

/// Whether a process runs: one that was killed and not yet waited for does not, though it still has its number.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |data: io::Result<fs::Metadata>| data.ok().map(|data| (data.dev(), data.ino()));
    identity(file.metadata()).is_some_and(|ours| Some(ours) == identity(fs::metadata(path)))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::State { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&Paths::under(dir.path()));
        (dir, store)
    }

    /// A process that another test has forked meanwhile keeps what was locked until it goes.
    fn when_free<T>(act: impl Fn() -> Result<T, Error>) -> T {
        loop {
            match act() {
                Err(Error::InUse { .. }) => std::thread::yield_now(),
                result => return result.unwrap(),
            }
        }
    }

    #[test]
    fn one_writes_or_many_read() {
        let (_dir, store) = store();
        let first = store.open("db", false, "a").unwrap();
        for read_only in [true, false] {
            assert!(matches!(store.open("db", read_only, "b"), Err(Error::InUse { .. })));
        }
        assert!(matches!(store.remove("db"), Err(Error::InUse { .. })));
        let heir = first.try_clone().unwrap();
        drop(first);
        assert!(matches!(store.open("db", false, "b"), Err(Error::InUse { .. })));
        drop(heir);
        let readers = [when_free(|| store.open("db", true, "b")), store.open("db", true, "c").unwrap()];
        assert!(matches!(store.open("db", false, "d"), Err(Error::InUse { .. })));
        drop(readers);
        when_free(|| store.remove("db"));
        assert!(matches!(store.remove("db"), Err(Error::Unknown { .. })));
    }

    #[test]
    fn volumes_are_made_once_and_listed() {
        let (_dir, store) = store();
        assert!(store.list().unwrap().is_empty());
        store.create("b", Some(64 << 20)).unwrap();
        drop(store.open("a", false, "x").unwrap());
        assert!(matches!(store.create("b", None), Err(Error::Exists { .. })));
        let list = store.list().unwrap();
        assert_eq!(list.iter().map(|named| named.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((list[1].size, list[0].size), (64 << 20, disk::DEFAULT_SIZE));
        assert!(list[0].used < 64 << 20);
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        let (_dir, store) = store();
        for name in ["", "..", "a/b", "-x", "a b", &"x".repeat(64)] {
            assert!(matches!(store.create(name, None), Err(Error::Name { .. })), "{name:?}");
        }
    }
}
