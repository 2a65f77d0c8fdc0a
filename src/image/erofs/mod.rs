//! EROFS, the read-only filesystem that every image is turned into.
//!
//! Two kinds of images are written here, both plain EROFS without compression that Linux mounts:
//!
//! - a **layer blob** ([`crate::image::layer`]) holds one OCI layer: file contents first, in the order they arrived,
//!   then inodes and directories. What EROFS has no word for (whiteouts, opaque directories, directories a layer
//!   only passes through, hard links to a lower layer) is marked in bytes of the inode that the format reserves and
//!   the kernel does not read. No tar entry can set them, so a mark never collides with a real file.
//! - an **image** ([`crate::image::merge`]) holds the inodes and directories of all layers merged; contents stay
//!   where they are, in the layer blobs, which follow it on the same disk.
//!
//! The format: <https://docs.kernel.org/filesystems/erofs.html> and `fs/erofs/erofs_fs.h` of Linux.

mod directory;
mod format;
mod output;
mod reader;
#[cfg(test)]
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
mod tree;
mod window;
mod writer;
mod xattr;

use std::io;

pub use reader::{DirEntries, Inode, Layout, Reader};
pub use xattr::Xattr;

pub(crate) use format::{
    BLOCK, BLOCK_BITS, MAX_CHUNK_BITS, MAX_NAME, Marks, NULL_BLOCK, PAGE, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO,
    S_IFLNK, S_IFMT, S_IFREG,
};
#[cfg(test)]
pub(crate) use msb_guest::archive::device_number;
pub(crate) use output::{Output, StageError};
pub(crate) use tree::{Chunk, Content, Node, Tree};
pub(crate) use writer::{Device, Volume, head, write};
pub(crate) use xattr::{encode as encode_xattrs, storable as storable_xattr};

/// What can go wrong while an EROFS image is read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading the image failed.
    #[error("cannot read the EROFS image")]
    Read(#[source] io::Error),
    /// Writing the image failed.
    #[error("cannot write the EROFS image")]
    Write(#[source] io::Error),
    /// The bytes are not an image of ours, or no longer.
    #[error("the EROFS image is damaged: {what} (at {place:#x})")]
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// The byte offset or the inode number it was seen at.
        place: u64,
    },
    /// The tree does not fit the format's 32-bit fields.
    #[error("too large for EROFS: {0}")]
    TooLarge(&'static str),
    /// An inode of another type was expected.
    #[error("inode {nid:#x} is not a {expected}")]
    WrongType {
        /// The inode.
        nid: u64,
        /// What it should have been.
        expected: &'static str,
    },
}
