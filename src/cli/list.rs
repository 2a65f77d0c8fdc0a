//! `msb list`.

use serde::Serialize;

use crate::sandbox::{self, Definition, Status, Storage};
use crate::ui::{Table, human_bytes};

use super::Outcome;
use super::args::{Format, FormatArgs, ProjectArgs};
use super::failure::Failure;
use super::settings::Context;

/// List the sandboxes of the project and the installed ones
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
    kind: &'static str,
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
            Format::Json => {
                context.ui.data(serde_json::to_string_pretty(&rows).map_err(std::io::Error::from)?)?
            }
            Format::Table => context.ui.data(table(&rows))?,
        }
        Ok(0)
    }

    fn rows(&self, context: &Context) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        if let Some(project) = self.project.load()? {
            for name in project.file.sandboxes.keys() {
                let definition = project.definition(name)?;
                rows.push(row("project", &definition, &Storage::of_project(&project.path, name))?);
            }
        } else if self.project.file.is_some() {
            return Err(super::project::no_sandboxfile());
        }
        let installed = context.installed();
        for name in installed.names()? {
            rows.push(row("installed", &installed.get(&name)?, &installed.storage(&name))?);
        }
        Ok(rows)
    }
}

fn row(kind: &'static str, definition: &Definition, storage: &Storage) -> Result<Row, Failure> {
    let Storage::Kept(dir) = storage else {
        return Err(Failure::new("a throw-away sandbox cannot be listed"));
    };
    let (state, pid) = match sandbox::status(dir)? {
        Status::New => ("new", None),
        Status::Stopped => ("stopped", None),
        Status::Running(holder) => ("running", holder.map(|holder| holder.pid)),
    };
    Ok(Row {
        name: definition.name.clone(),
        kind,
        image: definition.image.clone(),
        state,
        pid,
        cpus: definition.cpus.unwrap_or(1),
        memory_mib: definition.memory_mib.unwrap_or(u64::from(sandbox::DEFAULT_MEMORY_MIB)),
        disk_bytes: sandbox::disk_usage(dir),
        scripts: definition.scripts.iter().map(|(name, _)| name.clone()).collect(),
    })
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
            row.kind.to_owned(),
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
