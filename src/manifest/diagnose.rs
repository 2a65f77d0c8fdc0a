//! Turns what the YAML reader and the rules say into errors that name the key and show the line.

use std::path::Path;

use serde_saphyr::{Error as YamlError, Location};

use super::check::Problem;
use super::decode::short;
use super::error::{Error, meant};
use super::keys::{self, Verdict};
use super::snippet::{Snippet, offset_of};
use super::spans::{self, Node};

/// A key that only sandboxes have, to tell by the accepted keys where a mistake stands.
const SANDBOX_KEY: &str = "image";
/// A key that only the top of the file has.
const TOP_KEY: &str = "sandboxes";

/// The text an error is about.
struct Source<'t> {
    text: &'t str,
    path: &'t Path,
    tree: Option<Node>,
}

impl<'t> Source<'t> {
    fn new(text: &'t str, path: &'t Path) -> Self {
        Self { text, path, tree: spans::tree(text) }
    }

    fn snippet(&self, (start, end): (usize, usize)) -> Option<Box<Snippet>> {
        Some(Box::new(Snippet::at(self.text, self.path, start, end)))
    }

    /// The bytes a location of the YAML reader means.
    fn range(&self, at: Location) -> (usize, usize) {
        let (line, column) = (usize::try_from(at.line()), usize::try_from(at.column()));
        let start = offset_of(self.text, line.unwrap_or(1), column.unwrap_or(1));
        let length = usize::try_from(at.span().len()).unwrap_or(1).max(1);
        let end =
            self.text[start..].char_indices().nth(length).map_or(self.text.len(), |(more, _)| start + more);
        (start, end)
    }

    fn path_at(&self, at: usize) -> Vec<String> {
        self.tree.as_ref().map(|tree| tree.path_at(at)).unwrap_or_default()
    }
}

/// The error for a broken rule in `text`, the content of the file `path`.
pub(super) fn problem(problem: Problem, text: &str, path: &Path) -> Error {
    let source = Source::new(text, path);
    let place = source.tree.as_ref().map(|tree| tree.locate(&problem.path, problem.at_key));
    let snippet = place.and_then(|place| source.snippet(place));
    Error::Invalid { message: problem.message, snippet, hint: problem.hint }
}

/// The error for what the YAML reader refused in `text`, the content of the file `path`.
pub(super) fn yaml(error: &YamlError, text: &str, path: &Path) -> Error {
    let error = innermost(error);
    let source = Source::new(text, path);
    let Some(range) = error.location().filter(|at| at.line() > 0).map(|at| source.range(at)) else {
        return Error::Yaml { message: message(error), snippet: None, hint: None };
    };
    let mut keys = source.path_at(range.0);
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => unknown_key(&source, range, field, expected),
        YamlError::SerdeMissingField { field, .. } => missing_key(&source, range, field),
        YamlError::DuplicateMappingKey { key, .. } => Error::DuplicateKey {
            key: short(key.as_deref().unwrap_or("")),
            within: within(keys.split_last().map_or(&[], |(_, rest)| rest)),
            snippet: source.snippet(range),
        },
        _ => match kind(error) {
            Some(rule) => {
                if let (YamlError::Unexpected { .. }, Some(tree)) = (error, &source.tree) {
                    // The mistake is the map or list that begins here, not the first key in it.
                    keys.truncate(tree.path_to_value_at(range.0).len());
                }
                let message = format!("{}{rule}", subject(&keys));
                let hint = match keys.get(2).map(|key| (key.as_str(), keys.len())) {
                    Some(("envs", 4..)) => {
                        Some("write `- KEY=VALUE`, or `KEY: VALUE` without the dash".to_owned())
                    }
                    Some(("ports", 3)) => source
                        .text
                        .get(range.0..range.1)
                        .map(|port| format!("write a list: `ports: [{}]`", short(port.trim()))),
                    _ => None,
                };
                Error::Invalid { message, snippet: source.snippet(range), hint }
            }
            None => broken(error, &source, range),
        },
    }
}

/// Text that is not YAML, or has more than the limits allow.
fn broken(error: &YamlError, source: &Source<'_>, range: (usize, usize)) -> Error {
    let message = message(error);
    let hint = if message.contains("quoted scalar") {
        Some("a quotation mark may be missing at the end of a text above")
    } else if message.contains("tab") {
        Some("YAML is indented with spaces, not with tabs")
    } else if message.contains("mapping values are not allowed") {
        Some("put a value that contains `: ` in quotes, or write it as a block after `|`")
    } else if message.contains("expected key") || message.contains("indentation") {
        Some("keys of one map start in the same column: compare this line with those above it")
    } else {
        None
    };
    Error::Yaml { message, snippet: source.snippet(range), hint: hint.map(str::to_owned) }
}

