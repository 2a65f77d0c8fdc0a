//! One process and everybody who watches it: its output goes to all, and all may type.
//!
//! A member speaks the agent protocol about stream 1 alone, as if it had started the process. The process never waits for a
//! member: one that falls too far behind is sent away.

use super::error::Error;
use super::process::{Control, Outcome, Status};
use bytes::Bytes;
use msb_guest::flow::{SendWindow, credit_payload, parse_credit};
use msb_guest::message::{Exited, Signal, Started, WindowSize};
use msb_guest::wire::{Decoder, Frame, Kind, MAIN_STREAM, STDIN, Side, put_frame, put_json};
use std::collections::VecDeque;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

/// Bytes read from a member at a time.
const READ_CHUNK: usize = 64 * 1024;
/// Bytes of output a member may be behind.
const FARTHEST: usize = 8 << 20;
/// How long a member may take to read the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Everybody who watches one process.
#[derive(Debug, Default)]
pub struct Audience {
    state: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    members: Vec<Arc<Member>>,
    /// The last frame of the process, for those who come late.
    last: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Member {
    queue: Mutex<Queue>,
    bell: Notify,
}

/// What a member has not been sent yet.
#[derive(Debug, Default)]
struct Queue {
    /// Frames that may go.
    ready: Vec<u8>,
    /// Output that waits for credit, by channel.
    waiting: [(SendWindow, VecDeque<Bytes>); 2],
    behind: usize,
    last: Option<Vec<u8>>,
    /// It fell too far behind, or the process has ended and everything is in `ready`.
    closed: bool,
}

impl Audience {
    /// Shows output to everybody.
    pub fn show(&self, channel: u8, bytes: &Bytes) {
        for member in &self.lock().members {
            member.change(|queue| queue.show(channel, bytes.clone()));
        }
    }

    /// Tells everybody, and whoever comes later, how the process ended.
    pub fn end(&self, outcome: &Outcome) {
        let mut frame = Vec::new();
        let put = match outcome {
            Outcome::Exited(exit) => {
                let (code, signal) = match exit.status {
                    Status::Code(code) => (Some(code.into()), None),
                    Status::Signal(signal) => (None, Some(signal)),
                };
                let exited = Exited { code, signal, oom_killed: exit.oom_killed, at_ns: exit.at_ns };
                put_json(&mut frame, Kind::Exited, MAIN_STREAM, &exited)
            }
            Outcome::Failed(failed) => put_json(&mut frame, Kind::Failed, MAIN_STREAM, failed),
        };
        // Both messages are small.
        debug_assert!(put.is_ok());
        let mut state = self.lock();
        for member in &state.members {
            member.change(|queue| queue.last = Some(frame.clone()));
        }
        state.last = Some(frame);
    }

    /// Lets the member at the other end of `socket` watch, type into `input` and steer, until it leaves or the process has
    /// ended.
    ///
    /// # Errors
    /// What the member did wrong.
    pub async fn admit(
        &self,
        socket: StdUnixStream,
        (started, control): (Started, Control),
        input: Option<mpsc::Sender<Bytes>>,
    ) -> Result<(), Error> {
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        let member = Arc::<Member>::default();
        {
            let mut state = self.lock();
            member.change(|queue| {
                queue.last.clone_from(&state.last);
                put_json(&mut queue.ready, Kind::Started, MAIN_STREAM, &started)
            })?;
            state.members.push(Arc::clone(&member));
        }
        let _seat = Seat { audience: self, member: &member };
        let writing = write(&member, writer);
        tokio::pin!(writing);
        tokio::select! {
            result = read(&member, &control, input, reader) => result,
            () = &mut writing => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member's place, given up when it leaves.
struct Seat<'a> {
    audience: &'a Audience,
    member: &'a Arc<Member>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.audience.lock().members.retain(|member| !Arc::ptr_eq(member, self.member));
    }
}

impl Member {
    fn change<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut queue);
        queue.move_on();
        drop(queue);
        self.bell.notify_one();
        result
    }
}

