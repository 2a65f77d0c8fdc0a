//! Copying between the host and a guest, with the rules of `docker cp`.
//!
//! Both directions are a tar archive through the agent. What a guest sends is unpacked by a process that believes none of
//! it: below one folder, under the one name that was asked for, following no link ([`msb_guest::archive::unpack`]).
//!
//! - `SRC` that is a folder goes as a whole, `SRC/.` as its content. A symlink goes as itself unless it is to be followed or
//!   has a slash behind it.
//! - An existing folder as `DST` gets the source in it, under its own name; what does not exist, in a folder that does,
//!   becomes the name of the copy. A file takes the place of a file; a folder that of none, and nothing that of a folder.
//! - Copies belong to root in the guest and to the caller on the host, unless archive mode keeps user, group, attributes and
//!   the bits that lend an owner's rights.

mod error;
mod landing;
mod relay;
#[cfg(test)]
mod tests;

pub use error::CopyError;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use msb_guest::archive::{Owner, PackOptions, UnpackOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::agent::{self, ByteString, Exec, FileKind, Found, Stat, TarIn, TarOut, ToolError, ToolErrorKind};
use landing::{Landing, Source, Spelling, Target, land};

/// Most links in a row that are followed on the host, the kernel's own limit.
const LINK_LIMIT: usize = 40;
/// Bytes of a tar stream read at a time.
const STREAM_BUFFER: usize = 256 << 10;

/// How to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Keep owner, group, extended attributes, devices and the setuid and setgid bits. On the host, owners are kept only for
    /// root.
    pub archive: bool,
    /// Copy what a symlink leads to when the source is one.
    pub follow: bool,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of the archive that went through the agent.
    pub bytes: u64,
    /// Sockets, and devices without archive mode, which were left out. Known only of what is packed or unpacked on the host.
    pub left_out: u64,
}

/// Called with the bytes copied so far.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// Copies `from` in the guest to `to` on the host.
///
/// # Errors
/// [`CopyError`]. What was copied before stays.
pub async fn to_host(
    guest: &(impl Exec + ?Sized),
    (from, to): (&ByteString, &Path),
    options: CopyOptions,
    progress: Progress<'_>,
) -> Result<Copied, CopyError> {
    let (source, path) = guest_source(guest, from, options.follow).await?;
    let target = host_target(to)?;
    let Landing { folder, name } = land(&source, &target)?;
    let folder = PathBuf::from(std::ffi::OsString::from_vec(folder));
    let into = open_folder(&folder)?;
    let spec = TarOut { path, follow: false, name: name.clone().map(ByteString) };
    let is_root = nix::unistd::geteuid().is_root();
    let unpacking = UnpackOptions {
        owner: if options.archive && is_root { Owner::Archived } else { Owner::Caller },
        privileged: options.archive,
        replace: false,
        only: name,
    };
    relay::unpack(agent::copy_out(guest, spec)?, (into, unpacking), progress).await
}

/// Copies `from` on the host to `to` in the guest.
///
/// # Errors
/// [`CopyError`]. What was copied before stays.
pub async fn to_guest(
    guest: &(impl Exec + ?Sized),
    (from, to): (&Path, &ByteString),
    options: CopyOptions,
    progress: Progress<'_>,
) -> Result<Copied, CopyError> {
    let (source, path) = host_source(from, options.follow)?;
    let target = guest_target(guest, to).await?;
    let Landing { folder, name } = land(&source, &target)?;
    let packing = PackOptions { name: name.unwrap_or_default(), ..PackOptions::default() };
    let copy = agent::copy_in(guest, into_guest(folder, options))?;
    relay::pack((path, packing), copy, progress).await
}

/// Writes a tar archive of `from` in the guest to `out`.
///
/// # Errors
/// [`CopyError`].
pub async fn to_stream(
    guest: &(impl Exec + ?Sized),
    from: &ByteString,
    mut out: impl AsyncWrite + Unpin,
    options: CopyOptions,
) -> Result<Copied, CopyError> {
    let (source, path) = guest_source(guest, from, options.follow).await?;
    let spec = TarOut { path, follow: false, name: (!source.contents).then_some(ByteString(source.base)) };
    let mut copy = agent::copy_out(guest, spec)?;
    let mut copied = Copied::default();
    while let Some(bytes) = copy.read().await? {
        copied.bytes += bytes.len() as u64;
        out.write_all(&bytes).await.map_err(CopyError::Stream)?;
    }
    out.flush().await.map_err(CopyError::Stream)?;
    Ok(copied)
}

/// Unpacks the tar archive `input` into the folder `to` in the guest.
///
/// # Errors
/// [`CopyError`]. What was unpacked before stays.
pub async fn from_stream(
    guest: &(impl Exec + ?Sized),
    mut input: impl AsyncRead + Unpin,
    to: &ByteString,
    options: CopyOptions,
) -> Result<Copied, CopyError> {
    let target = guest_target(guest, to).await?;
    if target.is_folder != Some(true) {
        return Err(CopyError::NotAFolder { path: target.spelled });
    }
    let mut copy = agent::copy_in(guest, into_guest(target.path, options))?;
    let mut copied = Copied::default();
    let mut buffer = vec![0; STREAM_BUFFER];
    loop {
        let count = input.read(&mut buffer).await.map_err(CopyError::Stream)?;
        if count == 0 {
            copy.finish().await?;
            return Ok(copied);
        }
        copied.bytes += count as u64;
        copy.write_all(&buffer[..count]).await?;
    }
}

