//! What can go wrong with images, one variant per cause, and what the user can do about each.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use super::config::ConfigError;
use super::digest::Digest;
use super::manifest::ManifestError;
use super::platform::Platform;
use super::reference::{InvalidReference, Reference};
use super::registry::RegistryError;
use super::{layer, merge, vmdk};

/// Why an image could not be pulled, loaded, found or listed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name is not an image reference.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The registry could not be reached or refused.
    #[error("cannot pull {reference}: {source}")]
    Registry {
        /// What was pulled.
        reference: String,
        /// What the registry or the network did.
        #[source]
        source: Box<RegistryError>,
    },
    /// No registry may be asked, and the image is not here.
    #[error("{image} is not on this machine, at least not for the platform wanted")]
    NotHere {
        /// The image.
        image: String,
    },
    /// A manifest or index cannot be used.
    #[error("the manifest {digest} of {image} cannot be used: {source}")]
    Manifest {
        /// The image or archive.
        image: String,
        /// The manifest.
        digest: Box<Digest>,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// An image configuration cannot be used.
    #[error("the configuration of {image} cannot be used: {source}")]
    Config {
        /// The image or archive.
        image: String,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// Manifest and configuration disagree on the number of layers.
    #[error("the manifest of {image} has {manifest} layers, its configuration {config}")]
    LayerCount {
        /// The image or archive.
        image: String,
        /// Layers in the manifest.
        manifest: usize,
        /// Layers in the configuration.
        config: usize,
    },
    /// The image is for other platforms.
    #[error("{image} has no image for {wanted}; it offers {}", list(.offered))]
    Platform {
        /// The image.
        image: String,
        /// What was asked for.
        wanted: Box<Platform>,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// Indexes nested too deep, or in a circle.
    #[error("the index of {image} refers to further indexes without end")]
    IndexLoop {
        /// The image.
        image: String,
    },
    /// Content does not have the digest that names it.
    #[error("{what} is not what it should be: expected {expected}, got {actual}")]
    DigestMismatch {
        /// `layer 3 of python:latest`, `the configuration of …`.
        what: String,
        /// The digest it was asked for by.
        expected: Box<Digest>,
        /// The digest of what came.
        actual: Box<Digest>,
    },
    /// Content has another size than its descriptor says.
    #[error("{what} ({digest}) should have {expected} bytes, but {actual} came")]
    SizeMismatch {
        /// Which content.
        what: String,
        /// Its digest.
        digest: Box<Digest>,
        /// Size in the descriptor.
        expected: u64,
        /// Bytes that came; one more than expected when there was more.
        actual: u64,
    },
    /// The layers unpack to more than allowed.
    #[error("{what} unpacks to more than the limit of {limit} bytes for an image")]
    TooLarge {
        /// Which layer was over.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A compressed layer is damaged though its digest is right.
    #[error("{what} ({digest}) cannot be decompressed: {source}")]
    Decompress {
        /// Which layer.
        what: String,
        /// Its digest.
        digest: Box<Digest>,
        /// What the decompressor said.
        #[source]
        source: io::Error,
    },
    /// A layer's archive cannot be converted.
    #[error("{what} ({digest}) cannot be used: {source}")]
    Layer {
        /// Which layer.
        what: String,
        /// Its digest.
        digest: Box<Digest>,
        /// Why.
        #[source]
        source: Box<layer::Error>,
    },
    /// The layers cannot be put together.
    #[error("the layers of {image} cannot be put together: {source}")]
    Merge {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<merge::Error>,
    },
    /// The disk description cannot be written.
    #[error("the disk of {image} cannot be described: {source}")]
    Vmdk {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<vmdk::Error>,
    },
    /// An archive is not an image archive, or lacks a part.
    #[error("{path} cannot be loaded: {source}")]
    Archive {
        /// The archive, or `standard input`.
        path: String,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// The disk is full.
    #[error("no space left for images in {}", path.display())]
    NoSpace {
        /// Where it was written to.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The store may not be read or written.
    #[error("no permission for {}: {source}", path.display())]
    Permission {
        /// Which file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Any other failed call on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `create`, `read`, …
        action: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The registry could not be reached or refused what was pushed.
    #[error("cannot push to {target}: {source}")]
    Push {
        /// Where it was pushed to.
        target: String,
        /// What the registry or the network did.
        #[source]
        source: Box<RegistryError>,
    },
    /// A blob that is neither kept here nor to be had from where the image came from.
    #[error("layer {layer} of {image} ({digest}) is no longer here as it came{}", because(.source.as_deref()))]
    NoBlob {
        /// Position, counted from 1 at the bottom.
        layer: usize,
        /// The image.
        image: String,
        /// The blob.
        digest: Box<Digest>,
        /// Why it could not be fetched again; nothing where it never came from a registry.
        source: Option<Box<Error>>,
    },
    /// An image asked for by digest has no name to be pushed under.
    #[error("`{image}` is no name to push to")]
    NoTarget {
        /// The image as it was asked for.
        image: String,
    },
    /// A layout folder cannot go to standard output.
    #[error("a layout folder needs a name")]
    FolderToStream,
    /// No image in the store has this name or digest.
    #[error("there is no image `{image}` here")]
    NotStored {
        /// What was asked for.
        image: String,
    },
    /// Several images have digests with these first digits.
    #[error("`{digits}` is the beginning of {images} digests")]
    Ambiguous {
        /// The digits given.
        digits: String,
        /// How many images there are.
        images: usize,
    },
    /// An image cannot be removed because something needs it.
    #[error("{image} is in use by {}", .users.join(", "))]
    InUse {
        /// The image as it was asked for.
        image: String,
        /// Processes, installed sandboxes and projects.
        users: Vec<String>,
    },
    /// A name given to an image must be one that can move.
    #[error("{name} is a digest, which cannot be given to an image")]
    NamedByDigest {
        /// The name.
        name: Box<Reference>,
    },
    /// Another layer of the same image failed first; only seen when that error went elsewhere.
    #[error("stopped because another layer failed")]
    Cancelled,
}

/// Why an archive is not an image archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Neither `manifest.json` nor `index.json` is in it.
    #[error(
        "it is neither a docker archive (manifest.json), an OCI archive (index.json) nor an OCI layout folder"
    )]
    Kind,
    /// It is no tar archive, or damaged.
    #[error("it is not a readable tar archive: {0}")]
    Tar(#[source] io::Error),
    /// A file the archive's own list names is missing.
    #[error("`{0}` is missing from it")]
    Missing(String),
    /// A list in the archive is larger than allowed.
    #[error("`{0}` in it is larger than allowed")]
    TooLarge(String),
    /// It has more entries than an image archive can need.
    #[error("it has more than {0} entries")]
    TooManyEntries(usize),
    /// A list in the archive is not valid JSON of the right shape.
    #[error("`{name}` in it is not valid: {source}")]
    Json {
        /// The file.
        name: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// There is no image in it.
    #[error("it holds no image")]
    Empty,
    /// The image has no name and none was given.
    #[error("the image in it has no name")]
    Unnamed,
    /// A name was given for an archive of several images.
    #[error("it holds {0} images, and one name cannot stand for all of them")]
    SeveralImages(usize),
}

impl Error {
    /// What the user can do, where something can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotHere { image } => {
                Some(format!("get it with `msb pull {image}`, or leave out what forbids that (--frozen, --policy never)"))
            }
            Self::Registry { source, .. } | Self::Push { source, .. } => source.hint(),
            Self::NoBlob { .. } => Some(
                "load or pull the image once more with `keep-blobs = \"always\"` under [images] in config.toml".into(),
            ),
            Self::NoTarget { image } => Some(format!("say where to: msb push {image} REGISTRY/NAME:TAG")),
            Self::FolderToStream => Some("name one with --output".into()),
            Self::NoSpace { path, .. } => Some(format!(
                "free space on the disk of {}, remove images you do not need, or move the cache with MSB_HOME or XDG_CACHE_HOME",
                path.display()
            )),
            Self::Permission { path, .. } => Some(format!(
                "make {} readable and writable for you, or choose another place with MSB_HOME or XDG_CACHE_HOME",
                path.display()
            )),
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => Some(
                "nothing of it was kept; try again, and if it stays so, the registry, a proxy in between or the archive is at fault".into(),
            ),
            Self::TooLarge { .. } => {
                Some("if you trust the image, raise `max-size` under [images] in config.toml".into())
            }
            Self::NotStored { image } => {
                Some(format!("`msb image ls` shows what is here; `msb pull {image}` fetches it"))
            }
            Self::Ambiguous { .. } => Some("write more of its digits".into()),
            Self::InUse { .. } => Some(
                "stop or uninstall what uses it, or remove it all the same with --force; what still needs it pulls it again".into(),
            ),
            Self::NamedByDigest { .. } => Some("write NAME:TAG".into()),
            Self::Platform { offered, .. } if !offered.is_empty() => {
                Some("choose one of the platforms it offers, or another tag".into())
            }
            Self::Archive { source: ArchiveError::Unnamed, .. } => Some("give it one with --tag".into()),
            Self::Archive { source: ArchiveError::SeveralImages(_), .. } => Some("leave out --tag".into()),
            Self::Archive { source: ArchiveError::Kind, .. } => {
                Some("make one with `docker save`, `podman save` or `skopeo copy`".into())
            }
            _ => None,
        }
    }

    /// Wraps a failed call on a file of the store, telling full disks and missing rights apart.
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path, source },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Permission { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// [`Error::io`] for use with `map_err`.
    pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::io(action, &path, source)
    }

    /// If `error` comes from a full disk or missing rights, that cause; conversion errors hide it deep.
    pub(super) fn storage_cause(error: &(dyn StdError + 'static), path: &Path) -> Option<Self> {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
        let mut storage = kinds.filter(|kind| {
            matches!(kind, StorageFull | QuotaExceeded | PermissionDenied | ReadOnlyFilesystem)
        });
        storage.next().map(|kind| Self::io("write", path, kind.into()))
    }
}

/// An error and what is behind it, also inside I/O errors, whose own `source` leaps over what they wrap.
pub(super) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |current: &&'a (dyn StdError + 'static)| {
        let current = *current;
        match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => current.source(),
        }
    })
}

fn because(source: Option<&Error>) -> String {
    source.map_or_else(
        || ", and it did not come from a registry".to_owned(),
        |error| format!(", and it cannot be fetched again: {error}"),
    )
}

fn list(platforms: &[Platform]) -> String {
    match platforms {
        [] => "none".to_owned(),
        _ => platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
