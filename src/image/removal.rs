//! Removing images: names first, then the image, then the layers and blobs that nothing else needs.
//!
//! All of it happens under the store's lock ([`super::staging::Staging::lock`]), and a running sandbox holds its image
//! ([`super::lease`]). A process killed on the way leaves an image without a name, or layers without an image, which
//! the next removal of anything takes along.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error::Error;
use super::inventory::{Inventory, Selector, Stored, Use, users};
use super::lease::Exclusion;
use super::reference::Reference;
use super::refs;
use super::resolve::Resolved;
use super::store::Store;

/// What somebody is about to bring into the store.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Expected {
    manifest: Digest,
    layers: Vec<Digest>,
    blobs: Vec<Digest>,
}

impl Expected {
    /// The beginning of the file names of announcements.
    pub(super) const PREFIX: &str = "expected";

    /// An image with its layers.
    pub(super) fn image(resolved: &Resolved) -> Self {
        let layers = resolved.layers.iter().map(|layer| layer.digest().clone());
        let index = resolved.index.iter().map(|(index, _)| index.clone());
        Self {
            manifest: resolved.digest.clone(),
            layers: resolved.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            blobs: layers.chain(index).collect(),
        }
    }

    /// An image that is in the store.
    pub(super) fn present(manifest: Digest) -> Self {
        Self { manifest, layers: Vec::new(), blobs: Vec::new() }
    }
}

/// What removing an image did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The image's manifest.
    pub digest: Digest,
    /// The names that are gone.
    pub names: Vec<Reference>,
    /// Whether the image itself is gone too; it stays while it has another name.
    pub deleted: bool,
    /// Bytes that are free again.
    pub freed_bytes: u64,
}

/// A store that nobody can begin to rely on more of, and what is in it.
pub(super) struct Collector<'a> {
    store: &'a Store,
    pub(super) inventory: Inventory,
    /// What is being brought in by others right now.
    expected: Vec<Expected>,
    dry: bool,
    _lock: File,
}

impl<'a> Collector<'a> {
    /// Locks the store. With `dry`, nothing is changed later on.
    pub(super) fn start(store: &'a Store, dry: bool) -> Result<Self, Error> {
        let lock = store.staging.lock(true)?;
        let inventory = Inventory::read(store)?;
        let announced = inventory.unfinished.iter().filter(|work| {
            let name = work.path.file_name().and_then(|name| name.to_str());
            work.is_live && name.is_some_and(|name| name.starts_with(Expected::PREFIX))
        });
        let read = |path: &Path| serde_json::from_slice(&fs::read(path).ok()?).ok();
        let expected = announced.filter_map(|work| read(&work.path)).collect();
        Ok(Self { store, inventory, expected, dry, _lock: lock })
    }

    /// Whether somebody is bringing the image in right now.
    pub(super) fn is_expected(&self, image: &Digest) -> bool {
        self.expected.iter().any(|expected| expected.manifest == *image)
    }

    /// Takes a name away; the image stays.
    pub(super) fn remove_name(&mut self, name: &Reference) -> Result<(), Error> {
        self.inventory.names.remove(name);
        if self.dry {
            return Ok(());
        }
        let root = self.store.refs();
        let path = refs::path(&root, name);
        forget(fs::remove_file(&path)).map_err(Error::at("remove", &path))?;
        // Folders that others still need are not empty and stay.
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != root) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Removes an image with all its names; its layers go with [`Collector::remove_unneeded`]. `None` when a running
    /// process holds it and `force` is not given.
    pub(super) fn remove_image(&mut self, image: &Digest, force: bool) -> Result<Option<Removed>, Error> {
        let config = self.store.config_path(image);
        let exclusion = Exclusion::take(&config).map_err(Error::at("lock", &config))?;
        if exclusion.is_none() && !force {
            return Ok(None);
        }
        let names: Vec<Reference> = self.inventory.names_of(image).into_iter().cloned().collect();
        for name in &names {
            self.remove_name(name)?;
        }
        let freed_bytes = self.inventory.remove(image).map_or(0, |stored| stored.bytes);
        if !self.dry {
            let folder = self.store.image_folder(image);
            // Without its configuration an image is none, so this comes first and at once.
            forget(fs::remove_file(&config)).map_err(Error::at("remove", &config))?;
            forget(fs::remove_dir_all(&folder)).map_err(Error::at("remove", &folder))?;
        }
        Ok(Some(Removed { digest: image.clone(), names, deleted: true, freed_bytes }))
    }

