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
use super::origin::Origin;
use crate::image::digest::Digest;

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
    /// Starts the transfer of `digest` on `runtime`. The reader must not be used on one of the runtime's own threads.
    pub(crate) fn start(
        runtime: &Handle,
        origin: Arc<Origin>,
        digest: Digest,
        on_event: impl Fn(Transfer) + Send + 'a,
    ) -> Self {
        let (sender, items) = mpsc::channel(WINDOW);
        runtime.spawn(async move { feed(&origin, &digest, &sender).await });
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
async fn feed(origin: &Origin, digest: &Digest, items: &mpsc::Sender<Item>) {
    // Words are not worth waiting for a slow reader.
    let notify = |notice| drop(items.try_send(Item::Event(Transfer::Notice(notice))));
    let (mut source, mut offset, mut failures) = (origin.current(), 0, 0);
    loop {
        let before = offset;
        let error = match transfer(origin, source, (digest, &mut offset), items, &notify).await {
            Ok(()) => return,
            Err(error) => error,
        };
        // A transfer that gets on is worth going on with, however often it breaks.
        failures = if offset - before >= ENOUGH { 1 } else { failures + 1 };
        if error.is_transient() && failures <= RETRIES {
            let resuming = Transfer::Resuming { offset, reason: error.to_string() };
            if items.send(Item::Event(resuming)).await.is_err() {
                return;
            }
            tokio::time::sleep(backoff(failures - 1)).await;
        } else if origin.is_followed(source) {
            source = origin.go_on(source, &error);
            failures = 0;
            notify(origin.notice(source, &error));
        } else {
            let _ = items.send(Item::Failed(error)).await;
            return;
        }
    }
}

async fn transfer(
    origin: &Origin,
    source: usize,
    (digest, offset): (&Digest, &mut u64),
    items: &mpsc::Sender<Item>,
    notify: Notify<'_>,
) -> Result<(), RegistryError> {
    let (mut response, mut skip) = origin.blob(source, digest, *offset, notify).await?;
    loop {
        let chunk = response.chunk().await;
        let Some(mut bytes) =
            chunk.map_err(|error| RegistryError::classify(origin.address(source), error))?
        else {
            return Ok(());
        };
        let skipped = skip.min(bytes.len() as u64);
        skip -= skipped;
        let _ = bytes.split_to(usize::try_from(skipped).unwrap_or(bytes.len()));
        *offset += bytes.len() as u64;
        if !bytes.is_empty() && items.send(Item::Data(bytes)).await.is_err() {
            return Ok(());
        }
    }
}
