//! One process: its standard streams with their credit, and how it ended.

use super::SessionError;
use super::launch::Launched;
use super::link::Link;
use super::terminal::Terminal;
use crate::flow::{FlowError, ReceiveWindow, SendWindow, credit_payload};
use crate::message::{Signal, WindowSize};
use crate::wire::{ALL_CHANNELS, Kind, STDERR, STDIN, STDOUT};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A reader that got so much at once is reading a bulk transfer.
const BULK: usize = 64 * 1024;
/// Pipe size for bulk transfers.
const BULK_PIPE: libc::c_int = 256 * 1024;
/// Most bytes still taken from a terminal whose process has ended. A terminal holds far less; this only keeps a
/// background process that goes on writing from holding the end up.
const TERMINAL_REST: usize = 256 * 1024;

/// Standard input on its way from the host to the process.
#[derive(Debug)]
pub(super) struct Input {
    file: File,
    buffer: VecDeque<u8>,
    window: ReceiveWindow,
    ended: bool,
    grown: bool,
    /// The last byte that came was not the end of a line.
    within_line: bool,
}

/// Standard output or error on its way to the host.
#[derive(Debug)]
pub(super) struct Output {
    source: OwnedFd,
    channel: u8,
    window: SendWindow,
    /// Set when the process has ended: what is still to be read of what it left.
    rest: Option<usize>,
    grown: bool,
    terminal: bool,
}

/// A process that runs or whose output is still being delivered.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) stop_signal: i32,
    /// Status as `waitpid(2)` gives it, once the process has ended.
    pub(super) status: Option<i32>,
    pub(super) input: Option<Input>,
    pub(super) outputs: [Option<Output>; 2],
    terminal: Option<Terminal>,
}

impl Stream {
    pub(super) fn new(id: u32, launched: Launched, stop_signal: Option<i32>) -> Stream {
        let Launched { child, stdin, stdout, stderr, terminal } = launched;
        let on_terminal = terminal.is_some();
        let output = |source, channel| Output {
            source,
            channel,
            window: SendWindow::default(),
            rest: None,
            grown: false,
            terminal: on_terminal,
        };
        Stream {
            id,
            pid: child.pid,
            pidfd: child.pidfd,
            stop_signal: stop_signal.filter(|s| (1..=64).contains(s)).unwrap_or(libc::SIGTERM),
            status: None,
            input: stdin.map(|fd| Input {
                file: File::from(fd),
                buffer: VecDeque::new(),
                window: ReceiveWindow::default(),
                ended: false,
                grown: false,
                within_line: false,
            }),
            outputs: [Some(output(stdout, STDOUT)), stderr.map(|fd| output(fd, STDERR))],
            terminal,
        }
    }

    /// DATA for standard input.
    pub(super) fn push_input(&mut self, bytes: &[u8], link: &mut Link) -> Result<(), SessionError> {
        let Some(input) = &mut self.input else { return Ok(()) };
        input.window.received(bytes.len())?;
        input.within_line = bytes.last().is_some_and(|last| *last != b'\n');
        if bytes.len() >= BULK && !input.grown && self.terminal.is_none() {
            input.grown = true;
            grow(input.file.as_fd());
        }
        // What the process takes at once is not copied; what went wrong comes up again with the rest.
        let taken = match input.buffer.is_empty() {
            true => input.file.write(bytes).unwrap_or(0),
            false => 0,
        };
        if let Some(credit) = input.window.consumed(taken) {
            link.put(Kind::Credit, self.id, STDIN, &credit_payload(credit));
        }
        input.buffer.extend(&bytes[taken..]);
        self.pump_input(link)
    }

    /// EOF of standard input.
    pub(super) fn end_input(&mut self, link: &mut Link) -> Result<(), SessionError> {
        if let Some(input) = &mut self.input {
            input.ended = true;
        }
        self.pump_input(link)
    }

