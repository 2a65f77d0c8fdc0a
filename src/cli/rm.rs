//! What sandboxes leave behind: `rm`, `clean`, `rename`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::net::group::Registry;
use crate::sandbox::{self, KeptDisk, Kind};
use crate::ui::{self, human_bytes};

use super::Outcome;
use super::args::{FileArgs, parse_name};
use super::failure::Failure;
use super::settings::Context;
use super::stop::{TargetsArgs, stop_all, wait_for_supervisor};
use super::target::Target;

/// Remove sandboxes with everything they have written
///
/// For a sandbox of a Sandboxfile: what it keeps under menv/. Its definition stays; `msb remove` takes that.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb rm web\n  msb rm --force app db")]
pub(super) struct RmArgs {
    #[command(flatten)]
    targets: TargetsArgs,
    /// Kill it first where it runs
    #[arg(short, long)]
    force: bool,
}

impl RmArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        for target in self.targets.find(context)? {
            if target.kind == Kind::Installed {
                return Err(Failure::new(format!("`{}` is installed", target.name()))
                    .hint(format!("remove it with `msb uninstall {}`", target.name())));
            }
            if self.force && target.is_running()? {
                stop_all(context, std::slice::from_ref(&target), Duration::ZERO)?;
            }
            remove(context, &target)?;
            context.ui.done("Removed", target.name());
        }
        Ok(0)
    }
}

/// Removes the state of one; gives the bytes that were freed.
fn remove(context: &Context, target: &Target) -> Result<u64, Failure> {
    let freed = sandbox::disk_usage(&target.folder);
    if target.folder.exists() {
        // Held while the folder goes, so that nobody starts it in the middle.
        let _lock = KeptDisk::lock(target.name(), &target.folder, None).map_err(|error| match error {
            sandbox::Error::InUse { .. } => {
                Failure::from(error).hint(format!("`msb rm --force {}` kills it first", target.name()))
            }
            error => error.into(),
        })?;
        fs::remove_dir_all(&target.folder)
            .map_err(|error| Failure::new(format!("cannot remove {}: {error}", target.folder.display())))?;
    }
    Registry::new(&context.paths).leave(&target.folder).map_err(sandbox::Error::from)?;
    let database = context.database()?;
    if let Some(record) = database.in_folder(&target.folder)? {
        database.remove(record.id)?;
    }
    database.note(target.name(), &target.folder, "remove", serde_json::json!({}))?;
    Ok(freed)
}

/// Removes a sandbox that was made to be started, and could not be.
pub(super) fn take_back(context: &Context, target: &Target) -> Result<(), Failure> {
    wait_for_supervisor(target);
    // One that is removed when it has ended may be gone already.
    match context.database()?.in_folder(&target.folder)? {
        Some(_) => remove(context, target).map(drop),
        None => Ok(()),
    }
}

/// Remove what the project's sandboxes have written
///
/// Everything under menv/ of sandboxes that do not run; without names, of all of them, also those that are no longer in the
/// Sandboxfile.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb clean\n  msb clean app --yes")]
pub(super) struct CleanArgs {
    /// Sandboxes of the Sandboxfile [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    file: FileArgs,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl CleanArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let path = self.file.project().path()?;
        let mut targets = if self.names.is_empty() {
            kept(&path)?
        } else {
            let project = self.file.project().load()?.ok_or_else(super::project::no_sandboxfile)?;
            self.names.iter().map(|name| project.target(name)).collect::<Result<_, _>>()?
        };
        targets.retain(|target| target.folder.exists());
        let mut idle = Vec::new();
        for target in targets {
            match target.is_running()? {
                true => context.ui.note(format_args!("{} runs and is left alone", target.name())),
                false => idle.push(target),
            }
        }
        if idle.is_empty() {
            context.ui.note("there is nothing to remove");
            return Ok(0);
        }
        let names: Vec<&str> = idle.iter().map(Target::name).collect();
        if !self.yes && !agreed(&names)? {
            return Ok(1);
        }
        let mut freed = 0;
        for target in &idle {
            freed += remove(context, target)?;
        }
        context.ui.done("Freed", format_args!("{} of {}", human_bytes(freed), names.join(", ")));
        Ok(0)
    }
}

fn agreed(names: &[&str]) -> Result<bool, Failure> {
    if !ui::has_terminal() {
        return Err(
            Failure::new("what sandboxes have written is removed for good").hint("say --yes if you mean it")
        );
    }
    let answer = ui::ask(&format!("Remove everything that {} kept? [y/N] ", names.join(", ")))?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Every sandbox that has a folder in `menv`.
fn kept(sandboxfile: &Path) -> Result<Vec<Target>, Failure> {
    let menv = super::target::project_folder(sandboxfile, "");
    let entries = match fs::read_dir(&menv) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", menv.display()))),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir())?.file_name().into_string().ok())
        .collect();
    names.sort();
    let target = |name: String| Target {
        kind: Kind::Project,
        folder: super::target::project_folder(sandboxfile, &name),
        sandboxfile: Some(sandboxfile.to_owned()),
        definition: sandbox::Definition::new(name, ""),
    };
    Ok(names.into_iter().map(target).collect())
}

/// Give a sandbox that `msb create` made another name
#[derive(Debug, clap::Args)]
pub(super) struct RenameArgs {
    /// Sandbox
    old: String,
    /// Its new name
    #[arg(value_parser = parse_name)]
    new: String,
    #[command(flatten)]
    file: FileArgs,
}

impl RenameArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let target = context.target(&self.file.project(), &self.old)?;
        match target.kind {
            Kind::Named => {}
            Kind::Project => {
                return Err(Failure::new(format!("the name `{}` comes from the Sandboxfile", self.old))
                    .hint("change it there; `msb rm` removes what the old name has kept"));
            }
            Kind::Installed => {
                return Err(Failure::new(format!("`{}` is installed as a command", self.old))
                    .hint("install it again under the new name"));
            }
        }
        let database = context.database()?;
        let Some(record) = database.in_folder(&target.folder)? else {
            return Err(Failure::new(format!("there is no sandbox `{}`", self.old)));
        };
        database.rename(&record, &self.new)?;
        database.note(&self.new, &target.folder, "rename", serde_json::json!({ "from": self.old }))?;
        if target.is_running()? {
            context.ui.note("the running guest keeps its host name until it is started again");
        }
        Ok(0)
    }
}
