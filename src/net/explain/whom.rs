//! Who is asked about.

use std::io;
use std::net::IpAddr;

use thiserror::Error;

use crate::net::policy::{Action, Class, Name, Pattern, Protocol, Rule, RuleError, Target};

/// Who is at the other end, as people write it: `tcp://example.com:443`, `udp://10.0.0.1:53`, `https://example.com`, `icmp://1.1.1.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whom {
    pub(super) text: String,
    pub(super) protocol: Protocol,
    pub(super) port: Option<u16>,
    pub(super) place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
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
    #[error("`{text}` does not say which port: write it as {example}")]
    NoPort {
        /// As given.
        text: String,
        /// The same with a port.
        example: String,
    },
    /// There are several ports.
    #[error("`{0}` names several ports: ask about one")]
    ManyPorts(String),
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

impl ExplainError {
    /// Whether it is the question that is wrong.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::System { .. })
    }
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
        let place = match &rule.target {
            Target::Class(Class::Host) => Place::Host,
            Target::Net(net) if net.prefix_len() == net.max_prefix_len() => Place::Address(net.addr()),
            Target::Name(Pattern::Exact(name)) => Place::Name(name.clone()),
            _ => return Err(ExplainError::Many(text.to_owned())),
        };
        let protocol = rule.protocol.unwrap_or(Protocol::Tcp);
        let port = rule.ports.single().or(default.filter(|_| rule.ports.is_all()));
        if protocol == Protocol::Icmp || port.is_some() {
            return Ok(Self { text: text.to_owned(), protocol, port, place });
        }
        if !rule.ports.is_all() {
            return Err(ExplainError::ManyPorts(text.to_owned()));
        }
        let example = match place {
            Place::Address(IpAddr::V6(address)) => format!("{protocol}://[{address}]:443"),
            _ => format!("{protocol}://{}:443", rule.target),
        };
        Err(ExplainError::NoPort { text: text.to_owned(), example })
    }
}
