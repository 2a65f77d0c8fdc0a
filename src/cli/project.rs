//! From the names a user types to definitions: the nearest Sandboxfile, and what flags change.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::manifest::{
    self, GroupMember, ImportSource, SandboxSpec, Sandboxfile, Volume, VolumeSource, env_file,
};
use crate::net::Network;
use crate::net::group::Membership;
use crate::sandbox::{Definition, Import};

use super::args::{ProcessArgs, ProjectArgs, ResourceArgs};
use super::failure::Failure;
use super::target::project_folder;

/// A loaded Sandboxfile and where it lies.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) path: PathBuf,
    pub(super) file: Sandboxfile,
}

impl ProjectArgs {
    /// The Sandboxfile of `-f`, or the nearest one; `None` if there is none.
    pub(super) fn find(&self) -> Result<Option<PathBuf>, Failure> {
        Ok(manifest::locate(self.file.as_deref(), &current_dir()?)?)
    }

    /// The path of the Sandboxfile, which must exist.
    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        self.find()?.ok_or_else(no_sandboxfile)
    }

    /// Reads the Sandboxfile, if there is one.
    pub(super) fn load(&self) -> Result<Option<Project>, Failure> {
        let Some(path) = self.find()? else { return Ok(None) };
        let file = manifest::load(&path)?;
        Ok(Some(Project { path, file }))
    }
}

impl Project {
    /// The definition of sandbox `name`.
    pub(super) fn definition(&self, name: &str) -> Result<Definition, Failure> {
        let Some(spec) = self.file.sandboxes.get(name) else {
            let names = self.file.sandboxes.keys().map(String::as_str);
            return Err(unknown_sandbox(name, &self.path, names.collect()));
        };
        Ok(Definition { groups: self.memberships(spec), ..definition(name, spec, &self.path)? })
    }

    /// The groups of a sandbox of the file.
    fn memberships(&self, spec: &SandboxSpec) -> Vec<Membership> {
        // By whatever way the file is named, its groups are the same.
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let asked_for = |group: &str| {
            let specs = self.file.sandboxes.values();
            specs.filter_map(|spec| spec.groups.get(group)?.network.ip).collect()
        };
        let membership = |(name, member): (&String, &GroupMember)| Membership {
            group: name.clone(),
            project: Some(folder.clone()),
            subnet: self.file.groups.get(name).and_then(|group| group.network.subnet),
            reserved: asked_for(name),
            address: member.network.ip,
            hostname: member.network.hostname.clone(),
        };
        spec.groups.iter().map(membership).collect()
    }
}

pub(super) fn current_dir() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::new(format!("cannot tell the current folder: {error}")))
}

pub(super) fn no_sandboxfile() -> Failure {
    Failure::new("no Sandboxfile in this folder or above it")
        .hint("make one with `msb init`, or name one with --file")
}

fn unknown_sandbox(name: &str, path: &Path, known: Vec<&str>) -> Failure {
    let failure = Failure::new(format!("no sandbox `{name}` in {}", path.display()));
    match manifest::nearest(name, known.iter().copied()).first() {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None if known.is_empty() => {
            failure.hint(format!("it has none yet; add one with `msb add {name} --image IMAGE`"))
        }
        None => failure.hint(format!("it has: {}", known.join(", "))),
    }
}

/// What an entry of the Sandboxfile `path` means.
fn definition(name: &str, spec: &SandboxSpec, path: &Path) -> Result<Definition, Failure> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut env = Vec::new();
    for file in &spec.env_file {
        env.extend(env_file::load(&folder.join(file))?);
    }
    env.extend(spec.envs.iter().cloned());
    Ok(Definition {
        name: name.to_owned(),
        image: spec.image.clone(),
        cpus: spec.cpus,
        memory_mib: spec.memory.map(|size| size.mib()),
        disk: spec.disk.map(|size| size.bytes()),
        env: env.into_iter().map(|var| (var.key, var.value)).collect(),
        workdir: spec.workdir.clone(),
        user: spec.user.clone(),
        shell: spec.shell.clone(),
        scripts: spec.scripts.iter().map(|(name, body)| (name.clone(), body.clone())).collect(),
        command: spec.exec.iter().chain(&spec.command).cloned().collect(),
        tty: spec.tty,
        pids_limit: spec.pids_limit,
        volumes: resolved(&spec.volumes, folder)?,
        imports: imports(spec, path)?,
        exports: spec.exports.iter().map(|(name, from)| (name.clone(), from.clone())).collect(),
        idle: spec.idle,
        restart: spec.restart,
        max_duration: spec.max_duration,
        idle_timeout: spec.idle_timeout,
        depends_on: spec.depends_on.clone(),
        healthcheck: spec.healthcheck.clone(),
        tmpfs: spec.tmpfs.clone(),
        network: Network {
            scope: spec.scope.or(spec.network.scope).unwrap_or_default(),
            rules: spec.network.rules.clone(),
            ports: spec.ports.clone(),
            log: spec.network.log.unwrap_or_default(),
            limits: spec.network.limits,
            proxy: spec.network.proxy.clone(),
            secrets: spec.secrets.iter().map(|(name, secret)| secret.named(name, folder)).collect(),
            ..Network::default()
        },
        groups: Vec::new(),
    })
}

