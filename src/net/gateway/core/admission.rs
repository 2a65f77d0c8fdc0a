//! Who may talk to whom.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Core;
use crate::net::gateway::event::{Admission, End, Event};
use crate::net::policy::{Direction, HostAddresses, Peer, Policy, Protocol, Reason, Rule, Scope, Verdict};

/// How long the host's addresses are taken for what they were.
const HOST_READING: Duration = Duration::from_secs(1);

impl Core {
    /// Lets the sandbox talk to `address`, if it may; what it may not is reported. What is let through is to be said to be
    /// [over](Self::over).
    pub(in crate::net::gateway) fn reach(
        &mut self,
        protocol: Protocol,
        address: IpAddr,
        port: Option<u16>,
    ) -> Option<Box<Admission>> {
        self.admit(Peer { direction: Direction::Out, protocol, address, port })
    }

    /// The same in either direction.
    pub(in crate::net::gateway) fn admit(&mut self, peer: Peer) -> Option<Box<Admission>> {
        let since = self.now();
        let names = self.resolver.names_of(since, peer.address);
        let mut verdict = self.current_policy().decide(&peer, &names);
        let outside = peer.direction == Direction::Out && peer.protocol != Protocol::Tcp;
        if verdict.allowed && outside && self.goes_by_proxy(peer.address) {
            verdict = Verdict { allowed: false, reason: Reason::Proxy };
        }
        if !verdict.allowed {
            self.counters.denied();
            self.report(Event::Denied { peer, names, reason: verdict.reason });
            return None;
        }
        self.counters.begun();
        Some(Box::new(Admission { peer, names, reason: verdict.reason, since }))
    }

    /// What was let through is over, with so many bytes from the sandbox and to it. The gateway's own server needs no admission.
    pub(in crate::net::gateway) fn over(
        &mut self,
        admission: Option<Box<Admission>>,
        moved: (u64, u64),
        end: End,
    ) {
        let Some(admission) = admission else { return };
        self.counters.ended();
        if self.log || matches!(end, End::Revoked(_)) {
            let ended = admission.ended(self.now(), moved, end);
            self.report(Event::Ended(Box::new(ended)));
        }
    }

    /// The policy, on the host as it is now.
    pub(in crate::net::gateway) fn current_policy(&mut self) -> Arc<Policy> {
        let now = self.now();
        if now.saturating_duration_since(self.host.1) >= HOST_READING {
            // Where the kernel does not say, it is as it was.
            if let Ok(host) = HostAddresses::read()
                && host != self.host.0
            {
                self.policy = Arc::new(self.policy.with_host(host.clone()));
                self.host.0 = host;
            }
            self.host.1 = now;
        }
        Arc::clone(&self.policy)
    }

    /// From now on this scope and these rules.
    pub(in crate::net::gateway) fn set_rules(&mut self, scope: Scope, rules: Vec<Rule>) {
        self.policy = Arc::new(self.policy.with_rules(scope, rules));
    }

    /// Why what was let through may not be any more. It is known by the names by which it was let through as well as those of now.
    pub(in crate::net::gateway) fn revoked(&mut self, admission: &Admission) -> Option<Reason> {
        let mut names = self.resolver.names_of(self.now(), admission.peer.address);
        names.extend(admission.names.iter().cloned());
        let verdict = self.current_policy().decide(&admission.peer, &names);
        (!verdict.allowed).then_some(verdict.reason)
    }
}
