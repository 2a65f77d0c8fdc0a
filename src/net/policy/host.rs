//! The addresses of this machine.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;

use super::class::Class;

/// The addresses of this machine's interfaces, loopback excluded, as they were when they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostAddresses(Arc<[IpAddr]>);

impl HostAddresses {
    /// Asks the kernel for them. They change while the machine runs (leases, VPNs, containers): read them again for a
    /// decision that is to be about now.
    ///
    /// # Errors
    /// The call's.
    pub fn read() -> io::Result<Self> {
        let addresses = getifaddrs()?.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        });
        Ok(addresses.collect())
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.binary_search(&address).is_ok()
    }

    /// Whether there is one of the internet's or a private network's IPv6 addresses among them.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.0
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
        Self(list.into())
    }
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
