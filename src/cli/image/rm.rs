//! `msb image rm`.

use crate::ui::human_bytes;

use super::super::Outcome;
use super::super::settings::Context;

/// Remove images
///
/// A name is taken from its image; the image goes with its last name. A digest, or the first digits of one, stands for
/// the image with all its names. An image that a running or kept sandbox needs is refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb image rm python:3.11\n  msb image rm 4f1c8e0a9b12\n  \
    msb image rm --force busybox")]
pub(in crate::cli) struct Args {
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove it although sandboxes use it; one that runs goes on, others pull it again
    #[arg(short, long)]
    force: bool,
}

impl Args {
    pub(in crate::cli) fn run(self, context: &Context) -> Outcome {
        let (store, uses) = (context.store()?, context.image_uses()?);
        for image in &self.images {
            let removed = store.remove(&context.selector(image), self.force, &uses)?;
            for name in &removed.names {
                context.ui.data(context.show(name))?;
            }
            if removed.deleted {
                context.ui.data(&removed.digest)?;
                context.ui.done("Freed", human_bytes(removed.freed_bytes));
            }
        }
        Ok(0)
    }
}
