//! The session: reads frames, runs processes, moves their bytes. One thread, one `poll(2)`.
//!
//! It needs neither PID 1 nor a VM, only a non-blocking byte stream to the host.

mod account;
mod children;
mod environment;
mod events;
mod launch;
mod link;
mod oom;
mod spawn;
mod stream;
mod terminal;
mod toolbox;

pub use account::{Account, AccountError, Database};
pub use children::Children;
pub use link::{Heard, Link};
pub use oom::OomWatch;
pub use toolbox::{Layers, Toolbox};

use crate::flow::{FlowError, parse_credit};
use crate::message::{ByteString, Clock, ExecSpec, Exited, Failed, FailureKind, Shutdown, Started};
use crate::wire::{Decoder, EncodeError, Frame, Kind, MACHINE, MAIN_STREAM, Side, WireError};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use stream::Stream;

/// Most processes at a time.
const STREAM_LIMIT: usize = 1024;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The host broke the framing.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The host broke the flow control.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// A message of ours does not fit its frame.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A message of the host is not what its kind says.
    #[error("{kind:?} message cannot be read: {source}")]
    Message {
        /// Kind of the message.
        kind: Kind,
        /// What serde says.
        source: serde_json::Error,
    },
    /// The connection failed.
    #[error("agent port: {0}")]
    Port(io::Error),
    /// `poll(2)` failed.
    #[error("poll: {0}")]
    Poll(io::Error),
    /// SIGCHLD cannot be taken.
    #[error("signalfd: {0}")]
    Children(io::Error),
}

/// Why a session ended well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The host went away.
    HostGone,
    /// The host asked for it, and all processes have ended.
    Shutdown,
    /// The main process ended, and the guest is to power off with it. What the host is told about it has been written to
    /// the port, but maybe not yet read by the host.
    MainEnded,
}

/// What a session is made with.
#[derive(Debug)]
pub struct Setup {
    /// Environment below that of each process.
    pub env: Vec<(ByteString, ByteString)>,
    /// How ended processes are noticed.
    pub children: Children,
    /// How out-of-memory kills are noticed.
    pub oom: OomWatch,
    /// What tools are started with, if there are any.
    pub tools: Option<Toolbox>,
    /// The `cgroup.procs` of the cgroup that commands enter, if they have one of their own.
    pub commands: Option<OwnedFd>,
    /// Sets the clock to so many nanoseconds since 1970; nothing where it is not this program's to set.
    pub set_clock: Option<fn(u64)>,
    /// End the session when stream 1 has ended.
    pub end_with_main: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stopping {
    kill_at: Option<Instant>,
}

/// Runs processes for the host.
#[derive(Debug)]
pub struct Session {
    link: Link,
    setup: Setup,
    streams: BTreeMap<u32, Stream>,
    stopping: Option<Stopping>,
    main_ended: bool,
    /// Stream that gets the first turn at the outbox next time.
    turn: u32,
    events: events::Events,
}

impl Session {
    /// A session over `link`, from which the boot document has been read already.
    #[must_use]
    pub fn new(link: Link, setup: Setup) -> Session {
        Session {
            link,
            setup,
            streams: BTreeMap::new(),
            stopping: None,
            main_ended: false,
            turn: 0,
            events: events::Events::default(),
        }
    }

    /// The connection, to say or hear something when the session is over.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Starts a process as `stream` and tells the host how that went.
    ///
    /// # Errors
    /// Only what ends the session; that the process cannot be started does not.
    pub fn open(&mut self, stream: u32, spec: &ExecSpec) -> Result<(), SessionError> {
        let refusal = if stream == MACHINE || self.streams.contains_key(&stream) {
            Some("the stream is in use")
        } else if self.streams.len() >= STREAM_LIMIT {
            Some("too many processes")
        } else if self.stopping.is_some() {
            Some("the sandbox is shutting down")
        } else {
            None
        };
        let launched = match refusal {
            Some(message) => Err(Failed { kind: FailureKind::Other, message: message.into() }),
            None => launch::launch(spec, &self.setup),
        };
        match launched {
            Ok(launched) => {
                let started = Started { pid: launched.child.pid, at_ns: boottime_ns() };
                self.link.put_message(Kind::Started, stream, &started)?;
                self.streams.insert(stream, Stream::new(stream, launched, spec.stop_signal));
                Ok(())
            }
            Err(failed) => {
                self.main_ended |= stream == MAIN_STREAM;
                self.link.put_message(Kind::Failed, stream, &failed)
            }
        }
    }

    /// Works until the session ends.
    ///
    /// # Errors
    /// [`SessionError`] when the connection cannot be used any more.
    pub fn run(&mut self) -> Result<End, SessionError> {
        // The host need not wait for READY: more than the boot document may have come in the same read.
        self.hear()?;
        loop {
            if !self.link.flush().map_err(SessionError::Port)? {
                return Ok(End::HostGone);
            }
            if self.link.pending() == 0 {
                if self.main_ended && self.setup.end_with_main {
                    return Ok(End::MainEnded);
                }
                if self.stopping.is_some() && self.streams.is_empty() {
                    return Ok(End::Shutdown);
                }
            }
            if self.step()? == Heard::Gone {
                return Ok(End::HostGone);
            }
        }
    }

