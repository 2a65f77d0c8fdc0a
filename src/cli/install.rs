//! `msb install`, also `msi`.

use crate::sandbox::Definition;

use super::Outcome;
use super::args::{ProcessArgs, ProgramArgs, ResourceArgs, parse_name};
use super::launch::short_name;
use super::link::own_program;
use super::project::apply_flags;
use super::settings::Context;

/// Make an image a command on PATH that keeps what it writes
///
/// The command's arguments go to the program in the sandbox. MSB_TIMINGS=1 before it prints how long each phase took.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msi alpine slim-linux\n  msi python -e python3 --name py\n  slim-linux ls -l /"
)]
pub(super) struct Args {
    /// Image to install
    #[arg(value_name = "IMAGE")]
    source: String,
    /// Name of the command [default: the last part of the image's name]
    #[arg(value_name = "NAME", value_parser = parse_name, conflicts_with = "name")]
    alias: Option<String>,
    /// Name of the command
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
    /// IMAGE is an image (it always is; accepted for symmetry with `run`)
    #[arg(short, long)]
    image: bool,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    resources: ResourceArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let name = self.alias.or(self.name).unwrap_or_else(|| short_name(&self.source));
        let mut definition = Definition::new(&name, &self.source);
        apply_flags(&mut definition, &self.resources, &self.process)?;
        definition.checked_memory()?;
        let installed = context.installed();
        installed.check_free(&name)?;
        let image = context.image(&self.source)?;
        definition.command = self.program.command(&image.config.entrypoint)?;
        // What was installed stays what it is, even when the tag or the default registry moves on.
        definition.image = image.reference.with_digest(image.digest.clone()).to_string();
        let launcher = installed.add(&definition, &own_program()?)?;
        context.ui.done("Installed", format_args!("{} as {name}", context.show(&image.reference)));
        let on_path = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir == installed.launcher_dir()));
        if !on_path {
            let dir = installed.launcher_dir().display();
            context.ui.note(format_args!("{dir} is not on PATH; add it, or start {}", launcher.display()));
        }
        Ok(0)
    }
}
