//! `msb image prune`.

use std::time::Duration;

use serde::Serialize;

use crate::image::{PruneOptions, Pruned, Removed};
use crate::manifest::Size;
use crate::ui::{Table, human_bytes};

use super::super::Outcome;
use crate::manifest::parse_duration;

use super::super::args::{Format, FormatArgs};
use super::super::settings::Context;
use super::super::{names_or_none, short_digest};

/// Remove images that nothing uses
///
/// Without flags these are images that have lost their name, layers of no image and what killed commands left. Never
/// removed is what a running sandbox, an installed one, or a project's disk or lock file needs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb image prune\n  msb image prune --all --dry-run\n  \
    msb image prune --older-than 30d\n  msb image prune --keep-storage 20G")]
pub(in crate::cli) struct Args {
    /// Remove images that have a name, too
    #[arg(short, long)]
    all: bool,
    /// Remove images, named or not, that were not pulled, loaded or started for so long: 12h, 30d, 4w
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    older_than: Option<Duration>,
    /// Remove images, named or not, until no more than this is left, the longest unused first
    #[arg(long, value_name = "SIZE")]
    keep_storage: Option<Size>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was removed, or would be.
#[derive(Debug, Serialize)]
struct Report {
    images: Vec<Row>,
    freed_bytes: u64,
    left_bytes: u64,
}

/// One image.
#[derive(Debug, Serialize)]
struct Row {
    digest: String,
    names: Vec<String>,
    freed_bytes: u64,
}

impl Args {
    pub(in crate::cli) fn run(self, context: &Context) -> Outcome {
        let options = PruneOptions {
            all: self.all,
            older_than: self.older_than,
            keep_storage: self.keep_storage.map(|size| size.bytes()),
            dry_run: self.dry_run,
        };
        let pruned = context.store()?.prune(&options, &context.image_uses()?)?;
        match self.format.format {
            Format::Json => context.ui.json(&report(context, &pruned))?,
            Format::Table => {
                if !pruned.images.is_empty() {
                    context.ui.data(table(&report(context, &pruned)))?;
                }
                let verb = if self.dry_run { "Would free" } else { "Freed" };
                let (freed, left) = (human_bytes(pruned.freed_bytes), human_bytes(pruned.left_bytes));
                context.ui.done(verb, format_args!("{freed}, {left} left"));
            }
        }
        Ok(0)
    }
}

fn report(context: &Context, pruned: &Pruned) -> Report {
    let row = |image: &Removed| Row {
        digest: image.digest.to_string(),
        names: context.show_all(&image.names),
        freed_bytes: image.freed_bytes,
    };
    Report {
        images: pruned.images.iter().map(row).collect(),
        freed_bytes: pruned.freed_bytes,
        left_bytes: pruned.left_bytes,
    }
}

fn table(pruned: &Report) -> Table {
    let mut table = Table::new(["IMAGE", "DIGEST", "FREED"]);
    for image in &pruned.images {
        table.row([names_or_none(&image.names), short_digest(&image.digest), human_bytes(image.freed_bytes)]);
    }
    table
}
