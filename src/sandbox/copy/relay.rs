//! Between the agent, which is asynchronous, and files, which are not: one thread and a short queue.
//!
//! When the copying is dropped, the queue ends and so does the thread.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use bytes::{Buf, Bytes};
use msb_guest::archive::{self, PackOptions, UnpackOptions};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

use super::{Copied, CopyError, Progress};
use crate::agent::{CopyIn, CopyOut};

/// Parts of an archive that may wait: together about what a stream of the agent may have under way.
const QUEUE: usize = 8;

/// Unpacks what the guest sends.
pub(super) async fn unpack(
    mut copy: CopyOut,
    (into, options): (OwnedFd, UnpackOptions),
    progress: Progress<'_>,
) -> Result<Copied, CopyError> {
    let (sender, receiver) = channel(QUEUE);
    let input = Input { receiver, rest: Bytes::new(), ended: false };
    let unpacking = spawn_blocking(move || archive::unpack(input, into.as_fd(), &options));
    let mut copied = Copied::default();
    let sent = loop {
        match copy.read().await {
            Ok(bytes) => {
                let end = bytes.is_none();
                copied.bytes += bytes.as_ref().map_or(0, Bytes::len) as u64;
                progress(copied.bytes);
                // The thread is gone before the end only when it failed, and it will say why.
                if sender.send(bytes).await.is_err() || end {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    drop(sender);
    let unpacked = unpacking.await.map_err(|_| CopyError::Interrupted)?;
    // Why there is no more comes before what this means for the archive.
    sent?;
    copied.left_out = unpacked?.left_out;
    Ok(copied)
}

/// Packs `source` for the guest.
pub(super) async fn pack(
    (source, options): (PathBuf, PackOptions),
    mut copy: CopyIn,
    progress: Progress<'_>,
) -> Result<Copied, CopyError> {
    let (sender, mut receiver) = channel(QUEUE);
    let packing = spawn_blocking(move || archive::pack(&source, options, Output(sender)));
    let mut copied = Copied::default();
    while let Some(bytes) = receiver.recv().await {
        copy.write_all(&bytes).await?;
        copied.bytes += bytes.len() as u64;
        progress(copied.bytes);
    }
    copied.left_out = packing.await.map_err(|_| CopyError::Interrupted)??.left_out;
    copy.finish().await?;
    Ok(copied)
}

/// The archive as the unpacking thread reads it.
struct Input {
    receiver: Receiver<Option<Bytes>>,
    rest: Bytes,
    ended: bool,
}

impl Read for Input {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.receiver.blocking_recv() {
                Some(Some(more)) => self.rest = more,
                Some(None) => self.ended = true,
                // Not `ErrorKind::Interrupted`, after which one tries again.
                None => return Err(io::Error::other("the copying was interrupted")),
            }
        }
        let count = bytes.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut bytes[..count]);
        Ok(count)
    }
}

/// The archive as the packing thread writes it.
struct Output(Sender<Bytes>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
