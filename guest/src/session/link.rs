//! The guest's end of the connection: a non-blocking byte stream, a decoder before it and an outbox behind it.

use super::SessionError;
use crate::wire::{Decoder, HEADER_LEN, Header, Kind, Side, put_frame, put_json};
use serde::Serialize;
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes asked of the port at a time: all that its 32 buffers hold.
const READ_CHUNK: usize = 128 * 1024;
/// A virtio-console port hands out at most one of its 4 KiB buffers per `read`, but goes on to the next for each part
/// of a `readv`.
const PORT_BUFFER: usize = 4096;
/// No more output is collected from processes while so much waits to be sent.
const OUTBOX_FULL: usize = 128 * 1024;
/// Most output bytes in one frame.
const DATA_CHUNK: usize = 128 * 1024;

/// What reading from the host gave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    /// Bytes are in the decoder.
    Bytes,
    /// Nothing yet.
    Nothing,
    /// The host never connected so far.
    NotConnected,
    /// The host was there and is gone.
    Gone,
}

/// The connection to the host. Holds at most `OUTBOX_FULL` + `DATA_CHUNK` bytes of process output and the control
/// frames beside them.
#[derive(Debug)]
pub struct Link {
    port: File,
    /// Frames as they come in.
    pub decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    connected: bool,
}

impl Link {
    /// Wraps the agent port or a socket, which must be non-blocking.
    #[must_use]
    pub fn new(port: OwnedFd) -> Link {
        let decoder = Decoder::new(Side::Guest, READ_CHUNK);
        Link { port: File::from(port), decoder, out: Vec::new(), sent: 0, connected: false }
    }

    /// Reads what the host sent, one `readv`.
    ///
    /// # Errors
    /// The error of `readv(2)`, except those that mean "nothing yet".
    pub fn receive(&mut self) -> io::Result<Heard> {
        let space = self.decoder.space();
        let mut parts: Vec<IoSliceMut<'_>> = space.chunks_mut(PORT_BUFFER).map(IoSliceMut::new).collect();
        match self.port.read_vectored(&mut parts) {
            Ok(0) if self.connected => Ok(Heard::Gone),
            Ok(0) => Ok(Heard::NotConnected),
            Ok(count) => {
                self.connected = true;
                self.decoder.filled(count);
                Ok(Heard::Bytes)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Heard::Nothing)
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(Heard::Gone),
            Err(e) => Err(e),
        }
    }

    /// Writes as much of the outbox as the port takes. `false` when the host is gone.
    ///
    /// # Errors
    /// The error of `write(2)`, except those that mean "later" or "gone".
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.out.len() {
            match self.port.write(&self.out[self.sent..]) {
                Ok(0) => break,
                Ok(count) => self.sent += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    return Ok(false);
                }
                Err(e) => return Err(e),
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        Ok(true)
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Whether output of processes may be added.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.pending() < OUTBOX_FULL
    }

    /// Queues a frame.
    pub fn put(&mut self, kind: Kind, stream: u32, channel: u8, payload: &[u8]) {
        put_frame(&mut self.out, kind, (stream, channel), payload);
    }

    /// Queues a frame with a JSON payload.
    ///
    /// # Errors
    /// [`SessionError::Encode`], which does not happen for the guest's own bounded messages.
    pub fn put_message<T: Serialize>(
        &mut self,
        kind: Kind,
        stream: u32,
        message: &T,
    ) -> Result<(), SessionError> {
        Ok(put_json(&mut self.out, kind, stream, message)?)
    }

    /// Reads once from `source`, up to `limit` bytes, and queues what came as a DATA frame. The bytes are read to their
    /// place behind the header, so they are not copied here.
    ///
    /// # Errors
    /// The error of `read(2)`; nothing is queued then, nor at end of file (0).
    pub fn put_data_from(
        &mut self,
        source: BorrowedFd<'_>,
        address: (u32, u8),
        limit: usize,
    ) -> io::Result<usize> {
        if self.sent > 0 {
            // Keep the buffer from creeping: what was sent goes before more is added.
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        let limit = limit.min(DATA_CHUNK);
        let start = self.out.len();
        self.out.resize(start + HEADER_LEN, 0);
        let result = read_spare(&mut self.out, source, limit);
        match result {
            Ok(count) if count > 0 => {
                let (stream, channel) = address;
                let header = Header { kind: Kind::Data as u8, channel, stream, len: count as u32 };
                self.out[start..start + HEADER_LEN].copy_from_slice(&header.to_bytes());
            }
            _ => self.out.truncate(start),
        }
        result
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.as_fd()
    }
}

/// One `read(2)` of up to `limit` bytes onto the end of `out`, without clearing the room for them first.
fn read_spare(out: &mut Vec<u8>, source: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
    use std::os::fd::AsRawFd;
    out.reserve(limit);
    let spare = out.spare_capacity_mut();
    let room = limit.min(spare.len());
    // SAFETY: `spare` is writable memory of at least `room` bytes, and the kernel writes no more than `room`.
    let count = unsafe { libc::read(source.as_raw_fd(), spare.as_mut_ptr().cast(), room) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel initialised `count` bytes behind the old length, and `count <= room <= capacity - len`.
    unsafe { out.set_len(out.len() + count) };
    Ok(count)
}
