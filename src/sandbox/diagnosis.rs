//! Keeping an eye on what the guest's kernel and the VMM say, to explain an unexpected end.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use super::Error;
use super::error::Stage;
use super::running::Facts;
use crate::vm::console::{Console, Findings};
use crate::vm::{Exit, Outcome};

/// Bytes kept of what the VMM writes to standard error.
const KEPT: usize = 16 << 10;
/// Lines shown of each when something went wrong.
const SHOWN_LINES: usize = 10;
/// How long the last bytes of a VMM that has ended may take.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// Reads both pipes for as long as it lives.
#[derive(Debug)]
pub(super) struct Watch {
    heard: Arc<Mutex<Heard>>,
    readers: [JoinHandle<()>; 2],
}

#[derive(Debug, Default)]
struct Heard {
    console: Console,
    diagnostics: VecDeque<u8>,
}

impl Watch {
    pub(super) fn start(console: OwnedFd, diagnostics: OwnedFd) -> io::Result<Self> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let readers = [
            reader(console, &heard, |heard, bytes| heard.console.push(bytes))?,
            reader(diagnostics, &heard, Heard::push_diagnostics)?,
        ];
        Ok(Self { heard, readers })
    }

    pub(super) fn findings(&self) -> Findings {
        lock(&self.heard).console.findings()
    }

    /// Whether neither has said anything.
    pub(super) fn is_silent(&self) -> bool {
        let heard = lock(&self.heard);
        heard.console.tail().is_empty() && heard.diagnostics.is_empty()
    }

    /// The last lines of both.
    pub(super) fn last_words(&self) -> String {
        let heard = lock(&self.heard);
        let text = String::from_utf8_lossy(&heard.diagnostics()).into_owned();
        let mut console = Console::new();
        console.push(text.as_bytes());
        let lines = console.last_lines(SHOWN_LINES).into_iter().chain(heard.console.last_lines(SHOWN_LINES));
        lines.map(|line| format!("  {line}\n")).collect()
    }

    /// Waits for the last bytes of a VMM that has ended.
    pub(super) async fn drain(&mut self) {
        let [console, diagnostics] = &mut self.readers;
        let both = async { (console.await, diagnostics.await) };
        // What has not come by then never will.
        let _ = tokio::time::timeout(DRAIN_LIMIT, both).await;
    }

    /// What the end `exit` of the VMM means for a guest that had come to `stage`.
    pub(super) fn explain(&self, exit: Exit, stage: Stage, facts: &Facts) -> Error {
        let memory_mib = facts.memory_mib;
        let details = self.last_words();
        let heard = lock(&self.heard);
        let findings = heard.console.findings();
        match Outcome::explain(exit, &heard.diagnostics(), &findings) {
            Outcome::GuestReset if !findings.oom_kills.is_empty() => Error::OutOfMemory { memory_mib },
            Outcome::GuestReset => Error::GuestReset { stage, memory_mib, details },
            Outcome::Failed(failure) => Error::VmEnded { failure, kind: facts.kind, details },
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.readers.iter().for_each(JoinHandle::abort);
    }
}

impl Heard {
    fn push_diagnostics(&mut self, bytes: &[u8]) {
        self.diagnostics.extend(bytes);
        let excess = self.diagnostics.len().saturating_sub(KEPT);
        self.diagnostics.drain(..excess);
    }

    fn diagnostics(&self) -> Vec<u8> {
        self.diagnostics.iter().copied().collect()
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reader(
    pipe: OwnedFd,
    heard: &Arc<Mutex<Heard>>,
    take: fn(&mut Heard, &[u8]),
) -> io::Result<JoinHandle<()>> {
    let mut pipe = Receiver::from_owned_fd(pipe)?;
    let heard = Arc::clone(heard);
    Ok(tokio::spawn(async move {
        let mut chunk = vec![0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            take(&mut lock(&heard), &chunk[..length]);
        }
    }))
}
