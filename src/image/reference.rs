//! Image references: `python`, `ghcr.io/org/app:1.2`, `127.0.0.1:5000/app@sha256:…`.
//!
//! The grammar is that of the distribution project's `reference` package, with the defaults docker users
//! expect. It is parsed by hand because it sits on the start path of every sandbox: compiling the customary
//! regular expression alone would cost more than the rest of the look-up. A property test holds it against
//! `oci-spec`'s parser.

use std::fmt;
use std::str::FromStr;

use super::digest::{Digest, DigestError};

/// Registry used when a reference names none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// Tag used when a reference has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
const OFFICIAL: &str = "library/";
const MAX_INPUT: usize = 1024;
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A string that is not an image reference, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not an image reference: {problem}")]
pub struct InvalidReference {
    /// What was given, shortened when it is very long.
    pub input: String,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing was given.
    #[error("it is empty")]
    Empty,
    /// A part is longer than registries accept.
    #[error("its {part} is longer than {limit} characters")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// It starts with `http://`, `docker://` or the like.
    #[error("leave out `{0}`")]
    Scheme(String),
    /// The repository has upper-case letters.
    #[error("repository names are lower case (did you mean `{suggestion}`?)")]
    UpperCase {
        /// The same reference in lower case.
        suggestion: String,
    },
    /// Two slashes in a row, or one at an end.
    #[error("a part of the repository name is empty")]
    EmptyComponent,
    /// A character that may not stand in a repository name.
    #[error("`{component}` may hold a-z, 0-9 and the separators . _ __ - between them only")]
    Repository {
        /// The component of the name that is wrong.
        component: String,
    },
    /// The registry is not `HOST` or `HOST:PORT`.
    #[error("`{0}` is not a registry address (HOST or HOST:PORT)")]
    Registry(String),
    /// The tag is empty or holds a wrong character.
    #[error("tag `{0}` may hold A-Z, a-z, 0-9, _ . and -, and starts with none of . and -")]
    Tag(String),
    /// The part behind `@` is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A digest, or the sixty-four hexadecimal digits of one: an image ID.
    #[error("it is a bare digest; write NAME@{0}")]
    BareDigest(String),
}

/// A complete reference: registry, repository, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host, or host and port, of the registry; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Repository inside the registry, such as `library/python`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given or defaulted.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given. It decides; a tag beside it is for people.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository by `digest` instead.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Reads `input` as [`FromStr`] does, but takes a name without registry from `default_registry` (host, or
    /// host and port) instead of Docker Hub.
    ///
    /// # Errors
    /// The same as those of [`FromStr`].
    pub fn parse_in(input: &str, default_registry: &str) -> Result<Self, InvalidReference> {
        parse(input, default_registry)
            .map_err(|problem| InvalidReference { input: input.chars().take(200).collect(), problem })
    }

    /// The shortest form that [`Reference::parse_in`] reads as this reference again, whatever the user's default.
    pub fn short_in(&self, default_registry: &str) -> String {
        if default_registry == DEFAULT_REGISTRY { self.short() } else { self.to_string() }
    }

    /// The form people write: without the default registry, and with the tag always (`python:latest`).
    pub fn short(&self) -> String {
        self.with_suffix(match self.registry.as_str() {
            DEFAULT_REGISTRY => self.familiar_repository(),
            registry => format!("{registry}/{}", self.repository),
        })
    }

    /// The repository without what parsing would add again, if it really would.
    fn familiar_repository(&self) -> String {
        let short = match self.repository.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') && !is_bare_digest(rest) => rest,
            _ => &self.repository,
        };
        match split_registry(short) {
            (None | Some(DEFAULT_REGISTRY), _) => short.to_owned(),
            _ => format!("{DEFAULT_REGISTRY}/{short}"),
        }
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    /// The full form, `docker.io/library/python:latest`; parsing it gives the same reference back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(format!("{}/{}", self.registry, self.repository)))
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(input: &str) -> Result<Self, InvalidReference> {
        Self::parse_in(input, DEFAULT_REGISTRY)
    }
}

