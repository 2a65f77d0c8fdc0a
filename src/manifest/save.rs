//! Reading and replacing project files, whole and one writer at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::LARGEST_FILE;
use super::error::Error;

/// How long to wait for another writer, who needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The content of a file of at most [`LARGEST_FILE`] bytes.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LARGEST_FILE {
        return Err(Error::TooLarge { path: path.to_owned(), limit: LARGEST_FILE });
    }
    Ok(bytes)
}

/// The content of a text file of at most [`LARGEST_FILE`] bytes.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    String::from_utf8(read_bytes(path)?)
        .map_err(|error| Error::NotUtf8 { path: path.to_owned(), offset: error.utf8_error().valid_up_to() })
}

/// The right to write project files of one folder, held until dropped.
///
/// It is an flock on the folder itself, which leaves no lock file in the project and ends with the process.
pub(super) struct Lock {
    _folder: Option<File>,
}

impl Lock {
    /// Waits for the right to write beside `path`.
    pub(super) fn beside(path: &Path) -> Result<Self, Error> {
        let folder = folder_of(path);
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let folder = File::open(folder).map_err(failed)?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Self { _folder: Some(folder) }),
                Err(TryLockError::WouldBlock) if Instant::now() >= give_up => {
                    return Err(Error::Busy { path: path.to_owned() });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(error)) if cannot_lock(&error) => return Ok(Self { _folder: None }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }
}

/// Some network file systems lock no folders. The replacement stays atomic there; two writers at once would
/// lose one change, which is no reason to refuse every edit.
fn cannot_lock(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported || matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOLCK))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Replaces the content of `path` by `text` in one step: a reader, or a crash, sees the old or the new file.
///
/// The mode stays, a symbolic link stays a link to the file behind it, and two writers take turns.
///
/// # Errors
/// [`Error::Write`], [`Error::Busy`].
pub fn save(path: &Path, text: &str) -> Result<(), Error> {
    let target = behind_links(path)?;
    let lock = Lock::beside(&target)?;
    replace(&lock, &target, text.as_bytes())
}

/// The file that `path` leads to.
pub(super) fn behind_links(path: &Path) -> Result<PathBuf, Error> {
    match path.canonicalize() {
        Ok(target) => Ok(target),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(source) => Err(Error::Write { path: path.to_owned(), source }),
    }
}

/// [`save`] for those who hold the lock already.
pub(super) fn replace(_lock: &Lock, path: &Path, content: &[u8]) -> Result<(), Error> {
    let write = || {
        let mode = fs::metadata(path).map(|meta| meta.permissions());
        let staged = Staged::new(path, content)?;
        if let Ok(mode) = mode {
            fs::set_permissions(&staged.path, mode)?;
        }
        staged.rename_to(path)
    };
    write().map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Writes a file that does not exist yet; what is there already is left alone.
///
/// # Errors
/// [`Error::Exists`], [`Error::Write`].
pub(super) fn create(_lock: &Lock, path: &Path, content: &[u8]) -> Result<(), Error> {
    let write = || {
        let staged = Staged::new(path, content)?;
        match fs::hard_link(&staged.path, path) {
            // A file system without links: nothing is lost but the guard against a writer that takes no lock.
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !path.exists() => {
                staged.rename_to(path)
            }
            linked => linked,
        }
    };
    write().map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned() },
        _ => Error::Write { path: path.to_owned(), source },
    })
}

/// New content under a temporary name, removed unless renamed.
struct Staged {
    path: PathBuf,
}

impl Staged {
    fn new(target: &Path, content: &[u8]) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        // One fixed name per file: whoever holds the lock next cleans up after a killed writer.
        let path = folder_of(target).join(format!(".{name}.msb-new"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path)?;
        let staged = Self { path };
        file.write_all(content)?;
        file.sync_all()?;
        Ok(staged)
    }

    fn rename_to(self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Already gone after a rename.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_whole_and_keeps_mode_and_link() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        let link = dir.path().join("Sandboxfile");
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        fs::write(dir.path().join(".real.msb-new"), "left by a killed writer").unwrap();

        save(&link, "new").unwrap();

        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(dir.path()), ["Sandboxfile", "real"]);
    }

    #[test]
    fn create_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Sandboxfile");
        let lock = Lock::beside(&path).unwrap();
        create(&lock, &path, b"first").unwrap();
        assert!(matches!(create(&lock, &path, b"second"), Err(Error::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(dir.path()), ["Sandboxfile"]);
    }

    #[test]
    fn reading_has_limits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Sandboxfile");
        fs::write(&path, vec![b'#'; LARGEST_FILE + 1]).unwrap();
        assert!(matches!(read(&path), Err(Error::TooLarge { .. })));
        fs::write(&path, b"# \xff").unwrap();
        assert!(matches!(read(&path), Err(Error::NotUtf8 { offset: 2, .. })));
        assert!(matches!(read(Path::new("/dev/zero")), Err(Error::TooLarge { .. })));
    }
}
