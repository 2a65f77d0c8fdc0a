//! Lays a [`Tree`] out as EROFS metadata and writes it.
//!
//! The metadata area is the inodes, each with its attributes and, if it fits into the same block, the end of its
//! directory or its symlink's text, then the blocks of directories and symlinks that do not fit there. Two passes in the
//! same order: the first gives out the numbers, the second writes from front to back.

use super::Error;
use super::directory::{self, Item};
use super::format::{
    BLOCK, CHUNK_INDEX, DEVICE_SLOT, DEVICE_TABLE, FIRST_NID_OFFSET, HEAD, IMAGE_VOLUME, INODE_SIZE,
    LAYER_VOLUME, MAX_CHUNK_BITS, Marks, NULL_BLOCK, PAGE, RawInode, SLOT, Storage, Superblock, chunk_index,
    device_slot,
};
use super::output::Output;
use super::tree::{Content, Node, Tree};

/// Which of the two kinds of images is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// A layer blob, marks included.
    Layer,
    /// A merged image.
    Image,
}

/// A layer blob that follows the image on its disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// Its size in blocks.
    pub(crate) blocks: u32,
}

/// An inode's place in the layout.
struct Place {
    /// Bytes of the content (directories, symlinks) or of the file.
    size: u64,
    /// Bytes of it that stand behind the inode; the rest is in blocks of its own.
    inline: u64,
    /// Whole blocks of its own.
    blocks: u64,
    /// Offset of the inode in the metadata area.
    offset: u64,
}

/// Where the layout's next things go.
struct Cursor {
    offset: u64,
    block: u64,
}

/// Writes an arranged tree behind what `out` holds already (nothing, or the file contents of a layer) and ends the
/// image. Returns its size in blocks.
pub(crate) fn write(
    tree: &mut Tree,
    mut out: Output<'_>,
    volume: Volume,
    devices: &[Device],
) -> Result<u32, Error> {
    out.align(BLOCK)?;
    let meta_block = out.block()?;
    let (inode_bytes, own_blocks) = number(tree)?;
    let first_own = u64::from(meta_block) + inode_bytes.div_ceil(BLOCK);
    let blocks = (first_own + own_blocks).next_multiple_of(PAGE / BLOCK);
    let blocks = small(blocks, "more than 2^32 blocks")?;
    let mapped = map_devices(blocks, devices)?;
    out.write(&[0; FIRST_NID_OFFSET as usize])?;
    let pass = Pass { tree, volume, meta_start: u64::from(meta_block) * BLOCK, first_own };
    pass.write_inodes(&mut out)?;
    out.align(BLOCK)?;
    pass.write_own_blocks(&mut out)?;
    out.align(PAGE)?;
    let superblock = Superblock {
        volume: if volume == Volume::Layer { LAYER_VOLUME } else { IMAGE_VOLUME },
        // In the first block or, with names behind it that do not fit there, in the second.
        root_nid: tree.nodes[0].nid as u16,
        inodes: tree.order.len() as u64,
        blocks,
        meta_block,
        devices: u16::try_from(devices.len()).map_err(|_| Error::TooLarge("more than 65535 layers"))?,
        chunked: !tree.chunks.is_empty(),
    };
    let table: Vec<u8> = devices
        .iter()
        .zip(&mapped)
        .flat_map(|(device, &mapped)| device_slot(device.blocks, mapped))
        .collect();
    let (start, rest) = table.split_at(table.len().min(HEAD - DEVICE_TABLE as usize));
    out.finish(&superblock.encode(start), rest)?;
    Ok(blocks)
}

/// Bytes before the contents and metadata of an image with this many devices: the superblock and the device table.
pub(crate) fn head(devices: usize) -> u64 {
    (DEVICE_TABLE + devices as u64 * DEVICE_SLOT).next_multiple_of(PAGE)
}

/// Block address of every device on the whole disk.
fn map_devices(blocks: u32, devices: &[Device]) -> Result<Vec<u32>, Error> {
    let mut mapped = Vec::new();
    let mut next = u64::from(blocks);
    for device in devices {
        mapped.push(small(next, "layers of more than 2^32 blocks")?);
        next += u64::from(device.blocks);
    }
    small(next, "layers of more than 2^32 blocks")?;
    Ok(mapped)
}

