//! Frames: header, incremental decoder with limits, encoder. The layout is in the [crate documentation](crate).

use serde::Serialize;

/// Length of a frame header in bytes.
pub const HEADER_LEN: usize = 12;
/// Most payload bytes of a DATA frame.
pub const MAX_DATA: usize = 1 << 20;
/// Most payload bytes of BOOT and EXEC, which carry scripts, arguments and environments.
pub const MAX_DOCUMENT: usize = 8 << 20;
/// Most payload bytes of every other frame.
pub const MAX_CONTROL: usize = 64 << 10;

/// Channel of a process's standard input.
pub const STDIN: u8 = 0;
/// Channel of a process's standard output, or of its terminal.
pub const STDOUT: u8 = 1;
/// Channel of a process's standard error.
pub const STDERR: u8 = 2;
/// Stands for all channels of a stream in CLOSE.
pub const ALL_CHANNELS: u8 = 255;

/// The stream of the machine itself.
pub const MACHINE: u32 = 0;
/// The stream of the process named in the boot document.
pub const MAIN_STREAM: u32 = 1;

/// What a frame says; see the table in the [crate documentation](crate).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// The boot document.
    Boot = 0x01,
    /// Start a process.
    Exec = 0x02,
    /// Signal a process.
    Signal = 0x03,
    /// Resize a terminal.
    Resize = 0x04,
    /// Stop everything and power off.
    Shutdown = 0x05,
    /// The host's clock.
    Clock = 0x06,
    /// Bytes of a channel.
    Data = 0x20,
    /// End of a channel, said by its sender.
    Eof = 0x21,
    /// Permission to send more bytes on a channel.
    Credit = 0x22,
    /// End of a channel, said by its receiver.
    Close = 0x23,
    /// The guest is up.
    Ready = 0x40,
    /// The guest cannot come up.
    BootFailed = 0x41,
    /// A process runs.
    Started = 0x42,
    /// A process ended.
    Exited = 0x43,
    /// A process could not be started.
    Failed = 0x44,
}

/// One end of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The end outside of the VM.
    Host,
    /// The end inside of the VM.
    Guest,
}

impl Kind {
    /// The kind with this number, if this version of the protocol has it.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            0x01 => Kind::Boot,
            0x02 => Kind::Exec,
            0x03 => Kind::Signal,
            0x04 => Kind::Resize,
            0x05 => Kind::Shutdown,
            0x06 => Kind::Clock,
            0x20 => Kind::Data,
            0x21 => Kind::Eof,
            0x22 => Kind::Credit,
            0x23 => Kind::Close,
            0x40 => Kind::Ready,
            0x41 => Kind::BootFailed,
            0x42 => Kind::Started,
            0x43 => Kind::Exited,
            0x44 => Kind::Failed,
            _ => return None,
        })
    }

    /// The side that sends frames of this kind, `None` when both do.
    #[must_use]
    pub fn sender(self) -> Option<Side> {
        match self {
            Kind::Data | Kind::Eof | Kind::Credit | Kind::Close => None,
            Kind::Boot | Kind::Exec | Kind::Signal | Kind::Resize | Kind::Shutdown | Kind::Clock => {
                Some(Side::Host)
            }
            Kind::Ready | Kind::BootFailed | Kind::Started | Kind::Exited | Kind::Failed => Some(Side::Guest),
        }
    }

    /// Most payload bytes of a frame of this kind.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Kind::Data => MAX_DATA,
            Kind::Boot | Kind::Exec => MAX_DOCUMENT,
            _ => MAX_CONTROL,
        }
    }
}

/// A peer broke the framing rules; the connection cannot be used any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// The payload is longer than its kind allows.
    #[error("frame of kind {kind:#04x} announces {len} bytes, more than the {limit} allowed")]
    Oversized {
        /// Kind byte of the header.
        kind: u8,
        /// Announced payload length.
        len: usize,
        /// Allowed payload length.
        limit: usize,
    },
    /// The reserved bits of a header are set.
    #[error("frame of kind {kind:#04x} has reserved bits set")]
    Reserved {
        /// Kind byte of the header.
        kind: u8,
    },
    /// The frame is of a kind that only this side sends.
    #[error("frame of kind {kind:?} came from the wrong side")]
    WrongDirection {
        /// The kind.
        kind: Kind,
    },
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Kind byte, maybe unknown to this version.
    pub kind: u8,
    /// Channel within the stream.
    pub channel: u8,
    /// Stream number.
    pub stream: u32,
    /// Payload length in bytes.
    pub len: u32,
}

impl Header {
    /// The bytes of the header as they go over the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5] = self.channel;
        bytes[8..12].copy_from_slice(&self.stream.to_le_bytes());
        bytes
    }

    /// Reads a header that `receiver` got.
    ///
    /// # Errors
    /// [`WireError`] when the header breaks a rule of the protocol.
    pub fn parse(bytes: &[u8; HEADER_LEN], receiver: Side) -> Result<Header, WireError> {
        let [l0, l1, l2, l3, kind, channel, r0, r1, s0, s1, s2, s3] = *bytes;
        let header = Header {
            kind,
            channel,
            stream: u32::from_le_bytes([s0, s1, s2, s3]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
        };
        if (r0, r1) != (0, 0) {
            return Err(WireError::Reserved { kind });
        }
        let known = Kind::from_byte(kind);
        if let Some(kind) = known
            && kind.sender() == Some(receiver)
        {
            return Err(WireError::WrongDirection { kind });
        }
        let limit = known.map_or(MAX_CONTROL, Kind::limit);
        let len = header.len as usize;
        if len > limit {
            return Err(WireError::Oversized { kind, len, limit });
        }
        Ok(header)
    }
}

