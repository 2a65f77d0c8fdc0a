//! An entry of `sandboxes` cut out.

use super::super::spans::{self, Kind, Node};
use super::lines::{self, Line};

/// The text without the sandbox `name`; `None` where it is written in a way that has no lines of its own.
pub(super) fn remove(text: &str, name: &str) -> Option<String> {
    let root = spans::tree(text)?;
    let (_, sandboxes) = root.entry("sandboxes")?;
    let Kind::Map { entries, flow } = &sandboxes.kind else { return None };
    let index = entries.iter().position(|(key, _)| key.text() == Some(name))?;
    let (start, end) =
        if *flow { in_flow(sandboxes, entries, index)? } else { in_block(text, entries, index)? };
    Some(format!("{}{}", &text[..start], &text[end..]))
}

/// The bytes to cut in a flow map: the entry and one comma.
fn in_flow(map: &Node, entries: &[(Node, Node)], index: usize) -> Option<(usize, usize)> {
    let end_of = |(key, value): &(Node, Node)| key.end.max(value.end);
    let this = entries.get(index)?;
    match (index.checked_sub(1).and_then(|before| entries.get(before)), entries.get(index + 1)) {
        (Some(before), _) => Some((end_of(before), end_of(this))),
        (None, Some((next, _))) => Some((this.0.start, next.start)),
        (None, None) => Some((map.start + 1, map.end - 1)),
    }
}

/// The lines to cut in a block map: the entry, its own comments, and the empty line that set it apart.
fn in_block(text: &str, entries: &[(Node, Node)], index: usize) -> Option<(usize, usize)> {
    let (key, value) = entries.get(index)?;
    let column = lines::indentation(text, key.start)?;
    let mut end = lines::end_with_comments(text, key.end.max(value.end), column + 1);
    // Up to here the text belongs to the entry before, comments to its right included.
    let before = index.checked_sub(1).and_then(|before| entries.get(before));
    let floor = before.map(|(key, value)| lines::end_with_comments(text, key.end.max(value.end), column + 1));

    let mut start = lines::start_of_line(text, key.start);
    while let Some(above) =
        lines::previous_line(text, start).filter(|above| floor.is_none_or(|floor| *above >= floor))
    {
        match lines::line_at(text, above) {
            Line::Comment(its) if its == column => start = above,
            _ => break,
        }
    }
    if before.is_some_and(|(_, value)| text[..value.end].ends_with('\n') && value.end == start) {
        // The entry above ends in a body that keeps its empty last lines; it must not gain those below.
        while end < text.len() && lines::line_at(text, end) == Line::Blank {
            end = lines::next_line(text, end);
        }
    }
    let blank_above = lines::previous_line(text, start).filter(|above| {
        floor.is_none_or(|floor| *above >= floor) && lines::line_at(text, *above) == Line::Blank
    });
    let last = index + 1 == entries.len();
    let blank_below = end < text.len() && lines::line_at(text, end) == Line::Blank;
    match blank_above {
        Some(above) if last || blank_below => start = above,
        // The first entry: no gap between `sandboxes:` and the one that is first now.
        None if before.is_none() && blank_below && !last => {
            return Some((start, lines::next_line(text, end)));
        }
        _ => {}
    }
    Some((start, end))
}
