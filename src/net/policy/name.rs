//! Host names, compared as DNS compares them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name in its text form without the final dot (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;
/// Longest label (RFC 1035 §2.3.4).
const LONGEST_LABEL: usize = 63;

/// A host name in lower case, without a final dot.
///
/// Bytes that no host name has, a dot inside a label among them, appear as `\DDD` (RFC 4343 §2.1), so that two names have the
/// same text exactly if DNS takes them for one, and a name lies below another exactly if its text ends with a dot and the
/// other's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(String);

/// Why a text is not a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing, or nothing between two dots.
    #[error("a part of it is empty")]
    Empty,
    /// More than 253 bytes, or 63 in one part.
    #[error("it is too long: a name has at most 253 characters, and a part of it 63")]
    TooLong,
    /// A byte that host names do not have.
    #[error("a name consists of letters, digits, `-`, `_` and dots")]
    Byte,
}

impl Name {
    /// The name with these labels, as they come in a DNS message. `None` for the root and for what is too long.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut text = String::new();
        let mut length = 0;
        for label in labels {
            length += label.len() + 1;
            if label.is_empty() || label.len() > LONGEST_LABEL || length > LONGEST_NAME + 1 {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            for byte in label.iter().map(u8::to_ascii_lowercase) {
                if is_plain(byte) {
                    text.push(char::from(byte));
                } else {
                    text.push_str(&format!("\\{byte:03}"));
                }
            }
        }
        (!text.is_empty()).then_some(Self(text))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether resolvers take it for an address.
    #[must_use]
    pub fn is_numeric(&self) -> bool {
        is_numeric(&self.0)
    }

    /// Whether it lies below `parent`: is not it, and ends with it at a dot.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }
}

/// Whether old readers of addresses (`inet_aton`) take it for one: 127.1, 0x7f000001, 010.0.0.1.
pub(super) fn is_numeric(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = match last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => last.bytes().all(|byte| byte.is_ascii_digit()),
    };
    is_number && !last.is_empty()
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads a name as people write it: letters of any script (RFC 5891), with or without a final dot.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        // Only what needs it, as underscores are not of the alphabet of internationalised names.
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else if text.len() > 4 * LONGEST_NAME {
            return Err(NameError::TooLong);
        } else {
            idna::domain_to_ascii(text).map_err(|_| NameError::Byte)?
        };
        let labels = || ascii.split('.');
        if labels().any(str::is_empty) {
            return Err(NameError::Empty);
        }
        if !ascii.bytes().all(|byte| is_plain(byte) || byte == b'.') {
            return Err(NameError::Byte);
        }
        Self::from_labels(labels().map(str::as_bytes)).ok_or(NameError::TooLong)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_names_as_people_write_them() {
        for (text, name) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("_sip._tcp.x", "_sip._tcp.x"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("db", "db"),
        ] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), name);
        }
        for (text, error) in [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("a..b", NameError::Empty),
            ("a b", NameError::Byte),
            ("a\\046b", NameError::Byte),
            ("*.x", NameError::Byte),
            (&"a.".repeat(127), NameError::TooLong),
            (&"a".repeat(64), NameError::TooLong),
        ] {
            let text = if error == NameError::TooLong && text.contains('.') {
                format!("{text}a")
            } else {
                text.into()
            };
            assert_eq!(text.parse::<Name>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_dot_inside_a_label_ends_no_label() {
        let parent: Name = "example.com".parse().unwrap();
        let name = |labels: &[&[u8]]| Name::from_labels(labels.iter().copied()).unwrap();
        assert!(name(&[b"www", b"EXAMPLE", b"com"]).is_below(&parent));
        assert!(!name(&[b"evil.example", b"com"]).is_below(&parent));
        assert!(!name(&[b"notexample", b"com"]).is_below(&parent));
        assert!(!name(&[b"example", b"com"]).is_below(&parent));
        assert_eq!(name(&[b"evil.example", b"com"]).as_str(), r"evil\046example.com");
        assert!(Name::from_labels([]).is_none());
    }
}
