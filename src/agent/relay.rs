//! Lending a connection: several clients start processes in one guest.
//!
//! A client speaks the agent protocol over a socket of its own, with stream numbers of its own. Frames pass unchanged but
//! for their stream number, credit included, so that a slow client stops exactly its own processes. Neither side is
//! believed: what a guest sends beyond its credit ends the connection to the guest, what a client sends beyond its own
//! ends the client.

use super::error::Error;
use super::shared::{OUTBOX_FULL, Shared, State};
use msb_guest::flow::{SendWindow, parse_credit};
use msb_guest::wire::{
    ALL_CHANNELS, Decoder, Frame, Kind, MAIN_STREAM, STDERR, STDIN, STDOUT, Side, put_frame,
};
use std::collections::HashMap;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

/// Bytes read from a client at a time.
const READ_CHUNK: usize = 64 * 1024;
/// Most processes of one client at a time, as many as a guest allows altogether.
const CLIENT_STREAMS: usize = 1024;
/// How long a client may take to read what a guest that is gone said last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where frames of one of the guest's streams go.
#[derive(Debug)]
pub(super) struct Route {
    client: Arc<Outbox>,
    /// The client's number of the stream.
    stream: u32,
    /// What the client may still send, and what the guest may on each output.
    input: SendWindow,
    outputs: [SendWindow; 2],
}

/// What waits to be written to a client: bounded by the credit it gave.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Mutex<Vec<u8>>,
    /// Nothing more will come.
    closed: AtomicBool,
    bell: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, kind: Kind, address: (u32, u8), payload: &[u8]) {
        put_frame(&mut self.lock(), kind, address, payload);
        self.bell.notify_one();
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bell.notify_one();
    }
}

impl Route {
    /// Passes a frame of the guest on. `true` when it was the last of its stream.
    pub(super) fn pass_on(&mut self, frame: Frame<'_>) -> Result<bool, Error> {
        let Frame { kind, channel, payload, .. } = frame;
        match kind {
            Kind::Data => {
                let Some(window) = output(&mut self.outputs, channel) else { return Ok(false) };
                spend(window, payload.len())?;
            }
            Kind::Credit if channel == STDIN => self.input.add(parse_credit(payload)?)?,
            _ => {}
        }
        self.client.put(kind, (self.stream, channel), payload);
        Ok(matches!(kind, Kind::Exited | Kind::Failed))
    }

