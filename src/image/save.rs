//! Saving images as archives and layout folders, with the digests they have.

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Seek, Write};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::archive::{BundleWriter, SaveTarget};
use super::digest::{Digest, Hasher};
use super::error::Error;
use super::export::{Blobs, Export};
use super::inventory::Selector;
use super::layers::LayerSpec;
use super::manifest::{OCI_INDEX, media_type_of};
use super::online::online;
use super::progress::Progress;
use super::pull::PullOptions;
use super::reference::{DEFAULT_TAG, Reference};
use super::store::Store;
use super::verify::decompress;

/// How an image is written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SaveFormat {
    /// A tar of an OCI image layout: manifest and blobs byte for byte, so that the image keeps its digest.
    #[default]
    OciArchive,
    /// What `docker save` wrote before version 25: uncompressed layers and no manifest. The configuration, and with it the
    /// image's ID, stays; the manifest's digest cannot.
    DockerArchive,
    /// An OCI image layout as a folder.
    OciDir,
}

impl Store {
    /// Writes images to one archive or folder. Blobs that are not kept here are fetched again from where the image
    /// was pulled, as `options` has it; every digest is checked.
    ///
    /// # Errors
    /// [`Error::NotStored`]; [`Error::NoBlob`] when a blob is neither kept nor to be had; the target cannot be written.
    /// Nothing is left of an archive that could not be finished.
    pub fn save(
        &self,
        images: &[Selector],
        format: SaveFormat,
        target: SaveTarget,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let images = images.iter().map(|image| self.export(image)).collect::<Result<Vec<_>, _>>()?;
        let out = match (format, target) {
            (SaveFormat::OciDir, SaveTarget::Path(path)) => BundleWriter::folder(&path)?,
            (SaveFormat::OciDir, SaveTarget::Stream(_)) => return Err(Error::FolderToStream),
            (_, target) => BundleWriter::archive(target)?,
        };
        online(self.root(), |runtime| {
            let mut saving = Saving { store: self, runtime, options, progress, out, written: HashSet::new() };
            match format {
                SaveFormat::DockerArchive => saving.docker(&images)?,
                SaveFormat::OciArchive | SaveFormat::OciDir => saving.oci(&images)?,
            }
            saving.out.finish()
        })
    }
}

/// One archive in the making.
struct Saving<'a> {
    store: &'a Store,
    runtime: &'a Runtime,
    options: &'a PullOptions,
    progress: &'a dyn Progress,
    out: BundleWriter,
    /// Files that are in it already: images share layers.
    written: HashSet<String>,
}

impl<'a> Saving<'a> {
    fn blobs(&self, image: &'a Export) -> Result<Blobs<'a>, Error> {
        Blobs::new(self.store, image, self.runtime, self.options, self.progress)
    }

    /// An OCI image layout (image specification, `image-layout.md`).
    fn oci(&mut self, images: &'a [Export]) -> Result<(), Error> {
        self.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let mut entries: Vec<Value> = Vec::new();
        for image in images {
            let blobs = self.blobs(image)?;
            for layer in &image.layers {
                let name = blob_path(layer.digest());
                if self.written.insert(name.clone()) {
                    let out = &mut self.out;
                    blobs.read(layer, |blob| out.add(&name, layer.size, blob))?;
                }
            }
            self.add(&blob_path(&image.manifest.config.digest), &image.config_text)?;
            self.add(&blob_path(&image.digest), &image.manifest_text)?;
            entries.extend(index_entries(image));
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        self.add("index.json", index.to_string().as_bytes())
    }

    fn docker(&mut self, images: &'a [Export]) -> Result<(), Error> {
        self.store.prepare()?;
        let mut list: Vec<Value> = Vec::new();
        for image in images {
            let blobs = self.blobs(image)?;
            for layer in &image.layers {
                if self.written.insert(layer_file(layer)) {
                    self.add_tar(&blobs, layer)?;
                }
            }
            let config = format!("{}.json", image.manifest.config.digest.hex());
            self.add(&config, &image.config_text)?;
            // Docker knows Docker Hub's images by their short names.
            let tags: Vec<String> = image.names.iter().map(Reference::short).collect();
            let layers: Vec<String> = image.layers.iter().map(layer_file).collect();
            list.push(json!({"Config": config, "RepoTags": tags, "Layers": layers}));
        }
        self.add("manifest.json", Value::from(list).to_string().as_bytes())
    }

    /// Adds an uncompressed layer. Its size must be known before its first byte is written, so it is unpacked to a
    /// nameless file first.
    fn add_tar(&mut self, blobs: &Blobs<'_>, layer: &LayerSpec) -> Result<(), Error> {
        let folder = self.store.staging.folder();
        let mut spool = tempfile::tempfile_in(folder).map_err(Error::at("write", folder))?;
        let what = || format!("layer {} of {}", layer.index + 1, blobs.image.label);
        let (size, actual) = blobs.read(layer, |blob| {
            let damaged =
                |source| Error::Decompress { what: what(), digest: Box::new(layer.digest().clone()), source };
            let tar = decompress(BufReader::with_capacity(256 << 10, blob)).map_err(damaged)?;
            let mut tar = tar.take(self.options.max_size.saturating_add(1));
            let mut hasher = Hasher::new(layer.diff_id.algorithm());
            let (mut buffer, mut size) = (vec![0; 256 << 10], 0);
            loop {
                let read = match tar.read(&mut buffer) {
                    Ok(0) => return Ok((size, hasher.finish())),
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(damaged(error)),
                };
                hasher.update(&buffer[..read]);
                spool.write_all(&buffer[..read]).map_err(Error::at("write", folder))?;
                size += read as u64;
            }
        })?;
        if size > self.options.max_size {
            return Err(Error::TooLarge { what: what(), limit: self.options.max_size });
        }
        if actual != layer.diff_id {
            let (expected, actual) = (Box::new(layer.diff_id.clone()), Box::new(actual));
            return Err(Error::DigestMismatch { what: format!("the unpacked {}", what()), expected, actual });
        }
        spool.rewind().map_err(Error::at("read", folder))?;
        self.out.add(&layer_file(layer), size, &mut spool)
    }

    /// Adds a small file, once.
    fn add(&mut self, name: &str, contents: &[u8]) -> Result<(), Error> {
        match self.written.insert(name.to_owned()) {
            true => self.out.add(name, contents.len() as u64, &mut &contents[..]),
            false => Ok(()),
        }
    }
}

/// The entries of an index for an image: one per name, in the words of containerd and of the specification, or one
/// without any.
fn index_entries(image: &Export) -> Vec<Value> {
    let platform = &image.config.platform;
    let mut entry = json!({
        "mediaType": media_type_of(&image.manifest_text),
        "digest": image.digest,
        "size": image.manifest_text.len(),
        "platform": {"os": platform.os, "architecture": platform.architecture},
    });
    if let Some(variant) = &platform.variant {
        entry["platform"]["variant"] = variant.as_str().into();
    }
    let named = |name: &Reference| {
        let mut entry = entry.clone();
        entry["annotations"] = json!({
            "io.containerd.image.name": name.to_string(),
            "org.opencontainers.image.ref.name": name.tag().unwrap_or(DEFAULT_TAG),
        });
        entry
    };
    match &image.names[..] {
        [] => vec![entry],
        names => names.iter().map(named).collect(),
    }
}

fn layer_file(layer: &LayerSpec) -> String {
    format!("{}.tar", layer.diff_id.hex())
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}
