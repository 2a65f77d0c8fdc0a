//! Pseudo-terminals.

use crate::message::{self, WindowSize};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Group `tty` of every distribution.
const TTY_GROUP: u32 = 5;

/// Both ends of a pseudo-terminal.
///
/// The process's end stays open here too: without it the master would report a hang-up, and nothing else, whenever the
/// process has its terminal closed for a moment.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

impl Terminal {
    /// Makes a terminal of the given size, UTF-8 aware, owned by `uid`.
    pub(super) fn open(spec: &message::Terminal, uid: u32) -> io::Result<Terminal> {
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let master = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/ptmx")?;
        let master = OwnedFd::from(master);
        let unlock: libc::c_int = 0;
        // SAFETY: TIOCSPTLCK reads one int.
        check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: TIOCGPTPEER takes open flags by value and gives a new descriptor.
        let slave = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
        // SAFETY: the kernel just made this descriptor and nothing else owns it.
        let slave = unsafe { OwnedFd::from_raw_fd(slave) };
        let terminal = Terminal { master, slave };
        terminal.resize(WindowSize { rows: spec.rows, cols: spec.cols })?;
        terminal.expect_utf8()?;
        if uid != 0 {
            nix::unistd::fchown(&terminal.slave, Some(uid.into()), Some(TTY_GROUP.into()))?;
        }
        Ok(terminal)
    }

    /// Sets the size; the kernel tells the foreground group with SIGWINCH.
    pub(super) fn resize(&self, size: WindowSize) -> io::Result<()> {
        let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads one winsize.
        check(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
        Ok(())
    }

    /// Makes erasing in line mode remove whole characters.
    fn expect_utf8(&self) -> io::Result<()> {
        use nix::sys::termios::{InputFlags, SetArg, tcgetattr, tcsetattr};
        let mut attributes = tcgetattr(&self.slave)?;
        attributes.input_flags |= InputFlags::IUTF8;
        Ok(tcsetattr(&self.slave, SetArg::TCSANOW, &attributes)?)
    }

    /// The process group that is in the foreground, if any.
    pub(super) fn foreground(&self) -> Option<i32> {
        let group = nix::unistd::tcgetpgrp(&self.master).ok()?.as_raw();
        (group > 1).then_some(group)
    }

    /// The byte that means end of file when a program reads lines, `None` when it reads raw bytes.
    pub(super) fn end_of_file(&self) -> Option<u8> {
        use nix::sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr};
        let attributes = tcgetattr(&self.slave).ok()?;
        let lines = attributes.local_flags.contains(LocalFlags::ICANON);
        let byte = attributes.control_chars[SpecialCharacterIndices::VEOF as usize];
        (lines && byte != 0).then_some(byte)
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
