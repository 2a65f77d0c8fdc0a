//! The nodes of a YAML text with their places, for errors about values and for edits that keep comments.

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

/// Deepest nesting that is followed; a valid Sandboxfile has 5.
const DEEPEST: usize = 64;

/// A node and the bytes it covers. The place of a block collection ends with its last node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar { value: String, plain: bool },
    List { items: Vec<Node>, flow: bool },
    Map { entries: Vec<(Node, Node)>, flow: bool },
    Alias,
}

impl Node {
    /// The value that is not there.
    fn nothing_at(at: usize) -> Self {
        Self { start: at, end: at, kind: Kind::Scalar { value: String::new(), plain: true } }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The key and value of `key` in a map.
    pub(super) fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        match &self.kind {
            Kind::Map { entries, .. } => entries.iter().find(|(name, _)| name.text() == Some(key)),
            _ => None,
        }
    }

    /// Whether this stands for "no value": nothing at all, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar { value, plain: true } => {
                matches!(value.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// The place of the value at `path` (of its last key, when `at_key`), as deep as the path can be followed.
    pub(super) fn locate(&self, path: &[String], at_key: bool) -> (usize, usize) {
        let mut node = self;
        let mut place = (self.start, self.start);
        for (depth, step) in path.iter().enumerate() {
            let last = depth + 1 == path.len();
            match &node.kind {
                Kind::Map { .. } => {
                    let Some((key, value)) = node.entry(step) else { break };
                    let by_key = (last && at_key) || value.start == value.end || !is_short(value);
                    place = if by_key { (key.start, key.end) } else { (value.start, value.end) };
                    node = value;
                }
                Kind::List { items, .. } => {
                    let by_index = step.parse().ok().and_then(|index: usize| items.get(index));
                    let by_text = || items.iter().find(|item| item.text() == Some(step));
                    let Some(item) = by_index.or_else(by_text) else { break };
                    place = (item.start, item.end);
                    node = item;
                }
                Kind::Scalar { .. } | Kind::Alias => break,
            }
        }
        place
    }

    /// Keys from this node down to what lies at byte `at`; the deepest one may be the key at that place.
    pub(super) fn path_at(&self, at: usize) -> Vec<String> {
        self.descend(at, |_| false)
    }

    /// Keys from this node down to the outermost value that begins at byte `at`.
    pub(super) fn path_to_value_at(&self, at: usize) -> Vec<String> {
        self.descend(at, |value| value.start == at)
    }

    fn descend(&self, at: usize, is_there: impl Fn(&Node) -> bool) -> Vec<String> {
        let mut path = Vec::new();
        let mut node = self;
        loop {
            if is_there(node) {
                return path;
            }
            let next = match &node.kind {
                Kind::Map { entries, .. } => entries
                    .iter()
                    .rev()
                    .find(|(key, value)| key.start <= at && at <= value.end.max(key.end))
                    .and_then(|(key, value)| Some((key.text()?.to_owned(), value))),
                Kind::List { items, .. } => items
                    .iter()
                    .enumerate()
                    .rev()
                    .find(|(_, item)| item.start <= at && at <= item.end)
                    .map(|(index, item)| (index.to_string(), item)),
                Kind::Scalar { .. } | Kind::Alias => None,
            };
            let Some((step, below)) = next else { return path };
            path.push(step);
            node = below;
        }
    }
}

/// Scalars and flow collections can be marked as a whole; a block collection is better marked at its key.
fn is_short(node: &Node) -> bool {
    matches!(
        &node.kind,
        Kind::Scalar { .. } | Kind::Alias | Kind::List { flow: true, .. } | Kind::Map { flow: true, .. }
    )
}

/// The root node of a text of one document, up to the first mistake; `None` when there is none.
pub(super) fn tree(text: &str) -> Option<Node> {
    let mut events = Events { parser: Parser::new_from_str(text), text, ended: false };
    loop {
        match events.next()? {
            (Event::StreamEnd, _) => return None,
            (Event::StreamStart | Event::DocumentStart(..), _) => {}
            (event, span) => return events.node(event, span, 0),
        }
    }
}

struct Events<'t> {
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    text: &'t str,
    /// Behind a mistake, or something too deep, the nesting of events means nothing.
    ended: bool,
}

