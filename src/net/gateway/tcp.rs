//! All TCP connections of a sandbox.
//!
//! A connection is first made on the host's side; the sandbox's SYN waits for that, so that it sees a peer that refuses or cannot be
//! reached as such.

mod incoming;
mod outgoing;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::sys::epoll::EpollFlags;
use slab::Slab;
use smoltcp::wire::TcpPacket;

use super::buffers::Buffers;
use super::core::Core;
use super::event::{Admission, End, Event};
use super::flow::{Fate, Flow, Pair};
use super::greeting::Greeting;
use super::hail::Answer;
use super::names::Names;
use super::packet::{self, Datagram, Unreachable};
use super::waiting::{Owner, Token};

/// Bytes on their way in each direction of a connection, and from how many connections on.
const SIZES: [(usize, usize); 4] = [(1024, 32 << 10), (128, 64 << 10), (32, 512 << 10), (0, 2 << 20)];
/// Memory of closed connections that is kept for new ones.
const SPARE: usize = 32;
/// What there can be too many of.
const CONNECTIONS: &str = "TCP connections";

/// All connections.
#[derive(Debug)]
pub(super) struct Tcp {
    entries: Slab<Entry>,
    by_pair: HashMap<Pair, usize>,
    /// Those that have something to do, each at most once.
    ready: VecDeque<usize>,
    /// Those whose bytes wait until some may go; who got none is in front.
    held: VecDeque<usize>,
    spare: Vec<Buffers>,
    generation: u32,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    pair: Pair,
    generation: u32,
    stage: Stage,
    /// `None` for the gateway's own server.
    admission: Option<Box<Admission>>,
    /// It is in the list of those that have something to do.
    queued: bool,
    /// It is in the list of those whose bytes wait until some may go.
    held: bool,
    /// The earliest of its times.
    armed: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// The host's side is being made, and greeted; the packet with the sandbox's SYN waits.
    Dialing { upstream: OwnedFd, greeting: Option<Greeting>, syn: Box<[u8]>, number: u32 },
    /// Both sides are there.
    Open { flow: Box<Flow>, number: u32 },
    /// The same, where the sandbox was called: how first, and at which of its places.
    Called { flow: Box<Flow>, first: Pair, place: usize },
    /// The same, where another sandbox's gateway waits to hear that the call is taken.
    Hailed { flow: Box<Flow>, told: bool },
}

impl Entry {
    fn flow(&mut self) -> Option<&mut Flow> {
        match &mut self.stage {
            Stage::Dialing { .. } => None,
            Stage::Open { flow, .. } | Stage::Called { flow, .. } | Stage::Hailed { flow, .. } => Some(flow),
        }
    }

    /// Tells another sandbox's gateway that its call is taken, before anything of the sandbox goes there.
    fn tell_caller(&mut self) {
        if let Stage::Hailed { flow, told } = &mut self.stage
            && !*told
            && flow.is_taken()
        {
            *told = true;
            flow.say(Answer::Accepted);
        }
    }
}

