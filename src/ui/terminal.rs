//! The caller's terminal: its size, and raw mode that is undone on every way out.

use std::io::{self, IsTerminal as _, Write as _};
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

/// Asks on the terminal for a line.
///
/// # Errors
/// The terminal cannot be read or is at its end.
pub fn ask(question: &str) -> io::Result<String> {
    write!(io::stderr(), "{question}")?;
    let mut line = String::new();
    match io::stdin().read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim().to_owned()),
    }
}

/// Asks on the terminal for a line that does not show. Keys are read one by one, since whoever stops a program that only has the
/// echo switched off is left with a terminal that shows nothing.
///
/// # Errors
/// The terminal cannot be read or is at its end; [`io::ErrorKind::Interrupted`] for Ctrl-C.
pub fn ask_secret(question: &str) -> io::Result<String> {
    write!(io::stderr(), "{question}")?;
    let raw = RawTerminal::enter()?;
    let line = read_secret(&mut io::stdin().lock());
    drop(raw);
    writeln!(io::stderr())?;
    line
}

fn read_secret(keys: &mut impl io::Read) -> io::Result<String> {
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    const ERASE_LINE: u8 = 21;
    let mut line = Vec::new();
    let mut key = [0];
    loop {
        if keys.read(&mut key)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match key[0] {
            b'\r' | b'\n' => break,
            INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
            END if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            END => break,
            ERASE_LINE => line.clear(),
            0x7f | 0x08 => {
                // The bytes that continue a character go with it.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte => line.push(byte),
        }
    }
    String::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_edited_by_the_usual_keys() {
        let read = |keys: &[u8]| read_secret(&mut &keys[..]);
        assert_eq!(read("ab\x15pä\u{7f}ß\r".as_bytes()).ok(), Some("pß".to_owned()));
        assert_eq!(read(b"x\x04").ok(), Some("x".to_owned()));
        for (keys, kind) in [
            (&b"x\x03"[..], io::ErrorKind::Interrupted),
            (b"\x04", io::ErrorKind::UnexpectedEof),
            (b"x", io::ErrorKind::UnexpectedEof),
            (b"\xff\r", io::ErrorKind::InvalidData),
        ] {
            assert_eq!(read(keys).map_err(|error| error.kind()), Err(kind), "{keys:?}");
        }
    }
}
