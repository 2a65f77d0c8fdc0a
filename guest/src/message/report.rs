//! What the guest tells the host.

use serde::{Deserialize, Serialize};

/// Guest clock readings, nanoseconds of `CLOCK_BOOTTIME`: time since the guest's kernel started.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Timings {
    /// PID 1 began.
    pub init_ns: u64,
    /// The boot document was read.
    pub document_ns: u64,
    /// The root was mounted and entered.
    pub mounted_ns: u64,
}

/// Payload of READY.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ready {
    /// Protocol version chosen from the host's range.
    pub version: u32,
    /// When boot got how far.
    #[serde(default)]
    pub timings: Timings,
}

/// Payload of BOOT_FAILED.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BootFailed {
    /// Short name of the step: `document`, `version`, `lower`, `upper`, `overlay`, …
    pub stage: String,
    /// What failed, naming the path or call.
    pub message: String,
}

/// Payload of STARTED.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Started {
    /// Process id inside the guest.
    pub pid: i32,
    /// `CLOCK_BOOTTIME` in nanoseconds when the process had been started.
    #[serde(default)]
    pub at_ns: u64,
}

/// Payload of EXITED. Exactly one of `code` and `signal` is set.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Exited {
    /// Exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Signal that killed the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The guest's kernel killed a process for lack of memory, and this one ended by SIGKILL or with code 137.
    #[serde(default)]
    pub oom_killed: bool,
    /// `CLOCK_BOOTTIME` in nanoseconds when the end was noticed.
    #[serde(default)]
    pub at_ns: u64,
}

/// Why a process could not be started; decides the exit code a shell would give.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No such program (127).
    NotFound,
    /// The program cannot be executed (126).
    NotExecutable,
    /// The user or group is not known in the guest.
    BadUser,
    /// The working directory does not exist or is none.
    BadWorkdir,
    /// Anything else, also kinds a newer guest may have.
    #[serde(other)]
    Other,
}

/// Payload of FAILED.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failed {
    /// Kind of failure.
    pub kind: FailureKind,
    /// What failed, naming the program, user or folder.
    pub message: String,
}
