//! The content of a directory: blocks of sorted names, each block starting with its entries.

use super::Error;
use super::format::{BLOCK, DIRENT_SIZE, dirent};

/// A name in a directory being written.
pub(super) struct Item<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) mode: u16,
}

/// Bytes of a directory with names of these lengths, in their order, including `.` and `..`.
pub(super) fn size(lengths: impl Iterator<Item = usize>) -> u64 {
    let (mut blocks, mut used) = (0, 0);
    for length in lengths {
        let needed = (DIRENT_SIZE + length) as u64;
        if used + needed > BLOCK {
            blocks += 1;
            used = 0;
        }
        used += needed;
    }
    blocks * BLOCK + used
}

/// Puts the directory's bytes, as many as [`size`] said, into `out`.
pub(super) fn encode<'a>(items: impl Iterator<Item = Item<'a>>, out: &mut Vec<u8>) -> Result<(), Error> {
    out.clear();
    let mut block: Vec<Item<'a>> = Vec::new();
    let mut used = 0;
    for item in items {
        let needed = DIRENT_SIZE + item.name.len();
        if used + needed > BLOCK as usize {
            encode_block(&block, out)?;
            out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
            block.clear();
            used = 0;
        }
        used += needed;
        block.push(item);
    }
    encode_block(&block, out)
}

fn encode_block(items: &[Item<'_>], out: &mut Vec<u8>) -> Result<(), Error> {
    let mut offset = items.len() * DIRENT_SIZE;
    for item in items {
        let name_offset = u16::try_from(offset).map_err(|_| Error::TooLarge("a directory block"))?;
        out.extend_from_slice(&dirent(item.nid, name_offset, item.mode));
        offset += item.name.len();
    }
    for item in items {
        out.extend_from_slice(item.name);
    }
    Ok(())
}
