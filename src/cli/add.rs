//! `msb add`.

use std::path::Path;

use crate::manifest::{
    Condition, EnvVar, GroupMember, Imported, Restart, SandboxSpec, SecretSpecs, Volume, VolumeSource, edit,
};

use crate::net::secret::{Secret, Source};

use super::Outcome;
use super::args::{ProjectArgs, ResourceArgs};
use super::failure::Failure;
use super::project::{current_dir, refuse_repeated};
use super::settings::Context;

/// Add sandboxes to the Sandboxfile
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb add app --image python --start 'python3 -m http.server'\n  \
    msb add one two --image alpine --cpus 2 --memory 512M --env MODE=test --script test='run-tests \"$@\"'\n  \
    msb add web --image nginx --depends-on db:healthy --restart on-failure")]
pub(super) struct Args {
    /// Names of the new sandboxes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Image they run
    #[arg(short, long, value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    resources: ResourceArgs,
    /// Environment variable (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<EnvVar>,
    /// File of environment variables, relative to the Sandboxfile (can be repeated)
    #[arg(long, value_name = "PATH")]
    env_file: Vec<String>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,
    /// User, as name or id, with an optional group: USER[:GROUP]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Shell for scripts and `msb shell`
    #[arg(long, value_name = "PATH")]
    shell: Option<String>,
    /// Script (can be repeated)
    #[arg(long, value_name = "NAME=BODY", value_parser = parse_script)]
    script: Vec<(String, String)>,
    /// The `start` script: what `msb run NAME` runs
    #[arg(long, value_name = "BODY")]
    start: Option<String>,
    /// Sandbox that must be there before it starts, and how far: started (the default), healthy, completed (can be repeated)
    #[arg(long, value_name = "NAME[:CONDITION]", value_parser = parse_dependency)]
    depends_on: Vec<(String, Condition)>,
    /// File it gets to read: a path from the Sandboxfile on, such as ./web.conf, or the name of what another sandbox exports
    /// (can be repeated)
    #[arg(long, value_name = "SOURCE=PATH", value_parser = parse_artifact)]
    import: Vec<(String, String)>,
    /// File that is copied out of it when it has ended well, and its name (can be repeated)
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_artifact)]
    export: Vec<(String, String)>,
    /// Whether it is started again in the background when it has ended by itself: no, on-failure[:COUNT], always
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
    /// It starts no main process in the background, and is up until it is stopped
    #[arg(long)]
    idle: bool,
    #[command(flatten)]
    project: ProjectArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        refuse_repeated(&self.names)?;
        let path = self.project.path()?;
        let names = self.names.clone();
        let spec = self.spec(&path)?;
        let sandboxes: Vec<(&str, &SandboxSpec)> = names.iter().map(|name| (name.as_str(), &spec)).collect();
        edit::add_to_file(&path, &sandboxes)?;
        context.ui.done("Added", format_args!("{} to {}", names.join(", "), path.display()));
        Ok(0)
    }

    /// The entry of the Sandboxfile at `path`.
    fn spec(self, path: &Path) -> Result<SandboxSpec, Failure> {
        let start = self.start.map(|body| ("start".to_owned(), body));
        let scripts: Vec<(String, String)> = start.into_iter().chain(self.script).collect();
        refuse_repeated(&scripts.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())?;
        Ok(SandboxSpec {
            image: self.image,
            cpus: self.resources.cpus,
            memory: self.resources.memory,
            disk: self.resources.disk,
            pids_limit: self.resources.pids_limit,
            imports: self.import.into_iter().map(|(from, to)| (from, Imported::To(to))).collect(),
            exports: self.export.into_iter().collect(),
            envs: self.env,
            env_file: self.env_file,
            workdir: self.workdir,
            user: self.user,
            shell: self.shell,
            volumes: relative_to(path, self.resources.volume)?,
            tmpfs: self.resources.tmpfs,
            scope: self.resources.network.scope,
            network: self.resources.network.spec(),
            ports: self.resources.network.ports,
            secrets: secrets(path, self.resources.network.secrets)?,
            groups: self
                .resources
                .network
                .groups
                .into_iter()
                .map(|name| (name, GroupMember::default()))
                .collect(),
            scripts: scripts.into_iter().collect(),
            depends_on: self.depends_on.into_iter().collect(),
            restart: self.restart.unwrap_or_default(),
            idle: self.idle,
            ..SandboxSpec::default()
        })
    }
}

/// Volumes as the Sandboxfile at `path` has them: relative to its folder, where the caller's folder is below that, else absolute.
fn relative_to(path: &Path, volumes: Vec<Volume>) -> Result<Vec<Volume>, Failure> {
    let here = current_dir()?;
    let below = path.parent().and_then(|folder| here.strip_prefix(folder).ok());
    let moved = |mut volume: Volume| {
        if let VolumeSource::Host(source) = &mut volume.source
            && source.is_relative()
            && !source.starts_with("~")
        {
            *source = match below {
                Some(below) if below.as_os_str().is_empty() => return volume,
                Some(below) => Path::new(".").join(below).join(source.strip_prefix(".").unwrap_or(source)),
                None => here.join(&source),
            };
        }
        volume
    };
    Ok(volumes.into_iter().map(moved).collect())
}

/// Secrets as the Sandboxfile at `path` has them: files by absolute paths, where the caller is not in its folder.
fn secrets(path: &Path, secrets: Vec<Secret>) -> Result<SecretSpecs, Failure> {
    let here = current_dir()?;
    let moved = |mut secret: Secret| {
        if let Source::File(file) = &mut secret.from
            && path.parent() != Some(&here)
            && !file.starts_with("~")
        {
            *file = here.join(&file);
        }
        (secret.name.clone(), secret.into())
    };
    Ok(secrets.into_iter().map(moved).collect())
}

fn parse_dependency(text: &str) -> Result<(String, Condition), String> {
    match text.split_once(':') {
        Some((name, condition)) => Ok((name.to_owned(), condition.parse()?)),
        None => Ok((text.to_owned(), Condition::default())),
    }
}

fn parse_artifact(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => {
            Ok((name.to_owned(), path.to_owned()))
        }
        _ => Err("write NAME=PATH, with an absolute path in the sandbox".to_owned()),
    }
}

fn parse_script(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, body)) if !name.is_empty() => Ok((name.to_owned(), body.to_owned())),
        _ => Err("write NAME=BODY".to_owned()),
    }
}
