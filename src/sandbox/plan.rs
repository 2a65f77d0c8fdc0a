//! What a sandbox is, and everything a single run of it needs.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::artifacts::{Export, Import};
use super::command::{Choices, Invocation, Program, ScriptFile};
use super::state::{KeptDisk, Stamp};
use super::{Error, signals};
use crate::disk;
use crate::image::Image;
use crate::manifest::{Dependencies, Healthcheck, Restart, Tmpfs, Volume};
use crate::net::Network;
use crate::net::group::{Membership, Registry};
use crate::net::secret::Secrets;
use crate::vm::{self, Kernel, Selection};
use crate::volume::{self, Attachments};

/// MiB of memory where nothing else is asked for.
pub const DEFAULT_MEMORY_MIB: u32 = 1024;

/// A sandbox as it is written down: in a Sandboxfile, by `msb install`, or on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name; also the guest's host name.
    pub name: String,
    /// The image reference.
    pub image: String,
    /// Virtual CPUs.
    pub cpus: Option<u8>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Size of the writable disk in bytes.
    pub disk: Option<u64>,
    /// Processes and threads its commands may have at a time.
    #[serde(default)]
    pub pids_limit: Option<u32>,
    /// Environment variables on top of the image's.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Working directory instead of the image's.
    pub workdir: Option<String>,
    /// User instead of the image's.
    pub user: Option<String>,
    /// Shell for scripts and `msb shell`.
    pub shell: Option<String>,
    /// Scripts by name, in the order they are written.
    #[serde(default)]
    pub scripts: Vec<(String, String)>,
    /// Program and arguments instead of the image's.
    #[serde(default)]
    pub command: Vec<String>,
    /// Whether it gets a terminal; by default as the caller has one.
    pub tty: Option<bool>,
    /// Whether it has no main process in the background, and is up until it is stopped.
    #[serde(default)]
    pub idle: bool,
    /// Whether it is started again when it has ended by itself in the background.
    #[serde(default)]
    pub restart: Restart,
    /// How long it may run in the background.
    #[serde(default)]
    pub max_duration: Option<Duration>,
    /// How long it may run in the background without anybody who uses it.
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
    /// The sandboxes of its project that must be there before it starts.
    #[serde(default)]
    pub depends_on: Dependencies,
    /// How it is seen to be well in the background.
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    /// Folders and files of the host, by absolute paths, and named volumes.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Files and folders that it gets to read.
    #[serde(default)]
    pub imports: Vec<Import>,
    /// What is copied out of it when its main process has ended well: names, and absolute paths in it.
    #[serde(default)]
    pub exports: Vec<(String, String)>,
    /// File systems in memory.
    #[serde(default)]
    pub tmpfs: Vec<Tmpfs>,
    /// What it may reach, and what reaches it.
    #[serde(default)]
    pub network: Network,
    /// The groups it is in.
    #[serde(default)]
    pub groups: Vec<Membership>,
}

/// Where the writable disk is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// A nameless file in this folder: nothing is left.
    ThrowAway(PathBuf),
    /// The folder of a sandbox that keeps what it writes.
    Kept(PathBuf),
}

/// What to do when a kept disk belongs to an image other than the one its name stands for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ImageChange {
    /// Say so and stop.
    #[default]
    Refuse,
    /// Throw the disk away.
    Recreate,
}

/// The host's part of a run.
#[derive(Debug)]
pub struct Machine {
    /// The hypervisor.
    pub selection: Selection,
    /// The guest kernel.
    pub kernel: Kernel,
    /// The named volumes.
    pub volumes: volume::Store,
    /// The groups.
    pub groups: Registry,
    /// A PEM file with authorities that may vouch for the hosts of secrets besides this machine's.
    pub authorities: Option<PathBuf>,
}

/// One run, ready to boot.
#[derive(Debug)]
pub struct Plan {
    pub(super) name: String,
    pub(super) image: Image,
    pub(super) machine: Machine,
    pub(super) cpus: u8,
    pub(super) memory_mib: u32,
    pub(super) pids_limit: Option<u32>,
    pub(super) disk: Disk,
    pub(super) volumes: Attachments,
    pub(super) exports: Vec<Export>,
    pub(super) network: Network,
    pub(super) secrets: Secrets,
    pub(super) groups: Vec<Membership>,
    /// Where it keeps what it writes, if it does.
    pub(super) folder: Option<PathBuf>,
    /// The main process; empty for none.
    pub(super) argv: Vec<OsString>,
    pub(super) script: Option<ScriptFile>,
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: String,
    pub(super) user: Option<String>,
    pub(super) shell: String,
    pub(super) stop_signal: Option<i32>,
}

