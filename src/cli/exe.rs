//! `msb exe`, also `msx`.

use crate::sandbox::{Definition, ImageChange, Invocation, Program};

use super::Outcome;
use super::args::{MachineArgs, ProcessArgs, ProgramArgs, ResourceArgs, TtyArgs};
use super::launch::{Images, Launch, short_name};
use super::project::apply_flags;
use super::settings::Context;

/// Run an image in a throw-away sandbox that leaves no trace
///
/// Starts the image's own command, or what comes after `--`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msx python\n  msx python -- python3 -c 'print(1)'\n  \
    msx alpine -e /bin/ls -- -l /\n  cat data | msx busybox -- wc -l")]
pub(super) struct Args {
    /// Image to run
    #[arg(value_name = "IMAGE")]
    name: String,
    /// IMAGE is an image (it always is; accepted for symmetry with `run`)
    #[arg(short, long)]
    image: bool,
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
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut definition = Definition::new(short_name(&self.name), &self.name);
        apply_flags(&mut definition, &self.resources, &self.process)?;
        let program = self.program.exec.map_or(Program::Default, Program::Exec);
        let launch = Launch {
            definition,
            storage: context.throw_away(),
            images: Images::Named,
            on_change: ImageChange::Refuse,
            target: None,
            streams: None,
            remove: false,
        };
        let invocation = Invocation { program, args: self.program.args };
        launch.run(context, invocation, &self.machine, self.tty.wish())
    }
}
