//! Why a request is not passed on.

use std::net::IpAddr;

use hyper::StatusCode;

use crate::net::secret::Place;

/// Why something of the sandbox is not passed on. No value is ever a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// A placeholder on its way to somebody whose secret it is not.
    #[error("the secret `{secret}` is not for {host}")]
    OtherHost {
        /// The secret.
        secret: String,
        /// Who would have got it.
        host: String,
        /// Who may.
        hosts: String,
    },
    /// A placeholder where the secret may not stand.
    #[error("the secret `{secret}` may not be sent to {host} in the {place} of a request")]
    Place {
        /// The secret.
        secret: String,
        /// To whom.
        host: String,
        /// Where.
        place: Place,
    },
    /// A placeholder on its way without encryption.
    #[error("the secret `{secret}` is not sent to {host} without encryption")]
    Plain {
        /// The secret.
        secret: String,
        /// To whom.
        host: String,
    },
    /// Content that cannot be looked through.
    #[error("the content for {host} is encoded as {encoding}, so no secret can be put into it")]
    Encoded {
        /// To whom.
        host: String,
        /// The content's encoding.
        encoding: String,
    },
    /// The address is not one that DNS has given for the name.
    #[error("{address} is not an address that the sandbox was given for {host}")]
    Pin {
        /// The name.
        host: String,
        /// The address.
        address: IpAddr,
    },
    /// The request is for another host than the connection.
    #[error("a request on a connection to {host} is for {asked}")]
    Authority {
        /// The connection's host.
        host: String,
        /// The request's.
        asked: String,
    },
    /// The server cannot prove that it is who it should be.
    #[error("the server does not prove to be {host}: {reason}")]
    Unverified {
        /// Who it should be.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The sandbox has begun more requests than are held.
    #[error("too many requests are under way for one more to {host}")]
    Crowded {
        /// To whom.
        host: String,
    },
    /// The content of a request does not come.
    #[error("the content of a request to {host} did not come")]
    Stalled {
        /// To whom.
        host: String,
    },
    /// HTTP/3, which is not intercepted.
    #[error("HTTP/3 with {host} is refused, as no secret can be put into it")]
    Datagrams {
        /// With whom.
        host: String,
    },
    /// The sandbox's program does not take the certificate of the interception.
    #[error(
        "a program does not trust the sandbox's own certificate authority, through which it would get the secrets for {host}"
    )]
    Distrusted {
        /// Whom it wanted to reach.
        host: String,
    },
}

impl Refusal {
    /// The status of the answer (RFC 9110 §15.5): one after which clients try again by themselves only where
    /// that can help.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::OtherHost { .. }
            | Self::Place { .. }
            | Self::Plain { .. }
            | Self::Datagrams { .. }
            | Self::Distrusted { .. } => StatusCode::FORBIDDEN,
            Self::Encoded { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Crowded { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Stalled { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Pin { .. } | Self::Authority { .. } | Self::Unverified { .. } => {
                StatusCode::MISDIRECTED_REQUEST
            }
        }
    }

    /// What to change.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::OtherHost { hosts, host, .. } => {
                format!("it is for {hosts}; if {host} may have it, add that to the secret's `hosts`")
            }
            Self::Place { place, .. } => {
                format!("if it belongs there, add `{place}` to the secret's `in`")
            }
            Self::Plain { .. } => "use https".to_owned(),
            Self::Encoded { .. } => {
                "send it without Content-Encoding, or take `body` out of the `in` of the secrets for this host".to_owned()
            }
            Self::Pin { .. } => "look the name up again, with the sandbox's own name server, before connecting".to_owned(),
            Self::Authority { .. } => "use a connection of its own for each host".to_owned(),
            Self::Unverified { .. } => {
                "if its certificate authority is to be trusted, name its file in config.toml: [secrets] ca = \"FILE\"".to_owned()
            }
            Self::Crowded { .. } => "have the program wait for answers before it asks more".to_owned(),
            Self::Stalled { .. } => "have the program send what it has said it would".to_owned(),
            Self::Datagrams { .. } => "have the program use HTTP/2 or HTTP/1.1".to_owned(),
            Self::Distrusted { .. } => {
                "have it use the system's certificates, or the file that SSL_CERT_FILE names".to_owned()
            }
        }
    }

    /// The secret it is about, where it is about one.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::OtherHost { secret, .. } | Self::Place { secret, .. } | Self::Plain { secret, .. } => {
                Some(secret)
            }
            _ => None,
        }
    }

    /// The host it is about.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::OtherHost { host, .. }
            | Self::Place { host, .. }
            | Self::Plain { host, .. }
            | Self::Encoded { host, .. }
            | Self::Pin { host, .. }
            | Self::Authority { host, .. }
            | Self::Unverified { host, .. }
            | Self::Crowded { host }
            | Self::Stalled { host }
            | Self::Datagrams { host }
            | Self::Distrusted { host } => host,
        }
    }

    /// The text of the answer.
    #[must_use]
    pub fn text(&self) -> String {
        format!("msb: {self}\nhint: {}\n", self.hint())
    }
}
