//! Lines of several sources in one place, each with the name of its source in front.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use console::{Color, Style};

/// What the names are written in, one after the other.
const COLOURS: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Green, Color::Magenta, Color::Blue, Color::Red];
/// Longest line that is waited for; what is longer is printed in parts.
const LONGEST_LINE: usize = 64 * 1024;

/// Prints whole lines, `name | line`, so that those of different sources do not mix.
#[derive(Debug)]
pub struct Labelled {
    /// For standard output and standard error, by source.
    labels: Vec<[String; 2]>,
    /// Begun lines, of both streams of each source.
    begun: Vec<Mutex<[Vec<u8>; 2]>>,
    /// Held while a line is written.
    turn: Mutex<()>,
}

impl Labelled {
    /// For sources of these names.
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let label = |(name, colour): (&&str, &Color)| {
            let style = Style::new().fg(*colour);
            let text = format!("{name:width$} |");
            [style.clone().apply_to(&text).to_string(), style.for_stderr().apply_to(&text).to_string()]
        };
        Self {
            labels: names.iter().zip(COLOURS.iter().cycle()).map(label).collect(),
            begun: names.iter().map(|_| Mutex::default()).collect(),
            turn: Mutex::default(),
        }
    }

    /// Prints what source number `source` has written to its standard error, or else output; `whole` where the line ends.
    ///
    /// # Errors
    /// The stream of the same name cannot be written.
    pub fn print(&self, source: usize, is_error: bool, content: &[u8], whole: bool) -> io::Result<()> {
        let (Some(begun), Some(labels)) = (self.begun.get(source), self.labels.get(source)) else {
            return Ok(());
        };
        let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
        let [out, err] = &mut *begun;
        let [out_label, err_label] = labels;
        let (line, label) = if is_error { (err, err_label) } else { (out, out_label) };
        line.extend_from_slice(content);
        if !whole && line.len() < LONGEST_LINE {
            return Ok(());
        }
        // A terminal ends its lines with both.
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let text = [label.as_bytes(), if text.is_empty() { b"" } else { b" " }, text, b"\n"].concat();
        line.clear();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if is_error {
            io::stderr().lock().write_all(&text)
        } else {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&text).and_then(|()| stdout.flush())
        }
    }

    /// Prints the lines of source number `source` that have no end.
    ///
    /// # Errors
    /// As [`Labelled::print`].
    pub fn end(&self, source: usize) -> io::Result<()> {
        for is_error in [false, true] {
            let is_begun = self.begun.get(source).is_some_and(|begun| {
                begun
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(usize::from(is_error))
                    .is_some_and(|line| !line.is_empty())
            });
            if is_begun {
                self.print(source, is_error, b"", true)?;
            }
        }
        Ok(())
    }
}
