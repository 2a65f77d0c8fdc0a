//! Loading images from docker archives, OCI archives and OCI layout folders.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use serde::Deserialize;

use super::archive::{Bundle, Spool};
use super::digest::Digest;
use super::error::{ArchiveError, Error};
use super::layers::{Job, LayerSource, LayerSpec};
use super::manifest::{Descriptor, Document, ImageManifest, OCI_CONFIG, OCI_LAYER_TAR, null_as_default};
use super::platform::Platform;
use super::progress::{Event, Progress};
use super::pull::PullOptions;
use super::reference::Reference;
use super::removal::Expected;
use super::resolve::{Content, Resolved, Resolver, check_digest};
use super::store::{Image, Store};
use super::verify::decompress;

/// Names tools give an image in an OCI index, the most telling first.
const NAME_KEYS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Where an archive comes from.
#[derive(Debug, Clone)]
pub enum LoadSource {
    /// An archive (also compressed) or an OCI layout folder.
    Path(PathBuf),
    /// An archive on standard input.
    Stdin,
}

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Name for the image instead of the one in the archive, which must hold one image only then.
    pub name: Option<Reference>,
    /// The platform wanted where an archive has several. Default: Linux on this machine's processor.
    pub platform: Platform,
    /// Most bytes the archive and the layers of one image may unpack to. Default: 64 GiB.
    pub max_size: u64,
    /// Layers converted at the same time. Default: 4.
    pub parallel_layers: usize,
    /// Whether to keep the blobs, without which a loaded image can be run but neither saved nor pushed. Default: yes.
    pub keep_blobs: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let PullOptions { platform, max_size, parallel_layers, .. } = PullOptions::default();
        Self { name: None, platform, max_size, parallel_layers, keep_blobs: true }
    }
}

/// An image of an archive, before its layers are read.
struct Found {
    names: Vec<Reference>,
    resolved: Resolved,
    /// Where each layer is in the archive.
    files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default, deserialize_with = "null_as_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    layers: Vec<String>,
}

