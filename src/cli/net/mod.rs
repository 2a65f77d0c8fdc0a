//! `msb net`, and the flags about networks.

mod args;
mod explain;

use super::Outcome;
use super::settings::Context;

pub(super) use args::NetworkArgs;

/// Commands on networks.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Explain(explain::Args),
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Explain(args) => args.run(context),
        }
    }
}
