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
#[command(defer = true)]
pub(super) enum Command {
    /// Say whether a sandbox may reach something, and which rule or scope decides
    Explain(explain::Args),
    /// Show what a sandbox may reach: its scope and its rules
    Show(show::Args),
    /// Change what a running sandbox may reach
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
