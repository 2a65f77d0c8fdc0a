//! Pushing an image to a registry, byte for byte as it came.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::digest::Digest;
use super::error::Error;
use super::export::{Blobs, Export};
use super::inventory::Selector;
use super::layers::LayerSpec;
use super::manifest::{Descriptor, media_type_of};
use super::online::online;
use super::progress::{Event, LayerSummary, Progress};
use super::pull::PullOptions;
use super::reference::{DEFAULT_TAG, Reference};
use super::registry::{Notice, RETRIES, Registry, RegistryError, backoff, fed_body};
use super::store::Store;

/// Bytes sent at a time.
const CHUNK: usize = 256 << 10;

impl Store {
    /// Brings the image `what` means to the repository of `target`, under its tag. What the registry has is not sent
    /// again; what it has in a repository the image was pulled from is mounted. Blobs that are not kept here are fetched
    /// from where the image was pulled. Blocks. Returns the manifest's digest, which does not change on the way.
    ///
    /// # Errors
    /// [`Error::NotStored`], [`Error::NoTarget`] for an image asked for by digest alone, [`Error::NamedByDigest`], [`Error::NoBlob`], [`Error::Push`].
    pub fn push(
        &self,
        what: &Selector,
        target: Option<&Reference>,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Digest, Error> {
        let image = self.export(what)?;
        let no_target = || Error::NoTarget { image: what.to_string() };
        let target = target.or(image.asked.as_ref()).ok_or_else(no_target)?;
        if target.digest().is_some() {
            return Err(Error::NamedByDigest { name: Box::new(target.clone()) });
        }
        online(self.root(), |runtime| {
            let blobs = Blobs::new(self, &image, runtime, options, progress)?;
            let failed = |source| Error::Push { target: target.short(), source: Box::new(source) };
            let registry = Registry::new(target, &options.settings()).map_err(failed)?;
            let push = Push { image: &image, target, runtime, registry: registry.into(), blobs, progress };
            push.run(options.parallel_layers)
        })
    }
}

struct Push<'a> {
    image: &'a Export,
    target: &'a Reference,
    runtime: &'a Runtime,
    registry: std::sync::Arc<Registry>,
    blobs: Blobs<'a>,
    progress: &'a dyn Progress,
}

