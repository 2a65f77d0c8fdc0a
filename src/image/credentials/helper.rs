//! Credential helpers: `docker-credential-NAME get|store|erase`, spoken to over standard streams
//! (<https://github.com/docker/docker-credential-helpers>).

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::file::password_or_token;
use super::{Credential, CredentialsError};

/// A credential has a few kilobytes.
const MAX_ANSWER: u64 = 1 << 20;
/// The words of every helper for a key it does not have, as docker looks for them.
const NOT_FOUND: &str = "credentials not found";
const POLL: Duration = Duration::from_millis(10);

/// One helper program.
pub(super) struct Helper {
    program: String,
    limit: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    secret: String,
}

impl Helper {
    /// The helper called `name` in the file; it is stopped when it takes longer than `limit`.
    pub(super) fn new(name: &str, limit: Duration) -> Self {
        Self::at(format!("docker-credential-{name}"), limit)
    }

    /// The helper that is this program.
    pub(super) fn at(program: String, limit: Duration) -> Self {
        Self { program, limit }
    }

    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// What it has for `key`.
    pub(super) fn get(&self, key: &str) -> Result<Option<Credential>, CredentialsError> {
        let (status, answer) = self.run("get", key.as_bytes())?;
        if !status.success() {
            return match String::from_utf8_lossy(&answer).contains(NOT_FOUND) {
                true => Ok(None),
                false => Err(self.failed(status, &answer)),
            };
        }
        match serde_json::from_slice::<Entry>(&answer) {
            // Some have an empty entry for what they do not know.
            Ok(entry) if entry.secret.is_empty() => Ok(None),
            Ok(entry) => Ok(Some(password_or_token(entry.username, entry.secret))),
            Err(_) => Err(CredentialsError::HelperNonsense { helper: self.program.clone() }),
        }
    }

    /// Gives it a credential to keep.
    pub(super) fn store(&self, key: &str, credential: &Credential) -> Result<(), CredentialsError> {
        let (username, secret) = match credential {
            Credential::Password { user, password } => (user.clone(), password.clone()),
            Credential::IdentityToken(token) | Credential::RegistryToken(token) => {
                ("<token>".to_owned(), token.clone())
            }
        };
        let entry = Entry { server_url: key.to_owned(), username, secret };
        let text = serde_json::to_vec(&entry)
            .map_err(|_| CredentialsError::HelperNonsense { helper: self.program.clone() })?;
        self.succeed("store", &text)
    }

    /// Has it forget what it has for `key`.
    pub(super) fn erase(&self, key: &str) -> Result<(), CredentialsError> {
        self.succeed("erase", key.as_bytes())
    }

    fn succeed(&self, action: &str, input: &[u8]) -> Result<(), CredentialsError> {
        let (status, answer) = self.run(action, input)?;
        if status.success() { Ok(()) } else { Err(self.failed(status, &answer)) }
    }

    /// A helper that fails says why on standard output.
    fn failed(&self, status: ExitStatus, answer: &[u8]) -> CredentialsError {
        let words = String::from_utf8_lossy(answer);
        let line = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let message: String = line.trim().chars().filter(|c| !c.is_control()).take(200).collect();
        let message = if message.is_empty() { status.to_string() } else { message };
        CredentialsError::HelperFailed { helper: self.program.clone(), message }
    }

    fn run(&self, action: &str, input: &[u8]) -> Result<(ExitStatus, Vec<u8>), CredentialsError> {
        let not_started = |source| CredentialsError::NoHelper { helper: self.program.clone(), source };
        let mut command = Command::new(&self.program);
        // A group of its own, so that what it started ends with it.
        command.arg(action).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Running(command.spawn().map_err(not_started)?);
        let (sender, answers) = mpsc::channel();
        if let (Some(mut stdin), Some(stdout)) = (child.0.stdin.take(), child.0.stdout.take()) {
            let input = input.to_vec();
            // Threads, because a helper that neither reads nor writes must not hold us up; they end with it.
            std::thread::spawn(move || {
                // One that does not want to know is judged by what it answers.
                let _ = stdin.write_all(&input);
            });
            std::thread::spawn(move || {
                let mut answer = Vec::new();
                let _ = stdout.take(MAX_ANSWER).read_to_end(&mut answer);
                let _ = sender.send(answer);
            });
        }
        let silent = || CredentialsError::HelperSilent { helper: self.program.clone(), limit: self.limit };
        let deadline = Instant::now() + self.limit;
        let answer = answers.recv_timeout(self.limit).map_err(|_| silent())?;
        loop {
            match child.0.try_wait().map_err(not_started)? {
                Some(status) => return Ok((status, answer)),
                None if Instant::now() > deadline => return Err(silent()),
                None => std::thread::sleep(POLL),
            }
        }
    }
}

/// A helper that is killed, with all it started, unless it has ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let group = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }
}
