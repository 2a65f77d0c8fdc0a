//! What all protocols share: the link, the policy, and what each of them does with either.

mod admission;
mod ways;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

pub(super) use ways::{dial, notice_death, unreachable_for};

use super::Settings;
use super::event::{Event, Observer};
use super::link::Link;
use super::members::Members;
use super::quota::Quota;
use super::stack::Stack;
use super::traffic::Counters;
use super::waiting::{Owner, Token, Waiting};
use super::wire::Output;
use crate::net::dns::{Hosts, Resolver, System};
use crate::net::intercept::Interceptor;
use crate::net::policy::{Class, HOST_NAME, HostAddresses, Name, Policy};
use crate::net::proxy::Proxy;

/// What all protocols share.
pub(super) struct Core {
    /// The addresses.
    pub(super) link: Link,
    /// TCP towards the sandbox.
    pub(super) stack: Stack,
    /// Frames to the sandbox.
    pub(super) output: Output,
    /// The other sandboxes of its groups.
    pub(super) members: Members,
    /// Names, and what they led to.
    pub(super) resolver: Resolver,
    /// What goes through, in numbers.
    pub(super) counters: Arc<Counters>,
    /// How much may go through.
    pub(super) quota: Quota,
    /// What is waited for.
    pub(super) waiting: Waiting,
    /// Through whom connections go.
    proxy: Option<Proxy>,
    /// Whether connections that were let through are reported at their end.
    log: bool,
    /// Who puts secrets in.
    interceptor: Option<Interceptor>,
    policy: Arc<Policy>,
    /// The host's addresses, and when they were read.
    host: (HostAddresses, Instant),
    system: System,
    observer: Observer,
}

impl Core {
    /// Everything at its beginning.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(
        settings: Settings,
        interceptor: Option<Interceptor>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let Settings { link, mut members, system, policy, .. } = settings;
        let host = HostAddresses::read()?;
        let hosts = hosts(&link, members.changed_names().unwrap_or_default());
        let now = Instant::now();
        // Random: the keys of hash maps are.
        let seed = RandomState::new().build_hasher().finish();
        Ok(Self {
            stack: Stack::new(&link, seed, now),
            resolver: Resolver::new(system.upstreams().clone(), hosts, host.has_ipv6()),
            policy: Arc::new(policy.with_host(host.clone())),
            host: (host, now),
            system,
            output: Output::new(&link),
            counters,
            quota: Quota::new(settings.limits.rates, now),
            waiting: Waiting::new()?,
            proxy: settings.proxy,
            log: settings.log,
            interceptor,
            link,
            members,
            observer: settings.observer,
        })
    }

    /// The time of this round.
    #[must_use]
    pub(super) fn now(&self) -> Instant {
        self.stack.now()
    }

    /// Bytes have gone through: so many from the sandbox, and to it.
    pub(super) fn moved(&mut self, moved: (u64, u64)) {
        self.counters.bytes(moved);
        self.quota.spend(moved);
    }

    /// Has those who wait for bytes that may go looked after when some may.
    pub(super) fn wait_for_quota(&mut self) {
        let now = self.now();
        if self.quota.is_news(now) {
            self.report(Event::Limit { what: "bandwidth", limit: self.quota.bytes_per_second() });
        }
        if let Some(at) = self.quota.arm() {
            self.waiting.wake_at(at, Token::new(Owner::Quota, 0, 0));
        }
    }

    /// Whether the sandbox may begin one more thing this second.
    pub(super) fn may_begin(&mut self) -> bool {
        let may = self.quota.begin(self.now());
        if !may {
            self.report_limit("new connections per second", self.quota.begun_per_second());
        }
        may
    }

    /// Reports the name that the resolver has just refused, if it has.
    pub(super) fn report_denied_name(&mut self) {
        if let Some((name, reason)) = self.resolver.take_denied() {
            self.counters.denied();
            self.report(Event::DeniedName { name, reason });
        }
    }

    /// Reports that there may be no more of something.
    pub(super) fn report_limit(&mut self, what: &'static str, limit: usize) {
        self.counters.limited();
        self.report(Event::Limit { what, limit });
    }

    /// Asks the DNS servers that the host asks now.
    pub(super) fn refresh_servers(&mut self) {
        // A file that cannot be read just now says nothing new.
        if let Ok(Some(upstreams)) = self.system.changed() {
            self.resolver.set_upstreams(upstreams.clone(), self.host.0.has_ipv6());
        }
    }

    /// Knows the names of the groups as they are now.
    pub(super) fn refresh_members(&mut self) {
        if let Some(names) = self.members.changed_names() {
            self.resolver.set_hosts(hosts(&self.link, names));
        }
    }

    /// Whether packets from the sandbox may have this source.
    #[must_use]
    pub(super) fn is_guest(&self, address: IpAddr) -> bool {
        self.link.is_guest(address) || self.members.is_own(address)
    }

    /// Whether `address` is for another sandbox of its groups: the policy takes it for one, and nothing else is reached by it.
    pub(super) fn is_member(&mut self, address: IpAddr) -> bool {
        self.members.seat_of(address).is_some() && self.current_policy().class(address) == Class::Group
    }

    /// Whether `address` is one of the host's.
    pub(super) fn is_host(&self, address: IpAddr) -> bool {
        self.host.0.contains(address)
    }

    /// Tells whoever listens.
    pub(super) fn report(&mut self, event: Event) {
        (self.observer)(event);
    }
}

/// How many of `limit` those may take who call the sandbox, so that it always has some left to call others.
pub(super) fn incoming(limit: usize) -> usize {
    limit - limit / 4
}

/// The names that are answered here: the host's, and those of the groups.
fn hosts(link: &Link, members: Vec<(Name, IpAddr)>) -> Hosts {
    let mut hosts = Hosts::default();
    if let Ok(name) = HOST_NAME.parse::<Name>() {
        hosts.add(name.clone(), link.gateway_v4.into());
        hosts.add(name, link.gateway_v6.into());
    }
    for (name, address) in members {
        hosts.add(name, address);
    }
    hosts
}
