//! One TCP connection: the sandbox's half is a smoltcp socket, the other a socket of the host.

mod moving;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::TcpPacket;

use super::buffers::Buffers;
use super::hail::Answer;
use super::stack::Stack;
use super::wire::Output;

/// A quiet connection gives its memory back after this time.
const REST: Duration = Duration::from_secs(1);
/// The shortest time after which a connection is looked at again.
const SOON: Duration = Duration::from_millis(1);
/// How long an acknowledgement may wait for an answer to go with; every second segment has one at once (RFC 9293, 3.8.6.3).
const ACK_DELAY: Duration = SOON;
/// As many bytes may have left traces in memory that is to be used again at once.
const TRACES: u64 = 64 << 10;
/// How long the sandbox may take to answer a call.
const CALL: Duration = Duration::from_secs(30);

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    /// The sandbox's end.
    pub(super) guest: SocketAddr,
    /// The other end, as the sandbox sees it.
    pub(super) remote: SocketAddr,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing can be done now.
    Waits,
    /// There is more to do, after others had their turn.
    Busy,
    /// The link is full.
    Blocked,
    /// It is over.
    Over,
}

/// A connection whose both halves are there.
pub(super) struct Flow {
    // Before `buffers`, in which its bytes are.
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    buffers: Buffers,
    upstream: OwnedFd,
    readable: bool,
    writable: bool,
    /// The peer has closed its half, or all.
    hung_up: bool,
    /// Both ends of the sandbox's half have agreed on it.
    established: bool,
    /// The peer will send no more, and the sandbox knows.
    peer_done: bool,
    /// The sandbox will send no more, and the peer knows.
    guest_done: bool,
    /// The sandbox has said that it will send no more.
    guest_ended: bool,
    /// The peer is lost: what it has not got it never will.
    peer_lost: bool,
    /// The other half is a gateway's, not a host's TCP.
    relayed: bool,
    used: Option<Instant>,
    /// How far the sandbox's bytes have been seen and taken, from which follows whether some wait out of order.
    seen: u32,
    taken: u32,
    /// What the sandbox has acknowledged last.
    acknowledged: i32,
    /// Bytes from the sandbox, and to it.
    pub(super) moved: (u64, u64),
    /// As many as may still go.
    allowed: (u64, u64),
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow")
            .field("upstream", &self.upstream)
            .field("moved", &self.moved)
            .finish_non_exhaustive()
    }
}

