//! `msb net set`.

use super::super::Outcome;
use super::super::args::FileArgs;
use super::super::failure::Failure;
use super::super::settings::Context;
use super::super::target::Target;
use super::PolicyArgs;
use crate::net::Network;
use crate::net::policy::{Rule, Scope};
use crate::sandbox::{Answer, Kind, Question};

/// Change what a running sandbox may reach
///
/// Rules come before those there are, so that they decide first. What is open and not allowed any more is cut. The change lasts
/// until the sandbox is stopped, through restarts; that of a sandbox made by `create` or `run --detach IMAGE` stays.
/// `msb apply` goes back to what the Sandboxfile says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb net set app --allow example.com:443\n  msb net set app --deny any          cut it off\n  \
    msb net set app --remove 'deny any'   and let it go on\n  msb net set app --replace --scope none --allow '*.example.com'\n  \
    msb net set app --reset               as it was written down"
)]
pub(in crate::cli) struct Args {
    /// Sandbox: of the Sandboxfile, made by `create`, or installed
    name: String,
    /// Take a rule away, written as `msb net show` has it (can be repeated)
    #[arg(long, value_name = "RULE")]
    remove: Vec<Rule>,
    /// Instead of all rules there are
    #[arg(long, conflicts_with_all = ["remove", "reset"])]
    replace: bool,
    /// Begin with the scope and the rules of the Sandboxfile, or of what was installed
    #[arg(long)]
    reset: bool,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    file: FileArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let PolicyArgs { scope, rules } = &self.policy;
        if scope.is_none() && rules.is_empty() && self.remove.is_empty() && !self.replace && !self.reset {
            return Err(Failure::new("nothing to change")
                .hint("say what with --scope, --allow, --deny or --remove")
                .code(2));
        }
        let target = context.target(&self.file.project(), &self.name)?;
        if self.reset && target.kind == Kind::Named {
            return Err(Failure::new(format!("what sandbox `{}` was made with is not kept", self.name))
                .hint("changes of a sandbox made by `create` stay; take rules away with --remove"));
        }
        loop {
            let network = target.client(context)?.network()?;
            let (scope, rules) = self.changed(&target, &network)?;
            let instead_of = Some((network.scope, network.rules));
            // Somebody else may have changed them meanwhile: then this is a change of what they are now.
            match target.client(context)?.ask(Question::SetRules { scope, rules, instead_of })? {
                Answer::Changed => {}
                _ => break,
            }
        }
        if target.kind == Kind::Project {
            context.ui.note("until the sandbox is stopped; to keep it, write it into the Sandboxfile");
        }
        Ok(0)
    }

    /// What the scope and the rules of `network` become.
    fn changed(&self, target: &Target, network: &Network) -> Result<(Scope, Vec<Rule>), Failure> {
        let before = if self.reset { &target.definition.network } else { network };
        let mut rules = if self.replace { Vec::new() } else { before.rules.clone() };
        for rule in &self.remove {
            let place = rules.iter().position(|other| other == rule);
            let unknown = || {
                Failure::new(format!("`{rule}` is not a rule of sandbox `{}`", self.name))
                    .hint(format!("`msb net show {}` has all of them", self.name))
            };
            rules.remove(place.ok_or_else(unknown)?);
        }
        rules.splice(0..0, self.policy.rules.iter().cloned());
        Ok((self.policy.scope.unwrap_or(before.scope), rules))
    }
}