    /// Writes what waits for the process, returns credit for it, and closes standard input when all is written.
    pub(super) fn pump_input(&mut self, link: &mut Link) -> Result<(), SessionError> {
        let Some(input) = &mut self.input else { return Ok(()) };
        while !input.buffer.is_empty() {
            let (front, _) = input.buffer.as_slices();
            match input.file.write(front) {
                Ok(count) => {
                    input.buffer.drain(..count);
                    if let Some(credit) = input.window.consumed(count) {
                        link.put(Kind::Credit, self.id, STDIN, &credit_payload(credit));
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The process closed its standard input (or hung up its terminal): nothing is wrong, it wants no more.
                Err(_) => {
                    self.close_input(link);
                    return Ok(());
                }
            }
        }
        if input.ended {
            if let Some(terminal) = &self.terminal
                && let Some(byte) = terminal.end_of_file()
            {
                input.ended = false;
                // Within a line the first only hands over what is there. These bytes have no credit of the host's, which
                // makes its window grow by two at most.
                let times = if input.within_line { 2 } else { 1 };
                input.buffer.extend(std::iter::repeat_n(byte, times));
                return self.pump_input(link);
            }
            self.input = None;
        }
        Ok(())
    }

    /// The process reads no more; the host need not send.
    pub(super) fn close_input(&mut self, link: &mut Link) {
        if self.input.take().is_some() {
            link.put(Kind::Close, self.id, STDIN, &[]);
        }
    }

    /// CREDIT for an output channel.
    pub(super) fn add_credit(&mut self, channel: u8, bytes: u32) -> Result<(), FlowError> {
        match self.output(channel).and_then(Option::as_mut) {
            Some(output) => output.window.add(bytes),
            None => Ok(()),
        }
    }

    /// CLOSE from the host.
    pub(super) fn close(&mut self, channel: u8) {
        if channel == ALL_CHANNELS {
            self.kill();
            self.input = None;
            self.outputs = [None, None];
        } else if let Some(output) = self.output(channel) {
            // Closing our end of the pipe is what gives the process its SIGPIPE. A terminal cannot be closed in one
            // direction: its process is told by SIGHUP, as when a window is closed.
            let terminal = output.take().is_some_and(|o| o.terminal);
            if terminal {
                self.hang_up();
            }
        }
    }

    fn output(&mut self, channel: u8) -> Option<&mut Option<Output>> {
        match channel {
            STDOUT => self.outputs.get_mut(0),
            STDERR => self.outputs.get_mut(1),
            _ => None,
        }
    }

    fn hang_up(&self) {
        if self.status.is_none() {
            send(-self.pid, libc::SIGHUP);
        }
    }

    /// SIGKILL to the whole process group.
    pub(super) fn kill(&self) {
        if self.status.is_none() {
            send(-self.pid, libc::SIGKILL);
            send(self.pid, libc::SIGKILL);
        }
    }

    /// SIGNAL from the host.
    pub(super) fn signal(&self, signal: Signal) {
        if self.status.is_some() || !(1..=64).contains(&signal.signal) {
            return;
        }
        let foreground = self.terminal.as_ref().and_then(Terminal::foreground);
        let target = match (foreground, signal.group) {
            (Some(group), _) => -group,
            (None, true) => -self.pid,
            (None, false) => self.pid,
        };
        send(target, signal.signal);
    }

    /// RESIZE from the host. A failure means that the terminal is gone, and then its size is nobody's business.
    pub(super) fn resize(&self, size: WindowSize) {
        if let Some(terminal) = &self.terminal {
            let _ = terminal.resize(size);
        }
    }

    /// The process has ended: from here on only what its pipes hold now is delivered.
    pub(super) fn ended(&mut self, status: i32) {
        self.status = Some(status);
        self.input = None;
        for output in self.outputs.iter_mut().flatten() {
            output.rest = Some(if output.terminal { TERMINAL_REST } else { readable(&output.source) });
        }
    }

    /// Whether EXITED may be sent.
    pub(super) fn finished(&self) -> bool {
        self.status.is_some() && self.outputs.iter().all(Option::is_none)
    }

    /// Moves output number `index` to the link: one read. Closes it at its end.
    pub(super) fn pump_output(&mut self, index: usize, link: &mut Link) {
        let Some(slot) = self.outputs.get_mut(index) else { return };
        let Some(output) = slot else { return };
        if output.pump(self.id, link) == Pumped::End {
            let channel = output.channel;
            *slot = None;
            link.put(Kind::Eof, self.id, channel, &[]);
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Pumped {
    Some,
    End,
}

impl Input {
    /// The descriptor, and whether it is to be watched for writability; watched for nothing it still tells when the
    /// process closed its end.
    pub(super) fn watch(&self) -> (RawFd, bool) {
        (self.file.as_raw_fd(), !self.buffer.is_empty())
    }
}

impl Output {
    /// The descriptor to be watched, `None` without credit.
    pub(super) fn watch(&self) -> Option<RawFd> {
        (self.window.available() > 0).then(|| self.source.as_raw_fd())
    }

    /// Whether the process has ended and what it left can be delivered, or all of it was.
    pub(super) fn draining(&self) -> bool {
        self.rest.is_some_and(|rest| rest == 0 || self.window.available() > 0)
    }

    fn pump(&mut self, id: u32, link: &mut Link) -> Pumped {
        let limit = self.window.available().min(self.rest.unwrap_or(usize::MAX));
        if limit == 0 {
            return if self.rest == Some(0) { Pumped::End } else { Pumped::Some };
        }
        match link.put_data_from(self.source.as_fd(), (id, self.channel), limit) {
            Ok(0) => Pumped::End,
            Ok(count) => {
                self.window.take(count);
                self.rest = self.rest.map(|rest| rest - count.min(rest));
                if count >= BULK && !self.grown && !self.terminal {
                    self.grown = true;
                    grow(self.source.as_fd());
                }
                if self.rest == Some(0) { Pumped::End } else { Pumped::Some }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Pumped::Some,
            // After the end of the process "nothing now" is "nothing more".
            Err(e) if e.kind() == ErrorKind::WouldBlock && self.rest.is_none() => Pumped::Some,
            // EIO is how a terminal says that it was hung up; nothing else is to be expected of a pipe or a terminal.
            Err(_) => Pumped::End,
        }
    }
}

/// Larger pipe, fewer switches between the process and us. It stays as it is where the kernel refuses.
fn grow(pipe: BorrowedFd<'_>) {
    let _ = nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETPIPE_SZ(BULK_PIPE));
}

/// Bytes that can be read from a pipe right now.
fn readable(pipe: &OwnedFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if result < 0 { 0 } else { usize::try_from(count).unwrap_or(0) }
}

/// `kill(2)`; it fails only when the target has just ended, which is no failure here.
fn send(target: i32, signal: i32) {
    // SAFETY: plain system call without memory.
    let result = unsafe { libc::kill(target, signal) };
    debug_assert!(result == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH));
}