impl<'t> Events<'t> {
    fn next(&mut self) -> Option<(Event<'t>, Span)> {
        if self.ended {
            return None;
        }
        let event = self.parser.next_event().and_then(Result::ok);
        self.ended = event.is_none();
        event
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Option<Node> {
        if depth > DEEPEST {
            self.ended = true;
            return None;
        }
        let range = span.byte_range()?;
        match event {
            Event::Scalar(value, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                let end = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => {
                        self.block_end(range.start, range.end, &value)
                    }
                    _ => range.end,
                };
                // The parser spells "nothing" as `~`.
                let value = if range.is_empty() && plain { String::new() } else { value.into_owned() };
                Some(Node { start: range.start, end, kind: Kind::Scalar { value, plain } })
            }
            Event::Alias(_) => Some(Node { start: range.start, end: range.end, kind: Kind::Alias }),
            Event::SequenceStart(style, ..) => self.list(range.start, style == StructureStyle::Flow, depth),
            Event::MappingStart(style, ..) => self.map(range.start, style == StructureStyle::Flow, depth),
            _ => None,
        }
    }

    /// Where a block scalar really ends: the parser's span runs on to the next token.
    fn block_end(&self, start: usize, end: usize, value: &str) -> usize {
        let body = &self.text[start..end];
        // More than one line break at the end is kept only by `|+`; there, the empty lines are content.
        let content =
            if value.ends_with("\n\n") { body.trim_end_matches([' ', '\t']) } else { body.trim_end() };
        start + content.len()
    }

    fn list(&mut self, start: usize, flow: bool, depth: usize) -> Option<Node> {
        let mut items: Vec<Node> = Vec::new();
        let mut end = start;
        while let Some((event, span)) = self.next() {
            if event == Event::SequenceEnd {
                end = if flow { span.byte_range()?.end } else { end };
                break;
            }
            let Some(item) = self.node(event, span, depth + 1) else { break };
            end = end.max(item.end);
            items.push(item);
        }
        Some(Node { start, end, kind: Kind::List { items, flow } })
    }

    fn map(&mut self, start: usize, flow: bool, depth: usize) -> Option<Node> {
        let mut entries = Vec::new();
        let mut end = start;
        while let Some((event, span)) = self.next() {
            if event == Event::MappingEnd {
                end = if flow { span.byte_range()?.end } else { end };
                break;
            }
            let Some(key) = self.node(event, span, depth + 1) else { break };
            let value = self.next().and_then(|(event, span)| self.node(event, span, depth + 1));
            let value = value.unwrap_or_else(|| Node::nothing_at(key.end));
            end = end.max(value.end).max(key.end);
            entries.push((key, value));
        }
        Some(Node { start, end, kind: Kind::Map { entries, flow } })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn at<'t>(text: &'t str, path: &[&str]) -> &'t str {
        let path: Vec<String> = path.iter().map(|&step| step.to_owned()).collect();
        let (start, end) = tree(text).unwrap().locate(&path, false);
        &text[start..end]
    }

    #[test]
    fn places_are_those_of_the_source() {
        let text = "é:\n  list: [a, 'b c']\n  body: |\n    x\n\n  # c\n  keep: |+\n    y\n\n  none:\n  map: {k: v}\n";
        assert_eq!(at(text, &["é", "list", "1"]), "'b c'");
        assert_eq!(at(text, &["é", "list"]), "[a, 'b c']");
        assert_eq!(at(text, &["é", "body"]), "x");
        assert_eq!(at(text, &["é", "keep"]), "y\n\n");
        assert_eq!(at(text, &["é", "none"]), "none");
        assert_eq!(at(text, &["é", "map", "k"]), "v");
        assert_eq!(at(text, &["é", "missing"]), "é");
        let root = tree(text).unwrap();
        assert_eq!(root.path_at(text.find("b c").unwrap()), ["é", "list", "1"]);
        assert_eq!(root.path_at(text.find("k:").unwrap()), ["é", "map", "k"]);
        assert_eq!(root.path_to_value_at(text.find("{k").unwrap()), ["é", "map"]);
    }

    #[test]
    fn a_mistake_does_not_hide_what_is_above_it() {
        let text = "a:\n  b: 1\n  c: %\n";
        assert_eq!(tree(text).unwrap().path_at(text.find('1').unwrap()), ["a", "b"]);
        let deep = format!("a: {}", "[".repeat(200));
        assert_eq!(tree(&deep).unwrap().path_at(0), ["a"]);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "(?s)([a-c:\\-\\[\\]{},&*|>#'\"% \n\t]|.){0,60}", place in 0usize..80) {
            if let Some(root) = tree(&text) {
                let path = root.path_at(place);
                let (start, end) = root.locate(&path, false);
                prop_assert!(start <= end && text.get(start..end).is_some());
            }
        }
    }
}
