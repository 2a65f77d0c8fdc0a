//! `msb pull`.

use clap::ValueEnum;

use crate::image::{Image, Platform, PullOptions, PullPolicy, Reference};
use crate::ui::PullProgress;

use super::Outcome;
use super::failure::Failure;
use super::settings::Context;

/// Images fetched at the same time, each with several layers.
const AT_ONCE: usize = 3;

/// Download images from registries
///
/// Prints the digest of each image. A registry on this machine (127.0.0.0/8, localhost) is spoken to in plain HTTP, every other one in HTTPS,
/// unless config.toml says otherwise.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb pull python:3.11\n  msb pull alpine debian 127.0.0.1:5000/app@sha256:…\n  \
    msb pull --platform linux/arm64 --policy missing alpine"
)]
pub(super) struct Args {
    /// Images, with a tag or digest
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Platform to get them for: OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// When to ask the registry
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    policy: PolicyArg,
}

/// Values of `--policy`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum PolicyArg {
    /// Always: a tag may have moved on
    #[default]
    Always,
    /// When the image is not on this machine
    Missing,
    /// Never: fail when the image is not on this machine
    Never,
}

impl From<PolicyArg> for PullPolicy {
    fn from(arg: PolicyArg) -> Self {
        match arg {
            PolicyArg::Always => Self::Always,
            PolicyArg::Missing => Self::Missing,
            PolicyArg::Never => Self::Never,
        }
    }
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let references = self.images.iter().map(|name| context.reference(name));
        let references = references.collect::<Result<Vec<_>, _>>()?;
        let mut options = PullOptions { policy: self.policy.into(), ..context.pull_options() };
        options.platform = self.platform.unwrap_or(options.platform);
        let mut failures = Vec::new();
        for (image, reference) in pull_all(context, &references, &options)?.into_iter().zip(&references) {
            match image {
                Ok(image) => {
                    context.ui.done("Pulled", context.show(reference));
                    context.ui.data(image.digest)?;
                }
                Err(failure) => failures.push(failure),
            }
        }
        let last = failures.pop();
        for failure in failures {
            failure.report(context.ui);
        }
        last.map_or(Ok(0), Err)
    }
}

/// Pulls each image, a few at once, and gives the results in the order of the names.
fn pull_all(
    context: &Context,
    references: &[Reference],
    options: &PullOptions,
) -> Result<Vec<Result<Image, Failure>>, Failure> {
    let (store, progress) = (context.store()?, PullProgress::new(context.ui));
    let pull =
        |reference: &Reference| store.pull(reference, options, &progress.beside()).map_err(Failure::from);
    let mut results = Vec::new();
    for few in references.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let pulls: Vec<_> = few.iter().map(|reference| scope.spawn(move || pull(reference))).collect();
            let ended = pulls.into_iter().map(std::thread::ScopedJoinHandle::join);
            results.extend(ended.map(|pull| pull.unwrap_or_else(|panic| std::panic::resume_unwind(panic))));
        });
    }
    Ok(results)
}
