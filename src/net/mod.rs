//! The network of a sandbox: every packet passes a policy of ours, without root.
//!
//! [`policy`] says what a sandbox may reach, [`dns`] answers its questions for names, [`port`] says which of its ports are
//! published. [`Network`] is how all of it is written down.

mod config;
pub mod dns;
mod explain;
pub mod gateway;
mod limits;
pub mod policy;
pub mod port;
pub mod proxy;

pub use config::Network;
pub use explain::{Decision, ExplainError, Explanation, Whom};
pub use limits::{Bandwidth, BandwidthError, NetworkLimits};
