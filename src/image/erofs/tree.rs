//! A filesystem in memory, ready to be written: about 80 bytes per entry and its name. File contents are elsewhere.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::Error;
use super::format::{Marks, S_IFDIR, S_IFMT};

/// The most bytes of names, of symlinks and of distinct attribute lists. Hostile archives pack far more into a few
/// megabytes; no honest image comes near.
const MAX_TEXTS: usize = 256 << 20;

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The directory, as an index into [`Tree::nodes`].
    pub(crate) parent: u32,
    /// The file, as an index into [`Tree::nodes`].
    pub(crate) node: u32,
    name: u32,
    length: u8,
    /// Whether the layer hides the lower layers' entry of this name.
    pub(crate) whiteout: bool,
}

/// What an inode leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing: fifos, sockets, empty files.
    Empty,
    /// Bytes in a row from `block` of `device` on.
    Data { device: u16, block: u32 },
    /// Chunks of `1 << bits` blocks: `count` of [`Tree::chunks`] from `first` on.
    Chunks { first: u32, count: u32, bits: u8 },
    /// A directory: `count` of [`Tree::entries`] from `first` on. `parent` is the node of `..`.
    Directory { first: u32, count: u32, parent: u32 },
    /// The text of a symlink, at `start` of the texts.
    Text { start: u32, length: u16 },
    /// A device, by Linux's 32-bit number.
    Device(u32),
}

/// An inode.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mode: u16,
    pub(crate) marks: Marks,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) mtime_nsec: u32,
    /// Number of names; set by [`Tree::arrange`].
    pub(crate) nlink: u32,
    /// The attributes, as [`Tree::intern`] returned them.
    pub(crate) xattrs: u32,
    /// Number of the inode in 32-byte units; set by the writer.
    pub(crate) nid: u32,
    /// Bytes of a regular file.
    pub(crate) size: u64,
    pub(crate) content: Content,
}

impl Node {
    /// A directory that nothing describes: `root`'s, mode 0755, from 1970.
    pub(crate) fn plain_directory() -> Self {
        Self {
            mode: S_IFDIR | 0o755,
            marks: Marks::default(),
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nsec: 0,
            nlink: 0,
            xattrs: 0,
            nid: 0,
            size: 0,
            content: Content::Directory { first: 0, count: 0, parent: 0 },
        }
    }

    /// Whether this is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }
}

/// One chunk of a file with holes: a block of a device, or [`super::NULL_BLOCK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) device: u16,
    pub(crate) block: u32,
}

/// The filesystem. Node 0 is the root directory.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) entries: Vec<Entry>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) chunks: Vec<Chunk>,
    /// The nodes in the order in which they are written; set by [`Tree::arrange`].
    pub(crate) order: Vec<u32>,
    names: Vec<u8>,
    texts: Vec<u8>,
    /// Stored attribute lists, each behind its length; offset 0 is taken so that it can mean "none".
    xattrs: Vec<u8>,
    known_xattrs: HashTable<u32>,
    hasher: RandomState,
}

