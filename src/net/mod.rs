//! The network of a sandbox: every packet passes a policy of ours, without root.
//!
//! [`policy`] says what a sandbox may reach, [`dns`] answers its questions for names, [`port`] says which of its ports are
//! published. [`secret`]s are what it may use without having it, and [`intercept`] puts them in. [`Network`] is how all of it is
//! written down.

mod config;
pub mod dns;
mod explain;
pub mod gateway;
pub mod group;
pub mod intercept;
mod limits;
pub mod policy;
pub mod port;
pub mod proxy;
pub mod secret;

pub use config::Network;
pub use explain::{Circle, Decision, ExplainError, Explanation, Whom};
pub use limits::{Bandwidth, BandwidthError, NetworkLimits};
