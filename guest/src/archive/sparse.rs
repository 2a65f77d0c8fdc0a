//! Sparse files of GNU tar: the archive holds the pieces of a file between its holes.

use super::numbers;

/// Pieces a sparse file may have: a header of 1 MiB holds fewer, GNU's chained headers are stopped here.
pub(super) const MAX_PIECES: usize = 1 << 20;

/// A piece of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// A sparse file: its whole size and its pieces, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Bytes of the file, holes included.
    pub size: u64,
    /// What is not a hole.
    pub pieces: Vec<Piece>,
}

impl Map {
    /// A map whose pieces follow each other within the file and are `stored` bytes in all.
    pub(super) fn checked(size: u64, pieces: Vec<Piece>, stored: u64) -> Result<Self, &'static str> {
        let mut end = 0;
        let mut sum = 0;
        for piece in &pieces {
            if piece.offset < end {
                return Err("pieces of a sparse file overlap");
            }
            end = piece.offset.checked_add(piece.length).ok_or("a piece of a sparse file is too long")?;
            sum += piece.length;
        }
        if end > size {
            return Err("a piece of a sparse file lies beyond its end");
        }
        if sum != stored {
            return Err("the pieces of a sparse file are not what the archive holds");
        }
        Ok(Self { size, pieces })
    }
}

/// What pax headers say about a sparse file (versions 0.0, 0.1 and 1.0).
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Version 1.0: the map stands before the content.
    pub(super) in_content: bool,
    pub(super) pieces: Option<Vec<Piece>>,
    offset: u64,
}

impl PaxSparse {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || numbers::decimal(value).ok_or("a number of a sparse file that is none");
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"major" => match value {
                b"1" => self.in_content = true,
                b"0" => {}
                _ => return Err("an unknown format of sparse files"),
            },
            b"offset" => self.offset = number()?,
            b"numbytes" => {
                let piece = Piece { offset: self.offset, length: number()? };
                self.pieces.get_or_insert_default().push(piece);
            }
            b"map" => {
                let numbers: Option<Vec<u64>> = match value {
                    b"" => Some(Vec::new()),
                    _ => value.split(|&byte| byte == b',').map(numbers::decimal).collect(),
                };
                let numbers = numbers.ok_or("a number of a sparse file that is none")?;
                if numbers.len() % 2 != 0 {
                    return Err("half a piece of a sparse file");
                }
                let pair = |pair: &[u64]| Piece { offset: pair[0], length: pair[1] };
                self.pieces = Some(numbers.chunks_exact(2).map(pair).collect());
            }
            _ => {}
        }
        Ok(())
    }
}

/// The map before the content of a version 1.0 file, read number by number: decimal, one per line, the count of pieces
/// first.
#[derive(Debug, Default)]
pub(super) struct MapParser {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl MapParser {
    /// Takes a record of the map; the pieces when it was the last one.
    pub(super) fn add(&mut self, record: &[u8]) -> Result<Option<Vec<Piece>>, &'static str> {
        for &byte in record {
            if byte != b'\n' {
                self.digits.push(byte);
                if self.digits.len() > 20 {
                    return Err("a number of a sparse file that is none");
                }
                continue;
            }
            let number = numbers::decimal(&self.digits).ok_or("a number of a sparse file that is none")?;
            self.digits.clear();
            self.numbers.push(number);
            if self.numbers[0] > MAX_PIECES as u64 {
                return Err("too many pieces of a sparse file");
            }
            if self.numbers.len() as u64 == 1 + 2 * self.numbers[0] {
                let pair = |pair: &[u64]| Piece { offset: pair[0], length: pair[1] };
                return Ok(Some(self.numbers[1..].chunks_exact(2).map(pair).collect()));
            }
        }
        Ok(None)
    }
}
