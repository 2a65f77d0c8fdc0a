//! Reading images of ours. They lie in a cache that anything may have damaged, so nothing in them is believed.

use std::fs::File;
use std::path::Path;

use super::Error;
use super::format::{
    BLOCK, CHUNK_INDEX, DIRENT_SIZE, HEAD, INODE_SIZE, LAYER_VOLUME, MAX_NAME, Marks, NULL_BLOCK, RawInode,
    S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, SLOT, Storage, Superblock, decode_chunk, decode_dirent,
};
use super::tree::Chunk;
use super::window::Windows;
use super::xattr::{self, Xattr};

/// The largest directory: 16 million names of 255 bytes.
const MAX_DIRECTORY: u64 = 16_000_000 * 300;
/// The most chunks of one file.
const MAX_CHUNKS: u64 = 1 << 27;
/// The longest symlink.
const MAX_TEXT: u64 = u16::MAX as u64;

/// An open image.
#[derive(Debug)]
pub struct Reader {
    windows: Windows,
    superblock: Superblock,
}

/// An inode and where its content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub nid: u64,
    raw: RawInode,
}

/// How a regular file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In a row from this block on.
    Contiguous(u32),
    /// In this many chunks of `1 << bits` blocks.
    Chunked {
        /// Number of chunks.
        count: u64,
        /// log2 of the blocks in a chunk.
        bits: u8,
    },
}

/// The names in a directory without `.` and `..`, sorted by bytes.
#[derive(Debug, Default)]
pub struct DirEntries {
    names: Vec<u8>,
    items: Vec<(u64, usize, u8)>,
}

impl DirEntries {
    /// Number of names.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Name and inode number of the entry at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<(&[u8], u64)> {
        let &(nid, start, length) = self.items.get(index)?;
        Some((&self.names[start..start + usize::from(length)], nid))
    }

    /// All entries: name and inode number.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The inode number of a name.
    pub fn find(&self, name: &[u8]) -> Option<u64> {
        let start = |item: &(u64, usize, u8)| &self.names[item.1..item.1 + usize::from(item.2)];
        let index = self.items.binary_search_by(|item| start(item).cmp(name)).ok()?;
        Some(self.items[index].0)
    }

    fn push(&mut self, name: &[u8], nid: u64) -> Result<(), &'static str> {
        if name.is_empty() || name.len() > MAX_NAME || name.contains(&0) || name.contains(&b'/') {
            return Err("a name that no file can have");
        }
        if self.get(self.len().wrapping_sub(1)).is_some_and(|(last, _)| last >= name) {
            return Err("a directory that is not sorted");
        }
        self.items.push((nid, self.names.len(), name.len() as u8));
        self.names.extend_from_slice(name);
        Ok(())
    }
}

impl Inode {
    /// Type and permission bits, as in `st_mode`.
    pub fn mode(&self) -> u16 {
        self.raw.mode
    }

    /// Owner.
    pub fn uid(&self) -> u32 {
        self.raw.uid
    }

    /// Group.
    pub fn gid(&self) -> u32 {
        self.raw.gid
    }

    /// Modification time: seconds since 1970 and nanoseconds.
    pub fn mtime(&self) -> (i64, u32) {
        (self.raw.mtime, self.raw.mtime_nsec)
    }

    /// Number of names.
    pub fn nlink(&self) -> u32 {
        self.raw.nlink
    }

    /// Bytes of the content.
    pub fn size(&self) -> u64 {
        self.raw.size
    }

    /// The device number of a device, in Linux's 32-bit form.
    pub fn device(&self) -> Option<u32> {
        match self.raw.storage {
            Storage::Device(number) => Some(number),
            _ => None,
        }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        self.raw.mode & S_IFMT == S_IFDIR
    }

    pub(crate) fn marks(&self) -> Marks {
        self.raw.marks
    }

    /// Where a regular file is stored.
    pub fn layout(&self) -> Result<Layout, Error> {
        let wrong = Error::WrongType { nid: self.nid, expected: "regular file" };
        match self.raw.storage {
            _ if self.raw.mode & S_IFMT != S_IFREG => Err(wrong),
            Storage::Plain(block) => Ok(Layout::Contiguous(block)),
            Storage::Chunks(bits) => {
                Ok(Layout::Chunked { count: self.raw.size.div_ceil(BLOCK << u32::from(bits)), bits })
            }
            _ => Err(wrong),
        }
    }
}

