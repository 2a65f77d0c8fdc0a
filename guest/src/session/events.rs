//! Waiting for something to happen, and doing what it asks for.

use super::link::Heard;
use super::{Session, SessionError};
use std::io;
use std::ops::Bound;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// How often an agent port is looked at that has no host yet: it reports a hang-up, so it cannot be waited for.
const CONNECT_POLL: Duration = Duration::from_millis(1);

/// What a watched descriptor is.
#[derive(Clone, Copy, Debug)]
enum Source {
    Link,
    Children,
    Process,
    Input(u32),
    Output(u32, usize),
}

/// The descriptors of one `poll(2)`, kept to reuse their memory.
#[derive(Debug, Default)]
pub(super) struct Events {
    watched: Vec<libc::pollfd>,
    sources: Vec<Source>,
}

impl Events {
    fn watch(&mut self, fd: RawFd, events: libc::c_short, source: Source) {
        self.watched.push(libc::pollfd { fd, events, revents: 0 });
        self.sources.push(source);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // Rounded up, so that a deadline has passed when the wait for it ends.
        let timeout = timeout.map_or(-1, |t| t.as_millis().saturating_add(1).try_into().unwrap_or(i32::MAX));
        // SAFETY: the pointer and the length are those of `watched`.
        let result =
            unsafe { libc::poll(self.watched.as_mut_ptr(), self.watched.len() as libc::nfds_t, timeout) };
        match (result, io::Error::last_os_error()) {
            (0.., _) => Ok(()),
            (_, e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            (_, e) => Err(e),
        }
    }

    fn happened(&self) -> impl Iterator<Item = (Source, libc::c_short)> {
        self.sources.iter().copied().zip(self.watched.iter().map(|w| w.revents)).filter(|(_, r)| *r != 0)
    }
}

impl Session {
    /// After the end of a session: gives what was written time to reach the host, which answers the last words with
    /// SHUTDOWN or by going away.
    ///
    /// # Errors
    /// [`SessionError`] when the connection cannot be used any more, which here is as good as an answer.
    pub fn await_release(&mut self, at_most: Duration) -> Result<(), SessionError> {
        let end = Instant::now() + at_most;
        let mut events = Events::default();
        while self.stopping.is_none() && Instant::now() < end {
            if !self.link.flush().map_err(SessionError::Port)? {
                break;
            }
            events.watched.clear();
            let more = if self.link.pending() > 0 { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
            events.watch(self.link.as_fd().as_raw_fd(), more, Source::Link);
            events.wait(Some(end - Instant::now().min(end))).map_err(SessionError::Poll)?;
            let what = events.watched.first().map_or(0, |w| w.revents);
            if self.on_link(what)? == Heard::Gone {
                break;
            }
        }
        Ok(())
    }

    /// Waits for one or more events and handles them.
    pub(super) fn step(&mut self) -> Result<Heard, SessionError> {
        let mut events = std::mem::take(&mut self.events);
        self.collect(&mut events);
        let timeout = self.stopping.and_then(|s| s.kill_at).map(|at| at - Instant::now().min(at));
        let result = events.wait(timeout).map_err(SessionError::Poll).and_then(|()| self.handle(&events));
        self.events = events;
        self.kill_when_due();
        result
    }

    fn collect(&mut self, events: &mut Events) {
        events.watched.clear();
        events.sources.clear();
        let more = if self.link.pending() > 0 { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
        events.watch(self.link.as_fd().as_raw_fd(), more, Source::Link);
        if let Some(fd) = self.setup.children.watch() {
            events.watch(fd, libc::POLLIN, Source::Children);
        }
        let own = self.setup.children.watch().is_none();
        let room = self.link.has_room();
        // Start with another stream each time, so that none gets all the room.
        let (before, after) = (self.streams.range(..self.turn), self.streams.range(self.turn..));
        for (&id, stream) in after.chain(before) {
            if own && stream.status.is_none() {
                events.watch(stream.pidfd.as_raw_fd(), libc::POLLIN, Source::Process);
            }
            if let Some((fd, waiting)) = stream.input.as_ref().map(|i| i.watch()) {
                events.watch(fd, if waiting { libc::POLLOUT } else { 0 }, Source::Input(id));
            }
            for (index, output) in stream.outputs.iter().enumerate() {
                if let Some(fd) = output.as_ref().and_then(|o| o.watch()).filter(|_| room) {
                    events.watch(fd, libc::POLLIN, Source::Output(id, index));
                }
            }
        }
        let next = self.streams.range((Bound::Excluded(self.turn), Bound::Unbounded)).next();
        self.turn = next.map_or(0, |(&id, _)| id);
    }

    fn handle(&mut self, events: &Events) -> Result<Heard, SessionError> {
        let mut heard = Heard::Nothing;
        for (source, what) in events.happened() {
            match source {
                Source::Link => heard = self.on_link(what)?,
                Source::Children | Source::Process => self.reap()?,
                Source::Input(id) => self.on_input(id, what)?,
                Source::Output(id, index) => self.on_output(id, index),
            }
        }
        self.drain_ended();
        self.report_ended()?;
        Ok(heard)
    }

    fn on_link(&mut self, what: libc::c_short) -> Result<Heard, SessionError> {
        if what & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) == 0 {
            return Ok(Heard::Nothing);
        }
        let heard = self.link.receive().map_err(SessionError::Port)?;
        match heard {
            Heard::Bytes => self.hear()?,
            Heard::NotConnected => std::thread::sleep(CONNECT_POLL),
            Heard::Nothing | Heard::Gone => {}
        }
        Ok(heard)
    }

    fn on_input(&mut self, id: u32, what: libc::c_short) -> Result<(), SessionError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if what & libc::POLLERR != 0 {
            stream.close_input(&mut self.link);
            return Ok(());
        }
        stream.pump_input(&mut self.link)
    }

    fn on_output(&mut self, id: u32, index: usize) {
        if self.link.has_room()
            && let Some(stream) = self.streams.get_mut(&id)
        {
            stream.pump_output(index, &mut self.link);
        }
    }

    /// Delivers what ended processes left, as far as credit and room go. Nothing is readable any more when a pipe is
    /// empty and its other end still open, so this cannot be left to `poll(2)`.
    fn drain_ended(&mut self) {
        for stream in self.streams.values_mut().filter(|s| s.status.is_some()) {
            for index in 0..stream.outputs.len() {
                while self.link.has_room() && stream.outputs[index].as_ref().is_some_and(|o| o.draining()) {
                    stream.pump_output(index, &mut self.link);
                }
            }
        }
    }
}
