//! What all protocols share: the link, the policy, waiting for sockets and for time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use super::event::{Admission, End, Event, Observer};
use super::greeting::Greeting;
use super::link::Link;
use super::members::Members;
use super::names;
use super::packet::Unreachable;
use super::quota::{Quota, Rates};
use super::stack::Stack;
use super::traffic::Counters;
use super::tunnel::Tunnel;
use super::wire::Output;
use crate::net::dns::{Hosts, Resolver, System};
use crate::net::intercept::Interceptor;
use crate::net::policy::{
    Class, Direction, HOST_NAME, HostAddresses, Name, Peer, Policy, Protocol, Reason, Rule, Scope, Verdict,
};
use crate::net::proxy::Proxy;

/// Whose socket or time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The virtual machine's socket.
    Wire,
    /// The bell of the handle.
    Bell,
    /// Those who wait for bytes that may go.
    Quota,
    /// A TCP connection.
    Tcp,
    /// A conversation by UDP.
    Udp,
    /// Somebody who is pinged.
    Echo,
    /// A listener.
    Port,
    /// A question to a DNS server.
    Dns,
    /// A connection of the sandbox to the gateway's DNS server.
    DnsClient,
    /// Where other sandboxes call.
    Door,
    /// One that calls, and has not said yet who it is.
    Caller,
}

const OWNERS: [Owner; 11] = [
    Owner::Wire,
    Owner::Bell,
    Owner::Quota,
    Owner::Tcp,
    Owner::Udp,
    Owner::Echo,
    Owner::Port,
    Owner::Dns,
    Owner::DnsClient,
    Owner::Door,
    Owner::Caller,
];
/// How long the host's addresses are taken for what they were.
const HOST_READING: Duration = Duration::from_secs(1);

/// How long is looked for changes without sleeping, as waking up takes as long; done where the last sleep was [`SHORT`].
const SPIN: Duration = Duration::from_micros(50);
const SHORT: Duration = Duration::from_micros(200);

/// Names one socket for as long as the gateway lives: places are used again, with another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    /// Whose.
    pub(super) owner: Owner,
    /// Which life of the place; 24 bits.
    pub(super) generation: u32,
    /// The place in its owner's table.
    pub(super) index: u32,
}

impl Token {
    /// The place `index` in its life `generation`.
    #[must_use]
    pub(super) fn new(owner: Owner, generation: u32, index: usize) -> Self {
        Self { owner, generation: generation & 0xff_ffff, index: index as u32 }
    }

    fn bits(self) -> u64 {
        (self.owner as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The token of these bits.
    #[must_use]
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let owner = *OWNERS.get((bits >> 56) as usize)?;
        Some(Self { owner, generation: (bits >> 32) as u32 & 0xff_ffff, index: bits as u32 })
    }
}

/// What all protocols share.
pub(super) struct Core {
    /// The addresses.
    pub(super) link: Link,
    /// TCP towards the sandbox.
    pub(super) stack: Stack,
    /// Frames to the sandbox.
    pub(super) output: Output,
    /// The other sandboxes of its groups.
    pub(super) members: Members,
    /// Names, and what they led to.
    pub(super) resolver: Resolver,
    /// What goes through, in numbers.
    pub(super) counters: Arc<Counters>,
    /// How much may go through.
    pub(super) quota: Quota,
    /// Through whom connections go.
    pub(super) proxy: Option<Proxy>,
    /// Whether connections that were let through are reported at their end.
    log: bool,
    /// Who puts secrets in.
    pub(super) interceptor: Option<Interceptor>,
    policy: Arc<Policy>,
    /// The host's addresses, and when they were read.
    host: (HostAddresses, Instant),
    system: System,
    poller: Epoll,
    timers: BinaryHeap<Reverse<(Instant, Token)>>,
    observer: Observer,
    /// The last sleep was short.
    spins: bool,
}

impl Core {
    /// Everything at its beginning.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(
        link: Link,
        mut members: Members,
        policy: &Policy,
        (observer, log): (Observer, bool),
        (counters, rates): (Arc<Counters>, Rates),
    ) -> io::Result<Self> {
        let host = HostAddresses::read()?;
        let mut system = System::default();
        let upstreams = system.changed()?.unwrap_or_default();
        let hosts = hosts(&link, members.changed_names().unwrap_or_default());
        let now = Instant::now();
        // Random: the keys of hash maps are.
        let seed = RandomState::new().build_hasher().finish();
        let flags = nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC;
        Ok(Self {
            stack: Stack::new(&link, seed, now),
            resolver: Resolver::new(upstreams, hosts, host.has_ipv6()),
            policy: Arc::new(policy.with_host(host.clone())),
            host: (host, now),
            system,
            output: Output::new(&link),
            counters,
            quota: Quota::new(rates, now),
            proxy: None,
            log,
            interceptor: None,
            link,
            members,
            poller: Epoll::new(flags)?,
            timers: BinaryHeap::new(),
            observer,
            spins: false,
        })
    }

