//! One repository on one registry: manifests and blobs, with authorization, retries and bounded answers.

use std::sync::{Once, PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode, redirect};
use serde::Deserialize;

use super::auth::Authorization;
use super::error::{RegistryError, printable};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCKER_LIST, DOCKER_MANIFEST, MAX_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::image::reference::{DEFAULT_REGISTRY, Reference};

/// Docker Hub answers under another name than the one in references.
pub(super) const DOCKER_HUB: &str = "registry-1.docker.io";
const MAX_ERROR: u64 = 64 << 10;
const MAX_TAGS: u64 = 1 << 20;
/// How often a request that failed for a passing reason is repeated.
pub(super) const RETRIES: u32 = 4;
/// Longest wait a registry can ask for before we give up instead.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How to talk to registries.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// For a connection to come about.
    pub(crate) connect_timeout: Duration,
    /// For the next bytes to arrive.
    pub(crate) read_timeout: Duration,
}

/// A repository on a registry.
pub(crate) struct Registry {
    http: reqwest::Client,
    https: bool,
    address: String,
    reference: Reference,
    authorization: RwLock<Authorization>,
    // Held while a token is fetched, so that parallel layers ask for one token and not for many.
    authorizing: tokio::sync::Mutex<()>,
}

impl Registry {
    /// Prepares a client; nothing is sent yet.
    pub(crate) fn new(reference: &Reference, settings: &Settings) -> Result<Self, RegistryError> {
        static PROVIDER: Once = Once::new();
        // An embedder may have installed its own, which is as good.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let address = match reference.registry() {
            DEFAULT_REGISTRY => DOCKER_HUB.to_owned(),
            registry => registry.to_owned(),
        };
        let https = !reference.is_loopback();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("msb/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .read_timeout(settings.read_timeout)
            .redirect(redirect::Policy::custom(follow));
        // A proxy cannot reach this machine's own registries. Nor need they any CA certificate.
        let builder = if https { builder } else { builder.no_proxy().tls_certs_only([]) };
        let http = builder.build().map_err(|error| match RegistryError::classify(&address, &error) {
            RegistryError::Broken { registry, reason } => RegistryError::Tls { registry, reason },
            other => other,
        })?;
        Ok(Self {
            http,
            https,
            address,
            reference: reference.clone(),
            authorization: RwLock::default(),
            authorizing: tokio::sync::Mutex::new(()),
        })
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    /// Host and port, as shown in errors.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn repository(&self) -> &str {
        self.reference.repository()
    }

    /// The name credentials are stored under.
    pub(super) fn credential_name(&self) -> &str {
        self.reference.registry()
    }

    /// The manifest or index called `name` (a tag or digest) and the digest the registry says it has.
    pub(crate) async fn manifest(&self, name: &str) -> Result<(Vec<u8>, Option<Digest>), RegistryError> {
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let mut headers = HeaderMap::new();
        headers.extend(HeaderValue::from_str(&accept).ok().map(|value| (ACCEPT, value)));
        let response = match self.get(&format!("manifests/{name}"), &headers).await {
            Err(RegistryError::Status { status: 404, .. }) => return Err(self.missing(name).await),
            response => response?,
        };
        let stated = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        let stated = stated.and_then(|text| text.parse().ok());
        let body = read_bounded(response, MAX_MANIFEST, "a manifest", &self.address).await?;
        Ok((body, stated))
    }

