//! `msb run` and `msb shell`.

use std::ffi::OsString;

use clap::Args;

use crate::sandbox::{
    Definition, Drift, ImageChange, Invocation, Kind, Program, Projects, Storage, Streams, read_stamp,
};
use crate::ui;

use super::Outcome;
use super::args::{MachineArgs, ProcessArgs, ProgramArgs, ProjectArgs, ResourceArgs, TtyArgs, parse_name};
use super::background::LifeArgs;
use super::failure::Failure;
use super::launch::{Images, Launch, short_name};
use super::lock::DriftArgs;
use super::project::{apply_flags, no_sandboxfile};
use super::settings::Context;
use super::target::Target;

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
    #[command(flatten)]
    background: BackgroundArgs,
}

/// Running in the background.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Background")]
struct BackgroundArgs {
    /// Run in the background: `msb logs`, `exec`, `attach` and `stop` find it by its name
    #[arg(short, long)]
    detach: bool,
    /// Name of the sandbox that a detached image becomes [default: made up]
    #[arg(long = "name", requires = "detach", value_name = "NAME", value_parser = parse_name)]
    called: Option<String>,
    /// Remove the sandbox when it has ended
    #[arg(long, requires = "detach")]
    rm: bool,
    /// Keep standard input open for those who attach
    #[arg(short, long, requires = "detach")]
    interactive: bool,
    #[command(flatten)]
    life: LifeArgs,
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
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Disk")]
pub(super) struct DiskArgs {
    /// Throw the sandbox's disk away first
    #[arg(long, conflicts_with = "keep")]
    recreate: bool,
    /// Stay with the image the sandbox's disk was made for, whatever its name stands for now
    #[arg(long)]
    keep: bool,
}

impl DiskArgs {
    /// Whether the image is to be the one of the disk.
    pub(super) fn keeps(self) -> bool {
        self.keep
    }
}

/// What a name on the command line stands for.
pub(super) struct Found {
    pub(super) definition: Definition,
    pub(super) storage: Storage,
    pub(super) images: Images,
    pub(super) target: Option<Target>,
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
            let folder = match &storage {
                Storage::Kept(folder) => folder.clone(),
                Storage::ThrowAway(folder) => folder.join(name),
            };
            let target =
                Target { kind: Kind::Installed, definition: definition.clone(), folder, sandboxfile: None };
            Found { definition, storage, images: Images::Named, target: Some(target) }
        } else {
            find(context, &self.project, name, (self.sandbox || is_script, self.image))?
        };
        if is_script && matches!(found.storage, Storage::ThrowAway(_)) {
            return Err(
                Failure::new("an image has no scripts").hint("scripts belong to a Sandboxfile's sandboxes")
            );
        }
        apply_flags(&mut found.definition, &self.resources, &self.process)?;
        let mut invocation = Invocation { program, args: self.program.args };
        self.background.refuse_unless_detached()?;
        if !self.background.detach {
            return found.launch(self.disk, self.drift)?.run(
                context,
                invocation,
                &self.machine,
                self.tty.wish(),
            );
        }
        let made = match found.target {
            // From now on the sandbox runs that by itself, with later starts as well.
            None => Some(found.become_named(context, std::mem::take(&mut invocation), &self.background)?),
            Some(_) if self.background.called.is_some() => {
                return Err(
                    Failure::new("a sandbox of the Sandboxfile has a name already").hint("leave --name out")
                );
            }
            Some(_) => None,
        };
        self.background.life.apply(&mut found.definition);
        let name = found.definition.name.clone();
        let tty = self.tty.wish().or(found.definition.tty).unwrap_or(false);
        let started = found.launch(self.disk, self.drift).and_then(|mut launch| {
            launch.remove = self.background.rm;
            launch.streams = Some(Streams {
                terminal: tty.then(ui::terminal_size),
                stdin: self.background.interactive || tty,
            });
            launch.start(context, invocation, &self.machine)
        });
        if let (Err(_), Some(made)) = (&started, made) {
            // The same command shall find its name free again. Why it did not start says more than that it stays.
            let _ = super::rm::take_back(context, &made);
        }
        started?;
        context.ui.data(name)?;
        Ok(0)
    }
}

impl BackgroundArgs {
    fn refuse_unless_detached(&self) -> Result<(), Failure> {
        let LifeArgs { idle, restart, max_duration, idle_timeout } = &self.life;
        let given = [
            ("--idle", *idle),
            ("--restart", restart.is_some()),
            ("--max-duration", max_duration.is_some()),
            ("--idle-timeout", idle_timeout.is_some()),
        ];
        match given.iter().find(|(_, given)| *given && !self.detach) {
            Some((flag, _)) => {
                Err(Failure::new(format!("{flag} is about sandboxes in the background")).hint("add --detach"))
            }
            None => Ok(()),
        }
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

impl DiskArgs {
    /// Stay with the disk as it is.
    pub(super) fn kept() -> Self {
        Self { recreate: false, keep: true }
    }
}

impl Found {
    /// Makes a throw-away run of `invocation` one of a named sandbox.
    fn become_named(
        &mut self,
        context: &Context,
        invocation: Invocation,
        background: &BackgroundArgs,
    ) -> Result<Target, Failure> {
        self.definition.name = background.called.clone().unwrap_or_default();
        let exec = match invocation.program {
            Program::Exec(program) => Some(program),
            _ => None,
        };
        let program = ProgramArgs { exec, args: invocation.args };
        let target = super::background::create(context, self.definition.clone(), program)?;
        self.definition = target.definition.clone();
        self.storage = target.storage();
        self.target = Some(target.clone());
        Ok(target)
    }

    /// The run, with the image that flags and lock file choose.
    pub(super) fn launch(mut self, disk: DiskArgs, drift: DriftArgs) -> Result<Launch, Failure> {
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
        Ok(Launch {
            definition: self.definition,
            storage: self.storage,
            images,
            on_change,
            target: self.target,
            streams: None,
            remove: false,
        })
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
            let target = project.target(name)?;
            context.remember_project(&project.path);
            Ok(Found {
                definition: target.definition.clone(),
                storage: target.storage(),
                images: Images::Locked(project.path, Drift::default()),
                target: Some(target),
            })
        }
        None if only_sandbox => Err(no_sandboxfile()),
        _ => Ok(Found {
            definition: Definition::new(short_name(name), name),
            storage: context.throw_away(),
            images: Images::Named,
            target: None,
        }),
    }
}

impl Context {
    /// Remembers that a project runs images.
    pub(super) fn remember_project(&self, sandboxfile: &std::path::Path) {
        if let Err(error) = Projects::new(&self.paths).record(sandboxfile) {
            // Nothing but the removal of unused images goes by it.
            self.ui.warning(error);
        }
    }
}