impl Tree {
    /// A tree of an empty root directory.
    pub(crate) fn new(root: Node) -> Self {
        Self {
            entries: Vec::new(),
            nodes: vec![root],
            chunks: Vec::new(),
            order: Vec::new(),
            names: Vec::new(),
            texts: Vec::new(),
            xattrs: vec![0; 4],
            known_xattrs: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    /// Adds an inode.
    pub(crate) fn add_node(&mut self, node: Node) -> Result<u32, Error> {
        let id = index(self.nodes.len(), "too many inodes")?;
        self.nodes.push(node);
        Ok(id)
    }

    /// Adds a name, at most 255 bytes, for `node` to the directory `parent`.
    pub(crate) fn add_entry(&mut self, parent: u32, name: &[u8], node: u32) -> Result<u32, Error> {
        let id = index(self.entries.len(), "too many entries")?;
        let start = text_index(self.names.len(), "more than 256 MiB of names")?;
        let length =
            u8::try_from(name.len()).map_err(|_| Error::TooLarge("a name of more than 255 bytes"))?;
        self.names.extend_from_slice(name);
        self.entries.push(Entry { parent, node, name: start, length, whiteout: false });
        Ok(id)
    }

    /// Adds a symlink's text.
    pub(crate) fn add_text(&mut self, text: &[u8]) -> Result<Content, Error> {
        let start = text_index(self.texts.len(), "more than 256 MiB of symlinks")?;
        let length =
            u16::try_from(text.len()).map_err(|_| Error::TooLarge("a symlink of more than 64 KiB"))?;
        self.texts.extend_from_slice(text);
        Ok(Content::Text { start, length })
    }

    /// Keeps one copy of a stored attribute list, as [`super::encode_xattrs`] made it.
    pub(crate) fn intern(&mut self, body: &[u8]) -> Result<u32, Error> {
        if body.is_empty() {
            return Ok(0);
        }
        let hash = self.hasher.hash_one(body);
        let (arena, hasher) = (&self.xattrs, &self.hasher);
        if let Some(&known) = self.known_xattrs.find(hash, |&at| counted(arena, at) == body) {
            return Ok(known);
        }
        let at = text_index(self.xattrs.len(), "more than 256 MiB of extended attributes")?;
        self.known_xattrs.insert_unique(hash, at, |&at| hasher.hash_one(counted(arena, at)));
        self.xattrs.extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.xattrs.extend_from_slice(body);
        Ok(at)
    }

    /// The name of an entry.
    pub(crate) fn name(&self, entry: &Entry) -> &[u8] {
        &self.names[entry.name as usize..][..usize::from(entry.length)]
    }

    /// The text of a symlink.
    pub(crate) fn text(&self, start: u32, length: u16) -> &[u8] {
        &self.texts[start as usize..][..usize::from(length)]
    }

    /// The stored attributes of a node.
    pub(crate) fn xattrs(&self, node: &Node) -> &[u8] {
        counted(&self.xattrs, node.xattrs)
    }

    /// Sorts the entries into their directories, leaves out what cannot be reached from the root, counts links and
    /// decides the order of the inodes: directory by directory, breadth first, so that listing one reads few blocks.
    pub(crate) fn arrange(&mut self) -> Result<(), Error> {
        self.sort_entries();
        self.assign_entries()?;
        for node in &mut self.nodes {
            node.nlink = if node.is_directory() { 2 } else { 0 };
        }
        self.order = vec![0];
        let mut next = 0;
        while let Some(&id) = self.order.get(next) {
            next += 1;
            let Content::Directory { first, count, .. } = self.nodes[id as usize].content else { continue };
            for entry in first..first + count {
                let child = self.entries[entry as usize].node;
                let node = &mut self.nodes[child as usize];
                if node.is_directory() {
                    self.order.push(child);
                    self.nodes[id as usize].nlink += 1;
                } else {
                    node.nlink += 1;
                    if node.nlink == 1 {
                        self.order.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    fn sort_entries(&mut self) {
        let names = &self.names;
        let name = |entry: &Entry| &names[entry.name as usize..][..usize::from(entry.length)];
        let sorted = |pair: &[Entry]| (pair[0].parent, name(&pair[0])) < (pair[1].parent, name(&pair[1]));
        if !self.entries.windows(2).all(sorted) {
            self.entries.sort_unstable_by(|a, b| (a.parent, name(a)).cmp(&(b.parent, name(b))));
        }
    }

    /// Tells every directory its range of the sorted entries and its parent.
    fn assign_entries(&mut self) -> Result<(), Error> {
        let mut start = 0;
        for run in self.entries.chunk_by(|a, b| a.parent == b.parent) {
            let parent = run[0].parent as usize;
            if let Content::Directory { first, count, .. } = &mut self.nodes[parent].content {
                *first = index(start, "too many entries")?;
                *count = index(run.len(), "too many entries")?;
            }
            start += run.len();
        }
        for entry in &self.entries {
            if let Content::Directory { parent, .. } = &mut self.nodes[entry.node as usize].content {
                *parent = entry.parent;
            }
        }
        Ok(())
    }
}

fn index(length: usize, what: &'static str) -> Result<u32, Error> {
    u32::try_from(length).ok().filter(|&length| length < u32::MAX).ok_or(Error::TooLarge(what))
}

fn text_index(length: usize, what: &'static str) -> Result<u32, Error> {
    if length > MAX_TEXTS { Err(Error::TooLarge(what)) } else { Ok(length as u32) }
}

/// The bytes behind a length in an arena.
fn counted(arena: &[u8], at: u32) -> &[u8] {
    let at = at as usize;
    let mut length = [0; 4];
    length.copy_from_slice(&arena[at..at + 4]);
    &arena[at + 4..][..u32::from_le_bytes(length) as usize]
}