impl Tcp {
    /// None yet, and never more than `limit`.
    #[must_use]
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: Slab::new(),
            by_pair: HashMap::new(),
            ready: VecDeque::new(),
            held: VecDeque::new(),
            spare: Vec::new(),
            generation: 0,
            limit,
        }
    }

    /// Whether some have something to do.
    #[must_use]
    pub(super) fn is_busy(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A segment from the sandbox.
    pub(super) fn packet(&mut self, core: &mut Core, names: &mut Names, datagram: &Datagram<'_>) {
        let Ok(segment) = TcpPacket::new_checked(datagram.payload) else { return };
        if segment.src_port() == 0 || segment.dst_port() == 0 {
            return;
        }
        let pair = Pair {
            guest: SocketAddr::new(datagram.source, segment.src_port()),
            remote: SocketAddr::new(datagram.destination, segment.dst_port()),
        };
        let number = segment.seq_number().0.cast_unsigned();
        let begins = segment.syn() && !segment.ack();
        let Some(&index) = self.by_pair.get(&pair) else {
            return if begins {
                self.dial(core, names, (pair, datagram, &segment));
            } else {
                packet::reset(&mut core.output, datagram, &segment);
            };
        };
        match &mut self.entries[index].stage {
            Stage::Dialing { .. } if segment.rst() => self.remove(core, index, End::Closed),
            // Sent once more, because the peer takes its time.
            Stage::Dialing { number: first, .. } if begins && *first == number => {}
            // The sandbox has forgotten the connection, and begins another one.
            Stage::Dialing { .. } if begins => {
                self.remove(core, index, End::Closed);
                self.dial(core, names, (pair, datagram, &segment));
            }
            Stage::Dialing { .. } => packet::reset(&mut core.output, datagram, &segment),
            Stage::Open { flow, number: first } if begins && *first != number => {
                flow.reset_peer();
                self.remove(core, index, End::Closed);
                self.dial(core, names, (pair, datagram, &segment));
            }
            Stage::Open { flow, .. } | Stage::Called { flow, .. } | Stage::Hailed { flow, .. } => {
                flow.receive(datagram.whole, &segment, &mut core.stack, &mut core.output);
                self.queue(index);
            }
        }
    }

    fn add(&mut self, pair: Pair, stage: Stage, admission: Option<Box<Admission>>) -> usize {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        let generation = self.generation;
        let entry = Entry { pair, generation, stage, admission, queued: false, held: false, armed: None };
        let index = self.entries.insert(entry);
        self.by_pair.insert(pair, index);
        index
    }

    fn token(&self, index: usize) -> Token {
        Token::new(Owner::Tcp, self.entries[index].generation, index)
    }

    fn find(&self, token: Token) -> Option<usize> {
        let index = token.index as usize;
        self.entries.get(index).filter(|entry| entry.generation == token.generation).map(|_| index)
    }

    /// The socket of a connection has changed.
    pub(super) fn socket_ready(&mut self, core: &mut Core, token: Token, flags: EpollFlags) {
        let Some(index) = self.find(token) else { return };
        if matches!(self.entries[index].stage, Stage::Dialing { .. }) {
            self.dialed(core, index);
        }
        // A peer may have said everything and closed when the connection is first looked at: that is told once.
        if let Some(index) = self.find(token)
            && let Some(flow) = self.entries[index].flow()
        {
            let hung_up = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
            // Reading stops at what is urgent (tcp(7)), and may go on behind it.
            let hung_up = hung_up | EpollFlags::EPOLLPRI;
            let is = |of: EpollFlags| flags.intersects(of);
            flow.ready(is(EpollFlags::EPOLLIN), is(EpollFlags::EPOLLOUT), is(hung_up));
            self.queue(index);
        }
    }

    /// Whether there may be one more connection where there are at most `limit`; if not, it is reported.
    fn check_limit(&self, core: &mut Core, limit: usize) -> Result<(), End> {
        if self.entries.len() < limit {
            return Ok(());
        }
        core.report_limit(CONNECTIONS, limit);
        Err(End::Failed("too many connections".into()))
    }

    /// Memory for one more connection; if there is none, it is reported.
    fn buffers(&mut self, core: &mut Core) -> Result<Buffers, End> {
        let count = self.entries.len();
        let size = SIZES.iter().find(|(from, _)| count >= *from).map_or(0, |(_, size)| *size);
        match self.spare.pop() {
            Some(buffers) if buffers.size() == size => Ok(buffers),
            _ => Buffers::new(size).map_err(|error| {
                core.report(Event::NoResources { call: "mmap", reason: error.to_string() });
                End::Failed(error.to_string())
            }),
        }
    }

    fn queue(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        if !std::mem::replace(&mut entry.queued, true) {
            self.ready.push_back(index);
        }
    }

    /// The time of a connection has come.
    pub(super) fn due(&mut self, core: &mut Core, token: Token) {
        let Some(index) = self.find(token) else { return };
        if matches!(self.entries[index].stage, Stage::Dialing { .. }) {
            // Whoever is there does not answer the greeting.
            return self.fail(core, index, nix::Error::EHOSTUNREACH);
        }
        let entry = &mut self.entries[index];
        if entry.armed.is_some_and(|at| at > core.now()) {
            // It was set before an earlier one, which has taken its place.
            return;
        }
        entry.armed = None;
        if let Some(flow) = entry.flow() {
            flow.rest(core.now());
            self.queue(index);
        }
    }

    /// Gives each connection that has something to do one turn.
    pub(super) fn turn(&mut self, core: &mut Core) {
        for _ in 0..self.ready.len() {
            if core.output.is_full() {
                return;
            }
            let Some(index) = self.ready.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(index) else { continue };
            entry.queued = false;
            entry.tell_caller();
            let Some(flow) = entry.flow() else { continue };
            let before = flow.moved;
            flow.allow(core.quota.share(core.stack.now(), self.ready.len() + 1));
            let fate = flow.pump(&mut core.stack, &mut core.output);
            let moved = (flow.moved.0 - before.0, flow.moved.1 - before.1);
            let held = flow.is_held();
            core.moved(moved);
            match fate {
                Fate::Over => self.over(core, index),
                Fate::Busy | Fate::Blocked => self.queue(index),
                Fate::Waits if held == (false, false) => self.arm(core, index),
                Fate::Waits => self.hold(core, index, (held, moved)),
            }
        }
    }

    /// Has a connection wait until more of its bytes may go, unless that was but its share of this turn.
    fn hold(&mut self, core: &mut Core, index: usize, (held, moved): ((bool, bool), (u64, u64))) {
        let short = core.quota.is_short(core.now());
        if (held.0 && !short.0) || (held.1 && !short.1) {
            return self.queue(index);
        }
        self.arm(core, index);
        if !std::mem::replace(&mut self.entries[index].held, true) {
            match moved {
                (0, 0) => self.held.push_front(index),
                _ => self.held.push_back(index),
            }
        }
        core.wait_for_quota();
    }

    /// Bytes may go again.
    pub(super) fn release(&mut self) {
        for index in std::mem::take(&mut self.held) {
            if let Some(entry) = self.entries.get_mut(index) {
                entry.held = false;
                self.queue(index);
            }
        }
    }

    fn arm(&mut self, core: &mut Core, index: usize) {
        let token = self.token(index);
        let entry = &mut self.entries[index];
        let Some(flow) = entry.flow() else { return };
        if let Some(at) = flow.deadline(&mut core.stack)
            && entry.armed.is_none_or(|armed| at < armed)
        {
            entry.armed = Some(at);
            core.waiting.wake_at(at, token);
        }
    }

    /// Whether there is a connection between these.
    pub(super) fn knows(&self, pair: &Pair) -> bool {
        self.by_pair.contains_key(pair)
    }

    /// All of them end with the gateway.
    pub(super) fn end(&mut self, core: &mut Core) {
        for mut entry in std::mem::take(&mut self.entries).into_iter().map(|(_, entry)| entry) {
            let moved = entry.flow().map_or((0, 0), |flow| flow.moved);
            core.over(entry.admission, moved, End::Closed);
        }
    }

    /// Ends what the policy does not allow any more.
    pub(super) fn review(&mut self, core: &mut Core) {
        let all: Vec<usize> = self.entries.iter().map(|(index, _)| index).collect();
        for index in all {
            let entry = &mut self.entries[index];
            let Some(reason) = entry.admission.as_ref().and_then(|admission| core.revoked(admission)) else {
                continue;
            };
            match &mut entry.stage {
                Stage::Dialing { syn, .. } => {
                    if let Some(datagram) = packet::parse_ip(syn) {
                        let why = Unreachable::Prohibited;
                        packet::unreachable(&mut core.output, &core.link, &datagram, why);
                    }
                }
                Stage::Open { flow, .. } | Stage::Called { flow, .. } | Stage::Hailed { flow, .. } => {
                    flow.cut(&mut core.stack, &mut core.output);
                }
            }
            self.remove(core, index, End::Revoked(reason));
        }
    }

    fn remove(&mut self, core: &mut Core, index: usize, end: End) {
        let mut entry = self.entries.remove(index);
        self.by_pair.remove(&entry.pair);
        let moved = entry.flow().map_or((0, 0), |flow| flow.moved);
        core.over(entry.admission, moved, end);
        if let Stage::Open { flow, .. } | Stage::Called { flow, .. } | Stage::Hailed { flow, .. } =
            entry.stage
        {
            let buffers = flow.into_buffers();
            if self.spare.len() < SPARE {
                self.spare.push(buffers);
            }
        }
    }
}
