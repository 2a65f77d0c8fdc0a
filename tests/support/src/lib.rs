//! Drives the real `msb` binary in the end-to-end tests.
//!
//! Nothing here is a stand-in: the registry is docker-registry, the images are made by umoci and skopeo, the terminals are kernel
//! pseudo-terminals, the machines are what `msb` starts. A test gets a [`TestEnv`] (or a [`Vm`], which also names the hypervisor) with its
//! own home, temporary and working folders, runs commands in it and looks at what came out ([`Finished`]).
//!
//! Everything in this crate fails by panicking, with the command and its output in the message, because that is how a test fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;
mod environment;
mod finished;
mod hypervisor;
mod images;
mod process;
mod registry;
mod running;
mod shared;
mod terminal;
mod tree;

pub use command::Msb;
pub use environment::{TestEnv, Vm};
pub use finished::Finished;
pub use hypervisor::{Availability, Hypervisor};
pub use images::Images;
pub use process::{Process, wait_until};
pub use registry::{Door, Registry};
pub use running::Running;
pub use shared::{binary, checkout, prepare, set_binary, shut_down};
pub use snapbox::{file, str};
pub use terminal::Terminal;
pub use tree::Tree;
