//! What this program does when it is not PID 1: one [`Tool`] per process, started by PID 1 for the host.
//!
//! A tool works with the rights of the user it was started as, on its own standard streams, and is of use to whoever starts
//! it by hand: the program's first argument is the JSON form of the tool.

mod diff;
mod files;
mod metrics;

use crate::archive::{PackError, UnpackError};
use crate::message::{TOOL_FAILED, Tool, ToolError, ToolErrorKind};
use serde::Serialize;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Runs the tool that the program's arguments name and gives the exit code.
#[must_use]
pub fn run(arguments: &[&[u8]]) -> u8 {
    let tool = arguments.get(1).copied().unwrap_or_default();
    let result = match serde_json::from_slice(tool) {
        Ok(Tool::TarOut(spec)) => files::tar_out(&spec),
        Ok(Tool::TarIn(spec)) => files::tar_in(&spec),
        Ok(Tool::Stat(spec)) => files::stat(&spec),
        Ok(Tool::Diff) => diff::run(arguments.get(2..).unwrap_or_default()),
        Ok(Tool::Metrics(spec)) => metrics::run(spec),
        Ok(Tool::Unknown) => Err(other("this guest has no such tool")),
        Err(error) => Err(other(format!("the first argument is no tool: {error}"))),
    };
    let Err(error) = result else { return 0 };
    // Who does not listen has the exit code.
    let _ = say(io::stderr(), &error);
    TOOL_FAILED
}

/// One line of JSON.
fn say(mut out: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// A standard stream as a plain file.
fn stream(stream: &impl AsFd) -> Result<File, ToolError> {
    Ok(File::from(stream.as_fd().try_clone_to_owned().map_err(|e| other(e.to_string()))?))
}

fn other(message: impl Into<String>) -> ToolError {
    ToolError { kind: ToolErrorKind::Other, message: message.into() }
}

fn kind(error: &io::Error) -> ToolErrorKind {
    match error.kind() {
        ErrorKind::NotFound => ToolErrorKind::NotFound,
        ErrorKind::NotADirectory => ToolErrorKind::NotAFolder,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ToolErrorKind::NotPermitted,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ToolErrorKind::NoSpace,
        _ => ToolErrorKind::Other,
    }
}

/// The error of doing something with `path`.
fn at(path: &Path) -> impl FnOnce(io::Error) -> ToolError {
    move |error| ToolError { kind: kind(&error), message: format!("{}: {error}", path.display()) }
}

impl From<PackError> for ToolError {
    fn from(error: PackError) -> Self {
        ToolError { kind: kind(&error.source), message: error.to_string() }
    }
}

impl From<UnpackError> for ToolError {
    fn from(error: UnpackError) -> Self {
        let kind = match &error {
            UnpackError::Archive(_) | UnpackError::Path { .. } => ToolErrorKind::BadArchive,
            UnpackError::FolderOverFile { .. } => ToolErrorKind::FolderOverFile,
            UnpackError::FileOverFolder { .. } => ToolErrorKind::FileOverFolder,
            UnpackError::File { source, .. } => kind(source),
        };
        ToolError { kind, message: error.to_string() }
    }
}
