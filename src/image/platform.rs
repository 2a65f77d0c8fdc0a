//! Platforms an image is built for (`linux/amd64`, `linux/arm64/v8`).

use std::fmt;
use std::str::FromStr;

/// A string that is not `OS/ARCHITECTURE[/VARIANT]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform; write OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, for example linux/amd64")]
pub struct InvalidPlatform(pub String);

/// Operating system, processor architecture and its variant, in the names Go and the OCI specification use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v8`, `v7`, …; absent when it is the architecture's default.
    pub variant: Option<String>,
}

impl Platform {
    /// A platform in normal form: `x86_64` becomes `amd64`, `arm64/v8` becomes `arm64`.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let variant = variant.filter(|variant| {
            !variant.is_empty() && !matches!((architecture, *variant), ("arm64", "v8") | ("amd64", "v1"))
        });
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    /// Linux on the processor this program was built for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// How well an image for `offered` serves a machine of this platform: 0 is exact, higher is worse, `None`
    /// does not run.
    pub fn distance(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        match (&self.variant, &offered.variant) {
            (wanted, offered) if wanted == offered => Some(0),
            (_, None) => Some(1),
            // A variant nobody asked for may need newer instructions than the processor has, but an image
            // that offers nothing else is better than none.
            (None, Some(_)) => Some(2),
            (Some(_), Some(_)) => None,
        }
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self::host()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let is_word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if text.len() > 100 || !parts.iter().all(|part| is_word(part)) {
            return Err(InvalidPlatform(text.chars().take(100).collect()));
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn normal_form_and_choice() {
        let amd64: Platform = "linux/x86_64".parse().unwrap();
        assert_eq!(amd64.to_string(), "linux/amd64");
        assert_eq!("linux/arm64/v8".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        let v3: Platform = "linux/amd64/v3".parse().unwrap();
        assert_eq!(
            (amd64.distance(&amd64), amd64.distance(&v3), v3.distance(&amd64)),
            (Some(0), Some(2), Some(1))
        );
        assert_eq!(amd64.distance(&"windows/amd64".parse().unwrap()), None);
        for bad in ["", "linux", "linux/", "a/b/c/d", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
