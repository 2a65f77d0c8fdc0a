//! The resolver: from a question to its answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use hickory_proto::op::ResponseCode;

use super::asked::{Asked, Content, Extended, Reading};
use super::cache::Cache;
use super::exchange::{Exchange, Reply};
use super::local::Hosts;
use super::pins::Pins;
use super::{Question, Step, Transport, Upstreams, chain};
use crate::net::policy::{Name, Policy};

/// Most questions that are under way at once: each holds a socket.
const MOST_PENDING: usize = 256;

/// Answers one sandbox's questions for names.
#[derive(Debug)]
pub struct Resolver {
    upstreams: Upstreams,
    /// The place in the list of the server that answered last.
    preferred: usize,
    hosts: Hosts,
    ipv6: bool,
    cache: Cache,
    pins: Pins,
    pending: HashMap<u64, Exchange>,
    next: u64,
    /// What the policy has refused in the last step, and why.
    denied: Option<(Name, String)>,
}

impl Resolver {
    /// A resolver that asks `upstreams`, and knows `hosts` itself. `ipv6` is whether this host gets anywhere over IPv6: if not,
    /// IPv6 addresses are left out of answers.
    #[must_use]
    pub fn new(upstreams: Upstreams, hosts: Hosts, ipv6: bool) -> Self {
        Self {
            upstreams,
            preferred: 0,
            hosts,
            ipv6,
            cache: Cache::default(),
            pins: Pins::default(),
            pending: HashMap::new(),
            next: 0,
            denied: None,
        }
    }

    /// Asks other servers from now on, and forgets what the old ones said.
    pub fn set_upstreams(&mut self, upstreams: Upstreams, ipv6: bool) {
        self.upstreams = upstreams;
        self.ipv6 = ipv6;
        self.preferred = 0;
        self.cache.clear();
    }

    /// Changes the names that are answered without asking anybody.
    pub fn set_hosts(&mut self, hosts: Hosts) {
        self.hosts = hosts;
    }

    /// A question of the sandbox.
    pub fn ask(&mut self, now: Instant, question: Question<'_>, policy: &Policy) -> Step {
        let asked = match Asked::read(question) {
            Reading::Asked(asked) => asked,
            Reading::Wrong(answer) => return Step::Answer(answer),
            Reading::Nothing => return Step::Drop,
        };
        let Some(name) = chain::policy_name(&asked.query.name) else { return Step::Drop };
        if let Some(content) = self.hosts.answer(&asked, &name, policy) {
            self.note(&asked, &content);
            return Step::Answer(asked.answer(content));
        }
        let verdict = policy.decide_name(&name);
        if !verdict.allowed {
            let content = Content::refused(Extended::blocked(verdict.reason));
            self.note(&asked, &content);
            return Step::Answer(asked.answer(content));
        }
        if let Some(content) = self.cache.get(now, &asked, &name) {
            return self.finish(now, &asked, content, policy);
        }
        if self.pending.len() >= MOST_PENDING {
            return give_up(&asked, ResponseCode::ServFail, "too many questions at once");
        }
        let id = self.next;
        self.next += 1;
        let exchange = Exchange::new(asked, &self.upstreams, self.preferred);
        self.send(id, exchange, (self.upstreams.transport, true))
    }

    /// What came back on the socket of the [`Forward`](super::Forward) with this id.
    pub fn answered(&mut self, now: Instant, id: u64, message: &[u8], policy: &Policy) -> Step {
        let Some(mut exchange) = self.pending.remove(&id) else { return Step::Drop };
        match exchange.reply(message) {
            Reply::Foreign => {
                self.pending.insert(id, exchange);
                Step::Wait
            }
            Reply::Again(transport, edns) => self.send(id, exchange, (transport, edns)),
            Reply::Next => self.next_server(id, exchange),
            Reply::Content(content) => {
                let server = exchange.server();
                let place = self.upstreams.servers.iter().position(|known| Some(*known) == server);
                self.preferred = place.unwrap_or(self.preferred);
                let asked = exchange.asked;
                if let Some(name) = chain::policy_name(&asked.query.name) {
                    self.cache.put(now, &asked, &name, (&content, message.len()));
                }
                self.finish(now, &asked, content, policy)
            }
        }
    }

    /// Nothing came back in time, or the server could not be reached.
    pub fn timed_out(&mut self, id: u64) -> Step {
        match self.pending.remove(&id) {
            Some(exchange) => self.next_server(id, exchange),
            None => Step::Drop,
        }
    }

    /// The sandbox no longer waits for this question.
    pub fn abandon(&mut self, id: u64) {
        self.pending.remove(&id);
    }

    /// The name that the policy kept from the sandbox in the last step, or whose addresses, and why.
    pub fn take_denied(&mut self) -> Option<(Name, String)> {
        self.denied.take()
    }

    /// The names for which the sandbox was given `address` and which still count: what rules about names go by.
    #[must_use]
    pub fn names_of(&self, now: Instant, address: IpAddr) -> Vec<Name> {
        let address = address.to_canonical();
        self.pins.names(now, address).chain(self.hosts.names(address)).cloned().collect()
    }

    fn next_server(&mut self, id: u64, mut exchange: Exchange) -> Step {
        exchange.give_up_server();
        self.send(id, exchange, (self.upstreams.transport, true))
    }

    /// Sends to the next server there is; answers that there is none.
    fn send(&mut self, id: u64, mut exchange: Exchange, (transport, edns): (Transport, bool)) -> Step {
        match exchange.send(id, &self.upstreams, transport, edns) {
            Some(forward) => {
                self.pending.insert(id, exchange);
                Step::Forward(forward)
            }
            None => {
                let words = if self.upstreams.servers.is_empty() {
                    "this machine has no name server"
                } else {
                    "no name server of this machine answered"
                };
                give_up(&exchange.asked, exchange.failure(), words)
            }
        }
    }

    /// What the policy leaves of an answer; its addresses are good for rules about names from now on, unless it was asked for unchecked:
    /// a resolver of the host that checks signatures gives forged ones as well then, which whoever asks would have to throw away.
    fn finish(&mut self, now: Instant, asked: &Asked, content: Content, policy: &Policy) -> Step {
        let fit = chain::fit(asked, content, policy, self.ipv6);
        if !asked.unchecked {
            for (address, ttl) in &fit.addresses {
                self.pins.pin(now, address.to_canonical(), &fit.names, *ttl);
            }
        }
        self.note(asked, &fit.content);
        Step::Answer(asked.answer(fit.content))
    }

    /// Keeps in mind what the policy has refused, if it has.
    fn note(&mut self, asked: &Asked, content: &Content) {
        if let Some(words) = content.extended.as_ref().and_then(Extended::policy_words)
            && let Some(name) = chain::policy_name(&asked.query.name)
        {
            self.denied = Some((name, words.to_owned()));
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> ((usize, usize), usize, usize) {
        (self.cache.size(), self.pins.len(), self.pending.len())
    }
}

fn give_up(asked: &Asked, code: ResponseCode, words: &str) -> Step {
    let extended = Some(Extended::unreachable(words));
    Step::Answer(asked.answer(Content { extended, ..Content::of_code(code) }))
}
