//! Where an image can be had: the mirrors of its registry in their order, then the registry itself.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Response;

use super::client::{Registry, Settings};
use super::error::RegistryError;
use super::notice::{Notice, Notify};
use super::settings::Host;
use crate::image::digest::Digest;
use crate::image::reference::Reference;

/// The sources of one repository. One that failed is not asked again.
pub(crate) struct Origin {
    registries: Vec<Registry>,
    current: AtomicUsize,
}

impl Origin {
    /// Prepares the clients; nothing is sent yet.
    pub(crate) fn new(reference: &Reference, settings: &Settings) -> Result<Self, RegistryError> {
        let mirrors = settings.registries.host(&Host::of(reference)).mirrors;
        let mirrors = mirrors.iter().map(|mirror| Registry::mirror(reference, mirror, settings));
        let registries = mirrors.chain([Registry::new(reference, settings)]).collect::<Result<_, _>>()?;
        Ok(Self { registries, current: AtomicUsize::new(0) })
    }

    /// The manifest or index called `name` (a tag or digest) and the digest its source says it has.
    pub(crate) async fn manifest(
        &self,
        name: &str,
        notify: Notify<'_>,
    ) -> Result<(Vec<u8>, Option<Digest>), RegistryError> {
        self.first(notify, async |registry| registry.manifest(name, notify).await).await
    }

    /// A blob in memory, at most `limit` bytes of it.
    pub(crate) async fn small_blob(
        &self,
        digest: &Digest,
        limit: u64,
        notify: Notify<'_>,
    ) -> Result<Vec<u8>, RegistryError> {
        self.first(notify, async |registry| registry.small_blob(digest, limit, notify).await).await
    }

    /// What the first source says that can answer.
    async fn first<T>(
        &self,
        notify: Notify<'_>,
        ask: impl AsyncFn(&Registry) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut source = self.current();
        loop {
            match ask(&self.registries[source]).await {
                Err(error) if self.is_followed(source) => {
                    source = self.go_on(source, &error);
                    notify(self.notice(source, &error));
                }
                answer => return answer,
            }
        }
    }

    /// The source to begin with.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Whether there is a source behind this one.
    pub(super) fn is_followed(&self, source: usize) -> bool {
        source + 1 < self.registries.len()
    }

    /// The source behind `source`. What one does not have others may ask it for; but who is out of order is left alone.
    pub(super) fn go_on(&self, source: usize, error: &RegistryError) -> usize {
        if !matches!(error, RegistryError::NoBlob { .. }) {
            self.current.fetch_max(source + 1, Ordering::Relaxed);
        }
        source + 1
    }

    pub(super) fn notice(&self, next: usize, error: &RegistryError) -> Notice {
        Notice::NextSource { reason: error.to_string(), next: self.registries[next].address().to_owned() }
    }

    /// Host and port of a source, as shown in errors.
    pub(super) fn address(&self, source: usize) -> &str {
        self.registries[source].address()
    }

    /// The response carrying a blob from one source, and how many bytes at its start are before `offset`.
    pub(super) async fn blob(
        &self,
        source: usize,
        digest: &Digest,
        offset: u64,
        notify: Notify<'_>,
    ) -> Result<(Response, u64), RegistryError> {
        self.registries[source].blob(digest, offset, notify).await
    }
}