fn parse(input: &str, default_registry: &str) -> Result<Reference, Problem> {
    if input.is_empty() {
        return Err(Problem::Empty);
    }
    if input.len() > MAX_INPUT {
        return Err(Problem::TooLong { part: "text", limit: MAX_INPUT });
    }
    if let Some(end) = input.find("://") {
        return Err(Problem::Scheme(input[..end + 3].to_owned()));
    }
    // Else it would be the tag of an image called `sha256`.
    if input.parse::<Digest>().is_ok() {
        return Err(Problem::BareDigest(input.to_owned()));
    }
    let (rest, digest) = match input.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
        None => (input, None),
    };
    // A colon behind the last slash starts the tag; one before it belongs to a port.
    let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[name_start..].find(':') {
        Some(colon) => (&rest[..name_start + colon], Some(&rest[name_start + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, path) = split_registry(name);
    let registry = check_registry(registry.unwrap_or(default_registry))?;
    check_repository(path, input)?;
    let is_bare = registry == DEFAULT_REGISTRY && !path.contains('/');
    if is_bare && is_bare_digest(path) {
        return Err(Problem::BareDigest(format!("sha256:{path}")));
    }
    let repository = if is_bare { format!("{OFFICIAL}{path}") } else { path.to_owned() };
    check_length(&repository)?;
    let tag = match (tag, &digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(Reference { registry, repository, tag, digest })
}

/// The first component is a registry when it cannot be a repository component: docker's rule.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':', '[']) || first == "localhost" => (Some(first), rest),
        _ => (None, name),
    }
}

/// Whether a registry address is on this machine (`localhost`, 127.0.0.0/8, `::1`).
pub(super) fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_bare_digest(path: &str) -> bool {
    path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Checks and normalises a registry address, `HOST` or `HOST:PORT`.
pub(super) fn check_registry(registry: &str) -> Result<String, Problem> {
    if registry.len() > MAX_NAME {
        return Err(Problem::TooLong { part: "registry", limit: MAX_NAME });
    }
    let wrong = || Problem::Registry(registry.to_owned());
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (None, port.strip_prefix(':').or_else(|| (!port.is_empty()).then_some("x")))
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && bytes.first().is_some_and(|byte| *byte != b'-')
            && bytes.last().is_some_and(|byte| *byte != b'-')
    };
    if host.is_some_and(|host| !host.split('.').all(is_label)) {
        return Err(wrong());
    }
    // `u16::from_str` takes a sign, a port does not.
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p != 0)
    };
    if port.is_some_and(|port| !is_port(port)) {
        return Err(wrong());
    }
    // Host names do not distinguish case; one spelling keeps the store from holding an image twice.
    Ok(match registry.to_ascii_lowercase() {
        alias if alias == "index.docker.io" || alias == "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        registry => registry,
    })
}

fn check_length(repository: &str) -> Result<(), Problem> {
    if repository.len() > MAX_NAME {
        return Err(Problem::TooLong { part: "repository", limit: MAX_NAME });
    }
    Ok(())
}

pub(super) fn check_repository(path: &str, input: &str) -> Result<(), Problem> {
    check_length(path)?;
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let start = input.find(path).unwrap_or(0);
        let (before, rest) = input.split_at(start);
        let (name, after) = rest.split_at(path.len().min(rest.len()));
        return Err(Problem::UpperCase {
            suggestion: format!("{before}{}{after}", name.to_ascii_lowercase()),
        });
    }
    for component in path.split('/') {
        if component.is_empty() {
            return Err(Problem::EmptyComponent);
        }
        if !is_component(component) {
            return Err(Problem::Repository { component: component.to_owned() });
        }
    }
    Ok(())
}

/// Runs of `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
    component.starts_with(is_alphanumeric)
        && component.ends_with(is_alphanumeric)
        && component.split(is_alphanumeric).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

fn check_tag(tag: &str) -> Result<(), Problem> {
    if tag.len() > MAX_TAG {
        return Err(Problem::TooLong { part: "tag", limit: MAX_TAG });
    }
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = tag.bytes().next().is_some_and(is_word);
    if starts_well && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-') {
        Ok(())
    } else {
        Err(Problem::Tag(tag.to_owned()))
    }
}

#[cfg(test)]
mod tests;
