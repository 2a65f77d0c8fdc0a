//! Why a connection is let through or not.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;
use thiserror::Error;

use super::Network;
use super::dns::{Hosts, Resolver, System};
use super::gateway::Link;
use super::group::Known;
use super::policy::{
    Action, Class, Direction, HostAddresses, Name, Pattern, Peer, Policy, Protocol, Reason, Rule, RuleError,
    Scope, Segment, Target,
};
use super::port::{PortSpec, Transport};
use super::proxy::ProxySource;

/// Who is at the other end, as people write it: `tcp://example.com:443`, `udp://10.0.0.1:53`, `https://example.com`, `icmp://1.1.1.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whom {
    text: String,
    protocol: Protocol,
    port: Option<u16>,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Host,
    Address(IpAddr),
    Name(Name),
}

/// Why a text is not a [`Whom`], or cannot be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// It is written wrongly.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// It stands for more than one address or name.
    #[error("`{0}` is more than one place: name a host or an address, as in tcp://example.com:443")]
    Many(String),
    /// There is no port.
    #[error("`{0}` does not say which port: write it as tcp://example.com:443")]
    NoPort(String),
    /// A name where only addresses are.
    #[error("`{0}` is a name, and who connects to a published port has none: write an address")]
    NameOfCaller(String),
    /// The addresses or name servers of this machine cannot be read.
    #[error("cannot read {what} of this machine")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// What was decided and why, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Who was asked about.
    pub peer: String,
    /// Whether the connection can be made: with a name of several addresses, to one of them.
    pub allowed: bool,
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
    /// How.
    pub allowed: bool,
    /// By what.
    pub reason: String,
    /// The rule that decided, if one did.
    pub rule: Option<Rule>,
}

impl std::str::FromStr for Whom {
    type Err = ExplainError;

    fn from_str(text: &str) -> Result<Self, ExplainError> {
        let web = [("https://", 443), ("http://", 80)];
        let url = web.iter().find_map(|(scheme, port)| Some((text.strip_prefix(scheme)?, *port)));
        let (rule, default) = match url {
            None => (Rule::with_action(Action::Allow, text)?, None),
            Some((rest, port)) => {
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                (Rule::with_action(Action::Allow, &format!("tcp://{authority}"))?, Some(port))
            }
        };
        let place = match rule.target {
            Target::Class(Class::Host) => Place::Host,
            Target::Net(net) if net.prefix_len() == net.max_prefix_len() => Place::Address(net.addr()),
            Target::Name(Pattern::Exact(name)) => Place::Name(name),
            _ => return Err(ExplainError::Many(text.to_owned())),
        };
        let protocol = rule.protocol.unwrap_or(Protocol::Tcp);
        let port = rule.ports.single().or(default.filter(|_| rule.ports.is_all()));
        if protocol != Protocol::Icmp && port.is_none() {
            return Err(ExplainError::NoPort(text.to_owned()));
        }
        Ok(Self { text: text.to_owned(), protocol, port, place })
    }
}

