//! Everything a store holds, read at one moment: what removal, disk usage and look-ups by digest start from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::blobs::SQUEEZED;
use super::config::ImageConfig;
use super::digest::Digest;
use super::error::Error;
use super::lease;
use super::manifest::{Document, ImageManifest};
use super::reference::{InvalidReference, Reference};
use super::refs::{self, Target};
use super::staging::Leftover;
use super::store::Store;

/// Fewest digits of a digest that stand for it.
const LEAST_DIGITS: usize = 4;

/// A thing outside the store that needs an image, such as an installed sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The image's manifest.
    pub digest: Digest,
    /// Who needs it, in words for people: `the installed sandbox py`.
    pub by: String,
}

/// The contents of a store.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) names: BTreeMap<Reference, Target>,
    pub(super) images: BTreeMap<Digest, Stored>,
    /// Layers by diff_id, with their bytes.
    pub(super) layers: BTreeMap<Digest, u64>,
    /// Kept blobs by digest, with the bytes they take.
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// Unfinished work, of living and of dead processes.
    pub(super) unfinished: Vec<Leftover>,
    /// In how many images each layer is.
    shares: BTreeMap<Digest, usize>,
}

/// The folder of one image.
#[derive(Debug)]
pub(super) struct Stored {
    /// Absent when the image is damaged.
    pub(super) parts: Option<Parts>,
    /// Bytes of its own files.
    pub(super) bytes: u64,
    /// When it was last started, at the earliest when it was put here.
    pub(super) used: SystemTime,
}

/// How a user says which image is meant: a name; a digest with or without a repository; the first digits of one.
#[derive(Debug, Clone)]
pub struct Selector {
    text: String,
    name: Result<Reference, InvalidReference>,
}

impl Selector {
    /// What `text` may mean where names without a registry are in `registry`.
    pub fn new(text: &str, registry: &str) -> Self {
        Self { text: text.to_owned(), name: Reference::parse_in(text, registry) }
    }

    fn not_stored(&self) -> Error {
        Error::NotStored { image: self.text.clone() }
    }
}

impl From<&str> for Selector {
    fn from(text: &str) -> Self {
        Self::new(text, super::reference::DEFAULT_REGISTRY)
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// An image somebody means.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) digest: Digest,
    /// The name it was asked for by, if it was.
    pub(super) name: Option<Reference>,
    /// What another name for it should say.
    pub(super) target: Target,
}

/// What an image consists of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) config: ImageConfig,
    pub(super) manifest: Box<ImageManifest>,
}

impl Stored {
    /// The layers by diff_id, each once.
    pub(super) fn layers(&self) -> BTreeSet<&Digest> {
        self.parts.iter().flat_map(|parts| &parts.config.diff_ids).collect()
    }

    /// The blobs its manifest names, each once.
    pub(super) fn blobs(&self) -> BTreeSet<&Digest> {
        self.parts.iter().flat_map(|parts| &parts.manifest.layers).map(|layer| &layer.digest).collect()
    }
}

impl Inventory {
    /// Reads the names, folders and sizes. Nothing is read of the layers themselves.
    pub(super) fn read(store: &Store) -> Result<Self, Error> {
        let mut inventory = Self {
            layers: sizes(&store.layers_folder(), ".erofs")?,
            blobs: blob_sizes(&store.blobs_folder())?,
            unfinished: store.staging.leftovers(),
            ..Self::default()
        };
        let names = store.refs();
        if names.is_dir() {
            for entry in refs::all(&names) {
                let (name, path) = entry.map_err(|error| Error::io("read", &names, error.into()))?;
                let target = Target::read(&path).map_err(Error::at("read", &path))?;
                inventory.names.extend(target.map(|target| (name, target)));
            }
        }
        let images = store.images_folder();
        for (name, path) in entries(&images)? {
            if let Some(digest) = digest_of(&name) {
                let stored = inventory.stored(&path)?;
                for layer in stored.layers() {
                    *inventory.shares.entry(layer.clone()).or_default() += 1;
                }
                inventory.images.insert(digest, stored);
            }
        }
        Ok(inventory)
    }

    fn stored(&self, folder: &Path) -> Result<Stored, Error> {
        let mut bytes = 0;
        for (_, path) in entries(folder)? {
            bytes += fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
        }
        let used = fs::metadata(folder.join("config.json")).and_then(|config| config.modified());
        let parts = read_parts(folder).filter(|parts| {
            let is_there = |layer: &Digest| self.layers.get(layer).is_some_and(|size| *size > 0);
            folder.join("meta.erofs").is_file() && parts.config.diff_ids.iter().all(is_there)
        });
        Ok(Stored { parts, bytes, used: used.unwrap_or(SystemTime::UNIX_EPOCH) })
    }

    /// The names that stand for `image`.
    pub(super) fn names_of(&self, image: &Digest) -> Vec<&Reference> {
        self.names.iter().filter(|(_, target)| target.manifest == *image).map(|(name, _)| name).collect()
    }

