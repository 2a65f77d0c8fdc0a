//! Connections to the sandbox.

use std::os::fd::OwnedFd;

use super::{Stage, Tcp};
use crate::net::gateway::buffers::Buffers;
use crate::net::gateway::core::{Core, incoming};
use crate::net::gateway::event::{Admission, End, Event};
use crate::net::gateway::flow::{Flow, Pair};
use crate::net::gateway::places::places;

/// Why nobody was called.
const REFUSED: &str = "nothing in the sandbox listens there";

impl Tcp {
    /// Connects somebody to the sandbox.
    pub(in crate::net::gateway) fn call(
        &mut self,
        core: &mut Core,
        pair: Pair,
        client: OwnedFd,
        admission: Option<Box<Admission>>,
    ) {
        match self.check_limit(core, incoming(self.limit)).and_then(|()| self.buffers(core)) {
            Ok(buffers) => self.try_call(core, (pair, pair, 0), (client, buffers), admission),
            Err(end) => core.over(admission, (0, 0), end),
        }
    }

    /// Connects another sandbox to this one, at the very address it called: what listens elsewhere in it is not for the group. A call
    /// that is not taken ends without an answer.
    pub(in crate::net::gateway) fn call_of_member(
        &mut self,
        core: &mut Core,
        pair: Pair,
        caller: OwnedFd,
        admission: Option<Box<Admission>>,
    ) {
        let buffers = match self.check_limit(core, incoming(self.limit)).and_then(|()| self.buffers(core)) {
            Ok(buffers) => buffers,
            Err(end) => return core.over(admission, (0, 0), end),
        };
        // It may call again from the same port before it is known here that the old call is over.
        if let Some(index) = self.by_pair.get(&pair).copied() {
            self.remove(core, index, End::Closed);
        }
        let mut flow = Box::new(Flow::new(caller, buffers).relayed());
        match flow.call(&pair, &mut core.stack) {
            Ok(()) => {
                let index = self.add(pair, Stage::Hailed { flow, told: false }, admission);
                self.begin(core, index);
            }
            Err(_) => core.over(admission, (0, 0), End::Failed(REFUSED.into())),
        }
    }

    /// Watches the socket of a connection that has come to the sandbox, and gives it its first turn.
    fn begin(&mut self, core: &mut Core, index: usize) {
        let token = self.token(index);
        let Some(flow) = self.entries[index].flow() else { return };
        // Called again under another token: the old one is told apart by its generation.
        if let Err(error) = core.waiting.watch_again(flow, token) {
            core.report(Event::NoResources { call: "epoll_ctl", reason: error.to_string() });
            return self.remove(core, index, End::Failed(error.to_string()));
        }
        self.queue(index);
    }

    fn try_call(
        &mut self,
        core: &mut Core,
        (pair, first, place): (Pair, Pair, usize),
        (client, buffers): (OwnedFd, Buffers),
        admission: Option<Box<Admission>>,
    ) {
        let mut flow = Box::new(Flow::new(client, buffers));
        if flow.call(&pair, &mut core.stack).is_err() {
            flow.reset_peer();
            return core.over(admission, (0, 0), End::Failed(REFUSED.into()));
        }
        let index = self.add(pair, Stage::Called { flow, first, place }, admission);
        self.begin(core, index);
    }

    /// A connection has ended. One that the sandbox has not taken may be meant for a server that listens elsewhere in it.
    pub(super) fn over(&mut self, core: &mut Core, index: usize) {
        let Stage::Called { flow, first, place } = &self.entries[index].stage else {
            return self.remove(core, index, End::Closed);
        };
        if !flow.was_refused() {
            return self.remove(core, index, End::Closed);
        }
        let (first, place) = (*first, *place);
        // From the place after the last one on.
        let other = places(&core.link, &first).into_iter().enumerate().skip(place + 1);
        let other = other.into_iter().find(|(_, pair)| !self.by_pair.contains_key(pair));
        let entry = self.entries.remove(index);
        self.by_pair.remove(&entry.pair);
        let Stage::Called { flow, .. } = entry.stage else { return };
        match other {
            Some((place, pair)) => {
                let (client, buffers) = flow.into_parts();
                self.try_call(core, (pair, first, place), (client, buffers), entry.admission);
            }
            None => {
                flow.reset_peer();
                core.over(entry.admission, (0, 0), End::Failed(REFUSED.into()));
            }
        }
    }
}
