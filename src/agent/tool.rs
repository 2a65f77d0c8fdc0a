//! The guest's own tools: starting one, telling what became of it.

use super::Connection;
use super::error::Error;
use super::process::{Control, Exit, Outcome, Output, Process, Status, Stdin};
use super::shared::plain;
use bytes::Bytes;
use msb_guest::message::{ExecSpec, Failed, TOOL_FAILED, Tool, ToolErrorKind};
use serde::de::DeserializeOwned;

/// Most bytes that a tool may say about its failure.
const EXPLANATION_LIMIT: usize = 64 << 10;

/// Starts processes in a guest.
pub trait Exec {
    /// Starts a process without waiting for it.
    ///
    /// # Errors
    /// As [`Connection::exec`].
    fn exec(&self, spec: &ExecSpec) -> Result<Process, Error>;
}

impl Exec for Connection {
    fn exec(&self, spec: &ExecSpec) -> Result<Process, Error> {
        Connection::exec(self, spec)
    }
}

/// Why the guest did not do what a tool was to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ToolError {
    /// The connection failed.
    #[error(transparent)]
    Agent(#[from] Error),
    /// The tool failed and said why.
    #[error("{message}")]
    Failed {
        /// Kind of failure.
        kind: ToolErrorKind,
        /// What the guest says.
        message: String,
    },
    /// The guest did not start the tool.
    #[error("the guest did not start the tool: {}", .0.message)]
    NotStarted(Failed),
    /// The tool ended otherwise: it was killed, by the out-of-memory killer for instance.
    #[error("the tool in the guest was ended{}", describe(.0))]
    Ended(Exit),
    /// What the tool said makes no sense.
    #[error("the guest's answer makes no sense: {0}")]
    Answer(&'static str),
}

fn describe(exit: &Exit) -> String {
    match exit {
        Exit { oom_killed: true, .. } => " for lack of memory".into(),
        Exit { status: Status::Signal(signal), .. } => format!(" by signal {signal}"),
        Exit { status: Status::Code(code), .. } => format!(" with code {code}"),
    }
}

/// A tool that runs. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) stdin: Stdin,
    pub(super) stdout: Output,
    stderr: Output,
    control: Control,
}

impl Running {
    /// Starts `tool` as root, or as the user of `spec`'s other fields.
    pub(super) fn start(guest: &(impl Exec + ?Sized), tool: Tool) -> Result<Running, ToolError> {
        let null_stdin = !matches!(tool, Tool::TarIn(_));
        let spec = ExecSpec { tool: Some(tool), null_stdin, ..ExecSpec::default() };
        let Process { stdin, stdout, stderr, control } = guest.exec(&spec)?;
        Ok(Running { stdin, stdout, stderr, control })
    }

    /// The next bytes of the output; at its end, whether the tool did all it was to do.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, ToolError> {
        match self.stdout.read().await? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.end().await.map(|()| None),
        }
    }

    /// Waits for the end of the tool and tells whether it succeeded.
    pub(super) async fn end(&mut self) -> Result<(), ToolError> {
        let mut said = Vec::new();
        while said.len() < EXPLANATION_LIMIT
            && let Some(bytes) = self.stderr.read().await?
        {
            said.extend_from_slice(&bytes);
        }
        said.truncate(EXPLANATION_LIMIT);
        match self.control.wait().await? {
            Outcome::Exited(Exit { status: Status::Code(0), .. }) => Ok(()),
            Outcome::Exited(Exit { status: Status::Code(TOOL_FAILED), .. }) if !said.is_empty() => {
                Err(parse_tool_error(&said))
            }
            Outcome::Exited(exit) => Err(ToolError::Ended(exit)),
            Outcome::Failed(failed) => Err(ToolError::NotStarted(failed)),
        }
    }
}

/// What a tool said about its failure.
#[must_use]
pub fn parse_tool_error(said: &[u8]) -> ToolError {
    match serde_json::from_slice::<msb_guest::message::ToolError>(said.trim_ascii()) {
        Ok(error) => ToolError::Failed { kind: error.kind, message: plain(&error.message) },
        Err(_) => ToolError::Answer("a failure that is not explained"),
    }
}

/// The lines of a tool's output, each of bounded length.
#[derive(Debug)]
pub(super) struct Lines {
    running: Running,
    buffer: Vec<u8>,
    limit: usize,
}

impl Lines {
    pub(super) fn new(running: Running, limit: usize) -> Lines {
        Lines { running, buffer: Vec::new(), limit }
    }

    /// The next line without its end; `None` when the tool has ended well. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, ToolError> {
        let mut seen = 0;
        loop {
            if let Some(end) = self.buffer.iter().skip(seen).position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=seen + end).collect();
                line.pop();
                return Ok(Some(line));
            }
            seen = self.buffer.len();
            if seen > self.limit {
                return Err(ToolError::Answer("a line without end"));
            }
            match self.running.read().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ToolError::Answer("it ends within a line")),
            }
        }
    }
}

pub(super) fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, ToolError> {
    serde_json::from_slice(line).map_err(|_| ToolError::Answer("it is not of the form agreed on"))
}
