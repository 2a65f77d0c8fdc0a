//! The hosts of a secret.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::policy::{Name, NameError, Pattern};

/// A host name, or with `*.` in front all names below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HostPattern(Pattern);

/// Why a text is no host of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// It is an address.
    #[error("`{0}` is an address, and a server proves who it is by a name")]
    Address(String),
    /// It is everybody.
    #[error("`*` would give it to everybody: name the hosts, as in api.example.com or *.example.com")]
    Everybody,
    /// It has a scheme, a port or a path.
    #[error("`{0}` is more than a host name: write it without scheme, port and path, as in api.example.com")]
    Url(String),
    /// It is no name.
    #[error("`{text}` is not a host name: {source}")]
    Name {
        /// The text.
        text: String,
        /// Why.
        source: NameError,
    },
}

impl HostPattern {
    /// Whether `host` is one of them.
    #[must_use]
    pub fn matches(&self, host: &Name) -> bool {
        self.0.matches(host)
    }

    /// The name, where it is a single one.
    #[must_use]
    pub fn exact(&self) -> Option<&Name> {
        match &self.0 {
            Pattern::Exact(name) => Some(name),
            Pattern::Below(_) => None,
        }
    }

    /// The name at or below which all of them are.
    #[must_use]
    pub fn domain(&self) -> &Name {
        match &self.0 {
            Pattern::Exact(name) | Pattern::Below(name) => name,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Exact(name) => write!(f, "{name}"),
            Pattern::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        if text == "*" {
            return Err(HostPatternError::Everybody);
        }
        if text.parse::<std::net::IpAddr>().is_ok() || text.starts_with('[') {
            return Err(HostPatternError::Address(text.into()));
        }
        if text.contains([':', '/']) {
            return Err(HostPatternError::Url(text.into()));
        }
        let named = |name: &str| {
            name.parse()
                .map_err(|source| HostPatternError::Name { text: text.chars().take(80).collect(), source })
        };
        match text.strip_prefix("*.") {
            Some(parent) => named(parent).map(|name| Self(Pattern::Below(name))),
            None => named(text).map(|name| Self(Pattern::Exact(name))),
        }
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostPatternError;

    fn try_from(text: String) -> Result<Self, HostPatternError> {
        text.parse()
    }
}
