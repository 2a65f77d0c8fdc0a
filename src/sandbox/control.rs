//! What can be asked of a running sandbox, and where: a socket of its supervisor's.
//!
//! A message is its length (u32, little-endian) and JSON. One question per connection, one answer; after the answer to
//! [`Question::Agent`] the connection carries the agent protocol.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::database::{Ended, State};
use super::error::Error;
use super::network::{Place, Published};
use super::state;
use crate::agent::{Connection, ExecSpec, Ready};
use crate::image::Digest;
use crate::net::Network;
use crate::net::gateway::Traffic;
use crate::net::policy::{Rule, Scope};
use crate::paths::Paths;

/// The version of the messages. Fields may be added; a change of meaning is a new version.
pub(super) const VERSION: u32 = 1;
/// Longest message: an [`ExecSpec`] with a large environment.
pub(super) const LIMIT: usize = 8 << 20;
/// How long a supervisor may take to answer at once. It works for one sandbox only; one that is stopped with SIGSTOP
/// answers nothing.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A question with the version of its asker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) question: Question,
}

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Question {
    /// Start processes, and with `attach` watch the main one: the connection becomes the agent protocol.
    Agent {
        /// Whether stream 1 is to be the main process.
        attach: bool,
    },
    /// How things are.
    Status,
    /// End: ask the main process, and kill it after `grace_ms`. Answered when the machine is gone.
    Stop {
        /// Milliseconds between the stop signal and SIGKILL.
        grace_ms: u32,
    },
    /// Send a signal to the main process.
    Kill {
        /// Its number; SIGKILL ends a sandbox that has no main process.
        signal: i32,
    },
    /// Stop the machine's clock.
    Pause,
    /// Let it run again.
    Unpause,
    /// Start a process that nobody watches.
    Exec(Box<ExecSpec>),
    /// Answered when the sandbox has ended.
    Wait,
    /// Whether it goes on: done when it runs or is to be started again, ended when not. One that is just ending answers when it
    /// has decided.
    Fate,
    /// Answered when it is known whether the sandbox is well, or when it has ended.
    Health,
    /// Its network as it is now.
    Network,
    /// Have this scope and these rules decide from now on, for as long as the supervisor lives.
    SetRules {
        /// The scope.
        scope: Scope,
        /// The rules, all of them.
        rules: Vec<Rule>,
        /// Only if these are the scope and the rules until then.
        instead_of: Option<(Scope, Vec<Rule>)>,
    },
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// The connection is the agent protocol from here on.
    Agent(Ready),
    /// How things are.
    Status(Box<Live>),
    /// Its network as it is now.
    Network(Box<Network>),
    /// It was done.
    Done,
    /// The process runs, under this number in the guest.
    Started(i32),
    /// The process could not be started; the code is what a shell would say.
    NotStarted {
        /// Exit code.
        code: u8,
        /// Why.
        message: String,
    },
    /// The sandbox has ended.
    Ended(Ended),
    /// It was not done: somebody else has changed meanwhile what it was to change.
    Changed,
    /// It cannot be done now.
    Refused(String),
}

/// A running sandbox, as its supervisor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// What it does.
    pub state: State,
    /// The supervisor.
    pub pid: u32,
    /// The process of its machine; none between two starts.
    pub vmm_pid: Option<u32>,
    /// What runs the machine.
    pub hypervisor: String,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// Its virtual CPUs.
    pub cpus: u8,
    /// When the machine was last started.
    pub started: Timestamp,
    /// Whether it has a main process, and what a second one gets by default.
    pub main: Option<MainProcess>,
    /// User of processes that name none.
    pub user: Option<String>,
    /// Working directory of processes that name none.
    pub workdir: String,
    /// The shell.
    pub shell: String,
    /// Whether it is well, where it has a health check.
    #[serde(default)]
    pub health: Option<HealthReport>,
    /// Its published ports.
    #[serde(default)]
    pub ports: Vec<Published>,
    /// What has gone over its network since the machine was started, where it has one.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// Where it is in its groups.
    #[serde(default)]
    pub groups: Vec<Place>,
}

/// What the health check of a sandbox has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// Whether it is well.
    pub status: Health,
    /// Failures in a row that count.
    pub failures: u32,
    /// What the last test wrote, or why it failed.
    pub output: String,
}

/// Whether a sandbox is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It has not been well yet, and has time for it.
    #[default]
    Starting,
    /// The last tests succeeded, or at least not as many failed as are allowed to.
    Healthy,
    /// Too many tests in a row have failed.
    Unhealthy,
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// The main process of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MainProcess {
    /// It has a terminal.
    pub tty: bool,
    /// It reads what is typed.
    pub interactive: bool,
    /// Others can attach to it; not to one that belongs to the terminal it was started from.
    pub shared: bool,
}

