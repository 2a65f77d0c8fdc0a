//! The content of a file as its reader sees it.

use std::io::{self, Read};

use super::header::{Entry, Headers};
use super::input::Input;
use super::sparse::Map;
use super::{Error, shown};

/// The content of an entry: pieces from the stream, zeros between them.
#[derive(Debug)]
pub struct Body<'a, R> {
    input: &'a mut Input<R>,
    entry: &'a Entry,
    map: Option<&'a Map>,
    /// The next piece of the map.
    piece: usize,
    position: u64,
}

impl<R: Read> Headers<R> {
    /// The content of `entry`, which [`next`](Headers::next) has just given. It must be read to its end before the next entry
    /// is asked for, which [`Body::read`] does not see to: read [`Entry::size`] bytes.
    pub fn body<'a>(&'a mut self, entry: &'a Entry) -> Body<'a, R> {
        Body { input: &mut self.input, entry, map: entry.sparse.as_ref(), piece: 0, position: 0 }
    }
}

impl<R: Read> Body<'_, R> {
    /// Bytes of the content that were read or skipped.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Zeros ahead that are not in the stream, or `None` if it is the stream's turn, with the bytes of the piece left.
    fn ahead(&mut self) -> Result<u64, u64> {
        let Some(map) = self.map else { return Err(self.entry.stored - self.position) };
        while let Some(piece) = map.pieces.get(self.piece) {
            if self.position < piece.offset {
                return Ok(piece.offset - self.position);
            }
            if self.position < piece.offset + piece.length {
                return Err(piece.offset + piece.length - self.position);
            }
            self.piece += 1;
        }
        Ok(map.size - self.position)
    }

    /// Steps over whole granules of a hole and says how many.
    pub fn skip_holes(&mut self, granule: u64) -> u64 {
        let granules = self.ahead().unwrap_or(0) / granule;
        self.position += granules * granule;
        granules
    }

    /// The error for a read that failed.
    #[must_use]
    pub fn failed(&self, source: io::Error) -> Error {
        self.input.failed(source)
    }

    /// The error for a content that ended too early.
    #[must_use]
    pub fn truncated(&self) -> Error {
        let what = format!("the file \"{}\"", shown(&self.entry.path));
        Error::Truncated { offset: self.input.offset(), what }
    }
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let ahead = self.ahead();
        let available = match ahead {
            Ok(n) | Err(n) => usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len()),
        };
        let n = match ahead {
            Ok(_) => {
                bytes[..available].fill(0);
                available
            }
            Err(_) => self.input.read(&mut bytes[..available])?,
        };
        self.position += n as u64;
        Ok(n)
    }
}
