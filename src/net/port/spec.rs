//! `ports:`, `-p` and `--port`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Ports of the sandbox that are published on ports of the host: `8080:80`, `53:53/udp`, `0.0.0.0:8000-8009:8000-8009`,
/// `[::1]:0:80`.
///
/// `[BIND:]HOST[-RANGE]:GUEST[-RANGE][/udp]`, or `PORT[-RANGE][/udp]` for the same on both sides. Without an address to bind to it
/// is published on the host's loopback alone. The host's port 0 stands for any that is free.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PortSpec {
    /// The host's address; its loopback if `None`.
    pub bind: Option<IpAddr>,
    /// The first port of the host, 0 for free ones.
    pub host: u16,
    /// The first port of the sandbox.
    pub guest: u16,
    /// How many ports, at least 1.
    pub count: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// Why a text is not a [`PortSpec`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PortError {
    /// Not a port or range.
    #[error("`{0}` is not a port or a range of ports, such as 8080 or 8000-8009; ports are 1 to 65535")]
    Port(String),
    /// A range that ends before it begins.
    #[error("`{0}` ends before it begins")]
    Backwards(String),
    /// The guest's port is 0.
    #[error("a sandbox has no port 0; 0 stands for a free port of the host, as in 0:80")]
    GuestZero,
    /// Two ranges of different lengths.
    #[error("`{host}` and `{guest}` are not equally many ports")]
    Lengths {
        /// The host's.
        host: String,
        /// The sandbox's.
        guest: String,
    },
    /// Not an address.
    #[error(
        "`{0}` is not an address: leave it out for this machine's loopback, or write it as 0.0.0.0 or [::]"
    )]
    Bind(String),
    /// Not a protocol.
    #[error("`{0}` is not a protocol: there are tcp and udp")]
    Transport(String),
    /// More parts than there can be.
    #[error("`{0}` has too many colons: write [BIND:]HOST:GUEST, and an IPv6 address in brackets")]
    TooMany(String),
}

impl PortSpec {
    /// The pairs of the host's and the sandbox's port; the host's is 0 in each where it is any that is free.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        let (host, guest) = (self.host, self.guest);
        (0..self.count).map(move |more| (if host == 0 { 0 } else { host + more }, guest + more))
    }

    /// The first pair of ports of the host that both publish, if any.
    #[must_use]
    pub fn clash(&self, other: &Self) -> Option<u16> {
        let places = |spec: &Self| match spec.bind {
            Some(bind) => vec![bind],
            None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        };
        let are_same = |(one, other): (IpAddr, IpAddr)| {
            one == other
                || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified())
        };
        let same =
            places(self).into_iter().any(|one| places(other).into_iter().any(|other| are_same((one, other))));
        if self.transport != other.transport || !same || self.host == 0 || other.host == 0 {
            return None;
        }
        let last = |spec: &Self| spec.host + (spec.count - 1);
        let first = self.host.max(other.host);
        (first <= last(self).min(last(other))).then_some(first)
    }
}

impl Transport {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bind {
            Some(IpAddr::V4(bind)) => write!(f, "{bind}:")?,
            Some(IpAddr::V6(bind)) => write!(f, "[{bind}]:")?,
            None => {}
        }
        let range = |first: u16| match (first, self.count) {
            (0, _) | (_, 1) => first.to_string(),
            _ => format!("{first}-{}", first + (self.count - 1)),
        };
        write!(f, "{}:{}", range(self.host), range(self.guest))?;
        if self.transport == Transport::Udp { f.write_str("/udp") } else { Ok(()) }
    }
}

impl FromStr for PortSpec {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let (places, transport) = match text.split_once('/') {
            None => (text, Transport::Tcp),
            Some((places, "tcp")) => (places, Transport::Tcp),
            Some((places, "udp")) => (places, Transport::Udp),
            Some((_, other)) => return Err(PortError::Transport(shown(other))),
        };
        let (bind, places) = match places.strip_prefix('[') {
            Some(inner) => {
                let (bind, rest) = inner.split_once("]:").ok_or_else(|| PortError::Bind(shown(places)))?;
                let bind = bind.parse().map_err(|_| PortError::Bind(shown(bind)))?;
                (Some(IpAddr::V6(bind)), rest)
            }
            None => match places.splitn(4, ':').collect::<Vec<_>>().as_slice() {
                [bind, _, _] => {
                    let address = bind.parse().map_err(|_| PortError::Bind(shown(bind)))?;
                    (Some(IpAddr::V4(address)), &places[bind.len() + 1..])
                }
                [_, _, _, _] => return Err(PortError::TooMany(shown(text))),
                _ => (None, places),
            },
        };
        let (host_text, guest_text) = match places.split_once(':') {
            Some((_, guest)) if guest.contains(':') => return Err(PortError::TooMany(shown(text))),
            Some(both) => both,
            None if bind.is_some() => return Err(PortError::Port(shown(text))),
            None => (places, places),
        };
        let (host, guest) = (range(host_text)?, range(guest_text)?);
        if *guest.start() == 0 {
            return Err(PortError::GuestZero);
        }
        let count = guest.len();
        if host.len() != count && host != (0..=0) || (*host.start() == 0 && *host.end() != 0) {
            return Err(PortError::Lengths { host: shown(host_text), guest: shown(guest_text) });
        }
        let count = u16::try_from(count).map_err(|_| PortError::Port(shown(guest_text)))?;
        Ok(Self { bind, host: *host.start(), guest: *guest.start(), count, transport })
    }
}

impl From<PortSpec> for String {
    fn from(spec: PortSpec) -> Self {
        spec.to_string()
    }
}

impl TryFrom<String> for PortSpec {
    type Error = PortError;

    fn try_from(text: String) -> Result<Self, PortError> {
        text.parse()
    }
}

/// `PORT` or `PORT-PORT`, in digits alone.
fn range(text: &str) -> Result<RangeInclusive<u16>, PortError> {
    let wrong = || PortError::Port(shown(text));
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u16>().map_err(|_| wrong()) } else { Err(wrong()) }
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last { Err(PortError::Backwards(shown(text))) } else { Ok(first..=last) }
}

/// The text as an error repeats it.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests;
