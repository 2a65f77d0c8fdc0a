//! What can go wrong between a definition and the exit of its command.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::copy::CopyError;
use super::state::{Holder, Stamp};
use crate::net::group;
use crate::net::intercept::TrustError;
use crate::net::port::PublishError;
use crate::net::proxy::ProxyError;
use crate::net::secret::SourceError;
use crate::{agent, disk, image, manifest, vm, volume};

/// An error of a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Sandboxfile has no such script.
    #[error("sandbox `{sandbox}` has no script `{script}`")]
    UnknownScript {
        /// The sandbox.
        sandbox: String,
        /// The script asked for.
        script: String,
        /// The scripts it has.
        known: Vec<String>,
    },
    /// Another process runs this sandbox.
    #[error("sandbox `{name}` is running already{}", holder_text(.holder.as_ref()))]
    InUse {
        /// The sandbox.
        name: String,
        /// Who runs it, where known.
        holder: Option<Holder>,
    },
    /// Something to be imported is not there yet.
    #[error("`{name}` imports `{export}` of `{exporter}`, which has not exported it yet")]
    NotExported {
        /// The sandbox.
        name: String,
        /// Whose export it is.
        exporter: String,
        /// Its name.
        export: String,
    },
    /// Something cannot be copied out of a sandbox whose command has ended well.
    #[error("`{path}` cannot be exported as `{export}`")]
    Export {
        /// The name of the export.
        export: String,
        /// What was to be copied.
        path: String,
        /// Why.
        source: CopyError,
    },
    /// The disk belongs to another image.
    #[error("the image of sandbox `{name}` has changed: its disk was made for {} ({}), `{}` is now {}",
            old.image, short(&old.digest), new.image, short(&new.digest))]
    ImageChanged {
        /// The sandbox.
        name: String,
        /// What the disk was made for.
        old: Box<Stamp>,
        /// What the name stands for now.
        new: Box<Stamp>,
    },
    /// An image the lock file does not pin, where it has to.
    #[error("the image `{image}` is not in {}, which may not change now", path.display())]
    NotLocked {
        /// The image.
        image: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file has more than the Sandboxfile.
    #[error("{} pins images that the Sandboxfile no longer has, and may not change now", path.display())]
    StaleLock {
        /// The lock file.
        path: PathBuf,
    },
    /// An image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SourceError),
    /// A secret could never be used.
    #[error("the secret `{secret}` is for {hosts}, which the sandbox cannot reach: {why}")]
    SecretUnreachable {
        /// The secret.
        secret: String,
        /// Its hosts.
        hosts: String,
        /// Why not.
        why: String,
    },
    /// A secret's variable has something else in it.
    #[error("the variable `{secret}` is set twice, and once for the placeholder of a secret")]
    SecretVariable {
        /// The secret.
        secret: String,
    },
    /// A Sandboxfile or its lock file.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// A name that cannot be a command.
    #[error("`{name}` cannot be the name of a sandbox")]
    Name {
        /// The name.
        name: String,
    },
    /// A command of that name exists.
    #[error("the name `{name}` is taken by {}", path.display())]
    NameTaken {
        /// The name.
        name: String,
        /// The file that has it.
        path: PathBuf,
    },
    /// Nothing of that name is installed.
    #[error("no sandbox `{name}` is installed")]
    UnknownInstalled {
        /// The name.
        name: String,
        /// What is installed.
        known: Vec<String>,
    },
    /// A file that keeps a sandbox's state.
    #[error("cannot use {}: {source}", path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The state database.
    #[error("cannot use the state database {}: {source}", path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A later msb has changed the state database.
    #[error("the state database {} was written by a newer msb", path.display())]
    NewerDatabase {
        /// Its file.
        path: PathBuf,
    },
    /// A path that cannot be written down.
    #[error("the path {} is not UTF-8", path.display())]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// Another sandbox made with `msb create` has the name.
    #[error("there is a sandbox `{name}` already")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// Nobody supervises the sandbox.
    #[error("sandbox `{name}` is not running")]
    NotRunning {
        /// The sandbox.
        name: String,
    },
    /// The sandbox's supervisor says no.
    #[error("sandbox `{name}` {reason}")]
    Refused {
        /// The sandbox.
        name: String,
        /// Why.
        reason: String,
    },
    /// The sandbox's supervisor cannot be talked to.
    #[error("the supervisor of sandbox `{name}` does not answer: {source}")]
    Control {
        /// The sandbox.
        name: String,
        /// What happened.
        source: io::Error,
    },
    /// What the supervisor of a sandbox says of its failure.
    #[error("{message}")]
    Reported {
        /// What failed.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// Exit code, where it is not that of msb's own failures.
        code: Option<u8>,
    },
    /// The supervisor ended without a word.
    #[error("the supervisor of sandbox `{name}` ended before the sandbox was up")]
    SupervisorGone {
        /// The sandbox.
        name: String,
        /// The last it wrote.
        details: String,
    },
    /// The writable disk.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A port cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A file of certificate authorities cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The proxy it is to go through cannot be had.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A volume.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// A group.
    #[error(transparent)]
    Group(#[from] group::Error),
    /// Choosing or starting the hypervisor.
    #[error(transparent)]
    Vm(#[from] vm::Error),
    /// The conversation with the guest.
    #[error(transparent)]
    Agent(#[from] agent::Error),
    /// A system call for the run itself.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The guest's kernel ran out of memory.
    #[error("the sandbox ran out of memory ({memory_mib} MiB)")]
    OutOfMemory {
        /// What it had.
        memory_mib: u32,
    },
    /// The machine reset itself before its command was done.
    #[error("the guest reset its machine {stage}")]
    GuestReset {
        /// How far it had come.
        stage: Stage,
        /// The memory it had.
        memory_mib: u32,
        /// The last lines of the VMM and of the guest's console.
        details: String,
    },
    /// The VMM ended although the guest had not.
    #[error("{failure}")]
    VmEnded {
        /// What happened.
        failure: vm::Failure,
        /// The hypervisor it happened on.
        kind: vm::HypervisorKind,
        /// The last lines of the VMM and of the guest's console.
        details: String,
    },
    /// The guest did not come up in time.
    #[error("the guest did not start within {} s", waited.as_secs())]
    BootTimeout {
        /// How long was waited.
        waited: Duration,
        /// The last lines of the VMM and of the guest's console.
        details: String,
    },
    /// The sandbox was booted without a command to attach to, or that was taken already.
    #[error("the sandbox has no command to attach to")]
    NoCommand,
    /// The command could not be started; `code` is what a shell would say.
    #[error("{message}")]
    NotStarted {
        /// 126 or 127 as a shell has it, else 125.
        code: u8,
        /// What failed.
        message: String,
    },
}

/// How far a sandbox has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its kernel starts, and nothing was heard of its first program yet.
    Kernel,
    /// Everything is mounted and its command runs.
    Command,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "while its kernel started, before anything was mounted or run",
            Self::Command => "before the command had ended",
        })
    }
}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownScript { known, .. } if known.is_empty() => {
                Some("its Sandboxfile has no scripts".into())
            }
            Self::UnknownScript { script, known, .. } => Some(known_names("scripts", script, known)),
            Self::UnknownInstalled { name, known } if !known.is_empty() => {
                Some(known_names("installed", name, known))
            }
            Self::UnknownInstalled { .. } => Some("install one with `msb install IMAGE NAME`".into()),
            Self::InUse { name, .. } => {
                Some(format!("wait for it to end, or stop it with `msb stop {name}`"))
            }
            Self::NotExported { exporter, .. } => Some(format!(
                "a sandbox exports when its main process has ended with exit code 0: run it with `msb run {exporter}`, or \
                 everything in order with `msb up`"
            )),
            Self::NewerDatabase { .. } => Some("use that msb, or another MSB_HOME".into()),
            Self::NameInUse { name } => {
                Some(format!("choose another name, or remove it with `msb rm {name}`"))
            }
            Self::NotRunning { name } => Some(format!("start it with `msb start {name}`")),
            Self::Control { name, .. } => Some(format!("`msb kill {name}` ends it in any case")),
            Self::Reported { hint, .. } => hint.clone(),
            Self::SupervisorGone { details, .. } => details_hint(details),
            Self::ImageChanged { .. } => Some(
                "run with --recreate to throw the old disk away, or with --keep to stay with the old image"
                    .into(),
            ),
            Self::NotLocked { .. } | Self::StaleLock { .. } => {
                Some("run `msb lock` and keep the result under version control".into())
            }
            Self::Image(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Secret(error) => Some(error.hint()),
            Self::SecretUnreachable { .. } => {
                Some("allow its hosts, as in `allow api.example.com:443`, or leave the secret out".into())
            }
            Self::SecretVariable { .. } => Some("give one of them another name".into()),
            Self::Name { .. } => Some(manifest::NAME_RULE.into()),
            Self::NameTaken { .. } => Some("choose another with `msb install IMAGE NAME`".into()),
            Self::Volume(error) => error.hint(),
            Self::Publish(error) => error.hint(),
            Self::Trust(error) => Some(error.hint()),
            Self::Proxy(error) => error.hint(),
            Self::Group(error) => error.hint(),
            Self::Vm(error) => error.hint(),
            Self::OutOfMemory { memory_mib } => {
                Some(format!("give it more, such as --memory {}", memory_mib * 2))
            }
            Self::VmEnded { failure, kind, details } => {
                // A panic has said it all; what follows it on the console are registers.
                let panicked = matches!(failure, vm::Failure::GuestPanic(_));
                let details = || if panicked { None } else { details_hint(details) };
                failure.hint(*kind).or_else(details)
            }
            Self::GuestReset { stage: Stage::Kernel, memory_mib, details } => {
                Some(details_hint(details).unwrap_or_else(|| {
                    format!(
                        "its kernel said nothing, as one does that suits neither this hypervisor nor {memory_mib} MiB of memory: \
                         try another --memory, or --vmm qemu; `msb doctor` checks the machine"
                    )
                }))
            }
            Self::GuestReset { details, .. } | Self::BootTimeout { details, .. } => details_hint(details),
            _ => None,
        }
    }

    /// The exit code, where it is not that of msb's own failures.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            Self::NotStarted { code, .. } => Some(*code),
            Self::Reported { code, .. } => *code,
            _ => None,
        }
    }
}

/// An error and its causes in one line, without those whose words are in the text already.
#[must_use]
pub fn headline(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).fold(
        String::new(),
        |text, cause| match text.as_str() {
            "" => cause,
            known if known.contains(&cause) => text,
            _ => format!("{text}: {cause}"),
        },
    )
}

fn details_hint(details: &str) -> Option<String> {
    (!details.trim().is_empty()).then(|| format!("the last that was heard of it:\n{}", details.trim_end()))
}

fn known_names(what: &str, wrong: &str, known: &[String]) -> String {
    let near = crate::manifest::nearest(wrong, known.iter().map(String::as_str));
    match near.first() {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("{what}: {}", known.join(", ")),
    }
}

fn holder_text(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |holder| format!(" (`{}`, process {})", holder.command, holder.pid))
}

fn short(digest: &str) -> &str {
    let end = digest.find(':').map_or(12, |colon| colon + 13);
    digest.get(..end).unwrap_or(digest)
}
