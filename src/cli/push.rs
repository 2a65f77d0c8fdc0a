//! `msb push`.

use crate::ui::PullProgress;

use super::Outcome;
use super::settings::Context;

/// Upload an image to a registry
///
/// What the registry has already is not sent again. The image arrives byte for byte as it came here, with the same
/// digest, which is printed. Layers that are not kept here are fetched from where the image was pulled.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb push registry.example.com/team/app:1\n  \
    msb push python:3.11 127.0.0.1:5000/mirror/python:3.11")]
pub(super) struct Args {
    /// Image: a name, a digest, or the first digits of one
    image: String,
    /// Where to, with a tag [default: the image's name]
    #[arg(value_name = "NAME")]
    target: Option<String>,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let target = self.target.as_deref().map(|name| context.reference(name)).transpose()?;
        let progress = PullProgress::new(context.ui);
        let image = context.selector(&self.image);
        let digest = context.store()?.push(&image, target.as_ref(), &context.pull_options(), &progress)?;
        drop(progress);
        context.ui.data(digest)?;
        Ok(0)
    }
}
