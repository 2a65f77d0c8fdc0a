//! Why a connection is let through or not.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;

use super::Network;
use super::dns::{Hosts, Resolver, System};
use super::gateway::Link;
use super::group::Known;
use super::policy::{
    Class, Direction, HostAddresses, Name, Peer, Policy, Protocol, Reason, Rule, Scope, Segment,
};
use super::proxy::ProxySource;

mod others;
mod published;
mod whom;

pub use others::Circle;
use whom::Place;
pub use whom::{ExplainError, Whom};

/// What was decided and why, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Who was asked about.
    pub peer: String,
    /// Whether the connection can be made: with a name of several addresses, to one of them. `None` if that cannot be said, as
    /// when no name server answers.
    pub allowed: Option<bool>,
    /// What is decided on the way there.
    pub steps: Vec<Decision>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// About what.
    pub what: String,
    /// The address, if it is about one.
    pub address: Option<IpAddr>,
    /// Where it leads, if it is about an address.
    pub class: Option<Class>,
    /// How; `None` if nobody could decide.
    pub allowed: Option<bool>,
    /// By what.
    pub reason: String,
    /// The rule that decided, if one did.
    pub rule: Option<Rule>,
}

impl Network {
    /// Explains what becomes of a connection of the sandbox to `whom`, or with [`Direction::In`] of one that `whom` makes to a published
    /// port. Names are looked up as the sandbox's would be, those of its groups first; the answer is about this moment.
    ///
    /// # Errors
    /// [`ExplainError::System`], [`ExplainError::NameOfCaller`].
    pub fn explain(
        &self,
        whom: &Whom,
        direction: Direction,
        circle: &Circle<'_>,
    ) -> Result<Explanation, ExplainError> {
        let system = |what| move |source| ExplainError::System { what, source };
        let host = HostAddresses::read().map_err(system("the addresses"))?;
        let link = Link::default();
        let groups = circle.groups;
        let segment = Segment { groups: groups.iter().map(|group| group.subnet).collect(), ..link.segment() };
        let policy = self.policy(segment, host.clone());
        let at = |address: IpAddr| match self.closed(&policy, (whom, direction), address) {
            Some(why) => failed(whom.text.clone(), &why),
            None => decision(&policy, whom, direction, (address, &[])),
        };
        let mut steps = match &whom.place {
            Place::Host => vec![at(link.gateway_v4.into())],
            Place::Address(address) => vec![at(*address)],
            Place::Name(name) => match members(groups, name) {
                at if !at.is_empty() => as_member(&policy, (whom, direction), name, &at),
                _ if direction == Direction::In => {
                    return Err(ExplainError::NameOfCaller(whom.text.clone()));
                }
                _ => {
                    // Nothing is held back here: what is private is to be explained.
                    let everything = Policy::new(Scope::Any, Vec::new(), link.segment(), host.clone());
                    looked_up(&policy, whom, name, &everything).map_err(system("the name servers"))?
                }
            },
        };
        if direction == Direction::Out && whom.place != Place::Host {
            match &self.proxy {
                Some(proxy) => through(proxy, whom, &mut steps),
                None => find_ways(&mut steps),
            }
        }
        let of_group = |step: &Decision| {
            step.address.filter(|_| step.class == Some(Class::Group) && step.allowed == Some(true))
        };
        let others: Vec<IpAddr> = steps.iter().filter_map(of_group).collect();
        steps
            .extend(others.into_iter().filter_map(|other| circle.other_end((whom, direction), other, &host)));
        Ok(Explanation { peer: whom.text.clone(), allowed: overall(&steps), steps })
    }

    /// Why nobody can call from `address`, unless it is a sandbox of a group.
    fn closed(
        &self,
        policy: &Policy,
        (whom, direction): (&Whom, Direction),
        address: IpAddr,
    ) -> Option<String> {
        let class = policy.class(address);
        match direction {
            Direction::In if class != Class::Group => self.is_unpublished(whom, (address, class)),
            _ => None,
        }
    }
}

/// What the steps come to: every one of those about nothing in particular must be, and all of those about one address.
fn overall(steps: &[Decision]) -> Option<bool> {
    let all = |mut of: Vec<Option<bool>>| {
        // What is refused is refused, whatever else is not known.
        of.sort_by_key(|allowed| [Some(false), None, Some(true)].iter().position(|order| order == allowed));
        of.first().copied().unwrap_or(Some(true))
    };
    let about =
        |address| all(steps.iter().filter(|step| step.address == address).map(|step| step.allowed).collect());
    let ways: Vec<Option<bool>> =
        steps.iter().filter(|step| step.address.is_some()).map(|step| about(step.address)).collect();
    let way = match ways.as_slice() {
        [] => Some(true),
        ways if ways.contains(&Some(true)) => Some(true),
        ways if ways.contains(&None) => None,
        _ => Some(false),
    };
    all(vec![about(None), way])
}

