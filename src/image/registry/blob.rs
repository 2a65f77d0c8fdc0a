//! A blob as a blocking reader, fed by a task that resumes broken transfers.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::client::RETRIES;
use super::error::RegistryError;
use super::http::backoff;
use super::notice::{Notice, Notify};
use super::origin::{Origin, Wanted};

/// Chunks under way between socket and converter; with chunks of at most about 400 KiB this bounds memory to
/// a few megabytes a layer while the socket never waits for a slow write.
const WINDOW: usize = 12;

/// Bytes that make a broken transfer count as one that got on.
const ENOUGH: u64 = 64 << 10;

enum Item {
    Data(Bytes),
    Event(Transfer),
    Failed(RegistryError),
}

/// What happens to a transfer.
#[derive(Debug)]
pub(crate) enum Transfer {
    /// It broke and goes on where it stopped.
    Resuming {
        /// Bytes that are here already.
        offset: u64,
        /// What broke.
        reason: String,
    },
    /// Anything else worth a word.
    Notice(Notice),
}

/// Told of everything that happens to a transfer.
type OnEvent<'a> = Box<dyn Fn(Transfer) + Send + 'a>;

/// Reads a blob from a registry. Errors carry a [`RegistryError`] inside.
pub(crate) struct BlobReader<'a> {
    items: mpsc::Receiver<Item>,
    current: Bytes,
    on_event: OnEvent<'a>,
}

impl<'a> BlobReader<'a> {
    /// Starts the transfer of `wanted` on `runtime`, from a source of the origin on. The reader must not be used on one of
    /// the runtime's own threads.
    pub(crate) fn start(
        runtime: &Handle,
        (origin, from): (Arc<Origin>, usize),
        wanted: Wanted,
        on_event: impl Fn(Transfer) + Send + 'a,
    ) -> Self {
        let (sender, items) = mpsc::channel(WINDOW);
        runtime.spawn(async move { feed((&origin, from), &wanted, &sender).await });
        Self { items, current: Bytes::new(), on_event: Box::new(on_event) }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.items.blocking_recv() {
                Some(Item::Data(bytes)) => self.current = bytes,
                Some(Item::Event(event)) => (self.on_event)(event),
                Some(Item::Failed(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

/// Sends the blob in order, from one source after the other. Ends early, without a word, when the reader is gone.
async fn feed((origin, from): (&Origin, usize), wanted: &Wanted, items: &mpsc::Sender<Item>) {
    // Words are not worth waiting for a slow reader.
    let notify = |notice| drop(items.try_send(Item::Event(Transfer::Notice(notice))));
    let (mut source, mut offset, mut failures) = (from, 0, 0);
    loop {
        let before = offset;
        let broken = match transfer(origin, source, (wanted, &mut offset), items, &notify).await {
            Ok(()) => return,
            Err(broken) => broken,
        };
        // A transfer that gets on is worth going on with, however often it breaks.
        failures = if offset - before >= ENOUGH { 1 } else { failures + 1 };
        let is_worth_it = broken.can_be_resumed(offset) && failures <= RETRIES;
        let (Broken::Request(error) | Broken::Body(error)) = broken;
        if is_worth_it {
            let resuming = Transfer::Resuming { offset, reason: error.to_string() };
            if items.send(Item::Event(resuming)).await.is_err() {
                return;
            }
            tokio::time::sleep(backoff(failures - 1)).await;
        } else if let Some(next) = origin.next(source, wanted, &error) {
            source = next;
            failures = 0;
            notify(Notice::NextSource { reason: error.to_string(), next: origin.address(source, wanted) });
        } else {
            let _ = items.send(Item::Failed(error)).await;
            return;
        }
    }
}

/// Where a transfer broke.
enum Broken {
    /// Before the first byte, when what passes was waited for already.
    Request(RegistryError),
    /// On the way.
    Body(RegistryError),
}

impl Broken {
    fn can_be_resumed(&self, offset: u64) -> bool {
        match self {
            Self::Body(error) => error.is_transient(),
            // The network may be gone for a moment, since it was there before.
            Self::Request(RegistryError::Unreachable { .. } | RegistryError::Timeout { .. }) => offset > 0,
            Self::Request(_) => false,
        }
    }
}

async fn transfer(
    origin: &Origin,
    source: usize,
    (wanted, offset): (&Wanted, &mut u64),
    items: &mpsc::Sender<Item>,
    notify: Notify<'_>,
) -> Result<(), Broken> {
    let (mut response, mut skip) = match origin.blob(source, wanted, *offset, notify).await {
        // There is nothing behind what came already; whether that is all of it shows in size and digest.
        Err(RegistryError::Status { status: 416, .. }) if *offset > 0 => return Ok(()),
        answer => answer.map_err(Broken::Request)?,
    };
    loop {
        let chunk = response
            .chunk()
            .await
            .map_err(|error| Broken::Body(RegistryError::classify(&origin.address(source, wanted), error)));
        let Some(mut bytes) = chunk? else { return Ok(()) };
        let skipped = skip.min(bytes.len() as u64);
        skip -= skipped;
        let _ = bytes.split_to(usize::try_from(skipped).unwrap_or(bytes.len()));
        *offset += bytes.len() as u64;
        if !bytes.is_empty() && items.send(Item::Data(bytes)).await.is_err() {
            return Ok(());
        }
    }
}
