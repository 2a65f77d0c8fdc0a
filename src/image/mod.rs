//! OCI images: references, registries, archives, and the store that keeps images as mountable disks.
//!
//! ```text
//! registry ─┐  manifest, configuration          ┌─ layers/<diff_id>.erofs         one per layer, shared
//! archive  ─┼─ layer blobs → digest → inflate →─┤  images/<manifest>/meta.erofs   one tree over all layers
//! folder   ─┘  → diff_id → EROFS (layer.rs)     └─ refs/<name> → manifest digest
//! ```
//!
//! [`Store`] is the entry: [`Store::find`] is what a start of a sandbox needs and costs a few small reads,
//! [`Store::pull`] and [`Store::load`] fill it.

pub mod config;
pub mod credentials;
pub mod digest;
pub mod erofs;
pub mod layer;
pub mod manifest;
pub mod merge;
pub mod platform;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod vmdk;

mod archive;
mod assemble;
mod blobs;
mod details;
mod error;
mod export;
mod inventory;
mod layers;
mod lease;
mod load;
mod online;
mod prune;
mod pull;
mod push;
mod refs;
mod removal;
mod resolve;
mod save;
mod small_file;
mod staging;
mod store;
mod verify;

pub use archive::SaveTarget;
pub use blobs::KeepBlobs;
pub use config::ImageConfig;
pub use credentials::CredentialFiles;
pub use details::{Details, HistoryEntry, LayerDetails, Usage, UsedImage};
pub use digest::Digest;
pub use error::{ArchiveError, Error};
pub use inventory::{Selector, Use};
pub use load::{LoadOptions, LoadSource};
pub use platform::Platform;
pub use progress::{Event, LayerSummary, Progress, Silent};
pub use prune::{PruneOptions, Pruned};
pub use pull::{PullOptions, PullPolicy};
pub use reference::Reference;
pub use registry::{Host, HostSettings, LoggedIn, Login, LoginError, Notice, Registries};
pub use removal::Removed;
pub use save::SaveFormat;
pub use store::{Image, Store};

#[cfg(test)]
mod tests;
