//! What is known about an image and about the store as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::config::ImageConfig;
use super::digest::Digest;
use super::error::Error;
use super::inventory::{Inventory, Selector, Stored, Use, users};
use super::manifest::{media_type_of, null_as_default};
use super::reference::Reference;
use super::store::Store;

/// One image in full.
#[derive(Debug)]
pub struct Details {
    /// Digest of the manifest: the image's identity.
    pub digest: Digest,
    /// Media type of the manifest.
    pub media_type: String,
    /// Digest of the index it was chosen from, where a name stands for one.
    pub index: Option<Digest>,
    /// Digest of the configuration, which docker calls the image's ID.
    pub config_digest: Digest,
    /// The names it has here.
    pub names: Vec<Reference>,
    /// How to run it.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<LayerDetails>,
    /// How it was built, oldest step first, as far as the builder wrote it down.
    pub history: Vec<HistoryEntry>,
    /// Bytes of the image and its layers in the store; layers may be shared.
    pub size: u64,
    /// When it was last pulled, loaded or started.
    pub last_used: SystemTime,
    /// Running processes and others that need it, in words for people.
    pub users: Vec<String>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerDetails {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Bytes in the store.
    pub size_bytes: u64,
    /// Digest of the layer as registries have it, mostly compressed.
    pub blob: Digest,
    /// Bytes of that.
    pub blob_bytes: u64,
    /// What it is.
    pub media_type: String,
    /// Whether the blob itself is kept here, so that the image can be saved and pushed without its registry.
    pub blob_kept: bool,
}

/// A step of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was done (RFC 3339), as the builder wrote it.
    #[serde(default)]
    pub created: Option<String>,
    /// The command.
    #[serde(default, deserialize_with = "null_as_default")]
    pub created_by: String,
    /// The builder's note.
    #[serde(default, deserialize_with = "null_as_default")]
    pub comment: String,
    /// Whether it changed no file and so made no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

/// What a store holds, in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    /// Each image, the largest first.
    #[serde(skip)]
    pub images: Vec<UsedImage>,
    /// Bytes of the images' own files, without layers.
    pub images_bytes: u64,
    /// Number of layers.
    pub layers: usize,
    /// Bytes of all layers, each counted once.
    pub layers_bytes: u64,
    /// Bytes of layers that several images have, each counted once.
    pub shared_bytes: u64,
    /// Number of kept blobs.
    pub blobs: usize,
    /// Bytes of kept blobs.
    pub blobs_bytes: u64,
    /// Number of pieces of unfinished work.
    pub unfinished: usize,
    /// Bytes of unfinished work, of running downloads as well.
    pub unfinished_bytes: u64,
    /// Everything together.
    pub total_bytes: u64,
    /// What a removal of all images that nothing uses would free.
    pub reclaimable_bytes: u64,
}

/// An image's part of a store.
#[derive(Debug, Clone)]
pub struct UsedImage {
    /// Its manifest.
    pub digest: Digest,
    /// Its names.
    pub names: Vec<Reference>,
    /// Bytes of it and all its layers.
    pub size_bytes: u64,
    /// Bytes that no other image has.
    pub unique_bytes: u64,
    /// Who needs it.
    pub used_by: Vec<String>,
    /// When it was last pulled, loaded or started.
    pub last_used: SystemTime,
}

