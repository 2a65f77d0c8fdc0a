//! Published ports: how they are written.

mod listener;
mod spec;

pub use listener::{Listener, PublishError};
pub use spec::{PortError, PortSpec, Transport};
