//! Where the value of a secret comes from, and reading it there.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Place, Secret};

/// Most bytes of a value.
pub(super) const LARGEST: usize = 64 << 10;

/// Where a value comes from. It is read when the sandbox starts, by the process that starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A variable of the caller.
    Env(String),
    /// A file, without the line break at its end.
    File(PathBuf),
    /// What a program writes to its standard output, without the line break at its end.
    Command(Vec<String>),
    /// The keyring of the desktop, by `SERVICE/ACCOUNT`.
    Keyring(String),
}

/// A value that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("secret `{secret}` cannot be read from {from}: {problem}")]
pub struct SourceError {
    /// The secret.
    pub secret: String,
    /// Where it was looked for.
    pub from: Source,
    /// Why.
    #[source]
    pub problem: SourceProblem,
}

/// Why a value cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceProblem {
    /// The caller has no such variable.
    #[error("it is not set")]
    NotSet,
    /// A file cannot be read, or a program cannot be started.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The program failed.
    #[error("it ended with {0}")]
    Failed(ExitStatus),
    /// There is no such entry, or the keyring is locked.
    #[error("there is no such entry, or the keyring is locked")]
    NoEntry,
    /// Nothing answers for the keyring, and what is said about it.
    #[error("no keyring answers: {0}")]
    NoService(String),
    /// The program that asks the keyring is not there.
    #[error("the program secret-tool is not installed")]
    NoKeyring,
    /// The entry is not written right.
    #[error("write it as SERVICE/ACCOUNT")]
    Entry,
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is too much.
    #[error("it is longer than 64 KiB")]
    TooLong,
    /// Headers cannot have it.
    #[error("it has a line break or another control character in it, which no header can have")]
    Control,
}

impl SourceError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match (&self.problem, &self.from) {
            (SourceProblem::NotSet | SourceProblem::Empty, Source::Env(name)) => {
                format!("set it before the sandbox is started: export {name}=…")
            }
            (SourceProblem::NoKeyring, _) => {
                "install it (Debian and Ubuntu: libsecret-tools, Fedora: libsecret)".to_owned()
            }
            (SourceProblem::NoEntry, Source::Keyring(entry)) => {
                let (service, account) = entry.split_once('/').unwrap_or((entry, "ACCOUNT"));
                format!(
                    "unlock it, or store the entry: secret-tool store --label={service} service {service} username {account}"
                )
            }
            (SourceProblem::NoService(_), _) => {
                "start the sandbox where `secret-tool` finds a keyring: in the session of a desktop, or in `dbus-run-session` after \
                 `gnome-keyring-daemon --unlock`; where there is none, use `env`, `file` or `command`"
                    .to_owned()
            }
            (SourceProblem::Control, _) => {
                "allow it in the body alone, with `in: [body]`, if that is where it belongs".to_owned()
            }
            (SourceProblem::Failed(_), _) => "run the command yourself to see what is wrong".to_owned(),
            _ => "correct the source of the secret, which says where its value is".to_owned(),
        }
    }
}

impl Secret {
    /// Reads its value.
    ///
    /// # Errors
    /// Why it cannot be had, or cannot be used.
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        self.try_read().map_err(|problem| SourceError {
            secret: self.name.clone(),
            from: self.from.clone(),
            problem,
        })
    }

    fn try_read(&self) -> Result<Zeroizing<Vec<u8>>, SourceProblem> {
        let value = match &self.from {
            Source::Env(name) => from_env(name)?,
            Source::File(path) => {
                let file = File::open(self.folder.join(at_home(path)))?;
                without_line_break(bounded(file)?)
            }
            Source::Command(argv) => without_line_break(self.run(argv, Stdio::inherit())?),
            Source::Keyring(entry) => without_line_break(self.ask_keyring(entry)?),
        };
        if value.is_empty() {
            return Err(SourceProblem::Empty);
        }
        let bare = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f;
        if self.places.contains(Place::Header) && value.iter().any(bare) {
            return Err(SourceProblem::Control);
        }
        Ok(value)
    }

    fn run(&self, argv: &[String], complaints: Stdio) -> Result<Zeroizing<Vec<u8>>, SourceProblem> {
        let [program, arguments @ ..] = argv else { return Err(SourceProblem::Empty) };
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).stderr(complaints);
        if !self.folder.as_os_str().is_empty() {
            command.current_dir(&self.folder);
        }
        let mut child = command.spawn()?;
        let output = child.stdout.take().map_or_else(|| Ok(Zeroizing::default()), bounded);
        if output.is_err() {
            // It would wait for somebody who reads the rest.
            let _ = child.kill();
        }
        let status = child.wait()?;
        let output = output?;
        if status.success() { Ok(output) } else { Err(SourceProblem::Failed(status)) }
    }

    /// Asks the desktop's keyring, by the attributes that most programs give their entries.
    fn ask_keyring(&self, entry: &str) -> Result<Zeroizing<Vec<u8>>, SourceProblem> {
        let (service, account) = entry.split_once('/').ok_or(SourceProblem::Entry)?;
        let argv = ["secret-tool", "lookup", "service", service, "username", account].map(str::to_owned);
        // An entry that is not there is not complained about.
        let mut complaints = tempfile::tempfile()?;
        self.run(&argv, complaints.try_clone()?.into()).map_err(|problem| match problem {
            SourceProblem::Io(error) if error.kind() == io::ErrorKind::NotFound => SourceProblem::NoKeyring,
            SourceProblem::Failed(_) => match first_line(&mut complaints) {
                Some(line) => SourceProblem::NoService(line),
                None => SourceProblem::NoEntry,
            },
            other => other,
        })
    }
}