fn into_guest(folder: Vec<u8>, options: CopyOptions) -> TarIn {
    TarIn { folder: ByteString(folder), owner: (!options.archive).then_some((0, 0)), replace: false }
}

/// What is to be copied out, and its path without links on the way.
async fn guest_source(
    guest: &(impl Exec + ?Sized),
    from: &ByteString,
    follow: bool,
) -> Result<(Source, ByteString), CopyError> {
    let spelling = Spelling::of(from.as_bytes());
    let follow = follow || spelling.is_folder;
    let found = look(guest, &spelling, follow).await?;
    let file = found.file.ok_or_else(|| CopyError::NotFound { path: spelling.shown() })?;
    let is_folder = file.kind == FileKind::Folder;
    if spelling.is_folder && !is_folder {
        return Err(CopyError::NotAFolder { path: spelling.shown() });
    }
    // The name comes from what was asked for, never from what the guest says.
    let base = spelling.base();
    let contents = spelling.contents || base.is_none();
    let base = base.unwrap_or_default();
    Ok((Source { is_folder, contents, base, spelled: spelling.shown() }, found.path))
}

/// Where a copy goes in the guest.
async fn guest_target(guest: &(impl Exec + ?Sized), to: &ByteString) -> Result<Target, CopyError> {
    let spelling = Spelling::of(to.as_bytes());
    let found = look(guest, &spelling, true).await?;
    Ok(Target {
        path: found.path.0,
        is_folder: found.file.map(|file| file.kind == FileKind::Folder),
        must_be_folder: spelling.is_folder,
        spelled: spelling.shown(),
    })
}

async fn look(
    guest: &(impl Exec + ?Sized),
    spelling: &Spelling<'_>,
    follow: bool,
) -> Result<Found, CopyError> {
    // Relative paths start at the root of the guest, as docker has it.
    let path = ByteString(spelling.path.to_vec());
    agent::stat(guest, Stat { path, follow }).await.map_err(|error| match error {
        ToolError::Failed { kind: ToolErrorKind::NotFound, .. } => {
            CopyError::NotFound { path: spelling.shown() }
        }
        other => other.into(),
    })
}

/// What is to be copied in, and its path.
fn host_source(from: &Path, follow: bool) -> Result<(Source, PathBuf), CopyError> {
    let spelling = Spelling::of(from.as_os_str().as_bytes());
    let host = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => CopyError::NotFound { path: spelling.shown() },
        io::ErrorKind::NotADirectory => CopyError::NotAFolder { path: spelling.shown() },
        _ => CopyError::Host { path: from.to_owned(), source: error },
    };
    let mut path = spelling.as_path().to_owned();
    let base = match path.file_name() {
        Some(name) => Some(name.as_bytes().to_vec()),
        None => fs::canonicalize(&path).map_err(host)?.file_name().map(|name| name.as_bytes().to_vec()),
    };
    if follow || spelling.is_folder {
        path = fs::canonicalize(&path).map_err(host)?;
    }
    let is_folder = fs::symlink_metadata(&path).map_err(host)?.is_dir();
    if spelling.is_folder && !is_folder {
        return Err(CopyError::NotAFolder { path: spelling.shown() });
    }
    let contents = spelling.contents || base.is_none();
    Ok((Source { is_folder, contents, base: base.unwrap_or_default(), spelled: spelling.shown() }, path))
}

/// Where a copy goes on the host. Links are followed: they are the caller's own.
fn host_target(to: &Path) -> Result<Target, CopyError> {
    let spelling = Spelling::of(to.as_os_str().as_bytes());
    let host = |source: io::Error| CopyError::Host { path: to.to_owned(), source };
    let mut path = spelling.as_path().to_owned();
    if path.file_name().is_none() {
        path = fs::canonicalize(&path).map_err(host)?;
    }
    let mut links = 0;
    while let Ok(link) = fs::read_link(&path) {
        path = path.parent().unwrap_or(Path::new("")).join(link);
        links += 1;
        if links > LINK_LIMIT {
            return Err(host(io::Error::from_raw_os_error(libc::ELOOP)));
        }
    }
    let is_folder = match fs::metadata(&path) {
        Ok(metadata) => Some(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(host(error)),
    };
    Ok(Target {
        path: path.into_os_string().into_vec(),
        is_folder,
        must_be_folder: spelling.is_folder,
        spelled: spelling.shown(),
    })
}

fn open_folder(folder: &Path) -> Result<OwnedFd, CopyError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(folder);
    opened.map(File::into).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CopyError::NotFound { path: folder.display().to_string() },
        _ => CopyError::Host { path: folder.to_owned(), source: error },
    })
}
