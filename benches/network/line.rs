//! Frames of a link as bytes of a socket.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

/// Bytes in front of each frame.
pub(crate) const LENGTH: usize = 4;
/// What is read at once.
const READ: usize = 512 << 10;

/// How frames are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By four bytes in front of each.
    Lengths,
    /// By the socket.
    Packets,
}

impl Framing {
    /// What a frame has room for behind the headers of IP and TCP. With packets less: libslirp tells of room for two of the largest
    /// segments (`tcp_output.c`), and in the window it offers, 64 KiB, there is never room for two of those that fit.
    pub(crate) fn largest_segment(self) -> u16 {
        match self {
            Self::Lengths => 65_480,
            Self::Packets => 16_384,
        }
    }
}

/// A machine's end of a link. Frames have their lengths in front of them here, whatever the framing.
pub(crate) struct Line {
    socket: OwnedFd,
    pub(crate) framing: Framing,
    /// What waits to be sent, of which `sent` bytes have been.
    pub(crate) output: Vec<u8>,
    sent: usize,
}

/// Frames that have come.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Input {
    /// Where the next whole frame is.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let (length, rest) = self.bytes[self.begin..self.end].split_first_chunk::<LENGTH>()?;
        let frame = rest.get(..u32::from_be_bytes(*length) as usize)?;
        self.begin += LENGTH + frame.len();
        Some(frame)
    }
}

impl Line {
    pub(crate) fn new(socket: OwnedFd, framing: Framing) -> Self {
        Self { socket, framing, output: Vec::new(), sent: 0 }
    }

    /// Waits until one of these is possible. Whether one is.
    pub(crate) fn poll(&self, flags: PollFlags, limit: PollTimeout) -> bool {
        poll(&mut [PollFd::new(self.socket.as_fd(), flags)], limit).expect("a socket") > 0
    }

    /// Sends what fits. Whether that was everything.
    pub(crate) fn send(&mut self) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        while self.sent < self.output.len() {
            let rest = &self.output[self.sent..];
            let length = u32::from_be_bytes(rest[..LENGTH].try_into().expect("four bytes"));
            let whole = LENGTH + length as usize;
            let next = if self.framing == Framing::Packets { &rest[LENGTH..whole] } else { rest };
            match send(self.socket.as_raw_fd(), next, flags) {
                Ok(_) if self.framing == Framing::Packets => self.sent += whole,
                Ok(length) => self.sent += length,
                Err(nix::Error::EAGAIN) => return false,
                Err(errno) => panic!("the link is lost: {errno}"),
            }
        }
        self.output.clear();
        self.sent = 0;
        true
    }

    /// Reads what has come. Whether anything has.
    pub(crate) fn receive(&self, input: &mut Input) -> bool {
        input.bytes.resize(READ, 0);
        input.bytes.copy_within(input.begin..input.end, 0);
        (input.begin, input.end) = (0, input.end - input.begin);
        let room = &mut input.bytes[input.end..];
        let length = match self.framing {
            Framing::Lengths => recv(self.socket.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT),
            Framing::Packets => recv(self.socket.as_raw_fd(), &mut room[LENGTH..], MsgFlags::MSG_DONTWAIT)
                .map(|length| {
                    room[..LENGTH].copy_from_slice(&(length as u32).to_be_bytes());
                    length + LENGTH
                }),
        };
        match length {
            Ok(0) => panic!("the link is closed"),
            Ok(length) => input.end += length,
            Err(nix::Error::EAGAIN) => return false,
            Err(errno) => panic!("the link is lost: {errno}"),
        }
        true
    }
}