fn small(number: u64, what: &'static str) -> Result<u32, Error> {
    u32::try_from(number).ok().filter(|&number| number < u32::MAX).ok_or(Error::TooLarge(what))
}

/// First pass: gives every inode its number. Returns the bytes of the inodes and the number of own blocks.
fn number(tree: &mut Tree) -> Result<(u64, u64), Error> {
    let mut cursor = Cursor { offset: FIRST_NID_OFFSET, block: 0 };
    for at in 0..tree.order.len() {
        let id = tree.order[at];
        let place = place(tree, id, &mut cursor);
        tree.nodes[id as usize].nid = small(place.offset / SLOT, "128 GiB of inodes")?;
    }
    Ok((cursor.offset, cursor.block))
}

/// Decides where an inode and its content go, the same in both passes.
fn place(tree: &Tree, id: u32, cursor: &mut Cursor) -> Place {
    let node = &tree.nodes[id as usize];
    let size = match node.content {
        Content::Directory { .. } => directory::size(names(tree, id).map(<[u8]>::len)),
        Content::Text { length, .. } => u64::from(length),
        _ => node.size,
    };
    let head = INODE_SIZE + tree.xattrs(node).len() as u64;
    let (inline, blocks, length) = match node.content {
        Content::Directory { .. } | Content::Text { .. } => {
            let tail = size % BLOCK;
            let fits = tail > 0 && head + tail <= BLOCK;
            let inline = if fits { tail } else { 0 };
            (inline, (size - inline).div_ceil(BLOCK), head + inline)
        }
        _ => match chunks(node) {
            Some((count, _)) => (0, 0, head.next_multiple_of(CHUNK_INDEX) + u64::from(count) * CHUNK_INDEX),
            None => (0, 0, head),
        },
    };
    // The kernel refuses inline content that crosses a block; an inode that crosses one only costs it a second read.
    let together = if inline > 0 { length } else { INODE_SIZE };
    let offset = cursor.offset;
    let offset = if offset % BLOCK + together > BLOCK { offset.next_multiple_of(BLOCK) } else { offset };
    cursor.offset = (offset + length).next_multiple_of(SLOT);
    cursor.block += blocks;
    Place { size, inline, blocks, offset }
}

/// Number of chunks of a file and log2 of their blocks; `None` for what needs no chunks: a file in a row in the image
/// itself. In a layer blob it takes as few chunks as the format allows, one up to 1 TiB.
fn chunks(node: &Node) -> Option<(u32, u8)> {
    match node.content {
        Content::Chunks { count, bits, .. } => Some((count, bits)),
        Content::Data { device, .. } if device > 0 => {
            let blocks = node.size.div_ceil(BLOCK);
            let bits = (u64::BITS - blocks.saturating_sub(1).leading_zeros()).min(u32::from(MAX_CHUNK_BITS));
            Some((blocks.div_ceil(1 << bits) as u32, bits as u8))
        }
        _ => None,
    }
}

/// The names of a directory in the order of its entries on disk, `.` and `..` sorted in among the others.
fn items(tree: &Tree, id: u32) -> impl Iterator<Item = (&[u8], u32)> {
    let (first, count, parent) = match tree.nodes[id as usize].content {
        Content::Directory { first, count, parent } => (first as usize, count as usize, parent),
        _ => (0, 0, 0),
    };
    let mut dots = [(&b"."[..], id), (&b".."[..], parent)].into_iter().peekable();
    let mut rest =
        tree.entries[first..first + count].iter().map(|entry| (tree.name(entry), entry.node)).peekable();
    std::iter::from_fn(move || match (dots.peek(), rest.peek()) {
        (Some(dot), Some(other)) if dot.0 < other.0 => dots.next(),
        (Some(_), None) => dots.next(),
        _ => rest.next(),
    })
}

