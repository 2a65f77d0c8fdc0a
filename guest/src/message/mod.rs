//! JSON payloads of the protocol.
//!
//! Fields may be added; both ends ignore fields they do not know, and every field that was added later has a default.

mod boot;
mod byte_string;
mod exec;
mod metrics;
mod mount;
mod network;
mod report;
mod tool;
mod trust;

pub use boot::{BootDocument, GuestFile, PathError, Root, VersionRange};
pub use byte_string::ByteString;
pub use exec::{Clock, ExecSpec, Resource, ResourceLimit, Shutdown, Signal, Terminal, WindowSize};
pub use metrics::{CpuMetrics, DiskMetrics, IoMetrics, MemoryMetrics, Metrics, Pressure, ProcessMetrics};
pub use mount::{GuestMount, MountSource, SHARES_TAG};
pub use network::{InterfaceAddress, NetworkSetup};
pub use report::{BootFailed, Exited, Failed, FailureKind, Ready, Started, Timings};
pub use tool::{
    Change, ChangeKind, FileInfo, FileKind, Found, MetricsSpec, Stat, TOOL_FAILED, TarIn, TarOut, Tool,
    ToolError, ToolErrorKind,
};
pub use trust::TrustSetup;

/// The protocol versions that this build speaks.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

/// Name of the virtio-console port.
pub const PORT_NAME: &str = "agent";

/// Where the files of the boot document appear in the guest.
pub const FILES_DIR: &str = "/.msb";

/// `PATH` of a process whose environment has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
