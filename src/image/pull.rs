//! Pulling an image from a registry into the store.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::config::MAX_CONFIG;
use super::credentials::CredentialFiles;
use super::digest::Digest;
use super::error::Error;
use super::layers::{Job, LayerSource, LayerSpec};
use super::manifest::Descriptor;
use super::online::online;
use super::platform::Platform;
use super::progress::{Event, Progress};
use super::reference::{DEFAULT_TAG, Reference};
use super::registry::{BlobReader, Notice, Origin, Registries, RegistryError, Settings, Transfer, Wanted};
use super::removal::Expected;
use super::resolve::{Content, Resolved, Resolver, check_digest};
use super::store::{Image, Store};

/// When a registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Each time, since a tag may have moved on; what is here already is not fetched again.
    #[default]
    Always,
    /// When the image is not here for the platform wanted.
    Missing,
    /// Not at all.
    Never,
}

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// When a registry is asked.
    pub policy: PullPolicy,
    /// The platform wanted. Default: Linux on this machine's processor.
    pub platform: Platform,
    /// Most bytes the layers of one image may unpack to together. Default: 64 GiB.
    pub max_size: u64,
    /// Layers fetched at the same time. Default: 4.
    pub parallel_layers: usize,
    /// Whether to keep the compressed layers too. Without them they are fetched again to save or push the image.
    /// Default: no.
    pub keep_blobs: bool,
    /// What the user says about registries. Default: nothing, so all are reached in the usual way.
    pub registries: Arc<Registries>,
    /// Where the user keeps credentials. Default: as the environment says.
    pub credentials: CredentialFiles,
    /// Time for a connection to come about. Default: 10 s.
    pub connect_timeout: Duration,
    /// Time for the next bytes to arrive. Default: 60 s.
    pub read_timeout: Duration,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            policy: PullPolicy::default(),
            platform: Platform::host(),
            max_size: 64 << 30,
            parallel_layers: 4,
            keep_blobs: false,
            registries: Arc::default(),
            credentials: CredentialFiles::default(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
        }
    }
}

impl PullOptions {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            connect_timeout: self.connect_timeout,
            read_timeout: self.read_timeout,
            registries: self.registries.clone(),
            credentials: self.credentials.clone(),
        }
    }
}

impl Store {
    /// Fetches what `reference` stands for now, if the policy wants that. Whatever is in the store already is not fetched again; what
    /// another process is fetching is waited for. Blocks; it may be called from any thread, also one of an
    /// asynchronous runtime.
    ///
    /// # Errors
    /// See [`Error`]. Nothing half-done becomes visible, whatever happens.
    pub fn pull(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        if options.policy != PullPolicy::Always || reference.digest().is_some() {
            match self.present(reference, &options.platform)? {
                Some(image) => {
                    progress.event(Event::Done { reference, digest: &image.digest });
                    return Ok(image);
                }
                None if options.policy == PullPolicy::Never => {
                    return Err(Error::NotHere { image: reference.short() });
                }
                None => {}
            }
        }
        online(self.root(), |runtime| {
            self.prepare()?;
            progress.event(Event::Resolving { reference });
            self.pull_with(runtime, reference, options, progress)
        })
    }

    /// The digest of the image that `reference` stands for in its registry now. Fetches manifest and configuration
    /// only, and keeps neither. Blocks as [`Store::pull`] does.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn latest(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Digest, Error> {
        progress.event(Event::Resolving { reference });
        online(self.root(), |runtime| {
            let short = reference.short();
            let remote = Remote::new(runtime, reference, &short, options, progress)?.beside(self);
            remote.resolve(reference, &options.platform).map(|resolved| resolved.digest)
        })
    }

    fn pull_with(
        &self,
        runtime: &Runtime,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let short = reference.short();
        let remote = Remote::new(runtime, reference, &short, options, progress)?.beside(self);
        let resolved = remote.resolve(reference, &options.platform)?;
        let layers = resolved.summaries();
        let bytes = layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        progress.event(Event::Resolved { reference, digest: &resolved.digest, layers: &layers, bytes });
        if bytes > options.max_size {
            return Err(Error::TooLarge {
                what: format!("{short}, {bytes} bytes compressed,"),
                limit: options.max_size,
            });
        }
        let job = Job {
            store: self,
            source: &remote,
            progress,
            image: &short,
            max_size: options.max_size,
            keep_blobs: options.keep_blobs,
        };
        let _announced = self.announce(&Expected::image(&resolved))?;
        job.run(&resolved.layers, options.parallel_layers)?;
        self.assemble(reference, &resolved, true, progress)
    }

    /// The image if all of it is here and it is for this platform. A digest never changes its meaning, so an image
    /// known by it needs no registry.
    fn present(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, Error> {
        Ok(self.find(reference)?.filter(|image| platform.distance(&image.config.platform).is_some()))
    }
}

