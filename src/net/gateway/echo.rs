//! Echo requests of ICMP (`ping`), by the host's unprivileged ping sockets (icmp(7), `ping_group_range`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv, send, socket,
};
use slab::Slab;
use smoltcp::wire::IpProtocol;

use super::core::{self, Core};
use super::event::{Admission, End, Event};
use super::flow::Pair;
use super::hail::Answer;
use super::packet::{self, Datagram, ICMP_HEADER, Unreachable};
use super::waiting::{Owner, Token};
use crate::net::policy::Protocol;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest message.
const LARGEST: usize = 65_507;
/// Types of requests and of answers, for IPv4 and IPv6.
const REQUEST: (u8, u8) = (8, 128);
const REPLY: (u8, u8) = (0, 129);

/// Everybody who is pinged.
#[derive(Debug)]
pub(super) struct Echo {
    entries: Slab<Pinged>,
    by_peer: HashMap<(IpAddr, u16), usize>,
    generation: u32,
    limit: usize,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Pinged {
    peer: IpAddr,
    /// What the sandbox calls its series of requests; the host's kernel has a name of its own.
    ident: u16,
    generation: u32,
    socket: OwnedFd,
    used: Instant,
    admission: Option<Box<Admission>>,
    /// As whom the sandbox pings.
    guest: IpAddr,
    /// The packet with the request to another sandbox of a group, whose gateway answers once.
    relayed: Option<Box<[u8]>>,
}

impl Echo {
    /// Nobody yet, and never more than `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: Slab::new(), by_peer: HashMap::new(), generation: 0, limit, scratch: Vec::new() }
    }

    /// A message of ICMP from the sandbox.
    pub(super) fn packet(&mut self, core: &mut Core, datagram: &Datagram<'_>) {
        let message = datagram.payload;
        let (request, protocol) = match datagram.destination {
            IpAddr::V4(_) => (REQUEST.0, IpProtocol::Icmp),
            IpAddr::V6(_) => (REQUEST.1, IpProtocol::Icmpv6),
        };
        if datagram.protocol != protocol || message.len() < ICMP_HEADER || message[..2] != [request, 0] {
            return;
        }
        if core.link.is_gateway(datagram.destination) {
            return answer(core, (datagram.destination, datagram.source), message);
        }
        if core.is_member(datagram.destination) {
            return self.ping_member(core, datagram);
        }
        let ident = u16::from_be_bytes([message[4], message[5]]);
        let known = self.by_peer.get(&(datagram.destination, ident)).copied();
        let Some(index) = known.or_else(|| self.begin(core, datagram, ident)) else { return };
        let pinged = &mut self.entries[index];
        (pinged.used, pinged.guest) = (core.now(), datagram.source);
        if core.quota.is_short(core.now()).0 {
            core.counters.limited();
            return core.wait_for_quota();
        }
        core.moved((message.len() as u64, 0));
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(pinged.socket.as_raw_fd(), message, flags) {
            Ok(_) | Err(nix::Error::EAGAIN | nix::Error::ENOBUFS | nix::Error::EMSGSIZE) => {}
            Err(errno) => {
                let why = core::unreachable_for(errno);
                packet::unreachable(&mut core.output, &core.link, datagram, why);
            }
        }
    }

    fn begin(&mut self, core: &mut Core, datagram: &Datagram<'_>, ident: u16) -> Option<usize> {
        let peer = datagram.destination;
        let refuse = |core: &mut Core, why| {
            packet::unreachable(&mut core.output, &core.link, datagram, why);
            None
        };
        let admission = core.reach(Protocol::Icmp, peer, None);
        if admission.is_none() {
            return refuse(core, Unreachable::Prohibited);
        }
        if !core.may_begin() {
            core.over(admission, (0, 0), End::Failed("too many new peers".into()));
            return None;
        }
        if self.entries.len() >= self.limit {
            core.report_limit("peers that are pinged", self.limit);
            core.over(admission, (0, 0), End::Failed("too many peers".into()));
            return None;
        }
        let socket = match ping_socket(peer) {
            Ok(socket) => socket,
            Err(errno) => {
                core.report(Event::NoResources { call: "ping socket", reason: errno.desc().to_owned() });
                core.over(admission, (0, 0), End::Failed(errno.desc().to_owned()));
                return refuse(core, core::unreachable_for(errno));
            }
        };
        let index = self.add(core, (peer, ident, datagram.source), (socket, None), admission)?;
        self.by_peer.insert((peer, ident), index);
        Some(index)
    }

    fn add(
        &mut self,
        core: &mut Core,
        (peer, ident, guest): (IpAddr, u16, IpAddr),
        (socket, relayed): (OwnedFd, Option<Box<[u8]>>),
        admission: Option<Box<Admission>>,
    ) -> Option<usize> {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        let token = Token::new(Owner::Echo, self.generation, self.entries.vacant_key());
        if let Err(error) = core.waiting.watch(&socket, token) {
            core.report(Event::NoResources { call: "epoll_ctl", reason: error.to_string() });
            core.over(admission, (0, 0), End::Failed(error.to_string()));
            return None;
        }
        core.waiting.wake_at(core.now() + PATIENCE, token);
        let (generation, used) = (self.generation, core.now());
        Some(self.entries.insert(Pinged { peer, ident, generation, socket, used, guest, relayed, admission }))
    }

