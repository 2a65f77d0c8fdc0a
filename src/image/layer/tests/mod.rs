#![allow(clippy::unwrap_used)]

mod formats;
mod hostile;
mod many;
mod trees;

use super::archive::{Archive, Blobs, Spec};
use super::{Error, LayerStats, Limits, tar_archive};
use crate::image::erofs::snapshot::{Disk, Snapshot};

/// Ingests an archive and reads the blob back.
fn ingested(tar: &[u8]) -> Result<(Snapshot, LayerStats), Error> {
    let blobs = Blobs::new();
    let (path, stats) = blobs.ingest("layer", tar)?;
    assert_eq!(std::fs::metadata(&path).unwrap().len(), stats.blob_bytes);
    assert_eq!(stats.tar_bytes, tar.len() as u64);
    Ok((Disk::layer(&path).snapshot(), stats))
}

/// Ingests an archive of these entries.
fn tree(specs: impl IntoIterator<Item = Spec>) -> Result<Snapshot, Error> {
    Ok(ingested(&Archive::of(specs).ended())?.0)
}

fn paths(snapshot: &Snapshot) -> Vec<String> {
    snapshot.keys().map(|path| path.escape_ascii().to_string()).collect()
}
