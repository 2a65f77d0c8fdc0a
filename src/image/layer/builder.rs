//! The tree of a layer, entry by entry.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use msb_guest::archive::{Entry, Kind, shown};

use super::path::{self, Name};
use super::{Error, Limits};
use crate::image::erofs::{
    Chunk, Content, Marks, Node, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, Tree, encode_xattrs,
};

/// The node of a name that stands for nothing but a whiteout.
const NOTHING: u32 = u32::MAX;
const ROOT: u32 = 0;

/// A layer's tree being built.
#[derive(Debug)]
pub(super) struct Builder<'l> {
    tree: Tree,
    limits: &'l Limits,
    /// Entries by directory and name. The hash is keyed, so that an archive cannot choose names that collide.
    index: HashTable<u32>,
    hasher: RandomState,
}

impl<'l> Builder<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        let mut root = Node::plain_directory();
        root.marks.set(Marks::IMPLICIT);
        Self { tree: Tree::new(root), limits, index: HashTable::new(), hasher: RandomState::new() }
    }

    /// Where the chunks of files with holes are kept.
    pub(super) fn chunks(&mut self) -> &mut Vec<Chunk> {
        &mut self.tree.chunks
    }

    /// Adds an entry that is no regular file.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), Error> {
        self.add_file(entry, Content::Empty)
    }

    /// Adds an entry, a regular file whose content is stored for instance.
    pub(super) fn add_file(&mut self, entry: &Entry, content: Content) -> Result<(), Error> {
        let components = path::components(&entry.path, self.limits)?;
        let Some((parents, name)) = path::split(&entry.path, &components)? else {
            return self.describe_root(entry);
        };
        match name {
            Name::Bookkeeping => {}
            Name::Opaque => {
                let directory = self.directory(parents, entry)?;
                self.tree.nodes[directory as usize].marks.set(Marks::OPAQUE);
            }
            Name::Whiteout(hidden) => {
                let directory = self.directory(parents, entry)?;
                let slot = self.slot(directory, hidden, entry)?;
                self.tree.entries[slot as usize].whiteout = true;
            }
            Name::Plain(name) => {
                let directory = self.directory(parents, entry)?;
                match entry.kind {
                    Kind::HardLink => self.add_link(directory, name, entry)?,
                    Kind::Directory => self.add_directory(directory, name, entry)?,
                    _ => {
                        let node = self.node(entry, content)?;
                        let node = self.tree.add_node(node)?;
                        let slot = self.slot(directory, name, entry)?;
                        self.tree.entries[slot as usize].node = node;
                    }
                }
            }
        }
        Ok(())
    }

    fn describe_root(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.kind != Kind::Directory {
            return Err(Error::Path {
                entry: shown(&entry.path),
                problem: "it is the root, yet not a directory",
            });
        }
        self.describe(ROOT, entry)
    }

    /// Gives a directory the metadata of its entry, which may come after entries in it.
    fn describe(&mut self, directory: u32, entry: &Entry) -> Result<(), Error> {
        let node = self.node(entry, Content::Empty)?;
        let old = &mut self.tree.nodes[directory as usize];
        let (content, mut marks) = (old.content, old.marks);
        marks.clear(Marks::IMPLICIT);
        *old = Node { content, marks, ..node };
        Ok(())
    }

    fn add_directory(&mut self, parent: u32, name: &[u8], entry: &Entry) -> Result<(), Error> {
        let directory = self.enter(parent, name, entry)?;
        self.describe(directory, entry)
    }

    fn add_link(&mut self, parent: u32, name: &[u8], entry: &Entry) -> Result<(), Error> {
        let refuse =
            |problem| Error::HardLink { entry: shown(&entry.path), target: shown(&entry.link), problem };
        let target = path::components(&entry.link, self.limits).map_err(|error| match error {
            Error::Path { problem, .. } => refuse(problem),
            other => other,
        })?;
        if target.is_empty() {
            return Err(refuse("that is the root directory"));
        }
        let node = match self.find(&target) {
            Some(node) if self.tree.nodes[node as usize].is_directory() => {
                return Err(refuse("that is a directory"));
            }
            Some(node) => node,
            None => {
                let content = self.tree.add_text(&target.join(&b'/'))?;
                let mut node = Node { mode: S_IFLNK | 0o777, content, ..Node::plain_directory() };
                node.marks.set(Marks::LOWER_LINK);
                self.tree.add_node(node)?
            }
        };
        let slot = self.slot(parent, name, entry)?;
        self.tree.entries[slot as usize].node = node;
        Ok(())
    }

    /// The file at a path of this layer.
    fn find(&self, components: &[&[u8]]) -> Option<u32> {
        components.iter().try_fold(ROOT, |directory, name| {
            let slot = self.lookup(directory, name)?;
            Some(self.tree.entries[slot as usize].node).filter(|&node| node != NOTHING)
        })
    }

    /// The directory at a path, made where it is missing.
    fn directory(&mut self, components: &[&[u8]], entry: &Entry) -> Result<u32, Error> {
        components.iter().try_fold(ROOT, |directory, name| self.enter(directory, name, entry))
    }

    /// The directory `name` in `parent`; made, if need be in the place of what has that name.
    fn enter(&mut self, parent: u32, name: &[u8], entry: &Entry) -> Result<u32, Error> {
        let slot = self.slot(parent, name, entry)? as usize;
        let present = self.tree.entries[slot].node;
        let mut node = Node::plain_directory();
        if present == NOTHING {
            node.marks.set(Marks::IMPLICIT);
        } else if self.tree.nodes[present as usize].is_directory() {
            return Ok(present);
        } else {
            // The directory that lower layers may have here went when the other thing came.
            node.marks.set(Marks::OPAQUE);
        }
        let node = self.tree.add_node(node)?;
        self.tree.entries[slot].node = node;
        Ok(node)
    }

    fn lookup(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one((parent, name));
        let found = self.index.find(hash, |&slot| {
            let entry = &self.tree.entries[slot as usize];
            entry.parent == parent && self.tree.name(entry) == name
        });
        found.copied()
    }

    /// The entry for a name, made if missing.
    fn slot(&mut self, parent: u32, name: &[u8], entry: &Entry) -> Result<u32, Error> {
        if let Some(slot) = self.lookup(parent, name) {
            return Ok(slot);
        }
        if self.tree.entries.len() as u64 >= self.limits.entries {
            return Err(Error::Limit {
                entry: shown(&entry.path),
                what: "entries",
                limit: self.limits.entries,
            });
        }
        let slot = self.tree.add_entry(parent, name, NOTHING)?;
        let (tree, hasher) = (&self.tree, &self.hasher);
        let hash = |slot: u32| {
            let entry = &tree.entries[slot as usize];
            hasher.hash_one((entry.parent, tree.name(entry)))
        };
        self.index.insert_unique(hash(slot), slot, |&slot| hash(slot));
        Ok(slot)
    }

    /// The inode of an entry.
    fn node(&mut self, entry: &Entry, content: Content) -> Result<Node, Error> {
        let (kind, permissions, content) = match entry.kind {
            Kind::File => (S_IFREG, entry.mode, content),
            Kind::Directory => (S_IFDIR, entry.mode, Node::plain_directory().content),
            Kind::Fifo => (S_IFIFO, entry.mode, Content::Empty),
            Kind::CharDevice => (S_IFCHR, entry.mode, Content::Device(entry.device)),
            Kind::BlockDevice => (S_IFBLK, entry.mode, Content::Device(entry.device)),
            Kind::Symlink | Kind::HardLink => (S_IFLNK, 0o777, self.symlink(entry)?),
        };
        let too_much = || Error::Limit {
            entry: shown(&entry.path),
            what: "bytes of extended attributes",
            limit: self.limits.xattrs as u64,
        };
        let body = encode_xattrs(&entry.xattrs).filter(|body| body.len() <= self.limits.xattrs);
        let xattrs = self.tree.intern(&body.ok_or_else(too_much)?)?;
        let (mtime, mtime_nsec) = entry.mtime;
        let size = if entry.kind == Kind::File { entry.size() } else { 0 };
        let (uid, gid) = (entry.uid, entry.gid);
        let mode = kind | permissions;
        Ok(Node { mode, uid, gid, mtime, mtime_nsec, xattrs, size, content, ..Node::plain_directory() })
    }

    fn symlink(&mut self, entry: &Entry) -> Result<Content, Error> {
        let refuse = |problem| Error::Path { entry: shown(&entry.path), problem };
        if entry.link.is_empty() {
            return Err(refuse("it is a symlink to nothing"));
        }
        if entry.link.contains(&0) {
            return Err(refuse("it is a symlink with a NUL byte"));
        }
        if entry.link.len() > self.limits.path {
            let limit = self.limits.path as u64;
            return Err(Error::Limit { entry: shown(&entry.path), what: "bytes in a symlink", limit });
        }
        Ok(self.tree.add_text(&entry.link)?)
    }

    /// The finished tree.
    pub(super) fn finish(self) -> Result<Tree, Error> {
        let mut tree = self.tree;
        drop(self.index);
        let mut whiteout = Node { mode: S_IFCHR, content: Content::Device(0), ..Node::plain_directory() };
        whiteout.marks.set(Marks::WHITEOUT);
        let whiteout = tree.add_node(whiteout)?;
        for slot in 0..tree.entries.len() {
            let entry = tree.entries[slot];
            if !entry.whiteout {
                continue;
            }
            if entry.node == NOTHING {
                tree.entries[slot].node = whiteout;
            } else if tree.nodes[entry.node as usize].is_directory() {
                // Another directory than the hidden one: neither its names nor its metadata remain.
                let marks = &mut tree.nodes[entry.node as usize].marks;
                marks.set(Marks::OPAQUE);
                marks.clear(Marks::IMPLICIT);
            }
        }
        tree.arrange()?;
        Ok(tree)
    }
}