impl Store {
    /// Everything known about the image `what` means: a name, a digest, or the first digits of one. `uses` is who needs
    /// images besides running processes.
    ///
    /// # Errors
    /// [`Error::NotStored`], [`Error::Ambiguous`], or the store cannot be read.
    pub fn details(&self, what: &Selector, uses: &[Use]) -> Result<Details, Error> {
        let mut inventory = Inventory::read(self)?;
        let digest = inventory.select_whole(what)?.digest;
        let names = inventory.names_of(&digest).into_iter().cloned().collect();
        let last_used = inventory.last_used(&digest);
        let targets = inventory.names.values().filter(|target| target.manifest == digest);
        let index = targets.filter_map(|target| target.index.clone()).next();
        let missing = || Error::NotStored { image: what.to_string() };
        let stored = inventory.remove(&digest).ok_or_else(missing)?;
        let size = stored.bytes + inventory.layer_bytes(&stored).0;
        let parts = stored.parts.ok_or_else(missing)?;
        let config_path = self.config_path(&digest);
        let config_text = fs::read(&config_path).map_err(Error::at("read", &config_path))?;
        let manifest_path = self.image_folder(&digest).join("manifest.json");
        let manifest_text = fs::read(&manifest_path).map_err(Error::at("read", &manifest_path))?;
        let pairs = parts.config.diff_ids.iter().zip(&parts.manifest.layers);
        let layers = pairs
            .map(|(diff_id, blob)| LayerDetails {
                diff_id: diff_id.clone(),
                size_bytes: inventory.layers.get(diff_id).copied().unwrap_or(0),
                blob: blob.digest.clone(),
                blob_bytes: blob.size,
                media_type: blob.media_type.clone(),
                blob_kept: inventory.blobs.contains_key(&blob.digest),
            })
            .collect();
        Ok(Details {
            media_type: media_type_of(&manifest_text),
            index,
            config_digest: parts.manifest.config.digest.clone(),
            users: users(self, &digest, uses),
            history: history(&config_text),
            config: parts.config,
            digest,
            names,
            layers,
            size,
            last_used,
        })
    }

    /// What the store holds and what of it could go.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn usage(&self, uses: &[Use]) -> Result<Usage, Error> {
        let inventory = Inventory::read(self)?;
        let mut images = Vec::new();
        let (mut kept_layers, mut kept_blobs) = (BTreeSet::new(), BTreeSet::new());
        let mut kept = 0;
        for (digest, stored) in &inventory.images {
            let used_by = users(self, digest, uses);
            if !used_by.is_empty() {
                kept += stored.bytes;
                kept_layers.extend(stored.layers());
                kept_blobs.extend(stored.blobs());
            }
            images.push(used_image(&inventory, (digest, stored), used_by));
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.sum::<u64>();
        let shared = inventory.layers.iter().filter(|(layer, _)| inventory.shares(layer) > 1);
        let layers = inventory.layers.iter().filter(|(layer, _)| kept_layers.contains(layer));
        let blobs = inventory.blobs.iter().filter(|(blob, _)| kept_blobs.contains(blob));
        let unfinished_bytes = sum(&mut inventory.unfinished.iter().map(|work| work.bytes));
        let stale = sum(&mut inventory.unfinished.iter().filter(|work| !work.is_live).map(|work| work.bytes));
        kept += sum(&mut layers.chain(blobs).map(|(_, size)| *size));
        Ok(Usage {
            images,
            images_bytes: sum(&mut inventory.images.values().map(|stored| stored.bytes)),
            layers: inventory.layers.len(),
            layers_bytes: sum(&mut inventory.layers.values().copied()),
            shared_bytes: sum(&mut shared.map(|(_, size)| *size)),
            blobs: inventory.blobs.len(),
            blobs_bytes: sum(&mut inventory.blobs.values().copied()),
            unfinished: inventory.unfinished.len(),
            unfinished_bytes,
            total_bytes: inventory.bytes() + unfinished_bytes,
            reclaimable_bytes: inventory.bytes() - kept + stale,
        })
    }
}

fn used_image(inventory: &Inventory, image: (&Digest, &Stored), used_by: Vec<String>) -> UsedImage {
    let (digest, stored) = image;
    let (layers, own) = inventory.layer_bytes(stored);
    UsedImage {
        digest: digest.clone(),
        names: inventory.names_of(digest).into_iter().cloned().collect(),
        size_bytes: stored.bytes + layers,
        unique_bytes: stored.bytes + own,
        used_by,
        last_used: inventory.last_used(digest),
    }
}

/// The history of a configuration. It is for people only, so one of a wrong shape is none.
fn history(config: &[u8]) -> Vec<HistoryEntry> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default, deserialize_with = "null_as_default")]
        history: Vec<HistoryEntry>,
    }
    serde_json::from_slice(config).map_or_else(|_| Vec::new(), |raw: Raw| raw.history)
}
