//! `msb image`.

use serde::Serialize;

use crate::image::Image;
use crate::ui::{Table, human_bytes};

use super::Outcome;
use super::args::{Format, FormatArgs};
use super::settings::Context;

/// Commands on images.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the images on this machine
    #[command(visible_alias = "list")]
    Ls(FormatArgs),
}

/// One line of the list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    digest: String,
    created: Option<String>,
    layers: usize,
    size_bytes: u64,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let Self::Ls(args) = self;
        let rows: Vec<Row> = context.store()?.list()?.iter().map(|image| row(context, image)).collect();
        match args.format {
            Format::Json => {
                context.ui.data(serde_json::to_string_pretty(&rows).map_err(std::io::Error::from)?)?
            }
            Format::Table => context.ui.data(table(&rows))?,
        }
        Ok(0)
    }
}

fn row(context: &Context, image: &Image) -> Row {
    Row {
        name: context.show(&image.reference),
        digest: image.digest.to_string(),
        created: image.config.created.clone(),
        layers: image.config.diff_ids.len(),
        size_bytes: image.size,
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["IMAGE", "DIGEST", "LAYERS", "SIZE"]);
    for row in rows {
        let digest = row.digest.split(':').next_back().unwrap_or_default();
        table.row([
            row.name.clone(),
            digest.chars().take(12).collect(),
            row.layers.to_string(),
            human_bytes(row.size_bytes),
        ]);
    }
    table
}
