//! The end of a machine.

use super::complain;
use nix::sys::reboot::{RebootMode, reboot};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// How long killed processes may take to be gone; one stuck in the kernel must not keep the machine.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// `fsconfig(2)` commands, from `linux/mount.h`.
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_CMD_RECONFIGURE: libc::c_uint = 7;
/// `fspick(2)` flags, from `linux/mount.h`.
const FSPICK_CLOEXEC: libc::c_uint = 1;
const FSPICK_EMPTY_PATH: libc::c_uint = 8;

/// The file systems that must be left in order when the machine ends, each held by its root folder: what is mounted where
/// is the guest's own business by then.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Disks: written and marked clean.
    pub(super) disks: Vec<File>,
    /// Shares: files that are mapped into memory may hold what the host has not seen yet.
    pub(super) shares: Vec<File>,
}

impl Written {
    /// Ends all processes, makes the disks read-only, which writes everything and marks them clean, and hands the host what
    /// is left of its files. Says whether all of it worked; else a plain sync is due.
    pub(super) fn settle(self) -> bool {
        if self.disks.is_empty() && self.shares.is_empty() {
            return true;
        }
        end_processes();
        let mut settled = true;
        for disk in &self.disks {
            if let Err(error) = read_only(disk) {
                complain(&format!("a writable disk cannot be made read-only: {error}"));
                settled = false;
            }
        }
        for share in &self.shares {
            // SAFETY: takes an open descriptor only.
            settled &= unsafe { libc::syncfs(share.as_raw_fd()) } == 0;
        }
        settled
    }
}

fn read_only(root: &File) -> io::Result<()> {
    let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
    // SAFETY: the path is an empty NUL-terminated string, as FSPICK_EMPTY_PATH wants it.
    let context = unsafe { libc::syscall(libc::SYS_fspick, root.as_raw_fd(), c"".as_ptr(), flags) };
    let context = result(context)?;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: the key is a NUL-terminated string; flags and commands take no value.
    unsafe {
        result(libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_SET_FLAG, c"ro".as_ptr(), nothing, 0))?;
        result(libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_CMD_RECONFIGURE, nothing, nothing, 0))?;
    }
    Ok(())
}

fn result(value: libc::c_long) -> io::Result<libc::c_long> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// SIGKILL to everything, and waits until it is gone.
fn end_processes() {
    let start = Instant::now();
    // SAFETY: plain system calls; -1 is every process but this one.
    unsafe {
        libc::kill(-1, libc::SIGKILL);
        loop {
            match libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) {
                0 if start.elapsed() < KILL_PATIENCE => std::thread::sleep(Duration::from_micros(500)),
                1.. => {}
                _ => return,
            }
        }
    }
}

/// Powers off; syncs before when something is `unsettled`. Every hypervisor we use ends its process on a reset.
pub(super) fn off(unsettled: bool) {
    if unsettled {
        nix::unistd::sync();
    }
    let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
    complain(&format!("reboot: {error}"));
    // Returning from PID 1 makes the kernel panic, and that ends the machine as well.
}
