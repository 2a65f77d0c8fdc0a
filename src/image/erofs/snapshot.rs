//! For tests: everything that an image holds, as seen by a program in the guest.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::format::{BLOCK, Marks, NULL_BLOCK, S_IFLNK, S_IFMT, S_IFREG};
use super::{Inode, Layout, Reader, Xattr};

/// A file of any type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) mode: u16,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) nlink: u32,
    pub(crate) device: Option<u32>,
    pub(crate) xattrs: Vec<Xattr>,
    /// Content of a regular file, text of a symlink.
    pub(crate) content: Vec<u8>,
    /// The first path, in the order of bytes, that is the same file.
    pub(crate) same_as: Vec<u8>,
    pub(crate) marks: Marks,
}

/// All files by path; the root is the empty path.
pub(crate) type Snapshot = BTreeMap<Vec<u8>, Item>;

/// The blobs that stand behind an image on its disk, and the image itself.
pub(crate) struct Disk {
    reader: Reader,
    devices: Vec<Reader>,
}

impl Disk {
    /// A layer blob alone.
    pub(crate) fn layer(path: &Path) -> Self {
        Self { reader: Reader::open(path).unwrap(), devices: Vec::new() }
    }

    /// A merged image and its layers.
    pub(crate) fn image(meta: &Path, layers: &[&Path]) -> Self {
        Self {
            reader: Reader::open(meta).unwrap(),
            devices: layers.iter().map(|path| Reader::open(path).unwrap()).collect(),
        }
    }

    /// Reads everything.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut items = Snapshot::new();
        let mut pending = vec![(Vec::new(), self.reader.root())];
        let mut found = Vec::new();
        while let Some((path, nid)) = pending.pop() {
            let inode = self.reader.inode(nid).unwrap();
            if inode.is_directory() {
                for (name, nid) in self.reader.read_dir(&inode).unwrap().iter() {
                    let path = if path.is_empty() { name.to_vec() } else { [&path, name].join(&b'/') };
                    pending.push((path, nid));
                }
            }
            found.push((path, inode));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let mut first_names: HashMap<u64, Vec<u8>> = HashMap::new();
        for (path, inode) in found {
            let same_as = first_names.entry(inode.nid).or_insert_with(|| path.clone()).clone();
            let item = self.item(&inode, same_as);
            items.insert(path, item);
        }
        items
    }

    fn item(&self, inode: &Inode, same_as: Vec<u8>) -> Item {
        let content = match inode.mode() & S_IFMT {
            S_IFLNK => self.reader.read_link(inode).unwrap(),
            S_IFREG => self.content(inode),
            _ => Vec::new(),
        };
        let mut xattrs = self.reader.xattrs(inode).unwrap();
        xattrs.sort();
        Item {
            mode: inode.mode(),
            owner: (inode.uid(), inode.gid()),
            mtime: inode.mtime(),
            nlink: inode.nlink(),
            device: inode.device(),
            xattrs,
            content,
            same_as,
            marks: inode.marks(),
        }
    }

    fn content(&self, inode: &Inode) -> Vec<u8> {
        let mut content = vec![0; inode.size() as usize];
        let Layout::Chunked { bits, .. } = inode.layout().unwrap() else {
            assert_eq!(self.reader.read(inode, 0, &mut content).unwrap(), content.len());
            return content;
        };
        let chunks = self.reader.chunks(inode).unwrap();
        for (part, chunk) in content.chunks_mut((BLOCK << bits) as usize).zip(chunks) {
            if chunk.block != NULL_BLOCK {
                let reader = match chunk.device {
                    0 => &self.reader,
                    device => &self.devices[usize::from(device) - 1],
                };
                reader.read_raw(u64::from(chunk.block) * BLOCK, part).unwrap();
            }
        }
        content
    }
}
