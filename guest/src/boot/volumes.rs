//! Folders and files of the host, volumes and memory, mounted into the root once it is entered.

use super::power::Written;
use super::{BootError, grow};
use crate::message::{GuestMount, MountSource, SHARES_TAG};
use nix::mount::{MsFlags, mount};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// Mount point of the shares outside the new root.
const SHARES: &str = "/shares";
/// Mount points of the volumes' disks outside the new root, by number.
const VOLUMES: &str = "/volumes";
/// The folder of a volume's file system that is the volume: `lost+found` is not part of it.
const DATA: &str = "data";

const NOTHING: MsFlags = MsFlags::empty();

/// File systems mounted outside the new root, to be mounted into it.
#[derive(Debug, Default)]
pub(super) struct Outside {
    shares: Option<File>,
    /// One for each disk, in the order of the mounts.
    disks: Vec<File>,
}

/// Mounts devices while the guest's own first root is still in sight.
pub(super) fn outside(mounts: &[GuestMount]) -> Result<Outside, BootError> {
    let mut outside = Outside::default();
    for wanted in mounts {
        match &wanted.source {
            MountSource::Share(_) if outside.shares.is_none() => {
                outside.shares = Some(shares().map_err(|(call, source)| failed(wanted, call)(source))?);
            }
            MountSource::Disk(device) => {
                let place = Path::new(VOLUMES).join(outside.disks.len().to_string());
                outside.disks.push(disk(wanted, device, &place)?);
            }
            MountSource::Share(_) | MountSource::Tmpfs { .. } => {}
        }
    }
    Ok(outside)
}

fn shares() -> Result<File, (&'static str, io::Error)> {
    let call = |call| move |source: io::Error| (call, source);
    fs::create_dir(SHARES).map_err(call("make a mount point"))?;
    mount(Some(SHARES_TAG), SHARES, Some("virtiofs"), NOTHING, None::<&str>)
        .map_err(|e| ("mount the shared folders", e.into()))?;
    folder(Path::new(SHARES)).map_err(call("open the shared folders"))
}

fn disk(wanted: &GuestMount, device: &str, place: &Path) -> Result<File, BootError> {
    fs::create_dir_all(place).map_err(failed(wanted, "make a mount point"))?;
    let flags = if wanted.read_only { MsFlags::MS_RDONLY } else { NOTHING };
    mount(Some(device), place, Some("ext4"), flags, Some("noinit_itable"))
        .map_err(|e| failed(wanted, "mount its disk")(e.into()))?;
    let root = folder(place).map_err(failed(wanted, "open its disk"))?;
    if !wanted.read_only {
        grow::ext4(Path::new(device), &root)?;
    }
    Ok(root)
}

/// Mounts everything where it belongs; the process's root is the new one.
pub(super) fn mount_all(mounts: &[GuestMount], outside: Outside) -> Result<Written, BootError> {
    let Outside { shares, disks } = outside;
    let mut written = Written::default();
    let mut disks = disks.into_iter();
    for wanted in mounts {
        let target = Path::new(OsStr::from_bytes(wanted.target.as_bytes()));
        match (&wanted.source, &shares) {
            (MountSource::Share(number), Some(shares)) => {
                bind(wanted, &below(shares, &number.to_string()), target)?;
                if !wanted.read_only {
                    // One that cannot be read has nothing in the guest's memory either.
                    written.shares.extend(File::open(target).ok());
                }
            }
            (MountSource::Disk(_), _) => {
                let Some(disk) = disks.next() else { continue };
                let data = below(&disk, DATA);
                if !wanted.read_only {
                    first_use(&data, target).map_err(failed(wanted, "prepare its disk"))?;
                }
                bind(wanted, &data, target)?;
                if !wanted.read_only {
                    written.disks.push(disk);
                }
            }
            (MountSource::Tmpfs { size, mode }, _) => tmpfs(wanted, *size, *mode, target)?,
            (MountSource::Share(_), None) => {}
        }
    }
    Ok(written)
}

/// Binds `source` to `target`, which is made when it is missing.
fn bind(wanted: &GuestMount, source: &Path, target: &Path) -> Result<(), BootError> {
    let kind = match fs::metadata(source) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let empty = io::Error::other("nothing was ever written to it, and it is to be read only");
            return Err(failed(wanted, "use")(empty));
        }
        Err(error) => return Err(failed(wanted, "look at")(error)),
    };
    make_target(target, kind.is_dir()).map_err(failed(wanted, "make its mount point"))?;
    let call = |flags| mount(Some(source), target, None::<&str>, flags, None::<&str>);
    call(MsFlags::MS_BIND).map_err(|e| failed(wanted, "mount")(e.into()))?;
    if wanted.read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        call(flags).map_err(|e| failed(wanted, "make read-only")(e.into()))?;
    }
    Ok(())
}

fn tmpfs(wanted: &GuestMount, size: Option<u64>, mode: u32, target: &Path) -> Result<(), BootError> {
    make_target(target, true).map_err(failed(wanted, "make its mount point"))?;
    let mut options = format!("mode={mode:o}");
    if let Some(size) = size {
        options.push_str(&format!(",size={size}"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|e| failed(wanted, "mount")(e.into()))
}

/// A folder where a folder is to be mounted, an empty file where a file is.
fn make_target(target: &Path, is_folder: bool) -> io::Result<()> {
    match fs::metadata(target) {
        Ok(found) if found.is_dir() == is_folder => Ok(()),
        Ok(found) if found.is_dir() => Err(io::Error::other("a file cannot be mounted on a folder")),
        Ok(_) => Err(io::Error::other("a folder cannot be mounted on a file")),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Err(_) if is_folder => DirBuilder::new().recursive(true).mode(0o755).create(target),
        Err(_) => {
            if let Some(parent) = target.parent() {
                DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
            }
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(target).map(drop)
        }
    }
}

/// Makes the volume's folder on a new disk, in the likeness of what the image has at `target`.
fn first_use(data: &Path, target: &Path) -> io::Result<()> {
    match fs::symlink_metadata(data) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        found => return found.map(drop),
    }
    // Under its name only when it is whole.
    let partial = data.with_extension("new");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    match fs::metadata(target) {
        Ok(found) if found.is_dir() => copy_folder(target, &partial)?,
        _ => DirBuilder::new().mode(0o755).create(&partial)?,
    }
    fs::rename(partial, data)
}

/// Copies a folder with owners, permissions and times of modification; what is neither file, folder nor link is left out.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&source, &copy)?;
        } else if kind.is_file() {
            fs::copy(&source, &copy)?;
            take_after(&copy, &fs::symlink_metadata(&source)?)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &copy)?;
            let found = fs::symlink_metadata(&source)?;
            lchown(&copy, Some(found.uid()), Some(found.gid()))?;
        }
    }
    take_after(to, &fs::symlink_metadata(from)?)
}

fn take_after(copy: &Path, original: &fs::Metadata) -> io::Result<()> {
    lchown(copy, Some(original.uid()), Some(original.gid()))?;
    // After the owner: a change of owner takes set-id bits away.
    fs::set_permissions(copy, fs::Permissions::from_mode(original.mode() & 0o7777))?;
    if let Ok(modified) = original.modified() {
        File::open(copy)?.set_modified(modified)?;
    }
    Ok(())
}

fn folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

/// `name` in the folder open as `folder`, which has no path here.
fn below(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

fn failed(wanted: &GuestMount, call: &'static str) -> impl FnOnce(io::Error) -> BootError {
    let label = String::from_utf8_lossy(wanted.label.as_bytes()).into_owned();
    move |source| BootError::Volume { label, call, source }
}
