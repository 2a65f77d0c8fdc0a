//! `msb lock`, `msb update`, and the flags of runs that follow the lock file.

use crate::manifest::lock_path;
use crate::sandbox::{Drift, PinChange, ProjectImages};
use crate::ui::PullProgress;

use super::Outcome;
use super::args::ProjectArgs;
use super::failure::Failure;
use super::project::{Project, no_sandboxfile};
use super::settings::Context;

/// How far a command may go from the lock file.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[command(next_help_heading = "Lock file")]
pub(super) struct DriftArgs {
    /// Fail rather than change Sandboxfile.lock
    #[arg(long)]
    locked: bool,
    /// As --locked, and do not use the network
    #[arg(long)]
    frozen: bool,
}

impl DriftArgs {
    pub(super) fn drift(self) -> Drift {
        match self {
            Self { frozen: true, .. } => Drift::Frozen,
            Self { locked: true, .. } => Drift::Locked,
            _ => Drift::Allow,
        }
    }
}

/// Pin the images of the Sandboxfile to their digests
///
/// Sandboxfile.lock, beside the Sandboxfile, holds the digest each image's name stands for; keep it under version control. Names that are
/// pinned stay as they are (`msb update` moves them), new ones are added, and those the Sandboxfile no longer has are dropped.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb lock\n  msb lock --locked    fail if the lock file is out of date, for example in CI"
)]
pub(super) struct LockArgs {
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    drift: DriftArgs,
}

/// Pin images to what their names stand for now
///
/// Asks the registries and writes Sandboxfile.lock. Nothing is downloaded until the next run, which says what becomes of a disk made for
/// the old image.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb update\n  msb update app --dry-run")]
pub(super) struct UpdateArgs {
    /// Sandboxes whose images to update [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    project: ProjectArgs,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
}

impl LockArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let project = self.project.load()?.ok_or_else(no_sandboxfile)?;
        let names = project.file.sandboxes.values().map(|spec| spec.image.as_str());
        let changes = context.with_images(&project.path, self.drift.drift(), |images| images.lock(names))?;
        print(context, &changes, "Locking");
        if self.drift.drift() == Drift::Allow {
            context.ui.done("Locked", lock_path(&project.path).display());
        }
        Ok(0)
    }
}

impl UpdateArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let project = self.project.load()?.ok_or_else(no_sandboxfile)?;
        let names = images_of(&project, &self.names)?;
        let changes = context.with_images(&project.path, Drift::Allow, |images| {
            images.update(names.iter().map(String::as_str), !self.dry_run)
        })?;
        print(context, &changes, if self.dry_run { "Would update" } else { "Updating" });
        if changes.is_empty() {
            context.ui.note("every image is pinned to what its name stands for now");
        }
        Ok(0)
    }
}

impl Context {
    /// Calls `action` with the images of a project, showing progress meanwhile.
    pub(super) fn with_images<T>(
        &self,
        sandboxfile: &std::path::Path,
        drift: Drift,
        action: impl FnOnce(&ProjectImages<'_>) -> Result<T, crate::sandbox::Error>,
    ) -> Result<T, Failure> {
        let (store, options, progress) = (self.store()?, self.pull_options(), PullProgress::new(self.ui));
        let images =
            ProjectImages { store: &store, sandboxfile, drift, options: &options, progress: &progress };
        Ok(action(&images)?)
    }
}

/// The images of the sandboxes `names`, of all when there are none.
fn images_of(project: &Project, names: &[String]) -> Result<Vec<String>, Failure> {
    if names.is_empty() {
        return Ok(project.file.sandboxes.values().map(|spec| spec.image.clone()).collect());
    }
    names.iter().map(|name| Ok(project.definition(name)?.image)).collect()
}

fn print(context: &Context, changes: &[PinChange], verb: &str) {
    for PinChange { reference, old, new } in changes {
        let (reference, new) = (context.show(reference), new.short());
        match old {
            Some(old) => {
                context.ui.done(verb, format_args!("{reference} {} -> {new}", old.short()));
            }
            None => context.ui.done(verb, format_args!("{reference} {new}")),
        }
    }
}
