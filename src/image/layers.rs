//! From layer blobs to layer files in the store: several at once, each in one pass.
//!
//! socket or archive → digest of the blob → inflate → digest of the tar (diff_id) → EROFS writer → rename.
//! Nothing is visible before both digests are right.

use std::io::{BufReader, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::blobs::{Keeping, Tee};
use super::digest::{Algorithm, Digest};
use super::error::Error;
use super::layer;
use super::progress::{Event, Progress};
use super::staging::Waiting;
use super::store::{Store, is_intact};
use super::verify::{Checked, decompress};

/// Report progress at this distance in bytes.
const STEP: u64 = 256 << 10;

/// One layer to bring into the store.
#[derive(Debug, Clone)]
pub(super) struct LayerSpec {
    /// Position in the image, from 0 at the bottom.
    pub(super) index: usize,
    /// Digest of the blob, where a manifest states it; then `size` is binding too.
    pub(super) blob: Option<Digest>,
    /// Where else the blob is, when registries may not give it away.
    pub(super) urls: Vec<String>,
    /// Bytes to read.
    pub(super) size: u64,
    /// Digest of the uncompressed archive; the layer's name in the store.
    pub(super) diff_id: Digest,
}

impl LayerSpec {
    /// The digest people know the layer by.
    pub(super) fn digest(&self) -> &Digest {
        self.blob.as_ref().unwrap_or(&self.diff_id)
    }
}

/// Where blobs come from.
pub(super) trait LayerSource: Sync {
    /// The blob of `layer` from its first byte, from the place numbered `from` or one behind it, and that one's number.
    fn open(&self, layer: &LayerSpec, from: usize) -> Result<(Box<dyn Read + Send + '_>, usize), Error>;

    /// The place to try when what came from `place` is not the layer, as `error` says; nobody else is told of it.
    fn behind(&self, layer: &LayerSpec, place: usize, error: &Error) -> Option<usize> {
        let _ = (layer, place, error);
        None
    }

    /// The real cause behind a failed read, which the reader could only tell as an I/O error.
    fn cause(&self, layer: &LayerSpec, error: std::io::Error) -> Error;
}

/// One image's layers on their way into the store.
pub(super) struct Job<'a> {
    pub(super) store: &'a Store,
    pub(super) source: &'a dyn LayerSource,
    pub(super) progress: &'a dyn Progress,
    /// The image, for messages.
    pub(super) image: &'a str,
    /// Most bytes all layers may unpack to.
    pub(super) max_size: u64,
    /// Whether blobs are kept as they come.
    pub(super) keep_blobs: bool,
}

struct State {
    next: AtomicUsize,
    unpacked: AtomicU64,
    stop: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Job<'_> {
    /// Brings all `layers` into the store, `parallel` at a time. The first error stops the rest.
    pub(super) fn run(&self, layers: &[LayerSpec], parallel: usize) -> Result<(), Error> {
        // The largest first, so that it does not run alone at the end; equal diff_ids only once.
        let mut order: Vec<&LayerSpec> = layers.iter().collect();
        order.sort_by_key(|layer| (std::cmp::Reverse(layer.size), layer.index));
        let mut seen = std::collections::HashSet::new();
        let (order, repeated): (Vec<_>, Vec<_>) = order.into_iter().partition(|layer| {
            // Two blobs of one tar are one layer, but two blobs to keep.
            let blob = self.keep_blobs.then(|| layer.digest().clone());
            seen.insert((layer.diff_id.clone(), blob))
        });
        let state = State {
            next: AtomicUsize::new(0),
            unpacked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        };
        std::thread::scope(|scope| {
            for _ in 0..parallel.clamp(1, order.len().max(1)) {
                scope.spawn(|| {
                    while let Some(layer) = order.get(state.next.fetch_add(1, Ordering::Relaxed)) {
                        if state.stop.load(Ordering::Relaxed) {
                            return;
                        }
                        if let Err(error) = self.one(layer, &state) {
                            state.fail(error);
                        }
                    }
                });
            }
        });
        match state.failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(error) => Err(error),
            None => {
                for layer in repeated {
                    self.progress.event(Event::LayerCached { layer: layer.index });
                }
                Ok(())
            }
        }
    }

    fn one(&self, layer: &LayerSpec, state: &State) -> Result<(), Error> {
        let started = || self.progress.event(Event::WaitingForOtherProcess { digest: layer.digest() });
        let cancelled = || state.stop.load(Ordering::Relaxed);
        let mut keeping = match self.keep_blobs {
            true => Keeping::start(self.store, layer.digest(), &started, &cancelled)?,
            false => None,
        };
        let target = self.store.layer_path(&layer.diff_id);
        let waiting = Waiting { ready: &|| is_intact(&target), started: &started, cancelled: &cancelled };
        let claim = self.store.staging.file(&format!("layer-{}", layer.diff_id.hex()), &waiting)?;
        if claim.is_none() && keeping.is_none() {
            self.progress.event(Event::LayerCached { layer: layer.index });
            return Ok(());
        }
        self.progress.event(Event::LayerStarted { layer: layer.index, total: layer.size });
        match claim {
            Some(mut claim) => {
                let path = claim.path().to_path_buf();
                self.convert(
                    layer,
                    state,
                    Output { file: Some(claim.file()), path: &path, keeping: keeping.as_mut() },
                )?;
                claim.publish(&target)?;
            }
            // The layer is here, made of another copy of the blob.
            None => {
                let path = self.store.staging.folder();
                self.convert(layer, state, Output { file: None, path, keeping: keeping.as_mut() })?;
            }
        }
        if let Some(keeping) = keeping {
            keeping.publish(self.store, layer.digest())?;
        }
        self.progress.event(Event::LayerDone { layer: layer.index });
        Ok(())
    }

    /// Converts the layer from the first place that gives the right blob.
    fn convert(&self, layer: &LayerSpec, state: &State, mut out: Output<'_>) -> Result<(), Error> {
        let mut from = 0;
        loop {
            let (blob, place) = self.source.open(layer, from)?;
            let Err(error) = self.try_convert(layer, state, blob, &mut out) else { return Ok(()) };
            let is_other_blob = match &error {
                Error::SizeMismatch { .. } => true,
                Error::DigestMismatch { expected, .. } => **expected == *layer.digest(),
                _ => false,
            };
            let next = if is_other_blob { self.source.behind(layer, place, &error) } else { None };
            from = next.ok_or(error)?;
            if let Some(keeping) = &mut out.keeping {
                keeping.begin_again()?;
            }
        }
    }

    fn try_convert(
        &self,
        layer: &LayerSpec,
        state: &State,
        blob: Box<dyn Read + Send + '_>,
        out: &mut Output<'_>,
    ) -> Result<(), Error> {
        let reported = AtomicU64::new(0);
        let watch_blob = |count: u64| {
            if count >= reported.load(Ordering::Relaxed) + STEP {
                reported.store(count, Ordering::Relaxed);
                self.progress.event(Event::LayerProgress { layer: layer.index, bytes: count });
            }
            !state.stop.load(Ordering::Relaxed)
        };
        let over = AtomicBool::new(false);
        let counted = AtomicU64::new(0);
        // The limit is for the whole image, so each layer adds what it unpacked since the last look.
        let watch_tar = |count: u64| {
            let fresh = count - counted.swap(count, Ordering::Relaxed);
            let fits =
                state.unpacked.fetch_add(fresh, Ordering::Relaxed).saturating_add(fresh) <= self.max_size;
            over.store(!fits, Ordering::Relaxed);
            fits
        };
        let limit = layer.blob.as_ref().map_or(u64::MAX, |_| layer.size);
        let algorithm = layer.blob.as_ref().map(Digest::algorithm);
        // What is kept is what the manifest names: the blob, or where there is none the tar in it.
        let (file, path, keeping) = (out.file.as_deref_mut(), out.path, out.keeping.as_deref_mut());
        let (blob_copy, tar_copy) = if layer.blob.is_some() { (keeping, None) } else { (None, keeping) };
        let stream = Tee { inner: blob, copy: blob_copy };
        let mut blob = Checked::new(stream, algorithm, limit, &watch_blob);
        let outcome = pass(&mut blob, layer.diff_id.algorithm(), &watch_tar, (file, tar_copy));
        if over.load(Ordering::Relaxed) {
            return Err(Error::TooLarge { what: self.what(layer), limit: self.max_size });
        }
        let cause = match &outcome {
            Err(PassError::Convert(error)) => Error::storage_cause(error, path),
            Err(PassError::Decompress(error)) => Error::storage_cause(error, path),
            Ok(_) => None,
        };
        if let Some(error) = cause {
            return Err(error);
        }
        // Whatever else looks wrong is explained best by a blob that is not the right one.
        let checked = self.check_blob(layer, &mut blob).and_then(|()| self.check_tar(layer, outcome));
        if checked.is_err() {
            state.unpacked.fetch_sub(counted.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        checked
    }

    /// Compares the digest of the tar, if the pass came to its end.
    fn check_tar(&self, layer: &LayerSpec, outcome: Result<Option<Digest>, PassError>) -> Result<(), Error> {
        let (what, digest) = (self.what(layer), Box::new(layer.digest().clone()));
        match outcome {
            Ok(Some(actual)) if actual != layer.diff_id => Err(Error::DigestMismatch {
                what: format!("the unpacked {what}"),
                expected: Box::new(layer.diff_id.clone()),
                actual: Box::new(actual),
            }),
            Ok(_) => Ok(()),
            Err(PassError::Decompress(source)) => Err(Error::Decompress { what, digest, source }),
            Err(PassError::Convert(source)) => Err(Error::Layer { what, digest, source: Box::new(source) }),
        }
    }

    /// Reads the rest of the blob and compares size and digest.
    fn check_blob<R: Read>(&self, layer: &LayerSpec, blob: &mut Checked<'_, R>) -> Result<(), Error> {
        let drained = blob.drain();
        if let Some(error) = blob.take_failure() {
            return Err(self.source.cause(layer, error));
        }
        let Some(expected) = &layer.blob else {
            return drained.map_err(|error| self.source.cause(layer, error));
        };
        if blob.over_limit() || blob.count() != layer.size {
            return Err(Error::SizeMismatch {
                what: self.what(layer),
                digest: Box::new(expected.clone()),
                expected: layer.size,
                actual: blob.count(),
            });
        }
        match blob.digest() {
            Some(actual) if actual != *expected => Err(Error::DigestMismatch {
                what: self.what(layer),
                expected: Box::new(expected.clone()),
                actual: Box::new(actual),
            }),
            _ => Ok(()),
        }
    }

    fn what(&self, layer: &LayerSpec) -> String {
        format!("layer {} of {}", layer.index + 1, self.image)
    }
}

/// Where the results of a pass go.
struct Output<'a> {
    /// The layer; none where it is there already.
    file: Option<&'a mut std::fs::File>,
    /// Where it is written, for messages.
    path: &'a std::path::Path,
    /// The blob, if it is kept.
    keeping: Option<&'a mut Keeping>,
}

enum PassError {
    Decompress(std::io::Error),
    Convert(layer::Error),
}

/// The one pass over a layer: inflate `blob`, hash the tar, convert it into the file. Returns the tar's digest.
fn pass<R: Read>(
    blob: &mut Checked<'_, R>,
    algorithm: Algorithm,
    watch: &dyn Fn(u64) -> bool,
    (out, copy): (Option<&mut std::fs::File>, Option<&mut Keeping>),
) -> Result<Option<Digest>, PassError> {
    let inflated = decompress(BufReader::with_capacity(256 << 10, blob)).map_err(PassError::Decompress)?;
    let mut tar = Checked::new(Tee { inner: inflated, copy }, Some(algorithm), u64::MAX, watch);
    let converted = out.map_or(Ok(()), |out| layer::ingest(&mut tar, out).map(drop));
    // The converter can only say that reading failed; here is why.
    if let Some(error) = tar.take_failure() {
        return Err(PassError::Decompress(error));
    }
    converted.map_err(PassError::Convert)?;
    // The archive ends before its file does; the padding counts for the digest.
    let drained = tar.drain();
    drained.map_err(|error| PassError::Decompress(tar.take_failure().unwrap_or(error)))?;
    Ok(tar.digest())
}

impl State {
    fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The reason goes in before the others are stopped, so none of their follow-up errors can take its place.
        failure.get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }
}
