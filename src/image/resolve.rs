//! From a manifest or index to the one image that fits, with every digest on the way checked.

use super::config::{ImageConfig, MAX_CONFIG};
use super::digest::Digest;
use super::error::Error;
use super::layers::LayerSpec;
use super::manifest::{Choice, Descriptor, Document, ImageIndex, ImageManifest, MAX_MANIFEST};
use super::platform::Platform;
use super::progress::LayerSummary;

/// Deepest nesting of indexes followed; tools write at most two.
const MAX_DEPTH: usize = 5;
/// Most documents read on the way, which bounds a wide index of indexes.
const MAX_DOCUMENTS: usize = 32;

/// Where manifests and configurations come from.
pub(super) trait Content {
    /// A manifest or index of at most `MAX_MANIFEST` bytes.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error>;
    /// A configuration of at most `MAX_CONFIG` bytes, which `manifest` names.
    fn config(&self, manifest: &Digest, descriptor: &Descriptor) -> Result<Vec<u8>, Error>;
}

/// An image whose manifest and configuration are known and checked.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Digest of `manifest_text`.
    pub(super) digest: Digest,
    /// The manifest, byte for byte.
    pub(super) manifest_text: Vec<u8>,
    /// The configuration, byte for byte.
    pub(super) config_text: Vec<u8>,
    /// The layers, lowest first.
    pub(super) layers: Vec<LayerSpec>,
    /// The index it was chosen from, byte for byte, if the name stands for one.
    pub(super) index: Option<(Digest, Vec<u8>)>,
}

impl Resolved {
    pub(super) fn summaries(&self) -> Vec<LayerSummary> {
        let layers = self.layers.iter();
        layers.map(|layer| LayerSummary { digest: layer.digest().clone(), size: layer.size }).collect()
    }
}

/// The search for one image.
pub(super) struct Resolver<'a> {
    /// Its name, for messages.
    pub(super) image: &'a str,
    /// The platform wanted.
    pub(super) platform: &'a Platform,
    /// Where documents come from.
    pub(super) content: &'a dyn Content,
}

