//! The proxy through which a sandbox's connections go, as it is written down.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest user name and password (RFC 1929).
const LONGEST_SECRET: usize = 255;
/// Longest file with a URL that is read.
const LONGEST_FILE: u64 = 4096;

/// Where the URL of a proxy is found: here, or when the sandbox starts in a variable (`env:ALL_PROXY`) or a file (`file:/run/proxy`) of the
/// host. One with a password cannot stand here, where definitions and command lines show it; what is found elsewhere is written down
/// nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ProxySource {
    /// The URL itself, without a password.
    Url(ProxyUrl),
    /// A variable of whoever starts the sandbox.
    Env(String),
    /// A file whose first line it is.
    File(PathBuf),
}

/// `socks5://` and `socks5h://` (RFC 1928) or `http://` (CONNECT, RFC 9110 9.3.6), user and password where needed, host, and port where it is not the usual
/// one (1080 and 80).
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    kind: ProxyKind,
    host: String,
    port: u16,
    credentials: Option<(String, String)>,
}

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS 5, told addresses: those that the policy has decided about.
    Socks5,
    /// SOCKS 5, told names where they are known, which it looks up itself; curl writes it so, too.
    Socks5h,
    /// HTTP's CONNECT, told names as well: what such proxies allow and record are names.
    Http,
}

/// A proxy whose address is known.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// How it is spoken to.
    pub kind: ProxyKind,
    /// Where it is.
    pub address: SocketAddr,
    /// User and password.
    pub credentials: Option<(String, String)>,
}

/// Why there is no proxy to go through. What may hold a password is not repeated.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// Not a URL of a proxy.
    #[error(
        "{0} is not the URL of a proxy: write it as socks5://proxy.example:1080 or http://proxy.example:3128"
    )]
    Malformed(String),
    /// A password where many can read it.
    #[error("the URL of a proxy with a password is not for files and command lines that others read")]
    Password,
    /// There is no such variable.
    #[error("the proxy is to be read from the variable {0}, which is not set")]
    NotSet(String),
    /// The file cannot be read.
    #[error("cannot read the proxy from {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its name leads nowhere.
    #[error("cannot find the proxy {host}")]
    NotFound {
        /// Its host.
        host: String,
        /// Why.
        source: io::Error,
    },
}

impl ProxySource {
    /// The proxy there is now. Looks its name up, which may take seconds.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn resolve(&self) -> Result<Proxy, ProxyError> {
        let read = |text: &str, what: String| text.trim().parse().map_err(|_| ProxyError::Malformed(what));
        match self {
            Self::Url(url) => url.resolve(),
            Self::Env(name) => {
                let text = std::env::var(name).map_err(|_| ProxyError::NotSet(name.clone()))?;
                read(&text, format!("what the variable {name} holds")).and_then(|url: ProxyUrl| url.resolve())
            }
            Self::File(path) => {
                let failed = |source| ProxyError::File { path: path.clone(), source };
                let mut text = String::new();
                let file = std::fs::File::open(path).map_err(failed)?;
                io::Read::read_to_string(&mut io::Read::take(file, LONGEST_FILE), &mut text)
                    .map_err(failed)?;
                let line = text.lines().next().unwrap_or_default();
                read(line, format!("the first line of {}", path.display()))
                    .and_then(|url: ProxyUrl| url.resolve())
            }
        }
    }
}

impl ProxyUrl {
    fn resolve(&self) -> Result<Proxy, ProxyError> {
        let failed = |source| ProxyError::NotFound { host: self.host.clone(), source };
        let mut found = (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?;
        let address = found.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        Ok(Proxy { kind: self.kind, address, credentials: self.credentials.clone() })
    }
}

impl FromStr for ProxySource {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        if let Some(name) = text.strip_prefix("env:") {
            let is_name = !name.is_empty() && !name.contains(['=', '\0']);
            return is_name
                .then(|| Self::Env(name.to_owned()))
                .ok_or_else(|| ProxyError::Malformed("`env:`".into()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = PathBuf::from(path);
            let what = "a file that is not named by its whole path";
            return path
                .is_absolute()
                .then_some(Self::File(path))
                .ok_or_else(|| ProxyError::Malformed(what.into()));
        }
        let url: ProxyUrl = text.parse()?;
        if url.credentials.is_some() {
            return Err(ProxyError::Password);
        }
        Ok(Self::Url(url))
    }
}

impl ProxyError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Malformed(_) => return None,
            Self::Password => {
                "put it into a variable or a file that only you can read, and name that: env:NAME or file:/PATH".into()
            }
            Self::NotSet(name) => {
                format!("set it before the sandbox is started: export {name}=socks5://proxy.example:1080")
            }
            Self::File { .. } => "its first line has to be the URL of the proxy".into(),
            Self::NotFound { .. } => "correct its name, or use its address".into(),
        })
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        read(text).ok_or_else(|| {
            // Whatever stands before an @ may be a password.
            let shown = if text.contains('@') { "that".to_owned() } else { format!("`{}`", short(text)) };
            ProxyError::Malformed(shown)
        })
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn read(text: &str) -> Option<ProxyUrl> {
    let (scheme, rest) = text.split_once("://")?;
    let (kind, usual) = match scheme.to_ascii_lowercase().as_str() {
        "socks5" => (ProxyKind::Socks5, 1080),
        "socks5h" => (ProxyKind::Socks5h, 1080),
        "http" => (ProxyKind::Http, 80),
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let credentials = match user {
        None => None,
        Some(user) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let (name, password) = (decode(name)?, decode(password)?);
            let fits = |text: &str| text.len() <= LONGEST_SECRET && !text.contains(['\r', '\n', '\0']);
            // A colon would end the name early in HTTP's basic authentication.
            if name.is_empty() || name.contains(':') || !fits(&name) || !fits(&password) {
                return None;
            }
            Some((name, password))
        }
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let is_letter = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let is_host = host.parse::<IpAddr>().is_ok()
        || (!host.is_empty() && host.len() < 254 && host.chars().all(is_letter));
    let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port != 0))?;
    is_host.then(|| ProxyUrl { kind, host: host.to_owned(), port, credentials })
}

