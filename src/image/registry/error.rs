//! What a registry or the network on the way to it can do wrong.

use std::path::PathBuf;
use std::time::Duration;

use crate::image::error::causes;
use crate::image::reference::DEFAULT_REGISTRY;

/// A failed conversation with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The repository is not there, or hidden from us.
    #[error("{registry} has no repository `{repository}`")]
    NoRepository {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
    },
    /// The repository is there, the tag or digest is not.
    #[error("`{repository}` on {registry} has no image `{name}`")]
    NoImage {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
        /// The tag or digest asked for.
        name: String,
        /// Some tags it does have.
        tags: Vec<String>,
    },
    /// The manifest names a blob the registry does not have.
    #[error("{registry} does not have the blob {digest} its own manifest names")]
    NoBlob {
        /// Host and port.
        registry: String,
        /// The blob.
        digest: String,
    },
    /// Credentials are needed, or those given are wrong, or they do not suffice.
    #[error("{registry} refuses access to `{repository}`{}", suffix(.message))]
    Unauthorized {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
        /// Whether credentials were sent.
        had_credentials: bool,
        /// The registry's words.
        message: String,
    },
    /// Too many requests, and waiting did not help.
    #[error("{registry} allows no more requests for now{}", suffix(.message))]
    RateLimited {
        /// Host and port.
        registry: String,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
        /// The registry's words.
        message: String,
    },
    /// No connection: refused, no route, unknown host.
    #[error("cannot connect to {registry}: {reason}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// The system's answer.
        reason: String,
    },
    /// No secure connection.
    #[error("no secure connection to {registry}: {reason}")]
    Tls {
        /// Host and port.
        registry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file with a registry's own certificate authorities.
    #[error("cannot use the certificates in {}: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer in time.
    #[error("{registry} did not answer in time")]
    Timeout {
        /// Host and port.
        registry: String,
    },
    /// The connection broke, also when tried again.
    #[error("the connection to {registry} broke: {reason}")]
    Broken {
        /// Host and port.
        registry: String,
        /// What happened.
        reason: String,
    },
    /// An answer the protocol does not foresee.
    #[error("{registry} answered {status} to {url}{}", suffix(.message))]
    Status {
        /// Host and port.
        registry: String,
        /// HTTP status.
        status: u16,
        /// What was asked for.
        url: String,
        /// The registry's words.
        message: String,
    },
    /// An answer without end.
    #[error("{registry} sent more than {limit} bytes for {what}")]
    TooLarge {
        /// Host and port.
        registry: String,
        /// What was asked for.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// An answer that makes no sense.
    #[error("{registry} does not follow the registry protocol: {reason}")]
    Protocol {
        /// Host and port.
        registry: String,
        /// What is wrong.
        reason: String,
    },
}

fn suffix(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// Docker Hub is the registry `docker login` means when it is not told any.
fn login(registry: &str) -> String {
    match registry {
        super::settings::DOCKER_HUB => "docker login".to_owned(),
        registry => format!("docker login {registry}"),
    }
}

/// A line of `config.toml` about one registry.
fn setting(registry: &str, line: &str) -> String {
    let name = if registry == super::settings::DOCKER_HUB { DEFAULT_REGISTRY } else { registry };
    format!("[registry.\"{name}\"] {line}")
}

impl RegistryError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRepository { .. } => {
                Some("check the spelling; a private repository needs `docker login` first".into())
            }
            Self::NoImage { tags, .. } if !tags.is_empty() => {
                Some(format!("tags it has: {}", tags.join(", ")))
            }
            Self::NoImage { .. } => Some("check the spelling of the tag or digest".into()),
            Self::Unauthorized { registry, had_credentials, .. } => Some(match had_credentials {
                true => {
                    format!("the stored credentials do not suffice; log in again with `{}`", login(registry))
                }
                false => format!(
                    "check the spelling; if the repository is private, log in with `{}`",
                    login(registry)
                ),
            }),
            Self::RateLimited { retry_after, registry, .. } => Some(match retry_after {
                Some(wait) => {
                    format!("try again in {} seconds, or log in with `{}`", wait.as_secs(), login(registry))
                }
                None => format!("try again later, or log in with `{}`", login(registry)),
            }),
            Self::Unreachable { registry, .. } => {
                Some(format!("is the registry at {registry} running, and is the network up?"))
            }
            Self::Tls { registry, reason }
                if reason.contains("InvalidContentType") || reason.contains("corrupt message") =>
            {
                Some(format!(
                    "it seems to speak plain HTTP; if it is meant to, say so in config.toml: {}",
                    setting(registry, "plain-http = true")
                ))
            }
            Self::Tls { registry, .. } => Some(format!(
                "install the system's CA certificates (package ca-certificates), or name the registry's own in config.toml: {}",
                setting(registry, "ca = \"FILE\"")
            )),
            Self::Certificates { .. } => Some("`ca` in config.toml names a PEM file".into()),
            Self::Timeout { .. } | Self::Broken { .. } => Some("check the network and try again".into()),
            _ => None,
        }
    }

    /// Whether asking again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Timeout { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Sorts what the HTTP client says by cause.
    pub(super) fn classify(registry: &str, error: reqwest::Error) -> Self {
        let registry = registry.to_owned();
        // Addresses of blobs carry signatures that must not end up in a log.
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut tls = false;
        for cause in causes(&error).skip(1) {
            reason = cause.to_string();
            tls |= cause.is::<rustls::Error>();
        }
        let reason = printable(&reason, 300);
        if tls {
            Self::Tls { registry, reason }
        } else if error.is_timeout() {
            Self::Timeout { registry }
        } else if error.is_connect() {
            Self::Unreachable { registry, reason }
        } else if error.is_redirect() {
            Self::Protocol { registry, reason }
        } else {
            Self::Broken { registry, reason }
        }
    }
}

/// Text from outside, fit for a terminal: no control characters, one line, not endless.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(limit).collect()
}
