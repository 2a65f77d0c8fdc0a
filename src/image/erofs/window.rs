//! Reading a file in windows, keeping the last few: metadata is read nearly in order, many small pieces at a time.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Error;

const WINDOW: u64 = 128 << 10;
const SLOTS: u64 = 32;

/// A file read through a small cache of at most 4 MiB.
#[derive(Debug)]
pub(super) struct Windows {
    file: File,
    length: u64,
    /// Window number and bytes, one place per window number modulo [`SLOTS`].
    slots: RefCell<Vec<(u64, Vec<u8>)>>,
}

impl Windows {
    pub(super) fn new(file: File) -> Result<Self, Error> {
        let length = file.metadata().map_err(Error::Read)?.len();
        Ok(Self { file, length, slots: RefCell::new(vec![(u64::MAX, Vec::new()); SLOTS as usize]) })
    }

    /// Bytes of the file when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Fills `bytes` from `offset` on.
    pub(super) fn read(&self, mut offset: u64, mut bytes: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(Error::Corrupt { what: "something lies beyond the end of the file", place: offset });
        }
        while !bytes.is_empty() {
            let (number, at) = (offset / WINDOW, (offset % WINDOW) as usize);
            let n = bytes.len().min(WINDOW as usize - at);
            let mut slots = self.slots.borrow_mut();
            let slot = &mut slots[(number % SLOTS) as usize];
            if slot.0 != number {
                self.load(number, slot)?;
            }
            let from =
                slot.1.get(at..at + n).ok_or_else(|| Error::Read(io::ErrorKind::UnexpectedEof.into()))?;
            bytes[..n].copy_from_slice(from);
            bytes = &mut bytes[n..];
            offset += n as u64;
        }
        Ok(())
    }

    fn load(&self, number: u64, slot: &mut (u64, Vec<u8>)) -> Result<(), Error> {
        let start = number * WINDOW;
        slot.0 = u64::MAX;
        slot.1.resize(WINDOW.min(self.length - start) as usize, 0);
        self.file.read_exact_at(&mut slot.1, start).map_err(Error::Read)?;
        slot.0 = number;
        Ok(())
    }

    /// Fills `bytes` from `offset` on without keeping a window: for file contents.
    pub(super) fn read_through(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.file.read_exact_at(bytes, offset).map_err(Error::Read)
    }
}
