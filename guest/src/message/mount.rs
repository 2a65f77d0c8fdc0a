//! What is mounted into the root besides the root itself.

use super::ByteString;
use serde::{Deserialize, Serialize};

/// Tag of the virtio-fs device with the shared folders and files of the host.
pub const SHARES_TAG: &str = "msb";

/// One mount of the boot document.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GuestMount {
    /// Where in the guest: an absolute path, made when missing.
    pub target: ByteString,
    /// What.
    pub source: MountSource,
    /// Whether it is mounted read-only. The host does not rely on that.
    #[serde(default)]
    pub read_only: bool,
    /// What it is called in messages, as the user wrote it.
    pub label: ByteString,
}

/// What to mount.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A folder or file of the host: the entry of this number in the root of the device tagged [`SHARES_TAG`].
    Share(u32),
    /// An ext4 file system on the block device of this path, grown to the size of its device.
    Disk(String),
    /// Memory, at most `size` bytes (half of the machine's when there is none); `mode` are the permission bits of its root.
    Tmpfs {
        /// Bytes.
        #[serde(default)]
        size: Option<u64>,
        /// Permission bits.
        mode: u32,
    },
}
