//! `msb volume`.

use serde::Serialize;

use crate::manifest::Size;
use crate::sandbox::volume_uses;
use crate::ui::{self, Table, human_bytes};
use crate::volume::{Error, Named, Store};

use super::args::{Format, FormatArgs};
use super::failure::Failure;
use super::settings::Context;
use super::{Outcome, seconds};

/// Commands on volumes.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub(super) enum Command {
    /// Make named volumes
    Create(CreateArgs),
    /// List the named volumes
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show everything known about named volumes
    Inspect(InspectArgs),
    /// Remove named volumes and all they hold
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove named volumes that no sandbox is defined to use
    Prune(PruneArgs),
}

/// Make named volumes
///
/// The first sandbox that mounts a volume makes it, too; this is for one of another size.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb volume create data\n  msb volume create --size 100G db\n  \
    msx postgres -v db:/var/lib/postgresql/data")]
pub(super) struct CreateArgs {
    /// Names of the new volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// The most a volume holds; only what is written takes space [default: 8G]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
}

/// List the named volumes
#[derive(Debug, clap::Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    format: FormatArgs,
}

/// Show everything known about named volumes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb volume inspect data | jq -r '.[0].used_bytes'")]
pub(super) struct InspectArgs {
    /// Volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Json, value_name = "FORMAT")]
    format: Format,
}

/// Remove named volumes and all they hold
///
/// A volume that a running sandbox uses, or that belongs to an installed sandbox or one of a known project, is refused.
#[derive(Debug, clap::Args)]
pub(super) struct RmArgs {
    /// Volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Remove it although sandboxes are defined to use it; they start with an empty one
    #[arg(short, long)]
    force: bool,
}

/// Remove named volumes that no sandbox is defined to use
///
/// Volumes hold what cannot be fetched again, so this asks first.
#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// One volume.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    folder: String,
    size_bytes: u64,
    used_bytes: u64,
    /// Seconds since 1970.
    created: Option<u64>,
    /// Processes that have it mounted.
    used_by: Vec<String>,
    /// What is defined to use it.
    needed_by: Vec<String>,
}

/// What was removed, or would be.
#[derive(Debug, Serialize)]
struct Report {
    volumes: Vec<String>,
    freed_bytes: u64,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(args) => args.run(context),
            Self::Ls(args) => args.run(context),
            Self::Inspect(args) => args.run(context),
            Self::Rm(args) => args.run(context),
            Self::Prune(args) => args.run(context),
        }
    }
}

impl CreateArgs {
    fn run(self, context: &Context) -> Outcome {
        let store = Store::new(&context.paths);
        for name in &self.names {
            store.create(name, self.size.map(|size| size.bytes()))?;
            context.ui.data(name)?;
        }
        Ok(0)
    }
}

impl LsArgs {
    fn run(self, context: &Context) -> Outcome {
        let volumes = Store::new(&context.paths).list()?;
        print(context, &volumes, self.format.format)
    }
}

impl InspectArgs {
    fn run(self, context: &Context) -> Outcome {
        let store = Store::new(&context.paths);
        let volumes: Result<Vec<Named>, Error> = self.names.iter().map(|name| store.inspect(name)).collect();
        print(context, &volumes?, self.format)
    }
}

impl RmArgs {
    fn run(self, context: &Context) -> Outcome {
        let store = Store::new(&context.paths);
        let uses = volume_uses(&context.paths)?;
        for name in &self.names {
            let by = uses.of(name);
            if !by.is_empty() && !self.force {
                store.inspect(name)?;
                return Err(Error::Needed { name: name.clone(), by }.into());
            }
            store.remove(name)?;
            context.ui.data(name)?;
        }
        Ok(0)
    }
}

impl PruneArgs {
    fn run(self, context: &Context) -> Outcome {
        let store = Store::new(&context.paths);
        let uses = volume_uses(&context.paths)?;
        let unused = |named: &Named| named.users.is_empty() && uses.of(&named.name).is_empty();
        let volumes: Vec<Named> = store.list()?.into_iter().filter(unused).collect();
        let names: Vec<String> = volumes.iter().map(|named| named.name.clone()).collect();
        if !self.dry_run && !self.force && !volumes.is_empty() {
            if !ui::has_terminal() {
                return Err(Failure::new("removing volumes takes a yes, and there is no terminal to ask on")
                    .hint("say it with --force, or look first with --dry-run"));
            }
            let answer = ui::ask(&format!("Remove {} for good? [y/N] ", names.join(", ")))?;
            if !matches!(answer.to_lowercase().as_str(), "y" | "yes") {
                return Ok(0);
            }
        }
        if !self.dry_run {
            names.iter().try_for_each(|name| store.remove(name))?;
        }
        let freed_bytes = volumes.iter().map(|named| named.used).sum();
        match self.format.format {
            Format::Json => context.ui.json(&Report { volumes: names, freed_bytes })?,
            Format::Table => {
                names.iter().try_for_each(|name| context.ui.data(name))?;
                context.ui.done(if self.dry_run { "Would free" } else { "Freed" }, human_bytes(freed_bytes));
            }
        }
        Ok(0)
    }
}

fn print(context: &Context, volumes: &[Named], format: Format) -> Outcome {
    let uses = volume_uses(&context.paths)?;
    match format {
        Format::Json => {
            let rows: Vec<Row> = volumes.iter().map(|named| row(named, uses.of(&named.name))).collect();
            context.ui.json(&rows)?;
        }
        Format::Table => {
            let mut table = Table::new(["VOLUME", "USED", "SIZE", "USED BY"]);
            for named in volumes {
                let users = named.users.iter().map(ToString::to_string).chain(uses.of(&named.name));
                table.row([
                    named.name.clone(),
                    human_bytes(named.used),
                    human_bytes(named.size),
                    users.collect::<Vec<_>>().join(", "),
                ]);
            }
            context.ui.data(table)?;
        }
    }
    Ok(0)
}

fn row(named: &Named, needed_by: Vec<String>) -> Row {
    Row {
        name: named.name.clone(),
        folder: named.folder.display().to_string(),
        size_bytes: named.size,
        used_bytes: named.used,
        created: named.created.map(seconds),
        used_by: named.users.iter().map(ToString::to_string).collect(),
        needed_by,
    }
}
