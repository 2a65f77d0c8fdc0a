//! The decisions.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::class::{Class, Segment, embedded, nat64};
use super::host::HostAddresses;
use super::name::Name;
use super::rule::{Action, Direction, Pattern, Protocol, Rule, Target};
use super::scope::Scope;

/// Who is at the other end of a connection that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Who opens it.
    pub direction: Direction,
    /// The protocol.
    pub protocol: Protocol,
    /// The other end's address, as the packet has it.
    pub address: IpAddr,
    /// The port that is connected to: the other end's, or for [`Direction::In`] the sandbox's; `None` for ICMP.
    pub port: Option<u16>,
}

/// A decision about a [`Peer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be.
    pub allowed: bool,
    /// What decided.
    pub reason: Reason,
}

/// A decision about a name that is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameVerdict {
    /// Whether it may be.
    pub allowed: bool,
    /// What decided.
    pub reason: Reason,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A rule: its place in the list, from 1 on, and itself.
    Rule(usize, Arc<Rule>),
    /// No rule, hence the scope, and the class of the address.
    Scope(Scope, Class),
    /// No rule, hence the scope; nothing is known but a name.
    ScopeOfNames(Scope),
    /// A rule allows the name, but the name leads to a private address, which only rules about addresses open.
    PrivateAnswer(usize, Arc<Rule>, Class),
    /// No rule, and the port is published.
    Published,
    /// It would have to go through a proxy, and cannot.
    Proxy,
}

/// What a sandbox may reach, and who may reach it. It does not change: another one takes its place.
#[derive(Debug, Clone)]
pub struct Policy {
    scope: Scope,
    rules: Arc<[Arc<Rule>]>,
    segment: Arc<Segment>,
    host: HostAddresses,
}

/// A peer's address in every form that rules look at.
struct Place<'a> {
    address: IpAddr,
    class: Class,
    /// The IPv4 addresses inside it; what is denied is denied in every disguise.
    hidden: Vec<(IpAddr, Class)>,
    names: &'a [Name],
}

impl Policy {
    /// The policy of these rules, the first of which that matches decides, and of the scope where none does.
    #[must_use]
    pub fn new(scope: Scope, rules: Vec<Rule>, segment: Segment, host: HostAddresses) -> Self {
        let rules = rules.into_iter().map(Arc::new).collect();
        Self { scope, rules, segment: Arc::new(segment), host }
    }

    /// The same place with another scope and other rules.
    #[must_use]
    pub fn with_rules(&self, scope: Scope, rules: Vec<Rule>) -> Self {
        Self { scope, rules: rules.into_iter().map(Arc::new).collect(), ..self.clone() }
    }

    /// The same policy on a host whose addresses are now `host`.
    #[must_use]
    pub fn with_host(&self, host: HostAddresses) -> Self {
        Self { host, ..self.clone() }
    }

    /// Decides about `peer`; `names` are those for which DNS has answered the sandbox with this address.
    #[must_use]
    pub fn decide(&self, peer: &Peer, names: &[Name]) -> Verdict {
        let place = self.place(peer.address, names);
        let mut private = None;
        for (number, rule) in self.rules(peer.direction) {
            let about = rule.protocol.is_none_or(|protocol| protocol == peer.protocol)
                && rule.ports.contains(peer.port);
            if !about || !place.is_of(rule) {
                continue;
            }
            if place.is_private_answer(rule) {
                private = private.or(Some((number, rule)));
                continue;
            }
            return Verdict {
                allowed: rule.action == Action::Allow,
                reason: Reason::Rule(number, Arc::clone(rule)),
            };
        }
        // Sandboxes of a group reach each other as far as their scopes say, and need no published ports.
        if peer.direction == Direction::In && place.class != Class::Group {
            return Verdict { allowed: true, reason: Reason::Published };
        }
        let allowed = self.scope.reaches(place.class);
        let reason = match private {
            Some((number, rule)) if !allowed => Reason::PrivateAnswer(number, Arc::clone(rule), place.class),
            _ => Reason::Scope(self.scope, place.class),
        };
        Verdict { allowed, reason }
    }

    /// Whether some protocol and port of `address` can be reached by one of `names`: whether an answer with it is of use.
    #[must_use]
    pub fn could_reach(&self, address: IpAddr, names: &[Name]) -> bool {
        let place = self.place(address, names);
        for (_, rule) in self.rules(Direction::Out) {
            match rule.action {
                _ if !place.is_of(rule) || place.is_private_answer(rule) => {}
                Action::Allow => return true,
                Action::Deny if rule.is_whole() => return false,
                Action::Deny => {}
            }
        }
        self.scope.reaches(place.class)
    }

    /// Decides whether others are asked about `name`: whether there is anything that could be reached by it. Under the
    /// scopes `none` and `group` that takes a rule about the name, or about the whole internet: a question is a message, too.
    #[must_use]
    pub fn decide_name(&self, name: &Name) -> NameVerdict {
        let mut internet = true;
        for (number, rule) in self.rules(Direction::Out) {
            let verdict = |allowed| NameVerdict { allowed, reason: Reason::Rule(number, Arc::clone(rule)) };
            match (&rule.target, rule.action) {
                (Target::Name(pattern), _) if !pattern.matches(name) => {}
                (Target::Name(_), Action::Allow) => return verdict(true),
                (Target::Name(_), Action::Deny) if rule.is_whole() => return verdict(false),
                (target, Action::Allow) if internet && is_everywhere(target) => return verdict(true),
                (Target::Any, Action::Deny) if rule.is_whole() => return verdict(false),
                (Target::Class(Class::Internet), Action::Deny) if rule.is_whole() => internet = false,
                _ => {}
            }
        }
        let allowed = match self.scope {
            Scope::None | Scope::Group => false,
            Scope::Public => internet,
            Scope::Any => true,
        };
        NameVerdict { allowed, reason: Reason::ScopeOfNames(self.scope) }
    }

