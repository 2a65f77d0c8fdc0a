//! What a gateway has to tell.

use crate::net::policy::{Peer, Reason};

/// Something worth knowing happened on a sandbox's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The policy kept the sandbox from somebody.
    Denied {
        /// From whom.
        peer: Peer,
        /// Why.
        reason: Reason,
    },
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

/// Is told of events, on the gateway's thread: it must be quick.
pub type Observer = Box<dyn FnMut(Event) + Send>;
