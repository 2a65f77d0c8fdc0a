//! One process in the guest.

use super::error::Error;
use super::shared::{OUTBOX_FULL, Shared, State, Stream};
use bytes::Bytes;
use msb_guest::message::{Exited, Failed, FailureKind, Signal, Started, WindowSize};
use msb_guest::wire::{ALL_CHANNELS, Kind, STDERR, STDIN, STDOUT, put_json};
use std::sync::Arc;

/// Most bytes of standard input in one frame.
const INPUT_CHUNK: usize = 64 * 1024;

/// How a process that ran came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// It exited with this code, 0 to 255.
    Code(u8),
    /// This signal killed it.
    Signal(i32),
}

/// The end of a process that ran.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exit {
    /// How it ended.
    pub status: Status,
    /// The guest's kernel killed it, or a child of it, for lack of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since the guest's kernel started.
    pub at_ns: u64,
}

/// What became of a process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It ran and ended.
    Exited(Exit),
    /// It could not be started.
    Failed(Failed),
}

impl Outcome {
    /// The exit code a shell would give: the process's own, 128 + n for signal n, 127 not found, 126 not executable, 125
    /// otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Outcome::Exited(Exit { status: Status::Code(code), .. }) => *code,
            Outcome::Exited(Exit { status: Status::Signal(signal), .. }) => {
                u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
            }
            Outcome::Failed(failed) => match failed.kind {
                FailureKind::NotFound => 127,
                FailureKind::NotExecutable => 126,
                FailureKind::BadUser | FailureKind::BadWorkdir | FailureKind::Other => 125,
            },
        }
    }

    pub(super) fn from_exited(exited: Exited) -> Result<Outcome, Error> {
        let Exited { code, signal, oom_killed, at_ns } = exited;
        let status = match (code, signal) {
            (_, Some(signal)) if (1..=64).contains(&signal) => Status::Signal(signal),
            (Some(code), None) => Status::Code((code & 0xff) as u8),
            _ => return Err(Error::NoStatus),
        };
        Ok(Outcome::Exited(Exit { status, oom_killed, at_ns }))
    }
}

/// The stream of a process, held by all handles to it. When the last one goes, so does the process.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    id: u32,
}

impl Handle {
    fn change<T>(&self, act: impl FnOnce(&mut State, u32) -> T) -> T {
        self.shared.change(|state| act(state, self.id))
    }

    fn put_json<T: serde::Serialize>(&self, kind: Kind, message: &T) -> Result<(), Error> {
        self.change(|state, id| match (state.outcome(id), &state.fatal) {
            // It has ended, and there is nothing to steer.
            (Some(_), _) => Ok(()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Ok(put_json(&mut state.out, kind, id, message)?),
        })
    }

    async fn wait(&self) -> Result<Outcome, Error> {
        let look = |state: &mut State| {
            let outcome = state.outcome(self.id).cloned().map(Ok);
            outcome.or_else(|| state.fatal.clone().map(Err))
        };
        self.shared.until(look).await
    }
}

impl State {
    fn outcome(&self, stream: u32) -> Option<&Outcome> {
        self.streams.get(&stream).and_then(|s| s.outcome.as_ref())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.change(|state, id| {
            let ended = state.streams.remove(&id).is_some_and(|s| s.outcome.is_some());
            if !ended && state.fatal.is_none() {
                state.put(Kind::Close, id, ALL_CHANNELS, &[]);
            }
        });
    }
}

/// A process in the guest, running or not yet or no longer. The process is killed when it has not ended and all of
/// its handles (this and everything taken out of it) are dropped.
#[derive(Debug)]
pub struct Process {
    /// Standard input. Dropping it sends end of file.
    pub stdin: Stdin,
    /// Standard output; everything, when the process has a terminal. Dropping it closes it for the process too.
    pub stdout: Output,
    /// Standard error; nothing, when the process has a terminal. Dropping it closes it for the process too.
    pub stderr: Output,
    /// Signals, resizing, waiting. Can be cloned.
    pub control: Control,
}

impl Process {
    pub(super) fn new(shared: &Arc<Shared>, id: u32) -> Process {
        let handle = Arc::new(Handle { shared: Arc::clone(shared), id });
        Process {
            stdin: Stdin { handle: Arc::clone(&handle), ended: false },
            stdout: Output { handle: Arc::clone(&handle), channel: STDOUT },
            stderr: Output { handle: Arc::clone(&handle), channel: STDERR },
            control: Control { handle },
        }
    }
}

/// Steers a process.
#[derive(Clone, Debug)]
pub struct Control {
    handle: Arc<Handle>,
}

impl Control {
    /// Waits until the process runs; its process id inside the guest, or what became of it instead.
    ///
    /// # Errors
    /// Why the connection ended.
    pub async fn started(&self) -> Result<Result<Started, Outcome>, Error> {
        let id = self.handle.id;
        let look = |state: &mut State| {
            let stream = state.streams.get(&id)?;
            let known = stream.started.map(Ok).or_else(|| stream.outcome.clone().map(Err)).map(Ok);
            known.or_else(|| state.fatal.clone().map(Err))
        };
        self.handle.shared.until(look).await
    }

