//! The image store on disk.
//!
//! ```text
//! <cache>/layers/<diff_id hex>.erofs
//! <cache>/images/<manifest digest hex>/{manifest.json,config.json,meta.erofs,disk.vmdk}
//! <cache>/blobs/<digest hex>[.zst]       kept blobs (blobs.rs)
//! <cache>/refs/…                         names (refs.rs)
//! <cache>/tmp/                           unfinished work (staging.rs)
//! ```
//! Everything but `disk.vmdk` is immutable once visible. `disk.vmdk` holds absolute paths and is derived from
//! the rest, so it is written again whenever the store was moved.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::blobs::SQUEEZED;
use super::config::ImageConfig;
use super::digest::Digest;
use super::erofs::BLOCK_BITS;
use super::error::Error;
use super::lease::Lease;
use super::reference::Reference;
use super::refs::{self, Target};
use super::removal::Expected;
use super::staging::{Claim, Staging};
use super::vmdk;

/// An image that is complete in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it was asked for by.
    pub reference: Reference,
    /// Digest of its manifest.
    pub digest: Digest,
    /// How to run it.
    pub config: ImageConfig,
    /// VMDK descriptor that makes `extents` one read-only disk holding an EROFS file system.
    pub disk: PathBuf,
    /// Files the descriptor names: the metadata first, then the layers, lowest first.
    pub extents: Vec<PathBuf>,
    /// Bytes of `extents` together. Layers may be shared with other images.
    pub size: u64,
    /// When the name was last pulled or loaded.
    pub pulled: SystemTime,
    /// Keeps the image from being removed, where it was asked for to be used.
    pub(super) _lease: Option<Arc<Lease>>,
}

/// A store of images below one folder.
pub struct Store {
    root: PathBuf,
    pub(super) staging: Staging,
}

impl Store {
    /// The store in `cache_dir`, which is created when something is first put into it.
    pub fn open(cache_dir: &Path) -> Result<Self, Error> {
        // Descriptors hold absolute paths, so a folder must have the same name however it is reached.
        let absolute = || std::path::absolute(cache_dir).map_err(Error::at("resolve", cache_dir));
        let root = cache_dir.canonicalize().or_else(|_| absolute())?;
        let staging = Staging::new(root.join("tmp"));
        Ok(Self { root, staging })
    }

    /// The folder the store is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The image `reference` stands for, if all of it is here; it stays here for as long as the result is held.
    /// Reads three small files and scans nothing.
    ///
    /// # Errors
    /// Only when the store cannot be read; an image that is incomplete or damaged counts as absent.
    pub fn find(&self, reference: &Reference) -> Result<Option<Image>, Error> {
        let path = refs::path(&self.refs(), reference);
        match Target::read(&path).map_err(Error::at("read", &path))? {
            Some(target) => self.lease_image(reference, &target),
            // Content is content: a digest needs no name.
            None => match reference.digest() {
                Some(digest) => self.lease_image(reference, &Target::unnamed(digest.clone())),
                None => Ok(None),
            },
        }
    }

    /// All images with a name, sorted by name. Damaged ones are left out.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let folder = self.refs();
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut images = Vec::new();
        for entry in refs::all(&folder) {
            let (reference, path) = entry.map_err(|error| Error::io("read", &folder, error.into()))?;
            let target = Target::read(&path).map_err(Error::at("read", &path))?;
            if let Some(target) = target {
                images.extend(self.look_at_image(&reference, &target)?);
            }
        }
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// The image, kept from removal and noted as used.
    pub(super) fn lease_image(&self, reference: &Reference, target: &Target) -> Result<Option<Image>, Error> {
        let path = self.config_path(&target.manifest);
        let Some(mut lease) = Lease::take(&path).map_err(Error::at("lock", &path))? else { return Ok(None) };
        let config = lease.read().map_err(Error::at("read", &path))?;
        let Some(mut image) = self.open_image(reference, target, &config)? else { return Ok(None) };
        lease.note_use();
        image._lease = Some(Arc::new(lease));
        Ok(Some(image))
    }

