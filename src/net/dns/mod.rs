//! Names for a sandbox: a resolver without sockets or a clock of its own.
//!
//! A [`Resolver`] is given questions and the replies of servers, each with the time, and says with [`Step`] what is to be
//! done: answer, or ask a server. It remembers which address it gave out for which name, and for how long, which is what
//! rules about names go by. Wire format: RFC 1035, with EDNS (RFC 6891) and extended errors (RFC 8914).
//!
//! What policy has to do with it:
//! - A name that the policy refuses is answered with NXDOMAIN, without asking anybody: programs take that for final, where
//!   REFUSED makes them try again. It says why in an extended error, and carries no SOA, so that nobody remembers it when
//!   the policy changes.
//! - Addresses that could not be reached are taken out of answers; a name that has no others exists and has no address.
//! - Of an answer only what belongs to the question is passed on: its chain of aliases, and the records at its end.

mod asked;
mod blocking;
mod cache;
mod chain;
mod exchange;
mod local;
mod pins;
mod resolver;
mod system;

use std::net::SocketAddr;
use std::time::Duration;

pub use local::Hosts;
pub use resolver::Resolver;
pub use system::{System, Upstreams};

/// How a message came, or is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In a datagram, limited in size.
    Udp,
    /// In a stream, behind its length in two bytes, which the caller adds and takes off.
    Tcp,
}

/// A question of the sandbox.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// How it came.
    pub transport: Transport,
    /// The DNS message.
    pub message: &'a [u8],
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this DNS message to the sandbox; the question is settled.
    Answer(Vec<u8>),
    /// Ask a server.
    Forward(Forward),
    /// That was not the reply: go on listening on the same socket.
    Wait,
    /// Nothing: what came was no question, or its answer is no longer wanted.
    Drop,
}

/// A message for a server. Each goes out from a socket of its own, connected to the server, so that a forged reply would have to
/// guess the port as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Which question it is for. It stays the same when another server is asked.
    pub id: u64,
    /// Whom to ask.
    pub server: SocketAddr,
    /// How.
    pub transport: Transport,
    /// The DNS message.
    pub message: Vec<u8>,
    /// How long to wait for the reply, before [`Resolver::timed_out`].
    pub timeout: Duration,
}

#[cfg(test)]
mod tests;
