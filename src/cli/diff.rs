//! `msb diff`.

use serde::Serialize;

use crate::agent::{self, ChangeKind};
use crate::sandbox::headline;

use super::Outcome;
use super::args::{FileArgs, Format, FormatArgs, MachineArgs};
use super::failure::Failure;
use super::guest::with_guest;
use super::settings::Context;

/// Show what a sandbox has changed of its image
///
/// A line per path: A added, C changed, D deleted. Works on stopped sandboxes too.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb diff app\n  msb diff app --format json | jq -r '.[] | select(.kind == \"A\") | .path'"
)]
pub(super) struct Args {
    /// Sandbox
    name: String,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// One change, for programs.
#[derive(Debug, Serialize)]
struct Row {
    kind: ChangeKind,
    path: String,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let target = context.target(&self.file.project(), &self.name)?;
        let ui = context.ui;
        let rows = with_guest(context, &target, &self.machine, async |guest| {
            let failed = |error: agent::ToolError| Failure::new(headline(&error));
            let mut changes = agent::changes(guest).map_err(failed)?;
            let mut rows = Vec::new();
            while let Some(change) = changes.next().await.map_err(failed)? {
                let path = String::from_utf8_lossy(change.path.as_bytes()).into_owned();
                match self.format.format {
                    Format::Json => rows.push(Row { kind: change.kind, path }),
                    Format::Table => ui.data(format_args!("{} {}", letter(change.kind), printable(&path)))?,
                }
            }
            Ok(rows)
        })?;
        if self.format.format == Format::Json {
            ui.json(&rows)?;
        }
        Ok(0)
    }
}

fn letter(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => 'A',
        ChangeKind::Changed => 'C',
        ChangeKind::Deleted => 'D',
    }
}

/// Names in a guest may hold anything, a terminal should not.
fn printable(path: &str) -> String {
    path.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
