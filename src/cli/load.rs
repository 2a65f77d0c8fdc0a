//! `msb load`.

use std::path::PathBuf;

use clap::ValueHint;

use crate::image::LoadSource;
use crate::ui::PullProgress;

use super::Outcome;
use super::settings::Context;

/// Load images from an archive or folder
///
/// Reads what `docker save` writes, OCI archives and OCI layout folders.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  docker save app | msb load\n  msb load -i app.tar\n  msb load -i ./layout --tag app:1"
)]
pub(super) struct Args {
    /// Archive or folder [default: standard input]
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    input: Option<PathBuf>,
    /// Name for the image, instead of the one in the archive
    #[arg(short, long, value_name = "IMAGE")]
    tag: Option<String>,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let name = self.tag.as_deref().map(|name| context.reference(name)).transpose()?;
        let source = match self.input {
            Some(path) if path.as_os_str() != "-" => LoadSource::Path(path),
            _ => LoadSource::Stdin,
        };
        let progress = PullProgress::new(context.ui);
        let images = context.store()?.load(&source, &context.load_options(name), &progress)?;
        drop(progress);
        for image in images {
            context.ui.data(context.show(&image.reference))?;
        }
        Ok(0)
    }
}
