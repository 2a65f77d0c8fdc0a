//! What a gateway has to tell.

use std::time::{Duration, Instant};

use crate::net::intercept::Refusal;
use crate::net::policy::{Name, Peer, Reason};

/// Something worth knowing happened on a sandbox's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The policy kept the sandbox from somebody, or somebody from the sandbox.
    Denied {
        /// From whom.
        peer: Peer,
        /// The names that led there.
        names: Vec<Name>,
        /// Why.
        reason: Reason,
    },
    /// The policy kept the sandbox from a name, or from private addresses that the name leads to.
    DeniedName {
        /// The name.
        name: Name,
        /// Why.
        reason: String,
    },
    /// A connection is over, a conversation by UDP has been quiet for long, or somebody is not pinged any more.
    Ended(Box<Connection>),
    /// A secret was kept from where it does not belong.
    Secret(Refusal),
    /// There are too many of something, and no more are made.
    Limit {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The host has not given what a connection needs.
    NoResources {
        /// What was tried.
        call: &'static str,
        /// The host's answer.
        reason: String,
    },
}

/// A connection that was let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// With whom.
    pub peer: Peer,
    /// The names that led there.
    pub names: Vec<Name>,
    /// What allowed it.
    pub reason: Reason,
    /// How long it lasted.
    pub lasted: Duration,
    /// Bytes from the sandbox.
    pub sent: u64,
    /// Bytes to it.
    pub received: u64,
    /// How it ended.
    pub end: End,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// One of both ends ended it, or nothing was heard for long.
    Closed,
    /// It could not be made.
    Failed(String),
    /// A policy that came later forbids it.
    Revoked(Reason),
}

/// Is told of events, on the gateway's thread: it must be quick.
pub type Observer = Box<dyn FnMut(Event) + Send>;

/// That a connection was let through: what is to be told of it at its end, and decided about again under another policy.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) peer: Peer,
    pub(super) names: Vec<Name>,
    pub(super) reason: Reason,
    pub(super) since: Instant,
}

impl Admission {
    /// Its end, after so many bytes from the sandbox and to it.
    pub(super) fn ended(self, now: Instant, (sent, received): (u64, u64), end: End) -> Connection {
        let Self { peer, names, reason, since } = self;
        let lasted = now.saturating_duration_since(since);
        Connection { peer, names, reason, lasted, sent, received, end }
    }
}
