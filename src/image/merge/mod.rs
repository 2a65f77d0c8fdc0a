//! The layers of an image become one filesystem: an EROFS image of inodes and directories only.
//!
//! Whiteouts and opaque directories are applied here, so the guest sees one tree whatever the number of layers. Files
//! point at their contents in the layer blobs. On its disk the image is followed by the blobs, lowest layer first, in
//! the order given here ([`crate::image::vmdk`]); EROFS's device table says at which block each starts.
//!
//! The rules are those of <https://github.com/opencontainers/image-spec/blob/main/layer.md>: from the topmost layer
//! down, the first layer that has a name decides. A directory goes on downwards until a layer hides it, and takes its
//! metadata from the topmost layer that describes it.

mod lookup;
mod stack;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};

use super::erofs::{
    self, Chunk, Content, Device, Inode, Layout, Marks, NULL_BLOCK, Node, Output, S_IFBLK, S_IFCHR, S_IFLNK,
    S_IFMT, S_IFREG, Tree, Volume,
};
use stack::{Found, Source, Stack};

/// The most names of an image; each takes about 100 bytes of memory while it is merged.
const MAX_NAMES: usize = 8 << 20;

/// What an image came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeStats {
    /// Inodes of the image.
    pub inodes: u64,
    /// Names in it.
    pub entries: u64,
    /// Bytes of the metadata image.
    pub image_bytes: u64,
    /// Bytes of the disk: the image and the layer blobs.
    pub disk_bytes: u64,
}

/// Why layers could not be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A layer blob cannot be read.
    #[error("layer {}", path.display())]
    Layer {
        /// The blob.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: erofs::Error,
    },
    /// A hard link to a file that no lower layer has.
    #[error("layer {}: hard link \"{entry}\" to \"{target}\", which is no file of the lower layers", path.display())]
    HardLink {
        /// The blob.
        path: PathBuf,
        /// Name of the link, without its directory.
        entry: String,
        /// The path it links to.
        target: String,
    },
    /// The image cannot be written, or does not fit the format.
    #[error("cannot write the merged image")]
    Image(#[from] erofs::Error),
}

/// Merges layer blobs, the lowest first, into a metadata image in `out`, whose former content is dropped. The same layers
/// always give the same bytes. No layers give an image of an empty root directory.
pub fn merge(layers: &[&Path], out: &mut File) -> Result<MergeStats, Error> {
    let stack = Stack::open(layers)?;
    let devices: Vec<Device> = stack.readers().map(|reader| Device { blocks: reader.blocks() }).collect();
    let mut tree = Merge::new(&stack).run()?;
    let output = Output::new(out, erofs::head(devices.len()))?;
    let blocks = erofs::write(&mut tree, output, Volume::Image, &devices)?;
    let image_bytes = u64::from(blocks) * erofs::BLOCK;
    Ok(MergeStats {
        inodes: tree.order.len() as u64,
        entries: tree.entries.len() as u64,
        image_bytes,
        disk_bytes: image_bytes
            + devices.iter().map(|device| u64::from(device.blocks) * erofs::BLOCK).sum::<u64>(),
    })
}

/// A directory of the image whose names are still to be merged.
struct Pending {
    node: u32,
    /// The layers' directories it is made of, the topmost first.
    sources: Vec<Source>,
}

/// A name whose file is to be found in the lower layers.
struct LowerLink {
    entry: u32,
    link: Source,
}

/// The merge under way.
struct Merge<'a> {
    stack: &'a Stack,
    tree: Tree,
    /// The source of every node, by the node's number; directories have their topmost.
    origins: Vec<Source>,
    /// Nodes of files with several names in their layer.
    linked: HashMap<Source, u32>,
    lower_links: Vec<LowerLink>,
    /// Directories that were merged already: a damaged blob could lead in circles.
    visited: HashSet<Source>,
    /// Names each layer can still have.
    room: Vec<u64>,
}

impl<'a> Merge<'a> {
    fn new(stack: &'a Stack) -> Self {
        Self {
            stack,
            tree: Tree::new(Node::plain_directory()),
            origins: vec![Source::NONE],
            linked: HashMap::new(),
            lower_links: Vec::new(),
            visited: HashSet::new(),
            room: stack.readers().map(erofs::Reader::most_names).collect(),
        }
    }

    fn run(mut self) -> Result<Tree, Error> {
        let mut pending = VecDeque::new();
        if let Some(root) = self.stack.root()? {
            self.tree.nodes[0] = self.directory(&root)?;
            pending.push_back(Pending { node: 0, sources: root.sources });
        }
        while let Some(next) = pending.pop_front() {
            self.merge_directory(&next, &mut pending)?;
        }
        self.resolve_lower_links()?;
        self.tree.arrange()?;
        Ok(self.tree)
    }

