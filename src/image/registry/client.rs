//! One repository on one registry: manifests and blobs, with authorization, retries and bounded answers.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::{Answer, Challenge, Session};
use super::error::{Identity, RegistryError};
use super::http::{Redirects, backoff, client, read_bounded, retry_after, without_secrets};
use super::notice::{Notice, Notify};
use super::settings::{Host, Mirror, Registries};
use super::words::{envelope, nearest};
use crate::image::credentials::{Credential, CredentialFiles};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCKER_LIST, DOCKER_MANIFEST, MAX_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::image::reference::Reference;

const MAX_ERROR: u64 = 64 << 10;
const MAX_TAGS: u64 = 1 << 20;
/// How often a request that failed for a passing reason is repeated.
pub(crate) const RETRIES: u32 = 4;
/// Longest wait a registry can ask for before we give up instead.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How to talk to registries.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// For a connection to come about.
    pub(crate) connect_timeout: Duration,
    /// For the next bytes to arrive.
    pub(crate) read_timeout: Duration,
    /// What the user says about each registry.
    pub(crate) registries: Arc<Registries>,
    /// Where the user keeps credentials.
    pub(crate) credentials: CredentialFiles,
}

/// A repository on a registry.
pub(crate) struct Registry {
    http: reqwest::Client,
    https: bool,
    host: Host,
    repository: String,
    /// How often a request that failed is repeated: a mirror has others behind it that can be asked instead.
    retries: u32,
    settings: Settings,
    /// A credential to use instead of stored ones.
    given: Option<Credential>,
    session: RwLock<Session>,
    // Held while a token is fetched, so that parallel layers ask for one token and not for many.
    authorizing: tokio::sync::Mutex<()>,
}

impl Registry {
    /// The registry that `reference` names. Nothing is sent yet.
    pub(crate) fn new(reference: &Reference, settings: &Settings) -> Result<Self, RegistryError> {
        Self::at(Host::of(reference), reference.repository().to_owned(), RETRIES, settings)
    }

    /// What `mirror` has of the repository that `reference` names.
    pub(super) fn mirror(
        reference: &Reference,
        mirror: &Mirror,
        settings: &Settings,
    ) -> Result<Self, RegistryError> {
        let repository = match mirror.prefix.as_str() {
            "" => reference.repository().to_owned(),
            prefix => format!("{prefix}/{}", reference.repository()),
        };
        Self::at(mirror.host.clone(), repository, 0, settings)
    }

    /// `host` as such, to find out whether it takes `credential`.
    pub(super) fn with_credential(
        host: &Host,
        credential: Credential,
        settings: &Settings,
    ) -> Result<Self, RegistryError> {
        let registry = Self::at(host.clone(), String::new(), RETRIES, settings)?;
        Ok(Self { given: Some(credential), ..registry })
    }

