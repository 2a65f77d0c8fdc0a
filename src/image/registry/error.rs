//! What a registry or the network on the way to it can do wrong.

use std::path::PathBuf;
use std::time::Duration;

use super::words::printable;
use crate::image::credentials::Credential;
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
    /// It wants to know who asks, or does not believe it.
    #[error("{}", unauthorized(registry, repository, identity, message))]
    Unauthorized {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
        /// Who it was told we are.
        identity: Box<Identity>,
        /// The registry's words.
        message: String,
    },
    /// It knows who asks and says no.
    #[error("{registry} refuses access to `{repository}`{}{}", whom(identity), suffix(.message))]
    Forbidden {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
        /// Who it was told we are.
        identity: Box<Identity>,
        /// The registry's words.
        message: String,
    },
    /// The user name and password of a login are wrong.
    #[error("{registry} does not accept this user name and password{}", suffix(.message))]
    LoginRefused {
        /// Host and port.
        registry: String,
        /// The registry's words.
        message: String,
    },
    /// A server that a registry redirected to does not let us in; its address may have been valid for a short time only.
    #[error("{registry} sent us to {url}, which answered {status}")]
    Elsewhere {
        /// Host and port.
        registry: String,
        /// HTTP status.
        status: u16,
        /// Where.
        url: String,
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

fn unauthorized(registry: &str, repository: &str, identity: &Identity, message: &str) -> String {
    let what = match identity {
        Identity::User { .. } => {
            format!("{registry} does not accept the stored credentials{}", whom(identity))
        }
        Identity::Nobody | Identity::Unusable { .. } => {
            format!("`{repository}` on {registry} does not exist or needs a login")
        }
    };
    format!("{what}{}", suffix(message))
}

fn whom(identity: &Identity) -> String {
    match identity {
        Identity::User { name: Some(name), .. } => format!(" for user `{name}`"),
        _ => String::new(),
    }
}

/// Who a registry was told we are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Identity {
    /// Nobody in particular.
    #[default]
    Nobody,
    /// Somebody.
    User {
        /// The user's name, where the credential has one.
        name: Option<String>,
        /// The file or helper that has the credential; none when it was given.
        keeper: Option<String>,
    },
    /// Nobody, since the stored credentials cannot be had.
    Unusable {
        /// Why.
        reason: String,
        /// What can be done about that.
        hint: Option<String>,
    },
}

impl Identity {
    pub(super) fn of(credential: &Credential, keeper: Option<String>) -> Self {
        let name = match credential {
            Credential::Password { user, .. } => Some(printable(user, 100)),
            Credential::IdentityToken(_) | Credential::RegistryToken(_) => None,
        };
        Self::User { name, keeper }
    }

    /// What to do when this does not suffice at `registry`.
    fn hint(&self, registry: &str) -> String {
        let login = login(registry);
        match self {
            Self::Nobody => {
                format!("check the spelling; if the repository is private, log in with `{login}`")
            }
            Self::User { keeper: Some(keeper), .. } => {
                format!("the credentials in {keeper} do not suffice; log in again with `{login}`")
            }
            Self::User { keeper: None, .. } => format!("log in again with `{login}`"),
            Self::Unusable { reason, hint: None } => reason.clone(),
            Self::Unusable { reason, hint: Some(hint) } => format!("{reason}; {hint}"),
        }
    }
}

/// Docker Hub is the registry `msb login` means when it is not told any.
fn login(registry: &str) -> String {
    match registry {
        super::settings::DOCKER_HUB => "msb login".to_owned(),
        registry => format!("msb login {registry}"),
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
                Some("check the spelling; a private repository needs `msb login` first".into())
            }
            Self::NoImage { tags, .. } if !tags.is_empty() => {
                Some(format!("tags it has: {}", tags.join(", ")))
            }
            Self::NoImage { .. } => Some("check the spelling of the tag or digest".into()),
            Self::Unauthorized { registry, identity, .. } | Self::Forbidden { registry, identity, .. } => {
                Some(identity.hint(registry))
            }
            Self::LoginRefused { .. } => {
                Some("check both; many registries want an access token in the place of the password".into())
            }
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
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Broken { .. }
            | Self::Timeout { .. }
            | Self::RateLimited { .. }
            | Self::Elsewhere { .. } => true,
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
