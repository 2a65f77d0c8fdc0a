//! The piece of a file an error points at.

use std::fmt;
use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthChar;

/// Longest part of a source line that is shown, in columns.
const SHOWN_COLUMNS: usize = 120;
/// How much of a long line is shown before the place of the error, in characters.
const LEAD: usize = 60;

/// One line of a file with a mark under the place in question.
///
/// Its `Display` is the picture compilers draw, without colour; the fields serve those who style it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, fit for a terminal: tabs as one space, control characters replaced, long lines cut.
    pub source: String,
    /// Terminal columns of `source` before the mark.
    pub mark_at: usize,
    /// Terminal columns to mark, at least 1.
    pub mark_width: usize,
}

impl Snippet {
    /// The place `start..end` (bytes) of `text`; the mark ends with the line.
    pub(super) fn at(text: &str, path: &Path, start: usize, end: usize) -> Self {
        let start = floor_char(text, start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let before = text[line_start..start].trim_start_matches('\u{feff}');
        let line = text[..start].matches('\n').count() + 1;
        let column = before.chars().count() + 1;
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let rest = text[start..line_end].trim_end_matches('\r');
        let marked = floor_char(text, end.clamp(start, line_end)) - start;
        let mark = &rest[..marked.min(rest.len())];

        let skipped = column.saturating_sub(LEAD + 1);
        let cut_front = skipped > 0 && before.chars().count() > LEAD;
        let shown_before: String = if cut_front {
            std::iter::once('…').chain(before.chars().skip(skipped).map(plain)).collect()
        } else {
            before.chars().map(plain).collect()
        };
        let mark_at = width(&shown_before);
        let (source, cut) = cut(shown_before, rest);
        let mark_width = width(&mark.chars().map(plain).collect::<String>()).max(1);
        let room = if cut { width(&source).saturating_sub(mark_at).max(1) } else { mark_width };
        Self { path: path.to_owned(), line, column, source, mark_at, mark_width: mark_width.min(room) }
    }
}

/// Appends what of `rest` still fits to `shown`; true when something was left off.
fn cut(mut shown: String, rest: &str) -> (String, bool) {
    let mut columns = width(&shown);
    for c in rest.trim_end().chars().map(plain) {
        columns += c.width().unwrap_or(0);
        if columns > SHOWN_COLUMNS {
            shown.push('…');
            return (shown, true);
        }
        shown.push(c);
    }
    (shown, false)
}

/// The character as it may go to a terminal.
fn plain(c: char) -> char {
    match c {
        '\t' => ' ',
        // Bidirectional overrides would show the line in another order than it is read.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The greatest character boundary at or below `at`.
pub(super) fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The byte of `line` and `column` (both from 1, column in characters).
pub(super) fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => return text.len(),
        }
    }
    let rest = &text[start..];
    let rest = rest.find('\n').map_or(rest, |end| &rest[..end]);
    let bom = if start == 0 && rest.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let within = &rest[bom..];
    start + bom + within.char_indices().nth(column.saturating_sub(1)).map_or(within.len(), |(at, _)| at)
}

impl fmt::Display for Snippet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "{gutter}--> {}:{}:{}", self.path.display(), self.line, self.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{}", format!("{number} | {}", self.source).trim_end())?;
        write!(f, "{gutter} | {}{}", " ".repeat(self.mark_at), "^".repeat(self.mark_width))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn show(text: &str, start: usize, end: usize) -> String {
        Snippet::at(text, Path::new("Sandboxfile"), start, end).to_string()
    }

    #[test]
    fn draws_line_and_mark() {
        let text = "sandboxes:\n  app:\n    imagee: x\n";
        let start = text.find("imagee").unwrap();
        assert_eq!(
            show(text, start, start + 6),
            " --> Sandboxfile:3:5\n  |\n3 |     imagee: x\n  |     ^^^^^^"
        );
    }

    #[test]
    fn counts_characters_and_marks_columns() {
        let text = "a: \"日本\" x\r\nb: 1\r\n";
        let start = text.find('x').unwrap();
        assert_eq!(
            show(text, start, start + 1),
            " --> Sandboxfile:1:9\n  |\n1 | a: \"日本\" x\n  |           ^"
        );
        let start = text.find('日').unwrap();
        assert_eq!(
            show(text, start, text.len()),
            " --> Sandboxfile:1:5\n  |\n1 | a: \"日本\" x\n  |     ^^^^^^^"
        );
    }

    #[test]
    fn end_of_text_and_hostile_characters_are_shown() {
        assert_eq!(show("a:\n", 3, 9), " --> Sandboxfile:2:1\n  |\n2 |\n  | ^");
        assert_eq!(
            show("a: \u{1b}[31m\u{202e}", 3, 4),
            " --> Sandboxfile:1:4\n  |\n1 | a: \u{fffd}[31m\u{fffd}\n  |    ^"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}here{}", "x".repeat(300), "y".repeat(300));
        let snippet = Snippet::at(&text, Path::new("f"), 300, 304);
        assert_eq!(snippet.column, 301);
        assert!(snippet.source.chars().count() <= SHOWN_COLUMNS + 1);
        let marked: String = snippet.source.chars().skip(snippet.mark_at).take(snippet.mark_width).collect();
        assert_eq!(marked, "here");
    }

    proptest! {
        #[test]
        fn any_place_can_be_shown(text in "(?s).*", start in 0usize..300, length in 0usize..300) {
            let snippet = Snippet::at(&text, Path::new("f"), start, start + length);
            let _ = snippet.to_string();
            prop_assert!(snippet.mark_width >= 1);
            let at = offset_of(&text, snippet.line, snippet.column);
            prop_assert!(at <= text.len() && text.is_char_boundary(at));
        }
    }
}
