//! Copying files out and in, and looking at one.

use super::{at, other, say, stream};
use crate::archive::{Owner, PackOptions, UnpackOptions, pack, unpack};
use crate::message::{ByteString, FILES_DIR, FileInfo, FileKind, Found, Stat, TarIn, TarOut, ToolError};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most links in a row, the kernel's own limit.
const LINK_LIMIT: usize = 40;

pub(super) fn tar_out(spec: &TarOut) -> Result<(), ToolError> {
    let given = path(&spec.path);
    let (resolved, found) = resolve(given, spec.follow).map_err(at(given))?;
    if found.is_none() {
        return Err(at(given)(ErrorKind::NotFound.into()));
    }
    // Mounts that are the machine's and not the image's.
    let leave_out = ["/dev", FILES_DIR].iter().filter_map(|folder| Some(fs::metadata(folder).ok()?.dev()));
    let options =
        PackOptions { name: spec.name.clone().unwrap_or_default().0, leave_out: leave_out.collect() };
    pack(&resolved, options, stream(&io::stdout())?)?;
    Ok(())
}

pub(super) fn tar_in(spec: &TarIn) -> Result<(), ToolError> {
    let folder = path(&spec.folder);
    let flags = libc::O_DIRECTORY | libc::O_CLOEXEC;
    let into = OpenOptions::new().read(true).custom_flags(flags).open(folder).map_err(at(folder))?;
    let options = UnpackOptions {
        owner: spec.owner.map_or(Owner::Archived, |(uid, gid)| Owner::Fixed(uid, gid)),
        // A bit that lends its owner's rights is not lent to another owner.
        privileged: spec.owner.is_none(),
        replace: spec.replace,
        only: None,
    };
    let input: File = stream(&io::stdin())?;
    unpack(input, into.as_fd(), &options)?;
    Ok(())
}

pub(super) fn stat(spec: &Stat) -> Result<(), ToolError> {
    let given = path(&spec.path);
    let (resolved, found) = resolve(given, spec.follow).map_err(at(given))?;
    let file = match found {
        None => None,
        Some(metadata) => Some(describe(&resolved, &metadata).map_err(at(given))?),
    };
    let path = resolved.into_os_string().into();
    say(io::stdout(), &Found { path, file }).map_err(|e| other(e.to_string()))
}

fn path(bytes: &ByteString) -> &Path {
    Path::new(OsStr::from_bytes(bytes.as_bytes()))
}

/// The path without links on the way, its last one with `follow`, and what is there. Its parent must exist.
fn resolve(path: &Path, follow: bool) -> io::Result<(PathBuf, Option<Metadata>)> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINK_LIMIT {
        let bytes = path.as_os_str().as_bytes();
        let is_folder = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes.ends_with(b"/..");
        let (Some(parent), Some(name), false) = (path.parent(), path.file_name(), is_folder) else {
            let resolved = fs::canonicalize(&path)?;
            let metadata = fs::metadata(&resolved)?;
            return Ok((resolved, Some(metadata)));
        };
        let parent = fs::canonicalize(parent)?;
        let resolved = parent.join(name);
        match fs::symlink_metadata(&resolved) {
            Ok(metadata) if follow && metadata.is_symlink() => path = parent.join(fs::read_link(&resolved)?),
            Ok(metadata) => return Ok((resolved, Some(metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if !fs::metadata(&parent)?.is_dir() {
                    return Err(ErrorKind::NotADirectory.into());
                }
                return Ok((resolved, None));
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn describe(path: &Path, metadata: &Metadata) -> io::Result<FileInfo> {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_file() => FileKind::File,
        () if kind.is_dir() => FileKind::Folder,
        () if kind.is_symlink() => FileKind::Symlink,
        () if kind.is_fifo() => FileKind::Pipe,
        () if kind.is_socket() => FileKind::Socket,
        () if kind.is_char_device() => FileKind::CharDevice,
        () => FileKind::BlockDevice,
    };
    let target = match kind {
        FileKind::Symlink => Some(ByteString(fs::read_link(path)?.into_os_string().into_vec())),
        _ => None,
    };
    Ok(FileInfo {
        kind,
        size: metadata.size(),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0)),
        target,
    })
}
