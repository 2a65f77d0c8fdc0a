//! Environment and program lookup of a process.

use super::account::Account;
use crate::message::{ByteString, DEFAULT_PATH, ExecSpec};
use std::collections::BTreeMap;
use std::ffi::CString;

/// Most folders of `PATH` that are searched.
const PATH_LIMIT: usize = 256;

/// Something in an [`ExecSpec`] cannot be handed to `execve(2)`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum EnvironmentError {
    /// `argv` is empty or its first word is.
    #[error("no program given")]
    NoProgram,
    /// A NUL byte where none can be.
    #[error("{0} contains a NUL byte")]
    Nul(&'static str),
    /// A variable without a name or with `=` in it.
    #[error("{0:?} is not a name of an environment variable")]
    BadName(ByteString),
}

/// The variables of a process, by name.
#[derive(Debug)]
pub(super) struct Environment(BTreeMap<Vec<u8>, Vec<u8>>);

impl Environment {
    /// `base`, then the process's own, then defaults for `PATH`, `HOME` and, with a terminal, `TERM`.
    pub(super) fn new(base: &[(ByteString, ByteString)], spec: &ExecSpec, account: &Account) -> Environment {
        let mut variables = BTreeMap::new();
        for (name, value) in base.iter().chain(&spec.env) {
            variables.insert(name.0.clone(), value.0.clone());
        }
        let mut default = |name: &str, value: &[u8]| {
            variables.entry(name.into()).or_insert_with(|| value.to_vec());
        };
        default("PATH", DEFAULT_PATH.as_bytes());
        default("HOME", &account.home);
        if let Some(tty) = &spec.tty {
            default("TERM", tty.term.as_deref().unwrap_or("xterm").as_bytes());
        }
        Environment(variables)
    }

    /// `NAME=value` strings for `execve(2)`.
    pub(super) fn strings(&self) -> Result<Vec<CString>, EnvironmentError> {
        let text = |(name, value): (&Vec<u8>, &Vec<u8>)| {
            if name.is_empty() || name.contains(&b'=') {
                return Err(EnvironmentError::BadName(ByteString(name.clone())));
            }
            let joined = [name.as_slice(), b"=", value].concat();
            CString::new(joined).map_err(|_| EnvironmentError::Nul("an environment variable"))
        };
        self.0.iter().map(text).collect()
    }

    /// The files to try for `program`, in order, as a shell would: itself when it has a slash, else the folders of
    /// `PATH`, of which an empty one is the working directory.
    pub(super) fn candidates(&self, program: &[u8]) -> Result<Vec<CString>, EnvironmentError> {
        if program.is_empty() {
            return Err(EnvironmentError::NoProgram);
        }
        let file = |path: Vec<u8>| CString::new(path).map_err(|_| EnvironmentError::Nul("the program"));
        if program.contains(&b'/') {
            return Ok(vec![file(program.to_vec())?]);
        }
        let path = self.0.get(b"PATH".as_slice()).map_or(b"".as_slice(), Vec::as_slice);
        path.split(|&b| b == b':')
            .take(PATH_LIMIT)
            .map(|folder| match folder {
                b"" => file([b"./", program].concat()),
                _ => file([folder, b"/", program].concat()),
            })
            .collect()
    }
}

/// `argv` for `execve(2)`.
pub(super) fn arguments(argv: &[ByteString]) -> Result<Vec<CString>, EnvironmentError> {
    if argv.is_empty() {
        return Err(EnvironmentError::NoProgram);
    }
    argv.iter()
        .map(|a| CString::new(a.as_bytes()).map_err(|_| EnvironmentError::Nul("an argument")))
        .collect()
}
