//! What goes on in a guest.

use super::ByteString;
use serde::{Deserialize, Serialize};

/// Output of the metrics tool. Times and counts are totals since the guest's kernel started, so that rates come from two of
/// these; what a kernel does not tell is absent or 0.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Metrics {
    /// Nanoseconds since the guest's kernel started.
    pub uptime_ns: u64,
    /// Processors.
    #[serde(default)]
    pub cpu: CpuMetrics,
    /// Memory.
    #[serde(default)]
    pub memory: MemoryMetrics,
    /// The root file system.
    #[serde(default)]
    pub disk: DiskMetrics,
    /// Block devices together.
    #[serde(default)]
    pub block: IoMetrics,
    /// Network interfaces together, without the loopback.
    #[serde(default)]
    pub network: IoMetrics,
    /// Time lost waiting, when the kernel measures it.
    #[serde(default)]
    pub pressure: Option<Pressure>,
    /// Processes there are.
    #[serde(default)]
    pub process_count: u32,
    /// Some of them, those with the most CPU time first.
    #[serde(default)]
    pub processes: Vec<ProcessMetrics>,
}

/// Processors.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CpuMetrics {
    /// Processors online.
    pub count: u32,
    /// Nanoseconds spent working, all processors together.
    pub total_ns: u64,
    /// Of these, in programs.
    pub user_ns: u64,
    /// Of these, in the kernel, interrupts included.
    pub system_ns: u64,
    /// Nanoseconds in which the host gave the processor to others.
    #[serde(default)]
    pub steal_ns: u64,
    /// Average number of runnable processes over 1, 5 and 15 minutes.
    #[serde(default)]
    pub load: [f64; 3],
}

/// Memory, in bytes. There is no swap.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct MemoryMetrics {
    /// What the kernel manages.
    pub total: u64,
    /// `total` less `available`.
    pub used: u64,
    /// What programs can get without anything being evicted that is in use.
    pub available: u64,
    /// File contents kept, most of which is also `available`.
    pub cache: u64,
}

/// A file system.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DiskMetrics {
    /// Bytes it can hold.
    pub size: u64,
    /// Bytes it holds.
    pub used: u64,
    /// Files it can hold.
    pub inodes: u64,
    /// Files it holds.
    pub inodes_used: u64,
}

/// Input and output.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct IoMetrics {
    /// Bytes read or received.
    pub read_bytes: u64,
    /// Bytes written or sent.
    pub written_bytes: u64,
    /// Reads or packets received.
    pub reads: u64,
    /// Writes or packets sent.
    pub writes: u64,
}

/// Nanoseconds in which at least one process waited for something. <https://docs.kernel.org/accounting/psi.html>
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Pressure {
    /// For a processor.
    pub cpu_ns: u64,
    /// For memory.
    pub memory_ns: u64,
    /// For a disk.
    pub io_ns: u64,
}

/// A process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ProcessMetrics {
    /// Process id inside the guest.
    pub pid: i32,
    /// User id it runs as.
    pub uid: u32,
    /// Its arguments, or its name in brackets when it has none; cut when long.
    pub command: ByteString,
    /// Its state, by the letter `ps` shows.
    pub state: char,
    /// Nanoseconds of CPU time it used.
    pub cpu_ns: u64,
    /// Bytes of memory it has in use.
    pub memory: u64,
}
