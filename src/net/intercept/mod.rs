//! The interception that puts secrets in: between a sandbox and the hosts of its secrets, and nobody else.
//!
//! ```text
//! sandbox: placeholder ══ TLS by the sandbox's own authority ══ interceptor, a thread of the supervisor ══ TLS, verified ══ host: value
//! ```
//!
//! The first bytes of a connection tell whom it is for (`opening.rs`). Where that is a host of the secrets, and the address one that DNS has
//! given for it, TLS is ended here and begun again (`connection.rs`), and requests are taken apart and written anew (`exchange.rs`).
//! Everything else passes as it is. What would take a placeholder elsewhere is answered with a [`Refusal`].

mod authority;
mod body;
mod connection;
mod exchange;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod opening;
mod passage;
mod refusal;
mod rules;
mod search;
mod trust;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, mpsc};

pub use authority::{Authority, AuthorityError};
pub use opening::{Hello, Kind, Opening};
pub use refusal::Refusal;
pub use trust::{Trust, TrustError};

use super::policy::Name;
use super::secret::Secrets;
use rules::Rules;

/// Where browsers and most clients speak HTTP.
const USUAL: [u16; 4] = [80, 443, 8080, 8443];
/// The port of HTTP over QUIC.
const QUIC: u16 = 443;
/// Connections that are ended and begun again at once; further ones wait. Those that only pass are bounded by the gateway.
const CONNECTIONS: usize = 1024;

/// Is told what was refused.
pub type Reporter = Arc<dyn Fn(Refusal) + Send + Sync>;

/// What an interception goes by.
#[derive(Debug)]
pub struct Interception {
    /// The secrets.
    pub secrets: Secrets,
    /// Who vouches for their hosts towards the sandbox.
    pub authority: Authority,
    /// Whom the hosts have to be vouched for by.
    pub trust: Trust,
}

/// What all connections share.
struct Shared {
    rules: Arc<Rules>,
    authority: Authority,
    trust: Trust,
    report: Reporter,
    places: Semaphore,
}

/// A connection that was taken from the gateway.
struct Taken {
    sandbox: UnixStream,
    host: OwnedFd,
    remote: SocketAddr,
    names: Vec<Name>,
}

/// An interception at work; its connections end when it is dropped.
pub struct Interceptor {
    secrets: Secrets,
    connections: Option<mpsc::UnboundedSender<Taken>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interceptor").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

impl Interceptor {
    /// Starts it.
    ///
    /// # Errors
    /// The system's.
    pub fn start(settings: Interception, report: Reporter) -> io::Result<Self> {
        let Interception { secrets, authority, trust } = settings;
        let rules = Arc::new(Rules::new(secrets.clone()));
        let places = Semaphore::new(CONNECTIONS);
        let shared = Arc::new(Shared { rules, authority, trust, report, places });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, taken) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("msb-secrets".into())
            .spawn(move || runtime.block_on(serve(taken, shared)))?;
        Ok(Self { secrets, connections: Some(sender), thread: Some(thread) })
    }

    /// Whether connections to this port of an address with these names are for it.
    #[must_use]
    pub fn wants(&self, port: u16, names: &[Name]) -> bool {
        USUAL.contains(&port) || names.iter().any(|name| self.secrets.are_for(name))
    }

    /// Why a datagram to this port of an address with these names goes no further, if it does not: it would lead to a host of the
    /// secrets by HTTP/3, which is not intercepted. Clients that are refused it take HTTP/2.
    #[must_use]
    pub fn refused_datagrams(&self, port: u16, names: &[Name]) -> Option<Refusal> {
        let host = names.iter().find(|name| port == QUIC && self.secrets.are_for(name))?;
        Some(Refusal::Datagrams { host: host.to_string() })
    }

    /// Takes over the connection to `remote` that was made as `host`, and gives what the sandbox's half is to be joined to instead.
    ///
    /// # Errors
    /// The system's.
    pub fn take(&self, host: OwnedFd, remote: SocketAddr, names: Vec<Name>) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let taken = Taken { sandbox: ours, host, remote, names };
        // When its thread has gone, the connection ends at once.
        let _ = self.connections.as_ref().map(|connections| connections.send(taken));
        Ok(theirs.into())
    }
}

impl Drop for Interceptor {
    fn drop(&mut self) {
        self.connections = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on standard error.
            let _ = thread.join();
        }
    }
}

async fn serve(mut taken: mpsc::UnboundedReceiver<Taken>, shared: Arc<Shared>) {
    while let Some(connection) = taken.recv().await {
        tokio::spawn(connection::serve(connection, Arc::clone(&shared)));
    }
}