/// The first line of what a program complained about, without its name.
fn first_line(complaints: &mut File) -> Option<String> {
    complaints.rewind().ok()?;
    let mut text = Vec::new();
    complaints.take(1024).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty())?.trim();
    let line = line.strip_prefix("secret-tool: ").unwrap_or(line);
    Some(line.chars().filter(|c| !c.is_control()).collect())
}

fn from_env(name: &str) -> Result<Zeroizing<Vec<u8>>, SourceProblem> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name).ok_or(SourceProblem::NotSet)?;
    let value = Zeroizing::new(value.into_vec());
    if value.len() > LARGEST { Err(SourceProblem::TooLong) } else { Ok(value) }
}

/// A path, with the caller's home for `~`.
fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), directories::BaseDirs::new()) {
        (Ok(rest), Some(dirs)) => dirs.home_dir().join(rest),
        _ => path.to_owned(),
    }
}

/// Everything in `source`, in memory that never moves: what moves leaves a copy behind.
fn bounded(mut source: impl Read) -> Result<Zeroizing<Vec<u8>>, SourceProblem> {
    let mut buffer = Zeroizing::new(vec![0; LARGEST + 1]);
    let mut length = 0;
    loop {
        match source.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if length > LARGEST {
            return Err(SourceProblem::TooLong);
        }
    }
    Ok(Zeroizing::new(buffer[..length].to_vec()))
}

/// What editors and programs put at the end of a line is not meant.
fn without_line_break(mut value: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Places;
    use super::*;

    fn secret(from: Source) -> Secret {
        Secret {
            name: "KEY".into(),
            from,
            hosts: vec!["a.example".parse().unwrap()],
            places: Places::default(),
            folder: PathBuf::new(),
        }
    }

    fn sh(line: &str) -> Source {
        Source::Command(["/bin/sh", "-c", line].map(str::to_owned).into())
    }

    #[test]
    fn a_value_is_read_without_the_line_break_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "a b\r\n").unwrap();
        let from_file = Secret { folder: folder.path().into(), ..secret(Source::File("key".into())) };
        assert_eq!(**from_file.read().unwrap(), *b"a b");
        let here = Secret { folder: folder.path().into(), ..secret(sh("cat key; echo")) };
        assert_eq!(here.read().unwrap_err().problem.to_string(), SourceProblem::Control.to_string());
        assert_eq!(**secret(sh("printf 'x\\n'")).read().unwrap(), *b"x");
        // Many times what a pipe holds.
        let long = secret(sh("head -c 1000000 /dev/zero"));
        assert!(matches!(long.read().unwrap_err().problem, SourceProblem::TooLong));
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        for (from, says, hint) in [
            (
                Source::Env("MSB_NO_SUCH".into()),
                "the variable MSB_NO_SUCH: it is not set",
                "export MSB_NO_SUCH=",
            ),
            (Source::File("/no/such".into()), "the file /no/such: No such file", "correct"),
            (sh("exit 3"), "it ended with exit status: 3", "yourself"),
            (sh("true"), "it is empty", "correct"),
            (Source::Keyring("x".into()), "SERVICE/ACCOUNT", "correct"),
        ] {
            let error = secret(from).read().unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("secret `KEY` cannot be read from ") && text.contains(says), "{text}");
            assert!(error.hint().contains(hint), "{}", error.hint());
        }
    }
}
