//! Unfinished work in the store's `tmp/` folder.
//!
//! Everything is made there under a name that follows from what it will be, locked with `flock` while its
//! maker lives, and renamed into place when complete. The kernel drops the lock with the process, so:
//! two processes that want the same thing meet at the same file and the second waits; a leftover of a killed
//! process is taken over by whoever wants the same thing next; all other leftovers are recognised by
//! being unlocked and removed by [`Staging::sweep`]. No lock file outlives the work.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::error::Error;

/// How often a waiting process looks whether the other one is done.
const POLL: Duration = Duration::from_millis(50);

/// The `tmp/` folder of a store.
pub(super) struct Staging {
    folder: PathBuf,
}

/// What to do while another process holds the same work.
pub(super) struct Waiting<'a> {
    /// Whether the finished thing is there.
    pub(super) ready: &'a dyn Fn() -> bool,
    /// Called once, when waiting begins.
    pub(super) started: &'a dyn Fn(),
    /// Whether to give up.
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// A locked, unfinished file or folder; it is removed on drop unless published.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    file: File,
    published: bool,
}

/// Something unfinished, found in the folder.
#[derive(Debug)]
pub(super) struct Leftover {
    pub(super) path: PathBuf,
    /// Bytes it takes.
    pub(super) bytes: u64,
    /// Whether its maker still works on it.
    pub(super) is_live: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    File,
    Folder,
}

impl Staging {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty file called `name`, or `None` when the finished thing turned up meanwhile.
    pub(super) fn file(&self, name: &str, waiting: &Waiting<'_>) -> Result<Option<Claim>, Error> {
        self.claim(name, Kind::File, waiting)
    }

    /// An empty folder called `name`, or `None` when the finished thing turned up meanwhile.
    pub(super) fn folder_for(&self, name: &str, waiting: &Waiting<'_>) -> Result<Option<Claim>, Error> {
        self.claim(name, Kind::Folder, waiting)
    }

    /// A small file nobody else wants, with these contents.
    pub(super) fn unshared(&self, prefix: &str, contents: &[u8]) -> Result<Claim, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = self.folder.join(format!("{prefix}-{}-{number}", std::process::id()));
            if let Some(claim) = try_claim(&path, Kind::File)? {
                io::Write::write_all(&mut &claim.file, contents).map_err(Error::at("write", &path))?;
                return Ok(claim);
            }
        }
    }

    fn claim(&self, name: &str, kind: Kind, waiting: &Waiting<'_>) -> Result<Option<Claim>, Error> {
        let path = self.folder.join(name);
        let mut waited = false;
        loop {
            if (waiting.ready)() {
                return Ok(None);
            }
            match try_claim(&path, kind)? {
                // Whoever held it may have published between the check above and our claim.
                Some(claim) if (waiting.ready)() => {
                    drop(claim);
                    return Ok(None);
                }
                Some(claim) => return Ok(Some(claim)),
                None if (waiting.cancelled)() => return Err(Error::Cancelled),
                None => {
                    if !waited {
                        waited = true;
                        (waiting.started)();
                    }
                    std::thread::sleep(POLL);
                }
            }
        }
    }

    /// Locks the store as a whole, until the result is dropped. Alone: to remove finished things, which keeps
    /// everybody from beginning to rely on them. Not alone: to begin to rely on them. Both take an instant.
    pub(super) fn lock(&self, alone: bool) -> Result<File, Error> {
        let folder = open_existing(&self.folder).map_err(Error::at("open", &self.folder))?;
        loop {
            match if alone { folder.lock() } else { folder.lock_shared() } {
                Ok(()) => return Ok(folder),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("lock", &self.folder, error)),
            }
        }
    }

    /// Everything unfinished, of living processes and of dead ones.
    pub(super) fn leftovers(&self) -> Vec<Leftover> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let leftover = |entry: fs::DirEntry| {
            let path = entry.path();
            let file = open_existing(&path).ok()?;
            let is_live = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            Some(Leftover { bytes: size(&path), path, is_live })
        };
        entries.flatten().filter_map(leftover).collect()
    }

    /// Removes what dead processes left. Failures are not worth stopping for.
    pub(super) fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let Ok(file) = open_existing(&entry.path()) else { continue };
            if file.try_lock().is_ok() && is_same(&file, &entry.path()) {
                remove(&entry.path());
            }
        }
    }
}

/// Creates and locks `path`, empty. `None` when someone else holds it.
fn try_claim(path: &Path, kind: Kind) -> Result<Option<Claim>, Error> {
    let file = match kind {
        Kind::File => {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(libc::O_NOFOLLOW).open(path)
        }
        Kind::Folder => match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => open_existing(path),
        },
    };
    let file = match file {
        // A folder that was there when we tried to make it and then got published.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.parent().is_some_and(Path::is_dir) => {
            return Ok(None);
        }
        file => file.map_err(Error::at("create", path))?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", path, error)),
    }
    // Between open and lock its former holder may have renamed or removed it.
    if !is_same(&file, path) {
        return Ok(None);
    }
    let claim = Claim { path: path.to_path_buf(), file, published: false };
    claim.empty(kind)?;
    Ok(Some(claim))
}

impl Claim {
    /// The open file; for a folder, a handle that cannot be written.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it visible as `target`, replacing a file but not a folder with contents.
    pub(super) fn publish(mut self, target: &Path) -> Result<(), Error> {
        if let Some(parent) = target.parent() {
            make_folder(parent)?;
        }
        fs::rename(&self.path, target).map_err(Error::at("create", target))?;
        self.published = true;
        Ok(())
    }

    fn empty(&self, kind: Kind) -> Result<(), Error> {
        match kind {
            Kind::File => self.file.set_len(0).map_err(Error::at("truncate", &self.path)),
            Kind::Folder => {
                for entry in fs::read_dir(&self.path).map_err(Error::at("read", &self.path))? {
                    let entry = entry.map_err(Error::at("read", &self.path))?.path();
                    fs::remove_file(&entry).map_err(Error::at("remove", &entry))?;
                }
                Ok(())
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock is still held here, so nobody else's work can be at this path.
        if !self.published {
            remove(&self.path);
        }
    }
}

/// Creates `folder` and what is above it, private to the user.
pub(super) fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Error::at("create", folder))
}

fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Bytes of a file, or of the files of a folder.
fn size(path: &Path) -> u64 {
    let files = walkdir::WalkDir::new(path).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    files.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn remove(path: &Path) {
    // One of the two fails by nature; a leftover that resists is met again by the next sweep.
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

#[cfg(test)]
mod tests;
