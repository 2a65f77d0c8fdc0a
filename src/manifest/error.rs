//! What can go wrong with a Sandboxfile.

use std::io;
use std::path::PathBuf;

use thiserror::Error as ThisError;

use super::snippet::Snippet;

/// Longest list of names a hint shows.
const SHOWN_NAMES: usize = 8;

/// A failure around a Sandboxfile.
///
/// `Display` is one headline without place and advice; [`Error::snippet`] and [`Error::hint`] have those.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// Neither the folder nor any above it has a Sandboxfile.
    #[error("no Sandboxfile in `{}` or any folder above it", start.display())]
    NotFound {
        /// Where the search began.
        start: PathBuf,
    },
    /// `--file` names a folder without a Sandboxfile, or nothing.
    #[error("there is no Sandboxfile at `{}`", path.display())]
    NotThere {
        /// As given.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process has been editing in the same folder for too long.
    #[error("another process is editing `{}`", path.display())]
    Busy {
        /// The Sandboxfile.
        path: PathBuf,
    },
    /// The file is larger than any Sandboxfile needs to be.
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// The file is not UTF-8 text.
    #[error("`{}` is not UTF-8 text: byte {offset} does not fit", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that does not fit, from 0.
        offset: usize,
    },
    /// A lock file that cannot be read as one.
    #[error("`{}` is not a lock file: {message}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The text is not YAML, or more than the limits allow.
    #[error("not valid YAML: {message}")]
    Yaml {
        /// What the YAML reader says.
        message: String,
        /// Where.
        snippet: Option<Box<Snippet>>,
        /// What to do.
        hint: Option<String>,
    },
    /// A line of an env file is not `KEY=VALUE`.
    #[error("{message}")]
    EnvFile {
        /// What is wrong with the line.
        message: String,
        /// Where.
        snippet: Box<Snippet>,
    },
    /// A value breaks a rule or is of the wrong kind.
    #[error("{message}")]
    Invalid {
        /// Which value and which rule.
        message: String,
        /// Where, if it comes from a file.
        snippet: Option<Box<Snippet>>,
        /// What to do.
        hint: Option<String>,
    },
    /// A key that is not part of the format.
    #[error("unknown key `{key}`{within}")]
    UnknownKey {
        /// The key.
        key: String,
        /// In what, as ` in sandbox x`; empty at the top.
        within: String,
        /// Where.
        snippet: Option<Box<Snippet>>,
        /// What to do.
        hint: Option<String>,
    },
    /// A key of the format which this version does not have yet.
    #[error("this version of msb does not support `{key}`{within}")]
    UnsupportedKey {
        /// The key.
        key: String,
        /// In what, as ` in sandbox x`; empty at the top.
        within: String,
        /// Where.
        snippet: Option<Box<Snippet>>,
    },
    /// A required key is not there.
    #[error("missing key `{key}`{within}")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// In what, as ` in sandbox x`.
        within: String,
        /// Where.
        snippet: Option<Box<Snippet>>,
    },
    /// The same key twice in one map.
    #[error("the key `{key}` is there twice{within}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// In what, as ` in sandbox x`; empty at the top.
        within: String,
        /// The second one.
        snippet: Option<Box<Snippet>>,
    },
    /// No sandbox of this name.
    #[error("no sandbox `{name}` in the Sandboxfile")]
    UnknownSandbox {
        /// As asked for.
        name: String,
        /// Names like it.
        nearest: Vec<String>,
        /// Every name there is.
        defined: Vec<String>,
    },
    /// No script of this name.
    #[error("sandbox `{sandbox}` has no script `{script}`")]
    UnknownScript {
        /// The sandbox.
        sandbox: String,
        /// As asked for.
        script: String,
        /// Names like it.
        nearest: Vec<String>,
        /// Every name there is.
        defined: Vec<String>,
    },
    /// `add` of a name that is taken.
    #[error("the Sandboxfile already has a sandbox `{name}`")]
    SandboxExists {
        /// The name.
        name: String,
    },
    /// The file is written in a way the editor cannot change without harm.
    #[error("cannot edit the Sandboxfile safely: {reason}")]
    CannotEdit {
        /// Why.
        reason: String,
    },
    /// `init` where there is a Sandboxfile.
    #[error("`{}` already exists", path.display())]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// No template of this name.
    #[error("no template `{name}`")]
    UnknownTemplate {
        /// As asked for.
        name: String,
        /// Names like it.
        nearest: Vec<String>,
    },
}

impl Error {
    /// The place in a file, if the failure has one.
    pub fn snippet(&self) -> Option<&Snippet> {
        match self {
            Self::EnvFile { snippet, .. } => Some(snippet),
            Self::Yaml { snippet, .. }
            | Self::Invalid { snippet, .. }
            | Self::UnknownKey { snippet, .. }
            | Self::UnsupportedKey { snippet, .. }
            | Self::MissingKey { snippet, .. }
            | Self::DuplicateKey { snippet, .. } => snippet.as_deref(),
            _ => None,
        }
    }

    /// What to do next, one line, if there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some("`msb init` makes one".to_owned()),
            Self::NotThere { .. } => Some("--file takes a Sandboxfile or the folder of one".to_owned()),
            Self::Yaml { hint, .. } | Self::Invalid { hint, .. } | Self::UnknownKey { hint, .. } => {
                hint.clone()
            }
            Self::Lock { .. } => {
                Some("resolve it by hand, or delete it and write it anew with `msb lock`".to_owned())
            }
            Self::UnsupportedKey { key, .. } => {
                Some(format!("`{key}` belongs to the Sandboxfile format; remove it or use a newer msb"))
            }
            Self::MissingKey { key: "image", .. } => Some("add an image, such as `image: alpine`".to_owned()),
            Self::DuplicateKey { .. } => Some("remove one of the two".to_owned()),
            Self::UnknownSandbox { nearest, defined, .. } => {
                Some(meant(nearest).or_else(|| listed("its sandboxes are", defined)).unwrap_or_else(|| {
                    "it has no sandboxes yet: `msb add NAME --image IMAGE` adds one".to_owned()
                }))
            }
            Self::UnknownScript { nearest, defined, .. } => Some(
                meant(nearest)
                    .or_else(|| listed("its scripts are", defined))
                    .unwrap_or_else(|| "it has no scripts: add one under `scripts:`".to_owned()),
            ),
            Self::SandboxExists { .. } => {
                Some("take another name, or edit the file to change the sandbox".to_owned())
            }
            Self::CannotEdit { .. } => Some("make this change by hand".to_owned()),
            Self::UnknownTemplate { nearest, .. } => {
                meant(nearest).or_else(|| listed("the templates are", &super::template_names()))
            }
            _ => None,
        }
    }
}

/// `did you mean …?`, if there is anything to suggest.
pub(super) fn meant(nearest: &[String]) -> Option<String> {
    let quoted: Vec<String> = nearest.iter().map(|name| format!("`{name}`")).collect();
    let (last, rest) = quoted.split_last()?;
    let names = if rest.is_empty() { last.clone() } else { format!("{} or {last}", rest.join(", ")) };
    Some(format!("did you mean {names}?"))
}

fn listed(lead: &str, names: &[impl AsRef<str>]) -> Option<String> {
    let shown: Vec<&str> = names.iter().take(SHOWN_NAMES).map(AsRef::as_ref).collect();
    let rest = if names.len() > SHOWN_NAMES { ", …" } else { "" };
    (!shown.is_empty()).then(|| format!("{lead} {}{rest}", shown.join(", ")))
}