impl Reader {
    /// Opens the image at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::new(File::open(path).map_err(Error::Read)?)
    }

    /// Opens an image.
    pub fn new(file: File) -> Result<Self, Error> {
        let windows = Windows::new(file)?;
        let mut head = [0; HEAD];
        windows.read(0, &mut head)?;
        let superblock = Superblock::decode(&head)?;
        if u64::from(superblock.blocks) * BLOCK != windows.length() {
            return Err(Error::Corrupt {
                what: "the file's size is not the image's",
                place: windows.length(),
            });
        }
        Ok(Self { windows, superblock })
    }

    /// Whether this is a layer blob.
    pub fn is_layer(&self) -> bool {
        self.superblock.volume == LAYER_VOLUME
    }

    /// Size of the image in blocks of 512 bytes.
    pub fn blocks(&self) -> u32 {
        self.superblock.blocks
    }

    /// More names than the image has room for.
    pub(crate) fn most_names(&self) -> u64 {
        self.windows.length() / DIRENT_SIZE as u64
    }

    /// Number of inodes.
    pub fn inodes(&self) -> u64 {
        self.superblock.inodes
    }

    /// The inode number of the root directory.
    pub fn root(&self) -> u64 {
        u64::from(self.superblock.root_nid)
    }

    /// Reads an inode.
    pub fn inode(&self, nid: u64) -> Result<Inode, Error> {
        let mut raw = [0; INODE_SIZE as usize];
        self.windows.read(self.offset(nid)?, &mut raw)?;
        let raw = RawInode::decode(&raw).map_err(|what| Error::Corrupt { what, place: nid })?;
        Ok(Inode { nid, raw })
    }

    fn offset(&self, nid: u64) -> Result<u64, Error> {
        nid.checked_mul(SLOT)
            .and_then(|offset| offset.checked_add(u64::from(self.superblock.meta_block) * BLOCK))
            .ok_or(Error::Corrupt { what: "an inode number out of range", place: nid })
    }

    /// Offset of what stands behind an inode and its attributes.
    fn tail_offset(&self, inode: &Inode) -> Result<u64, Error> {
        Ok(self.offset(inode.nid)? + INODE_SIZE + u64::from(inode.raw.xattr_size))
    }

    /// Reads the content of a directory or a symlink, part of which may stand behind the inode.
    fn content(&self, inode: &Inode, limit: u64) -> Result<Vec<u8>, Error> {
        let corrupt = |what| Error::Corrupt { what, place: inode.nid };
        let size = inode.raw.size;
        if size > limit.min(self.windows.length()) {
            return Err(corrupt("a directory or a symlink that is too large"));
        }
        let (block, inline) = match inode.raw.storage {
            Storage::Plain(block) => (block, 0),
            Storage::Inline(block) => (block, size % BLOCK),
            _ => return Err(corrupt("an unknown kind of inode")),
        };
        let mut bytes = vec![0; size as usize];
        let (whole, tail) = bytes.split_at_mut((size - inline) as usize);
        self.windows.read(u64::from(block) * BLOCK, whole)?;
        self.windows.read(self.tail_offset(inode)?, tail)?;
        Ok(bytes)
    }

    /// Reads a directory.
    pub fn read_dir(&self, directory: &Inode) -> Result<DirEntries, Error> {
        let corrupt = |what| Error::Corrupt { what, place: directory.nid };
        if !directory.is_directory() {
            return Err(Error::WrongType { nid: directory.nid, expected: "directory" });
        }
        let bytes = self.content(directory, MAX_DIRECTORY)?;
        let mut entries = DirEntries::default();
        for block in bytes.chunks(BLOCK as usize) {
            read_dir_block(block, &mut entries).map_err(corrupt)?;
        }
        Ok(entries)
    }

    /// Reads a symlink.
    pub fn read_link(&self, link: &Inode) -> Result<Vec<u8>, Error> {
        if link.raw.mode & S_IFMT != S_IFLNK {
            return Err(Error::WrongType { nid: link.nid, expected: "symlink" });
        }
        self.content(link, MAX_TEXT)
    }

    /// The stored form of an inode's extended attributes, checked.
    pub(crate) fn xattr_body(&self, inode: &Inode) -> Result<Vec<u8>, Error> {
        let mut body = vec![0; inode.raw.xattr_size as usize];
        if !body.is_empty() {
            self.windows.read(self.offset(inode.nid)? + INODE_SIZE, &mut body)?;
        }
        if xattr::decode(&body).is_none() {
            return Err(Error::Corrupt { what: "damaged extended attributes", place: inode.nid });
        }
        Ok(body)
    }

    /// The extended attributes of an inode.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>, Error> {
        let body = self.xattr_body(inode)?;
        xattr::decode(&body).ok_or(Error::Corrupt { what: "damaged extended attributes", place: inode.nid })
    }

    /// The chunks of a regular file that is stored in chunks.
    pub(crate) fn chunks(&self, inode: &Inode) -> Result<Vec<Chunk>, Error> {
        let Layout::Chunked { count, .. } = inode.layout()? else { return Ok(Vec::new()) };
        if count > MAX_CHUNKS || count * CHUNK_INDEX > self.windows.length() {
            return Err(Error::Corrupt { what: "a file of too many chunks", place: inode.nid });
        }
        let mut bytes = vec![0; (count * CHUNK_INDEX) as usize];
        self.windows.read(self.tail_offset(inode)?.next_multiple_of(CHUNK_INDEX), &mut bytes)?;
        let decode = |index: &[u8]| {
            let (device, block) = decode_chunk(index);
            Chunk { device, block }
        };
        Ok(bytes.chunks_exact(CHUNK_INDEX as usize).map(decode).collect())
    }

    /// Bytes of the file, wherever they belong.
    #[cfg(test)]
    pub(super) fn read_raw(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.windows.read_through(offset, bytes)
    }

    /// Reads part of a regular file of a layer blob: as many bytes as there are from `offset` on, at most `bytes`.
    pub fn read(&self, file: &Inode, offset: u64, bytes: &mut [u8]) -> Result<usize, Error> {
        let left = file.size().saturating_sub(offset);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        if n == 0 {
            return Ok(0);
        }
        let (block, inside, n) = match file.layout()? {
            Layout::Contiguous(block) => (block, offset, n),
            Layout::Chunked { bits, .. } => {
                let chunk = BLOCK << u32::from(bits);
                let chunks = self.chunks(file)?;
                let block = chunks.get((offset / chunk) as usize).map_or(NULL_BLOCK, |chunk| chunk.block);
                let inside = offset % chunk;
                (block, inside, n.min(usize::try_from(chunk - inside).unwrap_or(usize::MAX)))
            }
        };
        if block == NULL_BLOCK {
            bytes[..n].fill(0);
        } else {
            let start = u64::from(block).saturating_mul(BLOCK).saturating_add(inside);
            self.windows.read_through(start, &mut bytes[..n])?;
        }
        Ok(n)
    }
}

/// Adds the names of one directory block.
fn read_dir_block(block: &[u8], entries: &mut DirEntries) -> Result<(), &'static str> {
    let damaged = "a damaged directory";
    let head = block.get(..DIRENT_SIZE).ok_or(damaged)?;
    let (_, names_start) = decode_dirent(head);
    let heads = block.get(..names_start).ok_or(damaged)?;
    if heads.is_empty() || heads.len() % DIRENT_SIZE != 0 {
        return Err(damaged);
    }
    let mut heads = heads.chunks_exact(DIRENT_SIZE).map(decode_dirent).peekable();
    while let Some((nid, start)) = heads.next() {
        let name = match heads.peek() {
            Some(&(_, end)) => block.get(start..end).ok_or(damaged)?,
            None => {
                block.get(start..).and_then(|name| name.split(|&byte| byte == 0).next()).ok_or(damaged)?
            }
        };
        if name != b"." && name != b".." {
            entries.push(name, nid)?;
        }
    }
    Ok(())
}
