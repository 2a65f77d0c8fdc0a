//! Noticing that processes ended.

use super::SessionError;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// How ends are noticed.
#[derive(Debug)]
pub enum Children {
    /// As PID 1: whatever ended is reaped, the orphans of the whole guest among it. Woken by SIGCHLD.
    All(SignalFd),
    /// As an ordinary process with children of its own: only the processes of the session are waited for. Woken by their
    /// pidfds.
    Own,
}

impl Children {
    /// For PID 1: blocks SIGCHLD for this thread and takes it from a descriptor.
    ///
    /// # Errors
    /// The error of `signalfd(2)`.
    pub fn all() -> io::Result<Children> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        Ok(Children::All(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Descriptor to watch, if there is one for all.
    pub(super) fn watch(&self) -> Option<RawFd> {
        match self {
            Children::All(fd) => Some(fd.as_raw_fd()),
            Children::Own => None,
        }
    }

    /// Empties the signal descriptor. Several SIGCHLD are one, and the reaping finds them all.
    pub(super) fn acknowledge(&mut self) -> Result<(), SessionError> {
        if let Children::All(fd) = self {
            while fd.read_signal().map_err(|e| SessionError::Children(e.into()))?.is_some() {}
        }
        Ok(())
    }
}

/// An ended process and its status: any (`pid` = -1) or a certain one. `None` when there is none now.
pub(super) fn reap(pid: i32) -> Option<(i32, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is one int for the kernel to write.
        let found = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if found > 0 {
            return Some((found, status));
        }
        if found == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
}