    /// The image as it is at this moment.
    fn look_at_image(&self, reference: &Reference, target: &Target) -> Result<Option<Image>, Error> {
        let path = self.config_path(&target.manifest);
        match fs::read(&path) {
            Ok(config) => self.open_image(reference, target, &config),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path, error)),
        }
    }

    fn open_image(
        &self,
        reference: &Reference,
        target: &Target,
        config: &[u8],
    ) -> Result<Option<Image>, Error> {
        let folder = self.image_folder(&target.manifest);
        let Ok(config) = ImageConfig::parse(config) else { return Ok(None) };
        let mut extents = vec![folder.join("meta.erofs")];
        extents.extend(config.diff_ids.iter().map(|id| self.layer_path(id)));
        let mut size = 0;
        for extent in &extents {
            match fs::metadata(extent) {
                Ok(metadata) if metadata.is_file() => size += metadata.len(),
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Error::io("read", extent, error)),
            }
        }
        let disk = folder.join("disk.vmdk");
        if !is_intact(&extents[0]) || !self.settle_disk(reference, &disk, &extents)? {
            return Ok(None);
        }
        let (digest, pulled) = (target.manifest.clone(), target.pulled_at());
        Ok(Some(Image {
            reference: reference.clone(),
            digest,
            config,
            disk,
            extents,
            size,
            pulled,
            _lease: None,
        }))
    }

    /// Makes the descriptor name the files where they are now. `false` when a file is damaged.
    fn settle_disk(&self, reference: &Reference, disk: &Path, extents: &[PathBuf]) -> Result<bool, Error> {
        let Some((meta, layers)) = extents.split_first() else { return Ok(false) };
        let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
        let wanted = match vmdk::descriptor(meta, &layers) {
            Ok(wanted) => wanted,
            Err(vmdk::Error::Unaligned { .. }) => return Ok(false),
            Err(source) => {
                return Err(Error::Vmdk { image: reference.short(), source: Box::new(source) });
            }
        };
        if fs::read_to_string(disk).is_ok_and(|present| present == wanted) {
            return Ok(true);
        }
        // Files that were moved, cut off by a power cut, or described by another version of msb.
        if !extents.iter().all(|extent| is_intact(extent)) {
            return Ok(false);
        }
        super::staging::make_folder(self.staging.folder())?;
        self.staging.unshared("disk", wanted.as_bytes())?.publish(disk)?;
        Ok(true)
    }

    /// Makes `reference` stand for a manifest whose image cannot be removed meanwhile.
    pub(super) fn set_ref(&self, reference: &Reference, target: &Target) -> Result<(), Error> {
        let path = refs::path(&self.refs(), reference);
        let text = serde_json::to_vec(target).map_err(|error| Error::io("write", &path, error.into()))?;
        // Whoever removes names removes empty folders with them, and this makes and fills one.
        let _lock = self.staging.lock(false)?;
        self.staging.unshared("ref", &text)?.publish(&path)
    }

    /// Announces an image that is about to be brought in: until the result is dropped, nothing of what it consists
    /// of is removed, though no name and no folder claims it yet.
    pub(super) fn announce(&self, expected: &Expected) -> Result<Claim, Error> {
        let text = serde_json::to_vec(expected)
            .map_err(|error| Error::io("write", self.staging.folder(), error.into()))?;
        let _lock = self.staging.lock(false)?;
        self.staging.unshared(Expected::PREFIX, &text)
    }

    /// Creates the folders and removes what killed processes left.
    pub(super) fn prepare(&self) -> Result<(), Error> {
        for folder in [self.staging.folder(), &self.layers_folder(), &self.images_folder()] {
            super::staging::make_folder(folder)?;
        }
        self.staging.sweep();
        Ok(())
    }

    pub(super) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.layers_folder().join(format!("{}.erofs", diff_id.hex()))
    }

    pub(super) fn image_folder(&self, manifest: &Digest) -> PathBuf {
        self.images_folder().join(manifest.hex())
    }

    pub(super) fn config_path(&self, manifest: &Digest) -> PathBuf {
        self.image_folder(manifest).join("config.json")
    }

    pub(super) fn layers_folder(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn images_folder(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(super) fn blobs_folder(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where a kept blob may be: as it is, and compressed.
    pub(super) fn blob_paths(&self, digest: &Digest) -> [PathBuf; 2] {
        let plain = self.blobs_folder().join(digest.hex());
        let squeezed = self.blobs_folder().join(format!("{}{SQUEEZED}", digest.hex()));
        [plain, squeezed]
    }

    pub(super) fn refs(&self) -> PathBuf {
        self.root.join("refs")
    }
}

/// Whether a file is an EROFS image that was not cut off: the superblock is there and so are all its blocks. What an
/// older msb wrote with larger blocks is not: other addresses in it would mean other bytes.
pub(super) fn is_intact(path: &Path) -> bool {
    const SUPERBLOCK: u64 = 1024;
    const MAGIC: u32 = 0xe0f5_e1e2;
    let mut head = [0; 40];
    let Ok(file) = File::open(path) else { return false };
    if file.read_exact_at(&mut head, SUPERBLOCK).is_err() {
        return false;
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (magic, block_bits, blocks) = (word(0), head[12], word(36));
    let bytes = u64::from(blocks).checked_shl(block_bits.into());
    magic == MAGIC
        && u32::from(block_bits) == BLOCK_BITS
        && file.metadata().is_ok_and(|file| bytes.is_some_and(|bytes| bytes <= file.len()))
}
