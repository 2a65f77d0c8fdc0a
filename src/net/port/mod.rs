//! Published ports: how they are written.

mod spec;

pub use spec::{PortError, PortSpec, Transport};
