//! Growing the writable file system to the size of its disk, while it is mounted.

use super::BootError;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Offset and length of the ext4 superblock.
const SUPERBLOCK: (u64, usize) = (1024, 1024);

mod request {
    use nix::{ioctl_read, ioctl_write_ptr};
    ioctl_read!(device_size, 0x12, 114, u64);
    ioctl_write_ptr!(resize, b'f', 16, u64);
}

/// Grows the ext4 file system on `device`, mounted with its root open as `root`, when the device has room for more blocks.
pub(super) fn ext4(device: &Path, root: &File) -> Result<(), BootError> {
    let path_error = |source| BootError::Path { stage: "upper", path: device.to_owned(), source };
    let file = File::open(device).map_err(path_error)?;
    let mut superblock = [0; SUPERBLOCK.1];
    file.read_exact_at(&mut superblock, SUPERBLOCK.0).map_err(path_error)?;
    let mut bytes = 0;
    // SAFETY: BLKGETSIZE64 writes one u64.
    unsafe { request::device_size(file.as_raw_fd(), &raw mut bytes) }
        .map_err(|e| path_error(io::Error::from(e)))?;
    let Some((block_size, blocks)) = geometry(&superblock) else { return Ok(()) };
    let wanted = bytes / block_size;
    if wanted <= blocks {
        return Ok(());
    }
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64.
    unsafe { request::resize(root.as_raw_fd(), &raw const wanted) }.map_err(|e| BootError::Call {
        stage: "upper",
        call: "grow the writable disk",
        source: e.into(),
    })?;
    Ok(())
}

/// Block size in bytes and number of blocks, as the superblock says.
fn geometry(superblock: &[u8; SUPERBLOCK.1]) -> Option<(u64, u64)> {
    let word = |at: usize| superblock.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let shift = word(0x18)?;
    let wide = word(0x60)? & 0x80 != 0;
    let high = if wide { word(0x150)? } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(word(0x4)?);
    (shift <= 6).then(|| (1024 << shift, blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_follows_the_64bit_feature() {
        let mut superblock = [0; 1024];
        superblock[0x18] = 2;
        superblock[0x4..0x8].copy_from_slice(&1000u32.to_le_bytes());
        superblock[0x150] = 1;
        assert_eq!(geometry(&superblock), Some((4096, 1000)));
        superblock[0x60] = 0x80;
        assert_eq!(geometry(&superblock), Some((4096, (1 << 32) + 1000)));
        superblock[0x18] = 40;
        assert_eq!(geometry(&superblock), None);
    }
}