/// The writable disk of a run.
#[derive(Debug)]
pub(super) enum Disk {
    ThrowAway(File),
    Kept(KeptDisk),
}

impl Definition {
    /// A definition with nothing but a name and an image.
    #[must_use]
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self { name: name.into(), image: image.into(), ..Self::default() }
    }

    /// The memory of a run in MiB.
    ///
    /// # Errors
    /// [`Error::Vm`] when it is too little to boot or more than the host has.
    pub fn checked_memory(&self) -> Result<u32, Error> {
        let wanted = self.memory_mib.unwrap_or(u64::from(DEFAULT_MEMORY_MIB));
        let mib = u32::try_from(wanted).unwrap_or(u32::MAX);
        vm::check_memory(mib)?;
        Ok(mib)
    }

    /// Whether what it shares with the host is there.
    ///
    /// # Errors
    /// [`Error::Volume`] for the first source that is missing or cannot be shared.
    pub fn check_volumes(&self) -> Result<(), Error> {
        let of_host = self.imports.iter().filter(|import| import.export.is_none());
        volume::check_sources(&self.volumes)?;
        Ok(of_host.map(|import| &import.volume).try_for_each(|import| volume::check_sources([import]))?)
    }

    /// Whether what it imports from other sandboxes has been exported.
    ///
    /// # Errors
    /// [`Error::NotExported`].
    pub fn check_imports(&self) -> Result<(), Error> {
        self.imports.iter().try_for_each(|import| import.check(&self.name))
    }

    /// Whether the program asked for exists as far as that can be told without the image.
    ///
    /// # Errors
    /// [`Error::UnknownScript`].
    pub fn check_program(&self, program: &Program) -> Result<(), Error> {
        match program {
            Program::Script(script) if !self.scripts.iter().any(|(name, _)| name == script) => {
                Err(Error::UnknownScript {
                    sandbox: self.name.clone(),
                    script: script.clone(),
                    known: self.scripts.iter().map(|(name, _)| name.clone()).collect(),
                })
            }
            _ => Ok(()),
        }
    }

    fn choices<'a>(&'a self, image: &'a Image) -> Choices<'a> {
        Choices {
            shell: self.shell.as_deref(),
            scripts: self.scripts.iter().map(|(name, body)| (name.as_str(), body.as_str())).collect(),
            command: &self.command,
            entrypoint: &image.config.entrypoint,
            cmd: &image.config.cmd,
        }
    }

    /// Prepares a run: resolves the command and opens or makes the disk, which stays locked until the run ends.
    ///
    /// # Errors
    /// Whatever of the definition is wrong, [`Error::InUse`], [`Error::ImageChanged`], or the disk's error.
    pub fn plan(
        &self,
        image: Image,
        machine: Machine,
        invocation: &Invocation,
        storage: &Storage,
        on_change: ImageChange,
    ) -> Result<Plan, Error> {
        let memory_mib = self.checked_memory()?;
        self.check_program(&invocation.program)?;
        let choices = self.choices(&image);
        let (resolved, shell) = (choices.resolve(invocation), choices.shell().to_owned());
        let disk = self.open_disk(&image, storage, on_change)?;
        let mounted = self.volumes.iter().chain(self.imports.iter().map(|import| &import.volume));
        let volumes = machine.volumes.attach(mounted, &self.tmpfs, &self.name)?;
        let exports = match (storage, &invocation.program) {
            // What it exports is the work of the program it is there for, not of another one that is run in it.
            (Storage::Kept(folder), Program::Default) => Export::all(&self.exports, folder),
            _ => Vec::new(),
        };
        Ok(Plan {
            name: self.name.clone(),
            cpus: self.cpus.unwrap_or(1),
            memory_mib,
            pids_limit: self.pids_limit,
            disk,
            volumes,
            exports,
            network: self.network.clone(),
            secrets: Secrets::default(),
            groups: self.groups.clone(),
            folder: storage.kept().map(Path::to_owned),
            argv: resolved.argv,
            script: resolved.script,
            env: merged_env(&image.config.env, &self.env),
            workdir: first_filled([self.workdir.as_deref(), image.config.working_dir.as_deref()])
                .unwrap_or("/")
                .into(),
            user: first_filled([self.user.as_deref(), image.config.user.as_deref()]).map(str::to_owned),
            shell,
            stop_signal: image.config.stop_signal.as_deref().and_then(signals::number),
            image,
            machine,
        })
    }

    fn open_disk(&self, image: &Image, storage: &Storage, on_change: ImageChange) -> Result<Disk, Error> {
        let dir = match storage {
            Storage::ThrowAway(dir) => {
                crate::paths::create_private(dir)
                    .map_err(|source| Error::State { path: dir.clone(), source })?;
                let size = self.disk.unwrap_or(disk::DEFAULT_SIZE);
                return Ok(Disk::ThrowAway(disk::create_unnamed(dir, size)?));
            }
            Storage::Kept(dir) => dir,
        };
        let kept = KeptDisk::lock(&self.name, dir, self.disk)?;
        let stamp = Stamp { image: self.image.clone(), digest: image.digest.to_string() };
        let kept = match (kept.stamp()?, on_change) {
            (Some(old), _) if old.digest == stamp.digest => return Ok(Disk::Kept(kept)),
            (None, _) => kept,
            (Some(_), ImageChange::Recreate) => kept.recreate(&self.name, self.disk)?,
            (Some(old), ImageChange::Refuse) => {
                return Err(Error::ImageChanged {
                    name: self.name.clone(),
                    old: Box::new(old),
                    new: Box::new(stamp),
                });
            }
        };
        kept.set_stamp(&stamp)?;
        Ok(Disk::Kept(kept))
    }
}

