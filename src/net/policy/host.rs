//! The addresses of this machine.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::class::Class;
use super::local_routes;

/// The addresses of this machine's interfaces, loopback excluded, the networks they are in, and whatever else the kernel delivers to
/// this machine, as it was when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostAddresses {
    own: Arc<[IpAddr]>,
    links: Arc<[IpNet]>,
    routed: Arc<[IpNet]>,
}

/// Fewer bits are no network of neighbours, but a way to route: for IPv4 and IPv6.
const LEAST_BITS: (u8, u8) = (8, 32);

impl HostAddresses {
    /// Asks the kernel for them. They change while the machine runs (leases, VPNs, containers): read them again for a
    /// decision that is to be about now.
    ///
    /// # Errors
    /// The call's.
    pub fn read() -> io::Result<Self> {
        let found: Vec<(IpAddr, Option<IpNet>)> = getifaddrs()?
            .filter_map(|interface| {
                let address = ip_of(&interface.address?)?;
                let mask = interface.netmask.as_ref().and_then(ip_of);
                Some((address, mask.and_then(|mask| IpNet::with_netmask(address, mask).ok())))
            })
            .collect();
        let own: Self = found.iter().map(|(address, _)| *address).collect();
        let routed = local_routes::read()?.into_iter().filter(|net| {
            let is_one = net.prefix_len() == net.max_prefix_len();
            Class::of(net.addr()) != Class::Loopback && !(is_one && own.contains(net.addr()))
        });
        let routed = routed.collect();
        Ok(Self { routed, ..own }.on_links(found.into_iter().filter_map(|(_, link)| link)))
    }

    /// The same on links that are these networks.
    #[must_use]
    pub fn on_links(self, links: impl IntoIterator<Item = IpNet>) -> Self {
        let is_link = |net: &IpNet| {
            let least = if net.addr().is_ipv4() { LEAST_BITS.0 } else { LEAST_BITS.1 };
            (least..net.max_prefix_len()).contains(&net.prefix_len())
        };
        let mut links: Vec<IpNet> = links.into_iter().filter(is_link).map(|net| net.trunc()).collect();
        links.sort_unstable();
        links.dedup();
        Self { links: links.into(), ..self }
    }

    /// Whether `address` is on a link of this machine: nothing is between them that would keep strangers away.
    #[must_use]
    pub fn is_neighbor(&self, address: IpAddr) -> bool {
        self.links.iter().any(|link| link.contains(&address))
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.own.binary_search(&address).is_ok() || self.routed.iter().any(|net| net.contains(&address))
    }

    /// Whether there is one of the internet's or a private network's IPv6 addresses among them.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.own
            .iter()
            .any(|address| address.is_ipv6() && matches!(Class::of(*address), Class::Internet | Class::Lan))
    }
}

impl FromIterator<IpAddr> for HostAddresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut list: Vec<IpAddr> =
            addresses.into_iter().filter(|address| Class::of(*address) != Class::Loopback).collect();
        list.sort_unstable();
        list.dedup();
        Self { own: list.into(), ..Self::default() }
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_this_machine() {
        let host = HostAddresses::read().unwrap();
        assert!(!host.contains("127.0.0.1".parse().unwrap()));
        // The address that the kernel would send from is one of them, where there is a route at all.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let own = socket.local_addr().unwrap().ip();
            assert!(host.contains(own), "{own} is not in {host:?}");
        }
    }
}