    /// When `image` was last pulled, loaded or started.
    pub(super) fn last_used(&self, image: &Digest) -> SystemTime {
        let pulled = self.names.values().filter(|target| target.manifest == *image).map(Target::pulled_at);
        let started = self.images.get(image).map(|stored| stored.used);
        pulled.chain(started).max().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Bytes of everything that is finished.
    pub(super) fn bytes(&self) -> u64 {
        let images = self.images.values().map(|stored| stored.bytes);
        images.chain(self.layers.values().copied()).chain(self.blobs.values().copied()).sum()
    }

    /// In how many images a layer is.
    pub(super) fn shares(&self, layer: &Digest) -> usize {
        self.shares.get(layer).copied().unwrap_or(0)
    }

    /// Bytes of the layers of an image, and how many of these no other image has.
    pub(super) fn layer_bytes(&self, image: &Stored) -> (u64, u64) {
        let size = |layer: &&Digest| self.layers.get(*layer).copied().unwrap_or(0);
        let layers = image.layers();
        let own = layers.iter().filter(|layer| self.shares(layer) == 1);
        (layers.iter().map(size).sum(), own.map(size).sum())
    }

    /// The image `what` means.
    pub(super) fn select(&self, what: &Selector) -> Result<Selected, Error> {
        if let Ok(name) = &what.name {
            if let Some(target) = self.names.get(name) {
                let (digest, name) = (target.manifest.clone(), Some(name.clone()));
                return Ok(Selected { digest, name, target: target.clone() });
            }
            if let Some(digest) = name.digest().filter(|digest| self.images.contains_key(digest)) {
                return Ok(self.by_digest(digest));
            }
        }
        let digits =
            what.text.split_once(':').map_or(what.text.as_str(), |(algorithm, digits)| match algorithm {
                "sha256" | "sha512" => digits,
                _ => "",
            });
        let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_long_enough = is_hex && digits.len() >= LEAST_DIGITS;
        let found = self.images.keys().filter(|digest| is_long_enough && digest.hex().starts_with(digits));
        match (&found.collect::<Vec<_>>()[..], &what.name) {
            ([digest], _) => Ok(self.by_digest(digest)),
            ([], Err(error)) if !is_long_enough => Err(error.clone().into()),
            ([], _) => Err(what.not_stored()),
            (several, _) => Err(Error::Ambiguous { digits: what.text.clone(), images: several.len() }),
        }
    }

    /// The same, of images that can be used only.
    pub(super) fn select_whole(&self, what: &Selector) -> Result<Selected, Error> {
        let selected = self.select(what)?;
        let is_whole = self.images.get(&selected.digest).is_some_and(|stored| stored.parts.is_some());
        is_whole.then_some(selected).ok_or_else(|| what.not_stored())
    }

    fn by_digest(&self, digest: &Digest) -> Selected {
        let mut named = self.names.values().filter(|target| target.manifest == *digest);
        let named = named.clone().find(|target| target.origin.is_some()).or_else(|| named.next());
        let target = named.cloned().unwrap_or_else(|| Target::unnamed(digest.clone()));
        Selected { digest: digest.clone(), name: None, target }
    }

    /// Forgets an image.
    pub(super) fn remove(&mut self, image: &Digest) -> Option<Stored> {
        let stored = self.images.remove(image)?;
        for layer in stored.layers() {
            self.shares.entry(layer.clone()).and_modify(|shares| *shares -= 1);
        }
        Some(stored)
    }
}

/// Who uses the image: running processes first, then those of `uses` that mean it.
pub(super) fn users(store: &Store, image: &Digest, uses: &[Use]) -> Vec<String> {
    let mut users = lease::users(&store.image_folder(image).join("config.json"));
    users.extend(uses.iter().filter(|one| one.digest == *image).map(|one| one.by.clone()));
    users
}

fn read_parts(folder: &Path) -> Option<Parts> {
    let config = ImageConfig::parse(&fs::read(folder.join("config.json")).ok()?).ok()?;
    match Document::parse(&fs::read(folder.join("manifest.json")).ok()?).ok()? {
        Document::Image(manifest) => Some(Parts { config, manifest }),
        Document::Index(_) => None,
    }
}

/// The entries of a folder that need not exist, by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(Error::io("read", folder, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::at("read", folder))?;
        found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
    }
    Ok(found)
}

fn sizes(folder: &Path, ending: &str) -> Result<BTreeMap<Digest, u64>, Error> {
    let mut sizes = BTreeMap::new();
    for (name, path) in entries(folder)? {
        if let Some(digest) = name.strip_suffix(ending).and_then(digest_of) {
            sizes.insert(digest, fs::metadata(&path).map_or(0, |metadata| metadata.len()));
        }
    }
    Ok(sizes)
}

fn blob_sizes(folder: &Path) -> Result<BTreeMap<Digest, u64>, Error> {
    let mut blobs = sizes(folder, "")?;
    for (digest, size) in sizes(folder, SQUEEZED)? {
        *blobs.entry(digest).or_default() += size;
    }
    Ok(blobs)
}

/// The digest a file is named by; its length tells the algorithm.
fn digest_of(hex: &str) -> Option<Digest> {
    let algorithm = if hex.len() == 64 { "sha256" } else { "sha512" };
    format!("{algorithm}:{hex}").parse().ok()
}
