//! Image manifests and indexes: OCI image specification 1.1 and docker's schema 2.
//!
//! The text comes from a registry or an archive and is hostile until its digest was checked, and even then
//! only as trustworthy as whoever wrote it: sizes and counts are bounded and unknown kinds are refused by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;
use super::platform::Platform;

/// Largest manifest or index accepted, in bytes (what registries accept too).
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Most layers an image may have; docker's own limit is 127.
pub const MAX_LAYERS: usize = 1024;
/// Most places of a layer that are tried.
const MAX_URLS: usize = 4;
const MAX_URL: usize = 2048;

/// Media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of an uncompressed OCI layer.
pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media type of a docker schema 2 manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of a docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER_PREFIXES: [&str; 3] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.",
];

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is larger than [`MAX_MANIFEST`].
    #[error("it is larger than {MAX_MANIFEST} bytes")]
    TooLarge,
    /// It is not the JSON the specification asks for.
    #[error("it is not valid: {0}")]
    Json(#[source] serde_json::Error),
    /// Docker's first image format, retired in 2017.
    #[error("it has docker's schema 1, which registries retired; push the image again with a current tool")]
    Schema1,
    /// `schemaVersion` is neither 1 nor 2.
    #[error("its schemaVersion is {0}, expected 2")]
    SchemaVersion(u64),
    /// The media type is not one of an image.
    #[error("its media type is `{0}`, which is not a container image")]
    MediaType(String),
    /// An OCI artifact (chart, module, signature, …) and not a container image.
    #[error("it is {} and not a container image", describe_artifact(.0))]
    Artifact(String),
    /// Both `layers` and `manifests`, or neither.
    #[error(
        "it is neither clearly an image nor clearly an index (it needs `config` and `layers`, or `manifests`)"
    )]
    Ambiguous,
    /// More than [`MAX_LAYERS`].
    #[error("it has {0} layers, more than the {MAX_LAYERS} allowed")]
    TooManyLayers(usize),
    /// A layer that is not a tar archive, or an encrypted one.
    #[error("layer {layer} has media type `{media_type}`, which is not a file system layer")]
    Layer {
        /// Position, counted from 0 at the bottom.
        layer: usize,
        /// The media type found.
        media_type: String,
    },
}

/// A reference to content by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, deserialize_with = "null_as_default")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it can be had (non-distributable layers).
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: the platform of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<RawPlatform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RawPlatform {
    #[serde(default, deserialize_with = "null_as_default")]
    os: String,
    #[serde(default, deserialize_with = "null_as_default")]
    architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

impl Descriptor {
    /// A descriptor without notes.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    /// In an index: the platform of the image, when stated.
    pub fn platform(&self) -> Option<Platform> {
        let raw = self.platform.as_ref()?;
        Some(Platform::new(&raw.os, &raw.architecture, raw.variant.as_deref()))
    }

    /// Where a layer is that registries may not give away; none for any other.
    pub(super) fn foreign_urls(&self) -> Vec<String> {
        let is_foreign = ["nondistributable", ".foreign."].iter().any(|word| self.media_type.contains(word));
        let urls = self.urls.iter().filter(|_| is_foreign);
        urls.filter(|url| url.len() <= MAX_URL).take(MAX_URLS).cloned().collect()
    }

    fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }
}

/// A checked image manifest.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    schema_version: u8,
    media_type: &'static str,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

impl ImageManifest {
    /// An OCI manifest for the given parts.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: OCI_MANIFEST, config, layers }
    }
}

/// A checked index (docker: manifest list).
#[derive(Debug, Clone)]
pub struct ImageIndex {
    /// The images, and possibly other indexes and artifacts.
    pub manifests: Vec<Descriptor>,
}

/// Either kind of document a reference can lead to.
#[derive(Debug, Clone)]
pub enum Document {
    /// One image for one platform.
    Image(Box<ImageManifest>),
    /// Images to choose from.
    Index(ImageIndex),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    #[serde(default, deserialize_with = "null_as_default")]
    media_type: String,
    #[serde(default, deserialize_with = "null_as_default")]
    artifact_type: String,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    // Schema 1 only.
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads and checks a manifest or index.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLarge);
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if raw.schema_version == 1 || raw.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        if raw.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(raw.schema_version));
        }
        // A document that can be read as both would mean one thing here and another elsewhere under one digest.
        match (raw.media_type.as_str(), raw.config, raw.layers, raw.manifests) {
            (OCI_MANIFEST | DOCKER_MANIFEST | "", Some(config), Some(layers), None) => {
                check_image(&config, &layers, &raw.artifact_type)?;
                Ok(Self::Image(Box::new(ImageManifest::new(config, layers))))
            }
            (OCI_INDEX | DOCKER_LIST | "", None, None, Some(manifests)) => {
                Ok(Self::Index(ImageIndex { manifests }))
            }
            (OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_LIST | "", ..) => {
                Err(ManifestError::Ambiguous)
            }
            (other, ..) => Err(ManifestError::MediaType(clip(other))),
        }
    }
}

