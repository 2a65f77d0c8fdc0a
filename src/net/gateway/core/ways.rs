//! Which way on the host leads to what the sandbox calls.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};

use super::Core;
use crate::net::gateway::event::Event;
use crate::net::gateway::greeting::Greeting;
use crate::net::gateway::names;
use crate::net::gateway::packet::Unreachable;
use crate::net::gateway::tunnel::Tunnel;
use crate::net::gateway::waiting::Token;
use crate::net::intercept::Refusal;
use crate::net::policy::{Class, Direction, Name, Peer, Policy, Protocol};

impl Core {
    /// Whether connections to `address` go through the proxy. What is this host's, its loopback included, would be the proxy's own there.
    pub(super) fn goes_by_proxy(&mut self, address: IpAddr) -> bool {
        self.proxy.is_some()
            && self.members.seat_of(address).is_none()
            && !matches!(self.current_policy().class(address), Class::Host | Class::Loopback)
    }

    /// A connection to what the sandbox calls `remote`, on its way, and what is to be said there first.
    ///
    /// # Errors
    /// The system's, when it is known at once.
    pub(in crate::net::gateway) fn connect(
        &mut self,
        remote: SocketAddr,
        names: &[Name],
    ) -> nix::Result<(OwnedFd, Option<Greeting>)> {
        let goes_by_proxy = self.goes_by_proxy(remote.ip());
        let policy = self.current_policy();
        let Some(proxy) = self.proxy.as_ref().filter(|_| goes_by_proxy) else {
            return Ok((dial(SockType::Stream, self.on_host(remote))?, None));
        };
        let greeting =
            Greeting::Tunnel(Box::new(Tunnel::new(proxy, remote, name_for(&policy, remote, names))));
        match dial(SockType::Stream, proxy.address) {
            Ok(socket) => Ok((socket, Some(greeting))),
            Err(errno) => Err(self.no_proxy(errno)),
        }
    }

    /// Reports that the proxy cannot be reached; what the sandbox is to see of that.
    pub(in crate::net::gateway) fn no_proxy(&mut self, errno: nix::Error) -> nix::Error {
        self.report(Event::NoResources { call: "proxy", reason: errno.desc().to_owned() });
        nix::Error::EHOSTUNREACH
    }

    /// What the sandbox's half of a connection to `remote` is joined to: `host`, watched under `token`, or where its secrets may be
    /// wanted, whoever puts them in.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::net::gateway) fn intercepted(
        &mut self,
        host: OwnedFd,
        remote: SocketAddr,
        token: Token,
    ) -> io::Result<OwnedFd> {
        let Some(interceptor) = &self.interceptor else { return Ok(host) };
        let names = self.resolver.names_of(self.now(), remote.ip());
        let to_names = self.link.is_gateway(remote.ip()) && remote.port() == names::PORT;
        if to_names || !interceptor.wants(remote.port(), &names) {
            return Ok(host);
        }
        self.waiting.forget(&host)?;
        let joined = interceptor.take(host, remote, names)?;
        self.waiting.watch(&joined, token)?;
        Ok(joined)
    }

    /// Why datagrams to `remote` are refused, if they are: secrets cannot be put into them.
    #[must_use]
    pub(in crate::net::gateway) fn refused_datagrams(&self, remote: SocketAddr) -> Option<Refusal> {
        let interceptor = self.interceptor.as_ref()?;
        let names = self.resolver.names_of(self.now(), remote.ip());
        interceptor.refused_datagrams(remote.port(), &names)
    }

    /// Where the host finds what the sandbox calls `remote`: the gateway's address stands for the host.
    #[must_use]
    pub(in crate::net::gateway) fn on_host(&self, remote: SocketAddr) -> SocketAddr {
        match remote.ip() {
            ip if !self.link.is_gateway(ip) => remote,
            IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, remote.port()).into(),
            IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, remote.port()).into(),
        }
    }
}