impl Plan {
    /// The same run with these secrets: its processes get their placeholders as variables.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        let variables: Vec<(String, String)> =
            secrets.iter().map(|held| (held.secret.name.clone(), held.placeholder.clone())).collect();
        self.env = merged_env(&self.env, &variables);
        self.secrets = secrets;
        self
    }
}

impl Storage {
    /// The folder of a sandbox that keeps what it writes.
    #[must_use]
    pub fn kept(&self) -> Option<&Path> {
        match self {
            Self::Kept(folder) => Some(folder),
            Self::ThrowAway(_) => None,
        }
    }

    /// Where project sandbox `name` keeps its state: `menv/<name>` beside its Sandboxfile.
    #[must_use]
    pub fn of_project(sandboxfile: &Path, name: &str) -> Self {
        Self::Kept(sandboxfile.with_file_name("menv").join(name))
    }
}

/// The image's variables, then the definition's; a later one replaces an earlier one of the same name.
fn merged_env(image: &[(String, String)], own: &[(String, String)]) -> Vec<(String, String)> {
    let mut merged: Vec<(String, String)> = Vec::with_capacity(image.len() + own.len());
    for (key, value) in image.iter().chain(own) {
        match merged.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => old.clone_from(value),
            None => merged.push((key.clone(), value.clone())),
        }
    }
    merged
}

fn first_filled<const N: usize>(values: [Option<&str>; N]) -> Option<&str> {
    values.into_iter().flatten().find(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn own_variables_replace_the_images_in_place() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let merged = merged_env(&pairs(&[("PATH", "/bin"), ("A", "1")]), &pairs(&[("A", "x=y"), ("B", "")]));
        assert_eq!(merged, pairs(&[("PATH", "/bin"), ("A", "x=y"), ("B", "")]));
    }

    #[test]
    fn memory_must_fit_the_host_and_the_kernel() {
        let with = |memory_mib| Definition { memory_mib, ..Definition::new("a", "b") }.checked_memory();
        assert_eq!(with(Some(64)).unwrap(), 64);
        for wrong in [0, 63, 1 << 30, u64::MAX] {
            assert!(matches!(with(Some(wrong)), Err(Error::Vm(vm::Error::Memory { .. }))), "{wrong}");
        }
    }

    #[test]
    fn an_empty_workdir_is_none() {
        assert_eq!(first_filled([Some(""), None, Some("/a")]), Some("/a"));
    }
}
