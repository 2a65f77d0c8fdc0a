//! What only PID 1 does: mount, find the agent port, enter the root, serve the host, power off.
//!
//! Order: `/dev` and `/sys` → agent port → boot document → host name, clock, limits, loopback, network → image disk, writable disk,
//! overlay → kernel file systems inside the new root → enter it → READY → first process.

mod document;
mod grow;
mod limits;
mod machine;
mod mounts;
mod network;
mod port;
mod power;
mod trust;
mod volumes;

use crate::message::{BootDocument, BootFailed, Ready, Timings, VERSIONS};
use crate::session::{
    Children, End, Layers, Link, OomWatch, Session, SessionError, Setup, Toolbox, boottime_ns,
};
use crate::wire::{Kind, MACHINE, MAIN_STREAM};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// How long the host may take to acknowledge the guest's last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why the guest cannot come up.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// No port of the right name among the virtio ports.
    #[error("no virtio port named {name:?} appeared within {waited:?}")]
    NoPort {
        /// Wanted name.
        name: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A file or folder that is needed cannot be used.
    #[error("{path}: {source}")]
    Path {
        /// Step of the boot.
        stage: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file system cannot be mounted.
    #[error("mount {what} on {target}: {source}")]
    Mount {
        /// Step of the boot.
        stage: &'static str,
        /// Device or type.
        what: String,
        /// Mount point.
        target: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A volume, a shared folder or file, or a tmpfs cannot be had.
    #[error("cannot {call} {label}: {source}")]
    Volume {
        /// The volume as the user wrote it.
        label: String,
        /// What was tried.
        call: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// Another system call failed.
    #[error("{call}: {source}")]
    Call {
        /// Step of the boot.
        stage: &'static str,
        /// What was called.
        call: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// The boot document asks for something that cannot be.
    #[error("{0}")]
    Document(String),
    /// The host speaks other versions of the protocol.
    #[error("the host speaks protocol {theirs_min} to {theirs_max}, this guest {ours_min} to {ours_max}", ours_min = VERSIONS.min, ours_max = VERSIONS.max)]
    Version {
        /// Host's oldest.
        theirs_min: u32,
        /// Host's newest.
        theirs_max: u32,
    },
    /// The host went away before it had sent the boot document.
    #[error("the host went away")]
    HostGone,
    /// The connection failed.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl BootError {
    /// Short name of the failed step, for BOOT_FAILED.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        match self {
            BootError::NoPort { .. } | BootError::HostGone => "port",
            BootError::Path { stage, .. }
            | BootError::Mount { stage, .. }
            | BootError::Call { stage, .. } => stage,
            BootError::Volume { .. } => "volume",
            BootError::Document(_) => "document",
            BootError::Version { .. } => "version",
            BootError::Session(_) => "session",
        }
    }
}

/// Runs the guest from its first instruction to power-off. Does nothing unless it is PID 1.
pub fn run() {
    let init_ns = boottime_ns();
    if std::process::id() != 1 {
        complain("this program is the first process of a sandbox and does nothing elsewhere");
        return;
    }
    let unsettled = serve(init_ns).unwrap_or_else(|error| {
        complain(&format!("{}: {error}", error.stage()));
        false
    });
    power::off(unsettled);
}

/// Says something on the console, which the host shows when a boot fails.
#[allow(clippy::print_stderr, reason = "the console is the only place left to say it")]
fn complain(message: &str) {
    eprintln!("msb-guest: {message}");
}

/// Boots and serves until there is nothing more to do. Says whether something could not be left in order.
fn serve(init_ns: u64) -> Result<bool, BootError> {
    mounts::early()?;
    let mut link = Link::new(port::open()?);
    let document = document::receive(&mut link)?;
    let document_ns = boottime_ns();
    match enter(&document) {
        Ok(Entered { version, written, layers, commands }) => {
            let timings = Timings { init_ns, document_ns, mounted_ns: boottime_ns() };
            let ready = Ready { version, timings };
            link.put_message(Kind::Ready, MACHINE, &ready)?;
            Ok(run_session(link, document, (written, layers, commands))?)
        }
        Err(error) => {
            let message = error.to_string();
            let report = BootFailed { stage: error.stage().into(), message };
            link.put_message(Kind::BootFailed, MACHINE, &report)?;
            let setup = Setup {
                env: Vec::new(),
                children: Children::Own,
                oom: OomWatch::from_boot(),
                tools: None,
                commands: None,
                set_clock: None,
                end_with_main: true,
            };
            Session::new(link, setup).await_release(LAST_WORDS)?;
            Err(error)
        }
    }
}

/// The machine that the document describes.
struct Entered {
    /// Of the protocol.
    version: u32,
    /// What must be left in order.
    written: power::Written,
    layers: Layers,
    /// By which commands enter their cgroup.
    commands: Option<OwnedFd>,
}

/// Makes the machine that the document describes and enters its root.
fn enter(document: &BootDocument) -> Result<Entered, BootError> {
    let theirs = document.versions;
    let version = VERSIONS
        .choose(theirs)
        .ok_or(BootError::Version { theirs_min: theirs.min, theirs_max: theirs.max })?;
    // First the clock: what is made from here on carries its time.
    machine::set_up(document)?;
    let servers = document.network.as_ref().map(|setup| {
        network::set_up(setup)?;
        network::name_servers(setup)
    });
    let servers = servers.transpose()?;
    let (disk, layers) = mounts::root(document)?;
    let outside = volumes::outside(&document.mounts)?;
    mounts::enter_root()?;
    if let (Some(servers), Some(setup)) = (servers, &document.network) {
        network::mount_name_servers(&servers)?;
        network::open_loopback(setup);
    }
    let mut written = volumes::mount_all(&document.mounts, outside)?;
    if let Some(setup) = &document.trust {
        trust::complete(setup)?;
    }
    if !document.root.ephemeral {
        written.disks.push(disk);
    }
    let commands = document.pids_limit.map(limits::commands).transpose()?;
    Ok(Entered { version, written, layers, commands })
}

fn run_session(
    link: Link,
    document: BootDocument,
    (written, layers, commands): (power::Written, Layers, Option<OwnedFd>),
) -> Result<bool, SessionError> {
    let setup = Setup {
        env: machine::environment(&document),
        children: Children::all().map_err(SessionError::Children)?,
        oom: OomWatch::from_boot(),
        tools: Toolbox::own(Some(layers)).ok(),
        commands,
        set_clock: Some(machine::follow_clock),
        end_with_main: document.power_off_with_exec,
    };
    let mut session = Session::new(link, setup);
    if let Some(spec) = &document.exec {
        session.open(MAIN_STREAM, spec)?;
    }
    drop(document);
    let end = session.run();
    // Disks are put in order while the host reads the last frames.
    let settled = written.settle();
    match end {
        Ok(End::MainEnded) => session.await_release(LAST_WORDS)?,
        Ok(End::Shutdown | End::HostGone) => {}
        Err(error) => complain(&error.to_string()),
    }
    Ok(!settled)
}