/// A whole frame of a known kind, borrowed from the [`Decoder`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// What it says.
    pub kind: Kind,
    /// Channel within the stream.
    pub channel: u8,
    /// Stream number.
    pub stream: u32,
    /// The bytes after the header.
    pub payload: &'a [u8],
}

/// Cuts a byte stream into frames.
///
/// Read into [`space`](Decoder::space), tell how much came with [`filled`](Decoder::filled), then take frames with
/// [`next_frame`](Decoder::next_frame) until there is none. The buffer grows only as far as the frame under way needs
/// and only as its bytes arrive, never beyond the largest frame that this side may receive, and shrinks back afterwards.
#[derive(Debug)]
pub struct Decoder {
    receiver: Side,
    capacity: usize,
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Decoder {
    /// A decoder for what `receiver` gets, which normally reads up to `capacity` bytes at a time.
    #[must_use]
    pub fn new(receiver: Side, capacity: usize) -> Decoder {
        let capacity = capacity.max(HEADER_LEN);
        Decoder { receiver, capacity, buf: vec![0; capacity], start: 0, end: 0 }
    }

    /// Where the next bytes belong. Never empty as long as [`next_frame`](Decoder::next_frame) was called until it gave
    /// `None` since the last bytes came.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buf.len() > self.capacity {
                self.buf.truncate(self.capacity);
                self.buf.shrink_to_fit();
            }
        } else if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buf.len() {
            let wanted = self.frame_len().unwrap_or(self.capacity);
            let grown = wanted.min(self.buf.len().saturating_mul(2)).max(self.buf.len());
            self.buf.reserve_exact(grown - self.buf.len());
            self.buf.resize(grown, 0);
        }
        &mut self.buf[self.end..]
    }

    /// Says that `count` bytes were put into [`space`](Decoder::space).
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buf.len());
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.buf.capacity()
    }

    /// Whole length of the frame at the front, if its header is there and valid.
    fn frame_len(&self) -> Option<usize> {
        let header = self.buf[self.start..self.end].first_chunk::<HEADER_LEN>()?;
        let header = Header::parse(header, self.receiver).ok()?;
        Some(HEADER_LEN + header.len as usize)
    }

    /// The next whole frame, `None` when more bytes are needed. Frames of unknown kinds are skipped.
    ///
    /// # Errors
    /// [`WireError`] when the peer breaks the framing; the decoder is of no use afterwards.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, WireError> {
        loop {
            let have = &self.buf[self.start..self.end];
            let Some(header) = have.first_chunk::<HEADER_LEN>() else { return Ok(None) };
            let header = Header::parse(header, self.receiver)?;
            let total = HEADER_LEN + header.len as usize;
            if have.len() < total {
                return Ok(None);
            }
            let payload = self.start + HEADER_LEN..self.start + total;
            self.start += total;
            if let Some(kind) = Kind::from_byte(header.kind) {
                let payload = &self.buf[payload];
                return Ok(Some(Frame { kind, channel: header.channel, stream: header.stream, payload }));
            }
        }
    }
}

/// Appends a frame to `out`. The payload must be within the limit of its kind, or the receiver refuses it.
pub fn put_frame(out: &mut Vec<u8>, kind: Kind, address: (u32, u8), payload: &[u8]) {
    debug_assert!(payload.len() <= kind.limit(), "payload of {kind:?} too long");
    let (stream, channel) = address;
    let header = Header { kind: kind as u8, channel, stream, len: payload.len() as u32 };
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(payload);
}

/// A message does not fit into a frame.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The JSON text is longer than the kind allows.
    #[error("{kind:?} message of {len} bytes is longer than the {limit} allowed")]
    TooLong {
        /// Kind of the message.
        kind: Kind,
        /// Length of its JSON text.
        len: usize,
        /// Allowed length.
        limit: usize,
    },
    /// The message has no JSON form.
    #[error("{kind:?} message has no JSON form: {source}")]
    Json {
        /// Kind of the message.
        kind: Kind,
        /// What serde says.
        source: serde_json::Error,
    },
}

/// Appends a frame whose payload is `message` as JSON.
///
/// # Errors
/// [`EncodeError`] when it is too long for its kind; `out` is then as before.
pub fn put_json<T: Serialize>(
    out: &mut Vec<u8>,
    kind: Kind,
    stream: u32,
    message: &T,
) -> Result<(), EncodeError> {
    let before = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    let written = serde_json::to_writer(&mut *out, message);
    let (len, limit) = (out.len() - before - HEADER_LEN, kind.limit());
    let error = match written {
        Ok(()) if len <= limit => {
            let header = Header { kind: kind as u8, channel: 0, stream, len: len as u32 };
            out[before..before + HEADER_LEN].copy_from_slice(&header.to_bytes());
            return Ok(());
        }
        Ok(()) => EncodeError::TooLong { kind, len, limit },
        Err(source) => EncodeError::Json { kind, source },
    };
    out.truncate(before);
    Err(error)
}
