//! How an error of any part of msb is shown, and the exit code it gives.

use std::error::Error as _;
use std::process::ExitCode;

use crate::{image, manifest, net, paths, sandbox, ui::Ui, vm, volume};

/// The exit code of msb's own failures, as docker and podman have it.
const OWN_FAILURE: u8 = 125;
/// The exit code of a command line that is not one.
const WRONG_USAGE: u8 = 2;

/// An error on its way to the user.
#[derive(Debug)]
pub(super) struct Failure {
    error: anyhow::Error,
    snippet: Option<String>,
    hints: Vec<String>,
    code: u8,
}

impl Failure {
    /// An error that only the command line can have.
    pub(super) fn new(message: impl std::fmt::Display) -> Self {
        Self::from_error(anyhow::anyhow!("{message}"), None, None)
    }

    /// Adds what to do next.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Sets another exit code than that of msb's own failures.
    pub(super) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    fn from_error(error: anyhow::Error, snippet: Option<String>, hint: Option<String>) -> Self {
        Self { error, snippet, hints: hint.into_iter().collect(), code: OWN_FAILURE }
    }

    /// Prints the error and gives the exit code.
    pub(super) fn report(&self, ui: Ui) -> ExitCode {
        if self.is_closed_pipe() {
            // The reader of our output has left: there is nobody to tell.
            return ExitCode::from(128 + 13);
        }
        ui.error(self.headline(), self.snippet.as_deref(), &self.hints);
        ExitCode::from(self.code)
    }

    /// The error and its causes, without those whose words are in the text already.
    fn headline(&self) -> String {
        sandbox::headline(self.error.as_ref())
    }

    fn is_closed_pipe(&self) -> bool {
        self.error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe && error.source().is_none())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::from_error(error.into(), None, None)
    }
}

impl From<paths::NoHome> for Failure {
    fn from(error: paths::NoHome) -> Self {
        Self::from_error(error.into(), None, Some("set MSB_HOME to a folder of yours".into()))
    }
}

impl From<manifest::Error> for Failure {
    fn from(error: manifest::Error) -> Self {
        let (snippet, hint) = (error.snippet().map(ToString::to_string), error.hint());
        Self::from_error(error.into(), snippet, hint)
    }
}

impl From<image::Error> for Failure {
    fn from(error: image::Error) -> Self {
        let hint = error.hint();
        Self::from_error(error.into(), None, hint)
    }
}

impl From<image::LoginError> for Failure {
    fn from(error: image::LoginError) -> Self {
        let hint = error.hint();
        Self::from_error(error.into(), None, hint)
    }
}

impl From<vm::Error> for Failure {
    fn from(error: vm::Error) -> Self {
        let hint = error.hint();
        Self::from_error(error.into(), None, hint)
    }
}

impl From<volume::Error> for Failure {
    fn from(error: volume::Error) -> Self {
        let hint = error.hint();
        Self::from_error(error.into(), None, hint)
    }
}

impl From<net::ExplainError> for Failure {
    fn from(error: net::ExplainError) -> Self {
        let code = if error.is_usage() { WRONG_USAGE } else { OWN_FAILURE };
        Self { code, ..Self::from_error(error.into(), None, None) }
    }
}

impl From<sandbox::Error> for Failure {
    fn from(error: sandbox::Error) -> Self {
        let hint = error.hint();
        let code = error.exit_code().unwrap_or(OWN_FAILURE);
        Self { code, ..Self::from_error(error.into(), None, hint) }
    }
}
