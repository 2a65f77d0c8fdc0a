//! Reading rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;

use super::class::Class;
use super::error::{RuleError, RuleProblem, shown};
use super::name::{Name, is_numeric};
use super::rule::{Action, Direction, Pattern, Ports, Protocol, Rule, Target};

/// Longest rule, in bytes.
const LONGEST_RULE: usize = 1024;
/// Most ports and ranges of a rule.
const MOST_PORTS: usize = 64;
/// The name by which a sandbox knows the machine it runs on.
pub const HOST_NAME: &str = "host.msb.internal";
/// The word for every target.
pub(super) const ANY: &str = "any";
/// The words for directions.
const TO: &str = "to";
const FROM: &str = "from";
/// Words that people take for groups of addresses, and what they may mean. A rule about a host of such a name would match nothing
/// in silence.
const NO_GROUPS: [(&str, &str); 16] = [
    ("all", "any"),
    ("everything", "any"),
    ("everyone", "any"),
    ("world", "any"),
    ("none", "the scope `none`"),
    ("private", "lan, loopback, link-local or metadata"),
    ("internal", "lan, loopback, link-local or metadata"),
    ("local", "lan, loopback, link-local or host"),
    ("localhost", "host for this machine, loopback for its loopback"),
    ("public", "internet"),
    ("external", "internet"),
    ("groups", "group"),
    ("lans", "lan"),
    ("links", "link-local"),
    ("cloud", "metadata"),
    ("imds", "metadata"),
];

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let reader = Reader { text };
        let (word, rest) = reader.words(text);
        let action = match word {
            "allow" => Action::Allow,
            "deny" => Action::Deny,
            _ => return Err(reader.wrong(word, RuleProblem::Action)),
        };
        reader.rule(action, rest)
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl Rule {
    /// Reads a rule whose action is known already, as behind `--allow`: `[to|from] [PROTOCOL://]TARGET[:PORTS]`.
    ///
    /// # Errors
    /// [`RuleError`], which knows the wrong part.
    pub fn with_action(action: Action, text: &str) -> Result<Self, RuleError> {
        let reader = Reader { text };
        match reader.words(text) {
            (word @ ("allow" | "deny"), rest) if !rest.is_empty() => {
                Err(reader.wrong(word, RuleProblem::ActionAgain))
            }
            _ => reader.rule(action, text),
        }
    }
}

/// The whole text, in which every other text here lies.
struct Reader<'t> {
    text: &'t str,
}

impl<'t> Reader<'t> {
    /// The error about `part` of the text.
    fn wrong(&self, part: &'t str, problem: RuleProblem) -> RuleError {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        RuleError { part: shown(part), at: start..start + part.len(), problem }
    }

    /// The first word of `text`, and what is behind it.
    fn words(&self, text: &'t str) -> (&'t str, &'t str) {
        let text = text.trim();
        text.split_once(char::is_whitespace)
            .map_or((text, &text[text.len()..]), |(word, rest)| (word, rest.trim()))
    }

    fn rule(&self, action: Action, text: &'t str) -> Result<Rule, RuleError> {
        if self.text.len() > LONGEST_RULE {
            return Err(self.wrong(self.text, RuleProblem::TooLong));
        }
        let (word, rest) = self.words(text);
        let (direction, word, rest) = match (word, self.words(rest)) {
            (FROM, (word, rest)) => (Direction::In, word, rest),
            (TO, (word, rest)) => (Direction::Out, word, rest),
            _ => (Direction::Out, word, rest),
        };
        if word.is_empty() {
            return Err(self.wrong(self.text.trim(), RuleProblem::NoTarget));
        }
        if !rest.is_empty() {
            return Err(self.wrong(rest, RuleProblem::Extra));
        }
        let (protocol, place) = match word.split_once("://") {
            None => (None, word),
            Some(("http", place)) => return Err(self.url(word, place, 80)),
            Some(("https", place)) => return Err(self.url(word, place, 443)),
            Some((protocol, place)) => (Some(self.protocol(protocol)?), place),
        };
        let (target, ports) = self.place(place)?;
        let ports = match ports {
            None => Ports::default(),
            Some(ports) if protocol == Some(Protocol::Icmp) => {
                return Err(self.wrong(ports, RuleProblem::PortsOfIcmp));
            }
            Some(ports) => self.ports(ports)?,
        };
        if direction == Direction::In && matches!(target, Target::Name(_)) {
            return Err(self.wrong(place, RuleProblem::NameOfCaller));
        }
        Ok(Rule { action, direction, protocol, target, ports })
    }

    /// The error about an address of the web, which is `place` and what it leads to.
    fn url(&self, text: &'t str, place: &'t str, port: u16) -> RuleError {
        let end = place.find(['/', '?', '#']).unwrap_or(place.len());
        match (&place[..end], place[..end].contains(':')) {
            ("", _) => self.wrong(text, RuleProblem::Protocol),
            (place, has_port) => {
                let port = if has_port { String::new() } else { format!(":{port}") };
                self.wrong(text, RuleProblem::Url(format!("{}{port}", shown(place))))
            }
        }
    }

