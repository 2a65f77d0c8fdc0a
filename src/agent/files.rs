//! Files of a guest: copying them out and in as tar archives, and looking at one.

use super::error::Error;
use super::tool::{Exec, Lines, Running, ToolError, parse};
use bytes::Bytes;
use msb_guest::message::{FileKind, Found, Stat, TarIn, TarOut, Tool};

/// Longest line of an answer.
const LINE_LIMIT: usize = 128 << 10;
/// Longest path, and longest target of a symlink.
const PATH_LIMIT: usize = 8192;

/// Looks at a path of the guest.
///
/// # Errors
/// [`ToolError`]; [`NotFound`](msb_guest::message::ToolErrorKind::NotFound) only when the path's parent does not exist.
pub async fn stat(guest: &(impl Exec + ?Sized), spec: Stat) -> Result<Found, ToolError> {
    let mut lines = Lines::new(Running::start(guest, Tool::Stat(spec))?, LINE_LIMIT);
    let line = lines.next().await?.ok_or(ToolError::Answer("it is empty"))?;
    parse_found(&line)
}

/// Reads what the guest says about a path. The path is absolute, has no `..` and no NUL; like the target of a symlink, it may
/// have control characters.
///
/// # Errors
/// [`ToolError::Answer`].
pub fn parse_found(line: &[u8]) -> Result<Found, ToolError> {
    let mut found: Found = parse(line)?;
    let path = found.path.as_bytes();
    if !is_absolute(path) {
        return Err(ToolError::Answer("a path that is none"));
    }
    if let Some(file) = &mut found.file {
        file.mode &= 0o7777;
        let target = file.target.as_ref().map_or(0, |target| target.as_bytes().len());
        if target > PATH_LIMIT || (target > 0 && file.kind != FileKind::Symlink) {
            return Err(ToolError::Answer("a target of what is no symlink"));
        }
    }
    Ok(found)
}

/// Whether this is an absolute path as the guest gives them.
pub(super) fn is_absolute(path: &[u8]) -> bool {
    let parts = path.split(|&byte| byte == b'/').skip(1);
    path.starts_with(b"/")
        && path.len() <= PATH_LIMIT
        && !path.contains(&0)
        && !parts.into_iter().any(|part| part == b"..")
}

/// A tar archive on its way out of the guest.
#[derive(Debug)]
pub struct CopyOut(Running);

/// Starts packing a path of the guest. What comes is the guest's word: unpack it as such.
///
/// # Errors
/// Why the connection ended.
pub fn copy_out(guest: &(impl Exec + ?Sized), spec: TarOut) -> Result<CopyOut, ToolError> {
    Ok(CopyOut(Running::start(guest, Tool::TarOut(spec))?))
}

impl CopyOut {
    /// The next bytes of the archive; `None` when it is complete.
    ///
    /// # Errors
    /// [`ToolError`], also when the guest could not read all of it.
    pub async fn read(&mut self) -> Result<Option<Bytes>, ToolError> {
        self.0.read().await
    }
}

/// A tar archive on its way into the guest.
#[derive(Debug)]
pub struct CopyIn(Running);

/// Starts unpacking into a folder of the guest.
///
/// # Errors
/// Why the connection ended.
pub fn copy_in(guest: &(impl Exec + ?Sized), spec: TarIn) -> Result<CopyIn, ToolError> {
    Ok(CopyIn(Running::start(guest, Tool::TarIn(spec))?))
}

impl CopyIn {
    /// Sends a part of the archive.
    ///
    /// # Errors
    /// [`ToolError`], when the guest takes no more of it: why it does not.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), ToolError> {
        match self.0.stdin.write_all(bytes).await {
            Err(Error::InputClosed) => {
                self.0.end().await?;
                Err(ToolError::Answer("it takes no more than a part of the archive"))
            }
            other => Ok(other?),
        }
    }

    /// Says that the archive is complete and waits until the guest has unpacked it.
    ///
    /// # Errors
    /// [`ToolError`] when the guest could not unpack all of it.
    pub async fn finish(mut self) -> Result<(), ToolError> {
        self.0.stdin.eof();
        self.0.end().await
    }
}