    fn at(host: Host, repository: String, retries: u32, settings: &Settings) -> Result<Self, RegistryError> {
        Ok(Self {
            http: client(&host, settings, Redirects::Follow)?,
            https: !settings.registries.host(&host).plain_http,
            host,
            repository,
            retries,
            settings: settings.clone(),
            given: None,
            session: RwLock::default(),
            authorizing: tokio::sync::Mutex::new(()),
        })
    }

    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    /// Host and port, as shown in errors.
    pub(super) fn address(&self) -> &str {
        self.host.address()
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn given(&self) -> Option<&Credential> {
        self.given.as_ref()
    }

    /// What to ask a token for when the registry does not say.
    pub(super) fn default_scope(&self) -> Option<String> {
        (!self.repository.is_empty()).then(|| format!("repository:{}:pull", self.repository))
    }

    /// Asks whether this is a registry that lets us in, and returns who it was told we are for that.
    pub(super) async fn enter(&self, notify: Notify<'_>) -> Result<Identity, RegistryError> {
        let url = format!("{}/v2/", self.base());
        self.send(&|| self.http.get(&url), notify).await?;
        Ok(self.known_session().identity)
    }

    /// The manifest or index called `name` (a tag or digest) and the digest the registry says it has.
    pub(crate) async fn manifest(
        &self,
        name: &str,
        notify: Notify<'_>,
    ) -> Result<(Vec<u8>, Option<Digest>), RegistryError> {
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let mut headers = HeaderMap::new();
        headers.extend(HeaderValue::from_str(&accept).ok().map(|value| (ACCEPT, value)));
        let response = match self.get(&format!("manifests/{name}"), &headers, notify).await {
            Err(RegistryError::Status { status: 404, .. }) => return Err(self.missing(name, notify).await),
            response => response?,
        };
        let stated = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        let stated = stated.and_then(|text| text.parse().ok());
        let body = read_bounded(response, MAX_MANIFEST, "a manifest", self.address()).await?;
        Ok((body, stated))
    }

    /// A blob in memory, at most `limit` bytes of it.
    pub(crate) async fn small_blob(
        &self,
        digest: &Digest,
        limit: u64,
        notify: Notify<'_>,
    ) -> Result<Vec<u8>, RegistryError> {
        let (response, _) = self.blob(digest, 0, notify).await?;
        read_bounded(response, limit, "a configuration", self.address()).await
    }

    /// The response carrying a blob, and how many bytes at its start are before `offset`.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
        notify: Notify<'_>,
    ) -> Result<(Response, u64), RegistryError> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            headers.extend(range.ok().map(|value| (RANGE, value)));
        }
        match self.get(&format!("blobs/{digest}"), &headers, notify).await {
            Err(RegistryError::Status { status: 404, registry, .. }) => {
                Err(RegistryError::NoBlob { registry, digest: digest.to_string() })
            }
            response => from_offset(response?, offset, self.address()),
        }
    }

    /// The address of something in this repository.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base(), self.repository)
    }

    fn base(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.address())
    }

    async fn get(
        &self,
        path: &str,
        headers: &HeaderMap,
        notify: Notify<'_>,
    ) -> Result<Response, RegistryError> {
        let url = self.url(path);
        self.send(&|| self.http.get(&url).headers(headers.clone()), notify).await
    }

    /// Sends a request with what authorization there is, gets that when asked for it, and tries again what failed
    /// for a passing reason. `build` makes the request anew each time. Any answer but success is an error.
    pub(super) async fn send(
        &self,
        build: &(dyn Fn() -> RequestBuilder + Send + Sync),
        notify: Notify<'_>,
    ) -> Result<Response, RegistryError> {
        let (mut attempt, mut authorized) = (0, false);
        loop {
            let session = self.session(notify).await?;
            let sent = session.apply(build()).send().await;
            let (error, wait) = match sent {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    // Who is asked in its place has no claim to the registry's credentials.
                    let asks = response.status() == StatusCode::UNAUTHORIZED && self.is_from_here(&response);
                    let challenge = Challenge::of(response.headers()).filter(|_| asks && !authorized);
                    if let Some(challenge) = challenge {
                        authorized = true;
                        match self.renew(&session, &challenge, notify).await? {
                            None => continue,
                            Some(identity) => return Err(self.refusal(response, &identity).await),
                        }
                    }
                    let wait = retry_after(response.headers());
                    (self.failure(response, &session.identity).await, wait)
                }
                Err(error) => (RegistryError::classify(self.address(), error), None),
            };
            let pause = wait.unwrap_or(backoff(attempt));
            // Who was silent for a whole timeout will be silent for the next; only a transfer under way is resumed.
            let is_silent = matches!(error, RegistryError::Timeout { .. });
            if is_silent || !error.is_transient() || attempt >= self.retries || pause > MAX_WAIT {
                return Err(error);
            }
            attempt += 1;
            notify(Notice::Waiting { reason: error.to_string(), pause });
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Sends a request that cannot be made twice, such as one with a stream in it. A place elsewhere that the registry
    /// sent us to gets no credentials.
    pub(super) async fn send_once(
        &self,
        url: &Url,
        request: RequestBuilder,
        notify: Notify<'_>,
    ) -> Result<Response, RegistryError> {
        let session = self.session(notify).await?;
        let request = if self.is_own(url) { session.apply(request) } else { request };
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => Err(self.failure(response, &session.identity).await),
            Err(error) => Err(RegistryError::classify(self.address(), error)),
        }
    }

    /// Whether a response is the registry's own, and not that of a place it redirected us to.
    fn is_from_here(&self, response: &Response) -> bool {
        self.is_own(response.url())
    }

    /// Whether an address is the registry's own.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        Url::parse(&self.base()).is_ok_and(|own| own.origin() == url.origin())
    }

    /// What to send with the next request; a token that is about to end is replaced first.
    async fn session(&self, notify: Notify<'_>) -> Result<Session, RegistryError> {
        let session = self.known_session();
        match session.expired(std::time::Instant::now()) {
            None => Ok(session),
            Some(challenge) => {
                self.renew(&session, &challenge, notify).await?;
                Ok(self.known_session())
            }
        }
    }

    fn known_session(&self) -> Session {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gets a new session unless another request just did. When there is none to get, tells who we are to the registry.
    async fn renew(
        &self,
        refused: &Session,
        challenge: &Challenge,
        notify: Notify<'_>,
    ) -> Result<Option<Identity>, RegistryError> {
        let _single = self.authorizing.lock().await;
        if self.known_session().number != refused.number {
            return Ok(None);
        }
        match self.authorize(challenge, notify).await? {
            Answer::Session(mut fresh) => {
                fresh.number = refused.number + 1;
                *self.session.write().unwrap_or_else(PoisonError::into_inner) = *fresh;
                Ok(None)
            }
            Answer::Nothing(identity) => Ok(Some(identity)),
        }
    }

    /// The error an unsuccessful response to one of our requests stands for.
    async fn failure(&self, response: Response, identity: &Identity) -> RegistryError {
        match response.status().as_u16() {
            status @ (401 | 403) if !self.is_from_here(&response) => RegistryError::Elsewhere {
                registry: self.address().to_owned(),
                status,
                url: without_secrets(response.url()),
            },
            _ => self.refusal(response, identity).await,
        }
    }

    /// The error an unsuccessful response of the registry or its token server stands for; `identity` is who was said to ask.
    pub(super) async fn refusal(&self, response: Response, identity: &Identity) -> RegistryError {
        let (status, url) = (response.status().as_u16(), response.url().clone());
        let wait = retry_after(response.headers());
        let body = read_bounded(response, MAX_ERROR, "an error message", self.address()).await;
        let message = envelope(&body.unwrap_or_default());
        let (registry, repository) = (self.address().to_owned(), self.repository.clone());
        let identity = Box::new(identity.clone());
        match status {
            401 | 403 if self.given.is_some() => RegistryError::LoginRefused { registry, message },
            401 => RegistryError::Unauthorized { registry, repository, identity, message },
            403 => RegistryError::Forbidden { registry, repository, identity, message },
            429 => RegistryError::RateLimited { registry, retry_after: wait, message },
            status => RegistryError::Status { registry, status, url: without_secrets(&url), message },
        }
    }

    pub(super) fn protocol(&self, reason: String) -> RegistryError {
        RegistryError::Protocol { registry: self.address().to_owned(), reason }
    }

    /// Tells an unknown repository from an unknown tag; registries are not reliable in saying so themselves.
    async fn missing(&self, name: &str, notify: Notify<'_>) -> RegistryError {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let (registry, repository) = (self.address().to_owned(), self.repository.clone());
        let answer = match self.get("tags/list", &HeaderMap::new(), notify).await {
            Ok(response) => read_bounded(response, MAX_TAGS, "a list of tags", self.address()).await,
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
}

/// Checks what part of a blob a response carries. Returns it with the number of bytes at its start to leave out.
pub(super) fn from_offset(
    response: Response,
    offset: u64,
    registry: &str,
) -> Result<(Response, u64), RegistryError> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok((response, offset));
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    match range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-"))) {
        true => Ok((response, 0)),
        false => Err(RegistryError::Protocol {
            registry: registry.to_owned(),
            reason: "it sent another part of a blob than it was asked for".to_owned(),
        }),
    }
}
