//! Errors of the agent connection.

use msb_guest::flow::FlowError;
use msb_guest::wire::{EncodeError, Kind, WireError};
use std::io;
use std::sync::Arc;

/// Why a guest cannot be talked to (any more). Cloned to everyone who waits for the guest.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The guest could not come up and said why.
    #[error("the guest could not start ({stage}): {message}")]
    BootFailed {
        /// Step of the guest's boot.
        stage: String,
        /// What failed there.
        message: String,
    },
    /// The other end of the socket is closed: the virtual machine is gone.
    #[error("the virtual machine is gone")]
    Closed,
    /// Reading or writing the socket failed.
    #[error("agent socket: {0}")]
    Socket(Arc<io::Error>),
    /// The guest broke the framing.
    #[error("the guest broke the agent protocol: {0}")]
    Wire(#[from] WireError),
    /// The guest broke the flow control.
    #[error("the guest broke the agent protocol: {0}")]
    Flow(#[from] FlowError),
    /// A message of the guest is not what its kind says.
    #[error("the guest broke the agent protocol: unreadable {kind:?} message: {source}")]
    Message {
        /// Kind of the message.
        kind: Kind,
        /// What serde says.
        source: Arc<serde_json::Error>,
    },
    /// The guest reports an end that is neither an exit nor a signal.
    #[error("the guest broke the agent protocol: a process ended with neither code nor signal")]
    NoStatus,
    /// The guest chose a protocol version that was not offered.
    #[error("the guest chose protocol version {0}, which was not offered")]
    Version(u32),
    /// A boot document or command line is too large to be sent.
    #[error("{0}")]
    TooLarge(Arc<EncodeError>),
    /// The process takes no more input: it closed its standard input or ended.
    #[error("the process takes no more input")]
    InputClosed,
    /// A client that shares the connection broke the protocol.
    #[error("the client broke the agent protocol: {0}")]
    Client(&'static str),
    /// No more stream numbers are left on this connection.
    #[error("too many processes were started over this connection")]
    OutOfStreams,
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Error::TooLarge(Arc::new(error))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Closed,
            _ => Error::Socket(Arc::new(error)),
        }
    }
}
