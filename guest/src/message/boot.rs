//! The boot document.

use super::{ByteString, ExecSpec, FILES_DIR, GuestMount, NetworkSetup, TrustSetup};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// Protocol versions, both ends included.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VersionRange {
    /// Oldest version understood.
    pub min: u32,
    /// Newest version understood.
    pub max: u32,
}

impl VersionRange {
    /// The newest version that both ranges hold.
    #[must_use]
    pub fn choose(self, other: VersionRange) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// Payload of BOOT: everything a guest needs to come up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BootDocument {
    /// Protocol versions the host speaks.
    pub versions: VersionRange,
    /// Host name of the guest; characters that no host name has become `-`.
    pub hostname: String,
    /// Disks of the root file system.
    pub root: Root,
    /// Environment of every process, below that of its [`ExecSpec`].
    #[serde(default)]
    pub env: Vec<(ByteString, ByteString)>,
    /// Files to put into a private tmpfs at [`FILES_DIR`].
    #[serde(default)]
    pub files: Vec<GuestFile>,
    /// What to mount into the root, in this order.
    #[serde(default)]
    pub mounts: Vec<GuestMount>,
    /// The network interface; without it there is loopback alone.
    #[serde(default)]
    pub network: Option<NetworkSetup>,
    /// A certificate authority to be trusted beside those of the image; [`BootDocument::files`] must not be empty then.
    #[serde(default)]
    pub trust: Option<TrustSetup>,
    /// Process to start at once as stream 1.
    #[serde(default)]
    pub exec: Option<ExecSpec>,
    /// Power off when the process of `exec` has ended or could not be started.
    #[serde(default)]
    pub power_off_with_exec: bool,
    /// Most processes and threads that commands may have at a time; the agent's own tools do not count.
    #[serde(default)]
    pub pids_limit: Option<u32>,
    /// Host's wall clock when this document was made, nanoseconds since 1970. The guest adds its own running time and
    /// sets its clock when it is off by more than a second.
    #[serde(default)]
    pub wall_clock_ns: Option<u64>,
}

/// The root file system: an overlay of a writable disk over a read-only one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Root {
    /// Block device of the image.
    pub lower_device: String,
    /// File system of the image, normally `erofs`.
    pub lower_type: String,
    /// Block device of the writable disk.
    pub upper_device: String,
    /// File system of the writable disk, normally `ext4`.
    pub upper_type: String,
    /// Grow the writable file system when its device is larger.
    #[serde(default)]
    pub grow: bool,
    /// The writable disk is thrown away afterwards: nothing need reach it for durability, so `fsync` is free and
    /// powering off does not sync.
    #[serde(default)]
    pub ephemeral: bool,
}

impl Default for Root {
    fn default() -> Self {
        Root {
            lower_device: "/dev/vda".into(),
            lower_type: "erofs".into(),
            upper_device: "/dev/vdb".into(),
            upper_type: "ext4".into(),
            grow: false,
            ephemeral: false,
        }
    }
}

/// A file for [`FILES_DIR`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GuestFile {
    /// Path below [`FILES_DIR`], relative, of plain names only. Missing folders are made.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What is in it.
    pub contents: ByteString,
}

/// The path of a [`GuestFile`] leaves [`FILES_DIR`] or names nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{path:?} is not a relative path of plain names below {FILES_DIR}")]
pub struct PathError {
    /// The path as given.
    pub path: String,
}

impl GuestFile {
    /// The path, checked.
    ///
    /// # Errors
    /// [`PathError`] when it is empty, absolute or has `.` or `..` in it.
    pub fn checked_path(&self) -> Result<&Path, PathError> {
        let path = Path::new(&self.path);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if self.path.is_empty() || self.path.contains('\0') || !plain {
            return Err(PathError { path: self.path.clone() });
        }
        Ok(path)
    }
}