/// The decisions about a name of the sandbox's groups, which leads to these addresses.
fn as_member(
    policy: &Policy,
    (whom, direction): (&Whom, Direction),
    name: &Name,
    at: &[IpAddr],
) -> Vec<Decision> {
    if let Some(why) = policy.denies_alias(name) {
        return vec![about_name(format!("look up {name}"), false, &why)];
    }
    let names = std::slice::from_ref(name);
    at.iter().map(|address| decision(policy, whom, direction, (*address, names))).collect()
}

/// The decisions about a name that this machine's name servers are asked about, as `everything` lets them answer.
fn looked_up(policy: &Policy, whom: &Whom, name: &Name, everything: &Policy) -> io::Result<Vec<Decision>> {
    let verdict = policy.decide_name(name);
    let mut steps = vec![about_name(format!("look up {name}"), verdict.allowed, &verdict.reason)];
    if verdict.allowed {
        let mut servers = System::default();
        servers.changed()?;
        let mut resolver = Resolver::new(servers.upstreams().clone(), Hosts::default(), true);
        addresses(&mut steps, policy, whom, (name, resolver.look_up(name, everything), &resolver));
    }
    Ok(steps)
}

/// What a proxy makes of connections that are allowed.
fn through(proxy: &ProxySource, whom: &Whom, steps: &mut [Decision]) {
    for step in steps.iter_mut().filter(|step| step.address.is_some() && step.allowed == Some(true)) {
        if step.class == Some(Class::Host) {
        } else if whom.protocol == Protocol::Tcp {
            step.what.push_str(&format!(" through {proxy}"));
        } else {
            (step.allowed, step.reason) = (Some(false), Reason::Proxy.to_string());
        }
    }
}

/// Looks for a way to what is allowed and is neither this machine nor in a group.
fn find_ways(steps: &mut Vec<Decision>) {
    let outside = |step: &&Decision| {
        step.allowed == Some(true) && !matches!(step.class, Some(Class::Host | Class::Group))
    };
    let addresses = steps.iter().filter(outside).filter_map(|step| step.address);
    let missing: Vec<IpAddr> = addresses.filter(|address| !has_route(*address)).collect();
    steps.extend(missing.into_iter().map(|address| Decision {
        address: Some(address),
        ..failed(format!("find a way to {address}"), "this machine has no route there")
    }));
}

/// Whether this machine knows a way to `address`. Nothing is sent.
fn has_route(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port is needed, and which one it is plays no part.
    std::net::UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect((address, 9)).is_ok())
}

/// Where in its groups the sandbox finds the name.
fn members(groups: &[Known], wanted: &Name) -> Vec<IpAddr> {
    groups
        .iter()
        .flat_map(Known::names)
        .filter(|(name, _)| name == wanted)
        .map(|(_, address)| address)
        .collect()
}

/// The decisions about the addresses of a name.
fn addresses(
    steps: &mut Vec<Decision>,
    policy: &Policy,
    whom: &Whom,
    (name, found, resolver): (&Name, io::Result<Vec<IpAddr>>, &Resolver),
) {
    let found = match found {
        Ok(found) if found.is_empty() => Err(format!("{name} has no address")),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    };
    let found = match found {
        Ok(found) => found,
        Err(reason) => return steps.push(undecided(format!("find {name}"), &reason)),
    };
    for address in found {
        let names = resolver.names_of(Instant::now(), address);
        if let Some((alias, reason)) = names.iter().find_map(|name| Some((name, policy.denies_alias(name)?)))
        {
            return steps.push(about_name(format!("look up {alias}"), false, &reason));
        }
        steps.push(decision(policy, whom, Direction::Out, (address, &names)));
    }
}

/// A step that comes to nothing, without anybody's decision.
fn failed(what: String, reason: &str) -> Decision {
    Decision { allowed: Some(false), ..undecided(what, reason) }
}

/// A step of which nobody knows what it comes to.
fn undecided(what: String, reason: &str) -> Decision {
    Decision { what, address: None, class: None, allowed: None, reason: reason.to_owned(), rule: None }
}

fn about_name(what: String, allowed: bool, reason: &Reason) -> Decision {
    let rule = reason.rule().cloned();
    let reason = reason.to_string();
    Decision { what, address: None, class: None, allowed: Some(allowed), reason, rule }
}

fn decision(
    policy: &Policy,
    whom: &Whom,
    direction: Direction,
    (address, names): (IpAddr, &[Name]),
) -> Decision {
    let peer = Peer { direction, protocol: whom.protocol, address, port: whom.port };
    let verdict = policy.decide(&peer, names);
    let class = policy.class(address);
    let shown = match (whom.port, address) {
        (None, _) => address.to_string(),
        (Some(port), IpAddr::V4(_)) => format!("{address}:{port}"),
        (Some(port), IpAddr::V6(_)) => format!("[{address}]:{port}"),
    };
    let way = match direction {
        Direction::Out => "connect to",
        Direction::In => "connect from",
    };
    Decision {
        what: format!("{way} {}://{shown}", whom.protocol),
        address: Some(address),
        class: Some(class),
        allowed: Some(verdict.allowed),
        reason: verdict.reason.to_string(),
        rule: verdict.reason.rule().cloned(),
    }
}

#[cfg(test)]
mod tests;
