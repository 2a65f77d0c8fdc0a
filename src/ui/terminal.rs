//! The caller's terminal: its size, and raw mode that is undone on every way out.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Mutex;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::agent::WindowSize;

/// The mode to go back to; set while raw mode is on, so that a panic can undo it as well.
static COOKED: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether both standard input and standard output are a terminal, so that a program would expect one.
#[must_use]
pub fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The size of the terminal on standard output; 24 × 80 where it will not say.
#[must_use]
pub fn size() -> WindowSize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills in the winsize it is given.
    let answer = unsafe { libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    match (answer, size.ws_row, size.ws_col) {
        (0, rows, cols) if rows > 0 && cols > 0 => WindowSize { rows, cols },
        _ => WindowSize { rows: 24, cols: 80 },
    }
}

/// Raw mode of the terminal on standard input, for as long as this lives: every key goes to the guest.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Switches to raw mode.
    ///
    /// # Errors
    /// Standard input is not a terminal, or it refuses.
    pub fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let cooked = tcgetattr(stdin.as_fd())?;
        let mut raw = cooked.clone();
        cfmakeraw(&mut raw);
        *lock() = Some(cooked);
        let this = Self(());
        tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw)?;
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            earlier(panic);
        }));
        Ok(this)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Termios>> {
    COOKED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn restore() {
    if let Some(cooked) = lock().take() {
        // TCSADRAIN lets the last output of the guest out first; nothing is left to do if it fails.
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &cooked);
    }
}
