//! Conversations by UDP: a connected socket of the host for each pair of ends, so that a peer's errors come back as well.

use std::collections::{BTreeSet, HashMap};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, SockType, recv, send, sendmsg};
use slab::Slab;
use smoltcp::wire::UdpPacket;

use super::core::{self, Core};
use super::event::{Admission, End, Event};
use super::flow::Pair;
use super::hail::Answer;
use super::packet::{self, Datagram, Unreachable};
use super::waiting::{Owner, Token};
use crate::net::policy::Protocol;

/// How long a conversation is kept in which nobody has answered, and one in which somebody has (RFC 4787, REQ-5).
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(180);
/// Datagrams taken from a peer before others get their turn.
const TURN: usize = 64;
/// The largest datagram, by IPv6.
const LARGEST: usize = 65_527;
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
    held: BTreeSet<Token>,
    generation: u32,
    limit: usize,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Conversation {
    pair: Pair,
    generation: u32,
    socket: OwnedFd,
    /// The other end is another sandbox's gateway, and before every datagram is a byte that says what it is.
    relayed: bool,
    used: Instant,
    answered: bool,
    /// The beginning of the sandbox's last packet, which an error is about.
    last: Box<[u8]>,
    admission: Option<Box<Admission>>,
    /// Bytes from the sandbox, and to it.
    moved: (u64, u64),
}

/// What came.
enum Heard<'a> {
    Datagram(&'a [u8]),
    /// The last datagram of the sandbox came to nothing.
    Refused(Unreachable),
    Nothing,
    /// Nothing more will come.
    End,
}