impl Store {
    /// Brings every image of an archive into the store and gives it its names. Blocks.
    ///
    /// # Errors
    /// See [`Error`]. Images loaded before a failing one stay.
    pub fn load(
        &self,
        source: &LoadSource,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, Error> {
        self.prepare()?;
        let spool = Spool { folder: self.staging.folder(), limit: options.max_size };
        let bundle = match source {
            LoadSource::Path(path) => Bundle::open(path, &spool)?,
            LoadSource::Stdin => Bundle::from_stream("standard input", &mut io::stdin().lock(), &spool)?,
        };
        self.load_bundle(&bundle, options, progress)
    }

    pub(super) fn load_bundle(
        &self,
        bundle: &Bundle,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, Error> {
        let mut found = find_images(bundle, options)?;
        match (&options.name, &mut found[..]) {
            (_, []) => return Err(bundle.error(ArchiveError::Empty)),
            (Some(name), [only]) => only.names = vec![name.clone()],
            (Some(_), several) => return Err(bundle.error(ArchiveError::SeveralImages(several.len()))),
            (None, all) if all.iter().any(|image| image.names.is_empty()) => {
                return Err(bundle.error(ArchiveError::Unnamed));
            }
            _ => {}
        }
        let mut images = Vec::new();
        for image in &found {
            images.extend(self.load_one(bundle, image, options, progress)?);
        }
        Ok(images)
    }

    fn load_one(
        &self,
        bundle: &Bundle,
        image: &Found,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, Error> {
        let Some(first) = image.names.first() else { return Ok(Vec::new()) };
        let short = first.short();
        let layers = image.resolved.summaries();
        let bytes = layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        let digest = &image.resolved.digest;
        progress.event(Event::Resolved { reference: first, digest, layers: &layers, bytes });
        let source = ArchiveLayers { bundle, files: &image.files };
        let job = Job {
            store: self,
            source: &source,
            progress,
            image: &short,
            max_size: options.max_size,
            keep_blobs: options.keep_blobs,
        };
        let _announced = self.announce(&Expected::image(&image.resolved))?;
        job.run(&image.resolved.layers, options.parallel_layers)?;
        image.names.iter().map(|name| self.assemble(name, &image.resolved, false, progress)).collect()
    }
}

fn find_images(bundle: &Bundle, options: &LoadOptions) -> Result<Vec<Found>, Error> {
    let docker: Vec<DockerImage> =
        if bundle.has("manifest.json") { bundle.json("manifest.json")? } else { Vec::new() };
    if bundle.has("index.json") {
        return oci_images(bundle, options, &docker);
    }
    if !bundle.has("manifest.json") {
        return Err(bundle.error(ArchiveError::Kind));
    }
    docker.iter().map(|image| docker_image(bundle, options, image)).collect()
}

/// The images of an OCI index. Entries of one name are the platforms of one image.
fn oci_images(bundle: &Bundle, options: &LoadOptions, docker: &[DockerImage]) -> Result<Vec<Found>, Error> {
    let text = bundle.read("index.json")?;
    let digest = Digest::sha256(&text);
    let unusable = |source| Error::Manifest {
        image: bundle.name().to_owned(),
        digest: Box::new(digest.clone()),
        source,
    };
    let Document::Index(index) = Document::parse(&text).map_err(unusable)? else {
        return Err(bundle.error(ArchiveError::Kind));
    };
    let mut groups: BTreeMap<Option<Reference>, Vec<Descriptor>> = BTreeMap::new();
    for entry in index.manifests {
        groups.entry(name_of(&entry)).or_default().push(entry);
    }
    let content = ArchiveContent { bundle };
    let mut found: Vec<Found> = Vec::new();
    for (name, manifests) in groups {
        let label = name.as_ref().map_or_else(|| bundle.name().to_owned(), Reference::short);
        let resolver = Resolver { image: &label, platform: &options.platform, content: &content };
        let resolved = resolver.index(&super::manifest::ImageIndex { manifests })?;
        let names = match name {
            Some(name) => vec![name],
            None => docker_names(bundle, &resolved, docker)?,
        };
        // One image under several names is one image.
        match found.iter_mut().find(|other| other.resolved.digest == resolved.digest) {
            Some(other) => other.names.extend(names),
            None => {
                let files = resolved.layers.iter().map(|layer| blob_path(layer.digest())).collect();
                found.push(Found { names, resolved, files });
            }
        }
    }
    Ok(found)
}

/// The name an index entry carries, if it is one: many tools write a bare tag, which names nothing.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    NAME_KEYS
        .iter()
        .filter_map(|key| entry.annotations.get(*key))
        .filter(|name| name.contains([':', '/', '@']))
        .find_map(|name| name.parse().ok())
}

/// Archives of current docker have both lists; the names may be in the older one only.
fn docker_names(
    bundle: &Bundle,
    resolved: &Resolved,
    docker: &[DockerImage],
) -> Result<Vec<Reference>, Error> {
    let config = Digest::sha256(&resolved.config_text);
    let same = docker.iter().find(|image| image.config.contains(config.hex()));
    same.map_or(Ok(Vec::new()), |image| names(bundle, &image.repo_tags))
}

fn names(bundle: &Bundle, tags: &[String]) -> Result<Vec<Reference>, Error> {
    // Docker writes this for images whose tag was moved away.
    let real = tags.iter().filter(|tag| !tag.contains("<none>"));
    let parsed: Result<Vec<Reference>, _> = real.map(|tag| tag.parse()).collect();
    parsed.map_err(|error| {
        let source = ArchiveError::Json {
            name: "manifest.json".into(),
            source: serde::de::Error::custom(error.to_string().escape_debug()),
        };
        bundle.error(source)
    })
}

/// An image of a docker archive, which has no manifest: it gets one that follows from its contents alone, so that the
/// same image has the same digest wherever it is loaded.
fn docker_image(bundle: &Bundle, options: &LoadOptions, image: &DockerImage) -> Result<Found, Error> {
    let names = names(bundle, &image.repo_tags)?;
    let label = names.first().map_or_else(|| bundle.name().to_owned(), Reference::short);
    let config_text = bundle.read(&image.config)?;
    let file = image.config.rsplit('/').next().unwrap_or_default();
    if let Ok(stated) = format!("sha256:{}", file.trim_end_matches(".json")).parse::<Digest>() {
        check_digest(&format!("the configuration of {label}"), &stated, &config_text)?;
    }
    let content = ArchiveContent { bundle };
    let resolver = Resolver { image: &label, platform: &options.platform, content: &content };
    let config = resolver.checked_config(&config_text)?;
    if image.layers.len() != config.diff_ids.len() {
        let (manifest, config) = (image.layers.len(), config.diff_ids.len());
        return Err(Error::LayerCount { image: label, manifest, config });
    }
    let (mut layers, mut blobs) = (Vec::new(), Vec::new());
    for (index, (file, diff_id)) in image.layers.iter().zip(&config.diff_ids).enumerate() {
        let size = unpacked_size(bundle, file, options.max_size)?;
        blobs.push(Descriptor::new(OCI_LAYER_TAR, diff_id.clone(), size));
        layers.push(LayerSpec { index, blob: None, urls: Vec::new(), size, diff_id: diff_id.clone() });
    }
    let config_blob = Descriptor::new(OCI_CONFIG, Digest::sha256(&config_text), config_text.len() as u64);
    let manifest = ImageManifest::new(config_blob, blobs);
    let manifest_text = serde_json::to_vec(&manifest)
        .map_err(|source| bundle.error(ArchiveError::Json { name: "manifest.json".into(), source }))?;
    let digest = Digest::sha256(&manifest_text);
    let resolved = Resolved { digest, manifest_text, config_text, layers, index: None };
    Ok(Found { names, resolved, files: image.layers.clone() })
}

/// Size of a layer's tar. Docker stores layers plain; a few other tools compress them, and those are inflated
/// once more, because a manifest must not depend on how a layer happened to be packed.
fn unpacked_size(bundle: &Bundle, file: &str, limit: u64) -> Result<u64, Error> {
    let (mut stream, size) = bundle.stream(file)?;
    let damaged = |error| bundle.error(ArchiveError::Tar(error));
    let mut start = Vec::new();
    stream.by_ref().take(4).read_to_end(&mut start).map_err(damaged)?;
    if !matches!(start[..], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(size);
    }
    let (stream, _) = bundle.stream(file)?;
    let inflated = decompress(BufReader::with_capacity(256 << 10, stream)).map_err(damaged)?;
    let size = io::copy(&mut inflated.take(limit.saturating_add(1)), &mut io::sink()).map_err(damaged)?;
    match size > limit {
        true => Err(Error::TooLarge { what: format!("a layer of {}", bundle.name()), limit }),
        false => Ok(size),
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

struct ArchiveContent<'a> {
    bundle: &'a Bundle,
}

impl Content for ArchiveContent<'_> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.bundle.read(&blob_path(&descriptor.digest))
    }

    fn config(&self, _manifest: &Digest, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.bundle.read(&blob_path(&descriptor.digest))
    }
}

struct ArchiveLayers<'a> {
    bundle: &'a Bundle,
    files: &'a [String],
}

impl LayerSource for ArchiveLayers<'_> {
    fn open(&self, layer: &LayerSpec, _from: usize) -> Result<(Box<dyn Read + Send + '_>, usize), Error> {
        let file = self.files.get(layer.index).map_or("", String::as_str);
        self.bundle.stream(file).map(|(stream, _)| (stream, 0))
    }

    fn cause(&self, _layer: &LayerSpec, error: io::Error) -> Error {
        self.bundle.error(ArchiveError::Tar(error))
    }
}