/// The error itself, without what the reader wraps around it.
fn innermost(mut error: &YamlError) -> &YamlError {
    loop {
        error = match error {
            YamlError::WithSnippet { error, .. } | YamlError::AliasError { error, .. } => error,
            _ => return error,
        };
    }
}

/// The words of the reader without the place, which the snippet has.
fn message(error: &YamlError) -> String {
    if let YamlError::MultipleDocuments { .. } = error {
        return "a Sandboxfile is one document, and a second begins here".to_owned();
    }
    if let YamlError::Budget { .. } = error {
        return "nested deeper, or with more values or aliases, than any Sandboxfile needs".to_owned();
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words);
    short(&text.replace('\n', " "))
}

/// What is wrong with a value, to be put after its [`subject`]; `None` when it is the YAML itself.
fn kind(error: &YamlError) -> Option<String> {
    Some(match error {
        YamlError::Message { msg, .. } => format!(": {}", msg.replace('\n', " ")),
        YamlError::NullIntoString { .. } => " has no value".to_owned(),
        YamlError::Unexpected { expected, .. } => match *expected {
            "string scalar" => " must be a single value",
            "sequence start" => " must be a list",
            "mapping start" => " must be a map of keys and values",
            _ => " is of the wrong kind",
        }
        .to_owned(),
        YamlError::InvalidBooleanStrict { .. } => " must be true or false".to_owned(),
        YamlError::SerdeInvalidType { expected, .. } | YamlError::SerdeInvalidValue { expected, .. } => {
            format!(" must be {expected}")
        }
        YamlError::InvalidScalar { ty, .. } => format!(" is not a valid {ty}"),
        _ => return None,
    })
}

fn unknown_key(source: &Source<'_>, range: (usize, usize), key: &str, expected: &[&'static str]) -> Error {
    let keys = source.path_at(range.0);
    let within = within(keys.split_last().map_or(&[], |(_, rest)| rest));
    let snippet = source.snippet(range);
    let hint = match keys::judge(key, expected) {
        Verdict::Unsupported => {
            return Error::UnsupportedKey { key: short(key), within, snippet };
        }
        Verdict::Unknown(near) if near.iter().all(|near| keys::is_unsupported(near)) => match near.first() {
            Some(near) => format!("the nearest key, `{near}`, is not supported by this version of msb"),
            None => elsewhere(key, expected),
        },
        Verdict::Unknown(near) => meant(&near).unwrap_or_default(),
    };
    Error::UnknownKey { key: short(key), within, snippet, hint: Some(hint) }
}

/// The hint for a key without any like it: right elsewhere, or what there is.
fn elsewhere(key: &str, expected: &[&'static str]) -> String {
    let top = expected.contains(&TOP_KEY);
    if top && super::schema::sandbox_keys().iter().any(|known| known == key) {
        return format!("`{key}` belongs to a sandbox: put it under `sandboxes:` and the name of one");
    }
    if key == TOP_KEY && expected.contains(&SANDBOX_KEY) {
        return "`sandboxes` belongs to the top of the file".to_owned();
    }
    format!("the keys here are {}", expected.join(", "))
}

fn missing_key(source: &Source<'_>, range: (usize, usize), key: &'static str) -> Error {
    // The reader points into the sandbox, or the map of one of its keys, or behind it; the name says more.
    let keys = source.path_at(range.0);
    let depth = if key == SANDBOX_KEY { 2 } else { 3 };
    let owner = &keys[..keys.len().min(depth)];
    let place = match &source.tree {
        Some(tree) if owner.len() >= 2 => tree.locate(owner, true),
        _ => range,
    };
    Error::MissingKey { key, within: within(owner), snippet: source.snippet(place) }
}

/// ` in …`, for the map at `keys`; empty at the top of the file and directly in `sandboxes`.
fn within(keys: &[String]) -> String {
    match keys {
        [] => String::new(),
        [top] if top == TOP_KEY => String::new(),
        _ => format!(" in {}", subject(keys)),
    }
}

/// The value at `keys` as the subject of a sentence.
fn subject(keys: &[String]) -> String {
    match keys {
        [] => "the Sandboxfile".to_owned(),
        [top, name] if top == TOP_KEY => format!("sandbox `{}`", short(name)),
        [top, name, rest @ ..] if top == TOP_KEY => {
            format!("`{}` of sandbox `{}`", short(&rest.join(".")), short(name))
        }
        _ => format!("`{}`", short(&keys.join("."))),
    }
}
