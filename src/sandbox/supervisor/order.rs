//! What a supervisor is told, and starting one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::boot::Streams;
use super::super::command::Invocation;
use super::super::database::{Kind, Subject};
use super::super::error::{Error, headline};
use super::super::log::LogLimits;
use super::super::plan::{Definition, ImageChange, Machine, Plan, Storage};
use super::super::secrets::keep_in_process;
use super::super::timings::Timings;
use super::SUPERVISE_SUBCOMMAND;
use crate::image::{self, Reference, Store};
use crate::manifest::Restart;
use crate::net::group::Registry;
use crate::net::secret::{Secrets, Source};
use crate::paths::{self, Paths};
use crate::vm::{self, VmmChoice, kernel};
use crate::volume;

/// Lines shown of what a supervisor that ended without a word had written.
const SHOWN_LINES: usize = 10;

/// A sandbox to be run in the background.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Where its definition comes from.
    pub kind: Kind,
    /// Its folder.
    pub folder: PathBuf,
    /// The Sandboxfile that defines it.
    pub sandboxfile: Option<PathBuf>,
    /// What it is.
    pub definition: Definition,
    /// Its image, by name and digest; it is in the store.
    pub image: String,
    /// The guest kernel.
    pub kernel: PathBuf,
    /// The hypervisor that was asked for.
    pub vmm: VmmChoice,
    /// A PEM file with authorities that may vouch for the hosts of secrets besides this machine's.
    pub authorities: Option<PathBuf>,
    /// What it runs.
    pub invocation: Invocation,
    /// What to do about a disk of another image.
    pub on_change: ImageChange,
    /// The main process's streams.
    pub streams: Streams,
    /// Its log.
    pub log: LogLimits,
    /// Remove it when it has ended.
    pub remove: bool,
}

/// What a supervisor says to whoever started it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    Up(Timings),
    Failed { message: String, hint: Option<String>, code: Option<u8> },
}

impl Report {
    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed { message: headline(error), hint: error.hint(), code: error.exit_code() }
    }
}

impl Order {
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            kind: self.kind,
            folder: &self.folder,
            sandboxfile: self.sandboxfile.as_deref(),
            definition: &self.definition,
        }
    }

    /// A run of it, with its disk locked.
    pub(super) fn plan(&self, paths: &Paths, secrets: &Secrets) -> Result<Plan, Error> {
        let store = Store::open(&paths.cache)?;
        let reference: Reference = self.image.parse().map_err(image::Error::from)?;
        let missing = || image::Error::NotHere { image: reference.short() };
        let image = store.find(&reference)?.ok_or_else(missing)?;
        let lookup = kernel::Lookup { flag: Some(self.kernel.clone()), ..kernel::Lookup::default() };
        let machine = Machine {
            selection: vm::select(self.vmm, &vm::Environment::from_process())?,
            kernel: kernel::locate(&lookup)?,
            volumes: volume::Store::new(paths),
            groups: Registry::new(paths),
            authorities: self.authorities.clone(),
        };
        let storage = Storage::Kept(self.folder.clone());
        let plan = self.definition.plan(image, machine, &self.invocation, &storage, self.on_change)?;
        Ok(plan.with_secrets(secrets.clone()))
    }

    /// Writes it, with the values of its secrets behind it.
    fn send(&self, secrets: &Secrets, to: &mut impl io::Write) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        to.write_all(&length.to_le_bytes())?;
        to.write_all(&text)?;
        secrets.send(to)
    }

    /// Reads what [`Order::send`] has written. Memory is closed to others before a value is in it.
    pub(super) fn receive(from: &mut impl io::Read) -> io::Result<(Self, Secrets)> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut text = Vec::new();
        from.take(u32::from_le_bytes(length).into()).read_to_end(&mut text)?;
        let order: Self = serde_json::from_slice(&text)?;
        let secrets = &order.definition.network.secrets;
        if !secrets.is_empty() {
            keep_in_process().map_err(io::Error::other)?;
        }
        let secrets = Secrets::receive(secrets, from)?;
        Ok((order, secrets))
    }
}

/// The file with what the supervisor of the sandbox in `folder` has to complain about.
pub(super) fn complaints(folder: &Path) -> PathBuf {
    folder.join("supervisor.log")
}

/// Starts a supervisor for `order` and waits until the sandbox is up. It goes on when this process ends. The values of `secrets` go
/// to it through a pipe, and the variables that some came from do not.
///
/// # Errors
/// What kept the sandbox from starting.
pub fn start(order: &Order, secrets: &Secrets) -> Result<Timings, Error> {
    let folder = &order.folder;
    let state = |path: PathBuf| move |source| Error::State { path, source };
    paths::create_private(folder).map_err(state(folder.clone()))?;
    let path = complaints(folder);
    let complaints =
        File::options().create(true).append(true).mode(0o600).open(&path).map_err(state(path))?;
    let system = |source| Error::System { action: "start the supervisor", source };
    let mut command = Command::new("/proc/self/exe");
    for secret in &order.definition.network.secrets {
        if let Source::Env(name) = &secret.from {
            command.env_remove(name);
        }
    }
    let mut child = command
        .arg0(format!("msb-supervisor {}", order.definition.name))
        .arg(SUPERVISE_SUBCOMMAND)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(complaints)
        .spawn()
        .map_err(system)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends early says why.
        let _ = order.send(secrets, &mut stdin);
    }
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut said).map_err(system)?;
    }
    // It is nobody's business when it ends, but it must not stay a zombie of a caller that goes on.
    std::thread::spawn(move || child.wait());
    match serde_json::from_slice(&said) {
        Ok(Report::Up(timings)) => Ok(timings),
        Ok(Report::Failed { message, hint, code }) => Err(Error::Reported { message, hint, code }),
        Err(_) => {
            let details = last_lines(folder);
            Err(Error::SupervisorGone { name: order.definition.name.clone(), details })
        }
    }
}

fn last_lines(folder: &Path) -> String {
    let text = std::fs::read(complaints(folder)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    lines.get(from..).unwrap_or_default().iter().map(|line| format!("  {line}\n")).collect()
}

/// How long to wait before a sandbox that ended by itself is started again; `None` for not at all.
pub(super) fn back_off(order: &Order, failed: bool, restarts: u32) -> Option<Duration> {
    let wanted = match order.definition.restart {
        Restart::No => false,
        Restart::OnFailure(limit) => failed && limit.is_none_or(|limit| restarts < limit),
        Restart::Always => true,
    };
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(restarts.min(16)));
    wanted.then(|| doubled.min(LONGEST_WAIT))
}

/// The wait before a first restart, doubled with each further one, as docker has it.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
