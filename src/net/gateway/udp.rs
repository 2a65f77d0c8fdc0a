//! Conversations by UDP: a connected socket of the host for each pair of ends, so that a peer's errors come back as well.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, SockType, recv, send};
use slab::Slab;
use smoltcp::wire::UdpPacket;

use super::core::{self, Core, Owner, Token};
use super::event::{Admission, End, Event};
use super::flow::Pair;
use super::packet::{self, Datagram, Unreachable};
use crate::net::policy::Protocol;

/// How long a conversation is kept in which nobody has answered, and one in which somebody has (RFC 4787, REQ-5).
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(180);
/// Datagrams taken from a peer before others get their turn.
const TURN: usize = 64;
/// The largest datagram.
const LARGEST: usize = 65_507;
/// As much of a packet as an error about it must quote: the longest header and ports.
const QUOTED: usize = 68;

/// All conversations.
#[derive(Debug)]
pub(super) struct Udp {
    entries: Slab<Conversation>,
    by_pair: HashMap<Pair, usize>,
    /// Those that have more to say than they had a turn for.
    ready: Vec<Token>,
    /// Those for whom something waits until it may go.
    held: Vec<Token>,
    generation: u32,
    limit: usize,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Conversation {
    pair: Pair,
    generation: u32,
    socket: OwnedFd,
    used: Instant,
    answered: bool,
    /// The beginning of the sandbox's last packet, which an error is about.
    last: Box<[u8]>,
    admission: Option<Box<Admission>>,
    /// Bytes from the sandbox, and to it.
    moved: (u64, u64),
}

impl Conversation {
    fn ends(&self) -> Instant {
        self.used + if self.answered { ANSWERED } else { UNANSWERED }
    }
}

impl Udp {
    /// None yet, and never more than `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: Slab::new(),
            by_pair: HashMap::new(),
            ready: Vec::new(),
            held: Vec::new(),
            generation: 0,
            limit,
            scratch: Vec::new(),
        }
    }

    /// Whether some have something to do.
    pub(super) fn is_busy(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A datagram from the sandbox.
    pub(super) fn packet(&mut self, core: &mut Core, datagram: &Datagram<'_>) {
        let Ok(message) = UdpPacket::new_checked(datagram.payload) else { return };
        if message.src_port() == 0 || message.dst_port() == 0 {
            return;
        }
        let pair = Pair {
            guest: SocketAddr::new(datagram.source, message.src_port()),
            remote: SocketAddr::new(datagram.destination, message.dst_port()),
        };
        let known = self.by_pair.get(&pair).copied();
        let Some(index) = known.or_else(|| self.begin(core, pair, datagram)) else { return };
        let conversation = &mut self.entries[index];
        conversation.used = core.now();
        if core.quota.is_short(core.now()).0 {
            // There is no holding back a sender of datagrams.
            core.counters.limited();
            return core.wait_for_quota();
        }
        let quoted = &datagram.whole[..datagram.whole.len().min(QUOTED)];
        if *conversation.last != *quoted {
            conversation.last = quoted.into();
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(conversation.socket.as_raw_fd(), message.payload(), flags) {
            Ok(length) => {
                conversation.moved.0 += length as u64;
                core.moved((length as u64, 0));
            }
            // A host that has no room drops it, as any router would.
            Err(nix::Error::EAGAIN | nix::Error::ENOBUFS | nix::Error::EMSGSIZE) => {}
            Err(errno) => {
                let why = core::unreachable_for(errno);
                packet::unreachable(&mut core.output, &core.link, datagram, why);
            }
        }
    }

    fn begin(&mut self, core: &mut Core, pair: Pair, datagram: &Datagram<'_>) -> Option<usize> {
        let admission = core.reach(Protocol::Udp, pair.remote.ip(), Some(pair.remote.port()));
        if admission.is_none() {
            packet::unreachable(&mut core.output, &core.link, datagram, Unreachable::Prohibited);
            return None;
        }
        // Clients that are refused HTTP/3 take what can be intercepted.
        if core.refuses_datagrams(pair.remote) {
            core.over(admission, (0, 0), End::Failed("secrets are not put into HTTP/3".into()));
            packet::unreachable(&mut core.output, &core.link, datagram, Unreachable::Port);
            return None;
        }
        if !core.may_begin() {
            core.over(admission, (0, 0), End::Failed("too many new conversations".into()));
            return None;
        }
        if self.entries.len() >= self.limit {
            core.report_limit("UDP conversations", self.limit);
            core.over(admission, (0, 0), End::Failed("too many conversations".into()));
            return None;
        }
        match core::dial(SockType::Datagram, core.on_host(pair.remote)) {
            Ok(socket) => self.add(core, (pair, admission), socket),
            Err(errno) => {
                core.over(admission, (0, 0), End::Failed(errno.desc().to_owned()));
                let why = core::unreachable_for(errno);
                packet::unreachable(&mut core.output, &core.link, datagram, why);
                None
            }
        }
    }

    fn add(
        &mut self,
        core: &mut Core,
        (pair, admission): (Pair, Option<Box<Admission>>),
        socket: OwnedFd,
    ) -> Option<usize> {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        let token = Token::new(Owner::Udp, self.generation, self.entries.vacant_key());
        if let Err(error) = core.watch(&socket, token) {
            core.report(Event::NoResources { call: "epoll_ctl", reason: error.to_string() });
            core.over(admission, (0, 0), End::Failed(error.to_string()));
            return None;
        }
        let conversation = Conversation {
            pair,
            generation: self.generation,
            socket,
            used: core.now(),
            answered: false,
            last: Box::default(),
            admission,
            moved: (0, 0),
        };
        core.wake_at(conversation.ends(), token);
        let index = self.entries.insert(conversation);
        self.by_pair.insert(pair, index);
        Some(index)
    }

    /// A peer has answered, or cannot be reached.
    pub(super) fn socket_ready(&mut self, core: &mut Core, token: Token) {
        let Some(conversation) = self.entries.get_mut(token.index as usize) else { return };
        if conversation.generation != token.generation {
            return;
        }
        self.scratch.resize(LARGEST, 0);
        let Pair { guest, remote } = conversation.pair;
        for _ in 0..TURN {
            if core.output.is_full() {
                break;
            }
            if core.quota.is_short(core.now()).1 {
                // They wait in the host's socket, for which there is a bound.
                self.held.push(token);
                return core.wait_for_quota();
            }
            match recv(conversation.socket.as_raw_fd(), &mut self.scratch, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    conversation.answered = true;
                    conversation.used = core.now();
                    conversation.moved.1 += length as u64;
                    core.moved((0, length as u64));
                    packet::udp(&mut core.output, remote, guest, &self.scratch[..length]);
                }
                Err(nix::Error::EAGAIN) => return,
                Err(errno) => {
                    if let Some(last) = packet::parse_quoted(&conversation.last) {
                        let why = core::unreachable_for(errno);
                        packet::unreachable(&mut core.output, &core.link, &last, why);
                    }
                }
            }
        }
        self.ready.push(token);
    }

    /// Gives each conversation that has more to say another turn.
    pub(super) fn turn(&mut self, core: &mut Core) {
        if core.output.is_full() {
            return;
        }
        for token in std::mem::take(&mut self.ready) {
            self.socket_ready(core, token);
        }
    }

    /// Bytes may go again.
    pub(super) fn release(&mut self) {
        self.ready.append(&mut self.held);
    }

    /// The time of a conversation may have come.
    pub(super) fn due(&mut self, core: &mut Core, token: Token) {
        let index = token.index as usize;
        let Some(conversation) = self.entries.get(index) else { return };
        if conversation.generation != token.generation {
            return;
        }
        if conversation.ends() > core.now() {
            return core.wake_at(conversation.ends(), token);
        }
        let gone = self.entries.remove(index);
        self.by_pair.remove(&gone.pair);
        core.over(gone.admission, gone.moved, End::Closed);
    }

    /// Ends what the policy does not allow any more.
    pub(super) fn review(&mut self, core: &mut Core) {
        let all: Vec<usize> = self.entries.iter().map(|(index, _)| index).collect();
        for index in all {
            let admission = self.entries[index].admission.as_ref();
            let Some(reason) = admission.and_then(|admission| core.revoked(admission)) else { continue };
            let gone = self.entries.remove(index);
            self.by_pair.remove(&gone.pair);
            if let Some(last) = packet::parse_quoted(&gone.last) {
                packet::unreachable(&mut core.output, &core.link, &last, Unreachable::Prohibited);
            }
            core.over(gone.admission, gone.moved, End::Revoked(reason));
        }
    }

    /// All of them end with the gateway.
    pub(super) fn end(&mut self, core: &mut Core) {
        for (_, gone) in std::mem::take(&mut self.entries) {
            core.over(gone.admission, gone.moved, End::Closed);
        }
    }
}
