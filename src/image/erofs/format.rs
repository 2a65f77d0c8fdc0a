//! The structures of the format, little-endian as on disk, one encoder and one checked decoder each.

use super::Error;

/// log2 of the block size. Linux takes 9..=12 on x86-64; the smallest wastes the least behind small files
/// (docs/decisions/0006).
pub(crate) const BLOCK_BITS: u32 = 9;
/// Bytes in a block.
pub(crate) const BLOCK: u64 = 1 << BLOCK_BITS;
/// Bytes in a page, at whose multiples images end and large contents start, on the host and in the guest.
pub(crate) const PAGE: u64 = 4096;
/// Bytes at the start of an image: the superblock and the beginning of the device table. They are written last.
pub(super) const HEAD: usize = PAGE as usize;
/// Where the superblock starts.
pub(super) const SUPER_OFFSET: u64 = 1024;
/// Bytes from the superblock on that its checksum covers: one block. Only we look at it: the feature is not announced,
/// since fsck.erofs (1.8) miscounts these bytes where a block ends before the superblock starts.
const SUMMED: usize = BLOCK as usize;
/// Bytes of the superblock.
pub(super) const SUPER_SIZE: usize = 128;
/// Bytes of one device slot.
pub(super) const DEVICE_SLOT: u64 = 128;
/// Where the device table starts: right behind the superblock.
pub(super) const DEVICE_TABLE: u64 = SUPER_OFFSET + SUPER_SIZE as u64;
/// Bytes of an extended inode.
pub(super) const INODE_SIZE: u64 = 64;
/// Bytes an inode number stands for.
pub(super) const SLOT: u64 = 32;
/// Offset of the first inode in the metadata area, so that no inode is number 0, which programs take for "none".
pub(super) const FIRST_NID_OFFSET: u64 = 2 * SLOT;
/// Bytes of a directory entry without its name.
pub(super) const DIRENT_SIZE: usize = 12;
/// The longest file name.
pub(crate) const MAX_NAME: usize = 255;
/// The block address that means a hole.
pub(crate) const NULL_BLOCK: u32 = u32::MAX;
/// Bytes of a chunk index.
pub(super) const CHUNK_INDEX: u64 = 8;
/// The largest chunk, as a power of two of blocks.
pub(crate) const MAX_CHUNK_BITS: u8 = 31;

/// Volume name of layer blobs; the number is the version of our marks.
pub(super) const LAYER_VOLUME: [u8; 16] = *b"msb-layer-1\0\0\0\0\0";
/// Volume name of merged images.
pub(super) const IMAGE_VOLUME: [u8; 16] = *b"msb-image-1\0\0\0\0\0";

const MAGIC: u32 = 0xE0F5_E1E2;
const COMPAT_MTIME: u32 = 0x2;
const INCOMPAT_CHUNKED: u32 = 0x4;
const INCOMPAT_DEVICES: u32 = 0x8;
const EXTENDED: u16 = 1;
const CHUNK_INDEXES: u16 = 0x20;

pub(crate) const S_IFMT: u16 = 0o170_000;
pub(super) const S_IFSOCK: u16 = 0o140_000;
pub(crate) const S_IFLNK: u16 = 0o120_000;
pub(crate) const S_IFREG: u16 = 0o100_000;
pub(crate) const S_IFBLK: u16 = 0o060_000;
pub(crate) const S_IFDIR: u16 = 0o040_000;
pub(crate) const S_IFCHR: u16 = 0o020_000;
pub(crate) const S_IFIFO: u16 = 0o010_000;

/// What a layer says about an entry beyond what a filesystem can say. Kept in a reserved byte of the inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    /// The entry hides the lower layers' entry of that name.
    pub(crate) const WHITEOUT: Self = Self(1);
    /// The directory hides everything the lower layers have in it.
    pub(crate) const OPAQUE: Self = Self(2);
    /// The layer has entries below this directory but none for it: the lower layers' metadata stand.
    pub(crate) const IMPLICIT: Self = Self(4);
    /// The entry is one more name of a file of the lower layers; the symlink's text is the path from the root.
    pub(crate) const LOWER_LINK: Self = Self(8);

    /// Whether `other` is among these marks.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds `other`.
    pub(crate) fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Takes `other` away.
    pub(crate) fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut field = [0; 2];
    field.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(field)
}

