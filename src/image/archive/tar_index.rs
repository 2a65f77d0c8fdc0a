//! Where the files of a tar archive are, found by hopping from header to header.
//!
//! Image archives hold a few hundred files with short names, so this reads exactly what their writers use: ustar
//! and GNU headers, PAX `path` and `size`, links. Everything is bounded; nothing of the contents is read.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use tar::{EntryType, Header};

use crate::image::error::ArchiveError;

/// Most entries an archive may have; one image of 1,024 layers in the oldest format has about 4,000.
const MAX_ENTRIES: usize = 50_000;
/// Longest extended header or long name read.
const MAX_EXTENSION: u64 = 64 << 10;
const BLOCK: u64 = 512;
const MAX_LINKS: usize = 8;

/// A run of bytes in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File(Extent),
    Link(String),
}

/// The files of an archive by name, without a leading `./`.
#[derive(Debug, Default)]
pub(super) struct TarIndex {
    entries: HashMap<String, Entry>,
}

/// What extension headers said about the entry they precede.
#[derive(Default)]
struct Extension {
    path: Option<String>,
    size: Option<u64>,
}

impl TarIndex {
    /// Reads all headers of `file`.
    pub(super) fn read(file: &File) -> Result<Self, ArchiveError> {
        let length = file.metadata().map_err(ArchiveError::Tar)?.len();
        let (mut index, mut offset, mut extension) = (Self::default(), 0, Extension::default());
        let mut count = 0;
        while let Some(header) = read_header(file, offset, length)? {
            count += 1;
            if count > MAX_ENTRIES {
                return Err(ArchiveError::TooManyEntries(MAX_ENTRIES));
            }
            let kind = header.entry_type();
            let stated = header.entry_size().map_err(|_| damaged("a header's size is not a number"))?;
            // A PAX size is for the entry behind it and not for the PAX header itself.
            let is_extension = kind.is_pax_local_extensions() || kind.is_gnu_longname();
            let size = if is_extension { stated } else { extension.size.take().unwrap_or(stated) };
            let start = offset + BLOCK;
            let extent = Extent { offset: start, size };
            let end = start.checked_add(size).filter(|end| *end <= length);
            let end = end.ok_or_else(|| damaged("it ends in the middle of a file"))?;
            match kind {
                EntryType::XHeader => extension.read_pax(&read_small(file, extent)?)?,
                EntryType::GNULongName => {
                    let name = read_small(file, extent)?;
                    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                    extension.path = Some(String::from_utf8_lossy(name).into_owned());
                }
                EntryType::GNUSparse => {
                    return Err(damaged("it has sparse files, which image archives never have"));
                }
                _ => index.add(&header, kind, extent, extension.path.take()),
            }
            offset = end.next_multiple_of(BLOCK);
        }
        Ok(index)
    }

    fn add(&mut self, header: &Header, kind: EntryType, extent: Extent, path: Option<String>) {
        let name = path.unwrap_or_else(|| String::from_utf8_lossy(&header.path_bytes()).into_owned());
        let name = normal("", &name);
        let target = header.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
        let entry = match (kind, target) {
            (EntryType::Regular | EntryType::Continuous, _) => Entry::File(extent),
            (EntryType::Link, Some(target)) => Entry::Link(normal("", &target)),
            (EntryType::Symlink, Some(target)) => {
                Entry::Link(normal(name.rsplit_once('/').map_or("", |(folder, _)| folder), &target))
            }
            _ => return,
        };
        self.entries.insert(name, entry);
    }

    /// Where the file `name` is, following links inside the archive.
    pub(super) fn get(&self, name: &str) -> Option<Extent> {
        let mut name = normal("", name);
        for _ in 0..MAX_LINKS {
            match self.entries.get(&name)? {
                Entry::File(extent) => return Some(*extent),
                Entry::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

impl Extension {
    fn read_pax(&mut self, data: &[u8]) -> Result<(), ArchiveError> {
        for record in tar::PaxExtensions::new(data) {
            let record = record.map_err(ArchiveError::Tar)?;
            match record.key_bytes() {
                b"path" => self.path = Some(String::from_utf8_lossy(record.value_bytes()).into_owned()),
                b"size" => {
                    let size = record.value().ok().and_then(|value| value.parse().ok());
                    self.size = Some(size.ok_or_else(|| damaged("a PAX size is not a number"))?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The header at `offset`, or `None` at the end of the archive.
fn read_header(file: &File, offset: u64, length: u64) -> Result<Option<Header>, ArchiveError> {
    let mut block = [0; BLOCK as usize];
    if offset >= length {
        return Ok(None);
    }
    file.read_exact_at(&mut block, offset).map_err(ArchiveError::Tar)?;
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let header = Header::from_byte_slice(&block);
    let sum: u32 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    match header.cksum() {
        Ok(stated) if stated == sum => Ok(Some(header.clone())),
        _ => Err(damaged("a header's checksum is wrong")),
    }
}

fn read_small(file: &File, extent: Extent) -> Result<Vec<u8>, ArchiveError> {
    if extent.size > MAX_EXTENSION {
        return Err(damaged("an extended header is too long"));
    }
    let mut data = vec![0; usize::try_from(extent.size).unwrap_or_default()];
    file.read_exact_at(&mut data, extent.offset).map_err(ArchiveError::Tar)?;
    Ok(data)
}

fn damaged(reason: &'static str) -> ArchiveError {
    ArchiveError::Tar(io::Error::new(io::ErrorKind::InvalidData, reason))
}

/// `name` seen from `folder`, without `.`, `..` and doubled slashes.
pub(super) fn normal(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