/// A repository as a source of manifests, configurations and layers.
pub(super) struct Remote<'a> {
    runtime: &'a Runtime,
    origin: Arc<Origin>,
    image: &'a str,
    progress: &'a dyn Progress,
    /// Where documents may be already, so that they need not be asked for.
    local: Option<&'a Store>,
}

impl<'a> Remote<'a> {
    /// The repository of `reference`; nothing is sent yet. `image` is for messages.
    pub(super) fn new(
        runtime: &'a Runtime,
        reference: &Reference,
        image: &'a str,
        options: &PullOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let origin =
            Origin::new(reference, &options.settings()).map_err(|source| registry_error(image, source))?;
        Ok(Self { runtime, origin: Arc::new(origin), image, progress, local: None })
    }

    /// With the documents of images that are in `store`.
    fn beside(self, store: &'a Store) -> Self {
        Self { local: Some(store), ..self }
    }

    /// A file of the image `manifest`, if it is here and has the digest wanted.
    fn local(&self, manifest: &Digest, file: &str, wanted: &Digest) -> Option<Vec<u8>> {
        let text = std::fs::read(self.local?.image_folder(manifest).join(file)).ok()?;
        (wanted.same_kind_of(&text) == *wanted).then_some(text)
    }

    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Resolved, Error> {
        let resolver = Resolver { image: self.image, platform, content: self };
        match reference.digest() {
            Some(digest) => {
                let (text, _) = self.fetch(&digest.to_string())?;
                check_digest(&format!("the manifest of {}", self.image), digest, &text)?;
                resolver.document(text, digest.clone())
            }
            None => {
                let (text, stated) = self.fetch(reference.tag().unwrap_or(DEFAULT_TAG))?;
                if let Some(stated) = stated {
                    check_digest(&format!("the manifest of {}", self.image), &stated, &text)?;
                }
                let digest = Digest::sha256(&text);
                resolver.document(text, digest)
            }
        }
    }

    fn fetch(&self, name: &str) -> Result<(Vec<u8>, Option<Digest>), Error> {
        let notify = |notice: Notice| self.progress.event(Event::Notice(&notice));
        let answer = self.origin.manifest(name, &notify);
        self.runtime.block_on(answer).map_err(|error| registry_error(self.image, error))
    }
}

impl Content for Remote<'_> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        if let Some(text) = self.local(&descriptor.digest, "manifest.json", &descriptor.digest) {
            return Ok(text);
        }
        self.fetch(&descriptor.digest.to_string()).map(|(text, _)| text)
    }

    fn config(&self, manifest: &Digest, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        if let Some(text) = self.local(manifest, "config.json", &descriptor.digest) {
            return Ok(text);
        }
        let notify = |notice: Notice| self.progress.event(Event::Notice(&notice));
        let text = self.origin.small_blob(&descriptor.digest, MAX_CONFIG, &notify);
        self.runtime.block_on(text).map_err(|error| registry_error(self.image, error))
    }
}

impl LayerSource for Remote<'_> {
    fn open(&self, layer: &LayerSpec, from: usize) -> Result<(Box<dyn Read + Send + '_>, usize), Error> {
        let (wanted, from) = (wanted(layer), self.origin.current().max(from));
        let (progress, shown) = (self.progress, layer.digest().clone());
        let on_event = move |event: Transfer| match event {
            Transfer::Resuming { offset, reason } => {
                progress.event(Event::Retrying { digest: &shown, offset, reason: &reason });
            }
            Transfer::Notice(notice) => progress.event(Event::Notice(&notice)),
        };
        let origin = (self.origin.clone(), from);
        Ok((Box::new(BlobReader::start(self.runtime.handle(), origin, wanted, on_event)), from))
    }

    fn behind(&self, layer: &LayerSpec, place: usize, error: &Error) -> Option<usize> {
        let wanted = wanted(layer);
        let next = self.origin.behind_liar(place, &wanted)?;
        let reason = format!("{} does not have it right: {error}", self.origin.address(place, &wanted));
        let notice = Notice::NextSource { reason, next: self.origin.address(next, &wanted) };
        self.progress.event(Event::Notice(&notice));
        Some(next)
    }

    fn cause(&self, layer: &LayerSpec, error: std::io::Error) -> Error {
        match error.downcast::<RegistryError>() {
            Ok(error) => registry_error(self.image, error),
            Err(error) => Error::Decompress {
                what: format!("layer {} of {}", layer.index + 1, self.image),
                digest: Box::new(layer.digest().clone()),
                source: error,
            },
        }
    }
}

fn wanted(layer: &LayerSpec) -> Wanted {
    Wanted { digest: layer.digest().clone(), urls: layer.urls.clone() }
}

fn registry_error(image: &str, source: RegistryError) -> Error {
    Error::Registry { reference: image.to_owned(), source: Box::new(source) }
}
