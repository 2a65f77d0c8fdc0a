//! Rules: what they consist of, and what they match.

use std::fmt;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::class::Class;
use super::name::Name;
use super::parse::{ANY, is_word};

/// One rule: `allow tcp://*.example.com:443`, `deny 10.0.0.0/8`, `allow from lan:8080`.
///
/// The grammar, which [`Rule::from_str`](std::str::FromStr::from_str) reads and [`Display`](fmt::Display) writes:
/// ```text
/// rule   = ("allow" | "deny") ["to" | "from"] [("tcp" | "udp" | "icmp") "://"] target [":" ports]
/// target = NAME | "*." NAME | ADDRESS | NETWORK "/" BITS | group | "any"       (IPv6 in brackets where ports follow)
/// group  = "group" | "host" | "internet" | "lan" | "link-local" | "loopback" | "metadata" | "multicast"
/// ports  = PORT | PORT "-" PORT, several with commas
/// ```
/// `to` (the default) is for what the sandbox connects to, `from` for who connects to its published ports, whose
/// ports are then those of the sandbox, and `host` is there whoever calls from this machine, its loopback included. Ports without a
/// protocol are those of TCP and of UDP. A host whose name is a word of the grammar, or one that people take for a group (`private`,
/// `all`), is written with a final dot: `deny any.`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Rule {
    /// What it says about what it matches.
    pub action: Action,
    /// Who opens the connections it is about.
    pub direction: Direction,
    /// The only protocol it is about; all if `None`.
    pub protocol: Option<Protocol>,
    /// Who is at the other end.
    pub target: Target,
    /// The only ports it is about; all if empty.
    pub ports: Ports,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It may be.
    Allow,
    /// It may not be.
    Deny,
}

/// Who opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// The sandbox.
    #[default]
    Out,
    /// Somebody else, to a published port.
    In,
}

/// A protocol above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6 echo.
    Icmp,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Everybody.
    Any,
    /// A network, or a single address as a network of one.
    Net(IpNet),
    /// A well-known group of addresses.
    Class(Class),
    /// Host names.
    Name(Pattern),
}

/// Which host names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This one.
    Exact(Name),
    /// Those below this one, at any depth, itself excluded.
    Below(Name),
}

/// A set of ports; the empty one stands for all, and for protocols without.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ports(pub(super) Vec<RangeInclusive<u16>>);

impl Pattern {
    /// Whether `name` is one of them.
    #[must_use]
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Below(parent) => name.is_below(parent),
        }
    }
}

impl Ports {
    /// The port, if it is one.
    #[must_use]
    pub fn single(&self) -> Option<u16> {
        match self.0.as_slice() {
            [range] if range.start() == range.end() => Some(*range.start()),
            _ => None,
        }
    }

    /// Whether it is about every port.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `port`, or a protocol without ports, is among them.
    #[must_use]
    pub fn contains(&self, port: Option<u16>) -> bool {
        self.is_all() || port.is_some_and(|port| self.0.iter().any(|range| range.contains(&port)))
    }
}

impl Rule {
    /// Whether it is about every protocol and port.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.protocol.is_none() && self.ports.is_all()
    }
}

impl Protocol {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str(ANY),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Net(net) => write!(f, "{net}"),
            Self::Class(class) => write!(f, "{class}"),
            Self::Name(Pattern::Exact(name)) if is_word(name) => write!(f, "{name}."),
            Self::Name(Pattern::Exact(name)) => write!(f, "{name}"),
            Self::Name(Pattern::Below(name)) => write!(f, "*.{name}"),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (start, end) if start == end => write!(f, "{comma}{start}")?,
                (start, end) => write!(f, "{comma}{start}-{end}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.action)?;
        if self.direction == Direction::In {
            f.write_str("from ")?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, "{protocol}://")?;
        }
        if self.ports.is_all() {
            return write!(f, "{}", self.target);
        }
        match &self.target {
            Target::Net(IpNet::V6(_)) => write!(f, "[{}]", self.target)?,
            target => write!(f, "{target}")?,
        }
        write!(f, ":{}", self.ports)
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}
