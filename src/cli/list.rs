//! `msb list`.

use serde::Serialize;

use crate::sandbox::{self, Kind, Status};
use crate::ui::{Table, human_bytes};

use super::Outcome;
use super::args::{Format, FormatArgs, ProjectArgs};
use super::failure::Failure;
use super::settings::Context;
use super::target::Target;

/// List the sandboxes of the project, those with names of their own, and the installed ones
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// One line of the list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    kind: Kind,
    image: String,
    /// `new`, `stopped` or `running`.
    state: &'static str,
    /// The process that runs it.
    pid: Option<u32>,
    cpus: u8,
    memory_mib: u64,
    /// What the disk takes on the host.
    disk_bytes: u64,
    scripts: Vec<String>,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let rows = self.rows(context)?;
        match self.format.format {
            Format::Json => context.ui.json(&rows)?,
            Format::Table => context.ui.data(table(&rows))?,
        }
        Ok(0)
    }

    fn rows(&self, context: &Context) -> Result<Vec<Row>, Failure> {
        let project = self.project.load()?;
        if project.is_none() && self.project.file.is_some() {
            return Err(super::project::no_sandboxfile());
        }
        context.all_targets(project.as_ref())?.iter().map(row).collect()
    }
}

fn row(target: &Target) -> Result<Row, Failure> {
    let (definition, dir) = (&target.definition, &target.folder);
    let (state, pid) = match sandbox::status(dir)? {
        Status::New => ("new", None),
        Status::Stopped => ("stopped", None),
        Status::Running(holder) => ("running", holder.map(|holder| holder.pid)),
    };
    Ok(Row {
        name: definition.name.clone(),
        kind: target.kind,
        image: definition.image.clone(),
        state,
        pid,
        cpus: definition.cpus.unwrap_or(1),
        memory_mib: definition.memory_mib.unwrap_or(u64::from(sandbox::DEFAULT_MEMORY_MIB)),
        disk_bytes: sandbox::disk_usage(dir),
        scripts: definition.scripts.iter().map(|(name, _)| name.clone()).collect(),
    })
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Project => "project",
        Kind::Named => "named",
        Kind::Installed => "installed",
    }
}

/// The image with its digest cut to what people compare.
fn short_image(image: &str) -> String {
    match image.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@{}", digest.chars().take(12).collect::<String>()),
        None => image.to_owned(),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["NAME", "KIND", "IMAGE", "STATE", "CPUS", "MEMORY", "DISK", "SCRIPTS"]);
    for row in rows {
        table.row([
            row.name.clone(),
            kind_text(row.kind).to_owned(),
            short_image(&row.image),
            row.state.to_owned(),
            row.cpus.to_string(),
            human_bytes(row.memory_mib << 20),
            human_bytes(row.disk_bytes),
            row.scripts.join(" "),
        ]);
    }
    table
}
