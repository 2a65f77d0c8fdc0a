//! `msb down`.

use std::path::Path;

use crate::sandbox::{Kind, Record};

use super::Outcome;
use super::args::ProjectArgs;
use super::failure::Failure;
use super::fleet::stop_in_order;
use super::project::refuse_repeated;
use super::settings::Context;
use super::stop::GraceArgs;
use super::target::{Target, project_folder};

/// Stop the sandboxes of the project
///
/// Each stops after those that depend on it. What runs of the project although it is no longer in the Sandboxfile stops too. What
/// they have written stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb down\n  msb down web worker\n  msb down --time 0s")]
pub(super) struct Args {
    /// Sandboxes to stop [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    grace: GraceArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        refuse_repeated(&self.names)?;
        let path = self.project.path()?;
        let mut targets = context.running_of(&path)?;
        for name in self.names.iter().filter(|name| !targets.iter().any(|target| target.name() == **name)) {
            // One that there is but does not run is none to complain about.
            context.target(&self.project, name)?;
            context.ui.note(format_args!("{name} was not running"));
        }
        targets.retain(|target| self.names.is_empty() || self.names.iter().any(|name| name == target.name()));
        if targets.is_empty() && self.names.is_empty() {
            context.ui.note(format_args!("nothing of {} is running", path.display()));
        }
        stop_in_order(context, &targets, self.grace.time)?;
        Ok(0)
    }
}

impl Context {
    /// What runs of the project of `sandboxfile`, as it was started, whatever the file says now.
    pub(super) fn running_of(&self, sandboxfile: &Path) -> Result<Vec<Target>, Failure> {
        let is_ours = |record: &Record| {
            // Two files in one folder share the folder of their state.
            let same_file =
                record.sandboxfile.as_deref().and_then(Path::file_name) == sandboxfile.file_name();
            record.kind == Kind::Project
                && same_file
                && record.folder == project_folder(sandboxfile, &record.name)
        };
        let records = self.database()?.all()?.into_iter().filter(is_ours);
        let mut running = Vec::new();
        for target in records.map(Target::of_record) {
            if target.is_up(self)? {
                running.push(target);
            }
        }
        Ok(running)
    }
}
