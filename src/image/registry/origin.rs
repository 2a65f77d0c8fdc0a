//! Where an image can be had: the mirrors of its registry in their order, then the registry itself.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Response;

use super::client::{Registry, Settings};
use super::error::RegistryError;
use super::foreign;
use super::notice::{Notice, Notify};
use super::settings::Host;
use crate::image::digest::Digest;
use crate::image::reference::Reference;

/// A blob to transfer.
pub(crate) struct Wanted {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Where else it is, when no registry may give it away.
    pub(crate) urls: Vec<String>,
}

/// The sources of one repository. One that failed is not asked again.
pub(crate) struct Origin {
    registries: Vec<Registry>,
    current: AtomicUsize,
    settings: Settings,
}

impl Origin {
    /// Prepares the clients; nothing is sent yet.
    pub(crate) fn new(reference: &Reference, settings: &Settings) -> Result<Self, RegistryError> {
        let mirrors = settings.registries.host(&Host::of(reference)).mirrors;
        let mirrors = mirrors.iter().map(|mirror| Registry::mirror(reference, mirror, settings));
        let registries = mirrors.chain([Registry::new(reference, settings)]).collect::<Result<_, _>>()?;
        Ok(Self { registries, current: AtomicUsize::new(0), settings: settings.clone() })
    }

    /// The manifest or index called `name` (a tag or digest) and the digest its source says it has.
    pub(crate) async fn manifest(
        &self,
        name: &str,
        notify: Notify<'_>,
    ) -> Result<(Vec<u8>, Option<Digest>), RegistryError> {
        let is_right = |(text, stated): &(Vec<u8>, Option<Digest>)| {
            let wanted = name.parse().ok().or_else(|| stated.clone());
            wanted.is_none_or(|wanted: Digest| wanted.same_kind_of(text) == wanted)
        };
        self.first(notify, async |registry| registry.manifest(name, notify).await, is_right).await
    }

    /// A blob in memory, at most `limit` bytes of it.
    pub(crate) async fn small_blob(
        &self,
        digest: &Digest,
        limit: u64,
        notify: Notify<'_>,
    ) -> Result<Vec<u8>, RegistryError> {
        let is_right = |text: &Vec<u8>| digest.same_kind_of(text) == *digest;
        self.first(notify, async |registry| registry.small_blob(digest, limit, notify).await, is_right).await
    }

    /// What the first source says that can answer and has it right. The last one's word is taken as it is: whoever
    /// asked checks it again.
    async fn first<T>(
        &self,
        notify: Notify<'_>,
        ask: impl AsyncFn(&Registry) -> Result<T, RegistryError>,
        is_right: impl Fn(&T) -> bool,
    ) -> Result<T, RegistryError> {
        let mut source = self.current();
        loop {
            let registry = &self.registries[source];
            let is_last = source + 1 == self.registries.len();
            let error = match ask(registry).await {
                Ok(answer) if is_last || is_right(&answer) => return Ok(answer),
                Ok(_) => registry.protocol("what it sends has another digest than it should have".to_owned()),
                Err(error) if is_last => return Err(error),
                Err(error) => error,
            };
            source = self.go_on(source, &error);
            let next = self.registries[source].address().to_owned();
            notify(Notice::NextSource { reason: error.to_string(), next });
        }
    }

    /// The source to begin with.
    pub(crate) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The source behind `source`. What one does not have others may ask it for; but who is out of order is left alone.
    fn go_on(&self, source: usize, error: &RegistryError) -> usize {
        if !matches!(error, RegistryError::NoBlob { .. }) {
            self.leave(source);
        }
        source + 1
    }

    /// Asks `source` no more, unless it is the last registry.
    fn leave(&self, source: usize) {
        if source + 1 < self.registries.len() {
            self.current.fetch_max(source + 1, Ordering::Relaxed);
        }
    }

    fn is_followed(&self, source: usize, wanted: &Wanted) -> bool {
        source + 1 < self.registries.len() + wanted.urls.len()
    }

    /// The source behind `source` for a blob, after `error`. `None` when there is none.
    pub(super) fn next(&self, source: usize, wanted: &Wanted, error: &RegistryError) -> Option<usize> {
        self.is_followed(source, wanted).then(|| self.go_on(source, error))
    }

    /// The source behind one that sent other bytes than `wanted`. `None` when there is none.
    pub(crate) fn behind_liar(&self, source: usize, wanted: &Wanted) -> Option<usize> {
        self.is_followed(source, wanted).then(|| {
            self.leave(source);
            source + 1
        })
    }

    /// Host and port of a source of a blob, as shown in errors.
    pub(crate) fn address(&self, source: usize, wanted: &Wanted) -> String {
        match self.registries.get(source) {
            Some(registry) => registry.address().to_owned(),
            None => foreign::address(&wanted.urls[source - self.registries.len()]),
        }
    }

    /// The response carrying a blob from one source, and how many bytes at its start are before `offset`.
    pub(super) async fn blob(
        &self,
        source: usize,
        wanted: &Wanted,
        offset: u64,
        notify: Notify<'_>,
    ) -> Result<(Response, u64), RegistryError> {
        match self.registries.get(source) {
            Some(registry) => registry.blob(&wanted.digest, offset, notify).await,
            None => {
                let url = &wanted.urls[source - self.registries.len()];
                // A manifest that came over TLS must not send us where there is none.
                let any_http = self.registries.last().is_some_and(|registry| !registry.is_https());
                foreign::get(url, offset, any_http, &self.settings).await
            }
        }
    }
}