    /// Takes every whole frame that is in the decoder.
    fn hear(&mut self) -> Result<(), SessionError> {
        let mut decoder = std::mem::replace(&mut self.link.decoder, Decoder::new(Side::Guest, 0));
        let result = loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    if let Err(e) = self.obey(frame) {
                        break Err(e);
                    }
                }
                Ok(None) => break Ok(()),
                Err(e) => break Err(e.into()),
            }
        };
        self.link.decoder = decoder;
        result
    }

    fn obey(&mut self, frame: Frame<'_>) -> Result<(), SessionError> {
        let Frame { kind, channel, stream: id, payload } = frame;
        match kind {
            Kind::Exec => return self.open(id, &parse(kind, payload)?),
            Kind::Shutdown => return self.shut_down(parse(kind, payload)?),
            Kind::Clock => {
                let Clock { realtime_ns } = parse(kind, payload)?;
                self.setup.set_clock.into_iter().for_each(|set| set(realtime_ns));
                return Ok(());
            }
            _ => {}
        }
        // A frame for a stream that ended crossed its last frame on the way.
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        match kind {
            Kind::Data => stream.push_input(payload, &mut self.link)?,
            Kind::Eof => stream.end_input(&mut self.link)?,
            Kind::Credit => stream.add_credit(channel, parse_credit(payload)?)?,
            Kind::Close => stream.close(channel),
            Kind::Signal => stream.signal(parse(kind, payload)?),
            Kind::Resize => stream.resize(parse(kind, payload)?),
            // A second boot document changes nothing, and the decoder lets no others through.
            _ => {}
        }
        Ok(())
    }

    fn shut_down(&mut self, how: Shutdown) -> Result<(), SessionError> {
        let kill_at = Instant::now() + Duration::from_millis(how.grace_ms.into());
        self.stopping = Some(Stopping { kill_at: Some(kill_at) });
        for stream in self.streams.values().filter(|_| how.grace_ms > 0) {
            stream.signal(crate::message::Signal { signal: stream.stop_signal, group: false });
        }
        self.kill_when_due();
        Ok(())
    }

    /// Kills what did not stop in time.
    fn kill_when_due(&mut self) {
        if let Some(Stopping { kill_at: Some(at) }) = self.stopping
            && Instant::now() >= at
        {
            self.stopping = Some(Stopping { kill_at: None });
            self.streams.values().for_each(Stream::kill);
        }
    }

    /// Notes which processes have ended.
    fn reap(&mut self) -> Result<(), SessionError> {
        self.setup.children.acknowledge()?;
        match self.setup.children {
            Children::All(_) => {
                while let Some((pid, status)) = children::reap(-1) {
                    if let Some(stream) =
                        self.streams.values_mut().find(|s| s.pid == pid && s.status.is_none())
                    {
                        stream.ended(status);
                    }
                }
            }
            Children::Own => {
                for stream in self.streams.values_mut().filter(|s| s.status.is_none()) {
                    if let Some((_, status)) = children::reap(stream.pid) {
                        stream.ended(status);
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells the host of every process that has ended and whose output is delivered.
    fn report_ended(&mut self) -> Result<(), SessionError> {
        while let Some(id) = self.streams.values().find(|s| s.finished()).map(|s| s.id) {
            let Some(stream) = self.streams.remove(&id) else { break };
            let exited = exited(stream.status.unwrap_or_default(), &mut self.setup.oom);
            self.link.put_message(Kind::Exited, id, &exited)?;
            self.main_ended |= id == MAIN_STREAM;
        }
        Ok(())
    }
}

/// No process outlives its session.
impl Drop for Session {
    fn drop(&mut self) {
        self.streams.values().for_each(Stream::kill);
    }
}

fn parse<T: DeserializeOwned>(kind: Kind, payload: &[u8]) -> Result<T, SessionError> {
    serde_json::from_slice(payload).map_err(|source| SessionError::Message { kind, source })
}

fn exited(status: i32, oom: &mut OomWatch) -> Exited {
    let (code, signal) = if libc::WIFSIGNALED(status) {
        (None, Some(libc::WTERMSIG(status)))
    } else {
        (Some(libc::WEXITSTATUS(status)), None)
    };
    // 137 is what a shell makes of a child that was killed.
    let killed = signal == Some(libc::SIGKILL) || code == Some(128 + libc::SIGKILL);
    Exited { code, signal, oom_killed: killed && oom.new_kill(), at_ns: boottime_ns() }
}

/// Nanoseconds since the kernel started.
#[must_use]
pub fn boottime_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |t| t.tv_sec().unsigned_abs() * 1_000_000_000 + t.tv_nsec().unsigned_abs())
}
