//! What the connection's tasks and the handles of its processes share.

use super::error::Error;
use super::process::Outcome;
use super::relay::Route;
use bytes::Bytes;
use msb_guest::flow::{ReceiveWindow, SendWindow, credit_payload, parse_credit};
use msb_guest::message::{BootFailed, Exited, Failed, Ready, Shutdown, Started, VersionRange};
use msb_guest::wire::{Frame, Kind, MACHINE, MAIN_STREAM, STDERR, STDIN, STDOUT, put_frame, put_json};
use serde::de::DeserializeOwned;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Standard input waits while so much is not yet written to the socket.
pub(super) const OUTBOX_FULL: usize = 256 * 1024;
/// Longest text taken over from the guest, in characters.
const TEXT_LIMIT: usize = 4096;

/// State and the bell that rings whenever it changes.
///
/// One bell for all is simple and cheap enough: a connection has a handful of waiters, each of which only looks.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// Rings when the outbox has something for the writer.
    pub(super) outgoing: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    /// Frames for the writer.
    pub(super) out: Vec<u8>,
    pub(super) streams: HashMap<u32, Stream>,
    /// Streams lent to clients.
    pub(super) routes: HashMap<u32, Route>,
    pub(super) next_stream: u32,
    pub(super) ready: Option<Ready>,
    /// Why the connection is over.
    pub(super) fatal: Option<Error>,
    versions: VersionRange,
    power_off_with_main: bool,
    /// The guest has been told to stop.
    pub(super) is_stopping: bool,
}

/// One process, as far as the host knows.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) started: Option<Started>,
    pub(super) outcome: Option<Outcome>,
    pub(super) input: SendWindow,
    /// The guest takes no more input.
    pub(super) input_closed: bool,
    pub(super) outputs: [Incoming; 2],
}

/// Output of a process that its consumer has not taken yet: never more than the window.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) queue: VecDeque<Bytes>,
    pub(super) ended: bool,
    /// The consumer went away; what still comes is dropped.
    pub(super) abandoned: bool,
    window: ReceiveWindow,
}

impl Shared {
    pub(super) fn new(versions: VersionRange, power_off_with_main: bool) -> Shared {
        let state = State {
            out: Vec::new(),
            streams: HashMap::new(),
            routes: HashMap::new(),
            next_stream: MAIN_STREAM,
            ready: None,
            fatal: None,
            versions,
            power_off_with_main,
            is_stopping: false,
        };
        Shared { state: Mutex::new(state), changed: Notify::new(), outgoing: Notify::new() }
    }

    /// The state. A panic elsewhere leaves it consistent enough to report the end of the connection.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes those who wait for it and the writer when there is something to write.
    pub(super) fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state);
        let to_write = !state.out.is_empty();
        drop(state);
        self.changed.notify_waiters();
        if to_write {
            self.outgoing.notify_one();
        }
        result
    }

    /// Waits until `look` finds what it looks for. It may be dropped at any time without losing anything.
    pub(super) async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Counts as waiting from here on, so that a change between the look and the wait is not missed.
            changed.as_mut().enable();
            let (found, to_write) = {
                let mut state = self.lock();
                (look(&mut state), !state.out.is_empty())
            };
            if let Some(found) = found {
                if to_write {
                    self.outgoing.notify_one();
                }
                return found;
            }
            changed.await;
        }
    }

    /// Ends the connection for everyone; the first reason stays.
    pub(super) fn fail(&self, error: Error) {
        self.change(|state| state.fatal.get_or_insert(error).clone());
        self.outgoing.notify_one();
    }
}

impl State {
    pub(super) fn put(&mut self, kind: Kind, stream: u32, channel: u8, payload: &[u8]) {
        put_frame(&mut self.out, kind, (stream, channel), payload);
    }

    /// A new stream, not yet told to the guest.
    pub(super) fn open(&mut self) -> Result<u32, Error> {
        let id = self.reserve()?;
        self.streams.insert(id, Stream::default());
        Ok(id)
    }

    /// A stream number that was never used.
    pub(super) fn reserve(&mut self) -> Result<u32, Error> {
        let id = self.next_stream;
        self.next_stream = id.checked_add(1).ok_or(Error::OutOfStreams)?;
        Ok(id)
    }

