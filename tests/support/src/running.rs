//! A command that still runs.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::process::{Process, wait_until};

/// A started command with pipes on its streams. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    pub(crate) child: OwnedChild,
    shown: String,
    limit: Duration,
}

/// A child that does not outlive its handle.
#[derive(Debug)]
pub(crate) struct OwnedChild(Child);

impl std::ops::Deref for OwnedChild {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for OwnedChild {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn new(child: Child, shown: String, limit: Duration) -> Self {
        Self { child: OwnedChild(child), shown, limit }
    }

    /// The process that was started.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    #[track_caller]
    pub fn process(&self) -> Process {
        Process::find(self.child.id().cast_signed()).unwrap_or_else(|| panic!("`{}` has ended", self.shown))
    }

    /// The VMM it runs, as soon as there is one.
    #[must_use]
    #[track_caller]
    pub fn vmm(&self) -> Process {
        let caller = self.process();
        let mut vmms = Vec::new();
        wait_until(self.limit, "a VMM runs", || {
            vmms = caller.descendants();
            vmms.retain(Process::is_vmm);
            !vmms.is_empty()
        });
        // QEMU may run as the child of our own wrapper: the innermost one is the VMM.
        vmms[vmms.len() - 1]
    }

    /// The write end of its standard input. `None` after it was taken; dropping it is the end of the input.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// The read end of its standard output. `None` after it was taken.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The read end of its standard error. `None` after it was taken.
    pub fn stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// Writes to its standard input, which stays open.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.child.stdin.as_mut().unwrap().write_all(bytes.as_ref()).unwrap();
    }

    /// Reads standard output until it has printed `text`; returns all that was read now.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let deadline = Instant::now() + self.limit;
        let pipe = self.child.stdout.as_mut().unwrap();
        loop {
            let so_far = String::from_utf8_lossy(&seen);
            if so_far.contains(text) {
                return so_far.into_owned();
            }
            assert!(readable(&*pipe, deadline), "`{}` did not print {text:?}, only {so_far:?}", self.shown);
            let mut chunk = [0; 4096];
            let count = pipe.read(&mut chunk).unwrap();
            if count == 0 {
                let mut errors = String::new();
                let _ = self.child.stderr.as_mut().unwrap().read_to_string(&mut errors);
                panic!("`{}` ended without printing {text:?}, only {so_far:?}; stderr: {errors}", self.shown);
            }
            seen.extend_from_slice(&chunk[..count]);
        }
    }

    /// Sends a signal to the process that was started, and to it alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = Process::find(self.child.id().cast_signed()) {
            process.signal(signal);
        }
    }

    /// Waits for its end, at most so long. Closes its standard input first.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        drop(self.child.stdin.take());
        let mut status = None;
        wait_until(limit, &format!("`{}` ends", self.shown), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// What is left on its standard error; call it after [`Self::wait`].
    #[track_caller]
    pub fn errors(&mut self) -> String {
        let mut bytes = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What is left on its standard output; call it after [`Self::wait`].
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }
}

/// Waits until something can be read (or the other end is closed); false at the deadline.
pub(crate) fn readable(fd: &impl AsFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, timeout), Ok(count) if count > 0)
}
