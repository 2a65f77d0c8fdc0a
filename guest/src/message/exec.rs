//! Starting and steering a process.

use super::{ByteString, Tool};
use serde::{Deserialize, Serialize};

/// Payload of EXEC, and the first process in the boot document.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExecSpec {
    /// Program and arguments. A program without a slash is searched in the `PATH` of the resulting environment.
    #[serde(default)]
    pub argv: Vec<ByteString>,
    /// Run this tool instead of a program; `argv` is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
    /// Added to, and winning over, the environment of the boot document.
    #[serde(default)]
    pub env: Vec<(ByteString, ByteString)>,
    /// Working directory; `/` when absent. It must exist.
    #[serde(default)]
    pub cwd: Option<ByteString>,
    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in the guest's `/etc/passwd` and `/etc/group`; root when
    /// absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Give the process a terminal; pipes otherwise.
    #[serde(default)]
    pub tty: Option<Terminal>,
    /// Standard input is `/dev/null` instead of what the host sends.
    #[serde(default)]
    pub null_stdin: bool,
    /// Limits to set, over those of PID 1.
    #[serde(default)]
    pub rlimits: Vec<ResourceLimit>,
    /// Number of the signal that asks the process to stop, SIGTERM when absent.
    #[serde(default)]
    pub stop_signal: Option<i32>,
}

/// A terminal to be made for a process.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Terminal {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub cols: u16,
    /// Value of `TERM`, unless the environment of the process sets it.
    #[serde(default)]
    pub term: Option<String>,
}

/// Payload of RESIZE: the size of a terminal in characters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub cols: u16,
}

/// A limit as `setrlimit(2)` takes it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ResourceLimit {
    /// What is limited.
    pub resource: Resource,
    /// Soft limit; `None` is unlimited.
    pub soft: Option<u64>,
    /// Hard limit; `None` is unlimited.
    pub hard: Option<u64>,
}

/// What `setrlimit(2)` can limit, by the names `ulimit` and Docker use.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are those of setrlimit(2) without RLIMIT_")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Payload of SIGNAL.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Signal {
    /// Signal number, 1 to 64.
    pub signal: i32,
    /// Without a terminal: signal the whole process group, as a terminal's Ctrl-C does, and not the process alone. With
    /// a terminal the signal always goes to its foreground group.
    #[serde(default)]
    pub group: bool,
}

/// Payload of SHUTDOWN.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Shutdown {
    /// How long processes may take after their stop signal before they are killed. 0 kills at once.
    #[serde(default)]
    pub grace_ms: u32,
}

/// Payload of CLOCK.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Clock {
    /// The host's wall clock now, nanoseconds since 1970.
    pub realtime_ns: u64,
}