fn check_image(config: &Descriptor, layers: &[Descriptor], artifact: &str) -> Result<(), ManifestError> {
    if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
        let kind = if artifact.is_empty() { &config.media_type } else { artifact };
        return Err(ManifestError::Artifact(clip(kind)));
    }
    if layers.len() > MAX_LAYERS {
        return Err(ManifestError::TooManyLayers(layers.len()));
    }
    let is_layer = |media_type: &str| {
        LAYER_PREFIXES.iter().any(|prefix| media_type.starts_with(prefix))
            && !media_type.ends_with("+encrypted")
    };
    // An attestation is an image by its configuration, but none of its layers is one.
    match layers.iter().enumerate().find(|(_, layer)| !is_layer(&layer.media_type)) {
        Some((_, layer)) if known_artifact(&layer.media_type).is_some() => {
            Err(ManifestError::Artifact(clip(&layer.media_type)))
        }
        Some((position, layer)) => {
            Err(ManifestError::Layer { layer: position, media_type: clip(&layer.media_type) })
        }
        None => Ok(()),
    }
}

/// What an index says about a platform.
#[derive(Debug)]
pub enum Choice<'a> {
    /// This image fits.
    Found(&'a Descriptor),
    /// No image fits here; these entries are indexes that may hold one.
    Nested(Vec<&'a Descriptor>),
}

impl ImageIndex {
    /// The image that suits `wanted` best.
    pub fn choose(&self, wanted: &Platform) -> Choice<'_> {
        let images = self.manifests.iter().filter(|entry| !entry.is_index());
        let fitting = images.filter_map(|entry| Some((wanted.distance(&entry.platform()?)?, entry)));
        // `min_by_key` keeps the first of equals, as the specification asks.
        match fitting.min_by_key(|(distance, _)| *distance) {
            Some((_, entry)) => Choice::Found(entry),
            None => match self.only_unlabelled() {
                Some(entry) => Choice::Found(entry),
                None => Choice::Nested(self.manifests.iter().filter(|entry| entry.is_index()).collect()),
            },
        }
    }

    /// Some tools write an index of one image and leave its platform to the configuration.
    fn only_unlabelled(&self) -> Option<&Descriptor> {
        match &self.manifests[..] {
            [only] if only.platform.is_none() && !only.is_index() => Some(only),
            _ => None,
        }
    }

    /// Platforms on offer, for an error message; attestations (`unknown/unknown`) are left out.
    pub fn platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = self
            .manifests
            .iter()
            .filter_map(Descriptor::platform)
            .filter(|platform| !platform.os.is_empty() && platform.os != "unknown")
            .collect();
        platforms.sort();
        platforms.dedup();
        platforms
    }
}

fn describe_artifact(media_type: &str) -> String {
    match known_artifact(media_type) {
        Some(name) => format!("{name} (`{media_type}`)"),
        None => format!("an artifact of type `{media_type}`"),
    }
}

/// What people call an artifact, by its media type.
fn known_artifact(media_type: &str) -> Option<&'static str> {
    let known = [
        ("vnd.cncf.helm.", "a Helm chart"),
        ("vnd.wasm.", "a WebAssembly module"),
        ("vnd.bytecodealliance.wasm", "a WebAssembly module"),
        ("vnd.module.wasm", "a WebAssembly module"),
        ("application/wasm", "a WebAssembly module"),
        ("vnd.dev.cosign.", "a cosign signature"),
        ("vnd.dev.sigstore.", "a sigstore signature"),
        ("vnd.cncf.notary.", "a notation signature"),
        ("vnd.in-toto", "an attestation"),
        ("spdx", "a bill of materials (SBOM)"),
        ("cyclonedx", "a bill of materials (SBOM)"),
        ("vnd.cncf.openpolicyagent.", "a policy bundle"),
        ("vnd.cnab.", "a CNAB bundle"),
        ("vnd.docker.ai.", "an AI model"),
        ("vnd.ollama.", "an AI model"),
        ("vnd.cncf.model", "an AI model"),
        ("vnd.docker.plugin", "a docker plugin"),
    ];
    known.iter().find(|(part, _)| media_type.contains(part)).map(|(_, name)| *name)
}

/// What a manifest says it is; one that says nothing is OCI's, as the specification has it.
pub fn media_type_of(manifest: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        #[serde(default, deserialize_with = "null_as_default")]
        media_type: String,
    }
    let stated = serde_json::from_slice(manifest).map_or_else(|_| String::new(), |raw: Raw| raw.media_type);
    if stated.is_empty() { OCI_MANIFEST.to_owned() } else { stated }
}

/// A hostile string fit for an error message.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// Go's encoders write `null` for empty maps and lists.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
