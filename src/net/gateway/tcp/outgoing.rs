//! Connections that the sandbox opens.

use std::os::fd::OwnedFd;

use nix::sys::socket::{getsockopt, sockopt};
use smoltcp::wire::TcpPacket;

use super::{Entry, Stage, Tcp};
use crate::net::gateway::core::{self, Core};
use crate::net::gateway::event::{Admission, End, Event};
use crate::net::gateway::flow::{Flow, Pair};
use crate::net::gateway::greeting::{self, Greeting, Progress};
use crate::net::gateway::names::{self, Names};
use crate::net::gateway::packet::{self, Datagram, Unreachable};
use crate::net::gateway::waiting::{Owner, Token};
use crate::net::policy::Protocol;

impl Tcp {
    /// Begins to connect the sandbox to whom it wants.
    pub(super) fn dial(
        &mut self,
        core: &mut Core,
        names: &mut Names,
        (pair, datagram, segment): (Pair, &Datagram<'_>, &TcpPacket<&[u8]>),
    ) {
        let number = segment.seq_number().0.cast_unsigned();
        let to_names = core.link.is_gateway(pair.remote.ip()) && pair.remote.port() == names::PORT;
        let admission = match to_names {
            true => None,
            false => core.reach(Protocol::Tcp, pair.remote.ip(), Some(pair.remote.port())),
        };
        if !to_names && admission.is_none() {
            let why = Unreachable::Prohibited;
            return packet::unreachable(&mut core.output, &core.link, datagram, why);
        }
        if let Err(end) = self.check_limit(core, self.limit) {
            core.over(admission, (0, 0), end);
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
        let syn = packet::bare_syn(datagram, segment);
        let index = self.add(pair, Stage::Dialing { upstream, greeting, syn, number }, admission);
        if is_greeted {
            core.waiting.wake_at(core.now() + greeting::PATIENCE, self.token(index));
        }
        let Stage::Dialing { upstream, .. } = &self.entries[index].stage else { return };
        if let Err(error) = core.waiting.watch(upstream, self.token(index)) {
            core.report(Event::NoResources { call: "epoll_ctl", reason: error.to_string() });
            refuse(core, datagram);
            self.remove(core, index, End::Failed("the host has no more room".into()));
        }
    }

    /// The host's side is there, or cannot be had.
    pub(super) fn dialed(&mut self, core: &mut Core, index: usize) {
        let Stage::Dialing { upstream, greeting, .. } = &mut self.entries[index].stage else { return };
        match connected(core, upstream, greeting.as_mut()) {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => self.answer(core, index),
            Err(errno) => self.fail(core, index, errno),
        }
    }

    /// There is no connection for the sandbox, for this reason.
    pub(super) fn fail(&mut self, core: &mut Core, index: usize, errno: nix::Error) {
        let entry = self.entries.remove(index);
        self.by_pair.remove(&entry.pair);
        let Stage::Dialing { syn, .. } = entry.stage else { return };
        if let Some(datagram) = packet::parse_ip(&syn) {
            failed(core, &datagram, (errno, entry.admission));
        }
    }

    /// The connection is the sandbox's: its SYN is answered.
    fn answer(&mut self, core: &mut Core, index: usize) {
        let buffers = self.buffers(core);
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
            Err(_) => failed(core, &datagram, (nix::Error::ECONNREFUSED, entry.admission)),
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
