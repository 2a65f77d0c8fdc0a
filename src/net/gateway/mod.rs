//! The gateway of a sandbox: the only host on its network, in user space.
//!
//! ```text
//! guest: virtio-net ── VMM ── unix stream, a frame behind its length ── gateway, a thread of the supervisor ── sockets of the host
//! ```
//!
//! Frames are taken apart (`packet.rs`) and become sockets of the host: TCP connections are ended here and begun again (`flow.rs`).
//! Every first packet is shown to the [`Policy`]. One thread does it all with one epoll, and sleeps when nothing happens.

mod buffers;
mod callers;
mod checksum;
mod core;
mod detour;
mod echo;
mod engine;
mod event;
mod flow;
mod fragments;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod greeting;
mod hail;
mod inbound;
mod link;
mod members;
mod names;
mod neighbor;
mod packet;
mod places;
mod quota;
mod stack;
mod tcp;
mod traffic;
mod tunnel;
mod udp;
mod waiting;
mod wire;

#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

pub use event::{Connection, End, Event, Observer};
pub use link::{Link, MTU};
pub use members::Members;
pub use quota::Rates;
pub use traffic::Traffic;

use super::dns::System;
use super::intercept::{Interception, Interceptor};
use super::policy::{Policy, Rule, Scope};
use super::port::Listener;
use super::proxy::Proxy;
use engine::Engine;
use traffic::Counters;
use wire::Wire;

/// What a gateway goes by.
pub struct Settings {
    /// The addresses.
    pub link: Link,
    /// Who may be reached.
    pub policy: Arc<Policy>,
    /// How much there may be of everything.
    pub limits: Limits,
    /// The sandbox's groups.
    pub members: Members,
    /// The DNS servers of the host. What it has not read yet it reads at the sandbox's first question.
    pub system: System,
    /// Published ports.
    pub listeners: Vec<Listener>,
    /// How secrets are put in, where there are any.
    pub interception: Option<Interception>,
    /// Who is told what happens.
    pub observer: Observer,
    /// Through whom TCP goes to all but the host; nothing else goes then.
    pub proxy: Option<Proxy>,
    /// Whether connections that were let through are told as well, each at its end.
    pub log: bool,
}

impl Settings {
    /// A gateway with this policy, and nothing else: no ports, groups, secrets, proxy, and nobody is told.
    #[must_use]
    pub fn new(link: Link, policy: Policy) -> Self {
        Self {
            link,
            policy: Arc::new(policy),
            limits: Limits::default(),
            members: Members::default(),
            system: System::default(),
            listeners: Vec::new(),
            interception: None,
            observer: Box::new(|_| {}),
            proxy: None,
            log: false,
        }
    }
}

/// How much there may be of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections at once.
    pub tcp: usize,
    /// Conversations by UDP at once, and as many peers that are pinged.
    pub udp: usize,
    /// What may go through and be begun per second.
    pub rates: Rates,
}

impl Limits {
    /// As much of it as `files` descriptors are enough for, where a connection takes `each`: what a sandbox opens must not keep its
    /// supervisor from hearing whoever wants to stop it.
    fn within(self, files: usize, each: usize) -> Self {
        let room = files - (files / 4).min(KEPT_FILES);
        // A conversation and a peer that is pinged take one.
        let wanted = self.tcp.saturating_mul(each).saturating_add(self.udp.saturating_mul(2));
        let part = |count: usize| (count as u128 * room as u128 / wanted.max(1) as u128).max(1) as usize;
        if wanted <= room { self } else { Self { tcp: part(self.tcp), udp: part(self.udp), ..self } }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { tcp: 16_384, udp: 4096, rates: Rates::default() }
    }
}

/// Descriptors that are left to everything else in this process.
const KEPT_FILES: usize = 1024;

/// What the thread is told.
enum Command {
    /// From now on this scope and these rules.
    Rules(Scope, Vec<Rule>),
    /// Report this.
    Report(Event),
    /// End.
    Stop,
}

/// What handle and thread have in common.
struct Shared {
    commands: Mutex<Vec<Command>>,
    bell: EventFd,
    counters: Arc<Counters>,
}

impl Shared {
    fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn send(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        // Fails only when the bell has been rung so often that the thread will look anyway.
        let _ = self.bell.write(1);
    }
}

/// A gateway at work; it ends when this is dropped, or when its machine does.
pub struct Gateway {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Starts a gateway. Gives the machine's end of the link as well, which needs no setting up any more.
    ///
    /// # Errors
    /// The system's.
    pub fn start(settings: Settings) -> io::Result<(Self, UnixStream)> {
        let (ours, machines) = Wire::pair()?;
        Ok((Self::run(ours, Some(machines.try_clone()?), settings)?, machines))
    }

    /// Starts a gateway at this end of a link.
    ///
    /// # Errors
    /// The system's.
    pub fn serve(socket: UnixStream, settings: Settings) -> io::Result<Self> {
        Self::run(socket, None, settings)
    }

    fn run(socket: UnixStream, machine: Option<UnixStream>, mut settings: Settings) -> io::Result<Self> {
        // With an interception there is a pair of sockets between both sides of a connection, and a second name of one.
        let each = if settings.interception.is_some() { 4 } else { 1 };
        let files = raise_file_limit().saturating_sub(settings.listeners.len());
        settings.limits = settings.limits.within(files, each);
        let shared = Arc::new(Shared {
            commands: Mutex::default(),
            bell: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            counters: Arc::default(),
        });
        let reporting = Arc::clone(&shared);
        let report = Arc::new(move |refusal| reporting.send(Command::Report(Event::Secret(refusal))));
        let interception = settings.interception.take();
        let interceptor =
            interception.map(|interception| Interceptor::start(interception, report)).transpose()?;
        let engine = Engine::new((socket, machine), (settings, interceptor), Arc::clone(&shared))?;
        let thread = std::thread::Builder::new().name("msb-net".into()).spawn(move || {
            // A link that is lost is the machine's end, of which others tell.
            let _ = engine.run();
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What speaks to it from elsewhere.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote(Arc::clone(&self.shared))
    }
}

/// Speaks to a gateway for as long as that is there.
#[derive(Clone)]
pub struct Remote(Arc<Shared>);

impl Remote {
    /// From now on this scope and these rules decide. What is open and not allowed any more is ended.
    pub fn set_rules(&self, scope: Scope, rules: Vec<Rule>) {
        self.0.send(Command::Rules(scope, rules));
    }

    /// What has gone through so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.0.counters.read()
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// Every connection takes a descriptor, and the usual limit is there for programs that use `select`. Gives the limit there is now.
pub fn raise_file_limit() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return KEPT_FILES };
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on standard error.
            let _ = thread.join();
        }
    }
}
