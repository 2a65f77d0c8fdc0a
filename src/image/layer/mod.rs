//! One OCI layer, a tar stream, becomes one EROFS blob in one pass.
//!
//! File contents go to the blob as they arrive; what is kept in memory until the end is names and inodes only. Paths
//! are resolved in a tree of our own, never on the host: a symlink is an entry like any other and is not followed.
//!
//! - Whiteouts (`.wh.NAME`, `.wh..wh..opq`) hide the lower layers' entries and nothing of their own layer, whatever
//!   their place in the archive, as the OCI image specification says. AUFS's own entries (`.wh..wh.*`) are left out.
//! - A later entry replaces an earlier one of the same name. A directory keeps its content when it comes again; where
//!   it takes the place of something else it starts empty and hides what lower layers have there.
//! - Directories that are missing on an entry's path are made (0755, root) and marked, so that the merged image takes
//!   their metadata from a lower layer that has them.
//! - A hard link to a file of this layer is one more name of it; to a path this layer does not have, it is recorded and
//!   resolved among the lower layers when the image is merged.
//! - `trusted.overlay.*` attributes are dropped: in the guest they would be orders to overlayfs. So are attributes of
//!   namespaces that Linux does not offer on EROFS. [`LayerStats::dropped_xattrs`] counts them.
//! - Long runs of zeros become holes.
//!
//! Format of the layer: <https://github.com/opencontainers/image-spec/blob/main/layer.md>; of tar: POSIX pax and
//! <https://www.gnu.org/software/tar/manual/html_node/Standard.html>.

#[cfg(test)]
pub(crate) mod archive;
mod builder;
mod contents;
mod path;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;

use msb_guest::archive::{self as tar_archive, Entry, Headers, Kind, shown};

use super::erofs::{self, BLOCK, Device, Output, Volume, storable_xattr};
use builder::Builder;

/// What one layer may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the uncompressed tar stream, and of the file contents in it with holes counted.
    pub bytes: u64,
    /// Entries of the archive, and names in the layer, which include directories made for them. Each takes about 100 bytes of
    /// memory and its name.
    pub entries: u64,
    /// Bytes of a path or a link target.
    pub path: usize,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of one entry's extended (PAX) header.
    pub header: u64,
    /// Bytes of one entry's extended attributes.
    pub xattrs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 40, entries: 4 << 20, path: 4095, depth: 512, header: 1 << 20, xattrs: 128 << 10 }
    }
}

/// What was in a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerStats {
    /// Bytes of the tar stream, to its very end.
    pub tar_bytes: u64,
    /// Bytes of the blob.
    pub blob_bytes: u64,
    /// Entries of the archive that are part of the layer.
    pub entries: u64,
    /// Bytes of all regular files.
    pub file_bytes: u64,
    /// Extended attributes that were left out.
    pub dropped_xattrs: u64,
}

/// Why a layer was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream failed, ended too early or is no tar archive.
    #[error(transparent)]
    Archive(#[from] tar_archive::Error),
    /// The blob could not be written, or the layer does not fit the format.
    #[error(transparent)]
    Blob(#[from] erofs::Error),
    /// A path that no image may have.
    #[error("bad path of entry \"{entry}\": {problem}")]
    Path {
        /// The path.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A hard link that leads nowhere a link may lead.
    #[error("entry \"{entry}\" is a hard link to \"{target}\": {problem}")]
    HardLink {
        /// The entry's path.
        entry: String,
        /// The path it links to.
        target: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More than the limits allow.
    #[error("entry \"{entry}\": more than {limit} {what}")]
    Limit {
        /// The entry's path.
        entry: String,
        /// Of what there is too much.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
}

/// Turns a tar stream into a layer blob in `out`, whose former content is dropped. Reads the stream to its end, so that
/// a digest taken on the way covers all of it. On an error `out` is not a layer blob.
pub fn ingest(tar: impl Read, out: &mut File) -> Result<LayerStats, Error> {
    ingest_within(tar, out, &Limits::default())
}

/// [`ingest`] with other limits.
pub fn ingest_within(tar: impl Read, out: &mut File, limits: &Limits) -> Result<LayerStats, Error> {
    let mut output = Output::new(out, erofs::head(0))?;
    let mut builder = Builder::new(limits);
    let mut stats = LayerStats::default();
    let reading = tar_archive::Limits { bytes: limits.bytes, header: limits.header };
    let mut headers = Headers::new(tar, reading);
    while let Some(mut entry) = headers.next()? {
        stats.entries += 1;
        // Those that replace each other take memory too.
        check(stats.entries <= limits.entries, &entry, "entries", limits.entries)?;
        stats.dropped_xattrs += drop_xattrs(&mut entry);
        if let Kind::File = entry.kind {
            stats.file_bytes = stats.file_bytes.saturating_add(entry.size());
            check(stats.file_bytes <= limits.bytes, &entry, "bytes of files", limits.bytes)?;
            let content = contents::store(&mut headers, &entry, &mut output, builder.chunks())?;
            builder.add_file(&entry, content)?;
        } else {
            builder.add(&entry)?;
        }
    }
    stats.tar_bytes = headers.finish()?;
    let mut tree = builder.finish()?;
    let blocks = erofs::write(&mut tree, output, Volume::Layer, &[] as &[Device])?;
    stats.blob_bytes = u64::from(blocks) * BLOCK;
    Ok(stats)
}

fn check(within: bool, entry: &Entry, what: &'static str, limit: u64) -> Result<(), Error> {
    if within { Ok(()) } else { Err(Error::Limit { entry: shown(&entry.path), what, limit }) }
}

/// Takes out the attributes that the image is not to have, sorts the others, says how many went.
fn drop_xattrs(entry: &mut Entry) -> u64 {
    let before = entry.xattrs.len();
    entry.xattrs.retain(|xattr| storable_xattr(&xattr.name) && !xattr.name.starts_with(b"trusted.overlay."));
    entry.xattrs.sort_unstable();
    (before - entry.xattrs.len()) as u64
}