    /// The time of this round.
    #[must_use]
    pub(super) fn now(&self) -> Instant {
        self.stack.now()
    }

    /// Has changes of `socket` reported under `token`, each once.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn watch(&self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        Ok(self.poller.add(socket, EpollEvent::new(flags, token.bits()))?)
    }

    /// The same for a socket that may be watched under another token already.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn watch_again(&self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        match self.poller.delete(socket) {
            Ok(()) | Err(nix::Error::ENOENT) => self.watch(socket, token),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for changes until the next deadline, or with `hurry` only looks.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn wait(&mut self, events: &mut [EpollEvent], hurry: bool) -> io::Result<usize> {
        if hurry {
            return self.look(events, EpollTimeout::ZERO);
        }
        let begun = Instant::now();
        while self.spins && begun.elapsed() < SPIN {
            let count = self.look(events, EpollTimeout::ZERO)?;
            if count > 0 {
                return Ok(count);
            }
        }
        let limit = self.timers.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        // Rounded up: a wait that ends early would only be repeated.
        let limit = limit.map(|limit| limit.as_micros().div_ceil(1000).min(1 << 30));
        let limit = limit
            .map_or(EpollTimeout::NONE, |limit| EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::MAX));
        let count = self.look(events, limit)?;
        self.spins = count > 0 && begun.elapsed() < SHORT;
        Ok(count)
    }

    fn look(&self, events: &mut [EpollEvent], limit: EpollTimeout) -> io::Result<usize> {
        match self.poller.wait(events, limit) {
            Ok(count) => Ok(count),
            Err(nix::Error::EINTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Has `token` reported at `at`. It cannot be taken back: who is not interested any more does nothing then.
    pub(super) fn wake_at(&mut self, at: Instant, token: Token) {
        self.timers.push(Reverse((at, token)));
    }

    /// A token whose time has come.
    pub(super) fn due(&mut self) -> Option<Token> {
        let Reverse((at, _)) = self.timers.peek()?;
        if *at > self.now() {
            return None;
        }
        self.timers.pop().map(|Reverse((_, token))| token)
    }

    /// Lets the sandbox talk to `address`, if it may; what it may not is reported. What is let through is to be said to be
    /// [over](Self::over).
    pub(super) fn reach(
        &mut self,
        protocol: Protocol,
        address: IpAddr,
        port: Option<u16>,
    ) -> Option<Box<Admission>> {
        self.admit(Peer { direction: Direction::Out, protocol, address, port })
    }

    /// The same in either direction.
    pub(super) fn admit(&mut self, peer: Peer) -> Option<Box<Admission>> {
        let since = self.now();
        let names = self.resolver.names_of(since, peer.address);
        let mut verdict = self.current_policy().decide(&peer, &names);
        let outside = peer.direction == Direction::Out && peer.protocol != Protocol::Tcp;
        if verdict.allowed && outside && self.goes_by_proxy(peer.address) {
            verdict = Verdict { allowed: false, reason: Reason::Proxy };
        }
        if !verdict.allowed {
            self.counters.denied();
            self.report(Event::Denied { peer, names, reason: verdict.reason });
            return None;
        }
        self.counters.begun();
        Some(Box::new(Admission { peer, names, reason: verdict.reason, since }))
    }

    /// What was let through is over, with so many bytes from the sandbox and to it. The gateway's own server needs no admission.
    pub(super) fn over(&mut self, admission: Option<Box<Admission>>, moved: (u64, u64), end: End) {
        let Some(admission) = admission else { return };
        self.counters.ended();
        if self.log || matches!(end, End::Revoked(_)) {
            let ended = admission.ended(self.now(), moved, end);
            self.report(Event::Ended(Box::new(ended)));
        }
    }

    /// Bytes have gone through: so many from the sandbox, and to it.
    pub(super) fn moved(&mut self, moved: (u64, u64)) {
        self.counters.bytes(moved);
        self.quota.spend(moved);
    }

    /// Has those who wait for bytes that may go looked after when some may.
    pub(super) fn wait_for_quota(&mut self) {
        let now = self.now();
        if self.quota.is_news(now) {
            self.report(Event::Limit { what: "bandwidth", limit: self.quota.bytes_per_second() });
        }
        if let Some(at) = self.quota.arm() {
            self.wake_at(at, Token::new(Owner::Quota, 0, 0));
        }
    }

    /// Whether the sandbox may begin one more thing this second.
    pub(super) fn may_begin(&mut self) -> bool {
        let may = self.quota.begin(self.now());
        if !may {
            self.report_limit("new connections per second", self.quota.begun_per_second());
        }
        may
    }

    /// Reports the name that the resolver has just refused, if it has.
    pub(super) fn report_denied_name(&mut self) {
        if let Some((name, reason)) = self.resolver.take_denied() {
            self.counters.denied();
            self.report(Event::DeniedName { name, reason });
        }
    }

    /// Reports that there may be no more of something.
    pub(super) fn report_limit(&mut self, what: &'static str, limit: usize) {
        self.counters.limited();
        self.report(Event::Limit { what, limit });
    }

    /// The policy, on the host as it is now.
    pub(super) fn current_policy(&mut self) -> Arc<Policy> {
        let now = self.now();
        if now.saturating_duration_since(self.host.1) >= HOST_READING {
            // Where the kernel does not say, it is as it was.
            if let Ok(host) = HostAddresses::read()
                && host != self.host.0
            {
                self.policy = Arc::new(self.policy.with_host(host.clone()));
                self.host.0 = host;
            }
            self.host.1 = now;
        }
        Arc::clone(&self.policy)
    }

    /// From now on this scope and these rules.
    pub(super) fn set_rules(&mut self, scope: Scope, rules: Vec<Rule>) {
        self.policy = Arc::new(self.policy.with_rules(scope, rules));
    }

    /// Why what was let through may not be any more. It is known by the names by which it was let through as well as those of now.
    pub(super) fn revoked(&mut self, admission: &Admission) -> Option<Reason> {
        let mut names = self.resolver.names_of(self.now(), admission.peer.address);
        names.extend(admission.names.iter().cloned());
        let verdict = self.current_policy().decide(&admission.peer, &names);
        (!verdict.allowed).then_some(verdict.reason)
    }

    /// Asks the DNS servers that the host asks now.
    pub(super) fn refresh_servers(&mut self) {
        // A file that cannot be read just now says nothing new.
        if let Ok(Some(upstreams)) = self.system.changed() {
            self.resolver.set_upstreams(upstreams, self.host.0.has_ipv6());
        }
    }

    /// Knows the names of the groups as they are now.
    pub(super) fn refresh_members(&mut self) {
        if let Some(names) = self.members.changed_names() {
            self.resolver.set_hosts(hosts(&self.link, names));
        }
    }

    /// Whether packets from the sandbox may have this source.
    #[must_use]
    pub(super) fn is_guest(&self, address: IpAddr) -> bool {
        self.link.is_guest(address) || self.members.is_own(address)
    }

    /// Whether `address` is for another sandbox of its groups: the policy takes it for one, and nothing else is reached by it.
    pub(super) fn is_member(&mut self, address: IpAddr) -> bool {
        self.members.seat_of(address).is_some() && self.current_policy().class(address) == Class::Group
    }

    /// Whether `address` is one of the host's.
    pub(super) fn is_host(&self, address: IpAddr) -> bool {
        self.host.0.contains(address)
    }

    /// Tells whoever listens.
    pub(super) fn report(&mut self, event: Event) {
        (self.observer)(event);
    }

    /// Whether connections to `address` go through the proxy.
    fn goes_by_proxy(&self, address: IpAddr) -> bool {
        let is_near = self.link.is_gateway(address) || self.is_host(address);
        self.proxy.is_some() && !is_near && self.members.seat_of(address).is_none()
    }

    /// A connection to what the sandbox calls `remote`, on its way, and what is to be said there first.
    ///
    /// # Errors
    /// The system's, when it is known at once.
    pub(super) fn connect(
        &mut self,
        remote: SocketAddr,
        names: &[Name],
    ) -> nix::Result<(OwnedFd, Option<Greeting>)> {
        let Some(proxy) = self.proxy.as_ref().filter(|_| self.goes_by_proxy(remote.ip())) else {
            return Ok((dial(SockType::Stream, self.on_host(remote))?, None));
        };
        let greeting = Greeting::Tunnel(Box::new(Tunnel::new(proxy, remote, names.first())));
        match dial(SockType::Stream, proxy.address) {
            Ok(socket) => Ok((socket, Some(greeting))),
            Err(errno) => Err(self.no_proxy(errno)),
        }
    }

    /// Reports that the proxy cannot be reached; what the sandbox is to see of that.
    pub(super) fn no_proxy(&mut self, errno: nix::Error) -> nix::Error {
        self.report(Event::NoResources { call: "proxy", reason: errno.desc().to_owned() });
        nix::Error::EHOSTUNREACH
    }

    /// What the sandbox's half of a connection to `remote` is joined to: `host`, watched under `token`, or where its secrets may be
    /// wanted, whoever puts them in.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn intercepted(
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
        self.poller.delete(&host)?;
        let joined = interceptor.take(host, remote, names)?;
        self.watch(&joined, token)?;
        Ok(joined)
    }

    /// Whether datagrams to `remote` are refused because secrets cannot be put into them.
    #[must_use]
    pub(super) fn refuses_datagrams(&self, remote: SocketAddr) -> bool {
        self.interceptor.as_ref().is_some_and(|interceptor| {
            let names = self.resolver.names_of(self.now(), remote.ip());
            interceptor.refuses_datagrams(remote.port(), &names)
        })
    }

    /// Where the host finds what the sandbox calls `remote`: the gateway's address stands for the host.
    #[must_use]
    pub(super) fn on_host(&self, remote: SocketAddr) -> SocketAddr {
        match remote.ip() {
            ip if !self.link.is_gateway(ip) => remote,
            IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, remote.port()).into(),
            IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, remote.port()).into(),
        }
    }
}

/// The names that are answered here: the host's, and those of the groups.
fn hosts(link: &Link, members: Vec<(Name, IpAddr)>) -> Hosts {
    let mut hosts = Hosts::default();
    if let Ok(name) = HOST_NAME.parse::<Name>() {
        hosts.add(name.clone(), link.gateway_v4.into());
        hosts.add(name, link.gateway_v6.into());
    }
    for (name, address) in members {
        hosts.add(name, address);
    }
    hosts
}

/// A socket on its way to `address`, or there.
///
/// # Errors
/// The system's, when it is known at once.
pub(super) fn dial(kind: SockType, address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// How a sandbox is told that its peer cannot be reached for this reason.
#[must_use]
pub(super) fn unreachable_for(errno: nix::Error) -> Unreachable {
    match errno {
        nix::Error::ENETUNREACH | nix::Error::EADDRNOTAVAIL => Unreachable::Network,
        nix::Error::EACCES | nix::Error::EPERM => Unreachable::Prohibited,
        nix::Error::ECONNREFUSED => Unreachable::Port,
        _ => Unreachable::Host,
    }
}