    /// Asks the gateway of another sandbox of a group.
    fn ping_member(&mut self, core: &mut Core, datagram: &Datagram<'_>) {
        let peer = datagram.destination;
        let admission = core.reach(Protocol::Icmp, peer, None);
        if admission.is_none() {
            let why = Unreachable::Prohibited;
            return packet::unreachable(&mut core.output, &core.link, datagram, why);
        }
        if !core.may_begin() {
            return core.over(admission, (0, 0), End::Failed("too many new peers".into()));
        }
        if self.entries.len() >= self.limit {
            core.report_limit("peers that are pinged", self.limit);
            return core.over(admission, (0, 0), End::Failed("too many peers".into()));
        }
        let pair = Pair { guest: SocketAddr::new(datagram.source, 0), remote: SocketAddr::new(peer, 0) };
        let sent = core.members.call(Protocol::Icmp, &pair).and_then(|(socket, hail)| {
            let message = [&hail.to_bytes(), datagram.payload].concat();
            send(socket.as_raw_fd(), &message, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
            Ok(socket)
        });
        match sent {
            Ok(socket) => {
                let ends = (peer, 0, datagram.source);
                self.add(core, ends, (socket, Some(datagram.whole.into())), admission);
            }
            Err(errno) => {
                core.over(admission, (0, 0), End::Failed(errno.desc().to_owned()));
                let why = core::unreachable_for(errno);
                packet::unreachable(&mut core.output, &core.link, datagram, why);
            }
        }
    }

    /// The gateway of another sandbox has answered, or is gone.
    fn member_answered(&mut self, core: &mut Core, index: usize) {
        self.scratch.resize(1 + LARGEST, 0);
        let Pinged { socket, .. } = &self.entries[index];
        let heard = recv(socket.as_raw_fd(), &mut self.scratch, MsgFlags::MSG_DONTWAIT);
        if heard == Err(nix::Error::EAGAIN) {
            return;
        }
        let mut pinged = self.entries.remove(index);
        core.over(pinged.admission.take(), (0, 0), End::Closed);
        let Some((kind, message)) = self.scratch[..heard.unwrap_or(0)].split_first() else { return };
        let request = pinged.relayed.as_deref().and_then(packet::parse_ip);
        match (Answer::from_byte(*kind), request) {
            // No other message than the one that was sent is an answer to it.
            (Some(Answer::Accepted), Some(request)) if request.payload == message => {
                answer(core, (pinged.peer, pinged.guest), message);
            }
            (Some(Answer::Prohibited), Some(request)) => {
                let why = Unreachable::Prohibited;
                packet::unreachable(&mut core.output, &core.link, &request, why);
            }
            _ => {}
        }
    }

    /// Somebody has answered.
    pub(super) fn socket_ready(&mut self, core: &mut Core, token: Token) {
        let Some(pinged) = self.entries.get_mut(token.index as usize) else { return };
        if pinged.generation != token.generation {
            return;
        }
        if pinged.relayed.is_some() {
            return self.member_answered(core, token.index as usize);
        }
        self.scratch.resize(LARGEST, 0);
        // What comes while the link is full is lost, as pings may be.
        while let Ok(length) = recv(pinged.socket.as_raw_fd(), &mut self.scratch, MsgFlags::MSG_DONTWAIT) {
            let message = &mut self.scratch[..length];
            let reply = if pinged.peer.is_ipv4() { REPLY.0 } else { REPLY.1 };
            if message.len() < ICMP_HEADER || message[0] != reply || core.output.is_full() {
                continue;
            }
            core.moved((0, message.len() as u64));
            message[4..6].copy_from_slice(&pinged.ident.to_be_bytes());
            answer(core, (pinged.peer, pinged.guest), message);
        }
    }

    /// Ends what the policy does not allow any more.
    pub(super) fn review(&mut self, core: &mut Core) {
        let all: Vec<usize> = self.entries.iter().map(|(index, _)| index).collect();
        for index in all {
            let admission = self.entries[index].admission.as_ref();
            let Some(reason) = admission.and_then(|admission| core.revoked(admission)) else { continue };
            let gone = self.entries.remove(index);
            self.by_peer.remove(&(gone.peer, gone.ident));
            core.over(gone.admission, (0, 0), End::Revoked(reason));
        }
    }

    /// The time of somebody may have come.
    pub(super) fn due(&mut self, core: &mut Core, token: Token) {
        let index = token.index as usize;
        let Some(pinged) = self.entries.get(index) else { return };
        if pinged.generation != token.generation {
            return;
        }
        let ends = pinged.used + PATIENCE;
        if ends > core.now() {
            return core.waiting.wake_at(ends, token);
        }
        let gone = self.entries.remove(index);
        self.by_peer.remove(&(gone.peer, gone.ident));
        core.over(gone.admission, (0, 0), End::Closed);
    }
}

/// Sends the sandbox an answer of `peer` with the name, number and content of `message`.
fn answer(core: &mut Core, (peer, to): (IpAddr, IpAddr), message: &[u8]) {
    let kind = if peer.is_ipv4() { REPLY.0 } else { REPLY.1 };
    let length = message.len() - ICMP_HEADER;
    packet::icmp(
        &mut core.output,
        (peer, to),
        (kind, 0),
        |bytes| bytes[4..].copy_from_slice(&message[4..]),
        length,
    );
}

fn ping_socket(peer: IpAddr) -> nix::Result<OwnedFd> {
    let (family, protocol) = match peer {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Datagram, flags, protocol)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(peer, 0)))?;
    Ok(socket)
}
