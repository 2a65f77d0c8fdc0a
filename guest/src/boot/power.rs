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

/// The file system of the writable disk, held by its root folder: inside the new root it has no path.
#[derive(Debug)]
pub(super) struct WritableDisk(File);

impl WritableDisk {
    pub(super) fn new(root: File) -> WritableDisk {
        WritableDisk(root)
    }

    /// Ends all processes and makes the file system read-only, which writes everything and marks it clean. `None` when that
    /// worked; else itself, for a plain sync.
    pub(super) fn settle(self) -> Option<WritableDisk> {
        end_processes();
        match self.read_only() {
            Ok(()) => None,
            Err(error) => {
                complain(&format!("the writable disk cannot be made read-only: {error}"));
                Some(self)
            }
        }
    }

    /// By descriptor, not by path: what is mounted where is the guest's own business by now.
    fn read_only(&self) -> io::Result<()> {
        let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
        // SAFETY: the path is an empty NUL-terminated string, as FSPICK_EMPTY_PATH wants it.
        let context = unsafe { libc::syscall(libc::SYS_fspick, self.0.as_raw_fd(), c"".as_ptr(), flags) };
        let context = result(context)?;
        let nothing = std::ptr::null::<libc::c_char>();
        // SAFETY: the key is a NUL-terminated string; flags and commands take no value.
        unsafe {
            result(libc::syscall(
                libc::SYS_fsconfig,
                context,
                FSCONFIG_SET_FLAG,
                c"ro".as_ptr(),
                nothing,
                0,
            ))?;
            result(libc::syscall(
                libc::SYS_fsconfig,
                context,
                FSCONFIG_CMD_RECONFIGURE,
                nothing,
                nothing,
                0,
            ))?;
        }
        Ok(())
    }
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

/// Powers off; syncs before when `disk` still needs it. Every hypervisor we use ends its process on a reset.
pub(super) fn off(disk: Option<WritableDisk>) {
    if disk.is_some() {
        nix::unistd::sync();
    }
    let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
    complain(&format!("reboot: {error}"));
    // Returning from PID 1 makes the kernel panic, and that ends the machine as well.
}