fn names(tree: &Tree, id: u32) -> impl Iterator<Item = &[u8]> {
    items(tree, id).map(|(name, _)| name)
}

/// Second pass: everything has its place.
struct Pass<'a> {
    tree: &'a Tree,
    volume: Volume,
    /// Where the metadata area starts in the file.
    meta_start: u64,
    /// The block at which the own blocks of directories and symlinks start.
    first_own: u64,
}

impl Pass<'_> {
    fn write_inodes(&self, out: &mut Output<'_>) -> Result<(), Error> {
        let mut cursor = Cursor { offset: FIRST_NID_OFFSET, block: 0 };
        let mut content = Vec::new();
        for &id in &self.tree.order {
            let own = self.first_own + cursor.block;
            let place = place(self.tree, id, &mut cursor);
            let gap = self.meta_start + place.offset - out.position();
            out.zeros(gap)?;
            let node = &self.tree.nodes[id as usize];
            out.write(&self.inode(node, &place, own)?.encode())?;
            out.write(self.tree.xattrs(node))?;
            if place.inline > 0 {
                self.content(id, &mut content)?;
                out.write(&content[(place.size - place.inline) as usize..])?;
            }
            self.write_chunks(node, out)?;
        }
        Ok(())
    }

    fn write_chunks(&self, node: &Node, out: &mut Output<'_>) -> Result<(), Error> {
        let Some((count, bits)) = chunks(node) else { return Ok(()) };
        out.align(CHUNK_INDEX)?;
        for index in 0..count {
            let (device, block) = match node.content {
                Content::Chunks { first, .. } => {
                    let chunk = self.tree.chunks[first as usize + index as usize];
                    (chunk.device, chunk.block)
                }
                Content::Data { device, block } => (device, block + (index << bits)),
                _ => (0, NULL_BLOCK),
            };
            out.write(&chunk_index(device, block))?;
        }
        Ok(())
    }

    /// The fixed part of an inode whose own blocks, if any, start at `own`.
    fn inode(&self, node: &Node, place: &Place, own: u64) -> Result<RawInode, Error> {
        let own = if place.blocks > 0 { small(own, "more than 2^32 blocks")? } else { 0 };
        let storage = match node.content {
            _ if let Some((_, bits)) = chunks(node) => Storage::Chunks(bits),
            Content::Empty | Content::Chunks { .. } => Storage::Plain(0),
            Content::Data { block, .. } => Storage::Plain(block),
            Content::Device(number) => Storage::Device(number),
            Content::Directory { .. } | Content::Text { .. } if place.inline > 0 => Storage::Inline(own),
            Content::Directory { .. } | Content::Text { .. } => Storage::Plain(own),
        };
        Ok(RawInode {
            mode: node.mode,
            marks: if self.volume == Volume::Layer { node.marks } else { Marks::default() },
            storage,
            xattr_size: self.tree.xattrs(node).len() as u32,
            size: place.size,
            number: node.nid,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            mtime_nsec: node.mtime_nsec,
            nlink: node.nlink,
        })
    }

    fn write_own_blocks(&self, out: &mut Output<'_>) -> Result<(), Error> {
        let mut cursor = Cursor { offset: FIRST_NID_OFFSET, block: 0 };
        let mut content = Vec::new();
        for &id in &self.tree.order {
            let place = place(self.tree, id, &mut cursor);
            if place.blocks > 0 {
                self.content(id, &mut content)?;
                out.write(&content[..(place.size - place.inline) as usize])?;
                out.align(BLOCK)?;
            }
        }
        Ok(())
    }

    /// The bytes of a directory or a symlink.
    fn content(&self, id: u32, bytes: &mut Vec<u8>) -> Result<(), Error> {
        if let Content::Text { start, length } = self.tree.nodes[id as usize].content {
            bytes.clear();
            bytes.extend_from_slice(self.tree.text(start, length));
            return Ok(());
        }
        let items = items(self.tree, id).map(|(name, node)| {
            let node = &self.tree.nodes[node as usize];
            Item { name, nid: u64::from(node.nid), mode: node.mode }
        });
        directory::encode(items, bytes)
    }
}
