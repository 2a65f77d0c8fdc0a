//! Noticing that the host's clock jumped.

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Some time that does not come.
const NEVER: TimeSpec = TimeSpec::new(1 << 40, 0);

/// Tells when the host's wall clock was set or the host woke from sleep, after which a guest's clock is wrong.
///
/// A timer that never expires is cancelled by the kernel at such a moment (`timerfd_create(2)`,
/// `TFD_TIMER_CANCEL_ON_SET`), so that waiting costs nothing.
#[derive(Debug)]
pub struct ClockWatch {
    timer: TimerFd,
    /// The same timer as the runtime watches it.
    watched: AsyncFd<OwnedFd>,
}

impl ClockWatch {
    /// Starts watching. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel or the runtime has no such timer.
    pub fn new() -> io::Result<ClockWatch> {
        let timer =
            TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        arm(&timer)?;
        let watched = timer.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` is one open descriptor, always the same, for as long as it lives.
        let watched = unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE)? };
        Ok(ClockWatch { timer, watched })
    }

    /// Waits for the next jump.
    ///
    /// # Errors
    /// The error of reading the timer.
    pub async fn jumped(&self) -> io::Result<()> {
        loop {
            let mut ready = self.watched.readable().await?;
            match ready.try_io(|_| read(&self.timer)) {
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ECANCELED) => {
                    return arm(&self.timer);
                }
                Ok(Err(error)) => return Err(error),
                // It never expires; not ready after all.
                Ok(Ok(())) | Err(_) => {}
            }
        }
    }
}

fn arm(timer: &TimerFd) -> io::Result<()> {
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    Ok(timer.set(Expiration::OneShot(NEVER), flags)?)
}

fn read(timer: &TimerFd) -> io::Result<()> {
    let mut count = [0; 8];
    nix::unistd::read(timer.as_fd(), &mut count)?;
    Ok(())
}