/// Without the percent signs of URLs (RFC 3986 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
                u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
            }
            b'/' | b'?' | b'#' | b'@' => return None,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

impl fmt::Display for ProxySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "{url}"),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// Without what may be secret.
impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Socks5h => "socks5h",
            ProxyKind::Http => "http",
        };
        let secret = if self.credentials.is_some() { "***@" } else { "" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://{secret}[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{secret}{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for ProxySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl TryFrom<String> for ProxySource {
    type Error = ProxyError;

    fn try_from(text: String) -> Result<Self, ProxyError> {
        text.parse()
    }
}

impl From<ProxySource> for String {
    fn from(source: ProxySource) -> Self {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_of_proxies() {
        let read = |text: &str| text.parse::<ProxyUrl>().unwrap();
        let whole = read("socks5://me:p%40ss%3Aword@proxy.example:1081");
        assert_eq!((whole.kind, whole.host.as_str(), whole.port), (ProxyKind::Socks5, "proxy.example", 1081));
        assert_eq!(whole.credentials, Some(("me".into(), "p@ss:word".into())));
        assert_eq!(whole.to_string(), "socks5://***@proxy.example:1081");
        assert_eq!(format!("{whole:?}"), "socks5://***@proxy.example:1081");
        assert_eq!(read("http://10.0.0.1/").to_string(), "http://10.0.0.1:80");
        assert_eq!(read("SOCKS5H://[fd00::1]").to_string(), "socks5h://[fd00::1]:1080");
        let address = read("http://127.0.0.1:3128").resolve().unwrap().address;
        assert_eq!(address, SocketAddr::from(([127, 0, 0, 1], 3128)));
    }

    #[test]
    fn what_is_no_proxy_is_said_without_the_password() {
        for wrong in [
            "",
            "proxy:80",
            "https://proxy",
            "socks4://proxy",
            "http://",
            "http://:80",
            "http://p:0",
            "http://p:99999",
            "http://p/x",
            "http://me:secret@",
            "http://:secret@p",
            "http://me:se%zzcret@p",
            "http://me%0d%0a:secret@p",
            "http://[::1",
            "http://[p]:80",
            "env:",
            "file:relative",
            "http://pro xy",
        ] {
            let error = wrong.parse::<ProxySource>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let error = "http://me:secret@proxy".parse::<ProxySource>().unwrap_err();
        assert!(matches!(error, ProxyError::Password) && error.hint().is_some());
    }

    #[test]
    fn it_may_stand_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy");
        std::fs::write(&path, "http://me:secret@127.0.0.1:8080\n# more\n").unwrap();
        let source: ProxySource = format!("file:{}", path.display()).parse().unwrap();
        assert_eq!(source.resolve().unwrap().credentials, Some(("me".into(), "secret".into())));
        std::fs::write(&path, "secret").unwrap();
        assert!(!source.resolve().unwrap_err().to_string().contains("secret"));
        let source: ProxySource = "env:MSB_NO_SUCH_PROXY".parse().unwrap();
        assert!(source.resolve().unwrap_err().to_string().contains("MSB_NO_SUCH_PROXY"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_what_is_kept_comes_back(text in "((socks5h?|http)://)?([a-z:%0-9]{0,9}@)?[a-z0-9.:\\[\\]]{0,12}|.{0,40}") {
            if let Ok(source) = text.parse::<ProxySource>() {
                prop_assert_eq!(String::from(source.clone()).parse::<ProxySource>().unwrap(), source);
            }
        }
    }
}
