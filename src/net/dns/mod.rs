//! Names for a sandbox: a resolver without sockets or a clock of its own.
//!
//! A [`Resolver`] is given questions and the replies of servers, each with the time, and says with [`Step`] what is to be
//! done: answer, or ask a server. It remembers which address it gave out for which name, and for how long, which is what
//! rules about names go by.

mod resolver;
mod system;

pub use resolver::{Forward, Hosts, Resolver, Step};
pub use system::{System, Upstreams};

/// How a message came, or is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In a datagram, limited in size.
    Udp,
    /// In a stream, behind its length in two bytes, which the caller adds and takes off.
    Tcp,
}