impl Flow {
    /// The sandbox's half of a connection whose other half is `upstream`.
    #[must_use]
    pub(super) fn new(upstream: OwnedFd, buffers: Buffers) -> Self {
        // SAFETY: the socket goes before the buffers in every way this value can go.
        let (receive, transmit) = unsafe { buffers.areas() };
        let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(transmit));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(ACK_DELAY.into()));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let _ = setsockopt(&upstream, sockopt::TcpNoDelay, &true);
        // The sandbox's half knows nothing urgent: it gets it in its place (RFC 6093).
        let _ = setsockopt(&upstream, sockopt::OobInline, &true);
        Self {
            sockets,
            handle,
            buffers,
            upstream,
            readable: true,
            writable: true,
            hung_up: false,
            established: false,
            peer_done: false,
            guest_done: false,
            guest_ended: false,
            peer_lost: false,
            relayed: false,
            used: None,
            seen: 0,
            taken: 0,
            acknowledged: 0,
            moved: (0, 0),
            allowed: (u64::MAX, u64::MAX),
        }
    }

    /// The other half is that of another sandbox's gateway. Its socket knows no resets: who goes without having said that it will
    /// send no more has broken off.
    #[must_use]
    pub(super) fn relayed(self) -> Self {
        Self { relayed: true, ..self }
    }

    /// Says to the other half's gateway what becomes of its call.
    pub(super) fn say(&self, answer: Answer) {
        // Who has gone is found to be gone by what follows.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = send(self.upstream.as_raw_fd(), &[answer.byte()], flags);
    }

    /// Whether the sandbox has taken the call, and there is something to be moved.
    #[must_use]
    pub(super) fn is_taken(&self) -> bool {
        !matches!(self.state(), State::Closed | State::Listen | State::SynSent | State::SynReceived)
    }

    /// Answers the sandbox's `syn`, whose sequence number is `number`.
    ///
    /// # Errors
    /// An address that nobody can be at.
    pub(super) fn accept(
        &mut self,
        pair: &Pair,
        (syn, number): (&[u8], u32),
        stack: &mut Stack,
        output: &mut Output,
    ) -> io::Result<()> {
        let at = (pair.remote.ip(), pair.remote.port());
        self.socket().listen(at).map_err(|error| io::Error::other(error.to_string()))?;
        self.seen = number.wrapping_add(1);
        self.taken = self.seen;
        stack.receive(&mut self.sockets, syn, output);
        Ok(())
    }

    /// Calls the sandbox.
    ///
    /// # Errors
    /// An address that nobody can be at.
    pub(super) fn call(&mut self, pair: &Pair, stack: &mut Stack) -> io::Result<()> {
        let (remote, local) = ((pair.guest.ip(), pair.guest.port()), (pair.remote.ip(), pair.remote.port()));
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        socket.set_timeout(Some(CALL.into()));
        socket.connect(stack.context(), remote, local).map_err(|error| io::Error::other(error.to_string()))
    }

    /// A `packet` of the sandbox with this segment.
    pub(super) fn receive(
        &mut self,
        packet: &[u8],
        segment: &TcpPacket<&[u8]>,
        stack: &mut Stack,
        output: &mut Output,
    ) {
        self.used = Some(stack.now());
        let number = segment.seq_number().0.cast_unsigned();
        let length = segment.segment_len() as u32 - u32::from(segment.fin()) - u32::from(segment.syn());
        let acknowledged = segment.ack_number().0;
        let is_bare = length == 0 && !(segment.syn() || segment.fin() || segment.rst());
        // smoltcp takes three that say the same for a loss. Where nothing but our end is unacknowledged, it then stops the timer that
        // would send that once more, and sends nothing.
        if is_bare && acknowledged == self.acknowledged && self.only_end_is_out() {
            return;
        }
        self.acknowledged = acknowledged;
        let end = number.wrapping_add(length);
        // Sequence numbers wrap: later is what is less than half of them ahead.
        if end.wrapping_sub(self.seen).cast_signed() > 0 {
            self.seen = end;
        }
        if self.state() == State::SynSent {
            // Its first number, whose answer counts as one.
            (self.seen, self.taken) = (number.wrapping_add(1), number.wrapping_add(1));
        }
        stack.receive(&mut self.sockets, packet, output);
    }

    /// Whether the sandbox has everything but the end, which it has not acknowledged yet.
    fn only_end_is_out(&mut self) -> bool {
        let socket = self.socket();
        matches!(socket.state(), State::FinWait1 | State::Closing | State::LastAck)
            && socket.send_queue() == 0
    }

    /// The host's socket has changed.
    pub(super) fn ready(&mut self, read: bool, write: bool, hung_up: bool) {
        self.readable |= read | hung_up;
        self.writable |= write | hung_up;
        self.hung_up |= hung_up;
    }

    /// The state of the sandbox's half.
    #[must_use]
    pub(super) fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The sandbox has not taken the call.
    pub(super) fn was_refused(&self) -> bool {
        !self.established
    }

    /// The host's side and the memory, to be used again.
    pub(super) fn into_parts(self) -> (OwnedFd, Buffers) {
        (self.upstream, self.buffers)
    }

    /// The memory, to be used again.
    #[must_use]
    pub(super) fn into_buffers(self) -> Buffers {
        if self.moved.0 + self.moved.1 > TRACES {
            self.buffers.forget();
        }
        self.buffers
    }

    /// Both halves have ended, in order or not.
    fn is_over(&mut self) -> bool {
        let state = self.state();
        if !self.established
            && !matches!(state, State::Closed | State::Listen | State::SynSent | State::SynReceived)
        {
            self.established = true;
            self.socket().set_timeout(None);
        }
        match state {
            // The link loses nothing: whoever closed first need not wait for stragglers.
            State::TimeWait => self.guest_done,
            // What the sandbox sent before it ended still goes to the peer.
            State::Closed if !self.peer_lost && self.socket().recv_queue() > 0 => false,
            State::Closed | State::Listen => {
                // Also when its reset came before this connection was seen to be established.
                if !(self.guest_done && self.peer_done) {
                    self.reset_peer();
                }
                true
            }
            _ => false,
        }
    }

    /// Has the peer see a reset instead of an orderly end.
    pub(super) fn reset_peer(&self) {
        let now = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(&self.upstream, sockopt::Linger, &now);
    }

    /// Ends both halves at once.
    pub(super) fn cut(&mut self, stack: &mut Stack, output: &mut Output) {
        self.reset_peer();
        self.socket().abort();
        stack.transmit(&mut self.sockets, output);
    }

    /// When this connection wants to be pumped without anything having happened.
    pub(super) fn deadline(&mut self, stack: &mut Stack) -> Option<Instant> {
        let rest = self.used.map(|used| used + REST);
        // Never at once: what can be done at once has been.
        let soon = stack.now() + SOON;
        match (stack.deadline(&self.sockets).map(|at| at.max(soon)), rest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Gives memory back when the connection has been quiet.
    pub(super) fn rest(&mut self, now: Instant) {
        if self.used.is_none_or(|used| used + REST > now) {
            return;
        }
        let in_order = self.seen == self.taken;
        let socket = self.socket();
        if socket.send_queue() == 0 && socket.recv_queue() == 0 && in_order {
            self.buffers.forget();
        }
        // Where something is stuck, there is nothing to look for before it moves.
        self.used = None;
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.upstream.as_fd()
    }
}
