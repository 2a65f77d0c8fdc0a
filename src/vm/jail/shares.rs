//! The shared folders and files as a tree of mounts that has no place in any file tree.
//!
//! Each is mounted once more, in the process's own mount namespace, into an empty folder under its number; a copy of that folder
//! with its mounts is then kept by a descriptor alone. Whoever walks from there can go nowhere else: `..` ends at the folder, and
//! an absolute link leads into the process's file tree, which holds next to nothing. Read-only is a property of the mount.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::Error;
use super::namespaces::errno;

/// Folders and files of the host that the process serves to its guest.
#[derive(Debug)]
pub(in crate::vm) struct Shares {
    /// Each, and whether it is read-only.
    pub(in crate::vm) entries: Vec<(OwnedFd, bool)>,
    /// User and group as whom the process, and so the guest, sees the calling user and group.
    pub(in crate::vm) owner: (u32, u32),
}

/// A folder or file found again in the process's own mount namespace: mounts of another one cannot be mounted again.
pub(super) struct Found {
    file: OwnedFd,
    folder: bool,
    read_only: bool,
}

/// `AT_RECURSIVE`: with everything mounted below.
const AT_RECURSIVE: libc::c_uint = 0x8000;

/// The share `number` is not to be had.
fn unusable(number: usize, call: &'static str) -> impl FnOnce(nix::Error) -> Error {
    move |source| Error::Share { number, call, source }
}

impl Shares {
    /// Finds everything again. Must come before anything is mounted over the place where it lies.
    pub(super) fn find(&self) -> Result<Vec<Found>, Error> {
        let found = |(number, (file, read_only)): (usize, &(OwnedFd, bool))| {
            let path = fs::read_link(proc_path(file.as_fd())).map_err(errno);
            let path = path.map_err(unusable(number, "look up"))?;
            let again = open(&path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
            let again = again.map_err(unusable(number, "open"))?;
            let ours = fstat(file).map_err(unusable(number, "look at"))?;
            let theirs = fstat(&again).map_err(unusable(number, "look at"))?;
            // Somebody moved it in between.
            if identity(&ours) != identity(&theirs) {
                return Err(unusable(number, "find")(nix::Error::ESTALE));
            }
            Ok(Found { file: again, folder: is_folder(&ours), read_only: *read_only })
        };
        self.entries.iter().enumerate().map(found).collect()
    }
}

/// Makes the tree of `found` in the empty folder `place` of a writable file system. The descriptor keeps it.
pub(super) fn detached_tree(place: &Path, found: Vec<Found>) -> Result<OwnedFd, Error> {
    let tree = |call| move |source| Error::Tree { call, source };
    fs::create_dir(place).map_err(errno).map_err(tree("make a folder for shares"))?;
    for (number, share) in found.into_iter().enumerate() {
        let target = place.join(number.to_string());
        let made = if share.folder { fs::create_dir(&target) } else { fs::File::create(&target).map(drop) };
        made.map_err(errno).map_err(tree("make a mount point for a share"))?;
        let none: Option<&str> = None;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        let source = proc_path(share.file.as_fd());
        mount(Some(&source), &target, none, flags, none).map_err(unusable(number, "mount"))?;
        let read_only = if share.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
        let attributes =
            read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        super::namespaces::set_attributes(&target, attributes)
            .map_err(unusable(number, "set the properties of"))?;
    }
    clone_tree(place).map_err(tree("open_tree"))
}

/// `open_tree(2)`: a copy of the mounts at and below `place` that hangs nowhere.
fn clone_tree(place: &Path) -> nix::Result<OwnedFd> {
    let path =
        std::ffi::CString::new(place.as_os_str().as_encoded_bytes()).map_err(|_| nix::Error::EINVAL)?;
    open_tree(&path)
}

fn open_tree(path: &CStr) -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | AT_RECURSIVE;
    // SAFETY: the path lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = nix::Error::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

pub(super) fn is_folder(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
