#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
//! The gateway, with a peer at the other end of its link that does what a guest's kernel does.

mod fragments;
mod frames;
mod groups;
mod guest;
mod limits;
mod live;
mod ports;
mod record;
mod soak;
mod streams;
