//! Why something was not copied.

use std::io;
use std::path::PathBuf;

use msb_guest::archive::{PackError, UnpackError};

use crate::agent::{self, ToolError};

/// Why something was not copied, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// A path, or the folder that it would be made in, does not exist.
    #[error("{path}: no such file or folder")]
    NotFound {
        /// The path as given.
        path: String,
    },
    /// A path that must be a folder is none.
    #[error("{path}: not a folder")]
    NotAFolder {
        /// The path as given.
        path: String,
    },
    /// A folder cannot be copied to where a file is.
    #[error("cannot copy the folder {from} to {to}, which is a file")]
    FolderOverFile {
        /// The source as given.
        from: String,
        /// The target as given.
        to: String,
    },
    /// A path of the host cannot be used.
    #[error("{}: {source}", path.display())]
    Host {
        /// The path as given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something on the host cannot be read.
    #[error("cannot read {0}")]
    Pack(#[from] PackError),
    /// What the guest sent was not, or not wholly, written on the host.
    #[error("cannot write what the sandbox sent: {0}")]
    Unpack(#[from] UnpackError),
    /// The guest could not do its part.
    #[error(transparent)]
    Guest(#[from] ToolError),
    /// The tar stream on standard input or output failed.
    #[error("tar stream: {0}")]
    Stream(#[source] io::Error),
    /// The thread that reads or writes files is gone.
    #[error("the copying was interrupted")]
    Interrupted,
}

impl From<agent::Error> for CopyError {
    fn from(error: agent::Error) -> Self {
        CopyError::Guest(error.into())
    }
}