    /// Merges the names of one directory.
    fn merge_directory(&mut self, directory: &Pending, pending: &mut VecDeque<Pending>) -> Result<(), Error> {
        for &source in &directory.sources {
            if !self.visited.insert(source) {
                let what = "a directory that is reached twice";
                return Err(self.stack.failed(source, erofs::Error::Corrupt { what, place: source.nid }));
            }
        }
        let mut names = self.stack.names(&directory.sources, &mut self.room)?;
        while let Some(candidates) = names.next() {
            if self.tree.entries.len() >= MAX_NAMES {
                return Err(erofs::Error::TooLarge("more than 8 million names in all layers together").into());
            }
            let Some(found) = self.stack.decide(candidates.sources())? else { continue };
            let name = candidates.name();
            if found.inode.is_directory() {
                let node = self.directory(&found)?;
                let node = self.add_node(node, found.top())?;
                self.tree.add_entry(directory.node, name, node)?;
                pending.push_back(Pending { node, sources: found.sources });
            } else if found.inode.marks().has(Marks::LOWER_LINK) {
                let entry = self.tree.add_entry(directory.node, name, 0)?;
                self.lower_links.push(LowerLink { entry, link: found.top() });
            } else {
                let node = self.file(&found.inode, found.top())?;
                self.tree.add_entry(directory.node, name, node)?;
            }
        }
        Ok(())
    }

    fn add_node(&mut self, node: Node, origin: Source) -> Result<u32, Error> {
        self.origins.push(origin);
        Ok(self.tree.add_node(node)?)
    }

    /// The node of a merged directory, its names still missing.
    fn directory(&mut self, found: &Found) -> Result<Node, Error> {
        self.node(&found.inode, found.described, Node::plain_directory().content)
    }

    /// The node of a file, made unless another name made it.
    fn file(&mut self, inode: &Inode, source: Source) -> Result<u32, Error> {
        if inode.nlink() > 1
            && let Some(&node) = self.linked.get(&source)
        {
            return Ok(node);
        }
        let content = self.content(inode, source)?;
        let node = self.node(inode, source, content)?;
        let node = self.add_node(node, source)?;
        if inode.nlink() > 1 {
            self.linked.insert(source, node);
        }
        Ok(node)
    }

    fn node(&mut self, inode: &Inode, source: Source, content: Content) -> Result<Node, Error> {
        let xattrs =
            self.stack.reader(source).xattr_body(inode).map_err(|error| self.stack.failed(source, error))?;
        let (mtime, mtime_nsec) = inode.mtime();
        Ok(Node {
            mode: inode.mode(),
            uid: inode.uid(),
            gid: inode.gid(),
            mtime,
            mtime_nsec,
            xattrs: self.tree.intern(&xattrs)?,
            size: if inode.mode() & S_IFMT == S_IFREG { inode.size() } else { 0 },
            content,
            ..Node::plain_directory()
        })
    }

    /// What a file leads to, checked against the size of its layer.
    fn content(&mut self, inode: &Inode, source: Source) -> Result<Content, Error> {
        let reader = self.stack.reader(source);
        let failed = |error| self.stack.failed(source, error);
        let corrupt = |what| failed(erofs::Error::Corrupt { what, place: source.nid });
        match inode.mode() & S_IFMT {
            S_IFLNK => Ok(self.tree.add_text(&reader.read_link(inode).map_err(failed)?)?),
            S_IFCHR | S_IFBLK => Ok(inode.device().map_or(Content::Empty, Content::Device)),
            S_IFREG if inode.size() > 0 => {
                let device = source.device();
                let inside =
                    |block: u32, blocks: u64| u64::from(block) + blocks <= u64::from(reader.blocks());
                match inode.layout().map_err(failed)? {
                    Layout::Contiguous(block) if inside(block, inode.size().div_ceil(erofs::BLOCK)) => {
                        Ok(Content::Data { device, block })
                    }
                    Layout::Contiguous(_) => Err(corrupt("a file that lies beyond the end of the layer")),
                    Layout::Chunked { bits, .. } => {
                        let chunks = reader.chunks(inode).map_err(failed)?;
                        self.chunks(&chunks, device, bits).ok_or_else(|| corrupt("a file of too many chunks"))
                    }
                }
            }
            _ => Ok(Content::Empty),
        }
    }

    fn chunks(&mut self, chunks: &[Chunk], device: u16, bits: u8) -> Option<Content> {
        let first = u32::try_from(self.tree.chunks.len()).ok()?;
        self.tree.chunks.extend(chunks.iter().map(|chunk| Chunk {
            device: if chunk.block == NULL_BLOCK { 0 } else { device },
            block: chunk.block,
        }));
        u32::try_from(self.tree.chunks.len()).ok()?;
        Some(Content::Chunks { first, count: chunks.len() as u32, bits })
    }
}
