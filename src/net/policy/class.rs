//! Which kind of place an address leads to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The kind of place an address leads to. Every address has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Sandboxes in a group with this one.
    Group,
    /// This machine: the gateway of the sandbox, and whatever addresses the machine has.
    Host,
    /// Everywhere that every machine on the internet reaches.
    Internet,
    /// Private networks: RFC 1918, RFC 6598 (carriers, VPNs), RFC 4193 and site-local IPv6; and the links of this machine,
    /// whatever addresses they have.
    Lan,
    /// The link the machine is on, without a router: RFC 3927, fe80::/10.
    LinkLocal,
    /// The machine's own loopback, and the unspecified addresses that lead there.
    Loopback,
    /// Where clouds hand out credentials to their machines.
    Metadata,
    /// Multicast.
    Multicast,
    /// Addresses that are nobody's: documentation, benchmarks, tunnels, broadcast, and what is not assigned (RFC 6890).
    Reserved,
}

/// Where a sandbox is attached, as far as policy depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// The gateway's addresses; they stand for the host.
    pub gateways: Vec<IpAddr>,
    /// The networks of its groups.
    pub groups: Vec<IpNet>,
}

/// Metadata services inside and outside of the link-local networks: AWS, ECS, EKS, GCP, Azure and others at
/// 169.254.169.254; Alibaba; Azure's wire server; Oracle; AWS, GCP, Oracle and Scaleway over IPv6.
const METADATA_V4: [Ipv4Addr; 9] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 169, 253),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(169, 254, 42, 42),
    Ipv4Addr::new(169, 254, 0, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: [Ipv6Addr; 7] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// The IPv4 networks that are not the internet (RFC 6890 and the IANA registry), the narrower before the wider.
const V4: [([u8; 4], u8, Class); 18] = [
    ([0, 0, 0, 0], 8, Class::Loopback),
    ([127, 0, 0, 0], 8, Class::Loopback),
    ([10, 0, 0, 0], 8, Class::Lan),
    ([172, 16, 0, 0], 12, Class::Lan),
    ([192, 168, 0, 0], 16, Class::Lan),
    ([100, 64, 0, 0], 10, Class::Lan),
    ([169, 254, 0, 0], 16, Class::LinkLocal),
    ([224, 0, 0, 0], 4, Class::Multicast),
    ([192, 0, 0, 0], 24, Class::Reserved),
    ([192, 0, 2, 0], 24, Class::Reserved),
    ([192, 31, 196, 0], 24, Class::Reserved),
    ([192, 52, 193, 0], 24, Class::Reserved),
    ([192, 88, 99, 0], 24, Class::Reserved),
    ([192, 175, 48, 0], 24, Class::Reserved),
    ([198, 18, 0, 0], 15, Class::Reserved),
    ([198, 51, 100, 0], 24, Class::Reserved),
    ([203, 0, 113, 0], 24, Class::Reserved),
    ([240, 0, 0, 0], 4, Class::Reserved),
];

/// The IPv6 networks that are not the internet. Whatever is not in 2000::/3 is none either.
const V6: [([u16; 3], u8, Class); 11] = [
    ([0xfe80, 0, 0], 10, Class::LinkLocal),
    ([0xfec0, 0, 0], 10, Class::Lan),
    ([0xfc00, 0, 0], 7, Class::Lan),
    ([0xff00, 0, 0], 8, Class::Multicast),
    // Teredo, benchmarks, ORCHID: the assignments of protocols.
    ([0x2001, 0, 0], 23, Class::Reserved),
    ([0x2001, 0xdb8, 0], 32, Class::Reserved),
    ([0x2002, 0, 0], 16, Class::Reserved),
    ([0x2620, 0x4f, 0x8000], 48, Class::Reserved),
    ([0x3fff, 0, 0], 20, Class::Reserved),
    ([0x3ffe, 0, 0], 16, Class::Reserved),
    ([0x2000, 0, 0], 3, Class::Internet),
];

/// Where translators of the well-known prefix (RFC 6052) put IPv4.
const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// Where translators of a network's own choice put it, in a place of their choice (RFC 8215).
const LOCAL_NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48);

impl Class {
    /// Those that rules name.
    pub const GROUPS: [Self; 8] = [
        Self::Group,
        Self::Host,
        Self::Internet,
        Self::Lan,
        Self::LinkLocal,
        Self::Loopback,
        Self::Metadata,
        Self::Multicast,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Host => "host",
            Self::Internet => "internet",
            Self::Lan => "lan",
            Self::LinkLocal => "link-local",
            Self::Loopback => "loopback",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
        }
    }

    /// What `address` is by its number alone, without regard to whose machine this is. IPv4 in IPv6 form counts as what it is
    /// in IPv4 where that is where it leads, and else as reserved.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => match nat64(address) {
                Some(behind) => Self::of_v4(behind),
                None => Self::of_v6(address),
            },
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        if METADATA_V4.contains(&address) {
            return Self::Metadata;
        }
        let known = V4
            .iter()
            .find(|(net, bits, _)| Ipv4Net::new_assert(Ipv4Addr::from(*net), *bits).contains(&address));
        known.map_or(Self::Internet, |(_, _, class)| *class)
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if METADATA_V6.contains(&address) {
            return Self::Metadata;
        }
        if address.is_loopback() || address.is_unspecified() {
            return Self::Loopback;
        }
        let known = V6.iter().find(|([a, b, c], bits, _)| {
            Ipv6Net::new_assert(Ipv6Addr::new(*a, *b, *c, 0, 0, 0, 0, 0), *bits).contains(&address)
        });
        match known.map_or(Self::Reserved, |(_, _, class)| *class) {
            // ISATAP (RFC 5214): a router of this prefix would pass it on to the IPv4 address in it.
            Self::Internet if !embedded(address).is_empty() => Self::Reserved,
            class => class,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The IPv4 address that a translator of the well-known prefix makes of `address`.
pub(super) fn nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    NAT64.contains(&address).then(|| v4_at(address, [12, 13, 14, 15]))
}

/// The IPv4 addresses that lie in `address` by any of the ways to write or to wrap one into the other: mapped, compatible and
/// translated (RFC 4291, RFC 2765), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380) and ISATAP (RFC 5214).
#[must_use]
pub fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bytes = address.octets();
    let last = v4_at(address, [12, 13, 14, 15]);
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => vec![last],
        _ if NAT64.contains(&address) => vec![last],
        _ if LOCAL_NAT64.contains(&address) => {
            let places = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
            places.into_iter().map(|place| v4_at(address, place)).collect()
        }
        [0x2002, ..] => vec![v4_at(address, [2, 3, 4, 5])],
        [0x2001, 0, ..] => vec![v4_at(address, [4, 5, 6, 7]), Ipv4Addr::from(!u32::from(last))],
        _ if matches!(bytes[8..12], [0 | 2, 0, 0x5e, 0xfe]) => vec![last],
        _ => Vec::new(),
    }
}

fn v4_at(address: Ipv6Addr, place: [usize; 4]) -> Ipv4Addr {
    let bytes = address.octets();
    Ipv4Addr::from(place.map(|index| bytes[index]))
}
