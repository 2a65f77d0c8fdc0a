//! What a sandbox sees besides its own disk: folders and files of the host, named volumes, memory.
//!
//! [`crate::manifest::Volume`] is how it is written down, [`Store`] keeps the named volumes, and [`Store::attach`] opens and locks
//! everything for one run.

mod attach;
mod error;
mod store;

pub use attach::{Attachments, check_sources};
pub use error::Error;
pub use store::{Named, Store, User};