impl Network {
    /// Explains what becomes of a connection of the sandbox to `whom`, or with [`Direction::In`] of one that `whom` makes to a published
    /// port. Names are looked up as the sandbox's would be, those of its `groups` first; the answer is about this moment.
    ///
    /// # Errors
    /// [`ExplainError::System`], [`ExplainError::NameOfCaller`].
    pub fn explain(
        &self,
        whom: &Whom,
        direction: Direction,
        groups: &[Known],
    ) -> Result<Explanation, ExplainError> {
        let system = |what| move |source| ExplainError::System { what, source };
        let host = HostAddresses::read().map_err(system("the addresses"))?;
        let link = Link::default();
        let segment = Segment { groups: groups.iter().map(|group| group.subnet).collect(), ..link.segment() };
        let policy = self.policy(segment, host.clone());
        let mut steps = match (direction, &whom.place) {
            (Direction::In, _) if !is_in_group(&policy, whom, groups) && !self.publishes(whom) => {
                vec![failed(whom.text.clone(), "no port of the sandbox of this number is published")]
            }
            (_, Place::Host) => vec![decision(&policy, whom, direction, (link.gateway_v4.into(), &[]))],
            (_, Place::Address(address)) => vec![decision(&policy, whom, direction, (*address, &[]))],
            (_, Place::Name(name)) => match members(groups, name) {
                at if !at.is_empty() => as_member(&policy, (whom, direction), name, &at),
                _ if direction == Direction::In => {
                    return Err(ExplainError::NameOfCaller(whom.text.clone()));
                }
                _ => {
                    // Nothing is held back here: what is private is to be explained.
                    let everything = Policy::new(Scope::Any, Vec::new(), link.segment(), host);
                    looked_up(&policy, whom, name, &everything).map_err(system("the name servers"))?
                }
            },
        };
        let mut allowed = steps.iter().any(|step| step.address.is_some() && step.allowed);
        if direction == Direction::Out && whom.place != Place::Host {
            match &self.proxy {
                Some(proxy) => {
                    through(proxy, whom, &mut steps);
                    allowed = steps.iter().any(|step| step.address.is_some() && step.allowed);
                }
                None => allowed &= find_ways(&mut steps),
            }
        }
        Ok(Explanation { peer: whom.text.clone(), allowed, steps })
    }
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
    for step in steps.iter_mut().filter(|step| step.address.is_some() && step.allowed) {
        if step.class == Some(Class::Host) {
        } else if whom.protocol == Protocol::Tcp {
            step.what.push_str(&format!(" through {proxy}"));
        } else {
            (step.allowed, step.reason) = (false, Reason::Proxy.to_string());
        }
    }
}

/// Looks for a way to what is allowed and is neither this machine nor in a group; `false` if there is none to any of it.
fn find_ways(steps: &mut Vec<Decision>) -> bool {
    let outside = |step: &&Decision| step.allowed && !matches!(step.class, Some(Class::Host | Class::Group));
    let ways: Vec<(IpAddr, bool)> = steps
        .iter()
        .filter(outside)
        .filter_map(|step| Some((step.address?, has_route(step.address?))))
        .collect();
    let missing = ways.iter().filter(|(_, found)| !found);
    steps.extend(
        missing.map(|(address, _)| {
            failed(format!("find a way to {address}"), "this machine has no route there")
        }),
    );
    ways.is_empty() || ways.iter().any(|(_, found)| *found)
}

impl Network {
    /// Whether the port may be published; which ports the image exposes is not known here.
    fn publishes(&self, whom: &Whom) -> bool {
        let transport = match whom.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Icmp => return false,
        };
        let same = |spec: &PortSpec| {
            spec.transport == transport && spec.pairs().any(|(_, guest)| Some(guest) == whom.port)
        };
        self.publish_exposed || self.ports.iter().any(same)
    }
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

/// Whether it is a sandbox of these groups.
fn is_in_group(policy: &Policy, whom: &Whom, groups: &[Known]) -> bool {
    match &whom.place {
        Place::Address(address) => policy.class(*address) == Class::Group,
        Place::Name(name) => !members(groups, name).is_empty(),
        Place::Host => false,
    }
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
        Err(reason) => return steps.push(failed(format!("find {name}"), &reason)),
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
    Decision { what, address: None, class: None, allowed: false, reason: reason.to_owned(), rule: None }
}

fn about_name(what: String, allowed: bool, reason: &Reason) -> Decision {
    let rule = reason.rule().cloned();
    Decision { what, address: None, class: None, allowed, reason: reason.to_string(), rule }
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
        allowed: verdict.allowed,
        reason: verdict.reason.to_string(),
        rule: verdict.reason.rule().cloned(),
    }
}

#[cfg(test)]
mod tests;
