//! `msb image`.

mod history;
mod inspect;
mod ls;
mod prune;
mod rm;

use super::Outcome;
use super::settings::Context;

/// Commands on images.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub(super) enum Command {
    /// List the images on this machine by name
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Show everything known about images
    Inspect(inspect::Args),
    /// Show how an image was built, the latest step first
    History(history::Args),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Remove images that nothing uses
    Prune(prune::Args),
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Ls(args) => args.run(context),
            Self::Inspect(args) => args.run(context),
            Self::History(args) => args.run(context),
            Self::Rm(args) => args.run(context),
            Self::Prune(args) => args.run(context),
        }
    }
}
