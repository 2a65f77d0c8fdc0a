//! The addresses on the link between a sandbox and its gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::net::policy::Segment;

/// Length of an ethernet header.
pub(super) const ETHERNET_HEADER: usize = 14;
/// The largest IP packet there is: no datagram ever needs fragments.
pub const MTU: usize = 65_535;
/// The largest frame.
pub(super) const MAX_FRAME: usize = ETHERNET_HEADER + MTU;

/// A sandbox's link. Every sandbox has one of its own, so that all may have the same addresses.
///
/// The IPv4 addresses are of the block that is set aside for what never leaves a host (RFC 7335), so that no network
/// a sandbox could want to reach hides behind them; the IPv6 ones are unique local addresses (RFC 4193).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The sandbox's IPv4 address.
    pub guest_v4: Ipv4Addr,
    /// The gateway's.
    pub gateway_v4: Ipv4Addr,
    /// Bits of the IPv4 network.
    pub prefix_v4: u8,
    /// The sandbox's IPv6 address.
    pub guest_v6: Ipv6Addr,
    /// The gateway's.
    pub gateway_v6: Ipv6Addr,
    /// Bits of the IPv6 network.
    pub prefix_v6: u8,
    /// The sandbox's hardware address.
    pub guest_mac: [u8; 6],
    /// The gateway's.
    pub gateway_mac: [u8; 6],
}

impl Default for Link {
    fn default() -> Self {
        Self {
            guest_v4: Ipv4Addr::new(192, 0, 0, 2),
            gateway_v4: Ipv4Addr::new(192, 0, 0, 1),
            prefix_v4: 29,
            guest_v6: Ipv6Addr::new(0xfd6d, 0x7362, 0, 0, 0, 0, 0, 2),
            gateway_v6: Ipv6Addr::new(0xfd6d, 0x7362, 0, 0, 0, 0, 0, 1),
            prefix_v6: 64,
            guest_mac: [0x02, 0x6d, 0x73, 0x62, 0, 2],
            gateway_mac: [0x02, 0x6d, 0x73, 0x62, 0, 1],
        }
    }
}

impl Link {
    /// What is on this link, for a policy.
    #[must_use]
    pub fn segment(&self) -> Segment {
        Segment { gateways: vec![self.gateway_v4.into(), self.gateway_v6.into()], groups: Vec::new() }
    }

    /// Whether packets from the sandbox may have this source.
    #[must_use]
    pub fn is_guest(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.guest_v4) || address == IpAddr::V6(self.guest_v6)
    }

    /// Whether the gateway itself is meant.
    #[must_use]
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.gateway_v4) || address == IpAddr::V6(self.gateway_v6)
    }

    /// The sandbox's address of the family of `other`.
    #[must_use]
    pub fn guest_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.guest_v4.into() } else { self.guest_v6.into() }
    }

    /// The IPv6 network of the link.
    #[must_use]
    pub fn prefix_of_v6(&self) -> IpNet {
        let net = Ipv6Net::new(self.gateway_v6, self.prefix_v6);
        IpNet::V6(net.map_or_else(|_| self.gateway_v6.into(), |net| net.trunc()))
    }

    /// The gateway's address of the family of `other`.
    #[must_use]
    pub fn gateway_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.gateway_v4.into() } else { self.gateway_v6.into() }
    }
}
