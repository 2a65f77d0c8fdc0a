//! Buffered writing of an image file, front to back, its head last.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::Error;
use super::format::{BLOCK, HEAD};

/// Bytes collected before they are written: few system calls, and still in the processor's cache when written.
const BUFFER: usize = 1 << 20;

/// An image file being written. Everything is appended; the head is left out and written by [`Output::finish`], so that a
/// file that was cut short is never taken for an image.
pub(crate) struct Output<'a> {
    file: &'a mut File,
    buffer: Box<[u8]>,
    filled: usize,
    /// Offset in the file of the buffer's first byte.
    start: u64,
}

impl<'a> Output<'a> {
    /// Starts an image in `file`, whose former content is dropped; the next byte goes to `offset`.
    pub(crate) fn new(file: &'a mut File, offset: u64) -> Result<Self, Error> {
        file.set_len(0).map_err(Error::Write)?;
        Ok(Self { file, buffer: vec![0; BUFFER].into_boxed_slice(), filled: 0, start: offset })
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.filled as u64
    }

    /// The number of the block that the next byte starts or lies in.
    pub(crate) fn block(&self) -> Result<u32, Error> {
        let block = self.position() / BLOCK;
        u32::try_from(block)
            .ok()
            .filter(|&block| block < u32::MAX)
            .ok_or(Error::TooLarge("more than 2^32 blocks"))
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.filled == BUFFER {
                self.flush()?;
            }
            let n = bytes.len().min(BUFFER - self.filled);
            self.buffer[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
            self.filled += n;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Appends zeros.
    pub(crate) fn zeros(&mut self, mut count: u64) -> Result<(), Error> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        while count > 0 {
            let n = count.min(BLOCK);
            self.write(&ZEROS[..n as usize])?;
            count -= n;
        }
        Ok(())
    }

    /// Appends zeros up to the next multiple of `align`.
    pub(crate) fn align(&mut self, align: u64) -> Result<(), Error> {
        self.zeros(self.position().next_multiple_of(align) - self.position())
    }

    /// Reads up to `limit` bytes from `reader` straight into the buffer, at least `granule` of them unless `limit` is
    /// less, always a multiple of it unless it is all of `limit`. `granule` is at most half the buffer. They are not part
    /// of the image until kept. Returns how many bytes there are, fewer only when the reader ended.
    pub(crate) fn stage(
        &mut self,
        reader: &mut impl Read,
        limit: u64,
        granule: usize,
    ) -> Result<usize, StageError> {
        if BUFFER - self.filled < granule {
            self.flush().map_err(StageError::Write)?;
        }
        let room = (BUFFER - self.filled) / granule * granule;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX).min(room);
        let space = &mut self.buffer[self.filled..self.filled + wanted];
        let mut read = 0;
        while read < wanted {
            match reader.read(&mut space[read..]) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StageError::Read(error)),
            }
        }
        Ok(read)
    }

    /// The staged bytes from `at` on, `length` of them.
    pub(crate) fn staged(&self, at: usize, length: usize) -> &[u8] {
        &self.buffer[self.filled + at..self.filled + at + length]
    }

    /// Appends staged bytes from `at` on, `length` of them. What is staged behind them stays staged: `at` counts from
    /// the new end of the image then, as returned.
    pub(crate) fn keep(&mut self, at: usize, length: usize) {
        if at > 0 {
            let from = self.filled + at;
            self.buffer.copy_within(from..from + length, self.filled);
        }
        self.filled += length;
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.file.write_all_at(&self.buffer[..self.filled], self.start).map_err(Error::Write)?;
        self.start += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    /// Ends the image with its head and what follows it, up to the first byte that was appended.
    pub(crate) fn finish(mut self, head: &[u8; HEAD], rest: &[u8]) -> Result<(), Error> {
        self.flush()?;
        self.file.write_all_at(rest, HEAD as u64).map_err(Error::Write)?;
        self.file.write_all_at(head, 0).map_err(Error::Write)
    }
}

/// Which side of [`Output::stage`] failed.
#[derive(Debug)]
pub(crate) enum StageError {
    /// The reader.
    Read(io::Error),
    /// The image file.
    Write(Error),
}
