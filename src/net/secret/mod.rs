//! Secrets: values that a sandbox can use towards their own hosts, and never has.
//!
//! A [`Secret`] is what is written down: where the value comes from, whose it is, where in a request it may stand. [`Secrets`] are the
//! values of one run, each with the placeholder that the sandbox gets in its stead. They are held by the supervisor alone and
//! overwritten when they are dropped; [`intercept`](super::intercept) puts them in on the wire.

mod held;
mod host;
mod parse;
mod place;
mod source;

pub use held::{Held, Secrets};
pub use host::{HostPattern, HostPatternError};
pub use parse::SecretError;
pub(crate) use parse::is_variable;
pub use place::{Place, PlaceError, Places};
pub use source::{Source, SourceError, SourceProblem};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::policy::Name;

/// A secret as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The sandbox's variable that holds the placeholder.
    pub name: String,
    /// Where the value comes from.
    pub from: Source,
    /// Whose it is: nobody else gets it.
    pub hosts: Vec<HostPattern>,
    /// Where in a request it may stand.
    #[serde(rename = "in", default)]
    pub places: Places,
    /// Where relative paths begin and commands are run.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub folder: PathBuf,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl Secret {
    /// Whether it may be sent to `host`.
    #[must_use]
    pub fn is_for(&self, host: &Name) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host))
    }
}
