//! The link to the virtual machine: ethernet frames on a unix stream socket, each behind its length in four bytes, big-endian,
//! as libkrun and QEMU (`-netdev stream`) write them.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, getsockopt, recv, send, setsockopt, sockopt};

use super::detour;
use super::fragments;
use super::link::{ETHERNET_HEADER, Link, MAX_FRAME, MTU};

/// Bytes in front of each frame.
pub(super) const LENGTH: usize = 4;
/// So many bytes hold the headers of every packet.
const CLEARED: usize = 128;
/// What is read at once.
const READ: usize = 256 << 10;
/// More than this waiting for the machine, and nothing new is taken from anybody.
const HIGH: usize = 1 << 20;
/// What the kernel may keep between both ends; it takes as much of it as it allows.
const KERNEL_BUFFER: usize = 4 << 20;

/// A frame that cannot be: the other end is not a virtual machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the virtual machine sent a frame of {0} bytes")]
pub(super) struct TooLong(pub u32);

/// Frames as they come.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

/// Frames on their way.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Memory that is used again without being cleared; `begin..end` waits.
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
    header: [u8; ETHERNET_HEADER],
    /// The sandbox's address, by which packets get to its loopback.
    guest: Option<Ipv6Addr>,
    /// Frames added so far.
    frames: u64,
    /// Packets that were sent in fragments.
    divided: u32,
}

impl Input {
    /// Room for more bytes.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.begin > 0 {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        // A whole frame fits behind an unfinished one.
        self.bytes.resize(READ.max(LENGTH + MAX_FRAME), 0);
        &mut self.bytes[self.end..]
    }

    /// Counts `length` bytes that were put into the room.
    pub(super) fn filled(&mut self, length: usize) {
        self.end += length;
    }

    /// Where the next whole frame is, if it is there.
    ///
    /// # Errors
    /// [`TooLong`]: nothing more can be read.
    pub(super) fn next_frame(&mut self) -> Result<Option<std::ops::Range<usize>>, TooLong> {
        let Some((length, rest)) = self.bytes[self.begin..self.end].split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        if length as usize > MAX_FRAME {
            return Err(TooLong(length));
        }
        if rest.len() < length as usize {
            return Ok(None);
        }
        let begin = self.begin + LENGTH;
        self.begin = begin + length as usize;
        Ok(Some(begin..self.begin))
    }

    /// The bytes of a frame.
    #[must_use]
    pub(super) fn frame(&self, at: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[at]
    }
}

impl Output {
    /// Frames from the gateway to the machine of `link`.
    #[must_use]
    pub(super) fn new(link: &Link) -> Self {
        let mut header = [0; ETHERNET_HEADER];
        header[..6].copy_from_slice(&link.guest_mac);
        header[6..12].copy_from_slice(&link.gateway_mac);
        Self { header, guest: Some(link.guest_v6), ..Self::default() }
    }

    /// Frames added so far.
    #[must_use]
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether so much waits that nothing at all is to be added, answers of the gateway itself included.
    #[must_use]
    pub(super) fn is_overfull(&self) -> bool {
        self.waiting().len() >= 2 * HIGH
    }

    /// Whether no more should be added before some has gone.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.waiting().len() >= HIGH
    }

    /// What has not gone yet.
    #[must_use]
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }

    /// Adds an IP packet of `length` bytes that `fill` writes. Only [`CLEARED`] of them are zero before.
    pub(super) fn packet<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let (header, guest) = (self.header, self.guest);
        let frame = self.add(ETHERNET_HEADER + length);
        let (ethernet, packet) = frame.split_at_mut(ETHERNET_HEADER);
        packet[..length.min(CLEARED)].fill(0);
        let result = fill(packet);
        ethernet.copy_from_slice(&header);
        let kind =
            if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [0x08, 0x00] };
        ethernet[ETHERNET_HEADER - kind.len()..].copy_from_slice(&kind);
        let detour = guest.filter(|_| detour::is_needed(packet));
        let most = if detour.is_some() { MTU - detour::LENGTH } else { MTU };
        if length > most {
            self.divide(length, most);
        } else if let Some(guest) = detour {
            detour::put(self.lengthen(length), guest);
        }
        result
    }

    /// Replaces the packet of `length` bytes that was added last by fragments of at most `most`.
    fn divide(&mut self, length: usize, most: usize) {
        let whole = self.bytes[self.end - length..self.end].to_vec();
        self.end -= LENGTH + ETHERNET_HEADER + length;
        self.frames -= 1;
        self.divided = self.divided.wrapping_add(1);
        for piece in fragments::pieces(&whole, most, self.divided) {
            self.packet(piece.len(), |bytes| bytes.copy_from_slice(&piece));
        }
    }

    /// Adds [`detour::LENGTH`] bytes to the packet of `length` bytes that was added last.
    fn lengthen(&mut self, length: usize) -> &mut [u8] {
        let start = self.end - length;
        let longer = (ETHERNET_HEADER + length + detour::LENGTH) as u32;
        let front = start - ETHERNET_HEADER - LENGTH;
        self.bytes[front..front + LENGTH].copy_from_slice(&longer.to_be_bytes());
        self.end += detour::LENGTH;
        if self.bytes.len() < self.end {
            self.bytes.resize(self.end.next_power_of_two(), 0);
        }
        &mut self.bytes[start..self.end]
    }

    /// Adds a whole frame.
    pub(super) fn frame(&mut self, bytes: &[u8]) {
        self.add(bytes.len()).copy_from_slice(bytes);
    }

    /// Room for a frame of `length` bytes, behind its length.
    fn add(&mut self, length: usize) -> &mut [u8] {
        self.frames += 1;
        let start = self.end + LENGTH;
        self.end = start + length;
        if self.bytes.len() < self.end {
            self.bytes.resize(self.end.next_power_of_two(), 0);
        }
        self.bytes[start - LENGTH..start].copy_from_slice(&(length as u32).to_be_bytes());
        &mut self.bytes[start..self.end]
    }

    /// Sets the hop limit of the IPv6 packet that was added last, in which `length` bytes follow the header.
    pub(super) fn set_last_hop_limit(&mut self, length: usize, hops: u8) {
        const HEADER: usize = 40;
        const HOP_LIMIT: usize = 7;
        let at = self.end.checked_sub(length + HEADER - HOP_LIMIT);
        if let Some(byte) = at.and_then(|at| self.bytes.get_mut(at)) {
            *byte = hops;
        }
    }

    fn gone(&mut self, length: usize) {
        self.begin += length;
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.begin > HIGH {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
    }

    /// Gives back what a burst took.
    pub(super) fn rest(&mut self) {
        if self.begin == self.end {
            (self.begin, self.end, self.bytes) = (0, 0, Vec::new());
        }
    }
}

