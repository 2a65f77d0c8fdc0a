//! Where in the sandbox a server may listen that published ports lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::flow::Pair;
use super::link::Link;

/// How many there are.
pub(super) const PLACES: usize = 4;

/// All places, in the order in which they are tried: `first`, at the loopback of its family, and then the same in the other family.
/// Except at first the gateway itself is seen to call.
#[must_use]
pub(super) fn places(link: &Link, first: &Pair) -> [Pair; PLACES] {
    let at = |guest: IpAddr| Pair {
        guest: SocketAddr::new(guest, first.guest.port()),
        remote: SocketAddr::new(link.gateway_like(guest), first.remote.port()),
    };
    let (v4, v6) = (at(link.guest_v4.into()), at(link.guest_v6.into()));
    let (loopback_v4, loopback_v6) = (at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into()));
    if first.guest.is_ipv4() {
        [*first, loopback_v4, v6, loopback_v6]
    } else {
        [*first, loopback_v6, v4, loopback_v4]
    }
}
