//! `msb pull`.

use crate::ui::PullProgress;

use super::Outcome;
use super::settings::Context;

/// Download an image from a registry
///
/// A registry on this machine (127.0.0.0/8, localhost) is spoken to in plain HTTP, every other one in HTTPS.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb pull python:3.11\n  msb pull 127.0.0.1:5000/app@sha256:…")]
pub(super) struct Args {
    /// Image, with a tag or digest
    image: String,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let reference = context.reference(&self.image)?;
        let progress = PullProgress::new(context.ui);
        let image = context.store()?.pull(&reference, &context.pull_options(), &progress)?;
        drop(progress);
        context.ui.data(image.digest)?;
        Ok(0)
    }
}
