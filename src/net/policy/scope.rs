//! The four scopes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::class::Class;
use super::error::ScopeError;

/// What a sandbox may reach where no rule says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Nothing.
    None,
    /// The other sandboxes of its groups.
    Group,
    /// Those, and the internet, but nothing private.
    #[default]
    Public,
    /// Everything the host reaches, and the host.
    Any,
}

impl Scope {
    /// Every scope, the narrowest first.
    pub const ALL: [Self; 4] = [Self::None, Self::Group, Self::Public, Self::Any];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Group => "group",
            Self::Public => "public",
            Self::Any => "any",
        }
    }

    /// Whether it reaches addresses of this class.
    #[must_use]
    pub fn reaches(self, class: Class) -> bool {
        match self {
            Self::None => false,
            Self::Group => class == Class::Group,
            Self::Public => matches!(class, Class::Group | Class::Internet),
            Self::Any => true,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    /// Reads the word, in whatever case.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ScopeError(super::error::shown(text)))
    }
}