    /// Checks a frame of the client before it goes to the guest.
    fn check(&mut self, kind: Kind, channel: u8, payload: &[u8]) -> Result<(), Error> {
        match kind {
            Kind::Data if channel == STDIN => spend(&mut self.input, payload.len()),
            Kind::Data => Err(Error::Client("input on a channel that takes none")),
            Kind::Credit => match output(&mut self.outputs, channel) {
                Some(window) => Ok(window.add(parse_credit(payload)?)?),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn output(outputs: &mut [SendWindow; 2], channel: u8) -> Option<&mut SendWindow> {
    match channel {
        STDOUT => outputs.get_mut(0),
        STDERR => outputs.get_mut(1),
        _ => None,
    }
}

fn spend(window: &mut SendWindow, bytes: usize) -> Result<(), Error> {
    let credit = window.available();
    if window.take(bytes) == bytes {
        return Ok(());
    }
    let credit = u32::try_from(credit).unwrap_or(u32::MAX);
    Err(msb_guest::flow::FlowError::Overrun { sent: bytes, credit }.into())
}

/// Lets the client at the other end of `socket` start processes, until it goes away or the connection to the guest ends.
/// The client's processes are killed when it goes.
pub(super) async fn serve(shared: Arc<Shared>, socket: StdUnixStream) -> Result<(), Error> {
    socket.set_nonblocking(true)?;
    let (reader, writer) = UnixStream::from_std(socket)?.into_split();
    let client = Client { outbox: Arc::default(), streams: HashMap::new() };
    let outbox = Arc::clone(&client.outbox);
    let writing = write_client(Arc::clone(&outbox), writer);
    tokio::pin!(writing);
    // Whichever ends first ends the others: the client's reading, the writing to it, the guest.
    tokio::select! {
        result = read_client(&shared, client, reader) => return result,
        () = &mut writing => return Ok(()),
        _ = shared.until(|state| state.fatal.clone()) => {}
    }
    // The guest's last words are the client's as well.
    outbox.close();
    let _ = tokio::time::timeout(LAST_WORDS, writing).await;
    Ok(())
}

/// A client's streams, by its own numbers.
struct Client {
    outbox: Arc<Outbox>,
    streams: HashMap<u32, u32>,
}

/// Gives up a client's processes, however its conversation ends.
struct Leaving<'a> {
    shared: &'a Shared,
    client: Client,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.shared.change(|state| {
            for id in self.client.streams.values() {
                if state.routes.remove(id).is_some() && state.fatal.is_none() {
                    state.put(Kind::Close, *id, ALL_CHANNELS, &[]);
                }
            }
        });
    }
}

async fn read_client(shared: &Shared, client: Client, mut socket: OwnedReadHalf) -> Result<(), Error> {
    let mut leaving = Leaving { shared, client };
    let mut decoder = Decoder::new(Side::Guest, READ_CHUNK);
    loop {
        match socket.read(decoder.space()).await {
            Ok(0) => return Ok(()),
            Ok(count) => decoder.filled(count),
            Err(error) => return Err(error.into()),
        }
        while let Some(frame) = decoder.next_frame()? {
            shared.change(|state| leaving.client.obey(state, frame))?;
        }
        // The guest's socket is everybody's: whoever fills it waits.
        shared.until(|state| (state.out.len() < OUTBOX_FULL || state.fatal.is_some()).then_some(())).await;
    }
}

impl Client {
    fn obey(&mut self, state: &mut State, frame: Frame<'_>) -> Result<(), Error> {
        let Frame { kind, channel, stream, payload } = frame;
        match kind {
            Kind::Exec => {
                let id = self.open(state, stream)?;
                state.put(kind, id, channel, payload);
                return Ok(());
            }
            // The machine belongs to whoever supervises it.
            Kind::Boot | Kind::Shutdown | Kind::Clock => {
                return Err(Error::Client("the machine is not theirs to steer"));
            }
            _ => {}
        }
        let Some(&id) = self.streams.get(&stream) else { return Ok(()) };
        // A stream whose last frame is on its way to the client needs nothing more.
        let Some(route) = state.routes.get_mut(&id) else { return Ok(()) };
        route.check(kind, channel, payload)?;
        state.put(kind, id, channel, payload);
        Ok(())
    }

    fn open(&mut self, state: &mut State, stream: u32) -> Result<u32, Error> {
        self.streams.retain(|_, id| state.routes.contains_key(id));
        if stream <= MAIN_STREAM || self.streams.contains_key(&stream) || self.streams.len() >= CLIENT_STREAMS
        {
            return Err(Error::Client("a stream number that is none or in use, or too many streams"));
        }
        let id = state.reserve()?;
        let route = Route {
            client: Arc::clone(&self.outbox),
            stream,
            input: SendWindow::default(),
            outputs: Default::default(),
        };
        state.routes.insert(id, route);
        self.streams.insert(stream, id);
        Ok(id)
    }
}

/// Writes to a client until it takes no more, or there is no more.
async fn write_client(outbox: Arc<Outbox>, mut socket: OwnedWriteHalf) {
    let mut buffer = Vec::new();
    loop {
        let closed = outbox.closed.load(Ordering::Acquire);
        std::mem::swap(&mut buffer, &mut *outbox.lock());
        if buffer.is_empty() {
            if closed {
                return;
            }
            outbox.bell.notified().await;
            continue;
        }
        if socket.write_all(&buffer).await.is_err() {
            return;
        }
        buffer.clear();
    }
}
