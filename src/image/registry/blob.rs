//! A blob as a blocking reader, fed by a task that resumes broken transfers.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::client::{RETRIES, Registry, backoff};
use super::error::RegistryError;
use crate::image::digest::Digest;

/// Chunks under way between socket and converter; with chunks of at most about 400 KiB this bounds memory to
/// a few megabytes a layer while the socket never waits for a slow write.
const WINDOW: usize = 12;

/// Bytes that make a broken transfer count as one that got on.
const ENOUGH: u64 = 64 << 10;

enum Item {
    Data(Bytes),
    Retrying { offset: u64, reason: String },
    Failed(RegistryError),
}

/// Told of every resumption: bytes already here, and what broke.
type OnRetry<'a> = Box<dyn Fn(u64, &str) + Send + 'a>;

/// Reads a blob from a registry. Errors carry a [`RegistryError`] inside.
pub(crate) struct BlobReader<'a> {
    items: mpsc::Receiver<Item>,
    current: Bytes,
    on_retry: OnRetry<'a>,
}

impl<'a> BlobReader<'a> {
    /// Starts the transfer of `digest` on `runtime`. The reader must not be used on one of the runtime's own threads.
    pub(crate) fn start(
        runtime: &Handle,
        registry: Arc<Registry>,
        digest: Digest,
        on_retry: impl Fn(u64, &str) + Send + 'a,
    ) -> Self {
        let (sender, items) = mpsc::channel(WINDOW);
        runtime.spawn(async move { feed(&registry, &digest, &sender).await });
        Self { items, current: Bytes::new(), on_retry: Box::new(on_retry) }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.items.blocking_recv() {
                Some(Item::Data(bytes)) => self.current = bytes,
                Some(Item::Retrying { offset, reason }) => (self.on_retry)(offset, &reason),
                Some(Item::Failed(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

/// Sends the blob in order. Ends early, without a word, when the reader is gone.
async fn feed(registry: &Registry, digest: &Digest, items: &mpsc::Sender<Item>) {
    let (mut offset, mut failures) = (0, 0);
    loop {
        let before = offset;
        let error = match transfer(registry, digest, &mut offset, items).await {
            Ok(()) => return,
            Err(error) => error,
        };
        // A transfer that gets on is worth going on with, however often it breaks.
        failures = if offset - before >= ENOUGH { 1 } else { failures + 1 };
        if !error.is_transient() || failures > RETRIES {
            let _ = items.send(Item::Failed(error)).await;
            return;
        }
        if items.send(Item::Retrying { offset, reason: error.to_string() }).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff(failures - 1)).await;
    }
}

async fn transfer(
    registry: &Registry,
    digest: &Digest,
    offset: &mut u64,
    items: &mpsc::Sender<Item>,
) -> Result<(), RegistryError> {
    let (mut response, mut skip) = registry.blob(digest, *offset).await?;
    loop {
        let chunk = response.chunk().await;
        let Some(mut bytes) = chunk.map_err(|error| RegistryError::classify(registry.address(), &error))?
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
