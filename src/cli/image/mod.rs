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
pub(super) enum Command {
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Inspect(inspect::Args),
    History(history::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
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
