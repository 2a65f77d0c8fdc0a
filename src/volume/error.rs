//! What can go wrong with a volume.

use std::io;
use std::path::PathBuf;

use super::store::User;
use crate::{disk, manifest};

/// An error of a volume.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A shared folder or file is not there.
    #[error("the source of volume `{volume}` does not exist: {}", path.display())]
    Missing {
        /// The volume as written.
        volume: String,
        /// The path.
        path: PathBuf,
    },
    /// A shared folder or file cannot be opened.
    #[error("cannot open {}, the source of volume `{volume}`: {source}", path.display())]
    Source {
        /// The volume as written.
        volume: String,
        /// The path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Neither a folder nor a file.
    #[error("{}, the source of volume `{volume}`, is neither a folder nor a file", path.display())]
    Kind {
        /// The volume as written.
        volume: String,
        /// The path.
        path: PathBuf,
    },
    /// Two volumes at one place.
    #[error("two volumes are to be mounted on {target}")]
    SameTarget {
        /// The place in the sandbox.
        target: String,
    },
    /// No volume of that name.
    #[error("no volume `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A volume of that name exists.
    #[error("there is a volume `{name}` already")]
    Exists {
        /// The name.
        name: String,
    },
    /// A name that cannot be a volume's.
    #[error("`{name}` cannot be the name of a volume")]
    Name {
        /// The name.
        name: String,
    },
    /// Somebody uses the volume in a way that excludes this one.
    #[error("volume `{name}` is in use{}", users_text(users))]
    InUse {
        /// The name.
        name: String,
        /// By whom, where known.
        users: Vec<User>,
    },
    /// A sandbox is defined to use the volume.
    #[error("volume `{name}` belongs to {}", by.join(", "))]
    Needed {
        /// The name.
        name: String,
        /// What needs it.
        by: Vec<String>,
    },
    /// The disk of a volume.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A file or folder of the store.
    #[error("cannot use {}: {source}", path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { path, .. } => {
                Some(format!("make it first, such as with `mkdir -p {}`", path.display()))
            }
            Self::Unknown { name, known } => {
                let near = crate::manifest::nearest(name, known.iter().map(String::as_str));
                Some(match near.first() {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "there are none yet; they are made by their first use".into(),
                    None => format!("there are: {}", known.join(", ")),
                })
            }
            Self::Name { .. } => Some(manifest::NAME_RULE.into()),
            Self::InUse { .. } => Some(
                "a volume is written by one sandbox at a time; several may share it when all mount it with :ro"
                    .into(),
            ),
            Self::Needed { .. } => Some("take it out there first, or remove it with --force".into()),
            _ => None,
        }
    }
}

fn users_text(users: &[User]) -> String {
    if users.is_empty() {
        return String::new();
    }
    let users: Vec<String> = users.iter().map(ToString::to_string).collect();
    format!(" by {}", users.join(", "))
}