/// The little-endian number at `at`; the caller knows that it is there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// The fields of the superblock that differ between images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) volume: [u8; 16],
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
    pub(super) devices: u16,
    pub(super) chunked: bool,
}

impl Superblock {
    /// The superblock followed by `rest`, the start of the device table. The checksum covers part of that too, which is
    /// why both are encoded together.
    pub(super) fn encode(&self, rest: &[u8]) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        let sb = &mut head[SUPER_OFFSET as usize..];
        let incompat = if self.chunked { INCOMPAT_CHUNKED } else { 0 }
            | if self.devices > 0 { INCOMPAT_CHUNKED | INCOMPAT_DEVICES } else { 0 };
        put(sb, 0, &MAGIC.to_le_bytes());
        put(sb, 8, &COMPAT_MTIME.to_le_bytes());
        sb[12] = BLOCK_BITS as u8;
        put(sb, 14, &self.root_nid.to_le_bytes());
        put(sb, 16, &self.inodes.to_le_bytes());
        put(sb, 36, &self.blocks.to_le_bytes());
        put(sb, 40, &self.meta_block.to_le_bytes());
        put(sb, 64, &self.volume);
        put(sb, 80, &incompat.to_le_bytes());
        put(sb, 86, &self.devices.to_le_bytes());
        if self.devices > 0 {
            put(sb, 88, &((DEVICE_TABLE / DEVICE_SLOT) as u16).to_le_bytes());
        }
        put(sb, SUPER_SIZE, rest);
        let sum = crc32c(&sb[..SUMMED]);
        put(sb, 4, &sum.to_le_bytes());
        head
    }

    /// Checks and decodes the head of an image.
    pub(super) fn decode(head: &[u8; HEAD]) -> Result<Self, Error> {
        let corrupt = |what| Error::Corrupt { what, place: SUPER_OFFSET };
        let mut sb = [0; SUMMED];
        sb.copy_from_slice(&head[SUPER_OFFSET as usize..][..SUMMED]);
        if u32_at(&sb, 0) != MAGIC {
            return Err(corrupt("no EROFS superblock"));
        }
        if u32::from(sb[12]) != BLOCK_BITS {
            return Err(corrupt("another block size than 512 bytes"));
        }
        let sum = u32_at(&sb, 4);
        put(&mut sb, 4, &[0; 4]);
        if sum != crc32c(&sb) {
            return Err(corrupt("the superblock's checksum is wrong"));
        }
        let incompat = u32_at(&sb, 80);
        if incompat & !(INCOMPAT_CHUNKED | INCOMPAT_DEVICES) != 0 {
            return Err(corrupt("features that our images do not use"));
        }
        let mut volume = [0; 16];
        volume.copy_from_slice(&sb[64..80]);
        Ok(Self {
            volume,
            root_nid: u16_at(&sb, 14),
            inodes: u64_at(&sb, 16),
            blocks: u32_at(&sb, 36),
            meta_block: u32_at(&sb, 40),
            devices: u16_at(&sb, 86),
            chunked: incompat & INCOMPAT_CHUNKED != 0,
        })
    }
}

/// How an inode's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// Whole blocks in a row.
    Plain(u32),
    /// Whole blocks in a row, the rest behind the inode.
    Inline(u32),
    /// An index of chunks of 2^n blocks behind the inode.
    Chunks(u8),
    /// No content but a device number.
    Device(u32),
}

/// An extended inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawInode {
    pub(super) mode: u16,
    pub(super) marks: Marks,
    pub(super) storage: Storage,
    /// Bytes of the extended attributes between the inode and what follows it.
    pub(super) xattr_size: u32,
    pub(super) size: u64,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) mtime_nsec: u32,
    pub(super) nlink: u32,
}

