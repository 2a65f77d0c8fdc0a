//! What a pull or load reports while it works. The library draws nothing itself.

use super::digest::Digest;
use super::reference::Reference;
use super::registry::Notice;

/// Receives events, from several threads at once.
pub trait Progress: Send + Sync {
    /// Called for every event; it must not block for long, since it runs between two reads of a layer.
    fn event(&self, event: Event<'_>);
}

/// A layer as announced by [`Event::Resolved`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Digest people know it by: that of the compressed blob where there is one, else the diff_id.
    pub digest: Digest,
    /// Bytes to read.
    pub size: u64,
}

/// One thing that happened. Layers are numbered from 0 at the bottom, as in [`Event::Resolved`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The registry is asked what a reference stands for.
    Resolving {
        /// The reference.
        reference: &'a Reference,
    },
    /// The manifest is known.
    Resolved {
        /// The reference.
        reference: &'a Reference,
        /// Digest of the manifest.
        digest: &'a Digest,
        /// Its layers, lowest first.
        layers: &'a [LayerSummary],
        /// Their sizes added up.
        bytes: u64,
    },
    /// The layer is in the store already.
    LayerCached {
        /// Which layer.
        layer: usize,
    },
    /// Transfer and conversion of the layer begin.
    LayerStarted {
        /// Which layer.
        layer: usize,
        /// Bytes to read.
        total: u64,
    },
    /// Bytes of the layer transferred so far.
    LayerProgress {
        /// Which layer.
        layer: usize,
        /// Bytes since [`Event::LayerStarted`].
        bytes: u64,
    },
    /// The layer is in the store.
    LayerDone {
        /// Which layer.
        layer: usize,
    },
    /// The connection broke and the transfer goes on where it stopped.
    Retrying {
        /// What is fetched again.
        digest: &'a Digest,
        /// Bytes that need no second transfer.
        offset: u64,
        /// Why.
        reason: &'a str,
    },
    /// Something about the conversation with the registry, which goes on.
    Notice(&'a Notice),
    /// An image is about to be pushed; its layers are reported like those of a pull.
    Pushing {
        /// Where to.
        reference: &'a Reference,
        /// Its layers, lowest first.
        layers: &'a [LayerSummary],
    },
    /// Another process works on the same thing; its result will be used.
    WaitingForOtherProcess {
        /// Digest of the layer or image waited for.
        digest: &'a Digest,
    },
    /// All layers are there; the image's own metadata is written.
    Assembling {
        /// The reference.
        reference: &'a Reference,
    },
    /// The image can be used.
    Done {
        /// The reference.
        reference: &'a Reference,
        /// Digest of the manifest.
        digest: &'a Digest,
    },
}

/// Ignores every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}
