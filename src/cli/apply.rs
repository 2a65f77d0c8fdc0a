//! `msb apply`.

use std::collections::HashSet;

use crate::image::Digest;
use crate::manifest::{Condition, Pins, lock_path};
use crate::sandbox::project::{Action, Change, Comparison, Last, plan};
use crate::sandbox::{Question, Record, read_stamp};
use crate::ui::Table;

use super::Outcome;
use super::args::{Format, FormatArgs, ProjectArgs};
use super::failure::Failure;
use super::fleet::{Fleet, FleetArgs, stop_in_order};
use super::project::{Project, no_sandboxfile};
use super::settings::Context;
use super::stop::GraceArgs;
use super::target::Target;

/// Make what runs be what the Sandboxfile says
///
/// Starts what does not run, restarts what has changed since it was started (its keys, or the image it is pinned to), and stops
/// what is no longer in the file. Where nothing has changed but what the network lets through, that is changed while it runs. The plan
/// comes first. What others wait for with `condition: completed` is not run again
/// once it has completed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb apply --dry-run\n  msb apply\n  msb update && msb apply --recreate")]
pub(super) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Only show the plan
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    grace: GraceArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let project = self.project.load()?.ok_or_else(no_sandboxfile)?;
        let fleet = Fleet::new(context, &project, &[], &self.fleet)?;
        let running = context.running_of(&project.path)?;
        let gone: Vec<Target> =
            running.iter().filter(|target| !fleet.targets().contains_key(target.name())).cloned().collect();
        let changes = self.plan(context, &project, (&fleet, &gone))?;
        match self.format.format {
            Format::Json => context.ui.json(&changes)?,
            Format::Table => context.ui.data(table(&changes))?,
        }
        if self.dry_run {
            return Ok(0);
        }
        let is = |name: &str, actions: &[Action]| {
            changes.iter().any(|change| change.name == name && actions.contains(&change.action))
        };
        // Whatever keeps one from starting is known before anything stops.
        let launches = fleet.launches(|target| is(target.name(), &[Action::Start, Action::Restart]))?;
        // As they were started: what they depended on then stops after them.
        let stopping: Vec<Target> = running
            .into_iter()
            .filter(|target| is(target.name(), &[Action::Stop, Action::Restart]))
            .collect();
        for target in fleet.targets().values().filter(|target| is(target.name(), &[Action::Update])) {
            let network = &target.definition.network;
            let (scope, rules) = (network.scope, network.rules.clone());
            target.client(context)?.ask(Question::SetRules { scope, rules, instead_of: None })?;
        }
        stop_in_order(context, &stopping, self.grace.time)?;
        fleet.start(launches, &|_, _| {})?;
        if changes.iter().all(|change| change.action == Action::Keep) {
            context.ui.note("everything is as the Sandboxfile says");
        }
        Ok(0)
    }

    fn plan(
        &self,
        context: &Context,
        project: &Project,
        (fleet, gone): (&Fleet<'_>, &[Target]),
    ) -> Result<Vec<Change>, Failure> {
        let database = context.database()?;
        let jobs: HashSet<&str> = fleet
            .targets()
            .values()
            .flat_map(|target| &target.definition.depends_on)
            .filter(|(_, condition)| **condition == Condition::Completed)
            .map(|(name, _)| name.as_str())
            .collect();
        let mut known: Vec<Known<'_>> = Vec::new();
        for target in fleet.targets().values().chain(gone) {
            known.push(Known {
                target,
                record: database.in_folder(&target.folder)?.filter(|record| record.started.is_some()),
                is_up: target.is_up(context)?,
                pinned: pinned(context, project, &target.definition.image)?,
                stamped: read_stamp(&target.folder)?.and_then(|stamp| stamp.digest.parse().ok()),
            });
        }
        let comparisons: Vec<Comparison<'_>> = known
            .iter()
            .map(|known| Comparison {
                wanted: fleet.targets().get(known.target.name()).map(|target| &target.definition),
                pinned: known.pinned.as_ref(),
                any_image: self.fleet.disk.keeps(),
                is_job: jobs.contains(known.target.name()),
                last: known.record.as_ref().map(|record| Last {
                    record,
                    is_up: known.is_up,
                    digest: known.stamped.as_ref(),
                }),
            })
            .collect();
        Ok(plan(&comparisons))
    }
}

/// What a plan needs to know of one sandbox.
struct Known<'a> {
    target: &'a Target,
    record: Option<Record>,
    is_up: bool,
    pinned: Option<Digest>,
    stamped: Option<Digest>,
}

/// The digest that `image` has itself or in the lock file.
fn pinned(context: &Context, project: &Project, image: &str) -> Result<Option<Digest>, Failure> {
    let reference = context.reference(image)?;
    if let Some(digest) = reference.digest() {
        return Ok(Some(digest.clone()));
    }
    let pins = Pins::load(&lock_path(&project.path))?;
    Ok(pins.get(&reference, &context.pull_options().platform).cloned())
}

fn table(changes: &[Change]) -> Table {
    let mut table = Table::new(["NAME", "ACTION", "WHY"]);
    for change in changes {
        let action = match change.action {
            Action::Start => "start",
            Action::Restart => "restart",
            Action::Update => "update",
            Action::Stop => "stop",
            Action::Keep => "keep",
        };
        let why = match change.action {
            Action::Restart | Action::Update => format!("changed: {}", change.reasons.join(", ")),
            _ => change.reasons.join(", "),
        };
        table.row([change.name.clone(), action.to_owned(), why]);
    }
    table
}
