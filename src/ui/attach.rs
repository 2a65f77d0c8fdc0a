//! Joins the caller's streams, terminal and signals to the command in a sandbox.
//!
//! Standard streams may be anything, regular files included, which `epoll` cannot watch; and making them non-blocking
//! would change them for the caller's shell as well. So each has a thread of its own that blocks, joined to the rest by
//! bounded channels: whoever is slow holds up its own stream only.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, FromRawFd as _, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::terminal::{self, RawTerminal};
use crate::agent::{self, Control, Outcome, Output, Process, Stdin};
use crate::sandbox::{Ending, Error, LogStream, LogWriter, Running, Timings};

/// Bytes read from standard input at once.
const CHUNK: usize = 128 << 10;
/// Chunks on their way between a thread and the sandbox.
const IN_FLIGHT: usize = 4;
/// So many interrupts end a command that does not care.
const INTERRUPTS: u32 = 3;

/// Signals a caller may send to msb which are meant for the command.
const FORWARDED: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// How the caller's streams are joined to a process.
#[derive(Debug)]
pub struct Joint {
    /// The process has a terminal: the caller's is in raw mode meanwhile, and its size follows.
    pub tty: bool,
    /// Pass standard input on.
    pub input: bool,
    /// Number of the signal that a SIGTERM to msb becomes.
    pub stop_signal: i32,
    /// Keys that, typed in this order on a terminal, leave the process alone.
    pub detach_keys: Vec<u8>,
    /// Where output is written down as well.
    pub log: Option<LogWriter>,
}

/// How a conversation with a process ended.
#[derive(Debug)]
pub enum Parted {
    /// The process has ended, and everything it wrote is out.
    Ended(Outcome),
    /// The caller has left it.
    Detached,
}

/// Runs until the command has ended and everything it wrote is out.
///
/// # Errors
/// The sandbox's own errors; a closed standard output is none, the command learns of it as it would locally.
pub async fn attach(running: Running, joint: Joint, timings: &mut Timings) -> Result<Ending, Error> {
    let process = running.process().ok_or(Error::NoCommand)?;
    let outcome = match join(process, joint).await {
        Ok(Parted::Ended(outcome)) => Ok(outcome),
        // Without the keys nobody leaves.
        Ok(Parted::Detached) => return Err(Error::NoCommand),
        Err(error) => Err(error),
    };
    running.finish(outcome, timings).await
}

/// Joins the caller's streams and signals to `process` until it has ended or the caller leaves it.
///
/// # Errors
/// Why the connection to the guest ended.
pub async fn join(process: Process, joint: Joint) -> Result<Parted, agent::Error> {
    let Process { stdin, stdout, stderr, control } = process;
    let raw = if joint.tty { RawTerminal::enter().ok() } else { None };
    let signals = tokio::spawn(forward_signals(control.clone(), joint.stop_signal, joint.tty));
    let keys = DetachKeys { keys: joint.detach_keys, typed: 0 };
    let (left, mut leaves) = oneshot::channel();
    let input = joint.input.then(|| tokio::spawn(pump_input(stdin, keys, left)));
    let log = joint.log.map(|log| Arc::new(Mutex::new(log)));
    let outputs =
        [(stdout, libc::STDOUT_FILENO, LogStream::Stdout), (stderr, libc::STDERR_FILENO, LogStream::Stderr)]
            .map(|(output, to, stream)| {
                let log = log.clone().map(|log| (log, stream));
                tokio::spawn(pump_output(output, to, log))
            });
    let parted = tokio::select! {
        outcome = control.wait() => outcome.map(Parted::Ended),
        Ok(()) = &mut leaves => Ok(Parted::Detached),
    };
    for output in outputs {
        if matches!(parted, Ok(Parted::Detached)) {
            output.abort();
        }
        // What is left of the output belongs to the caller before the exit code does.
        let _ = output.await;
    }
    input.inspect(JoinHandle::abort);
    signals.abort();
    drop(raw);
    parted
}

/// Looks for the keys by which the caller leaves.
#[derive(Debug)]
struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl DetachKeys {
    /// What of `chunk` is for the process; `true` when the keys are complete. Keys that turn out to be the beginning of
    /// something else are passed on late.
    fn filter(&mut self, chunk: Bytes) -> (Bytes, bool) {
        if self.keys.is_empty() {
            return (chunk, false);
        }
        let mut passed = Vec::with_capacity(chunk.len());
        for byte in chunk {
            if self.keys.get(self.typed) == Some(&byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return (passed.into(), true);
                }
                continue;
            }
            passed.extend(self.keys.iter().take(self.typed));
            self.typed = usize::from(self.keys.first() == Some(&byte));
            if self.typed == 0 {
                passed.push(byte);
            }
        }
        (passed.into(), false)
    }
}

