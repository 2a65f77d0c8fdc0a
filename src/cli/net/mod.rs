//! `msb net`, and the flags about networks.

mod args;
mod explain;
mod set;
mod show;

use super::Outcome;
use super::settings::Context;

pub(super) use args::NetworkArgs;
use args::PolicyArgs;

/// Commands on networks.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Explain(explain::Args),
    Show(show::Args),
    Set(set::Args),
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Explain(args) => args.run(context),
            Self::Show(args) => args.run(context),
            Self::Set(args) => args.run(context),
        }
    }
}
