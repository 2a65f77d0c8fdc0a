//! Run code you do not trust in microVMs that feel like local processes.
//!
//! The modules follow a run: [`manifest`] says what a sandbox is, [`image`] turns OCI images into disks, [`disk`] makes the
//! writable one, [`vm`] starts and confines the hypervisor, [`agent`] talks to the guest, and [`sandbox`] puts them
//! together. [`cli`] and [`ui`] are the command line on top; nothing below them knows a terminal or ends the process.

pub mod agent;
pub mod cli;
pub mod disk;
pub mod image;
pub mod manifest;
pub mod net;
pub mod paths;
pub mod sandbox;
pub mod ui;
pub mod vm;
pub mod volume;