    /// Waits until the process has ended and all its output has arrived, though maybe not yet been taken.
    ///
    /// # Errors
    /// Why the connection ended, when it did so before the process.
    pub async fn wait(&self) -> Result<Outcome, Error> {
        self.handle.wait().await
    }

    /// Sends signal number `signal` to the process, or to the foreground group of its terminal.
    ///
    /// # Errors
    /// Why the connection ended.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        self.handle.put_json(Kind::Signal, &Signal { signal, group: false })
    }

    /// Sends signal number `signal` to the process and its children, as Ctrl-C on a local terminal does.
    ///
    /// # Errors
    /// Why the connection ended.
    pub fn signal_group(&self, signal: i32) -> Result<(), Error> {
        self.handle.put_json(Kind::Signal, &Signal { signal, group: true })
    }

    /// Gives the terminal of the process a new size.
    ///
    /// # Errors
    /// Why the connection ended.
    pub fn resize(&self, size: WindowSize) -> Result<(), Error> {
        self.handle.put_json(Kind::Resize, &size)
    }
}

/// Standard input of a process.
#[derive(Debug)]
pub struct Stdin {
    handle: Arc<Handle>,
    ended: bool,
}

impl Stdin {
    /// Sends some of `bytes`, waiting until the process takes any, and says how many.
    ///
    /// # Errors
    /// [`Error::InputClosed`] when the process takes no more, else why the connection ended.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let id = self.handle.id;
        let open = !self.ended;
        let look = |state: &mut State| {
            if let Some(error) = &state.fatal {
                return Some(Err(error.clone()));
            }
            let stream = state.streams.get_mut(&id).filter(|s| open && !s.input_closed);
            let Some(stream) = stream else { return Some(Err(Error::InputClosed)) };
            if bytes.is_empty() {
                return Some(Ok(0));
            }
            if state.out.len() >= OUTBOX_FULL {
                return None;
            }
            let count = stream.input.take(bytes.len().min(INPUT_CHUNK));
            let chunk = bytes.get(..count).filter(|c| !c.is_empty())?;
            state.put(Kind::Data, id, STDIN, chunk);
            Some(Ok(count))
        };
        self.handle.shared.until(look).await
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// As [`write`](Stdin::write).
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends end of file; nothing can be written afterwards. On a terminal in line mode this is what Ctrl-D does.
    pub fn eof(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.handle.change(|state, id| {
            if state.fatal.is_none() && state.outcome(id).is_none() {
                state.put(Kind::Eof, id, STDIN, &[]);
            }
        });
    }

    /// Waits until the process takes no more input, because it closed it or ended.
    pub async fn closed(&self) {
        let id = self.handle.id;
        let look = |state: &mut State| {
            let closed = state.streams.get(&id).is_none_or(|s| s.input_closed);
            (closed || state.fatal.is_some()).then_some(())
        };
        self.handle.shared.until(look).await;
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        self.eof();
    }
}

/// Standard output or error of a process.
#[derive(Debug)]
pub struct Output {
    handle: Arc<Handle>,
    channel: u8,
}

impl Output {
    /// The next bytes, `None` at the end. Taking them gives the process credit to write more, so take them only when there
    /// is use for them. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Why the connection ended, when it did so before the end of this output.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let (id, channel) = (self.handle.id, self.channel);
        self.handle.shared.until(|state| state.take_output(id, channel)).await
    }

    /// Everything until the end.
    ///
    /// # Errors
    /// As [`read`](Output::read).
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.read().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let channel = self.channel;
        self.handle.change(|state, id| {
            let Some(Stream { outcome: None, outputs, .. }) = state.streams.get_mut(&id) else { return };
            let Some(incoming) = outputs.get_mut(usize::from(channel - STDOUT)) else { return };
            incoming.abandoned = true;
            incoming.queue.clear();
            if !incoming.ended && state.fatal.is_none() {
                state.put(Kind::Close, id, channel, &[]);
            }
        });
    }
}
