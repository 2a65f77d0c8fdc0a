//! What all protocols share: the link, the policy, waiting for sockets and for time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use super::event::{Event, Observer};
use super::link::Link;
use super::packet::Unreachable;
use super::stack::Stack;
use super::wire::Output;
use crate::net::policy::{Direction, Peer, Policy, Protocol};

/// Whose socket or time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The virtual machine's socket.
    Wire,
    /// The bell of the handle.
    Bell,
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
}

const OWNERS: [Owner; 7] =
    [Owner::Wire, Owner::Bell, Owner::Tcp, Owner::Udp, Owner::Echo, Owner::Port, Owner::Dns];

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
    /// Who may be reached.
    pub(super) policy: Arc<Policy>,
    poller: Epoll,
    timers: BinaryHeap<Reverse<(Instant, Token)>>,
    observer: Observer,
}

impl Core {
    /// Everything at its beginning.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(link: Link, policy: Arc<Policy>, observer: Observer) -> io::Result<Self> {
        // Random: the keys of hash maps are.
        let seed = RandomState::new().build_hasher().finish();
        let flags = nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC;
        Ok(Self {
            stack: Stack::new(&link, seed, Instant::now()),
            output: Output::new(&link),
            link,
            policy,
            poller: Epoll::new(flags)?,
            timers: BinaryHeap::new(),
            observer,
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

    /// Waits for changes until the next deadline, or with `hurry` only looks.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn wait(&self, events: &mut [EpollEvent], hurry: bool) -> io::Result<usize> {
        let limit = match self.timers.peek() {
            _ if hurry => Some(std::time::Duration::ZERO),
            None => None,
            Some(Reverse((at, _))) => Some(at.saturating_duration_since(Instant::now())),
        };
        // Rounded up: a wait that ends early would only be repeated.
        let limit = limit.map(|limit| limit.as_micros().div_ceil(1000).min(1 << 30));
        let limit = limit
            .map_or(EpollTimeout::NONE, |limit| EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::MAX));
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

    /// Whether the sandbox may talk to `address`. What it may not is reported.
    pub(super) fn may_reach(&mut self, protocol: Protocol, address: IpAddr, port: Option<u16>) -> bool {
        let peer = Peer { direction: Direction::Out, protocol, address, port };
        let verdict = self.policy.decide(&peer, &[]);
        if !verdict.allowed {
            self.report(Event::Denied { peer, reason: verdict.reason });
        }
        verdict.allowed
    }

    /// Tells whoever listens.
    pub(super) fn report(&mut self, event: Event) {
        (self.observer)(event);
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
