//! The host's end of the agent protocol: one guest, many processes.
//!
//! The protocol is described in the documentation of the crate `msb_guest`. A [`Connection`] owns the socket; a [`Process`]
//! is one process in the guest, with its standard streams. Everything runs on the caller's tokio runtime; memory is bounded
//! by the credit per channel ([`msb_guest::flow`]), so a consumer that stops reading stops exactly its own process.
//!
//! The guest is not trusted: a frame that breaks the protocol ends the connection, and text from the guest is stripped of
//! control characters before anyone can print it.

mod audience;
mod changes;
mod clock;
mod connection;
mod error;
mod files;
mod metrics;
mod process;
mod relay;
mod shared;
mod tool;

#[cfg(test)]
pub(crate) mod tests;

pub use audience::Audience;
pub use changes::{Changes, changes, parse_change};
pub use clock::ClockWatch;
pub use connection::Connection;
pub use error::Error;
pub use files::{CopyIn, CopyOut, copy_in, copy_out, parse_found, stat};
pub use metrics::{Measurements, metrics, parse_metrics};
pub use msb_guest::message::{
    BootDocument, ByteString, Change, ChangeKind, CpuMetrics, DiskMetrics, ExecSpec, Failed, FailureKind,
    FileInfo, FileKind, Found, GuestFile, IoMetrics, MemoryMetrics, Metrics, MetricsSpec, Pressure,
    ProcessMetrics, Ready, Resource, ResourceLimit, Root, Started, Stat, TarIn, TarOut, Terminal, Timings,
    Tool, ToolErrorKind, VERSIONS, VersionRange, WindowSize,
};
pub use process::{Control, Exit, Outcome, Output, Process, Status, Stdin};
pub use tool::{Exec, ToolError, parse_tool_error};
