//! The disk of an image: a VMDK descriptor, a small text that strings files together as one disk.
//!
//! libkrun and QEMU both read it. The extents are plain files, the metadata image first and then the layer blobs, in the
//! order in which [`crate::image::merge`] counted them. The format: VMware's "Virtual Disk Format 5.0", `twoGbMaxExtentFlat`.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use super::erofs::PAGE;

/// Bytes of a sector, the unit of all sizes in the descriptor.
const SECTOR: u64 = 512;
/// The most sectors of one extent: 2 GiB.
const EXTENT: u64 = (2 << 30) / SECTOR;
/// QEMU reads no more of a path.
const MAX_PATH: usize = 511;

/// Why there is no descriptor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file's size cannot be read.
    #[error("cannot read the size of {}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A path that the format cannot hold.
    #[error("{} cannot be part of a disk: {problem}", path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// What is wrong with its path.
        problem: &'static str,
    },
    /// A file that is no image of ours.
    #[error("{} cannot be part of a disk: {size} bytes are no whole pages", path.display())]
    Unaligned {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
}

/// The descriptor of the disk that is made of the metadata image `meta` and then `layers`, the lowest first. All paths
/// are absolute.
pub fn descriptor(meta: &Path, layers: &[&Path]) -> Result<String, Error> {
    // Never an empty line in front of an extent: QEMU would read that extent twice, and all behind it at the wrong place.
    let mut text = String::from(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n\n\
         # Extent description\n",
    );
    let mut sectors = 0;
    for path in std::iter::once(&meta).chain(layers) {
        sectors += add_file(&mut text, path)?;
    }
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n# The Disk Data Base\nddb.adapterType = \"ide\"\nddb.geometry.cylinders = \"{}\"\nddb.geometry.heads = \"16\"\n\
         ddb.geometry.sectors = \"63\"\nddb.virtualHWVersion = \"4\"\n",
        sectors.div_ceil(16 * 63).min(65535)
    );
    Ok(text)
}

/// Adds a file as one or more extents; returns its sectors.
fn add_file(text: &mut String, path: &Path) -> Result<u64, Error> {
    let name = checked(path).map_err(|problem| Error::Path { path: path.to_path_buf(), problem })?;
    let size =
        std::fs::metadata(path).map_err(|source| Error::Size { path: path.to_path_buf(), source })?.len();
    if size % PAGE != 0 {
        return Err(Error::Unaligned { path: path.to_path_buf(), size });
    }
    let sectors = size / SECTOR;
    let mut start = 0;
    while start < sectors {
        let length = EXTENT.min(sectors - start);
        let _ = writeln!(text, "RW {length} FLAT \"{name}\" {start}");
        start += length;
    }
    Ok(sectors)
}

/// The path as text, if it can stand between quotes on a line.
fn checked(path: &Path) -> Result<&str, &'static str> {
    let text = path.to_str().ok_or("its path is not UTF-8")?;
    if !path.is_absolute() {
        return Err("its path is not absolute");
    }
    if text.contains(|c: char| c == '"' || c.is_control()) {
        return Err("its path contains a quote or a control character");
    }
    if text.len() > MAX_PATH {
        return Err("its path is longer than 511 bytes");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;

    use super::*;

    fn file(folder: &Path, name: &str, size: u64) -> PathBuf {
        let path = folder.join(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    #[test]
    fn files_follow_each_other_in_extents_of_at_most_two_gigabytes() {
        let folder = tempfile::tempdir().unwrap();
        let meta = file(folder.path(), "meta", 8192);
        let layer = file(folder.path(), "layer one", (5 << 30) + 4096);
        let text = descriptor(&meta, &[&layer]).unwrap();
        let extents: Vec<&str> = text.lines().filter(|line| line.starts_with("RW ")).collect();
        let at = |path: &Path| path.display().to_string();
        let expected = [
            format!("RW 16 FLAT \"{}\" 0", at(&meta)),
            format!("RW 4194304 FLAT \"{}\" 0", at(&layer)),
            format!("RW 4194304 FLAT \"{}\" 4194304", at(&layer)),
            format!("RW 2097160 FLAT \"{}\" 8388608", at(&layer)),
        ];
        assert_eq!(extents, expected);
        assert!(text.starts_with("# Disk DescriptorFile\nversion=1\n"));
        assert!(!text.contains("\n\nRW"), "QEMU reads an extent behind an empty line twice");
    }

    #[test]
    fn paths_that_would_break_the_descriptor_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a\"b", "a\nb", "a\rb", &"x".repeat(250)] {
            let path = match name.len() {
                250 => Path::new("/").join([name; 3].join("/")),
                _ => file(folder.path(), name, 4096),
            };
            assert!(matches!(descriptor(&path, &[]), Err(Error::Path { .. })), "{name}");
        }
        assert!(matches!(descriptor(Path::new("relative"), &[]), Err(Error::Path { .. })));
    }

    #[test]
    fn files_of_broken_blocks_and_missing_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let meta = file(folder.path(), "meta", 5000);
        assert!(matches!(descriptor(&meta, &[]), Err(Error::Unaligned { size: 5000, .. })));
        assert!(matches!(descriptor(&folder.path().join("none"), &[]), Err(Error::Size { .. })));
    }
}
