//! The contents of files, from the stream to the blob.

use std::io::Read;

use msb_guest::archive::{Entry, Headers};

use super::Error;
use crate::image::erofs::{BLOCK, Chunk, Content, MAX_CHUNK_BITS, NULL_BLOCK, Output, PAGE, StageError};

/// A run of zeros of this length, at a multiple of it, becomes a hole. Less would make tables of chunks of files that
/// are only a little empty.
const GRANULE: u64 = 64 << 10;
/// Files this large are looked at in larger steps, to keep the tables small.
const LARGE: u64 = 64 << 30;
const LARGE_GRANULE: u64 = 512 << 10;

/// Where the granules of a file went. As long as there is no hole, the first block says it all.
struct Granules<'a> {
    chunks: &'a mut Vec<Chunk>,
    /// Where this file's chunks start.
    from: usize,
    first: u32,
    /// Blocks in a granule.
    blocks: u32,
    count: u32,
    holes: bool,
}

impl Granules<'_> {
    fn data(&mut self, block: u32) {
        if self.holes {
            self.chunks.push(Chunk { device: 0, block });
        }
        self.count += 1;
    }

    fn hole(&mut self) {
        if !self.holes {
            let (first, blocks) = (self.first, self.blocks);
            self.chunks
                .extend((0..self.count).map(|index| Chunk { device: 0, block: first + index * blocks }));
            self.holes = true;
        }
        self.chunks.push(Chunk { device: 0, block: NULL_BLOCK });
        self.count += 1;
    }

    fn content(self) -> Content {
        if !self.holes {
            return Content::Data { device: 0, block: self.first };
        }
        let bits = coarsen(self.chunks, self.from, self.blocks.trailing_zeros() as u8);
        Content::Chunks { first: self.from as u32, count: (self.chunks.len() - self.from) as u32, bits }
    }
}

/// Joins chunks in pairs as long as every pair is one hole or in a row. Returns log2 of the blocks in a chunk.
fn coarsen(chunks: &mut Vec<Chunk>, from: usize, mut bits: u8) -> u8 {
    let joins = |pair: &[Chunk], bits: u8| match pair {
        [a, b] if a.block == NULL_BLOCK || b.block == NULL_BLOCK => a.block == b.block,
        [a, b] => a.block.checked_add(1 << bits) == Some(b.block),
        _ => true,
    };
    while chunks.len() - from > 1
        && bits < MAX_CHUNK_BITS
        && chunks[from..].chunks(2).all(|pair| joins(pair, bits))
    {
        let half = (chunks.len() - from).div_ceil(2);
        for index in 0..half {
            chunks[from + index] = chunks[from + 2 * index];
        }
        chunks.truncate(from + half);
        bits += 1;
    }
    bits
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| word.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

/// Copies a file's content into the blob. Entries for `chunks` are made for a file with holes only.
pub(super) fn store<R: Read>(
    headers: &mut Headers<R>,
    entry: &Entry,
    out: &mut Output<'_>,
    chunks: &mut Vec<Chunk>,
) -> Result<Content, Error> {
    let size = entry.size();
    if size == 0 {
        return Ok(Content::Empty);
    }
    out.align(if size < GRANULE { BLOCK } else { PAGE })?;
    let granule = if size < LARGE { GRANULE } else { LARGE_GRANULE };
    let blocks = (granule / BLOCK) as u32;
    let from = chunks.len();
    let mut granules = Granules { chunks, from, first: out.block()?, blocks, count: 0, holes: false };
    let mut body = headers.body(entry);
    while body.position() < size {
        for _ in 0..body.skip_holes(granule) {
            granules.hole();
        }
        let wanted = size - body.position();
        let staged = match out.stage(&mut body, wanted, granule as usize) {
            Ok(staged) => staged,
            Err(StageError::Read(source)) => return Err(body.failed(source).into()),
            Err(StageError::Write(error)) => return Err(error.into()),
        };
        let whole = staged as u64 == wanted || staged > 0 && (staged as u64).is_multiple_of(granule);
        if !whole {
            return Err(body.truncated().into());
        }
        place(staged, granule as usize, out, &mut granules)?;
    }
    out.align(BLOCK)?;
    Ok(granules.content())
}

/// Keeps the staged granules that are not all zeros.
fn place(
    staged: usize,
    granule: usize,
    out: &mut Output<'_>,
    granules: &mut Granules<'_>,
) -> Result<(), Error> {
    let mut dropped = 0;
    for start in (0..staged).step_by(granule) {
        let length = granule.min(staged - start);
        if is_zero(out.staged(dropped, length)) {
            granules.hole();
            dropped += length;
        } else {
            granules.data(out.block()?);
            out.keep(dropped, length);
        }
    }
    Ok(())
}
