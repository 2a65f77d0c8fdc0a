//! Waiting for sockets and for time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Whose socket or time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The virtual machine's socket.
    Wire,
    /// The bell of the handle.
    Bell,
    /// Those who wait for bytes that may go.
    Quota,
    /// A TCP connection.
    Tcp,
    /// A conversation by UDP.
    Udp,
    /// Somebody who is pinged.
    Echo,
    /// A listener.
    Port,
    /// A question to a DNS server.
    Dns,
    /// A connection of the sandbox to the gateway's DNS server.
    DnsClient,
    /// Where other sandboxes call.
    Door,
    /// One that calls, and has not said yet who it is.
    Caller,
}

const OWNERS: [Owner; 11] = [
    Owner::Wire,
    Owner::Bell,
    Owner::Quota,
    Owner::Tcp,
    Owner::Udp,
    Owner::Echo,
    Owner::Port,
    Owner::Dns,
    Owner::DnsClient,
    Owner::Door,
    Owner::Caller,
];
/// How long is looked for changes without sleeping, as waking up takes as long; done where the last sleep was [`SHORT`].
const SPIN: Duration = Duration::from_micros(50);
const SHORT: Duration = Duration::from_micros(200);

/// Names one socket for as long as the gateway lives: places are used again, with another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    /// Whose.
    pub(super) owner: Owner,
    /// Which life of the place; 24 bits.
    pub(super) generation: u32,
    /// The place in its owner's table.
    pub(super) index: u32,
}

impl Token {
    /// The place `index` in its life `generation`.
    #[must_use]
    pub(super) fn new(owner: Owner, generation: u32, index: usize) -> Self {
        Self { owner, generation: generation & 0xff_ffff, index: index as u32 }
    }

    fn bits(self) -> u64 {
        (self.owner as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The token of these bits.
    #[must_use]
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let owner = *OWNERS.get((bits >> 56) as usize)?;
        Some(Self { owner, generation: (bits >> 32) as u32 & 0xff_ffff, index: bits as u32 })
    }
}

/// Everything that is waited for.
pub(super) struct Waiting {
    poller: Epoll,
    timers: BinaryHeap<Reverse<(Instant, Token)>>,
    /// The last sleep was short.
    spins: bool,
}

impl Waiting {
    /// For nothing yet.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new() -> io::Result<Self> {
        let poller = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { poller, timers: BinaryHeap::new(), spins: false })
    }

    /// Has changes of `socket` reported under `token`, each once.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn watch(&self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        let either = EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI | EpollFlags::EPOLLOUT;
        let flags = either | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        Ok(self.poller.add(socket, EpollEvent::new(flags, token.bits()))?)
    }

    /// The same for a socket that may be watched under another token already.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn watch_again(&self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        match self.poller.delete(socket) {
            Ok(()) | Err(nix::Error::ENOENT) => self.watch(socket, token),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for changes until the next deadline, or with `hurry` only looks.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn wait(&mut self, events: &mut [EpollEvent], hurry: bool) -> io::Result<usize> {
        if hurry {
            return self.look(events, EpollTimeout::ZERO);
        }
        let begun = Instant::now();
        while self.spins && begun.elapsed() < SPIN {
            let count = self.look(events, EpollTimeout::ZERO)?;
            if count > 0 {
                return Ok(count);
            }
        }
        let limit = self.timers.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        // Rounded up: a wait that ends early would only be repeated.
        let limit = limit.map(|limit| limit.as_micros().div_ceil(1000).min(1 << 30));
        let limit = limit
            .map_or(EpollTimeout::NONE, |limit| EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::MAX));
        let count = self.look(events, limit)?;
        self.spins = count > 0 && begun.elapsed() < SHORT;
        Ok(count)
    }

    fn look(&self, events: &mut [EpollEvent], limit: EpollTimeout) -> io::Result<usize> {
        match self.poller.wait(events, limit) {
            Ok(count) => Ok(count),
            Err(nix::Error::EINTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Has `token` reported at `at`. It cannot be taken back: who is not interested any more does nothing then.
    pub(super) fn wake_at(&mut self, at: Instant, token: Token) {
        self.timers.push(Reverse((at, token)));
    }

    /// A token whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<Token> {
        let Reverse((at, _)) = self.timers.peek()?;
        if *at > now {
            return None;
        }
        self.timers.pop().map(|Reverse((_, token))| token)
    }

    /// Has nothing reported of `socket` any more.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn forget(&self, socket: &impl AsFd) -> io::Result<()> {
        Ok(self.poller.delete(socket)?)
    }
}