    /// Removes every layer and blob that no image has and nobody expects. Returns the bytes that are free again.
    pub(super) fn remove_unneeded(&mut self) -> Result<u64, Error> {
        let before = self.inventory.bytes();
        let (layers, blobs) = self.needed();
        let unneeded = |known: &BTreeMap<Digest, u64>, needed: &BTreeSet<Digest>| -> Vec<Digest> {
            known.keys().filter(|digest| !needed.contains(digest)).cloned().collect()
        };
        let layers = unneeded(&self.inventory.layers, &layers);
        let blobs = unneeded(&self.inventory.blobs, &blobs);
        let mut files: Vec<PathBuf> = layers.iter().map(|layer| self.store.layer_path(layer)).collect();
        files.extend(blobs.iter().flat_map(|blob| self.store.blob_paths(blob)));
        for layer in &layers {
            self.inventory.layers.remove(layer);
        }
        for blob in &blobs {
            self.inventory.blobs.remove(blob);
        }
        if !self.dry {
            for file in files {
                forget(fs::remove_file(&file)).map_err(Error::at("remove", &file))?;
            }
        }
        Ok(before - self.inventory.bytes())
    }

    /// The layers and blobs that images have or are about to have.
    fn needed(&self) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
        let images = || self.inventory.images.values();
        let expected = || self.expected.iter();
        let layers = images().flat_map(Stored::layers).chain(expected().flat_map(|one| &one.layers));
        let indexes = self.inventory.names.values().filter_map(|target| target.index.as_ref());
        let blobs =
            images().flat_map(Stored::blobs).chain(indexes).chain(expected().flat_map(|one| &one.blobs));
        (layers.cloned().collect(), blobs.cloned().collect())
    }

    /// Removes the names that lead to no image.
    pub(super) fn remove_idle_names(&mut self) -> Result<(), Error> {
        let leads_nowhere =
            |digest: &Digest| !self.inventory.images.contains_key(digest) && !self.is_expected(digest);
        let names = self.inventory.names.iter().filter(|(_, target)| leads_nowhere(&target.manifest));
        let names: Vec<Reference> = names.map(|(name, _)| name.clone()).collect();
        names.iter().try_for_each(|name| self.remove_name(name))
    }
}

impl Store {
    /// Removes the image `what` means: a name, a digest, or the first digits of one. A name is only untied while the
    /// image has others; a digest takes all names along. `uses` is who needs images besides running processes.
    ///
    /// # Errors
    /// [`Error::NotStored`], [`Error::Ambiguous`]; [`Error::InUse`] unless `force` is given, with which a running
    /// sandbox goes on with the files it has open.
    pub fn remove(&self, what: &Selector, force: bool, uses: &[Use]) -> Result<Removed, Error> {
        self.prepare()?;
        let mut collector = Collector::start(self, false)?;
        let selected = collector.inventory.select(what)?;
        let is_last = |name: &Reference| collector.inventory.names_of(&selected.digest) == [name];
        if let Some(name) =
            selected.name.filter(|name| !is_last(name) || collector.is_expected(&selected.digest))
        {
            collector.remove_name(&name)?;
            return Ok(Removed {
                digest: selected.digest,
                names: vec![name],
                deleted: false,
                freed_bytes: 0,
            });
        }
        let in_use = |users| Error::InUse { image: what.to_string(), users };
        let users = users(self, &selected.digest, uses);
        if !force && !users.is_empty() {
            return Err(in_use(users));
        }
        match collector.remove_image(&selected.digest, force)? {
            Some(mut removed) => {
                removed.freed_bytes += collector.remove_unneeded()?;
                Ok(removed)
            }
            None => Err(in_use(users)),
        }
    }

    /// Gives an image another name. What that name stood for before stays, possibly without a name.
    ///
    /// # Errors
    /// [`Error::NotStored`], [`Error::Ambiguous`], and [`Error::NamedByDigest`] for a name that is a digest.
    pub fn tag(&self, source: &Selector, name: &Reference) -> Result<Digest, Error> {
        if name.digest().is_some() {
            return Err(Error::NamedByDigest { name: Box::new(name.clone()) });
        }
        self.prepare()?;
        loop {
            let selected = Inventory::read(self)?.select_whole(source)?;
            let _announced = self.announce(&Expected::present(selected.digest.clone()))?;
            // Somebody may have removed it before it was announced; then it is looked for again.
            if self.config_path(&selected.digest).is_file() {
                self.set_ref(name, &selected.target)?;
                return Ok(selected.digest);
            }
        }
    }
}

/// What is gone already needs no removal.
fn forget(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