/// The socket at which process `pid` answers for the sandbox in `folder`. One that is just ending and the next one have sockets
/// of their own, so that neither removes the other's.
#[must_use]
pub(super) fn socket_path(paths: &Paths, folder: &Path, pid: u32) -> PathBuf {
    paths.runtime.join(format!("{}{pid}.sock", socket_prefix(folder)))
}

/// What the names of all sockets of the sandbox in `folder` begin with.
pub(super) fn socket_prefix(folder: &Path) -> String {
    let digest = Digest::sha256(folder.as_os_str().as_encoded_bytes());
    format!("{}.", &digest.hex()[..16])
}

/// Connects to or binds `path` through the descriptor of its folder: a socket's path has 107 bytes at most.
pub(super) fn short_path<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd as _;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = std::fs::File::open(folder)?;
    act(&PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd())).join(name))
}

/// A question to one sandbox's supervisor.
#[derive(Debug)]
pub struct Client {
    name: String,
    socket: UnixStream,
}

impl Client {
    /// Connects to whoever supervises the sandbox `name` in `folder`.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Control`].
    pub fn connect(paths: &Paths, name: &str, folder: &Path) -> Result<Self, Error> {
        let Some(holder) = state::read_holder(folder) else {
            return Err(Error::NotRunning { name: name.to_owned() });
        };
        let path = socket_path(paths, folder, holder.pid);
        match short_path(&path, |path| UnixStream::connect(path)) {
            Ok(socket) => Ok(Self { name: name.to_owned(), socket }),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Err(Error::NotRunning { name: name.to_owned() })
            }
            Err(source) => Err(Error::Control { name: name.to_owned(), source }),
        }
    }

    /// Asks, and waits for the answer; one that comes when the sandbox has ended may take any time.
    ///
    /// # Errors
    /// [`Error::Refused`] when it cannot be done now, [`Error::Control`] when nobody answers.
    pub fn ask(&mut self, question: Question) -> Result<Answer, Error> {
        let limit = match question {
            Question::Wait | Question::Health => None,
            Question::Stop { grace_ms } => Some(ANSWER_LIMIT * 4 + Duration::from_millis(grace_ms.into())),
            _ => Some(ANSWER_LIMIT),
        };
        let answer = self
            .socket
            .set_read_timeout(limit)
            .and_then(|()| write_message(&mut self.socket, &Hello { version: VERSION, question }))
            .and_then(|()| read_message(&mut self.socket))
            .map_err(|source| Error::Control { name: self.name.clone(), source })?;
        match answer {
            Answer::Refused(reason) => Err(Error::Refused { name: self.name.clone(), reason }),
            answer => Ok(answer),
        }
    }

    /// What ends a wait for the answer from another thread.
    ///
    /// # Errors
    /// [`Error::Control`] when there are no more descriptors.
    pub fn interrupter(&self) -> Result<Interrupter, Error> {
        let failed = |source| Error::Control { name: self.name.clone(), source };
        self.socket.try_clone().map(Interrupter).map_err(failed)
    }

    /// How the sandbox is.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn status(&mut self) -> Result<Live, Error> {
        match self.ask(Question::Status)? {
            Answer::Status(live) => Ok(*live),
            _ => Err(self.unexpected()),
        }
    }

    /// Its network as it is now.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn network(&mut self) -> Result<Network, Error> {
        match self.ask(Question::Network)? {
            Answer::Network(network) => Ok(*network),
            _ => Err(self.unexpected()),
        }
    }

    /// Joins the guest, with `attach` to its main process as well. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn join(mut self, attach: bool) -> Result<Connection, Error> {
        match self.ask(Question::Agent { attach })? {
            Answer::Agent(ready) => Ok(Connection::join(self.socket, ready, attach)?),
            _ => Err(self.unexpected()),
        }
    }

    /// For an answer to another question.
    pub(super) fn unexpected(&self) -> Error {
        Error::Control { name: self.name.clone(), source: io::ErrorKind::InvalidData.into() }
    }
}

/// Ends the wait of a [`Client`] for its answer: [`Client::ask`] fails.
#[derive(Debug)]
pub struct Interrupter(UnixStream);

impl Interrupter {
    /// Hangs up.
    pub fn interrupt(&self) {
        // One that is hung up already is as it should be.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// Writes a message.
pub(super) fn write_message(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// A message with its length in front.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= LIMIT);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the request is too large"))?;
    Ok([&length.to_le_bytes()[..], &json].concat())
}

fn read_message<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length];
    from.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}
