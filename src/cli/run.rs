//! `msb run` and `msb shell`.

use std::ffi::OsString;

use clap::Args;

use crate::sandbox::{Definition, ImageChange, Invocation, Program, Storage};

use super::Outcome;
use super::args::{MachineArgs, ProcessArgs, ProgramArgs, ProjectArgs, ResourceArgs, TtyArgs};
use super::failure::Failure;
use super::launch::{Launch, short_name};
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
    /// Throw the sandbox's disk away first
    #[arg(long)]
    recreate: bool,
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
    /// Throw the sandbox's disk away first
    #[arg(long)]
    recreate: bool,
    /// Arguments for the shell
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
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
        let (mut definition, storage) = if self.installed {
            (context.installed().get(name)?, context.installed().storage(name))
        } else {
            find(context, &self.project, name, (self.sandbox || is_script, self.image))?
        };
        if is_script && matches!(storage, Storage::ThrowAway(_)) {
            return Err(
                Failure::new("an image has no scripts").hint("scripts belong to a Sandboxfile's sandboxes")
            );
        }
        apply_flags(&mut definition, &self.resources, &self.process)?;
        Launch {
            definition,
            storage,
            invocation: Invocation { program, args: self.program.args },
            machine: &self.machine,
            tty: self.tty.wish(),
            on_change: on_change(self.recreate),
        }
        .run(context)
    }
}

impl ShellArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (mut definition, storage) = find(context, &self.project, &self.name, (true, false))?;
        apply_flags(&mut definition, &self.resources, &self.process)?;
        Launch {
            definition,
            storage,
            invocation: Invocation { program: Program::Shell, args: self.args },
            machine: &self.machine,
            tty: self.tty.wish(),
            on_change: on_change(self.recreate),
        }
        .run(context)
    }
}

fn on_change(recreate: bool) -> ImageChange {
    if recreate { ImageChange::Recreate } else { ImageChange::Refuse }
}

/// The sandbox or image that `name` stands for; `(true, _)` wants a sandbox, `(_, true)` an image.
fn find(
    context: &Context,
    project: &ProjectArgs,
    name: &str,
    (only_sandbox, only_image): (bool, bool),
) -> Result<(Definition, Storage), Failure> {
    let project = if only_image { None } else { project.load()? };
    match project {
        Some(project) if only_sandbox || project.file.sandboxes.contains_key(name) => {
            Ok((project.definition(name)?, Storage::of_project(&project.path, name)))
        }
        None if only_sandbox => Err(no_sandboxfile()),
        _ => Ok((Definition::new(short_name(name), name), context.throw_away())),
    }
}