/// Standard input, until its end, until the command takes no more, or until the caller leaves.
async fn pump_input(mut input: Stdin, mut keys: DetachKeys, left: oneshot::Sender<()>) {
    let (sender, mut chunks) = mpsc::channel(IN_FLIGHT);
    thread::spawn(move || read_input(&sender));
    loop {
        let chunk: Bytes = tokio::select! {
            chunk = chunks.recv() => match chunk {
                Some(chunk) => chunk,
                None => break,
            },
            () = input.closed() => return,
        };
        let (chunk, leaves) = keys.filter(chunk);
        if input.write_all(&chunk).await.is_err() {
            return;
        }
        if leaves {
            let _ = left.send(());
            // The input must not end before the process is left, which would be an end of file to it.
            return std::future::pending().await;
        }
    }
    input.eof();
}

fn read_input(sender: &mpsc::Sender<Bytes>) {
    let mut stdin = borrowed(libc::STDIN_FILENO);
    loop {
        let mut chunk = vec![0; CHUNK];
        match stdin.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                chunk.truncate(length);
                if sender.blocking_send(chunk.into()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if wait_for(&stdin, PollFlags::POLLIN).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// One output stream of the command into `descriptor`. When the reader there is gone, the command is told.
async fn pump_output(mut output: Output, descriptor: RawFd, log: Option<(Arc<Mutex<LogWriter>>, LogStream)>) {
    let (sender, mut chunks) = mpsc::channel::<Bytes>(IN_FLIGHT);
    let (ended, mut end) = oneshot::channel();
    thread::spawn(move || {
        let mut file = borrowed(descriptor);
        while let Some(chunk) = chunks.blocking_recv() {
            if write_all(&mut file, &chunk).is_err() {
                break;
            }
        }
        let _ = ended.send(());
    });
    loop {
        tokio::select! {
            chunk = output.read() => match chunk {
                Ok(Some(chunk)) => {
                    if let Some((log, stream)) = &log {
                        // A log that cannot be written, on a full disk for example, is no reason to end the run.
                        let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write(*stream, &chunk);
                    }
                    if sender.send(chunk).await.is_err() { break }
                }
                Ok(None) | Err(_) => break,
            },
            _ = &mut end => return,
        }
    }
    // Dropping `output` closes it for the command; dropping `sender` lets the thread finish what it has.
    drop((output, sender));
    let _ = end.await;
}

fn wait_for(file: &File, what: PollFlags) -> io::Result<()> {
    poll(&mut [PollFd::new(file.as_fd(), what)], PollTimeout::NONE)?;
    Ok(())
}

/// As `write_all`, and waits where the caller's descriptor happens to be non-blocking.
fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(file, PollFlags::POLLOUT)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A standard stream without taking it over: it stays open for the rest of the process.
fn borrowed(descriptor: RawFd) -> ManuallyDrop<File> {
    // SAFETY: the standard descriptors stay open, and ManuallyDrop keeps this File from closing one.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) })
}

/// Passes signals on. With a terminal, keys reach the command as bytes, so signals come from elsewhere.
async fn forward_signals(control: Control, stop_signal: i32, tty: bool) {
    let (sender, mut arrived) = mpsc::channel(8);
    for kind in FORWARDED {
        let Ok(mut stream) = signal(SignalKind::from_raw(kind as i32)) else { continue };
        let sender = sender.clone();
        tokio::spawn(
            async move { while stream.recv().await.is_some() && sender.send(kind).await.is_ok() {} },
        );
    }
    if tty && let Ok(mut resized) = signal(SignalKind::window_change()) {
        let control = control.clone();
        tokio::spawn(async move {
            while resized.recv().await.is_some() && control.resize(terminal::size()).is_ok() {}
        });
    }
    let mut interrupts = 0;
    while let Some(kind) = arrived.recv().await {
        interrupts += u32::from(kind == Signal::SIGINT);
        // Ctrl-C means the whole job, any other signal the command msb stands for.
        let sent = match kind {
            Signal::SIGINT if interrupts < INTERRUPTS => control.signal_group(libc::SIGINT),
            Signal::SIGINT => control.signal_group(libc::SIGKILL),
            // Whoever asks msb to end asks the command to, in the way its image wants to be asked.
            Signal::SIGTERM => control.signal(stop_signal),
            other => control.signal(other as i32),
        };
        if sent.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_taken_out_of_what_is_typed() {
        for (chunks, passed, leaves) in [
            (&["abc"][..], "abc", false),
            (&["a\x10\x11b"], "a", true),
            (&["a\x10", "\x11"], "a", true),
            (&["\x10", "x"], "\x10x", false),
            (&["\x10\x10\x11"], "\x10", true),
            (&["\x11\x10"], "\x11", false),
        ] {
            let mut keys = DetachKeys { keys: vec![0x10, 0x11], typed: 0 };
            let mut all = Vec::new();
            let mut left = false;
            for chunk in chunks {
                let (chunk, now) = keys.filter(Bytes::copy_from_slice(chunk.as_bytes()));
                all.extend_from_slice(&chunk);
                left |= now;
            }
            assert_eq!((all.as_slice(), left), (passed.as_bytes(), leaves), "{chunks:?}");
        }
    }
}
