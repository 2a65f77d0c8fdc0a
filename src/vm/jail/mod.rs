//! Confinement of a machine's process: what hostile guest code gets when it breaks out of the virtual machine.
//!
//! Layers, each of which must hold alone:
//! 1. namespaces: user, mount, network, IPC, host name, cgroup; the file tree is empty but for the descriptors the process has
//!    and the devices it needs (for QEMU also the system's libraries, read-only);
//! 2. Landlock: only the machine's own files, no TCP, no signals and no abstract sockets to the outside;
//! 3. no capabilities, no new privileges, not dumpable, no core files, limits on file sizes and descriptors;
//! 4. seccomp: libkrun gets a list of calls, everything else kills the process; QEMU, whose needs differ between versions, is
//!    refused what no hypervisor needs, and confines itself further (`-sandbox on`).
//!
//! Hosts forbid some layers (user namespaces inside containers, Landlock before Linux 5.13). A machine then runs with the
//! rest; `msb doctor` shows what [`report`] finds. Layers 3 and 4 always work or nothing starts.

mod landlock;
mod limits;
mod namespaces;
mod report;
mod seccomp;
#[cfg(test)]
mod share_tests;
mod shares;
#[cfg(test)]
mod tests;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub use report::{Report, report};
pub(super) use seccomp::Filter;
pub(super) use shares::Shares;

/// A layer that always works did not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The new file tree was entered but could not be completed.
    #[error("cannot build the private file tree: {call}")]
    Tree {
        /// The call that failed.
        call: &'static str,
        /// Why.
        source: nix::Error,
    },
    /// A folder or file cannot be shared.
    #[error("cannot {call} shared folder or file {number}")]
    Share {
        /// Which, counted from 0.
        number: usize,
        /// What was tried.
        call: &'static str,
        /// Why.
        source: nix::Error,
    },
    /// The host allows no private file tree, without which nothing is shared.
    #[error(
        "folders of the host can be shared only where it allows user and mount namespaces, and this one does not"
    )]
    NoTree,
    /// A limit or a process attribute could not be set.
    #[error("cannot set {what}")]
    Limit {
        /// Which.
        what: &'static str,
        /// Why.
        source: nix::Error,
    },
    /// Landlock is there but refuses the rules.
    #[error("cannot restrict file access with Landlock: {0}")]
    Landlock(String),
    /// The system call filter could not be made or installed.
    #[error("cannot install the system call filter: {0}")]
    Seccomp(String),
}

/// What a machine's process may keep.
pub(super) struct Plan<'a> {
    /// Its files, and whether each is written.
    pub(super) files: Vec<(BorrowedFd<'a>, bool)>,
    /// Devices it opens by name.
    pub(super) devices: &'a [&'a str],
    /// Folders and files of the system it may read and execute.
    pub(super) system: Vec<PathBuf>,
    /// The largest file it may write, bytes.
    pub(super) file_size: u64,
    /// Its system calls.
    pub(super) filter: Filter,
    /// Folders and files it serves to the guest.
    pub(super) shares: Option<Shares>,
    /// Called after the change of credentials, which disarms the parent-death signal.
    pub(super) rearm: &'a dyn Fn() -> nix::Result<()>,
}

/// Locks this process in. It must have one thread only. Says which layers are in force, and gives the folder of shares.
pub(super) fn enter(plan: Plan<'_>) -> Result<(Report, Option<OwnedFd>), Error> {
    // Compiled first: nothing after the namespaces should take time or memory it does not need.
    let owner = plan.shares.as_ref().map(|shares| shares.owner);
    let filter = plan.filter.compile(owner)?;
    let (mut report, tree) = namespaces::enter(plan.devices, &plan.system, plan.shares.as_ref())?;
    (plan.rearm)().map_err(|source| Error::Limit { what: "the parent-death signal", source })?;
    limits::forbid_new_privileges()?;
    report.landlock = landlock::restrict(&plan, tree.as_ref())?;
    match plan.shares {
        None => limits::set(plan.file_size)?,
        // From these one could still walk up the host's file tree.
        Some(shares) => {
            drop(shares);
            limits::set_for_shares()?;
        }
    }
    limits::drop_capabilities(tree.is_some())?;
    filter.install()?;
    report.seccomp = true;
    Ok((report, tree))
}
