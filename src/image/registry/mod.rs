//! The registry side: the pull half of the OCI distribution specification over HTTP/1.1.

mod auth;
mod blob;
mod client;
mod error;

pub(super) use blob::BlobReader;
pub(super) use client::{Registry, Settings};
pub use error::RegistryError;