impl Conversation {
    fn say(&self, payload: &[u8]) -> nix::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if !self.relayed {
            return send(self.socket.as_raw_fd(), payload, flags);
        }
        let kind = [Answer::Accepted.byte()];
        let parts = [IoSlice::new(&kind), IoSlice::new(payload)];
        sendmsg::<()>(self.socket.as_raw_fd(), &parts, &[], flags, None)
            .map(|sent| sent.saturating_sub(kind.len()))
    }

    fn hear<'a>(&self, scratch: &'a mut [u8]) -> Heard<'a> {
        let heard = recv(self.socket.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT);
        match heard {
            Ok(length) if !self.relayed => Heard::Datagram(&scratch[..length]),
            Ok(length) => match scratch[..length].split_first() {
                None => Heard::End,
                Some((kind, rest)) => match Answer::from_byte(*kind) {
                    Some(Answer::Accepted) => Heard::Datagram(rest),
                    Some(answer) => Heard::Refused(answer.unreachable()),
                    None => Heard::End,
                },
            },
            Err(nix::Error::EAGAIN) => Heard::Nothing,
            Err(_) if self.relayed => Heard::End,
            Err(errno) => Heard::Refused(core::unreachable_for(errno)),
        }
    }

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
            held: BTreeSet::new(),
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
        match conversation.say(message.payload()) {
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
        if let Some(refusal) = core.refused_datagrams(pair.remote) {
            core.report(Event::Secret(refusal));
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
        let relayed = core.is_member(pair.remote.ip());
        let socket = if relayed {
            call(core, &pair)
        } else {
            core::dial(SockType::Datagram, core.on_host(pair.remote))
        };
        match socket {
            Ok(socket) => self.add(core, (pair, admission), (socket, relayed)),
            // The other sandbox has as many calls as it can hold.
            Err(nix::Error::EAGAIN) => {
                core.over(admission, (0, 0), End::Failed("too many calls at once".into()));
                None
            }
            Err(errno) => {
                core.over(admission, (0, 0), End::Failed(errno.desc().to_owned()));
                let why = core::unreachable_for(errno);
                packet::unreachable(&mut core.output, &core.link, datagram, why);
                None
            }
        }
    }

    /// Another sandbox begins a conversation with this one.
    pub(super) fn join(
        &mut self,
        core: &mut Core,
        (pair, admission): (Pair, Option<Box<Admission>>),
        socket: OwnedFd,
    ) {
        let limit = core::incoming(self.limit);
        if self.entries.len() >= limit {
            core.report_limit("UDP conversations", limit);
            return core.over(admission, (0, 0), End::Failed("too many conversations".into()));
        }
        if self.add(core, (pair, admission), (socket, true)).is_some() {
            // What has come behind the first message.
            self.ready.extend(self.by_pair.get(&pair).map(|index| self.token(*index)));
        }
    }

    fn token(&self, index: usize) -> Token {
        Token::new(Owner::Udp, self.entries[index].generation, index)
    }

    /// The sandbox says that a datagram of another one came to nothing.
    pub(super) fn refused(&mut self, core: &Core, pair: &Pair) {
        let Some(index) = self.by_pair.get(pair) else { return };
        let conversation = &mut self.entries[*index];
        if conversation.relayed {
            conversation.used = core.now();
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            // Lost like the datagram, where there is no room.
            let _ = send(conversation.socket.as_raw_fd(), &[Answer::Refused.byte()], flags);
        }
    }

    fn add(
        &mut self,
        core: &mut Core,
        (pair, admission): (Pair, Option<Box<Admission>>),
        (socket, relayed): (OwnedFd, bool),
    ) -> Option<usize> {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        let token = Token::new(Owner::Udp, self.generation, self.entries.vacant_key());
        // One that has called is watched already, as a caller.
        let watched = if relayed {
            core.waiting.watch_again(&socket, token)
        } else {
            core.waiting.watch(&socket, token)
        };
        if let Err(error) = watched {
            core.report(Event::NoResources { call: "epoll_ctl", reason: error.to_string() });
            core.over(admission, (0, 0), End::Failed(error.to_string()));
            return None;
        }
        let conversation = Conversation {
            pair,
            generation: self.generation,
            socket,
            relayed,
            used: core.now(),
            answered: false,
            last: Box::default(),
            admission,
            moved: (0, 0),
        };
        core.waiting.wake_at(conversation.ends(), token);
        let index = self.entries.insert(conversation);
        self.by_pair.insert(pair, index);
        Some(index)
    }

    fn remove(&mut self, core: &mut Core, index: usize, end: End) {
        let gone = self.entries.remove(index);
        // Where both ends began at the same time, the pair is that of the later one.
        if self.by_pair.get(&gone.pair) == Some(&index) {
            self.by_pair.remove(&gone.pair);
        }
        core.over(gone.admission, gone.moved, end);
    }

    /// A peer has answered, or cannot be reached.
    pub(super) fn socket_ready(&mut self, core: &mut Core, token: Token) {
        let Some(conversation) = self.entries.get_mut(token.index as usize) else { return };
        if conversation.generation != token.generation {
            return;
        }
        self.scratch.resize(1 + LARGEST, 0);
        let Pair { guest, remote } = conversation.pair;
        for _ in 0..TURN {
            if core.output.is_full() {
                break;
            }
            if core.quota.is_short(core.now()).1 {
                // They wait in the host's socket, for which there is a bound.
                self.held.insert(token);
                return core.wait_for_quota();
            }
            match conversation.hear(&mut self.scratch) {
                Heard::Datagram(payload) => {
                    conversation.answered = true;
                    conversation.used = core.now();
                    conversation.moved.1 += payload.len() as u64;
                    core.moved((0, payload.len() as u64));
                    packet::udp(&mut core.output, remote, guest, payload);
                }
                Heard::Nothing => return,
                Heard::Refused(why) => {
                    if let Some(last) = packet::parse_quoted(&conversation.last) {
                        packet::unreachable(&mut core.output, &core.link, &last, why);
                    }
                }
                Heard::End => return self.remove(core, token.index as usize, End::Closed),
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
        self.ready.extend(std::mem::take(&mut self.held));
    }

    /// The time of a conversation may have come.
    pub(super) fn due(&mut self, core: &mut Core, token: Token) {
        let index = token.index as usize;
        let Some(conversation) = self.entries.get(index) else { return };
        if conversation.generation != token.generation {
            return;
        }
        if conversation.ends() > core.now() {
            return core.waiting.wake_at(conversation.ends(), token);
        }
        self.remove(core, index, End::Closed);
    }

    /// Ends what the policy does not allow any more.
    pub(super) fn review(&mut self, core: &mut Core) {
        let all: Vec<usize> = self.entries.iter().map(|(index, _)| index).collect();
        for index in all {
            let admission = self.entries[index].admission.as_ref();
            let Some(reason) = admission.and_then(|admission| core.revoked(admission)) else { continue };
            if let Some(last) = packet::parse_quoted(&self.entries[index].last) {
                packet::unreachable(&mut core.output, &core.link, &last, Unreachable::Prohibited);
            }
            self.remove(core, index, End::Revoked(reason));
        }
    }

    /// All of them end with the gateway.
    pub(super) fn end(&mut self, core: &mut Core) {
        for (_, gone) in std::mem::take(&mut self.entries) {
            core.over(gone.admission, gone.moved, End::Closed);
        }
    }
}

/// Calls another sandbox of a group.
fn call(core: &Core, pair: &Pair) -> nix::Result<OwnedFd> {
    let (socket, hail) = core.members.call(Protocol::Udp, pair)?;
    send(socket.as_raw_fd(), &hail.to_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
    Ok(socket)
}
