//! An image on its way out of the store: its manifest and configuration as they came, and its blobs from wherever
//! they still are.

use std::fs;
use std::io::Read;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::config::ImageConfig;
use super::digest::Digest;
use super::error::Error;
use super::inventory::{Inventory, Selector};
use super::layers::{LayerSource, LayerSpec};
use super::lease::Lease;
use super::manifest::{Document, ImageManifest};
use super::progress::Progress;
use super::pull::{PullOptions, Remote};
use super::reference::Reference;
use super::resolve::layers_of;
use super::store::Store;
use super::verify::Checked;

/// An image that stays in the store while it is written elsewhere.
pub(super) struct Export {
    pub(super) digest: Digest,
    pub(super) manifest_text: Vec<u8>,
    pub(super) manifest: Box<ImageManifest>,
    pub(super) config_text: Vec<u8>,
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<LayerSpec>,
    /// The name it was asked for by, if it was.
    pub(super) asked: Option<Reference>,
    /// That name, or all it has.
    pub(super) names: Vec<Reference>,
    /// Where it was pulled from.
    pub(super) origins: Vec<Reference>,
    /// As it was asked for, for messages.
    pub(super) label: String,
    _lease: Arc<Lease>,
}

/// Where the blobs of an image come from.
pub(super) struct Blobs<'a> {
    pub(super) store: &'a Store,
    pub(super) image: &'a Export,
    remotes: Vec<Remote<'a>>,
}

impl Store {
    /// Opens an image for writing it elsewhere.
    pub(super) fn export(&self, what: &Selector) -> Result<Export, Error> {
        let inventory = Inventory::read(self)?;
        let selected = inventory.select_whole(what)?;
        let digest = selected.digest;
        let missing = || Error::NotStored { image: what.to_string() };
        let path = self.config_path(&digest);
        let mut lease = Lease::take(&path).map_err(Error::at("lock", &path))?.ok_or_else(missing)?;
        let config_text = lease.read().map_err(Error::at("read", &path))?;
        let config = ImageConfig::parse(&config_text)
            .map_err(|source| Error::Config { image: what.to_string(), source })?;
        let path = self.image_folder(&digest).join("manifest.json");
        let manifest_text = fs::read(&path).map_err(Error::at("read", &path))?;
        let Ok(Document::Image(manifest)) = Document::parse(&manifest_text) else { return Err(missing()) };
        let asked = selected.name.filter(|name| name.digest().is_none());
        let names = match asked.clone() {
            Some(name) => vec![name],
            None => inventory
                .names_of(&digest)
                .into_iter()
                .filter(|name| name.digest().is_none())
                .cloned()
                .collect(),
        };
        let targets = inventory.names.values().filter(|target| target.manifest == digest);
        let mut origins: Vec<Reference> =
            targets.filter_map(|target| target.origin.as_ref()?.parse().ok()).collect();
        origins.sort();
        origins.dedup();
        Ok(Export {
            layers: layers_of(&manifest, &config),
            label: what.to_string(),
            asked,
            _lease: Arc::new(lease),
            digest,
            manifest_text,
            manifest,
            config_text,
            config,
            names,
            origins,
        })
    }
}

impl<'a> Blobs<'a> {
    /// The blobs of `image`: kept ones, else from where the image was pulled.
    pub(super) fn new(
        store: &'a Store,
        image: &'a Export,
        runtime: &'a Runtime,
        options: &PullOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let remote = |origin: &Reference| Remote::new(runtime, origin, &image.label, options, progress);
        let remotes = image.origins.iter().map(remote).collect::<Result<_, _>>()?;
        Ok(Self { store, image, remotes })
    }

    /// Passes the blob of `layer` to `consume` and checks its size and digest when that is done.
    pub(super) fn read<T>(
        &self,
        layer: &LayerSpec,
        consume: impl FnOnce(&mut dyn Read) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let what = || format!("layer {} of {}", layer.index + 1, self.image.label);
        let (stream, source) = self.open(layer)?;
        let algorithm = Some(layer.digest().algorithm());
        let mut blob = Checked::new(stream, algorithm, layer.size, &|_| true);
        let consumed = consume(&mut blob);
        // A consumer that stopped early has its own reason; otherwise there may be trailing bytes.
        let drained = consumed.is_ok().then(|| blob.drain());
        if let Some(error) = blob.take_failure() {
            return Err(match source {
                Some(remote) => remote.cause(layer, error),
                None => Error::io("read", &self.store.blobs_folder(), error),
            });
        }
        if blob.over_limit() || (drained.is_some() && blob.count() != layer.size) {
            let (expected, actual) = (layer.size, blob.count());
            let digest = Box::new(layer.digest().clone());
            return Err(Error::SizeMismatch { what: what(), digest, expected, actual });
        }
        let result = consumed?;
        match blob.digest() {
            Some(actual) if actual != *layer.digest() => Err(Error::DigestMismatch {
                what: what(),
                expected: Box::new(layer.digest().clone()),
                actual: Box::new(actual),
            }),
            _ => Ok(result),
        }
    }

    /// The blob from its first byte, and where it comes from when it is not kept here.
    fn open(&self, layer: &LayerSpec) -> Result<(Box<dyn Read + Send + '_>, Option<&Remote<'a>>), Error> {
        if let Some(kept) = self.store.kept_blob(layer.digest())? {
            return Ok((kept, None));
        }
        let mut failure = None;
        for remote in &self.remotes {
            let (mut stream, _) = remote.open(layer, 0)?;
            let mut start = [0];
            match stream.read(&mut start) {
                Ok(read) => {
                    let start = std::io::Cursor::new(start).take(read as u64);
                    return Ok((Box::new(start.chain(stream)), Some(remote)));
                }
                Err(error) => failure = Some(remote.cause(layer, error)),
            }
        }
        Err(Error::NoBlob {
            layer: layer.index + 1,
            image: self.image.label.clone(),
            digest: Box::new(layer.digest().clone()),
            source: failure.map(Box::new),
        })
    }
}