/// How long the other end of a connection may be silent before it is asked whether it is there, how often, and after how many
/// questions without an answer it is not, in seconds. The sandbox's own keep-alives are answered here.
const SILENCE: u32 = 60;
const ASKED_EVERY: u32 = 10;
const ASKED: u32 = 6;

/// Has the kernel find out when the other end of a connection has gone without a word (RFC 9293, 3.8.4).
pub(in crate::net::gateway) fn notice_death(socket: &OwnedFd) {
    // Without, it is noticed when something is sent.
    let _ = setsockopt(socket, sockopt::KeepAlive, &true);
    let _ = setsockopt(socket, sockopt::TcpKeepIdle, &SILENCE);
    let _ = setsockopt(socket, sockopt::TcpKeepInterval, &ASKED_EVERY);
    let _ = setsockopt(socket, sockopt::TcpKeepCount, &ASKED);
}

/// The name that a proxy is told of `remote`, which is called by these: one that may be reached by itself, as the proxy looks it up again
/// and goes where it leads then. A rule may allow the address for another one.
fn name_for<'a>(policy: &Policy, remote: SocketAddr, names: &'a [Name]) -> Option<&'a Name> {
    let peer = Peer {
        direction: Direction::Out,
        protocol: Protocol::Tcp,
        address: remote.ip(),
        port: Some(remote.port()),
    };
    names.iter().find(|name| policy.decide(&peer, std::slice::from_ref(name)).allowed)
}

/// A socket on its way to `address`, or there.
///
/// # Errors
/// The system's, when it is known at once.
pub(in crate::net::gateway) fn dial(kind: SockType, address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if kind == SockType::Stream {
        notice_death(&socket);
    }
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// How a sandbox is told that its peer cannot be reached for this reason.
#[must_use]
pub(in crate::net::gateway) fn unreachable_for(errno: nix::Error) -> Unreachable {
    match errno {
        nix::Error::ENETUNREACH | nix::Error::EADDRNOTAVAIL => Unreachable::Network,
        nix::Error::EACCES | nix::Error::EPERM => Unreachable::Prohibited,
        nix::Error::ECONNREFUSED => Unreachable::Port,
        _ => Unreachable::Host,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::gateway::{Link, Settings};
    use crate::net::policy::{HostAddresses, Scope};
    use crate::net::proxy::{Proxy, ProxyKind};

    #[test]
    fn a_proxy_is_told_a_name_that_may_be_reached() {
        let names: Vec<Name> =
            ["bad.example", "good.example", "fine.example"].map(|name| name.parse().unwrap()).into();
        let policy = |rules: &[&str]| {
            let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            Policy::new(Scope::None, rules, Link::default().segment(), HostAddresses::default())
        };
        let remote = "1.1.1.1:443".parse().unwrap();
        let by_name = policy(&["allow good.example"]);
        assert_eq!(name_for(&by_name, remote, &names), names.get(1));
        assert_eq!(name_for(&policy(&["deny bad.example", "allow 1.1.1.1"]), remote, &names), names.get(1));
        assert_eq!(name_for(&by_name, remote, &names[..1]), None);
    }

    #[test]
    fn what_is_on_this_host_is_not_left_to_a_proxy() {
        let link = Link::default();
        let policy = Policy::new(Scope::Any, Vec::new(), link.segment(), HostAddresses::default());
        let mut settings = Settings::new(link, policy);
        let address = "127.0.0.1:1".parse().unwrap();
        settings.proxy = Some(Proxy { kind: ProxyKind::Socks5, address, credentials: None });
        let mut core = Core::new(settings, None, std::sync::Arc::default()).unwrap();
        let gateway = link.gateway_v4.to_ipv6_mapped().to_string();
        for own in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::ffff:127.0.0.1", &gateway] {
            assert!(!core.goes_by_proxy(own.parse().unwrap()), "{own}");
        }
        for far in ["1.1.1.1", "10.0.0.1", "2606:4700::1"] {
            assert!(core.goes_by_proxy(far.parse().unwrap()), "{far}");
        }
    }
}
