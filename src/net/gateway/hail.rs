//! How one gateway calls another: who calls whom, and what becomes of it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::packet::Unreachable;
use crate::net::policy::Protocol;

/// What begins every call, and which form the rest has.
const MAGIC: [u8; 4] = *b"msb\x01";
/// Length of an answer.
pub(super) const ANSWER: usize = 1;

/// Who calls whom. On the wire: `msb` and the version 1, the protocol's number of IP, whether the addresses are of IPv4, two bytes of
/// nothing, the caller's address and the called one's (16 bytes each, IPv4 mapped), their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hail {
    /// By which protocol.
    pub(super) protocol: Protocol,
    /// The caller's address in the group.
    pub(super) caller: SocketAddr,
    /// The called sandbox's.
    pub(super) called: SocketAddr,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is taken.
    Accepted,
    /// Nobody listens at that port. A stream that ends without an answer means the same.
    Refused,
    /// The called sandbox's policy is against it.
    Prohibited,
}

impl Hail {
    /// Its length.
    pub(super) const LENGTH: usize = 44;

    /// As it is sent.
    #[must_use]
    pub(super) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = number(self.protocol);
        bytes[5] = u8::from(self.called.is_ipv4());
        bytes[8..24].copy_from_slice(&mapped(self.caller.ip()));
        bytes[24..40].copy_from_slice(&mapped(self.called.ip()));
        bytes[40..42].copy_from_slice(&self.caller.port().to_be_bytes());
        bytes[42..].copy_from_slice(&self.called.port().to_be_bytes());
        bytes
    }

    /// As it was sent; `None` for anything else.
    #[must_use]
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LENGTH] = bytes.try_into().ok()?;
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
        let protocol = protocols.into_iter().find(|protocol| number(*protocol) == bytes[4])?;
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let hail = Self {
            protocol,
            caller: SocketAddr::new(address(bytes, 8)?, port(40)),
            called: SocketAddr::new(address(bytes, 24)?, port(42)),
        };
        let has_ports = hail.caller.port() != 0 && hail.called.port() != 0;
        let is_sound = hail.to_bytes() == *bytes && (has_ports || protocol == Protocol::Icmp);
        (is_sound && hail.caller.is_ipv4() == hail.called.is_ipv4()).then_some(hail)
    }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Icmp => 1,
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn address(bytes: &[u8; Hail::LENGTH], at: usize) -> Option<IpAddr> {
    let address: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    let address = Ipv6Addr::from(address);
    match bytes[5] {
        1 => address.to_ipv4_mapped().map(IpAddr::V4),
        _ => Some(IpAddr::V6(address)),
    }
}

impl Answer {
    const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Prohibited];

    /// As it is sent.
    #[must_use]
    pub(super) fn byte(self) -> u8 {
        self as u8
    }

    /// As it was sent; `None` for anything else.
    #[must_use]
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// What the caller's system would say.
    #[must_use]
    pub(super) fn errno(self) -> nix::Error {
        match self {
            Self::Accepted => nix::Error::UnknownErrno,
            Self::Refused => nix::Error::ECONNREFUSED,
            Self::Prohibited => nix::Error::EACCES,
        }
    }

    /// How the caller is told.
    #[must_use]
    pub(super) fn unreachable(self) -> Unreachable {
        super::core::unreachable_for(self.errno())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn any_hail() -> impl Strategy<Value = Hail> {
        let protocols = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Icmp)];
        let addresses = prop_oneof![
            any::<[[u8; 4]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
            any::<[[u8; 16]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
        ];
        (protocols, addresses, 1u16.., 1u16..).prop_map(|(protocol, [caller, called], from, to)| Hail {
            protocol,
            caller: SocketAddr::new(caller, from),
            called: SocketAddr::new(called, to),
        })
    }

    proptest! {
        #[test]
        fn a_call_is_read_as_it_was_written(hail in any_hail()) {
            prop_assert_eq!(Hail::from_bytes(&hail.to_bytes()), Some(hail));
        }

        #[test]
        fn nothing_else_is_a_call(bytes in prop::collection::vec(any::<u8>(), 0..64), at in 0..Hail::LENGTH, flip in 1u8..) {
            if let Some(hail) = Hail::from_bytes(&bytes) {
                prop_assert_eq!(&hail.to_bytes()[..], &bytes[..]);
            }
            let hail = Hail { protocol: Protocol::Udp, caller: "10.0.0.1:1".parse().unwrap(), called: "10.0.0.2:2".parse().unwrap() };
            let mut bytes = hail.to_bytes();
            bytes[at] ^= flip;
            prop_assert_ne!(Hail::from_bytes(&bytes), Some(hail));
        }
    }
}
