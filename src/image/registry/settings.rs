//! What the user says about registries: the default one, and how each is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use reqwest::Url;
use serde::Deserialize;

use crate::image::reference::{self, DEFAULT_REGISTRY, Problem, Reference};

/// Docker Hub answers under another name than the one in references.
pub(super) const DOCKER_HUB: &str = "registry-1.docker.io";

/// Address of a registry, `HOST` or `HOST:PORT`, in lower case. Docker Hub is `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Host(String);

impl Host {
    /// The registry of a reference, whose address was checked when it was parsed.
    pub(super) fn of(reference: &Reference) -> Self {
        Self(reference.registry().to_owned())
    }

    /// The host of an address.
    pub(super) fn of_url(url: &Url) -> Option<Self> {
        let host = url.host_str()?;
        let text = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        text.parse().ok()
    }

    /// The address as in references.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it is really spoken to.
    pub(super) fn address(&self) -> &str {
        if self.0 == DEFAULT_REGISTRY { DOCKER_HUB } else { &self.0 }
    }

    /// Whether it is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        reference::is_loopback(&self.0)
    }
}

impl Default for Host {
    fn default() -> Self {
        Self(DEFAULT_REGISTRY.to_owned())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.find("://") {
            Some(end) => Err(Problem::Scheme(text[..end + 3].to_owned())),
            None => reference::check_registry(text).map(Self),
        }
    }
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|problem: Problem| format!("registry `{text}`: {problem}"))
    }
}

/// A registry that holds copies of another one's images, below a path of its own if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mirror {
    /// Its address.
    pub host: Host,
    /// What comes before the repository's name there; may be empty.
    pub prefix: String,
}

impl FromStr for Mirror {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (host, prefix) = match text.find("://") {
            None => text.split_once('/').unwrap_or((text, "")),
            Some(_) => (text, ""),
        };
        let (host, prefix) = (host.parse()?, prefix.trim_end_matches('/'));
        if !prefix.is_empty() {
            reference::check_repository(prefix, prefix)?;
        }
        Ok(Self { host, prefix: prefix.to_owned() })
    }
}

impl TryFrom<String> for Mirror {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|problem: Problem| format!("mirror `{text}`: {problem}"))
    }
}

/// How one registry is reached: `[registry."HOST:PORT"]` in `config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct HostSettings {
    /// Without TLS. Default: only when it is on this machine and nothing is said about its certificate.
    pub plain_http: bool,
    /// With TLS, but whatever certificate it shows.
    pub insecure: bool,
    /// PEM file with certificates of authorities to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Asked in this order before the registry itself.
    pub mirrors: Vec<Mirror>,
    /// Whether [`Self::plain_http`] was stated and no default.
    scheme_stated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    plain_http: Option<bool>,
    #[serde(default)]
    insecure: bool,
    ca: Option<PathBuf>,
    #[serde(default)]
    mirrors: Vec<Mirror>,
}

impl TryFrom<Raw> for HostSettings {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        let has_tls = raw.insecure || raw.ca.is_some();
        if raw.plain_http == Some(true) && has_tls {
            return Err("`plain-http` has no certificate for `insecure` or `ca` to be about; leave one out");
        }
        Ok(Self {
            plain_http: raw.plain_http.unwrap_or(false),
            insecure: raw.insecure,
            ca: raw.ca,
            mirrors: raw.mirrors,
            scheme_stated: raw.plain_http.is_some() || has_tls,
        })
    }
}

/// Everything the user says about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    default: Host,
    hosts: BTreeMap<Host, HostSettings>,
}

impl Registries {
    /// `default` is where names without a registry come from. Relative paths in `hosts` start at `folder`.
    pub fn new(default: Option<Host>, mut hosts: BTreeMap<Host, HostSettings>, folder: &Path) -> Self {
        for ca in hosts.values_mut().filter_map(|host| host.ca.as_mut()) {
            *ca = folder.join(&ca);
        }
        Self { default: default.unwrap_or_default(), hosts }
    }

    /// Where names without a registry come from.
    pub fn default_registry(&self) -> &Host {
        &self.default
    }

    /// How `host` is reached.
    pub fn host(&self, host: &Host) -> HostSettings {
        let mut settings = self.hosts.get(host).cloned().unwrap_or_default();
        settings.plain_http |= !settings.scheme_stated && host.is_loopback();
        settings
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Result<Registries, String> {
        let hosts = toml::from_str(text).map_err(|error| error.to_string())?;
        Ok(Registries::new(None, hosts, Path::new("/etc/msb")))
    }

    #[test]
    fn every_setting_is_read() {
        let registries = hosts(
            "[\"docker.io\"]\nmirrors = [\"Mirror.example.com\", \"10.0.0.5:5000/hub/copies/\"]\n\
             [\"10.0.0.5:5000\"]\nplain-http = true\n[\"git.example.com\"]\nca = \"own.pem\"\n[\"127.0.0.1:1\"]\ninsecure = true\n",
        )
        .unwrap();
        let host = |name: &str| registries.host(&name.parse().unwrap());
        let mirrors = host("index.docker.io").mirrors;
        assert_eq!(mirrors[0].host.as_str(), "mirror.example.com");
        assert_eq!((mirrors[1].host.as_str(), mirrors[1].prefix.as_str()), ("10.0.0.5:5000", "hub/copies"));
        assert!(host("10.0.0.5:5000").plain_http && !host("10.0.0.5").plain_http);
        assert_eq!(host("git.example.com").ca.unwrap(), Path::new("/etc/msb/own.pem"));
        assert!(host("127.0.0.1:2").plain_http, "what is on this machine needs no TLS");
        assert!(!host("127.0.0.1:1").plain_http, "but has it when a certificate is spoken of");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("[\"https://x.example\"]\n", "leave out `https://`"),
            ("[\"a b\"]\n", "not a registry address"),
            ("[\"x.example\"]\nmirrors = [\"http://y.example\"]\n", "mirror `http://y.example`"),
            ("[\"x.example\"]\nmirrors = [\"y.example/UP\"]\n", "lower case"),
            ("[\"x.example\"]\nplain_http = true\n", "plain_http"),
            ("[\"x.example\"]\nplain-http = true\ninsecure = true\n", "leave one out"),
        ] {
            let error = hosts(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