impl Push<'_> {
    fn run(&self, parallel: usize) -> Result<Digest, Error> {
        let layers: Vec<LayerSummary> = self.image.layers.iter().map(summary).collect();
        self.progress.event(Event::Pushing { reference: self.target, layers: &layers });
        self.layers(parallel)?;
        let config = &self.image.manifest.config;
        self.small(config, &self.image.config_text)?;
        let media_type = media_type_of(&self.image.manifest_text);
        let tag = self.target.tag().unwrap_or(DEFAULT_TAG);
        let notify = self.notify();
        let put = self.registry.put_manifest(tag, &media_type, &self.image.manifest_text, &notify);
        let stated = self.runtime.block_on(put).map_err(|error| self.failed(error))?;
        match stated {
            Some(actual) if actual != self.image.digest => Err(Error::DigestMismatch {
                what: format!("what {} took for the manifest of {}", self.registry_name(), self.image.label),
                expected: Box::new(self.image.digest.clone()),
                actual: Box::new(actual),
            }),
            _ => Ok(self.image.digest.clone()),
        }
    }

    /// Brings all layers in, several at once. The first error ends it.
    fn layers(&self, parallel: usize) -> Result<(), Error> {
        let mut seen = std::collections::HashSet::new();
        let layers = self.image.layers.iter().filter(|layer| seen.insert(layer.digest().clone()));
        // Layers that may not be distributed stay with those who may.
        let layers: Vec<&LayerSpec> = layers.filter(|layer| layer.urls.is_empty()).collect();
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..parallel.clamp(1, layers.len().max(1)) {
                scope.spawn(|| {
                    while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.layer(layer) {
                            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            next.store(layers.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn layer(&self, layer: &LayerSpec) -> Result<(), Error> {
        let digest = layer.digest();
        if self.has(digest)? {
            self.progress.event(Event::LayerCached { layer: layer.index });
            return Ok(());
        }
        self.progress.event(Event::LayerStarted { layer: layer.index, total: layer.size });
        let report = |bytes| self.progress.event(Event::LayerProgress { layer: layer.index, bytes });
        self.upload(digest, layer.size, &mut |sender| {
            self.blobs.read(layer, |blob| Ok(feed(blob, &sender, &report)?))
        })?;
        self.progress.event(Event::LayerDone { layer: layer.index });
        Ok(())
    }

    /// Brings in a blob that is in memory.
    fn small(&self, descriptor: &Descriptor, text: &[u8]) -> Result<(), Error> {
        if self.has(&descriptor.digest)? {
            return Ok(());
        }
        let send = &mut |sender: mpsc::Sender<Bytes>| Ok(feed(&mut &text[..], &sender, &|_| {})?);
        self.upload(&descriptor.digest, text.len() as u64, send)
    }

    fn has(&self, digest: &Digest) -> Result<bool, Error> {
        let notify = self.notify();
        self.runtime.block_on(self.registry.has_blob(digest, &notify)).map_err(|error| self.failed(error))
    }

    /// Uploads a blob from its first byte, again when that breaks. `send` gives its bytes; what it finds wrong with
    /// them is final.
    fn upload(
        &self,
        digest: &Digest,
        size: u64,
        send: &mut dyn FnMut(mpsc::Sender<Bytes>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut failures = 0;
        loop {
            let error = match self.attempt(digest, size, send)? {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !error.is_transient() || failures >= RETRIES {
                return Err(self.failed(error));
            }
            let (pause, reason) = (backoff(failures), error.to_string());
            self.notify()(Notice::Waiting { reason, pause });
            std::thread::sleep(pause);
            failures += 1;
        }
    }

    /// One attempt. The outer error is the blob's, the inner one the registry's.
    fn attempt(
        &self,
        digest: &Digest,
        size: u64,
        send: &mut dyn FnMut(mpsc::Sender<Bytes>) -> Result<(), Error>,
    ) -> Result<Result<(), RegistryError>, Error> {
        let notify = self.notify();
        let begun = self.registry.begin_upload(digest, self.sibling(), &notify);
        let upload = match self.runtime.block_on(begun) {
            Ok(Some(upload)) => upload,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let (sender, body) = fed_body(size);
        let registry = self.registry.clone();
        let sending = self.runtime.spawn(async move { registry.send_blob(upload, body, &|_| {}).await });
        let sent = send(sender);
        let answer = match self.runtime.block_on(sending) {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        match (sent, answer) {
            // A registry that hung up is why the bytes could not be sent.
            (Ok(()) | Err(Error::Cancelled), Err(error)) => Ok(Err(error)),
            (Err(error), _) => Err(error),
            (Ok(()), Ok(upload)) => {
                let finished = self.registry.finish_upload(upload, digest, &notify);
                Ok(self.runtime.block_on(finished))
            }
        }
    }

    /// A repository of the same registry that has the blobs.
    fn sibling(&self) -> Option<&str> {
        let mut siblings = self.image.origins.iter().filter(|origin| {
            origin.registry() == self.target.registry() && origin.repository() != self.target.repository()
        });
        siblings.next().map(Reference::repository)
    }

    fn notify(&self) -> impl Fn(Notice) + Send + Sync {
        |notice| self.progress.event(Event::Notice(&notice))
    }

    fn registry_name(&self) -> &str {
        self.target.registry()
    }

    fn failed(&self, source: RegistryError) -> Error {
        Error::Push { target: self.target.short(), source: Box::new(source) }
    }
}

fn summary(layer: &LayerSpec) -> LayerSummary {
    LayerSummary { digest: layer.digest().clone(), size: layer.size }
}

/// Why a blob could not be passed on to the socket.
struct HungUp;

impl From<HungUp> for Error {
    fn from(_: HungUp) -> Self {
        Self::Cancelled
    }
}

/// Passes a blob on; `report` hears of the bytes so far. A read that fails shows in the reader.
fn feed(blob: &mut dyn Read, sender: &mpsc::Sender<Bytes>, report: &dyn Fn(u64)) -> Result<(), HungUp> {
    let mut total = 0;
    loop {
        let mut chunk = vec![0; CHUNK];
        let read = match blob.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The caller knows the reader and asks it.
            Err(_) => return Err(HungUp),
        };
        chunk.truncate(read);
        sender.blocking_send(chunk.into()).map_err(|_| HungUp)?;
        total += read as u64;
        report(total);
    }
}