    /// A blob in memory, at most `limit` bytes of it.
    pub(crate) async fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let (response, _) = self.blob(digest, 0).await?;
        read_bounded(response, limit, "a configuration", &self.address).await
    }

    /// The response carrying a blob, and how many bytes at its start are before `offset`.
    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<(Response, u64), RegistryError> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            headers.extend(range.ok().map(|value| (RANGE, value)));
        }
        let response = match self.get(&format!("blobs/{digest}"), &headers).await {
            Err(RegistryError::Status { status: 404, registry, .. }) => {
                return Err(RegistryError::NoBlob { registry, digest: digest.to_string() });
            }
            response => response?,
        };
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok((response, offset));
        }
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        match range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-"))) {
            true => Ok((response, 0)),
            false => Err(self.protocol("it sent another part of a blob than it was asked for")),
        }
    }

    async fn get(&self, path: &str, headers: &HeaderMap) -> Result<Response, RegistryError> {
        let scheme = if self.https { "https" } else { "http" };
        let url = format!("{scheme}://{}/v2/{}/{path}", self.address, self.repository());
        let (mut attempt, mut authorized) = (0, false);
        loop {
            let authorization = self.authorization();
            let request = self.http.get(&url).headers(headers.clone());
            let sent = authorization.apply(request).send().await;
            let (error, wait) = match sent {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !authorized => {
                    authorized = true;
                    if self.renew(&authorization, response.headers()).await? {
                        continue;
                    }
                    return Err(self.refusal(response, false).await);
                }
                Ok(response) => {
                    let wait = retry_after(response.headers());
                    (self.refusal(response, authorization.is_personal()).await, wait)
                }
                Err(error) => (RegistryError::classify(&self.address, &error), None),
            };
            let wait = wait.unwrap_or(backoff(attempt));
            // Who was silent for a whole timeout will be silent for the next; only a transfer under way is resumed.
            let is_silent = matches!(error, RegistryError::Timeout { .. });
            if is_silent || !error.is_transient() || attempt >= RETRIES || wait > MAX_WAIT {
                return Err(error);
            }
            attempt += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// Gets a new authorization unless another request just did. `false` when there is none to get.
    async fn renew(&self, refused: &Authorization, headers: &HeaderMap) -> Result<bool, RegistryError> {
        let _single = self.authorizing.lock().await;
        if self.authorization() != *refused {
            return Ok(true);
        }
        match self.authorize(headers).await? {
            Some(fresh) => {
                *self.authorization.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn authorization(&self) -> Authorization {
        self.authorization.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The error an unsuccessful response stands for.
    pub(super) async fn refusal(&self, response: Response, had_credentials: bool) -> RegistryError {
        let (status, url) = (response.status(), printable(response.url().as_str(), 300));
        let wait = retry_after(response.headers());
        let body = read_bounded(response, MAX_ERROR, "an error message", &self.address).await;
        let message = envelope(&body.unwrap_or_default());
        let registry = self.address.clone();
        match status.as_u16() {
            401 | 403 => RegistryError::Unauthorized {
                registry,
                repository: self.repository().to_owned(),
                had_credentials,
                message,
            },
            429 => RegistryError::RateLimited { registry, retry_after: wait, message },
            status => RegistryError::Status { registry, status, url, message },
        }
    }

    /// Tells an unknown repository from an unknown tag; registries are not reliable in saying so themselves.
    async fn missing(&self, name: &str) -> RegistryError {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let (registry, repository) = (self.address.clone(), self.repository().to_owned());
        let answer = match self.get("tags/list", &HeaderMap::new()).await {
            Ok(response) => read_bounded(response, MAX_TAGS, "a list of tags", &self.address).await,
            Err(error) => Err(error),
        };
        let known: Option<Tags> = match answer {
            Ok(body) => serde_json::from_slice(&body).ok(),
            Err(RegistryError::Status { status: 404, .. }) => {
                return RegistryError::NoRepository { registry, repository };
            }
            Err(_) => None,
        };
        let tags = known.and_then(|known| known.tags).unwrap_or_default();
        RegistryError::NoImage { registry, repository, name: name.to_owned(), tags: nearest(name, tags) }
    }

    pub(super) fn protocol(&self, reason: &str) -> RegistryError {
        RegistryError::Protocol { registry: self.address.clone(), reason: reason.to_owned() }
    }
}

/// Follows redirects to blob storage, but never out of TLS.
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
        response.chunk().await.map_err(|error| RegistryError::classify(registry, &error))?
    {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(RegistryError::TooLarge { registry: registry.to_owned(), what, limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Half a second, one, two, four.
pub(super) fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(500 << attempt.min(6))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The messages in the specification's error format, else the text itself when it is short and no page.
fn envelope(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => {
            let entries = envelope.errors.iter().take(3).map(|entry| match entry.message.as_str() {
                "" => entry.code.clone(),
                message => message.to_owned(),
            });
            printable(&entries.collect::<Vec<_>>().join("; "), 300)
        }
        Err(_) if body.starts_with(b"<") || body.starts_with(b"{") => String::new(),
        Err(_) => printable(&String::from_utf8_lossy(body), 200),
    }
}

/// A few tags to suggest: those that begin alike first, then the rest as the registry ordered them.
fn nearest(wanted: &str, mut tags: Vec<String>) -> Vec<String> {
    let alike = |tag: &String| tag.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
    tags.sort_by_key(|tag| std::cmp::Reverse(alike(tag)));
    tags.iter().take(5).map(|tag| printable(tag, 128)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_error_bodies() {
        let json = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m entry"},{"code":"X"}]}"#;
        assert_eq!(envelope(json), "no[31m entry; X");
        assert_eq!(envelope(b"<html>nginx</html>"), "");
        assert_eq!(envelope(b"try\nlater"), "try later");
    }

    #[test]
    fn suggests_tags() {
        let tags = ["1.0", "3.11", "3.12", "latest"].map(String::from).to_vec();
        assert_eq!(nearest("3.13", tags)[..2], ["3.11", "3.12"]);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body: Vec<u8>) {
            let _ = envelope(&body);
        }
    }
}
