//! The registry side: the pull half of the OCI distribution specification over HTTP/1.1.

mod auth;
mod blob;
mod client;
mod error;
mod http;
mod notice;
mod origin;
mod settings;

pub(super) use blob::{BlobReader, Transfer};
pub(super) use client::Settings;
pub use error::RegistryError;
pub use notice::Notice;
pub(super) use origin::Origin;
pub use settings::{Host, HostSettings, Mirror, Registries};
