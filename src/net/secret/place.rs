//! Where in a request a secret may stand.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The value of a header field.
    Header,
    /// User or password of basic authentication (RFC 7617).
    Basic,
    /// What follows the `?`.
    Query,
    /// The path.
    Path,
    /// The content.
    Body,
}

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no part of a request: there are header, basic, query, path and body")]
pub struct PlaceError(pub String);

impl Place {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Header, Self::Basic, Self::Query, Self::Path, Self::Body];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Basic => "basic",
            Self::Query => "query",
            Self::Path => "path",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let short = || PlaceError(text.chars().take(40).collect());
        Self::ALL.into_iter().find(|place| place.as_str() == text).ok_or_else(short)
    }
}

/// Parts of a request, at least one. Header and basic authentication where nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Places(Vec<Place>);

impl Default for Places {
    fn default() -> Self {
        Self(vec![Place::Header, Place::Basic])
    }
}

impl Places {
    /// These, each once; `None` if there are none.
    #[must_use]
    pub fn new(places: impl IntoIterator<Item = Place>) -> Option<Self> {
        let mut places: Vec<Place> = places.into_iter().collect();
        places.sort_unstable();
        places.dedup();
        (!places.is_empty()).then_some(Self(places))
    }

    /// Whether `place` is one of them.
    #[must_use]
    pub fn contains(&self, place: Place) -> bool {
        self.0.contains(&place)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Place> {
        self.0.iter().copied()
    }
}