impl Resolver<'_> {
    /// The image a manifest or index of the given text stands for. `digest` is that of `text`.
    pub(super) fn document(&self, text: Vec<u8>, digest: Digest) -> Result<Resolved, Error> {
        let document = self.parse(&text, &digest)?;
        match document {
            Document::Image(manifest) => self.image(text, digest, &manifest),
            Document::Index(index) => {
                let resolved = self.index(&index)?;
                Ok(Resolved { index: Some((digest, text)), ..resolved })
            }
        }
    }

    /// The image in `index` that fits.
    pub(super) fn index(&self, index: &ImageIndex) -> Result<Resolved, Error> {
        let mut offered = Vec::new();
        let mut budget = MAX_DOCUMENTS;
        match self.search(index, MAX_DEPTH, &mut budget, &mut offered)? {
            Some(found) => Ok(found),
            None => Err(self.wrong_platform(offered)),
        }
    }

    fn search(
        &self,
        index: &ImageIndex,
        depth: usize,
        budget: &mut usize,
        offered: &mut Vec<Platform>,
    ) -> Result<Option<Resolved>, Error> {
        if depth == 0 {
            return Err(Error::IndexLoop { image: self.image.to_owned() });
        }
        offered.extend(index.platforms());
        let nested = match index.choose(self.platform) {
            Choice::Found(entry) => {
                let text = self.fetch(entry)?;
                return match self.parse(&text, &entry.digest)? {
                    Document::Image(manifest) => self.image(text, entry.digest.clone(), &manifest).map(Some),
                    Document::Index(inner) => self.search(&inner, depth - 1, budget, offered),
                };
            }
            Choice::Nested(nested) => nested,
        };
        for entry in nested {
            *budget =
                budget.checked_sub(1).ok_or_else(|| Error::IndexLoop { image: self.image.to_owned() })?;
            let text = self.fetch(entry)?;
            if let Document::Index(inner) = self.parse(&text, &entry.digest)?
                && let Some(found) = self.search(&inner, depth - 1, budget, offered)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn image(&self, text: Vec<u8>, digest: Digest, manifest: &ImageManifest) -> Result<Resolved, Error> {
        let config_text = self.fetch_config(&digest, &manifest.config)?;
        let config = self.checked_config(&config_text)?;
        if manifest.layers.len() != config.diff_ids.len() {
            return Err(Error::LayerCount {
                image: self.image.to_owned(),
                manifest: manifest.layers.len(),
                config: config.diff_ids.len(),
            });
        }
        let layers = layers_of(manifest, &config);
        Ok(Resolved { digest, manifest_text: text, config_text, layers, index: None })
    }

    /// Reads a configuration and checks that its platform fits.
    pub(super) fn checked_config(&self, text: &[u8]) -> Result<ImageConfig, Error> {
        let config = ImageConfig::parse(text)
            .map_err(|source| Error::Config { image: self.image.to_owned(), source })?;
        match self.platform.distance(&config.platform) {
            Some(_) => Ok(config),
            None => Err(self.wrong_platform(vec![config.platform])),
        }
    }

    fn wrong_platform(&self, mut offered: Vec<Platform>) -> Error {
        offered.sort();
        offered.dedup();
        offered.truncate(30);
        Error::Platform { image: self.image.to_owned(), wanted: Box::new(self.platform.clone()), offered }
    }

    fn parse(&self, text: &[u8], digest: &Digest) -> Result<Document, Error> {
        Document::parse(text).map_err(|source| Error::Manifest {
            image: self.image.to_owned(),
            digest: Box::new(digest.clone()),
            source,
        })
    }

    fn fetch(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let what = format!("a manifest of {}", self.image);
        check_size(&what, descriptor, MAX_MANIFEST)?;
        let text = self.content.manifest(descriptor)?;
        check_text(&what, descriptor, &text).map(|()| text)
    }

    fn fetch_config(&self, manifest: &Digest, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let what = format!("the configuration of {}", self.image);
        check_size(&what, descriptor, MAX_CONFIG)?;
        let text = self.content.config(manifest, descriptor)?;
        check_text(&what, descriptor, &text).map(|()| text)
    }
}

/// The layers of an image, lowest first.
pub(super) fn layers_of(manifest: &ImageManifest, config: &ImageConfig) -> Vec<LayerSpec> {
    let pairs = manifest.layers.iter().zip(&config.diff_ids).enumerate();
    pairs
        .map(|(index, (blob, diff_id))| LayerSpec {
            index,
            blob: Some(blob.digest.clone()),
            urls: blob.foreign_urls(),
            size: blob.size,
            diff_id: diff_id.clone(),
        })
        .collect()
}

fn check_size(what: &str, descriptor: &Descriptor, limit: u64) -> Result<(), Error> {
    match descriptor.size > limit {
        true => Err(Error::TooLarge { what: format!("{what} ({})", descriptor.digest), limit }),
        false => Ok(()),
    }
}

fn check_text(what: &str, descriptor: &Descriptor, text: &[u8]) -> Result<(), Error> {
    check_digest(what, &descriptor.digest, text)?;
    match text.len() as u64 == descriptor.size {
        true => Ok(()),
        false => Err(Error::SizeMismatch {
            what: what.to_owned(),
            digest: Box::new(descriptor.digest.clone()),
            expected: descriptor.size,
            actual: text.len() as u64,
        }),
    }
}

/// Compares the digest of `text` with the one it was asked for by.
pub(super) fn check_digest(what: &str, expected: &Digest, text: &[u8]) -> Result<(), Error> {
    let actual = expected.same_kind_of(text);
    match actual == *expected {
        true => Ok(()),
        false => Err(Error::DigestMismatch {
            what: what.to_owned(),
            expected: Box::new(expected.clone()),
            actual: Box::new(actual),
        }),
    }
}

#[cfg(test)]
mod tests;
