//! The writable disk of a sandbox: a sparse file with an ext4 file system, made from a template inside the binary.
//!
//! Making one writes a few dozen blocks, so it takes well under a millisecond and needs no `mkfs` on the machine.
//! A size other than a template's is reached by growing: the file is extended here, the file system by the guest
//! when it mounts it.

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Size in bytes of a disk when nothing else is asked for. The file is sparse: it takes what the guest wrote.
pub const DEFAULT_SIZE: u64 = 8 << 30;

/// The smallest disk in bytes: below it the journal leaves no useful room.
pub const MIN_SIZE: u64 = 64 << 20;

/// The largest disk in bytes: ext4's own limit with 4 KiB blocks.
pub const MAX_SIZE: u64 = 16 << 40;

/// The templates of `build.rs`, smallest first: size of the file system and its non-zero runs.
static TEMPLATES: [(u64, &[u8]); 2] = [
    (64 << 20, include_bytes!(concat!(env!("OUT_DIR"), "/small.template"))),
    (8 << 30, include_bytes!(concat!(env!("OUT_DIR"), "/default.template"))),
];

/// What can go wrong with a disk file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The asked size is outside [`MIN_SIZE`]..=[`MAX_SIZE`].
    #[error("a disk of {size} bytes is not possible: it must be between 64 MiB and 16 TiB")]
    Size {
        /// The asked size in bytes.
        size: u64,
    },
    /// An existing disk is larger than asked; shrinking would lose data.
    #[error("disk {path} has {have} bytes already and cannot shrink to {want}", path = path.display())]
    Shrink {
        /// The disk file.
        path: PathBuf,
        /// Its size in bytes.
        have: u64,
        /// The asked size in bytes.
        want: u64,
    },
    /// A system call on the disk file failed.
    #[error("cannot {action} disk {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The disk file or, for a nameless disk, its folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Opens the disk at `path`, making it with `size` bytes if it is missing and growing it if it is smaller.
///
/// A new disk appears under its name only when it is whole, so a crash leaves none or a good one.
///
/// # Errors
/// [`Error::Size`], [`Error::Shrink`], or the system's answer.
pub fn open_or_create(path: &Path, size: Option<u64>) -> Result<File, Error> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => grow(&file, path, size).map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match create(path, size.unwrap_or(DEFAULT_SIZE)) {
                // Somebody else was faster, and may be using theirs already.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                    open_or_create(path, size)
                }
                made => made,
            }
        }
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

/// Makes a disk without a name in `dir`: it is gone with the last process that holds it, whatever ends that process.
///
/// # Errors
/// [`Error::Size`], or the system's answer.
pub fn create_unnamed(dir: &Path, size: u64) -> Result<File, Error> {
    check_size(size)?;
    let file = tempfile::tempfile_in(dir).map_err(Error::io("create", dir))?;
    write_template(&file, size).map_err(Error::io("write", dir))?;
    Ok(file)
}

fn create(path: &Path, size: u64) -> Result<File, Error> {
    check_size(size)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let partial = PathBuf::from(name);
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|file| write_template(&file, size).map(|()| file))
        .and_then(|file| {
            renameat2(AT_FDCWD, &partial, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE)?;
            Ok(file)
        });
    made.map_err(|error| {
        let _ = std::fs::remove_file(&partial);
        Error::io("create", path)(error)
    })
}

fn grow(file: &File, path: &Path, size: Option<u64>) -> Result<(), Error> {
    let Some(want) = size else { return Ok(()) };
    check_size(want)?;
    let have = file.metadata().map_err(Error::io("read the size of", path))?.len();
    match want {
        _ if want < have => Err(Error::Shrink { path: path.to_owned(), have, want }),
        _ if want > have => file.set_len(want).map_err(Error::io("grow", path)),
        _ => Ok(()),
    }
}

fn check_size(size: u64) -> Result<(), Error> {
    if (MIN_SIZE..=MAX_SIZE).contains(&size) { Ok(()) } else { Err(Error::Size { size }) }
}

/// Writes the largest template that fits into `size` bytes and extends the file to `size`.
fn write_template(file: &File, size: u64) -> io::Result<()> {
    let fitting = TEMPLATES.iter().rev().find(|(template, _)| *template <= size);
    let (_, template) = fitting.ok_or(io::ErrorKind::InvalidInput)?;
    file.set_len(size)?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| template[at + i]));
    let runs = number(0) as usize;
    let mut data = 8 + runs * 16;
    for run in 0..runs {
        let (offset, length) = (number(8 + run * 16), number(16 + run * 16) as usize);
        file.write_all_at(&template[data..data + length], offset)?;
        data += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `None` where e2fsck is missing; e2fsprogs is needed to build, so that is only on stripped-down machines.
    fn is_clean(path: &Path) -> bool {
        let mut check = std::process::Command::new("e2fsck");
        check.arg("-fn").arg(path).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        check.output().unwrap().status.success()
    }

    #[test]
    fn new_disks_are_clean_sparse_and_private() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        for (name, size) in [("default", None), ("small", Some(MIN_SIZE)), ("odd", Some(100 << 20))] {
            let path = dir.path().join(name);
            let file = open_or_create(&path, size).unwrap();
            let data = file.metadata().unwrap();
            assert_eq!(data.len(), size.unwrap_or(DEFAULT_SIZE));
            assert!(data.blocks() * 512 < 1 << 20, "{name} takes {} blocks", data.blocks());
            assert_eq!(data.mode() & 0o777, 0o600);
            assert!(is_clean(&path), "{name}");
        }
    }

    #[test]
    fn a_disk_grows_and_never_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        open_or_create(&path, Some(MIN_SIZE)).unwrap();
        assert_eq!(open_or_create(&path, Some(1 << 30)).unwrap().metadata().unwrap().len(), 1 << 30);
        assert_eq!(open_or_create(&path, None).unwrap().metadata().unwrap().len(), 1 << 30);
        assert!(matches!(open_or_create(&path, Some(MIN_SIZE)), Err(Error::Shrink { .. })));
    }

    #[test]
    fn all_who_make_a_disk_at_once_get_the_same_one() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        // A partial file of each would have the same name in one process, so only the last step is raced here.
        std::fs::write(dir.path().join("other"), "theirs").unwrap();
        std::fs::rename(dir.path().join("other"), &path).unwrap();
        assert!(
            matches!(create(&path, DEFAULT_SIZE), Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists)
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        let file = open_or_create(&path, None).unwrap();
        assert_eq!(file.metadata().unwrap().ino(), path.metadata().unwrap().ino());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unnamed_disk_leaves_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = create_unnamed(dir.path(), DEFAULT_SIZE).unwrap();
        assert_eq!(file.metadata().unwrap().len(), DEFAULT_SIZE);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0, MIN_SIZE - 1, MAX_SIZE + 1] {
            assert!(matches!(create_unnamed(dir.path(), size), Err(Error::Size { .. })));
        }
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = open_or_create(Path::new("/nowhere/at/all/disk"), None).unwrap_err();
        assert_eq!(error.to_string(), "cannot create disk /nowhere/at/all/disk");
    }
}
