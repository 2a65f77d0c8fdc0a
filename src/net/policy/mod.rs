//! What a sandbox may reach, and who may reach it: a scope and ordered rules.
//!
//! A [`Scope`] says what holds where no rule matches; of the [`Rule`]s the first that matches decides. Both are decided per
//! [`Peer`] by [`Policy::decide`], and per name, before anybody is asked about it, by [`Policy::decide_name`]. Addresses are
//! told apart by [`Class`], so that `public` reaches nothing private in whatever form it is written.

mod class;
mod decide;
mod error;
mod host;
mod local_routes;
mod name;
mod parse;
mod rule;
mod scope;

pub use class::{Class, Segment, embedded};
pub use decide::{NameVerdict, Peer, Policy, Reason, Verdict};
pub use error::{RuleError, RuleProblem, ScopeError};
pub use host::HostAddresses;
pub use name::{Name, NameError};
pub use parse::HOST_NAME;
pub use rule::{Action, Direction, Pattern, Ports, Protocol, Rule, Target};
pub use scope::Scope;

#[cfg(test)]
mod tests;
