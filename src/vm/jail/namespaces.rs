//! Namespaces and a file tree with next to nothing in it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chdir, getgid, getuid, pivot_root};

use super::{Error, Report, Shares, shares};

/// Folders to build the new tree on; its content is not touched, only covered in this process's own view.
const MOUNT_POINTS: [&str; 3] = ["/tmp", "/run", "/mnt"];
/// The descriptors of this process under the name everybody uses.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Where the tree of shares is made; nothing is left there.
const SHARES: &str = "shares";

/// Enters new namespaces as far as the host allows. `devices` are files and `system` files and folders that stay visible.
/// Shares are the one thing that is not done without a file tree of the process's own; the result is theirs.
pub(super) fn enter(
    devices: &[&str],
    system: &[PathBuf],
    shares: Option<&Shares>,
) -> Result<(Report, Option<OwnedFd>), Error> {
    let mut report = Report::default();
    let others = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    let (uid, gid) = (getuid(), getgid());
    let user = CloneFlags::CLONE_NEWUSER;
    let mounts = CloneFlags::CLONE_NEWNS;
    if unshare(user | mounts | others).is_ok() {
        report.user_namespace = true;
        report.other_namespaces = true;
        match shares {
            None => keep_ids(uid, gid),
            Some(shares) => map_ids((uid, gid), shares.owner)
                .map_err(|error| Error::Tree { call: "map the caller's user", source: errno(error) })?,
        }
    } else if unshare(mounts | others).is_ok() {
        // The host forbids user namespaces, but we are privileged enough to do without.
        report.other_namespaces = true;
    } else {
        return none_without_tree(report, shares);
    }
    // Some hosts allow namespaces but no mounts in them.
    let mut tree = None;
    if make_private().is_ok() {
        // Before anything covers the place where they lie.
        let found = shares.map(Shares::find).transpose()?;
        let Ok(root) = mount_root() else { return none_without_tree(report, shares) };
        tree = found.map(|found| shares::detached_tree(&root.join(SHARES), found)).transpose()?;
        let built = fill_root(&root, devices, system);
        report.mount_namespace = match built {
            Ok(()) => {
                switch_root(&root)?;
                true
            }
            Err(_) => {
                let _ = umount2(&root, MntFlags::MNT_DETACH);
                false
            }
        };
    }
    if report.mount_namespace { Ok((report, tree)) } else { none_without_tree(report, shares) }
}

/// The process stays in the host's file tree, where nothing may be shared.
fn none_without_tree(report: Report, shares: Option<&Shares>) -> Result<(Report, Option<OwnedFd>), Error> {
    if shares.is_some() { Err(Error::NoTree) } else { Ok((report, None)) }
}

/// Maps the user to itself. A host that does not let us leaves the process with the overflow id, which still owns its open
/// files.
fn keep_ids(uid: Uid, gid: Gid) {
    let _ = map_ids((uid, gid), (uid.as_raw(), gid.as_raw()));
}

/// Makes the user and group outside appear as `inside`.
fn map_ids((uid, gid): (Uid, Gid), inside: (u32, u32)) -> std::io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{} {gid} 1\n", inside.1))?;
    fs::write("/proc/self/uid_map", format!("{} {uid} 1\n", inside.0))
}

/// Nothing that happens here is to be seen outside.
fn make_private() -> nix::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
}

fn mount_root() -> nix::Result<PathBuf> {
    let place = MOUNT_POINTS.iter().map(Path::new).find(|place| place.is_dir()).ok_or(nix::Error::ENOENT)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("msb"), place, Some("tmpfs"), flags, Some("mode=0755,size=64k,nr_inodes=256"))?;
    Ok(place.to_owned())
}

fn fill_root(root: &Path, devices: &[&str], system: &[PathBuf]) -> nix::Result<()> {
    // Only the folder with this process's own descriptors, not the processes of the host.
    bind(root, Path::new(DESCRIPTORS), true)?;
    for device in devices {
        bind(root, Path::new(device), false)?;
    }
    for path in system {
        let Ok(metadata) = fs::symlink_metadata(path) else { continue };
        if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(errno)?;
            symlink(target, inside(root, path)).map_err(errno)?;
        } else {
            bind(root, path, metadata.is_dir())?;
        }
    }
    // Older kernels cannot; file permissions and Landlock remain there.
    match set_attributes(root, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID) {
        Err(nix::Error::ENOSYS) => Ok(()),
        result => result,
    }
}

fn bind(root: &Path, path: &Path, folder: bool) -> nix::Result<()> {
    let target = inside(root, path);
    if folder {
        fs::create_dir_all(&target).map_err(errno)?;
    } else {
        fs::create_dir_all(target.parent().unwrap_or(root)).map_err(errno)?;
        fs::File::create(&target).map_err(errno)?;
    }
    let none: Option<&str> = None;
    mount(Some(path), &target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
}

/// `mount_setattr(2)` on everything mounted at and below `root`.
pub(super) fn set_attributes(root: &Path, attr_set: u64) -> nix::Result<()> {
    let path = std::ffi::CString::new(root.as_os_str().as_encoded_bytes()).map_err(|_| nix::Error::EINVAL)?;
    let attributes = libc::mount_attr { attr_set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path and the structure live through the call and the size is the structure's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    nix::Error::result(result).map(drop)
}

/// From here on failures are fatal: a half-changed tree is no tree to run in.
fn switch_root(root: &Path) -> Result<(), Error> {
    let tree = |call| move |source| Error::Tree { call, source };
    chdir(root).map_err(tree("chdir"))?;
    // The old tree is put on top of the new one and then removed: no folder for it is needed.
    pivot_root(".", ".").map_err(tree("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(tree("umount"))?;
    chdir("/").map_err(tree("chdir"))
}

/// `path` in the tree at `root`.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

pub(super) fn errno(error: std::io::Error) -> nix::Error {
    nix::Error::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