    /// Takes in one frame of the guest.
    pub(super) fn take(&mut self, frame: Frame<'_>) -> Result<(), Error> {
        let Frame { kind, channel, stream, payload } = frame;
        match kind {
            Kind::Ready => return self.on_ready(parse(kind, payload)?),
            Kind::BootFailed => {
                let BootFailed { stage, message } = parse(kind, payload)?;
                self.put_shutdown(0)?;
                return Err(Error::BootFailed { stage: plain(&stage), message: plain(&message) });
            }
            _ => {}
        }
        if let Some(route) = self.routes.get_mut(&stream) {
            if route.pass_on(frame)? {
                self.routes.remove(&stream);
            }
            return Ok(());
        }
        // Frames for a stream that nobody holds any more, or that never was, concern nobody.
        let Some(known) = self.streams.get_mut(&stream) else { return Ok(()) };
        match kind {
            Kind::Data => known.incoming(channel).map_or(Ok(()), |i| i.push(payload))?,
            Kind::Eof => known.incoming(channel).into_iter().for_each(|i| i.ended = true),
            Kind::Credit if channel == STDIN => known.input.add(parse_credit(payload)?)?,
            Kind::Close if channel == STDIN => known.input_closed = true,
            Kind::Started => known.started = Some(parse(kind, payload)?),
            Kind::Exited => {
                let outcome = Outcome::from_exited(parse::<Exited>(kind, payload)?)?;
                self.end(stream, outcome)?;
            }
            Kind::Failed => {
                let Failed { kind, message } = parse(kind, payload)?;
                self.end(stream, Outcome::Failed(Failed { kind, message: plain(&message) }))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn on_ready(&mut self, ready: Ready) -> Result<(), Error> {
        if !(self.versions.min..=self.versions.max).contains(&ready.version) {
            return Err(Error::Version(ready.version));
        }
        self.ready = Some(ready);
        Ok(())
    }

    fn end(&mut self, stream: u32, outcome: Outcome) -> Result<(), Error> {
        if let Some(known) = self.streams.get_mut(&stream) {
            known.outcome.get_or_insert(outcome);
            known.input_closed = true;
            known.outputs.iter_mut().for_each(|o| o.ended = true);
        }
        if stream == MAIN_STREAM && self.power_off_with_main {
            // Tells the guest that its last words arrived.
            self.put_shutdown(0)?;
        }
        Ok(())
    }

    pub(super) fn put_shutdown(&mut self, grace_ms: u32) -> Result<(), Error> {
        self.is_stopping = true;
        Ok(put_json(&mut self.out, Kind::Shutdown, MACHINE, &Shutdown { grace_ms })?)
    }

    /// The next bytes of an output for its consumer, with the credit for them on the way back to the guest. `None` when
    /// there are none yet, `Some(None)` at the end.
    pub(super) fn take_output(&mut self, stream: u32, channel: u8) -> Option<Result<Option<Bytes>, Error>> {
        let fatal = self.fatal.clone();
        let Some(incoming) = self.streams.get_mut(&stream).and_then(|s| s.incoming(channel)) else {
            return Some(Ok(None));
        };
        if let Some(bytes) = incoming.queue.pop_front() {
            if let Some(credit) = incoming.window.consumed(bytes.len())
                && !incoming.ended
            {
                self.put(Kind::Credit, stream, channel, &credit_payload(credit));
            }
            return Some(Ok(Some(bytes)));
        }
        match (incoming.ended, fatal) {
            (true, _) => Some(Ok(None)),
            (false, Some(error)) => Some(Err(error)),
            (false, None) => None,
        }
    }
}

impl Stream {
    pub(super) fn incoming(&mut self, channel: u8) -> Option<&mut Incoming> {
        match channel {
            STDOUT => self.outputs.get_mut(0),
            STDERR => self.outputs.get_mut(1),
            _ => None,
        }
    }
}

impl Incoming {
    fn push(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.window.received(payload.len())?;
        // An empty frame carries nothing and would cost memory without costing credit.
        if !self.abandoned && !self.ended && !payload.is_empty() {
            self.queue.push_back(Bytes::copy_from_slice(payload));
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(kind: Kind, payload: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|source| Error::Message { kind, source: Arc::new(source) })
}

/// Text from the guest, safe to print.
pub(super) fn plain(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
