//! All TCP connections of a sandbox.
//!
//! A connection is first made on the host's side; the sandbox's SYN waits for that, so that it sees a peer that refuses or cannot be
//! reached as such.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{getsockopt, sockopt};
use slab::Slab;
use smoltcp::wire::TcpPacket;

use super::buffers::Buffers;
use super::core::{self, Core, Owner, Token};
use super::event::{Admission, End, Event};
use super::flow::{Fate, Flow, Pair};
use super::greeting::{self, Greeting, Progress};
use super::hail::Answer;
use super::names::{self, Names};
use super::packet::{self, Datagram, Unreachable};
use crate::net::policy::Protocol;

/// Bytes on their way in each direction of a connection, and from how many connections on.
const SIZES: [(usize, usize); 3] = [(1024, 32 << 10), (128, 64 << 10), (0, 1 << 20)];
/// Memory of closed connections that is kept for new ones.
const SPARE: usize = 32;
/// What there can be too many of.
const CONNECTIONS: &str = "TCP connections";
/// Why nobody was called.
const REFUSED: &str = "nothing in the sandbox listens there";

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
    /// The earliest of its times.
    armed: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// The host's side is being made, and greeted; the packet with the sandbox's SYN waits.
    Dialing { upstream: OwnedFd, greeting: Option<Greeting>, syn: Box<[u8]>, number: u32 },
    /// Both sides are there.
    Open { flow: Box<Flow>, number: u32 },
    /// The same, where the sandbox was called: from whom, and how often already.
    Called { flow: Box<Flow>, first: Pair, calls: usize },
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
                self.dial(core, names, (pair, datagram, number));
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
                self.dial(core, names, (pair, datagram, number));
            }
            Stage::Dialing { .. } => packet::reset(&mut core.output, datagram, &segment),
            Stage::Open { flow, number: first } if begins && *first != number => {
                flow.reset_peer();
                self.remove(core, index, End::Closed);
                self.dial(core, names, (pair, datagram, number));
            }
            Stage::Open { flow, .. } | Stage::Called { flow, .. } | Stage::Hailed { flow, .. } => {
                let length =
                    segment.segment_len() as u32 - u32::from(segment.fin()) - u32::from(segment.syn());
                flow.receive(datagram.whole, (number, length), &mut core.stack, &mut core.output);
                self.queue(index);
            }
        }
    }

    /// Begins to connect the sandbox to whom it wants.
    fn dial(
        &mut self,
        core: &mut Core,
        names: &mut Names,
        (pair, datagram, number): (Pair, &Datagram<'_>, u32),
    ) {
        let to_names = core.link.is_gateway(pair.remote.ip()) && pair.remote.port() == names::PORT;
        let admission = match to_names {
            true => None,
            false => core.reach(Protocol::Tcp, pair.remote.ip(), Some(pair.remote.port())),
        };
        if !to_names && admission.is_none() {
            let why = Unreachable::Prohibited;
            return packet::unreachable(&mut core.output, &core.link, datagram, why);
        }
        if self.entries.len() >= self.limit {
            core.report_limit(CONNECTIONS, self.limit);
            core.over(admission, (0, 0), End::Failed("too many connections".into()));
            return refuse(core, datagram);
        }
        if !to_names && !core.may_begin() {
            // Without an answer the sandbox tries again within a second.
            return core.over(admission, (0, 0), End::Failed("too many new connections".into()));
        }
        let upstream = if to_names {
            names.connect(core).map(|upstream| (upstream, None)).map_err(|_| nix::Error::ECONNREFUSED)
        } else if core.is_member(pair.remote.ip()) {
            let called = core.members.call(Protocol::Tcp, &pair);
            called.map(|(upstream, hail)| (upstream, Some(Greeting::member(&hail))))
        } else {
            let names = admission.as_ref().map_or(&[][..], |admission| &admission.names);
            core.connect(pair.remote, names)
        };
        let (upstream, greeting) = match upstream {
            Ok(upstream) => upstream,
            // The other sandbox has as many calls as it can hold: the next try of this one comes by itself.
            Err(nix::Error::EAGAIN) => {
                return core.over(admission, (0, 0), End::Failed("too many calls at once".into()));
            }
            Err(errno) => return failed(core, datagram, (errno, admission)),
        };
        let is_greeted = greeting.is_some();
        let syn = datagram.whole.into();
        let index = self.add(pair, Stage::Dialing { upstream, greeting, syn, number }, admission);
        if is_greeted {
            core.wake_at(core.now() + greeting::PATIENCE, self.token(index));
        }
        let Stage::Dialing { upstream, .. } = &self.entries[index].stage else { return };
        if let Err(error) = core.watch(upstream, self.token(index)) {
            core.report(Event::NoResources { call: "epoll_ctl", reason: error.to_string() });
            refuse(core, datagram);
            self.remove(core, index, End::Failed("the host has no more room".into()));
        }
    }

    fn add(&mut self, pair: Pair, stage: Stage, admission: Option<Box<Admission>>) -> usize {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        let generation = self.generation;
        let entry = Entry { pair, generation, stage, admission, queued: false, armed: None };
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
            let is = |of: EpollFlags| flags.intersects(of);
            flow.ready(is(EpollFlags::EPOLLIN), is(EpollFlags::EPOLLOUT), is(hung_up));
            self.queue(index);
        }
    }

    /// The host's side is there, or cannot be had.
    fn dialed(&mut self, core: &mut Core, index: usize) {
        let Stage::Dialing { upstream, greeting, .. } = &mut self.entries[index].stage else { return };
        match connected(core, upstream, greeting.as_mut()) {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => self.answer(core, index),
            Err(errno) => self.fail(core, index, errno),
        }
    }

    /// There is no connection for the sandbox, for this reason.
    fn fail(&mut self, core: &mut Core, index: usize, errno: nix::Error) {
        let entry = self.entries.remove(index);
        self.by_pair.remove(&entry.pair);
        let Stage::Dialing { syn, .. } = entry.stage else { return };
        if let Some(datagram) = packet::parse_ip(&syn) {
            failed(core, &datagram, (errno, entry.admission));
        }
    }

    /// The connection is the sandbox's: its SYN is answered.
    fn answer(&mut self, core: &mut Core, index: usize) {
        let buffers = self.buffers();
        let entry = self.entries.remove(index);
        self.by_pair.remove(&entry.pair);
        let Stage::Dialing { upstream, greeting, syn, number } = entry.stage else { return };
        let Some(datagram) = packet::parse_ip(&syn) else { return };
        match buffers {
            Ok(buffers) => {
                let token = Token::new(Owner::Tcp, entry.generation, index);
                let upstream = match core.intercepted(upstream, entry.pair.remote, token) {
                    Ok(upstream) => upstream,
                    Err(error) => {
                        core.report(Event::NoResources { call: "socketpair", reason: error.to_string() });
                        return failed(core, &datagram, (nix::Error::ECONNREFUSED, entry.admission));
                    }
                };
                let mut flow = Flow::new(upstream, buffers);
                if matches!(greeting, Some(Greeting::Member(_))) {
                    flow = flow.relayed();
                }
                let mut flow = Box::new(flow);
                let from = (&*syn, number);
                if flow.accept(&entry.pair, from, &mut core.stack, &mut core.output).is_err() {
                    return failed(core, &datagram, (nix::Error::ECONNREFUSED, entry.admission));
                }
                // The same place with the same generation, which its socket is watched under.
                let again = Entry { stage: Stage::Open { flow, number }, ..entry };
                let pair = again.pair;
                let place = self.entries.insert(again);
                debug_assert_eq!(place, index, "the place that was free last");
                self.by_pair.insert(pair, place);
                self.queue(place);
            }
            Err(error) => {
                core.report(Event::NoResources { call: "mmap", reason: error.to_string() });
                failed(core, &datagram, (nix::Error::ECONNREFUSED, entry.admission));
            }
        }
    }

    fn buffers(&mut self) -> std::io::Result<Buffers> {
        let count = self.entries.len();
        let size = SIZES.iter().find(|(from, _)| count >= *from).map_or(0, |(_, size)| *size);
        match self.spare.pop() {
            Some(buffers) if buffers.size() == size => Ok(buffers),
            _ => Buffers::new(size),
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
        match moved {
            (0, 0) => self.held.push_front(index),
            _ => self.held.push_back(index),
        }
        core.wait_for_quota();
    }

    /// Bytes may go again.
    pub(super) fn release(&mut self) {
        for index in std::mem::take(&mut self.held) {
            if self.entries.contains(index) {
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
            core.wake_at(at, token);
        }
    }

    /// Whether there is a connection between these.
    pub(super) fn knows(&self, pair: &Pair) -> bool {
        self.by_pair.contains_key(pair)
    }

    /// Connects somebody to the sandbox.
    pub(super) fn call(
        &mut self,
        core: &mut Core,
        pair: Pair,
        client: OwnedFd,
        admission: Option<Box<Admission>>,
    ) {
        if self.entries.len() >= self.limit {
            core.report_limit(CONNECTIONS, self.limit);
            return core.over(admission, (0, 0), End::Failed("too many connections".into()));
        }
        match self.buffers() {
            Ok(buffers) => self.try_call(core, (pair, pair, 0), (client, buffers), admission),
            Err(error) => {
                core.report(Event::NoResources { call: "mmap", reason: error.to_string() });
                core.over(admission, (0, 0), End::Failed(error.to_string()));
            }
        }
    }

    /// Connects another sandbox to this one, at the very address it called: what listens elsewhere in it is not for the group. A call
    /// that is not taken ends without an answer.
    pub(super) fn call_of_member(
        &mut self,
        core: &mut Core,
        pair: Pair,
        caller: OwnedFd,
        admission: Option<Box<Admission>>,
    ) {
        let failed = |why: String| End::Failed(why);
        if self.entries.len() >= self.limit {
            core.report_limit(CONNECTIONS, self.limit);
            return core.over(admission, (0, 0), failed("too many connections".into()));
        }
        // It may call again from the same port before it is known here that the old call is over.
        if let Some(index) = self.by_pair.get(&pair).copied() {
            self.remove(core, index, End::Closed);
        }
        let buffers = match self.buffers() {
            Ok(buffers) => buffers,
            Err(error) => {
                core.report(Event::NoResources { call: "mmap", reason: error.to_string() });
                return core.over(admission, (0, 0), failed(error.to_string()));
            }
        };
        let mut flow = Box::new(Flow::new(caller, buffers).relayed());
        match flow.call(&pair, &mut core.stack) {
            Ok(()) => {
                let index = self.add(pair, Stage::Hailed { flow, told: false }, admission);
                self.begin(core, index);
            }
            Err(_) => core.over(admission, (0, 0), failed(REFUSED.into())),
        }
    }

    /// Watches the socket of a connection that has come to the sandbox, and gives it its first turn.
    fn begin(&mut self, core: &mut Core, index: usize) {
        let token = self.token(index);
        let Some(flow) = self.entries[index].flow() else { return };
        // Called again under another token: the old one is told apart by its generation.
        if let Err(error) = core.watch_again(flow, token) {
            core.report(Event::NoResources { call: "epoll_ctl", reason: error.to_string() });
            return self.remove(core, index, End::Failed(error.to_string()));
        }
        self.queue(index);
    }

    fn try_call(
        &mut self,
        core: &mut Core,
        (pair, first, calls): (Pair, Pair, usize),
        (client, buffers): (OwnedFd, Buffers),
        admission: Option<Box<Admission>>,
    ) {
        let mut flow = Box::new(Flow::new(client, buffers));
        if flow.call(&pair, &mut core.stack).is_err() {
            flow.reset_peer();
            return core.over(admission, (0, 0), End::Failed(REFUSED.into()));
        }
        let index = self.add(pair, Stage::Called { flow, first, calls }, admission);
        self.begin(core, index);
    }

    /// A connection has ended. One that the sandbox has not taken may be meant for a server that listens elsewhere in it.
    fn over(&mut self, core: &mut Core, index: usize) {
        let Stage::Called { flow, first, calls } = &self.entries[index].stage else {
            return self.remove(core, index, End::Closed);
        };
        if !flow.was_refused() {
            return self.remove(core, index, End::Closed);
        }
        let (first, calls) = (*first, *calls);
        let other =
            elsewhere(core, &first).into_iter().skip(calls).find(|pair| !self.by_pair.contains_key(pair));
        let entry = self.entries.remove(index);
        self.by_pair.remove(&entry.pair);
        let Stage::Called { flow, .. } = entry.stage else { return };
        match other {
            Some(pair) => {
                let (client, buffers) = flow.into_parts();
                self.try_call(core, (pair, first, calls + 1), (client, buffers), entry.admission);
            }
            None => {
                flow.reset_peer();
                core.over(entry.admission, (0, 0), End::Failed(REFUSED.into()));
            }
        }
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

/// Whether the host's side is there, and greeted.
///
/// # Errors
/// It cannot be had.
fn connected(core: &mut Core, upstream: &OwnedFd, greeting: Option<&mut Greeting>) -> nix::Result<Progress> {
    match getsockopt(upstream, sockopt::SocketError)? {
        0 => greeting.map_or(Ok(Progress::Done), |greeting| greeting.advance(upstream)),
        errno if matches!(greeting, Some(Greeting::Tunnel(_))) => {
            Err(core.no_proxy(nix::Error::from_raw(errno)))
        }
        errno => Err(nix::Error::from_raw(errno)),
    }
}

/// Where else in the sandbox a server may listen that is not at the first address: at its loopback, or in the other family.
fn elsewhere(core: &Core, first: &Pair) -> [Pair; 2] {
    let (link, port) = (&core.link, first.guest.port());
    let from = |ip: IpAddr| SocketAddr::new(ip, first.remote.port());
    let to = |ip: IpAddr| SocketAddr::new(ip, port);
    let loopback = Pair { guest: to(Ipv4Addr::LOCALHOST.into()), remote: from(link.gateway_v4.into()) };
    if first.guest.is_ipv4() {
        [loopback, Pair { guest: to(link.guest_v6.into()), remote: from(link.gateway_v6.into()) }]
    } else {
        [Pair { guest: to(link.guest_v4.into()), remote: from(link.gateway_v4.into()) }, loopback]
    }
}

/// Refuses a connection.
fn refuse(core: &mut Core, datagram: &Datagram<'_>) {
    if let Ok(segment) = TcpPacket::new_checked(datagram.payload) {
        packet::reset(&mut core.output, datagram, &segment);
    }
}

/// Tells the sandbox why its connection cannot be.
fn failed(
    core: &mut Core,
    datagram: &Datagram<'_>,
    (errno, admission): (nix::Error, Option<Box<Admission>>),
) {
    core.over(admission, (0, 0), End::Failed(errno.desc().to_owned()));
    match errno {
        nix::Error::ECONNREFUSED | nix::Error::ECONNRESET => refuse(core, datagram),
        nix::Error::EMFILE | nix::Error::ENFILE | nix::Error::ENOBUFS | nix::Error::ENOMEM => {
            core.report(Event::NoResources { call: "socket", reason: errno.desc().to_owned() });
            refuse(core, datagram);
        }
        _ => packet::unreachable(&mut core.output, &core.link, datagram, core::unreachable_for(errno)),
    }
}
