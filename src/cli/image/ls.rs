//! `msb image ls`.

use serde::Serialize;

use crate::image::Image;
use crate::ui::{Table, age_of, human_bytes};

use super::super::Outcome;
use super::super::args::{Format, FormatArgs};
use super::super::settings::Context;

/// List the images on this machine by name
///
/// `msb df --verbose` also shows images that have lost their name.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    format: FormatArgs,
}

/// One line of the list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    digest: String,
    platform: String,
    /// When it was built, as its builder wrote it.
    created: Option<String>,
    layers: usize,
    size_bytes: u64,
}

impl Args {
    pub(in crate::cli) fn run(self, context: &Context) -> Outcome {
        let rows: Vec<Row> = context.store()?.list()?.iter().map(|image| row(context, image)).collect();
        match self.format.format {
            Format::Json => context.ui.json(&rows)?,
            Format::Table => context.ui.data(table(&rows))?,
        }
        Ok(0)
    }
}

fn row(context: &Context, image: &Image) -> Row {
    Row {
        name: context.show(&image.reference),
        digest: image.digest.to_string(),
        platform: image.config.platform.to_string(),
        created: image.config.created.clone(),
        layers: image.config.diff_ids.len(),
        size_bytes: image.size,
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["IMAGE", "DIGEST", "CREATED", "LAYERS", "SIZE"]);
    for row in rows {
        table.row([
            row.name.clone(),
            super::super::short_digest(&row.digest),
            row.created.as_deref().and_then(age_of).unwrap_or_default(),
            row.layers.to_string(),
            human_bytes(row.size_bytes),
        ]);
    }
    table
}
