//! The whole terminal, for tables that are drawn again and again.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::terminal::{RawTerminal, size};

/// Ctrl-C in raw mode.
const INTERRUPT: u8 = 3;

/// The alternate screen of the terminal, left when this is dropped.
#[derive(Debug)]
pub struct Screen {
    quit: Arc<AtomicBool>,
    _raw: RawTerminal,
}

impl Screen {
    /// Switches to it.
    ///
    /// # Errors
    /// Standard input is not a terminal, or standard output cannot be written.
    pub fn enter() -> io::Result<Self> {
        let raw = RawTerminal::enter()?;
        let mut out = io::stdout();
        // The alternate screen without a cursor (xterm's control sequences, DECSET 1049 and 25).
        out.write_all(b"\x1b[?1049h\x1b[?25l")?;
        out.flush()?;
        let quit = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&quit);
        std::thread::spawn(move || {
            let mut key = [0];
            while let Ok(1) = io::stdin().read(&mut key) {
                if matches!(key[0], b'q' | b'Q' | INTERRUPT) {
                    asked.store(true, Ordering::Release);
                }
            }
        });
        Ok(Self { quit, _raw: raw })
    }

    /// Whether q or Ctrl-C was typed.
    #[must_use]
    pub fn wants_to_quit(&self) -> bool {
        self.quit.load(Ordering::Acquire)
    }

    /// Shows as much of `text` as fits.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn show(&self, text: &str) -> io::Result<()> {
        let size = size();
        let mut page = String::from("\x1b[H");
        for (number, line) in text.lines().take(size.rows.into()).enumerate() {
            if number > 0 {
                page.push_str("\r\n");
            }
            page.push_str(&console::truncate_str(line, size.cols.into(), ""));
            page.push_str("\x1b[K");
        }
        page.push_str("\x1b[J");
        let mut out = io::stdout();
        out.write_all(page.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout();
        // A terminal that is gone needs nothing undone.
        let _ = out.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
    }
}