impl RawInode {
    pub(super) fn encode(&self) -> [u8; INODE_SIZE as usize] {
        let (layout, union) = match self.storage {
            Storage::Plain(block) => (0, block),
            Storage::Inline(block) => (2, block),
            Storage::Chunks(bits) => (4, u32::from(u16::from(bits) | CHUNK_INDEXES)),
            Storage::Device(number) => (0, number),
        };
        let count = if self.xattr_size == 0 { 0 } else { (self.xattr_size - 12) / 4 + 1 };
        let mut raw = [0; INODE_SIZE as usize];
        put(&mut raw, 0, &(EXTENDED | layout << 1).to_le_bytes());
        put(&mut raw, 2, &(count as u16).to_le_bytes());
        put(&mut raw, 4, &self.mode.to_le_bytes());
        put(&mut raw, 8, &self.size.to_le_bytes());
        put(&mut raw, 16, &union.to_le_bytes());
        put(&mut raw, 20, &self.number.to_le_bytes());
        put(&mut raw, 24, &self.uid.to_le_bytes());
        put(&mut raw, 28, &self.gid.to_le_bytes());
        put(&mut raw, 32, &self.mtime.to_le_bytes());
        put(&mut raw, 40, &self.mtime_nsec.to_le_bytes());
        put(&mut raw, 44, &self.nlink.to_le_bytes());
        raw[48] = self.marks.0;
        raw
    }

    pub(super) fn decode(raw: &[u8; INODE_SIZE as usize]) -> Result<Self, &'static str> {
        let format = u16_at(raw, 0);
        if format & EXTENDED == 0 || format >> 4 != 0 {
            return Err("not an extended inode");
        }
        let mode = u16_at(raw, 4);
        let union = u32_at(raw, 16);
        let storage = match (mode & S_IFMT, format >> 1) {
            (S_IFCHR | S_IFBLK, 0) => Storage::Device(union),
            (S_IFREG | S_IFDIR | S_IFLNK | S_IFIFO | S_IFSOCK, 0) => Storage::Plain(union),
            (S_IFDIR | S_IFLNK, 2) => Storage::Inline(union),
            (S_IFREG, 4) if union & !0x3f == 0 && union & u32::from(CHUNK_INDEXES) != 0 => {
                Storage::Chunks(union as u8 & 0x1f)
            }
            _ => return Err("an unknown kind of inode"),
        };
        let count = u32::from(u16_at(raw, 2));
        if count == 1 {
            return Err("an empty list of extended attributes");
        }
        let mtime_nsec = u32_at(raw, 40);
        if mtime_nsec >= 1_000_000_000 {
            return Err("a modification time with too many nanoseconds");
        }
        Ok(Self {
            mode,
            marks: Marks(raw[48]),
            storage,
            xattr_size: if count == 0 { 0 } else { 12 + (count - 1) * 4 },
            size: u64_at(raw, 8),
            number: u32_at(raw, 20),
            uid: u32_at(raw, 24),
            gid: u32_at(raw, 28),
            mtime: u64_at(raw, 32) as i64,
            mtime_nsec,
            nlink: u32_at(raw, 44),
        })
    }
}

/// One slot of the device table: a device of `blocks` blocks that is mapped at `mapped` of the whole disk.
pub(super) fn device_slot(blocks: u32, mapped: u32) -> [u8; DEVICE_SLOT as usize] {
    let mut slot = [0; DEVICE_SLOT as usize];
    put(&mut slot, 64, &blocks.to_le_bytes());
    put(&mut slot, 68, &mapped.to_le_bytes());
    slot
}

/// One chunk index.
pub(super) fn chunk_index(device: u16, block: u32) -> [u8; CHUNK_INDEX as usize] {
    let mut index = [0; CHUNK_INDEX as usize];
    put(&mut index, 2, &device.to_le_bytes());
    put(&mut index, 4, &block.to_le_bytes());
    index
}

/// Device and block of a chunk index.
pub(super) fn decode_chunk(index: &[u8]) -> (u16, u32) {
    (u16_at(index, 2), u32_at(index, 4))
}

/// A directory entry without its name: inode number, offset of the name in the block, file type.
pub(super) fn dirent(nid: u64, name_offset: u16, mode: u16) -> [u8; DIRENT_SIZE] {
    let mut entry = [0; DIRENT_SIZE];
    put(&mut entry, 0, &nid.to_le_bytes());
    put(&mut entry, 8, &name_offset.to_le_bytes());
    entry[10] = match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        S_IFSOCK => 6,
        S_IFLNK => 7,
        _ => 0,
    };
    entry
}

/// Inode number and name offset of a directory entry.
pub(super) fn decode_dirent(entry: &[u8]) -> (u64, usize) {
    (u64_at(entry, 0), usize::from(u16_at(entry, 8)))
}

/// CRC-32C as EROFS uses it: seeded with ones, not inverted at the end. Bit by bit, since it covers 512 bytes per image.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}
