//! Tar archives: reading them without trust, and between them and a file tree both ways.
//!
//! The same code reads the layers of images, copies files into and out of a sandbox on the host, and does the guest's part
//! of that. [`Headers`] reads every format in use (old tar, ustar, pax, GNU with its long names and all forms of sparse
//! files) within [`Limits`]. [`pack`] turns a path into an archive, [`unpack`] an archive into files.
//!
//! Formats: POSIX pax (<https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>) and
//! <https://www.gnu.org/software/tar/manual/html_node/Standard.html>.

mod body;
mod header;
mod input;
mod numbers;
mod pack;
mod pax;
mod place;
mod sparse;
mod unpack;
mod write;
mod xattrs;

pub use body::Body;
pub use header::{Entry, Headers, Kind};
pub use input::Input;
pub use pack::{PackError, PackOptions, Packed, pack};
pub use sparse::{Map, Piece};
pub use unpack::{Owner, UnpackError, UnpackOptions, Unpacked, unpack};

use std::io;

/// An extended attribute of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// The full name, `user.mime_type` for instance.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// What reading an archive may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the whole archive.
    pub bytes: u64,
    /// Bytes of one entry's extended (pax) header.
    pub header: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: u64::MAX, header: 1 << 20 }
    }
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream failed.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// The stream's own error.
        #[source]
        source: io::Error,
    },
    /// The stream ended inside something.
    #[error("the archive ends at byte {offset}, within {what}")]
    Truncated {
        /// Bytes there were.
        offset: u64,
        /// What is incomplete: an entry's path or "a tar header".
        what: String,
    },
    /// A tar header that is none.
    #[error("bad tar header at byte {offset}: {problem}")]
    Header {
        /// Where it starts.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An extended header that makes no sense.
    #[error("bad extended header of entry \"{entry}\": {problem}")]
    Extension {
        /// The entry's path.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A type of entry that is no file.
    #[error("entry \"{entry}\" has the unknown type '{kind}'")]
    Type {
        /// The entry's path.
        entry: String,
        /// The type byte.
        kind: char,
    },
    /// More than the limits allow.
    #[error("entry \"{entry}\": more than {limit} {what}")]
    Limit {
        /// The entry's path.
        entry: String,
        /// Of what there is too much.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
}

/// A device number as Linux stores it on disks and hands it to `mknod(2)`, for numbers that it knows.
#[must_use]
pub fn device_number(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// A path as shown in messages: control characters and non-UTF-8 escaped, very long ones cut in the middle.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    const SHOWN: usize = 100;
    if path.len() <= 2 * SHOWN {
        return path.escape_ascii().to_string();
    }
    format!("{}…{}", path[..SHOWN].escape_ascii(), path[path.len() - SHOWN..].escape_ascii())
}
