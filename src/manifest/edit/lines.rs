//! The lines of a text and what they are to an edit.

/// The start of the line that byte `at` is on, which may be any byte of a character.
pub(super) fn start_of_line(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |line_break| line_break + 1)
}

/// The start of the next line, or the end of the text. Where content ended with its line break (a block that
/// keeps its empty last lines), that is `end` itself.
pub(super) fn after_content(text: &str, end: usize) -> usize {
    if end > 0 && text[..end].ends_with('\n') { end } else { next_line(text, end) }
}

/// The start of the line after the one that byte `at` is on, or the end of the text.
pub(super) fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |line_break| at + line_break + 1)
}

/// What stands on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Blank,
    /// Nothing but a comment, in this column.
    Comment(usize),
    Content,
}

/// What stands on the line that starts at byte `start`.
pub(super) fn line_at(text: &str, start: usize) -> Line {
    let line = text[start..next_line(text, start)].trim_end();
    let content = line.trim_start();
    match content.chars().next() {
        None => Line::Blank,
        Some('#') => Line::Comment(line.len() - content.len()),
        Some(_) => Line::Content,
    }
}

/// The start of the line before the one that starts at `start`; `None` on the first line.
pub(super) fn previous_line(text: &str, start: usize) -> Option<usize> {
    (start > 0).then(|| start_of_line(text, start - 1))
}

/// The end of what belongs to an entry whose content ends at byte `end`: the start of the line after it and
/// after the comments below it that stand in `column` or further right.
pub(super) fn end_with_comments(text: &str, end: usize, column: usize) -> usize {
    let mut owned = after_content(text, end);
    let mut at = owned;
    while at < text.len() {
        let next = next_line(text, at);
        match line_at(text, at) {
            Line::Blank => {}
            Line::Comment(its) if its >= column => owned = next,
            Line::Comment(_) | Line::Content => break,
        }
        at = next;
    }
    owned
}

/// The column of byte `at` when nothing but spaces stands before it on its line.
pub(super) fn indentation(text: &str, at: usize) -> Option<usize> {
    let before = text[start_of_line(text, at)..at].trim_start_matches('\u{feff}');
    before.bytes().all(|byte| byte == b' ').then_some(before.len())
}

/// The line break the text uses.
pub(super) fn line_break(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}
