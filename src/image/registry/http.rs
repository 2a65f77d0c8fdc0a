//! HTTP as registries need it: a client per host, redirects, bounded bodies, waiting times.

use std::path::Path;
use std::sync::Once;
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, Url, redirect};

use super::client::Settings;
use super::error::RegistryError;
use super::settings::{Host, HostSettings};

/// Certificate files are a few hundred kilobytes at most.
const MAX_CA: u64 = 8 << 20;

/// Whether a client goes where it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    Follow,
    Refuse,
}

/// A client that reaches `host` as the user wants; nothing is sent yet.
pub(super) fn client(
    host: &Host,
    settings: &Settings,
    redirects: Redirects,
) -> Result<Client, RegistryError> {
    static PROVIDER: Once = Once::new();
    // An embedder may have installed its own, which is as good.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let HostSettings { plain_http, insecure, ca, .. } = settings.registries.host(host);
    let mut builder = Client::builder()
        .user_agent(concat!("msb/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.read_timeout)
        .tls_danger_accept_invalid_certs(insecure)
        .redirect(match redirects {
            Redirects::Follow => redirect::Policy::custom(follow),
            Redirects::Refuse => redirect::Policy::none(),
        });
    if host.is_loopback() {
        // A proxy cannot reach this machine's own registries.
        builder = builder.no_proxy();
    }
    if host.is_loopback() && plain_http {
        // Nor need they the system's certificates, which take a while to read.
        builder = builder.tls_certs_only([]);
    }
    if let Some(path) = &ca {
        builder = builder.tls_certs_merge(certificates(path)?);
    }
    builder.build().map_err(|error| match RegistryError::classify(host.address(), error) {
        RegistryError::Broken { registry, reason } => RegistryError::Tls { registry, reason },
        other => other,
    })
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, RegistryError> {
    let unusable = |reason: String| RegistryError::Certificates { path: path.to_path_buf(), reason };
    let size = std::fs::metadata(path).map_err(|error| unusable(error.to_string()))?.len();
    if size > MAX_CA {
        return Err(unusable(format!("it has {size} bytes")));
    }
    let text = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    match Certificate::from_pem_bundle(&text) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(unusable("there is no certificate in PEM form in it".to_owned())),
    }
}

/// Follows redirects to blob storage, but never out of TLS. The `Authorization` header is left out when the
/// host, port or scheme changes: reqwest sees to that.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > 10 {
        attempt.error("it redirects without end")
    } else if from_https && attempt.url().scheme() != "https" {
        attempt.error("it redirects from https to an insecure address")
    } else {
        attempt.follow()
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read_bounded(
    mut response: Response,
    limit: u64,
    what: &'static str,
    registry: &str,
) -> Result<Vec<u8>, RegistryError> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| RegistryError::classify(registry, error))?
    {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(RegistryError::TooLarge { registry: registry.to_owned(), what, limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Half a second, one, two, four.
pub(crate) fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(500 << attempt.min(6))
}

/// How long the server asks to wait: seconds or a date (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let then = httpdate::parse_http_date(text).ok()?;
            Some(then.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// An address fit for an error message: what comes behind `?` often is a signature that opens the door.
pub(super) fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Only addresses that cannot have these refuse.
    let _ = (url.set_username(""), url.set_password(None));
    super::words::printable(url.as_str(), 300)
}
