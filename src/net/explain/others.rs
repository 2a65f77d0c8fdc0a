//! What the sandbox at the other end, of the same group, has to say.

use std::net::IpAddr;
use std::path::Path;

use super::{Decision, Whom, undecided};
use crate::net::Network;
use crate::net::gateway::Link;
use crate::net::group::Known;
use crate::net::policy::{Direction, HostAddresses, Name, Peer, Segment};

/// A sandbox's place among others, as far as its connections depend on them.
pub struct Circle<'a> {
    /// Its groups.
    pub groups: &'a [Known],
    /// Where it keeps what it writes; what flags alone say is nobody who is in a group yet.
    pub folder: Option<&'a Path>,
    /// The network of the sandbox that keeps what it writes in a folder; `None` where that cannot be known.
    pub network: &'a dyn Fn(&Path) -> Option<Network>,
}

impl Circle<'_> {
    /// A sandbox that is in no group.
    #[must_use]
    pub fn nobody() -> Self {
        Self { groups: &[], folder: None, network: &|_| None }
    }

    /// What the sandbox at `address` decides about the connection with ours, whose end `direction` is; `None` if nobody is there.
    pub(super) fn other_end(
        &self,
        (whom, direction): (&Whom, Direction),
        address: IpAddr,
        host: &HostAddresses,
    ) -> Option<Decision> {
        let (group, name, folder) = self.groups.iter().find_map(|group| {
            let (name, folder) = group.member_at(address)?;
            Some((group, name, folder))
        })?;
        let (theirs, what) = match direction {
            Direction::Out => (Direction::In, format!("{name}: be connected to by the sandbox")),
            Direction::In => (Direction::Out, format!("{name}: connect to the sandbox")),
        };
        let Some(network) = folder.and_then(self.network) else {
            let asked = if theirs == Direction::In { "--from " } else { "" };
            let own = format!("its own rules decide too: `msb net explain {name} {asked}…`");
            return Some(Decision { address: Some(address), ..undecided(what, &own) });
        };
        // Who has no place there yet gets some address of the group.
        let own = self.folder.and_then(|folder| group.address_of(folder)).unwrap_or(group.subnet.addr());
        let names: Vec<Name> = group.names().filter(|(_, at)| *at == own).map(|(name, _)| name).collect();
        let names = if theirs == Direction::Out { names.as_slice() } else { &[] };
        let segment = Segment { groups: vec![group.subnet], ..Link::default().segment() };
        let peer = Peer { direction: theirs, protocol: whom.protocol, address: own, port: whom.port };
        let verdict = network.policy(segment, host.clone()).decide(&peer, names);
        Some(Decision {
            what,
            address: Some(address),
            class: None,
            allowed: Some(verdict.allowed),
            reason: format!("{} of {name}", verdict.reason),
            rule: verdict.reason.rule().cloned(),
        })
    }
}
