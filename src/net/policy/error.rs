//! What is wrong with a rule, and where in its text.

use std::ops::Range;

use thiserror::Error;

use super::name::NameError;

/// Longest text an error repeats, in characters.
const SHOWN: usize = 80;

/// Why a text is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a scope: there are none, group, public and any")]
pub struct ScopeError(pub(super) String);

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{part}` {problem}")]
pub struct RuleError {
    /// The part of the text that is wrong, shortened.
    pub part: String,
    /// Where in the text it is, in bytes.
    pub at: Range<usize>,
    /// What is wrong with it.
    pub problem: RuleProblem,
}

/// What can be wrong with a part of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleProblem {
    /// Longer than any rule.
    #[error("is longer than a rule can be")]
    TooLong,
    /// Neither `allow` nor `deny`.
    #[error("is no action: a rule begins with allow or deny, as in `allow example.com:443`")]
    Action,
    /// An action behind a flag that is one.
    #[error("is too much, the flag says it: leave it out")]
    ActionAgain,
    /// An action and nothing behind it.
    #[error(
        "does not say to whom: write a host name, an address, a network or a group, as in `allow example.com:443`"
    )]
    NoTarget,
    /// Words behind the target.
    #[error("is too much: a rule is one target, as in `allow tcp://example.com:443`")]
    Extra,
    /// Looks like a group of addresses and is none.
    #[error("is no group of addresses: write {instead}; for a host of this name write `{word}.`")]
    NoGroup {
        /// The word.
        word: &'static str,
        /// What may be meant.
        instead: &'static str,
    },
    /// Not a protocol.
    #[error("is not a protocol: there are tcp, udp and icmp")]
    Protocol,
    /// An address of the web.
    #[error("is an address of the web, and rules know of hosts and ports alone: write {0}")]
    Url(String),
    /// Neither a port nor a range of ports.
    #[error("is not a port, a range or a list of them, as in 443, 8000-8999 or 80,443; ports are 1 to 65535")]
    Ports,
    /// Ports with ICMP.
    #[error("cannot be: icmp has no ports")]
    PortsOfIcmp,
    /// More ports than are kept.
    #[error("are too many ports and ranges: a rule has at most 64")]
    TooManyPorts,
    /// Not an address between brackets.
    #[error("is not an IPv6 address or network")]
    Address,
    /// An address with the name of an interface.
    #[error("has a zone, and rules are about addresses wherever they are: leave out what begins with `%`")]
    Zone,
    /// A prefix length that is none.
    #[error("is not a network: behind the slash is a number of bits, at most 32 for IPv4 and 128 for IPv6")]
    Prefix,
    /// A network with bits behind its prefix.
    #[error("is not a network: it has bits set behind its prefix, {0} has not")]
    HostBits(ipnet::IpNet),
    /// An IPv6 address with something behind its last group that may be a port.
    #[error("is ambiguous: put an IPv6 address before a port in brackets, as in [2001:db8::1]:443")]
    Brackets,
    /// A star anywhere but in front.
    #[error("has a star where none can be: a suffix is written *.example.com")]
    Star,
    /// A star and nothing else.
    #[error("matches nothing by itself: everything is written `any`")]
    StarAlone,
    /// Looks like an IPv4 address and is none.
    #[error("is not an IPv4 address: it has four numbers from 0 to 255, in decimal")]
    Number,
    /// Not a host name.
    #[error("is not a host name: {0}")]
    Name(#[from] NameError),
    /// A name where the peer is who comes in, and has none.
    #[error(
        "is a name, and who connects to a published port has none: write an address, a network or a group"
    )]
    NameOfCaller,
}

/// The text as an error repeats it: one short line.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if text.chars().count() > SHOWN {
        short.push('…');
    }
    short
}
