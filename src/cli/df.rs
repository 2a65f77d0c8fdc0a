//! `msb df`.

use serde::Serialize;

use crate::image::{Usage, UsedImage};
use crate::ui::{Table, human_bytes};

use super::Outcome;
use super::args::{Format, FormatArgs};
use super::settings::Context;
use super::{names_or_none, seconds, short_digest};

/// Show what the image cache holds, what is shared, and what can go
///
/// RECLAIMABLE is what `msb image prune --all` would free.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb df\n  msb df --verbose\n  msb df --format json | jq .reclaimable_bytes"
)]
pub(super) struct Args {
    /// Show each image, too, and who uses it
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    images: Vec<Row>,
    #[serde(flatten)]
    usage: &'a Usage,
}

/// One image.
#[derive(Debug, Serialize)]
struct Row {
    digest: String,
    names: Vec<String>,
    size_bytes: u64,
    /// Bytes that no other image has.
    unique_bytes: u64,
    used_by: Vec<String>,
    /// Seconds since 1970.
    last_used: u64,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let usage = context.store()?.usage(&context.image_uses()?)?;
        match self.format.format {
            Format::Json => context.ui.json(&Report { images: rows(context, &usage), usage: &usage })?,
            Format::Table => {
                context.ui.data(totals(&usage))?;
                if self.verbose && !usage.images.is_empty() {
                    context.ui.data(format_args!("\n{}", images(&rows(context, &usage))))?;
                }
            }
        }
        Ok(0)
    }
}

fn totals(usage: &Usage) -> Table {
    let mut table = Table::new(["TYPE", "COUNT", "SIZE", "SHARED", "RECLAIMABLE"]);
    let mut row = |name: &str, count: usize, bytes: u64, shared: Option<u64>| {
        let shared = shared.map(human_bytes).unwrap_or_default();
        table.row([name.to_owned(), count.to_string(), human_bytes(bytes), shared, String::new()]);
    };
    row("Images", usage.images.len(), usage.images_bytes, None);
    row("Layers", usage.layers, usage.layers_bytes, Some(usage.shared_bytes));
    row("Kept blobs", usage.blobs, usage.blobs_bytes, None);
    row("Unfinished", usage.unfinished, usage.unfinished_bytes, None);
    table.row([
        "Total".to_owned(),
        String::new(),
        human_bytes(usage.total_bytes),
        String::new(),
        human_bytes(usage.reclaimable_bytes),
    ]);
    table
}

fn rows(context: &Context, usage: &Usage) -> Vec<Row> {
    let row = |image: &UsedImage| Row {
        digest: image.digest.to_string(),
        names: context.show_all(&image.names),
        size_bytes: image.size_bytes,
        unique_bytes: image.unique_bytes,
        used_by: image.used_by.clone(),
        last_used: seconds(image.last_used),
    };
    usage.images.iter().map(row).collect()
}

fn images(rows: &[Row]) -> Table {
    let mut table = Table::new(["IMAGE", "DIGEST", "SIZE", "UNIQUE", "USED BY"]);
    for image in rows {
        table.row([
            names_or_none(&image.names),
            short_digest(&image.digest),
            human_bytes(image.size_bytes),
            human_bytes(image.unique_bytes),
            image.used_by.join(", "),
        ]);
    }
    table
}
