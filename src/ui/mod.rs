//! The only way to the terminal: messages, tables and progress on standard error, data on standard output.

mod attach;
mod labelled;
mod progress;
mod screen;
mod table;
mod terminal;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use console::Style;

pub use attach::{Joint, Parted, attach, join};
pub use labelled::Labelled;
pub use progress::PullProgress;
pub use screen::Screen;
pub use table::Table;
pub use terminal::{RawTerminal, ask, ask_secret, has_terminal, size as terminal_size};

/// What the user wants to see; made once from the global flags.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    quiet: bool,
}

impl Ui {
    /// `quiet` leaves out notes and progress, never errors.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Whether progress bars may be drawn.
    #[must_use]
    pub fn draws_progress(self) -> bool {
        !self.quiet
            && io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Whether notes are wanted.
    #[must_use]
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// A line about what was done, such as `Added app to Sandboxfile`: the verb stands out.
    pub fn done(self, verb: &str, what: impl Display) {
        if !self.quiet {
            to_stderr(&format!("{} {what}", Style::new().green().bold().for_stderr().apply_to(verb)));
        }
    }

    /// Text the user has asked for that is not data.
    pub fn message(self, text: impl Display) {
        to_stderr(&text.to_string());
    }

    /// Something the user should know but need not act on.
    pub fn note(self, text: impl Display) {
        if !self.quiet {
            to_stderr(&format!("{} {text}", Style::new().cyan().for_stderr().apply_to("note:")));
        }
    }

    /// Something that may surprise the user.
    pub fn warning(self, text: impl Display) {
        to_stderr(&format!("{} {text}", Style::new().yellow().bold().for_stderr().apply_to("warning:")));
    }

    /// An error: headline, the causes below it, the lines it is about, and what to do next.
    pub fn error(self, headline: impl Display, snippet: Option<&str>, hints: &[String]) {
        let mut text = format!("{} {headline}", Style::new().red().bold().for_stderr().apply_to("error:"));
        if let Some(snippet) = snippet {
            text.push('\n');
            text.push_str(snippet);
        }
        for hint in hints {
            text.push_str(&format!("\n{} {hint}", Style::new().cyan().for_stderr().apply_to("hint:")));
        }
        to_stderr(&text);
    }

    /// Data for programs, as JSON on standard output.
    ///
    /// # Errors
    /// As [`Ui::data`].
    pub fn json(self, data: &impl serde::Serialize) -> io::Result<()> {
        self.data(serde_json::to_string_pretty(data)?)
    }

    /// Data: goes to standard output.
    ///
    /// # Errors
    /// Standard output cannot be written; a closed pipe is reported like any other.
    pub fn data(self, text: impl Display) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }
}

/// Bytes as people read them: `1.5 GiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// How long ago a time (RFC 3339) was, as people say it: `3 weeks ago`. `None` for what is no time, or ahead of us.
#[must_use]
pub fn age_of(time: &str) -> Option<String> {
    let time: jiff::Timestamp = time.parse().ok()?;
    let age = jiff::Timestamp::now().duration_since(time).try_into().ok()?;
    Some(format!("{} ago", indicatif::HumanDuration(age)))
}

/// Messages have nowhere else to go when standard error is closed, so a failure is dropped.
fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
