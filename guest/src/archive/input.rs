//! The tar stream, counted.

use std::io::{BufReader, ErrorKind, Read};

use super::Error;

/// Large enough that headers and small files of a fast stream come in few reads.
const BUFFER: usize = 128 << 10;

/// Bytes of a tar record.
pub(super) const RECORD: usize = 512;

/// A stream that knows how far it was read and how far it may be.
#[derive(Debug)]
pub struct Input<R> {
    stream: BufReader<R>,
    read: u64,
    limit: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(stream: R, limit: u64) -> Self {
        Self { stream: BufReader::with_capacity(BUFFER, stream), read: 0, limit }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.read
    }

    /// Fills `bytes`, or less of it at the end of the stream, and says how many.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read_some(&mut bytes[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    fn read_some(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.read(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
                Ok(n) => return Ok(n),
            }
        }
    }

    /// The error for a read that failed.
    pub(super) fn failed(&self, source: std::io::Error) -> Error {
        if source.kind() == ErrorKind::QuotaExceeded {
            return Error::Limit {
                entry: String::from("(the whole archive)"),
                what: "bytes",
                limit: self.limit,
            };
        }
        Error::Read { offset: self.read, source }
    }

    /// Reads `count` bytes and forgets them; `what` they belong to is named if there are fewer.
    pub(super) fn skip(&mut self, mut count: u64, what: &dyn Fn() -> String) -> Result<(), Error> {
        let mut scratch = [0; 8192];
        while count > 0 {
            let n = count.min(scratch.len() as u64) as usize;
            match self.read_some(&mut scratch[..n])? {
                0 => return Err(Error::Truncated { offset: self.read, what: what() }),
                n => count -= n as u64,
            }
        }
        Ok(())
    }

    /// Reads and forgets all that is left.
    pub(super) fn drain(&mut self) -> Result<u64, Error> {
        let mut scratch = vec![0; BUFFER];
        while self.read_some(&mut scratch)? > 0 {}
        Ok(self.read)
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let n = self.stream.read(bytes)?;
        self.read += n as u64;
        if self.read > self.limit {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        Ok(n)
    }
}
