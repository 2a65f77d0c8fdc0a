//! Making room: which images go, and in which order.

use std::time::{Duration, SystemTime};

use super::digest::Digest;
use super::error::Error;
use super::inventory::{Use, users};
use super::removal::{Collector, Removed};
use super::store::Store;

/// What to remove. By default that is what no name leads to: images that lost theirs, layers of no image, what killed
/// processes left.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Images with a name too.
    pub all: bool,
    /// Only images not pulled, loaded or started for this long.
    pub older_than: Option<Duration>,
    /// Only until the store takes no more than this many bytes; the image that was not used for the longest time
    /// goes first.
    pub keep_storage: Option<u64>,
    /// Change nothing and say what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The images, in the order they were removed.
    pub images: Vec<Removed>,
    /// Bytes that are free again, those of layers and of unfinished work included.
    pub freed_bytes: u64,
    /// Bytes the store takes now.
    pub left_bytes: u64,
}

impl Store {
    /// Removes images that nothing uses: no running process, none of `uses`, and nobody who is bringing them in.
    ///
    /// # Errors
    /// The store cannot be read or changed. What was removed until then is gone, and nothing else is harmed.
    pub fn prune(&self, options: &PruneOptions, uses: &[Use]) -> Result<Pruned, Error> {
        if options.dry_run && !self.staging.folder().is_dir() {
            return Ok(Pruned::default());
        }
        let stale: u64 =
            self.staging.leftovers().iter().filter(|work| !work.is_live).map(|work| work.bytes).sum();
        if !options.dry_run {
            self.prepare()?;
        }
        let mut collector = Collector::start(self, options.dry_run)?;
        let mut pruned = Pruned::default();
        let before = collector.inventory.bytes();
        collector.remove_idle_names()?;
        // Layers of no image count as gone before any image is taken for the room they occupy.
        collector.remove_unneeded()?;
        for image in candidates(&collector, options) {
            if options.keep_storage.is_some_and(|limit| collector.inventory.bytes() <= limit) {
                break;
            }
            if !users(self, &image, uses).is_empty() {
                continue;
            }
            // Between the look above and this a sandbox may have started.
            if let Some(mut removed) = collector.remove_image(&image, false)? {
                removed.freed_bytes += collector.remove_unneeded()?;
                pruned.images.push(removed);
            }
        }
        pruned.left_bytes = collector.inventory.bytes();
        pruned.freed_bytes = before - pruned.left_bytes + stale;
        Ok(pruned)
    }
}

/// The images that may go, first those without a name, then those not used for the longest time.
fn candidates(collector: &Collector<'_>, options: &PruneOptions) -> Vec<Digest> {
    let inventory = &collector.inventory;
    let now = SystemTime::now();
    let with_names = options.all || options.older_than.is_some() || options.keep_storage.is_some();
    let is_old = |used: SystemTime| {
        options.older_than.is_none_or(|least| now.duration_since(used).unwrap_or_default() >= least)
    };
    let is_whole = |image: &Digest| inventory.images.get(image).is_some_and(|stored| stored.parts.is_some());
    let mut candidates: Vec<(bool, SystemTime, &Digest)> = inventory
        .images
        .keys()
        .filter(|image| !collector.is_expected(image))
        .map(|image| (!inventory.names_of(image).is_empty(), inventory.last_used(image), image))
        // What is damaged is of no use to anybody, however young.
        .filter(|(named, used, image)| !is_whole(image) || ((with_names || !named) && is_old(*used)))
        .collect();
    candidates.sort();
    candidates.into_iter().map(|(_, _, image)| image.clone()).collect()
}
