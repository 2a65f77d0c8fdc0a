//! `msb run` and `msb shell`.

use std::ffi::OsString;

use clap::Args;

use crate::sandbox::{Definition, Drift, ImageChange, Invocation, Program, Projects, Storage, read_stamp};

use super::Outcome;
use super::args::{MachineArgs, ProcessArgs, ProgramArgs, ProjectArgs, ResourceArgs, TtyArgs};
use super::failure::Failure;
use super::launch::{Images, Launch, short_name};
use super::lock::DriftArgs;
use super::project::{apply_flags, no_sandboxfile};
use super::settings::Context;

/// Run a sandbox of the project, or an image as a throw-away sandbox
///
/// NAME is a sandbox of the nearest Sandboxfile; failing that, an image. NAME~SCRIPT runs one of the sandbox's scripts;
/// without it, its `start` script, its `command`, or what its image starts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  msb run app\n  msb run app~test -- -v\n  \
    msb run app -e /bin/sh -- -c 'echo hi'\n  msb run --image python -- python3 -V")]
pub(super) struct RunArgs {
    /// Sandbox, optionally with a script, or image
    #[arg(value_name = "NAME[~SCRIPT]")]
    name: String,
    /// NAME is a sandbox of the Sandboxfile
    #[arg(long, group = "kind")]
    sandbox: bool,
    /// NAME is an image
    #[arg(long, group = "kind")]
    image: bool,
    /// NAME is an installed sandbox
    #[arg(long, group = "kind")]
    installed: bool,
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    tty: TtyArgs,
    #[command(flatten)]
    resources: ResourceArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    disk: DiskArgs,
    #[command(flatten)]
    drift: DriftArgs,
}

/// Open a shell in a sandbox of the project
///
/// The shell is the sandbox's `shell`, else /bin/sh.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  msb shell app\n  msb shell app -- -c 'ls /'")]
pub(super) struct ShellArgs {
    /// Sandbox of the Sandboxfile
    name: String,
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    tty: TtyArgs,
    #[command(flatten)]
    resources: ResourceArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    disk: DiskArgs,
    #[command(flatten)]
    drift: DriftArgs,
    /// Arguments for the shell
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// What becomes of the disk of a sandbox whose image has changed.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Disk")]
struct DiskArgs {
    /// Throw the sandbox's disk away first
    #[arg(long, conflicts_with = "keep")]
    recreate: bool,
    /// Stay with the image the sandbox's disk was made for, whatever its name stands for now
    #[arg(long)]
    keep: bool,
}

/// What a name on the command line stands for.
struct Found {
    definition: Definition,
    storage: Storage,
    images: Images,
}

impl RunArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (name, script) = match self.name.split_once('~') {
            Some((name, script)) => (name, Some(script.to_owned())),
            None => (self.name.as_str(), None),
        };
        let program = match (script, self.program.exec) {
            (Some(_), Some(_)) => {
                return Err(Failure::new("a script and --exec exclude each other")
                    .hint(format!("run either {} or {name} --exec PROGRAM", self.name)));
            }
            (Some(script), None) => Program::Script(script),
            (None, Some(exec)) => Program::Exec(exec),
            (None, None) => Program::Default,
        };
        let is_script = matches!(program, Program::Script(_));
        let mut found = if self.installed {
            let installed = context.installed();
            let (definition, storage) = (installed.get(name)?, installed.storage(name));
            Found { definition, storage, images: Images::Named }
        } else {
            find(context, &self.project, name, (self.sandbox || is_script, self.image))?
        };
        if is_script && matches!(found.storage, Storage::ThrowAway(_)) {
            return Err(
                Failure::new("an image has no scripts").hint("scripts belong to a Sandboxfile's sandboxes")
            );
        }
        apply_flags(&mut found.definition, &self.resources, &self.process)?;
        let invocation = Invocation { program, args: self.program.args };
        found.launch(self.disk, self.drift)?.run(context, invocation, &self.machine, self.tty.wish())
    }
}

impl ShellArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut found = find(context, &self.project, &self.name, (true, false))?;
        apply_flags(&mut found.definition, &self.resources, &self.process)?;
        let invocation = Invocation { program: Program::Shell, args: self.args };
        found.launch(self.disk, self.drift)?.run(context, invocation, &self.machine, self.tty.wish())
    }
}

impl Found {
    /// The run, with the image that flags and lock file choose.
    fn launch(mut self, disk: DiskArgs, drift: DriftArgs) -> Result<Launch, Failure> {
        match &self.storage {
            Storage::ThrowAway(_) if disk.keep || disk.recreate => {
                return Err(Failure::new(
                    "a throw-away run has no disk that --keep or --recreate could be about",
                ));
            }
            Storage::Kept(folder) if disk.keep => {
                if let Some(stamp) = read_stamp(folder)? {
                    self.definition.image = stamp.reference()?.to_string();
                }
            }
            _ => {}
        }
        let on_change = if disk.recreate { ImageChange::Recreate } else { ImageChange::Refuse };
        let images = match self.images {
            Images::Locked(sandboxfile, _) => Images::Locked(sandboxfile, drift.drift()),
            Images::Named if drift.drift() != Drift::Allow => {
                return Err(Failure::new("--locked and --frozen are about sandboxes of a Sandboxfile"));
            }
            Images::Named => Images::Named,
        };
        Ok(Launch { definition: self.definition, storage: self.storage, images, on_change })
    }
}

/// The sandbox or image that `name` stands for; `(true, _)` wants a sandbox, `(_, true)` an image.
fn find(
    context: &Context,
    project: &ProjectArgs,
    name: &str,
    (only_sandbox, only_image): (bool, bool),
) -> Result<Found, Failure> {
    let project = if only_image { None } else { project.load()? };
    match project {
        Some(project) if only_sandbox || project.file.sandboxes.contains_key(name) => {
            let definition = project.definition(name)?;
            if let Err(error) = Projects::new(&context.paths).record(&project.path) {
                // Nothing but the removal of unused images goes by it.
                context.ui.warning(error);
            }
            let storage = Storage::of_project(&project.path, name);
            Ok(Found { definition, storage, images: Images::Locked(project.path, Drift::default()) })
        }
        None if only_sandbox => Err(no_sandboxfile()),
        _ => Ok(Found {
            definition: Definition::new(short_name(name), name),
            storage: context.throw_away(),
            images: Images::Named,
        }),
    }
}
