//! Sandboxes in the background: `msb create`, `msb start`, and what `msb run --detach` has in common with them.

use std::path::Path;
use std::time::Duration;

use crate::manifest::{Restart, parse_duration};
use crate::sandbox::{self, Definition, Invocation, Kind, Order, Program, Streams};
use crate::ui;

use super::Outcome;
use super::args::{FileArgs, MachineArgs, ProcessArgs, ProgramArgs, ResourceArgs, TtyArgs, parse_name};
use super::failure::Failure;
use super::launch::{Images, Launch, short_name, timings_line};
use super::project::apply_flags;
use super::settings::Context;
use super::target::Target;

/// How a sandbox lives in the background.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Background")]
pub(super) struct LifeArgs {
    /// Start no main process: the sandbox is up until it is stopped
    #[arg(long, conflicts_with_all = ["exec", "args"])]
    pub(super) idle: bool,
    /// Start it again when it has ended by itself: no, on-failure[:COUNT], always
    #[arg(long, value_name = "POLICY")]
    pub(super) restart: Option<Restart>,
    /// Stop it after so long: 90s, 30m, 12h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) max_duration: Option<Duration>,
    /// Stop it when nobody has used it for so long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) idle_timeout: Option<Duration>,
}

impl LifeArgs {
    /// Puts the flags over a definition.
    pub(super) fn apply(&self, definition: &mut Definition) {
        definition.restart = self.restart.unwrap_or(definition.restart);
        definition.max_duration = self.max_duration.or(definition.max_duration);
        definition.idle_timeout = self.idle_timeout.or(definition.idle_timeout);
        definition.idle |= self.idle;
    }
}

/// Make a sandbox of an image, with a name of its own
///
/// It keeps what it writes until it is removed. `msb start` runs it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb create --name web nginx && msb start web\n  \
    msb create --name box --idle debian\n  msb create python -- python3 -m http.server")]
pub(super) struct CreateArgs {
    /// Image to run
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Name of the sandbox [default: made up]
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    resources: ResourceArgs,
    #[command(flatten)]
    life: LifeArgs,
}

impl CreateArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut definition = Definition::new(self.name.unwrap_or_default(), &self.image);
        apply_flags(&mut definition, &self.resources, &self.process)?;
        self.life.apply(&mut definition);
        let target = create(context, definition, self.program)?;
        context.ui.data(target.name())?;
        Ok(0)
    }
}

/// Makes a named sandbox that runs `program` with every start; an empty name is made up.
pub(super) fn create(
    context: &Context,
    mut definition: Definition,
    program: ProgramArgs,
) -> Result<Target, Failure> {
    definition.checked_memory()?;
    let image = context.image(&definition.image)?;
    definition.command = program.command(&image.config.entrypoint)?;
    // What was created stays what it is, even when the tag moves on.
    definition.image = image.reference.with_digest(image.digest.clone()).to_string();
    let number = uuid();
    if definition.name.is_empty() {
        definition.name = format!("{:.56}-{}", short_name(&image.reference.to_string()), &number[..6]);
    }
    let folder = context.paths.data.join("sandboxes").join(number);
    let target = Target { kind: Kind::Named, definition, folder, sandboxfile: None };
    let database = context.database()?;
    database.put(target.subject())?;
    database.note(
        target.name(),
        &target.folder,
        "create",
        serde_json::json!({ "image": target.definition.image }),
    )?;
    Ok(target)
}

/// A folder name nothing else has.
fn uuid() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // RandomState is seeded by the system for each process and differs with each use.
    let random = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:016x}", random())
}

/// Start sandboxes in the background
///
/// What a sandbox writes goes to its log: `msb logs`. `msb exec` runs something in it, `msb stop` ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb start web\n  msb start app db\n  msb start --attach app")]
pub(super) struct StartArgs {
    /// Sandboxes: of the Sandboxfile, made by `create`, or installed
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    file: FileArgs,
    /// Join its main process; `msb attach` does so later
    #[arg(short, long)]
    attach: bool,
    /// Keep the main process's standard input open for those who attach
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    tty: TtyArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    disk: super::run::DiskArgs,
    #[command(flatten)]
    drift: super::lock::DriftArgs,
}

impl StartArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let targets = context.targets(&self.file.project(), &self.names)?;
        if self.attach && targets.len() > 1 {
            return Err(Failure::new("--attach joins one sandbox").hint("start the others without it"));
        }
        for target in &targets {
            let mut launch = Launch::of_target(context, target.clone(), self.disk, self.drift)?;
            launch.streams = Some(Streams {
                terminal: self.tty.tty.then(ui::terminal_size),
                stdin: self.interactive || self.tty.tty || self.attach,
            });
            launch.start(context, Invocation::default(), &self.machine)?;
            if !self.attach {
                context.ui.done("Started", target.name());
            }
        }
        match targets.first() {
            Some(target) if self.attach => super::exec::attach(context, target, super::exec::DETACH_KEYS),
            _ => Ok(0),
        }
    }
}

impl Launch {
    /// A run of a kept sandbox.
    pub(super) fn of_target(
        context: &Context,
        target: Target,
        disk: super::run::DiskArgs,
        drift: super::lock::DriftArgs,
    ) -> Result<Self, Failure> {
        let images = match &target.sandboxfile {
            Some(path) => {
                context.remember_project(path);
                Images::Locked(path.clone(), drift.drift())
            }
            None => Images::Named,
        };
        let storage = target.storage();
        let found = super::run::Found {
            definition: target.definition.clone(),
            storage,
            images,
            target: Some(target),
        };
        found.launch(disk, drift)
    }

    /// Starts it in the background and waits until it is up.
    pub(super) fn start(
        self,
        context: &Context,
        invocation: Invocation,
        args: &MachineArgs,
    ) -> Result<(), Failure> {
        let machine = context.machine(args)?;
        let kernel = std::path::absolute(machine.kernel.path())?;
        self.start_on(context, invocation, args, &kernel)
    }

    /// The same, with the kernel found.
    pub(super) fn start_on(
        mut self,
        context: &Context,
        invocation: Invocation,
        args: &MachineArgs,
        kernel: &Path,
    ) -> Result<(), Failure> {
        let Some(target) = self.target.take() else {
            return Err(Failure::new("a throw-away sandbox has no background"));
        };
        self.definition.checked_memory()?;
        let invocation = match invocation.program {
            Program::Default if self.definition.idle => {
                Invocation { program: Program::Nothing, ..invocation }
            }
            _ => invocation,
        };
        self.definition.check_program(&invocation.program)?;
        self.definition.check_imports()?;
        let secrets = self.definition.read_secrets()?;
        if target.is_running()? {
            // The lock says who it is.
            sandbox::KeptDisk::lock(target.name(), &target.folder, None)?;
        } else if target.is_up(context)? {
            return Err(sandbox::Error::InUse { name: target.name().to_owned(), holder: None }.into());
        }
        let image = self.image(context)?;
        let order = Order {
            kind: target.kind,
            folder: target.folder,
            sandboxfile: target.sandboxfile,
            definition: self.definition,
            image: image.reference.with_digest(image.digest.clone()).to_string(),
            kernel: kernel.to_owned(),
            vmm: context.vmm(args)?,
            authorities: context.authorities(),
            invocation,
            on_change: self.on_change,
            streams: self.streams.unwrap_or(Streams { terminal: None, stdin: false }),
            log: context.log_limits(),
            remove: self.remove,
        };
        let timings = sandbox::start(&order, &secrets)?;
        if args.timings {
            context.ui.message(timings_line(&timings));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_names_of_their_own() {
        assert_ne!(uuid(), uuid());
    }
}
