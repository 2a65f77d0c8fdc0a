//! `msb save`.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};

use crate::image::{SaveFormat, SaveTarget, Selector};
use crate::ui::PullProgress;

use super::Outcome;
use super::failure::Failure;
use super::settings::Context;

/// Write images to an archive or folder
///
/// Everything is written byte for byte as it came, so an image keeps its digest wherever it is loaded. Layers of pulled
/// images are fetched again from their registry unless they are kept (`keep-blobs` in config.toml).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb save -o app.tar app:1 db:2\n  msb save app:1 | ssh host msb load\n  \
    msb save --format docker-archive app:1 | docker load"
)]
pub(super) struct Args {
    /// Images: names, digests, or the first digits of one
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// File to write, or folder [default: standard output]
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    output: Option<PathBuf>,
    /// How to write it
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: FormatArg,
}

/// Names of `--format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// A tar of an OCI image layout; read by docker (25 and later), podman, skopeo, nerdctl and msb
    #[default]
    OciArchive,
    /// What `docker save` wrote before; keeps the image's ID but has no manifest, so not its digest
    DockerArchive,
    /// An OCI image layout as a folder
    OciDir,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let images: Vec<Selector> = self.images.iter().map(|image| context.selector(image)).collect();
        let format = match self.format {
            FormatArg::OciArchive => SaveFormat::OciArchive,
            FormatArg::DockerArchive => SaveFormat::DockerArchive,
            FormatArg::OciDir => SaveFormat::OciDir,
        };
        let target = match self.output {
            Some(path) if path.as_os_str() != "-" => SaveTarget::Path(path),
            _ if io::stdout().is_terminal() && format != SaveFormat::OciDir => {
                return Err(Failure::new("an archive is nothing for a terminal")
                    .hint("name a file with --output, or send standard output to one"));
            }
            _ => SaveTarget::Stream(Box::new(io::stdout())),
        };
        let progress = PullProgress::new(context.ui);
        context.store()?.save(&images, format, target, &context.pull_options(), &progress)?;
        Ok(0)
    }
}
