//! Groups: sandboxes that reach each other by name, on a network of their own.
//!
//! No switch runs anywhere. A group is a row of one record of the user, with its network and the addresses of its members, and a
//! folder with two sockets of each member that runs: there the gateways of the others call its gateway.

mod door;
mod error;
mod record;
mod registry;
mod roster;
mod subnet;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::policy::Name;

pub use door::{Door, Kind};
pub use error::Error;
pub use record::{Known, is_findable};
pub use registry::{Registry, Seat};
pub use roster::Roster;
pub use subnet::check as check_subnet;

/// What a sandbox is in a group: a part of its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The group.
    pub group: String,
    /// The folder of the project whose group it is; groups of the user have none.
    #[serde(default)]
    pub project: Option<PathBuf>,
    /// The group's network; chosen if `None`.
    #[serde(default)]
    pub subnet: Option<IpNet>,
    /// Addresses that others of the group ask for.
    #[serde(default)]
    pub reserved: Vec<IpAddr>,
    /// Its own address; chosen if `None`.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Its name there beside that of the sandbox.
    #[serde(default)]
    pub hostname: Option<Name>,
}

impl Membership {
    /// In a group of the user, with everything chosen.
    #[must_use]
    pub fn of_user(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            project: None,
            subnet: None,
            reserved: Vec::new(),
            address: None,
            hostname: None,
        }
    }
}

/// Who takes a place in groups.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it keeps what it writes; a throw-away sandbox has none.
    pub folder: Option<&'a Path>,
}
