//! `msb net show`.

use super::super::Outcome;
use super::super::args::{FileArgs, Format, FormatArgs};
use super::super::failure::Failure;
use super::super::settings::Context;
use super::super::target::Target;
use crate::net::Network;
use crate::sandbox;

/// Show what a sandbox may reach: its scope and its rules
///
/// Of a sandbox that runs, those in force now; of others, those it would be started with. The first rule that matches decides, the
/// scope where none does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb net show app\n  msb net show app --format json")]
pub(in crate::cli) struct Args {
    /// Sandbox: of the Sandboxfile, made by `create`, or installed
    name: String,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (network, in_force) = context.network_of(&context.target(&self.file.project(), &self.name)?)?;
        match self.format.format {
            Format::Json => {
                let Network { scope, rules, .. } = network;
                let shown = serde_json::json!({ "inForce": in_force, "scope": scope, "rules": rules });
                context.ui.json(&shown)?;
            }
            Format::Table => {
                for rule in &network.rules {
                    context.ui.data(rule)?;
                }
                context.ui.data(format_args!("scope {}", network.scope))?;
            }
        }
        Ok(0)
    }
}

impl Context {
    /// The network of a sandbox, and whether it is the one in force: that of a running sandbox can be changed.
    pub(in crate::cli) fn network_of(&self, target: &Target) -> Result<(Network, bool), Failure> {
        let network = || sandbox::Client::connect(&self.paths, target.name(), &target.folder)?.network();
        match network() {
            Ok(network) => Ok((network, true)),
            Err(sandbox::Error::NotRunning { .. }) => Ok((target.definition.network.clone(), false)),
            Err(error) => Err(error.into()),
        }
    }
}
