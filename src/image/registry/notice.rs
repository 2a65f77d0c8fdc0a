//! What a conversation with a registry has to say while it goes on.

use std::fmt;
use std::time::Duration;

/// Something the user may want to know about a pull that goes on all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A registry is not asked again before some time has passed.
    Waiting {
        /// Why.
        reason: String,
        /// How long.
        pause: Duration,
    },
    /// What the user has stored for a registry cannot be had, so it is asked without.
    CredentialsUnusable {
        /// Why.
        reason: String,
    },
    /// One source failed and the next is asked: a mirror, the registry itself, or an address in the manifest.
    NextSource {
        /// Why.
        reason: String,
        /// Host and port of the next one.
        next: String,
    },
}

/// Told of every [`Notice`].
pub(crate) type Notify<'a> = &'a (dyn Fn(Notice) + Send + Sync);

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { reason, pause } => {
                write!(f, "{reason}; trying again in {:.1} s", pause.as_secs_f64())
            }
            Self::CredentialsUnusable { reason } => write!(f, "{reason}; going on without credentials"),
            Self::NextSource { reason, next } => write!(f, "{reason}; going on with {next}"),
        }
    }
}
