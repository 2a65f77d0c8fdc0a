//! A new entry at the end of `sandboxes`.

use super::super::spans::{self, Kind, Node};
use super::lines::{self, Line};
use super::write::Entry;

/// Spaces per level where the text does not say.
const STEP: usize = 2;
const KEY: &str = "sandboxes";

/// The text with the entry; `None` where it is written in a way that has no place for it.
pub(super) fn insert(text: &str, entry: &Entry<'_>) -> Option<String> {
    let Some(root) = spans::tree(text) else { return Some(append_key(text, text.len(), 0, entry)) };
    match &root.kind {
        Kind::Map { flow: true, .. } => match root.entry(KEY) {
            Some((_, value)) => into_flow(text, value, entry),
            None => Some(into_braces(text, &root, &format!("\"{KEY}\": {{{}}}", entry.flow()))),
        },
        Kind::Map { flow: false, entries } => match root.entry(KEY) {
            Some((key, value)) => into_block(text, key, value, entry),
            None => {
                let column = lines::indentation(text, entries.first()?.0.start)?;
                let at = lines::end_with_comments(text, root.end, column + 1);
                Some(append_key(text, at, column, entry))
            }
        },
        // Only a document start (`---`), or nothing.
        Kind::Scalar { .. } if root.is_null() && root.start == root.end => {
            Some(append_key(text, text.len(), 0, entry))
        }
        _ => None,
    }
}

/// Puts `sandboxes:` with the entry at byte `at`, the start of a line.
fn append_key(text: &str, at: usize, column: usize, entry: &Entry<'_>) -> String {
    let mut added = vec![format!("{}{KEY}:", " ".repeat(column))];
    added.extend(entry.block(column + STEP, STEP));
    let apart = lines::previous_line(text, at).is_some_and(|line| lines::line_at(text, line) != Line::Blank);
    splice(text, at, apart, &added)
}

/// Puts the entry into the value of the block key `sandboxes`.
fn into_block(text: &str, key: &Node, value: &Node, entry: &Entry<'_>) -> Option<String> {
    let key_column = lines::indentation(text, key.start)?;
    match &value.kind {
        Kind::Map { entries, flow: false } => {
            let column = lines::indentation(text, entries.first()?.0.start)?;
            let at = lines::end_with_comments(text, value.end, column);
            let added = entry.block(column, step(text, entries).unwrap_or(STEP));
            Some(splice(text, at, is_apart(text, entries, at), &added))
        }
        Kind::Map { flow: true, .. } if !is_bare_braces(text, value) => into_flow(text, value, entry),
        Kind::Map { flow: true, .. } | Kind::Scalar { .. }
            if value.is_null() || is_bare_braces(text, value) =>
        {
            let without = cut_value(text, value);
            let added = entry.block(key_column + STEP, STEP);
            let at = lines::end_with_comments(&without, key.end, key_column + 1);
            let apart = lines::previous_line(&without, at)
                .is_some_and(|line| matches!(lines::line_at(&without, line), Line::Comment(_)));
            Some(splice(&without, at, apart, &added))
        }
        _ => None,
    }
}

/// How far the keys of an entry stand right of its name.
fn step(text: &str, entries: &[(Node, Node)]) -> Option<usize> {
    entries.iter().find_map(|(key, value)| match &value.kind {
        Kind::Map { entries, flow: false } => {
            let inner = lines::indentation(text, entries.first()?.0.start)?;
            inner.checked_sub(lines::indentation(text, key.start)?)
        }
        _ => None,
    })
}

/// Whether an empty line belongs before an entry that follows `entries` at byte `at`.
fn is_apart(text: &str, entries: &[(Node, Node)], at: usize) -> bool {
    let above = lines::previous_line(text, at).map(|line| lines::line_at(text, line));
    match (above, entries) {
        (Some(Line::Comment(_)), _) => true,
        // The empty lines are the end of a script; one more would change it.
        (Some(Line::Blank), _) => false,
        (_, [.., _, (last, _)]) => gap_above(text, last),
        _ => true,
    }
}

/// Whether an empty line stands above an entry and the comments directly above it.
fn gap_above(text: &str, key: &Node) -> bool {
    let mut line = lines::start_of_line(text, key.start);
    while let Some(above) = lines::previous_line(text, line) {
        match lines::line_at(text, above) {
            Line::Blank => return true,
            Line::Comment(_) => line = above,
            Line::Content => return false,
        }
    }
    false
}

/// Whether a flow map is `{}` with nothing but white space inside.
fn is_bare_braces(text: &str, value: &Node) -> bool {
    let source = &text[value.start..value.end];
    source.split_whitespace().collect::<String>() == "{}"
}

/// The text without a value that says "nothing", and without the white space before it.
fn cut_value(text: &str, value: &Node) -> String {
    if value.start == value.end {
        return text.to_owned();
    }
    format!("{}{}", text[..value.start].trim_end(), &text[value.end..])
}

/// Puts the entry into a flow map, or in place of a null.
fn into_flow(text: &str, value: &Node, entry: &Entry<'_>) -> Option<String> {
    match &value.kind {
        Kind::Map { flow: true, .. } => Some(into_braces(text, value, &entry.flow())),
        Kind::Scalar { .. } if value.is_null() && value.start < value.end => {
            Some(format!("{}{{{}}}{}", &text[..value.start], entry.flow(), &text[value.end..]))
        }
        _ => None,
    }
}

fn into_braces(text: &str, map: &Node, added: &str) -> String {
    let last = match &map.kind {
        Kind::Map { entries, .. } => entries.last(),
        _ => None,
    };
    let (at, comma) = match last {
        Some((key, value)) => (key.end.max(value.end), ", "),
        None => (map.start + 1, ""),
    };
    format!("{}{comma}{added}{}", &text[..at], &text[at..])
}

/// The text with `added` lines at byte `at`, the start of a line or the end of the text.
fn splice(text: &str, at: usize, apart: bool, added: &[String]) -> String {
    let line_break = lines::line_break(text);
    let mut edited = text[..at].to_owned();
    if !edited.is_empty() && !edited.ends_with('\n') {
        edited.push_str(line_break);
    }
    if apart {
        edited.push_str(line_break);
    }
    for line in added {
        edited.push_str(line);
        edited.push_str(line_break);
    }
    edited.push_str(&text[at..]);
    edited
}
