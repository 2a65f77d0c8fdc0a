//! `msb tag`.

use super::Outcome;
use super::settings::Context;

/// Give an image another name
///
/// The image is not copied. Where the new name stood for another image, that one keeps what names it has besides.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb tag python:3.11 registry.example.com/team/python:3.11\n  msb tag 4f1c8e app:old"
)]
pub(super) struct Args {
    /// Image: a name, a digest, or the first digits of one
    source: String,
    /// The name to give it
    #[arg(value_name = "NAME")]
    name: String,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let name = context.reference(&self.name)?;
        context.store()?.tag(&context.selector(&self.source), &name)?;
        context.ui.done("Tagged", format_args!("{} as {}", self.source, context.show(&name)));
        Ok(0)
    }
}
