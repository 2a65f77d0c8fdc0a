//! The inside of an msb sandbox: the protocol between host and guest, and the PID 1 that speaks it.
//!
//! # The agent protocol
//!
//! Host and guest talk over **one** ordered byte stream: a virtio-console port named `agent` in the guest, a
//! connected `AF_UNIX` stream socket on the host. The stream is cut into frames:
//!
//! ```text
//! 0        4      5         6          8          12
//! | len u32 | kind | channel | reserved | stream u32 | payload: len bytes
//! ```
//!
//! All numbers are little endian; `reserved` is 0. Stream 0 is the machine. Streams from 1 up are opened by the
//! host, one per process; stream 1 is the process named in the boot document. Channels of a stream: 0 stdin,
//! 1 stdout (all output when the process has a terminal), 2 stderr, 255 the whole stream.
//!
//! | kind | name | direction | stream, channel | payload | meaning |
//! |------|------|-----------|-----------------|---------|---------|
//! | 0x01 | BOOT | host → guest | 0 | JSON [`BootDocument`](message::BootDocument), ≤ 8 MiB | First frame, once. Everything the guest needs to start: version range, root disks, environment, files, the first process |
//! | 0x02 | EXEC | host → guest | new stream | JSON [`ExecSpec`](message::ExecSpec), ≤ 8 MiB | Start a process; answered by STARTED or FAILED |
//! | 0x03 | SIGNAL | host → guest | stream | JSON [`Signal`](message::Signal) | Send a signal to the process, or to the foreground group of its terminal |
//! | 0x04 | RESIZE | host → guest | stream | JSON [`WindowSize`](message::WindowSize) | New size of the process's terminal |
//! | 0x05 | SHUTDOWN | host → guest | 0 | JSON [`Shutdown`](message::Shutdown) | Stop all processes (stop signal, grace time, SIGKILL), sync, power off. Sent when EXITED of stream 1 has arrived it releases a guest that powers off with its main process |
//! | 0x06 | CLOCK | host → guest | 0 | JSON [`Clock`](message::Clock) | The host's clock jumped, or the machine stood still: the guest sets its own when it is off by more than a second |
//! | 0x20 | DATA | both | stream, 0 from the host, 1 or 2 from the guest | raw bytes, ≤ 1 MiB and ≤ the credit left | Bytes of that channel |
//! | 0x21 | EOF | both | stream, as DATA | empty | No more DATA on that channel |
//! | 0x22 | CREDIT | both | stream, channel of the DATA it pays for | u32, bytes | The receiver of that channel took so many bytes; the sender may send as many more |
//! | 0x23 | CLOSE | both | stream, channel, or 255 from the host | empty | The receiver of that channel takes no more DATA (host: reader of stdout went away, the process gets SIGPIPE; guest: the process closed its stdin). 255: the host gives the process up, the guest kills its process group |
//! | 0x40 | READY | guest → host | 0 | JSON [`Ready`](message::Ready) | The root is mounted; protocol version chosen; when each step was reached |
//! | 0x41 | BOOT_FAILED | guest → host | 0 | JSON [`BootFailed`](message::BootFailed) | The guest cannot start and powers off |
//! | 0x42 | STARTED | guest → host | stream | JSON [`Started`](message::Started) | The process runs (its `execve` succeeded) |
//! | 0x43 | EXITED | guest → host | stream | JSON [`Exited`](message::Exited) | The process ended and all its output was sent. Last frame of the stream |
//! | 0x44 | FAILED | guest → host | stream | JSON [`Failed`](message::Failed) | The process could not be started. Last frame of the stream |
//!
//! Payloads without a limit in the table are at most 64 KiB. A frame of a known kind that comes from the wrong side,
//! is too long, or has non-zero reserved bits ends the connection ([`wire::WireError`]); a frame of an unknown kind
//! (≤ 64 KiB) is skipped, and so are unknown JSON fields, so that either end may be newer. Frames for a stream that
//! has ended are ignored: they crossed its last frame on the way.
//!
//! **Flow control.** Each channel of each stream starts with a credit of [`flow::INITIAL_WINDOW`] bytes. DATA spends
//! it, CREDIT restores it ([`flow`]). Only DATA is subject to credit, so EXITED or a signal never waits behind a
//! reader that stopped reading, and one stopped reader holds up nothing but its own channel: its process blocks in
//! `write(2)` exactly as it would on a local pipe. Memory is bounded by the window per channel on both ends.
//!
//! **End of a process.** When the process of a stream has ended, what its pipes or terminal hold at that moment is
//! still delivered, then EXITED follows; a background child that keeps a pipe open does not hold the stream up.
//!
//! **Tools.** Instead of a program of the image, EXEC may ask for a [`Tool`](message::Tool): copying files in and out as
//! tar archives, looking at one, telling what changed of the image, measuring. PID 1 starts its own executable for it, as a
//! process like any other, so that nothing but streams of bytes is added to the protocol.
//!
//! **Loss of the host.** Before its first byte the guest waits for the host to connect. After it, an end of file on
//! the port means that the host is gone, and the guest powers off.
//!
//! # Using this crate
//!
//! The host end uses [`wire`], [`message`] and [`flow`]. [`session`] is the part that runs processes; it works over any
//! stream socket and without being PID 1, which is how it is tested. [`boot`] is what only PID 1 does, [`tool`] what the same
//! program does as any other process. [`archive`] reads and writes tar for both ends.

pub mod archive;
pub mod boot;
pub mod flow;
pub mod message;
pub mod session;
pub mod tool;
pub mod wire;