impl Queue {
    fn show(&mut self, channel: u8, bytes: Bytes) {
        let Some((_, waiting)) = self.waiting.get_mut(usize::from(channel.saturating_sub(1))) else { return };
        self.behind += bytes.len();
        if self.behind > FARTHEST {
            self.closed = true;
        } else {
            waiting.push_back(bytes);
        }
    }

    /// Moves what there is credit for.
    fn move_on(&mut self) {
        for (channel, (window, waiting)) in (1..).zip(&mut self.waiting) {
            while let Some(mut bytes) = waiting.pop_front() {
                let count = window.take(bytes.len());
                if count > 0 {
                    put_frame(&mut self.ready, Kind::Data, (MAIN_STREAM, channel), &bytes.split_to(count));
                }
                if !bytes.is_empty() {
                    waiting.push_front(bytes);
                    break;
                }
            }
        }
        if self.waiting.iter().all(|(_, waiting)| waiting.is_empty())
            && let Some(last) = self.last.take()
        {
            self.ready.extend_from_slice(&last);
            self.closed = true;
        }
    }

    fn credit(&mut self, channel: u8, bytes: u32) -> Result<(), Error> {
        match self.waiting.get_mut(usize::from(channel.saturating_sub(1))) {
            Some((window, _)) => Ok(window.add(bytes)?),
            None => Ok(()),
        }
    }
}

async fn read(
    member: &Member,
    control: &Control,
    input: Option<mpsc::Sender<Bytes>>,
    mut socket: OwnedReadHalf,
) -> Result<(), Error> {
    let mut decoder = Decoder::new(Side::Guest, READ_CHUNK);
    loop {
        match socket.read(decoder.space()).await {
            Ok(0) => return Ok(()),
            Ok(count) => decoder.filled(count),
            Err(error) => return Err(error.into()),
        }
        let mut typed = Vec::new();
        while let Some(Frame { kind, channel, stream, payload }) = decoder.next_frame()? {
            match kind {
                _ if stream != MAIN_STREAM => {
                    return Err(Error::Client("a stream other than the one it watches"));
                }
                Kind::Data if channel == STDIN => typed.push(Bytes::copy_from_slice(payload)),
                Kind::Credit => member.change(|queue| queue.credit(channel, parse_credit(payload)?))?,
                Kind::Signal => {
                    let Signal { signal, group } = message(kind, payload)?;
                    if group { control.signal_group(signal)? } else { control.signal(signal)? }
                }
                Kind::Resize => control.resize(message::<WindowSize>(kind, payload)?)?,
                // The end of one member's input is not the end of the process's.
                _ => {}
            }
        }
        for bytes in typed {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if let Some(input) = &input {
                // A process that takes no more input drops what is typed, as it does on a terminal.
                let _ = input.send(bytes).await;
            }
            member.change(|queue| {
                put_frame(&mut queue.ready, Kind::Credit, (MAIN_STREAM, STDIN), &credit_payload(length));
            });
        }
    }
}

fn message<T: serde::de::DeserializeOwned>(kind: Kind, payload: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|source| Error::Message { kind, source: Arc::new(source) })
}

/// Writes to a member until it takes no more, or there is no more.
async fn write(member: &Member, mut socket: OwnedWriteHalf) {
    let mut buffer = Vec::new();
    loop {
        let closed = {
            let mut queue = member.queue.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut buffer, &mut queue.ready);
            queue.behind = queue.waiting.iter().flat_map(|(_, waiting)| waiting).map(Bytes::len).sum();
            queue.closed
        };
        let writing = socket.write_all(&buffer);
        let written = if closed {
            tokio::time::timeout(LAST_WORDS, writing).await.unwrap_or(Ok(()))
        } else {
            writing.await
        };
        if written.is_err() || closed {
            return;
        }
        buffer.clear();
        member.bell.notified().await;
    }
}