    /// The rule that denies `name` itself, whatever else leads to it: for names that stand for another in an answer.
    #[must_use]
    pub fn denies_alias(&self, name: &Name) -> Option<Reason> {
        let mut about = self
            .rules(Direction::Out)
            .filter(|(_, rule)| matches!(&rule.target, Target::Name(pattern) if pattern.matches(name)));
        let (number, rule) = about.find(|(_, rule)| rule.action == Action::Allow || rule.is_whole())?;
        (rule.action == Action::Deny).then(|| Reason::Rule(number, Arc::clone(rule)))
    }

    /// Where an address leads, seen from this sandbox on this host.
    #[must_use]
    pub fn class(&self, address: IpAddr) -> Class {
        let address = address.to_canonical();
        if let IpAddr::V6(v6) = address
            && let Some(behind) = nat64(v6)
        {
            // No translator leads back into a group.
            return Some(self.class(behind.into()))
                .filter(|class| *class != Class::Group)
                .unwrap_or(Class::Reserved);
        }
        match Class::of(address) {
            class @ (Class::Metadata | Class::Loopback | Class::Multicast) => class,
            _ if self.segment.gateways.contains(&address) || self.host.contains(address) => Class::Host,
            _ if self.segment.groups.iter().any(|net| net.contains(&address)) => Class::Group,
            // A neighbour is no stranger for having an address of the internet, as all have in IPv6.
            Class::Internet if self.host.is_neighbor(address) => Class::Lan,
            class => class,
        }
    }

    /// The rules of one direction with their places in the list.
    fn rules(&self, direction: Direction) -> impl Iterator<Item = (usize, &Arc<Rule>)> {
        (1..).zip(self.rules.iter()).filter(move |(_, rule)| rule.direction == direction)
    }

    fn place<'a>(&self, address: IpAddr, names: &'a [Name]) -> Place<'a> {
        let address = address.to_canonical();
        let hidden = match address {
            IpAddr::V4(_) => Vec::new(),
            IpAddr::V6(v6) => embedded(v6).into_iter().map(IpAddr::V4).collect(),
        };
        let hidden = hidden.into_iter().map(|address| (address, self.class(address))).collect();
        Place { address, class: self.class(address), hidden, names }
    }
}

impl Place<'_> {
    /// Whether the rule's target is this place.
    fn is_of(&self, rule: &Rule) -> bool {
        let disguised =
            |is: &dyn Fn(&(IpAddr, Class)) -> bool| rule.action == Action::Deny && self.hidden.iter().any(is);
        match &rule.target {
            Target::Any => true,
            Target::Net(net) => {
                contains(net, self.address) || disguised(&|(address, _)| contains(net, *address))
            }
            // Who calls from this machine's loopback is this machine.
            Target::Class(Class::Host)
                if rule.direction == Direction::In && self.class == Class::Loopback =>
            {
                true
            }
            Target::Class(class) => *class == self.class || disguised(&|(_, hidden)| hidden == class),
            Target::Name(pattern) => self.names.iter().any(|name| pattern.matches(name)),
        }
    }

    /// Whether the rule allows it by a name alone, whose owner could have it lead anywhere.
    fn is_private_answer(&self, rule: &Rule) -> bool {
        rule.action == Action::Allow
            && matches!(rule.target, Target::Name(Pattern::Exact(_) | Pattern::Below(_)))
            && !matches!(self.class, Class::Internet | Class::Group)
    }
}

/// Whether it contains the address; networks of mapped addresses are those of IPv4.
fn contains(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address)
        || match (net, address) {
            (IpNet::V6(net), IpAddr::V4(v4)) => net.prefix_len() >= 96 && net.contains(&v4.to_ipv6_mapped()),
            _ => false,
        }
}

fn is_everywhere(target: &Target) -> bool {
    match target {
        Target::Any | Target::Class(Class::Internet) => true,
        Target::Net(net) => net.prefix_len() == 0,
        _ => false,
    }
}

impl Reason {
    /// The rule that decided, if it was one.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Rule(_, rule) | Self::PrivateAnswer(_, rule, _) => Some(rule),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(number, rule) => write!(f, "rule {number}, `{rule}`"),
            Self::Scope(scope, class) if scope.reaches(*class) => {
                write!(f, "scope `{scope}`, which reaches {}", described(*class))
            }
            Self::Scope(scope, class) => {
                write!(f, "scope `{scope}`, which does not reach {}", described(*class))
            }
            Self::ScopeOfNames(scope @ (Scope::None | Scope::Group)) => {
                write!(f, "scope `{scope}`, in which only names are looked up that a rule allows")
            }
            Self::ScopeOfNames(scope) => write!(f, "scope `{scope}`"),
            Self::PrivateAnswer(number, rule, class) => {
                write!(
                    f,
                    "rule {number}, `{rule}`, is about a name, and the name leads to {}",
                    described(*class)
                )
            }
            Self::Proxy => f.write_str("a proxy is set, which carries TCP only"),
            Self::Published => f.write_str("the port is published, and no rule is about who connects to it"),
        }
    }
}

/// The class as a place in a sentence.
fn described(class: Class) -> &'static str {
    match class {
        Class::Group => "its groups",
        Class::Host => "the host",
        Class::Internet => "the internet",
        Class::Lan => "private networks (lan)",
        Class::LinkLocal => "link-local addresses",
        Class::Loopback => "the host's loopback",
        Class::Metadata => "metadata services",
        Class::Multicast => "multicast",
        Class::Reserved => "reserved addresses",
    }
}
