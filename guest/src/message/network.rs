//! The network interface of a guest.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How a guest sets its interface up: nobody on its network answers DHCP.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NetworkSetup {
    /// Name of the interface.
    pub interface: String,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Its addresses: one for each family, then those of its groups.
    pub addresses: Vec<InterfaceAddress>,
    /// What its own host name leads to in `/etc/hosts`; 127.0.1.1 if there is none.
    #[serde(default)]
    pub known_as: Vec<IpAddr>,
    /// Hardware address of the gateway, so that nobody need ask for it.
    pub gateway_mac: [u8; 6],
    /// What becomes `/etc/resolv.conf`: name servers.
    pub nameservers: Vec<IpAddr>,
    /// What becomes `/etc/resolv.conf`: domains in which short names are looked up.
    #[serde(default)]
    pub search: Vec<String>,
    /// What becomes `/etc/resolv.conf`: how many dots a name has that is first tried as it is.
    #[serde(default)]
    pub ndots: Option<u8>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits of its network.
    pub prefix: u8,
    /// Who forwards packets to everybody else; of the same family.
    pub gateway: IpAddr,
}
