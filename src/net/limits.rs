//! How much of the network a sandbox may use, as it is written down.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::manifest::Size;

/// How much of the network a sandbox may use; what is `None` has no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkLimits {
    /// Bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// TCP connections at once, and as many conversations by UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Connections, conversations by UDP and series of pings that the sandbox begins per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_rate: Option<u32>,
}

impl NetworkLimits {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Bytes per second: `10M` each way, `up=1M`, `down=20M`, or `up=1M,down=20M`; sizes as everywhere, but always with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bandwidth {
    /// From the sandbox.
    up: Option<Size>,
    /// To it.
    down: Option<Size>,
}

/// Why a text is no [`Bandwidth`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BandwidthError {
    /// Neither a size, nor one for each way.
    #[error("`{0}` is not a bandwidth: write bytes per second as in 10M, or up=1M,down=20M")]
    Malformed(String),
    /// A number alone, which stands for MiB elsewhere.
    #[error("`{0}` has no unit: write bytes per second as in 1000B, 10K or 10M")]
    Unit(String),
    /// Nothing at all.
    #[error("`{0}` lets nothing through: use the scope `none` for that, or write at least 1B")]
    Nothing(String),
}

impl Bandwidth {
    /// Bytes per second from the sandbox.
    #[must_use]
    pub fn up(self) -> Option<u64> {
        self.up.map(Size::bytes)
    }

    /// Bytes per second to the sandbox.
    #[must_use]
    pub fn down(self) -> Option<u64> {
        self.down.map(Size::bytes)
    }
}

impl FromStr for Bandwidth {
    type Err = BandwidthError;

    fn from_str(text: &str) -> Result<Self, BandwidthError> {
        let shown = || text.chars().take(60).collect();
        let wrong = || BandwidthError::Malformed(shown());
        let size = |text: &str| {
            let size: Size = text.trim().parse().map_err(|_| wrong())?;
            match size.bytes() {
                0 => Err(BandwidthError::Nothing(shown())),
                _ if text.trim().ends_with(|last: char| last.is_ascii_digit()) => {
                    Err(BandwidthError::Unit(shown()))
                }
                _ => Ok(size),
            }
        };
        if !text.contains('=') {
            let both = size(text)?;
            return Ok(Self { up: Some(both), down: Some(both) });
        }
        let mut bandwidth = Self { up: None, down: None };
        for part in text.split(',') {
            let (way, rate) = part.split_once('=').ok_or_else(wrong)?;
            let place = match way.trim() {
                "up" => &mut bandwidth.up,
                "down" => &mut bandwidth.down,
                _ => return Err(wrong()),
            };
            if place.replace(size(rate)?).is_some() {
                return Err(wrong());
            }
        }
        Ok(bandwidth)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.up, self.down) {
            (Some(up), Some(down)) if up == down => write!(f, "{up}"),
            (Some(up), Some(down)) => write!(f, "up={up},down={down}"),
            (Some(up), None) => write!(f, "up={up}"),
            (None, Some(down)) => write!(f, "down={down}"),
            (None, None) => Ok(()),
        }
    }
}

impl TryFrom<String> for Bandwidth {
    type Error = BandwidthError;

    fn try_from(text: String) -> Result<Self, BandwidthError> {
        text.parse()
    }
}

impl From<Bandwidth> for String {
    fn from(bandwidth: Bandwidth) -> Self {
        bandwidth.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ways_or_each_by_itself() {
        let read = |text: &str| text.parse::<Bandwidth>().map(|read| (read.up(), read.down()));
        assert_eq!(read("10M"), Ok((Some(10 << 20), Some(10 << 20))));
        assert_eq!(read("up=512K"), Ok((Some(512 << 10), None)));
        assert_eq!(read("down=1G, up=1M"), Ok((Some(1 << 20), Some(1 << 30))));
        assert_eq!(read("1000"), Err(BandwidthError::Unit("1000".into())));
        assert_eq!(read("up=1"), Err(BandwidthError::Unit("up=1".into())));
        assert_eq!(read("0"), Err(BandwidthError::Nothing("0".into())));
        assert_eq!(read("1000B"), Ok((Some(1000), Some(1000))));
        for wrong in ["", "fast", "up", "up=", "up=1M,up=2M", "left=1M", "up=1M,", "-1M", "10M/s"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "((up|down)=[0-9]{1,4}[KMG](,(up|down)=[0-9]{1,4}[KMG])?|[0-9]{1,4}[KMG]|.{0,20})") {
            if let Ok(read) = text.parse::<Bandwidth>() {
                prop_assert_eq!(read.to_string().parse::<Bandwidth>().unwrap(), read);
            }
        }
    }
}
