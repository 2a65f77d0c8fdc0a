//! What the agent's own program can do as a process of the guest, and what it says on its standard output.

use super::ByteString;
use serde::{Deserialize, Serialize};

/// A tool to run instead of a program of the image: PID 1 starts its own executable for it. Standard streams, user, signals
/// and end are those of any other process.
///
/// A tool that fails writes one JSON [`ToolError`] to its standard error and exits with [`TOOL_FAILED`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "tool", rename_all = "snake_case")]
pub enum Tool {
    /// Writes a tar archive of a path.
    TarOut(TarOut),
    /// Unpacks the tar archive on standard input.
    TarIn(TarIn),
    /// Writes a JSON [`Found`].
    Stat(Stat),
    /// Writes one JSON [`Change`] per line: what the writable disk changes of the image.
    Diff,
    /// Writes one JSON [`Metrics`](super::Metrics) per line.
    Metrics(MetricsSpec),
    /// A tool that only a newer guest has.
    #[serde(other)]
    Unknown,
}

/// Exit code of a tool that failed.
pub const TOOL_FAILED: u8 = 1;

/// What to pack.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TarOut {
    /// File, folder or symlink. Relative to the process's working directory.
    pub path: ByteString,
    /// When it is a symlink, pack what it leads to.
    #[serde(default)]
    pub follow: bool,
    /// What it is called in the archive, `.` when absent; what is in a folder is called `NAME/…`.
    #[serde(default)]
    pub name: Option<ByteString>,
}

/// Where to unpack.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TarIn {
    /// Folder, which must exist.
    pub folder: ByteString,
    /// User and group that own everything; those of the archive when absent.
    #[serde(default)]
    pub owner: Option<(u32, u32)>,
    /// A folder may take the place of a file and the other way round; else that is an error.
    #[serde(default)]
    pub replace: bool,
}

/// What to look at.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stat {
    /// The path. Relative to the process's working directory.
    pub path: ByteString,
    /// When it is a symlink, look at what it leads to.
    #[serde(default)]
    pub follow: bool,
}

/// Output of [`Tool::Stat`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Found {
    /// The path, absolute, with all links on the way resolved, and the last one if that was asked for. Its parent exists.
    pub path: ByteString,
    /// What is there; nothing when absent.
    #[serde(default)]
    pub file: Option<FileInfo>,
}

/// A file as `lstat(2)` sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileInfo {
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the owner.
    pub gid: u32,
    /// Time of modification: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Where a symlink leads.
    #[serde(default)]
    pub target: Option<ByteString>,
}

/// Kinds of files.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum FileKind {
    File,
    Folder,
    Symlink,
    Pipe,
    Socket,
    CharDevice,
    BlockDevice,
    /// A kind that only a newer guest knows.
    #[serde(other)]
    Other,
}

/// Options of [`Tool::Metrics`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct MetricsSpec {
    /// Repeat after so many milliseconds until the process is ended; once when absent.
    #[serde(default)]
    pub interval_ms: Option<u32>,
    /// Most processes to name, those with the most CPU time first.
    #[serde(default)]
    pub processes: u16,
}

/// Output of [`Tool::Diff`]: a path that is not as in the image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// What happened to it.
    pub kind: ChangeKind,
    /// Absolute path.
    pub path: ByteString,
}

/// What happened to a path, by docker's letters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ChangeKind {
    /// It is new.
    #[serde(rename = "A")]
    Added,
    /// It has other contents, owner, mode or time.
    #[serde(rename = "C")]
    Changed,
    /// It is gone.
    #[serde(rename = "D")]
    Deleted,
}

/// Why a tool failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ToolError {
    /// Kind of failure.
    pub kind: ToolErrorKind,
    /// What failed, naming the path.
    pub message: String,
}

/// Kinds of failures that a caller treats differently.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolErrorKind {
    /// There is no such file, or no such folder on the way to it.
    NotFound,
    /// What should be a folder is none.
    NotAFolder,
    /// A folder would take the place of a file.
    FolderOverFile,
    /// A file would take the place of a folder.
    FileOverFolder,
    /// The user may not do it.
    NotPermitted,
    /// The disk is full.
    NoSpace,
    /// The archive on standard input is damaged or has paths that lead out of the folder.
    BadArchive,
    /// Anything else, also kinds a newer guest may have.
    #[serde(other)]
    Other,
}