/// What a sandbox of the Sandboxfile `path` imports.
fn imports(spec: &SandboxSpec, path: &Path) -> Result<Vec<Import>, Failure> {
    let one = |import: manifest::Import<'_>| match import.source {
        ImportSource::Export { sandbox, name } => {
            let exporter = sandbox.unwrap_or_default().to_owned();
            let folder = project_folder(path, &exporter);
            Ok(Import::of_export(&folder, (exporter, name.to_owned()), import.target))
        }
        ImportSource::Host(source) => {
            let source = VolumeSource::Host(source.into());
            let volume = Volume { source, target: import.target.to_owned(), read_only: true };
            let volume = absolute(volume, path.parent().unwrap_or(Path::new("/")))?;
            Ok(Import { volume, export: None })
        }
    };
    spec.imported().map(one).collect()
}

/// Volumes with absolute paths; relative ones start at `base`.
fn resolved(volumes: &[Volume], base: &Path) -> Result<Vec<Volume>, Failure> {
    volumes.iter().map(|volume| absolute(volume.clone(), base)).collect()
}

/// The same for one.
fn absolute(volume: Volume, base: &Path) -> Result<Volume, Failure> {
    let home = directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned());
    volume.resolved(base, home.as_deref()).map_err(Failure::new)
}

/// Puts the flags of a command line over a definition.
pub(super) fn apply_flags(
    definition: &mut Definition,
    resources: &ResourceArgs,
    process: &ProcessArgs,
) -> Result<(), Failure> {
    definition.cpus = resources.cpus.or(definition.cpus);
    definition.memory_mib = resources.memory.map(|size| size.mib()).or(definition.memory_mib);
    definition.disk = resources.disk.map(|size| size.bytes()).or(definition.disk);
    definition.pids_limit = resources.pids_limit.or(definition.pids_limit);
    definition.workdir = process.workdir.clone().or(definition.workdir.take());
    definition.user = process.user.clone().or(definition.user.take());
    let here = current_dir()?;
    definition.volumes.extend(resolved(&resources.volume, &here)?);
    definition.tmpfs.extend(resources.tmpfs.iter().cloned());
    resources.network.apply(&mut definition.network)?;
    resources.network.join(&mut definition.groups);
    definition.env.extend(environment(process)?);
    Ok(())
}

/// The variables of `--env-file` and `--env`, the latter last so that they win.
pub(super) fn environment(process: &ProcessArgs) -> Result<Vec<(String, String)>, Failure> {
    let mut env = Vec::new();
    for file in &process.env_file {
        env.extend(env_file::load(file)?.into_iter().map(|var| (var.key, var.value)));
    }
    for pair in &process.env {
        env.extend(variable(pair)?);
    }
    Ok(env)
}

/// `KEY=VALUE`, or `KEY` for the caller's own value; a variable the caller does not have is left out.
fn variable(pair: &std::ffi::OsStr) -> Result<Option<(String, String)>, Failure> {
    let text = pair.to_str().ok_or_else(|| Failure::new(format!("--env {}: not UTF-8", pair.display())))?;
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if key.is_empty() {
        return Err(Failure::new(format!("--env {text}: the name is empty")).hint("write --env KEY=VALUE"));
    }
    Ok(value.map(|value| (key.to_owned(), value)))
}

/// The names in `names` that come up twice.
pub(super) fn refuse_repeated(names: &[String]) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(Failure::new(format!("`{name}` is given twice"))),
        None => Ok(()),
    }
}
