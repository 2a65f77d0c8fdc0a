//! The Sandboxfile: what a project's sandboxes are, as `Cargo.toml` says what a package is.
//!
//! [`locate`] finds the file, [`load`] reads it into a [`Sandboxfile`], [`edit`] changes it and keeps comments,
//! order and formatting, [`init`] makes a new one, and [`schema`] describes it to editors. A mistake in the file
//! is an [`Error`] that knows the line.

mod artifacts;
mod check;
mod clashes;
mod decode;
mod depends;
mod diagnose;
mod duration;
pub mod edit;
pub mod env_file;
mod envs;
mod error;
mod groups;
mod init;
mod keys;
mod life;
mod locate;
mod lock;
mod modules;
mod network;
mod save;
mod schema;
mod secrets;
mod size;
mod snippet;
mod spans;
mod spec;
mod volume;

use std::path::Path;

use serde_saphyr::DuplicateKeyPolicy;

pub use artifacts::{Exports, Import, ImportSource, Imported, Imports};
pub use check::{NAME_RULE, is_name};
pub use depends::{Condition, Dependencies};
pub use duration::parse_duration;
pub use envs::{EnvVar, EnvVarError};
pub use error::Error;
pub use groups::{GroupMember, GroupMembers, GroupNetwork, GroupSpec, MemberNetwork};
pub use init::{GitignoreChange, InitReport, init, template_names};
pub use keys::nearest;
pub use life::{Healthcheck, Restart, Test};
pub use locate::{find, locate, require};
pub use lock::{Pins, lock_path};
pub use modules::{Component, Components, Modules};
pub use network::{Count, NetworkSpec};
pub use save::save;
pub use schema::schema;
pub use secrets::{SecretSpec, SecretSpecs};
pub use size::{Size, SizeError};
pub use snippet::Snippet;
pub use spec::{Meta, SandboxSpec, Sandboxfile};
pub use volume::{Tmpfs, Volume, VolumeError, VolumeSource};

/// The name of the file, and the one that editors with a YAML mode may prefer.
pub const FILE_NAMES: [&str; 2] = ["Sandboxfile", "Sandboxfile.yaml"];

/// The folder beside a Sandboxfile where its sandboxes keep their state.
pub const STATE_DIR: &str = "menv";

/// Largest Sandboxfile or env file that is read, in bytes.
pub const LARGEST_FILE: usize = 1 << 20;

/// Reads the Sandboxfile `path` and what its modules lead to, and checks all of it. The sandboxes of modules are among the others
/// then, and every import says whose it is and is a dependency.
///
/// # Errors
/// When a file cannot be read, is not YAML, or breaks a rule of the format.
pub fn load(path: &Path) -> Result<Sandboxfile, Error> {
    modules::load(path)
}

/// Reads and checks `text`, the content of a Sandboxfile; `path` is named in errors and not opened.
///
/// # Errors
/// When it is too large, not YAML, or breaks a rule of the format.
pub fn parse(text: &str, path: &Path) -> Result<Sandboxfile, Error> {
    if text.len() > LARGEST_FILE {
        return Err(Error::TooLarge { path: path.to_owned(), limit: LARGEST_FILE });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            flow_nesting_limit: 16,
            max_documents: 2,
            max_events: 200_000,
            max_nodes: 100_000,
            max_anchors: 1_000,
            max_aliases: 1_000,
            max_merge_keys: 1_000,
            max_recorded_anchor_events: 200_000,
            max_recorded_anchor_bytes: 4 * LARGEST_FILE,
            max_total_scalar_bytes: 2 * LARGEST_FILE,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let file: Option<Sandboxfile> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| diagnose::yaml(&error, text, path))?;
    let file = file.unwrap_or_default();
    check::file(&file).map_err(|problem| diagnose::problem(problem, text, path))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
