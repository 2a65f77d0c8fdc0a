//! Clients of published ports by UDP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::net::gateway::core::Core;
use crate::net::gateway::event::{Admission, End};
use crate::net::gateway::flow::Pair;
use crate::net::gateway::places::{PLACES, places};

/// How long a client is remembered (RFC 4787, REQ-5).
const REMEMBERED: Duration = Duration::from_secs(180);
/// Clients at once.
const MOST: usize = 4096;
/// Bytes of datagrams, of all clients, that are kept until the sandbox has answered.
const KEPT: usize = 1 << 20;

/// Which listener, and who came to it.
pub(super) type Caller = (usize, SocketAddr);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// By their pair with the sandbox.
    entries: HashMap<Pair, Client>,
    by_caller: HashMap<Caller, Pair>,
    /// Where the server of each listener has answered last.
    places: HashMap<usize, usize>,
    /// Bytes that are kept.
    kept: usize,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) caller: Caller,
    pub(super) used: Instant,
    admission: Option<Box<Admission>>,
    /// Bytes from the sandbox, and to it.
    pub(super) moved: (u64, u64),
    /// How the sandbox is called at the first of its places.
    first: Pair,
    /// At which it is called now, and how many in a row were found to be the wrong ones.
    place: usize,
    misses: usize,
    /// A server is there.
    answered: bool,
    /// The last datagram, in case nobody is there.
    last: Vec<u8>,
}

impl Clients {
    /// Whether there is a client of this pair.
    pub(super) fn knows(&self, pair: &Pair) -> bool {
        self.entries.contains_key(pair)
    }

    /// The pair of a client that is known.
    pub(super) fn pair_of(&self, caller: &Caller) -> Option<Pair> {
        self.by_caller.get(caller).copied()
    }

    /// Whether there is room for one more, perhaps where others have been quiet for long.
    pub(super) fn has_room(&mut self, core: &mut Core) -> bool {
        if self.entries.len() >= MOST {
            let now = core.now();
            self.forget(core, |client| client.used + REMEMBERED <= now);
        }
        if self.entries.len() >= MOST {
            core.report_limit("clients of UDP ports", MOST);
        }
        self.entries.len() < MOST
    }

    /// A new client that calls the sandbox by the pair `first`, or where the server was found before.
    pub(super) fn add(
        &mut self,
        core: &Core,
        caller: Caller,
        first: Pair,
        admission: Option<Box<Admission>>,
    ) -> Pair {
        let place = self.places.get(&caller.0).copied().unwrap_or(0);
        let found = places(&core.link, &first)[place];
        let (place, pair) = if self.knows(&found) { (0, first) } else { (place, found) };
        let client = Client {
            caller,
            used: core.now(),
            admission,
            moved: (0, 0),
            first,
            place,
            misses: 0,
            answered: false,
            last: Vec::new(),
        };
        self.by_caller.insert(caller, pair);
        self.entries.insert(pair, client);
        pair
    }

    /// A datagram goes to the sandbox. It is kept as long as it is not known that somebody is there.
    pub(super) fn goes(&mut self, core: &Core, pair: &Pair, payload: &[u8]) {
        let Some(client) = self.entries.get_mut(pair) else { return };
        client.used = core.now();
        client.moved.1 += payload.len() as u64;
        if client.answered {
            return;
        }
        client.misses = 0;
        self.kept -= client.last.len();
        client.last.clear();
        if self.kept + payload.len() <= KEPT {
            client.last.extend_from_slice(payload);
            self.kept += payload.len();
        }
    }

    /// The sandbox answers: a server is where it was called.
    pub(super) fn answers(&mut self, core: &Core, pair: &Pair) -> Option<&mut Client> {
        let client = self.entries.get_mut(pair).filter(|client| client.used + REMEMBERED > core.now())?;
        client.used = core.now();
        if !client.answered {
            client.answered = true;
            self.places.insert(client.caller.0, client.place);
            self.kept -= client.last.len();
            client.last = Vec::new();
        }
        Some(client)
    }

    /// Nobody is where the sandbox was called: the next place, and what is to be said there once more. `None` where all of them
    /// have been tried.
    pub(super) fn moves_on(&mut self, core: &Core, pair: &Pair) -> Option<(Pair, &[u8])> {
        let mut client = self.entries.remove(pair)?;
        let places = places(&core.link, &client.first);
        let others = (1..PLACES).map(|step| (client.place + step) % PLACES);
        let free = others.into_iter().find(|place| !self.entries.contains_key(&places[*place]));
        // Its own is free again.
        client.place = free.unwrap_or(client.place);
        client.answered = false;
        client.misses += 1;
        if client.misses >= PLACES {
            self.kept -= client.last.len();
            client.last = Vec::new();
        }
        let pair = places[client.place];
        self.by_caller.insert(client.caller, pair);
        let client = self.entries.entry(pair).insert_entry(client).into_mut();
        (!client.last.is_empty()).then_some((pair, client.last.as_slice()))
    }

    fn forget(&mut self, core: &mut Core, which: impl Fn(&Client) -> bool) {
        let gone: Vec<Pair> =
            self.entries.iter().filter(|(_, client)| which(client)).map(|(pair, _)| *pair).collect();
        for pair in gone {
            self.remove(core, &pair, End::Closed);
        }
    }

    fn remove(&mut self, core: &mut Core, pair: &Pair, end: End) {
        let Some(gone) = self.entries.remove(pair) else { return };
        self.by_caller.remove(&gone.caller);
        self.kept -= gone.last.len();
        core.over(gone.admission, gone.moved, end);
    }

    /// Ends what the policy does not allow any more.
    pub(super) fn review(&mut self, core: &mut Core) {
        let all: Vec<Pair> = self.entries.keys().copied().collect();
        for pair in all {
            let admission = self.entries.get(&pair).and_then(|client| client.admission.as_ref());
            if let Some(reason) = admission.and_then(|admission| core.revoked(admission)) {
                self.remove(core, &pair, End::Revoked(reason));
            }
        }
    }

    /// All of them go with the gateway.
    pub(super) fn end(&mut self, core: &mut Core) {
        self.forget(core, |_| true);
    }
}