    fn protocol(&self, text: &'t str) -> Result<Protocol, RuleError> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Icmp]
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or_else(|| self.wrong(text, RuleProblem::Protocol))
    }

    /// A target, and the text of its ports.
    fn place(&self, text: &'t str) -> Result<(Target, Option<&'t str>), RuleError> {
        if let Some(inner) = text.strip_prefix('[') {
            let (inner, behind) =
                inner.split_once(']').ok_or_else(|| self.wrong(text, RuleProblem::Address))?;
            if !inner.contains(':') {
                return Err(self.wrong(inner, RuleProblem::Address));
            }
            return match behind.strip_prefix(':') {
                Some(ports) => Ok((self.net(inner)?, Some(ports))),
                None if behind.is_empty() => Ok((self.net(inner)?, None)),
                None => Err(self.wrong(behind, RuleProblem::Extra)),
            };
        }
        match text.split_once(':') {
            // More than one colon: an IPv6 address or network, and no ports.
            Some((_, behind)) if behind.contains(':') => Ok((self.net(text)?, None)),
            Some((host, ports)) => Ok((self.target(host)?, Some(ports))),
            None => Ok((self.target(text)?, None)),
        }
    }

    /// A target without a colon.
    fn target(&self, text: &'t str) -> Result<Target, RuleError> {
        if text.eq_ignore_ascii_case(ANY) {
            return Ok(Target::Any);
        }
        if let Some(class) = Class::GROUPS.into_iter().find(|class| class.as_str().eq_ignore_ascii_case(text))
        {
            return Ok(Target::Class(class));
        }
        if let Some((word, instead)) = NO_GROUPS.into_iter().find(|(word, _)| word.eq_ignore_ascii_case(text))
        {
            return Err(self.wrong(text, RuleProblem::NoGroup { word, instead }));
        }
        if text.contains('/') {
            return self.net(text);
        }
        if let Some(parent) = text.strip_prefix("*.") {
            return Ok(Target::Name(Pattern::Below(self.name(parent)?)));
        }
        if text == "*" {
            return Err(self.wrong(text, RuleProblem::StarAlone));
        }
        if text.contains('*') {
            return Err(self.wrong(text, RuleProblem::Star));
        }
        // What resolvers take for a number must not pass for a name.
        if is_numeric(text.strip_suffix('.').unwrap_or(text)) {
            return self.net(text);
        }
        let name = self.name(text)?;
        if name.as_str() == HOST_NAME {
            // The name is ours: it leads to the host and nowhere else.
            return Ok(Target::Class(Class::Host));
        }
        Ok(Target::Name(Pattern::Exact(name)))
    }

    fn name(&self, text: &'t str) -> Result<Name, RuleError> {
        if text.contains('*') {
            return Err(self.wrong(text, RuleProblem::Star));
        }
        if text.is_empty() {
            return Err(self.wrong(self.text, RuleProblem::NoTarget));
        }
        text.parse().map_err(|error| self.wrong(text, RuleProblem::Name(error)))
    }

    /// An address or a network.
    fn net(&self, text: &'t str) -> Result<Target, RuleError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address = if address.contains(':') {
            if address.contains('%') {
                return Err(self.wrong(address, RuleProblem::Zone));
            }
            let problem = if bits.is_none() && address.rsplit(':').next().is_some_and(|last| last.len() > 4) {
                RuleProblem::Brackets
            } else {
                RuleProblem::Address
            };
            address.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| self.wrong(address, problem))?
        } else {
            let parsed = address.parse::<Ipv4Addr>().map(IpAddr::V4);
            parsed.map_err(|_| self.wrong(address, RuleProblem::Number))?
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => decimal(bits)
                .and_then(|bits| u8::try_from(bits).ok())
                .filter(|bits| *bits <= most)
                .ok_or_else(|| self.wrong(text, RuleProblem::Prefix))?,
        };
        let net = IpNet::new(address, bits).map_err(|_| self.wrong(text, RuleProblem::Prefix))?;
        if net.trunc() != net {
            return Err(self.wrong(text, RuleProblem::HostBits(net.trunc())));
        }
        Ok(Target::Net(net))
    }

    fn ports(&self, text: &'t str) -> Result<Ports, RuleError> {
        if text.split(',').count() > MOST_PORTS {
            return Err(self.wrong(text, RuleProblem::TooManyPorts));
        }
        let range = |part: &'t str| port_range(part).ok_or_else(|| self.wrong(part, RuleProblem::Ports));
        text.split(',').map(range).collect::<Result<_, _>>().map(Ports)
    }
}

/// Whether the name is a word of the grammar or one that is refused for being taken for one, and is taken for a name only with a final dot.
pub(super) fn is_word(name: &Name) -> bool {
    let name = name.as_str();
    [ANY, TO, FROM].contains(&name)
        || Class::GROUPS.into_iter().any(|class| class.as_str() == name)
        || NO_GROUPS.into_iter().any(|(word, _)| word == name)
}

/// `PORT` or `PORT-PORT`.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (decimal(first)?, decimal(last)?);
    (first >= 1 && first <= last).then_some(first..=last)
}

/// A number as people write it: digits alone.
fn decimal(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
