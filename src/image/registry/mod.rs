//! The registry side: the OCI distribution specification over HTTP/1.1.

mod auth;
mod blob;
mod client;
mod error;
mod foreign;
mod http;
mod login;
mod notice;
mod origin;
mod settings;
mod upload;
mod words;

pub(super) use blob::{BlobReader, Transfer};
pub(super) use client::{RETRIES, Registry, Settings};
pub use error::{Identity, RegistryError};
pub(super) use http::backoff;
pub use login::{LoggedIn, Login, LoginError};
pub use notice::Notice;
pub(super) use origin::{Origin, Wanted};
pub use settings::{Host, HostSettings, Mirror, Registries};
pub(super) use upload::fed_body;
