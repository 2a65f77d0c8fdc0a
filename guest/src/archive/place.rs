//! Paths of entries, and the folders they lead to.

use std::io;
use std::os::fd::BorrowedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// A path without slashes at its ends and without `.`: names joined by `/`, empty for the folder itself.
pub(super) fn relative(path: &[u8], limit: usize) -> Result<Vec<u8>, &'static str> {
    if path.len() > limit {
        return Err("its path is too long");
    }
    if path.contains(&0) {
        return Err("its path has a NUL byte");
    }
    let mut joined = Vec::with_capacity(path.len());
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err("its path leads out of the folder"),
            _ => {
                if !joined.is_empty() {
                    joined.push(b'/');
                }
                joined.extend_from_slice(name);
            }
        }
    }
    Ok(joined)
}

/// Parent and name of a [`relative`] path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Whether `path` lies in `folder`.
pub(super) fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Removes a folder and all that is in it, following no link.
pub(super) fn remove_folder(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let mut open = vec![(folder(parent, name)?, name.to_vec())];
    while let Some((fd, _)) = open.last_mut() {
        let inner = empty(fd)?;
        match inner {
            Some(inner) => open.push(inner),
            None => {
                let Some((_, name)) = open.pop() else { break };
                match open.last() {
                    Some((fd, _)) => unlinkat(fd, name.as_slice(), UnlinkatFlags::RemoveDir)?,
                    None => unlinkat(parent, name.as_slice(), UnlinkatFlags::RemoveDir)?,
                }
            }
        }
    }
    Ok(())
}

fn folder(parent: impl std::os::fd::AsFd, name: &[u8]) -> Result<Dir, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Dir::from_fd(openat(parent, name, flags, Mode::empty())?)
}

/// Removes what is in a folder up to the first folder that is not empty, which is given.
fn empty(dir: &mut Dir) -> io::Result<Option<(Dir, Vec<u8>)>> {
    let names: Vec<Vec<u8>> = dir
        .iter()
        .map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec()))
        .filter(|name| !matches!(name.as_deref(), Ok(b"." | b"..")))
        .collect::<Result<_, Errno>>()?;
    for name in names {
        match unlinkat(&*dir, name.as_slice(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => match unlinkat(&*dir, name.as_slice(), UnlinkatFlags::RemoveDir) {
                Err(Errno::ENOTEMPTY) => return Ok(Some((folder(&*dir, &name)?, name))),
                other => other?,
            },
            other => other?,
        }
    }
    Ok(None)
}
