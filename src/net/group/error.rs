//! What can be wrong with groups.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use thiserror::Error;

/// What can be wrong with groups.
#[derive(Debug, Error)]
pub enum Error {
    /// A file or a socket of the groups.
    #[error("{}", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record of the groups cannot be understood.
    #[error("{} is not a record of groups", .0.display())]
    Broken(PathBuf),
    /// Two sandboxes of a group have one name.
    #[error("`{by}` is called `{name}` in group `{group}` already")]
    NameTaken {
        /// The group.
        group: String,
        /// The name.
        name: String,
        /// Who has it.
        by: String,
    },
    /// Two sandboxes of a group have one address.
    #[error("`{by}` has the address {address} of group `{group}`")]
    AddressTaken {
        /// The group.
        group: String,
        /// The address.
        address: IpAddr,
        /// Who has it.
        by: String,
    },
    /// The address asked for is not one of the group's network.
    #[error("{address} cannot be the address of a sandbox in group `{group}`, whose network is {subnet}")]
    Outside {
        /// The group.
        group: String,
        /// The address.
        address: IpAddr,
        /// The network.
        subnet: IpNet,
    },
    /// Every address is taken.
    #[error("group `{group}` is full: every address of {subnet} is taken")]
    Full {
        /// The group.
        group: String,
        /// The network.
        subnet: IpNet,
    },
    /// No network is free.
    #[error("no network is free for group `{0}`")]
    NoSubnet(String),
    /// The network is to be another one, and sandboxes use the old one.
    #[error("group `{group}` has the network {from} as long as `{by}` runs, and is to have {to}")]
    Moved {
        /// The group.
        group: String,
        /// The network it has.
        from: IpNet,
        /// The network it is to have.
        to: IpNet,
        /// Who runs.
        by: String,
    },
    /// Two groups of a sandbox have addresses in common.
    #[error("the groups `{}` and `{}` have addresses in common: {} and {}", .0.0, .1.0, .0.1, .1.1)]
    Overlap((String, IpNet), (String, IpNet)),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::State { .. } => return None,
            Self::Broken(path) => {
                format!(
                    "remove {} when no sandbox of a group runs: addresses are chosen anew",
                    path.display()
                )
            }
            Self::NameTaken { by, .. } => {
                format!("give one of them another name or `hostname`, or remove the other with `msb rm {by}`")
            }
            Self::AddressTaken { by, .. } => {
                format!("ask for another one, or give `{by}` one of its own as well and start it again")
            }
            Self::Outside { subnet, .. } => format!("choose one between the first and the last of {subnet}"),
            Self::Full { .. } => "give the group a larger `subnet`, or remove sandboxes".to_owned(),
            Self::NoSubnet(_) => {
                "give it one: `groups: {NAME: {network: {subnet: 10.77.0.0/24}}}`".to_owned()
            }
            Self::Moved { .. } => "stop the sandboxes of the group first".to_owned(),
            Self::Overlap(..) => "give one of them another `subnet`".to_owned(),
        })
    }
}
