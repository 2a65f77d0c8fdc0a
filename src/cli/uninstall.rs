//! `msb uninstall`.

use super::Outcome;
use super::settings::Context;

/// Remove an installed sandbox: its command and everything it kept
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of installed sandboxes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        for name in &self.names {
            context.installed().remove(name)?;
            context.ui.done("Uninstalled", name);
        }
        Ok(0)
    }
}
