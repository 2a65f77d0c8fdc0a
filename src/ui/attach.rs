//! Joins the caller's streams, terminal and signals to the command in a sandbox.
//!
//! Standard streams may be anything, regular files included, which `epoll` cannot watch; and making them non-blocking
//! would change them for the caller's shell as well. So each has a thread of its own that blocks, joined to the rest by
//! bounded channels: whoever is slow holds up its own stream only.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, FromRawFd as _, RawFd};
use std::thread;

use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::terminal::{self, RawTerminal};
use crate::agent::{Control, Output, Process, Stdin};
use crate::sandbox::{Ending, Error, Running, Timings};

/// Bytes read from standard input at once.
const CHUNK: usize = 128 << 10;
/// Chunks on their way between a thread and the sandbox.
const IN_FLIGHT: usize = 4;
/// So many interrupts end a command that does not care.
const INTERRUPTS: u32 = 3;

/// Signals a caller may send to msb which are meant for the command.
const FORWARDED: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs until the command has ended and everything it wrote is out. With `tty` the caller's terminal is in raw mode
/// meanwhile, and its size follows.
///
/// # Errors
/// The sandbox's own errors; a closed standard output is none, the command learns of it as it would locally.
pub async fn attach(running: Running, tty: bool, timings: &mut Timings) -> Result<Ending, Error> {
    let Some(Process { stdin, stdout, stderr, control }) = running.process() else {
        return Err(Error::NoCommand);
    };
    let raw = if tty { RawTerminal::enter().ok() } else { None };
    let signals = tokio::spawn(forward_signals(control.clone(), running.stop_signal(), tty));
    let input = tokio::spawn(pump_input(stdin));
    let outputs = [(stdout, libc::STDOUT_FILENO), (stderr, libc::STDERR_FILENO)]
        .map(|(output, to)| tokio::spawn(pump_output(output, to)));
    let outcome = control.wait().await;
    for output in outputs {
        // What is left of the output belongs to the caller before the exit code does.
        let _ = output.await;
    }
    input.abort();
    signals.abort();
    drop(raw);
    running.finish(outcome, timings).await
}

/// Standard input, until its end or until the command takes no more.
async fn pump_input(mut input: Stdin) {
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
        if input.write_all(&chunk).await.is_err() {
            return;
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
async fn pump_output(mut output: Output, descriptor: RawFd) {
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
                Ok(Some(chunk)) => if sender.send(chunk).await.is_err() { break },
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
