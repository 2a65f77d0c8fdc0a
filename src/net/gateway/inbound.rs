//! Published ports: who connects to one of the host's is connected to the sandbox.

mod clients;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use clients::Clients;
use nix::sys::socket::{MsgFlags, SockFlag, SockaddrStorage, accept4, recvfrom, sendto};

use super::core::{self, Core};
use super::event::{Admission, End};
use super::flow::Pair;
use super::packet;
use super::tcp::Tcp;
use super::waiting::{Owner, Token};
use crate::net::policy::{Direction, Peer, Protocol};
use crate::net::port::{Listener, Transport};

/// Connections or datagrams taken before others get their turn.
const TURN: usize = 64;
/// The largest datagram, by IPv6.
const LARGEST: usize = 65_527;
/// Ports that clients get who look like the gateway.
const PORTS: std::ops::Range<u16> = 49_152..65_535;

/// All published ports.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    listeners: Vec<Listener>,
    /// Clients by UDP.
    clients: Clients,
    /// Listeners that have more than they had a turn for.
    ready: Vec<usize>,
    /// Those for whose clients something waits until it may go.
    held: BTreeSet<usize>,
    next: u16,
    scratch: Vec<u8>,
}

impl Inbound {
    /// Listens.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(core: &Core, listeners: Vec<Listener>) -> std::io::Result<Self> {
        for (index, listener) in listeners.iter().enumerate() {
            core.waiting.watch(&listener.socket, Token::new(Owner::Port, 0, index))?;
        }
        Ok(Self { listeners, ..Self::default() })
    }

    /// Whether some have something to do.
    pub(super) fn is_busy(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Bytes may go again.
    pub(super) fn release(&mut self) {
        self.ready.extend(std::mem::take(&mut self.held));
    }

    /// Gives each listener that has more another turn.
    pub(super) fn turn(&mut self, core: &mut Core, tcp: &mut Tcp) {
        if core.output.is_full() {
            return;
        }
        for index in std::mem::take(&mut self.ready) {
            self.socket_ready(core, tcp, index);
        }
    }

    /// Somebody comes to the listener at `index`.
    pub(super) fn socket_ready(&mut self, core: &mut Core, tcp: &mut Tcp, index: usize) {
        let Some(listener) = self.listeners.get(index) else { return };
        let more = match listener.transport {
            Transport::Tcp => self.accept(core, tcp, index),
            Transport::Udp => self.receive(core, index),
        };
        if more {
            self.ready.push(index);
        }
    }

    /// `true` when there may be more.
    fn accept(&mut self, core: &mut Core, tcp: &mut Tcp, index: usize) -> bool {
        let listener = &self.listeners[index];
        let (socket, port) = (listener.socket.as_raw_fd(), listener.guest);
        for _ in 0..TURN {
            let fd = match accept4(socket, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC) {
                Ok(fd) => fd,
                Err(nix::Error::ECONNABORTED | nix::Error::EINTR) => continue,
                // Out of descriptors as well: who waits is taken when somebody else comes.
                Err(_) => return false,
            };
            // SAFETY: the kernel has just made it for us.
            let accepted = unsafe { OwnedFd::from_raw_fd(fd) };
            core::notice_death(&accepted);
            let Some(client) = peer_of(&accepted) else { continue };
            let admission = admit(core, Protocol::Tcp, client, port);
            if admission.is_none() {
                continue;
            }
            let guest = SocketAddr::new(core.link.guest_like(client.ip()), port);
            if let Some(remote) = self.seen_as(core, client, |remote| tcp.knows(&Pair { guest, remote })) {
                tcp.call(core, Pair { guest, remote }, accepted, admission);
            } else {
                core.over(admission, (0, 0), End::Failed("no port is free".into()));
            }
        }
        true
    }

    /// The address that the sandbox sees instead of `client`: its own where the sandbox can tell it from others, the gateway's
    /// for the host itself.
    fn seen_as(
        &mut self,
        core: &Core,
        client: SocketAddr,
        taken: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let ip = client.ip();
        let is_host =
            ip.is_loopback() || core.is_host(ip) || core.link.is_guest(ip) || core.link.is_gateway(ip);
        let seen = if is_host { core.link.gateway_like(ip) } else { ip };
        let first = SocketAddr::new(seen, client.port());
        if !taken(first) {
            return Some(first);
        }
        PORTS.into_iter().find_map(|_| {
            self.next = self.next.wrapping_add(1).max(PORTS.start);
            Some(SocketAddr::new(seen, self.next)).filter(|address| !taken(*address))
        })
    }

    /// `true` when there may be more.
    fn receive(&mut self, core: &mut Core, index: usize) -> bool {
        let listener = &self.listeners[index];
        let (socket, port) = (listener.socket.as_raw_fd(), listener.guest);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(LARGEST, 0);
        let mut more = true;
        for _ in 0..TURN {
            if core.output.is_full() {
                break;
            }
            if core.quota.is_short(core.now()).1 {
                self.held.insert(index);
                core.wait_for_quota();
                more = false;
                break;
            }
            let (length, client) = match recvfrom::<SockaddrStorage>(socket, &mut scratch) {
                Ok((length, client)) => (length, client.as_ref().and_then(address_of)),
                Err(nix::Error::EAGAIN) => {
                    more = false;
                    break;
                }
                // An error of somebody who was answered.
                Err(_) => continue,
            };
            let Some(client) = client else { continue };
            if let Some(pair) = self.client(core, (index, port), client) {
                self.clients.goes(core, &pair, &scratch[..length]);
                core.moved((0, length as u64));
                packet::udp(&mut core.output, pair.remote, pair.guest, &scratch[..length]);
            }
        }
        self.scratch = scratch;
        more
    }

    fn client(
        &mut self,
        core: &mut Core,
        (listener, port): (usize, u16),
        address: SocketAddr,
    ) -> Option<Pair> {
        let caller = (listener, address);
        if let Some(pair) = self.clients.pair_of(&caller) {
            return Some(pair);
        }
        if !self.clients.has_room(core) {
            return None;
        }
        let admission = admit(core, Protocol::Udp, address, port);
        admission.as_ref()?;
        let guest = SocketAddr::new(core.link.guest_like(address.ip()), port);
        let clients = std::mem::take(&mut self.clients);
        let remote = self.seen_as(core, address, |remote| clients.knows(&Pair { guest, remote }));
        self.clients = clients;
        let Some(remote) = remote else {
            core.over(admission, (0, 0), End::Failed("no port is free".into()));
            return None;
        };
        Some(self.clients.add(core, caller, Pair { guest, remote }, admission))
    }

    /// Whether there is a client by UDP between these.
    pub(super) fn knows(&self, pair: &Pair) -> bool {
        self.clients.knows(pair)
    }

    /// The sandbox says that nobody is there who was sent a datagram. It may be meant for a server that listens elsewhere in it.
    /// `false` when it was none of these datagrams.
    pub(super) fn refused(&mut self, core: &mut Core, pair: &Pair) -> bool {
        if !self.clients.knows(pair) {
            return false;
        }
        if let Some((pair, payload)) = self.clients.moves_on(core, pair) {
            packet::udp(&mut core.output, pair.remote, pair.guest, payload);
        }
        true
    }

    /// Ends what the policy does not allow any more.
    pub(super) fn review(&mut self, core: &mut Core) {
        self.clients.review(core);
    }

    /// All clients go with the gateway.
    pub(super) fn end(&mut self, core: &mut Core) {
        self.clients.end(core);
    }

    /// Passes an answer of the sandbox on. `false` when it is none.
    pub(super) fn answer(&mut self, core: &mut Core, pair: &Pair, payload: &[u8]) -> bool {
        let Some(client) = self.clients.answers(core, pair) else { return false };
        let (listener, address) = client.caller;
        let socket = self.listeners[listener].socket.as_raw_fd();
        // A client that has gone, or a host without room: lost, as datagrams may be.
        if core.quota.is_short(core.now()).0 {
            core.counters.limited();
            core.wait_for_quota();
            return true;
        }
        client.moved.0 += payload.len() as u64;
        core.moved((payload.len() as u64, 0));
        let _ = sendto(socket, payload, &SockaddrStorage::from(address), MsgFlags::MSG_DONTWAIT);
        true
    }
}

fn admit(core: &mut Core, protocol: Protocol, client: SocketAddr, port: u16) -> Option<Box<Admission>> {
    core.admit(Peer { direction: Direction::In, protocol, address: client.ip(), port: Some(port) })
}

fn peer_of(socket: &OwnedFd) -> Option<SocketAddr> {
    address_of(&nix::sys::socket::getpeername::<SockaddrStorage>(socket.as_raw_fd()).ok()?)
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::new(v4.ip().into(), v4.port()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::new(v6.ip().into(), v6.port())))
}