/// The socket.
#[derive(Debug)]
pub(super) struct Wire {
    socket: UnixStream,
    /// The machine's end, where this process has made both.
    machine: Option<UnixStream>,
    /// Bytes that the machine had not taken when that was looked at last, and how long it is given to.
    left: usize,
    patience: Duration,
}

/// How long a machine is given to take frames before it is reminded of them: at first, and at most while it takes none.
const PATIENCE: Duration = Duration::from_millis(5);
const LONGEST_PATIENCE: Duration = Duration::from_secs(1);

/// What a look at the socket found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Bytes, and there may be more.
    Some,
    /// All the bytes there were.
    All,
    /// Nothing at the moment.
    Nothing,
    /// The machine has gone.
    End,
}

impl Wire {
    /// Takes over the gateway's end, and another name of the machine's where there is one.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(socket: UnixStream, machine: Option<UnixStream>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, machine, left: 0, patience: PATIENCE })
    }

    /// When to look again whether the machine has taken its frames, now that it has been given some.
    pub(super) fn next_reminder(&self) -> Duration {
        self.patience
    }

    /// Reminds the machine of frames that wait for it; `false` when none do.
    ///
    /// libkrun's device asks the guest to tell of new room only while it handles an event of the guest's, and when the guest has none
    /// left while it handles one of ours, it hears of neither again (`virtio/net/worker.rs` in krun-devices 0.1.0): with both sockets
    /// full nothing moves any more, ever. Whatever makes the kernel look at its socket for room has it look for frames as well.
    pub(super) fn remind(&mut self) -> bool {
        let left = self.unread();
        let takes_some = left < self.left;
        self.patience =
            if takes_some || left == 0 { PATIENCE } else { (self.patience * 2).min(LONGEST_PATIENCE) };
        self.left = left;
        if left > 0
            && let Some(machine) = &self.machine
            && let Ok(size) = getsockopt(machine, sockopt::SndBuf)
        {
            // The size it has, which the kernel tells doubled (socket(7)), and wakes who waits for room.
            let _ = setsockopt(machine, sockopt::SndBuf, &(size / 2));
        }
        left > 0 && self.machine.is_some()
    }

    /// Bytes that the machine has not taken, with what the kernel adds to them.
    fn unread(&self) -> usize {
        let mut unread: libc::c_int = 0;
        // SAFETY: the call writes one number (unix(7)) to a place that is there.
        let answer = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
        if answer == 0 { usize::try_from(unread).unwrap_or(0) } else { 0 }
    }

    /// A pair of sockets: the gateway's end and the machine's, which needs no setting up any more.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let pair = UnixStream::pair()?;
        for end in [&pair.0, &pair.1] {
            setsockopt(end, sockopt::SndBuf, &KERNEL_BUFFER)?;
        }
        Ok(pair)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// The system's, when the connection is lost.
    pub(super) fn read(&self, input: &mut Input) -> io::Result<Found> {
        let room = input.room();
        let most = room.len();
        match recv(self.socket.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(nix::Error::ECONNRESET) => Ok(Found::End),
            Ok(length) => {
                input.filled(length);
                Ok(if length < most { Found::All } else { Found::Some })
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(Found::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes what fits. `false` when something is left.
    ///
    /// # Errors
    /// The system's, when the connection is lost.
    pub(super) fn write(&self, output: &mut Output) -> io::Result<bool> {
        while !output.waiting().is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.socket.as_raw_fd(), output.waiting(), flags) {
                Ok(length) => output.gone(length),
                Err(nix::Error::EAGAIN) => return Ok(false),
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
