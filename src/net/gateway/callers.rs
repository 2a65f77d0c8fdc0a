//! Calls of other sandboxes of the groups.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, SockFlag, accept4, getsockopt, recv, send, sockopt};
use slab::Slab;

use super::core::Core;
use super::event::End;
use super::flow::Pair;
use super::hail::{Answer, Hail};
use super::tcp::Tcp;
use super::udp::Udp;
use super::waiting::{Owner, Token};
use crate::net::group::Kind;
use crate::net::policy::{Direction, Peer, Protocol};

/// Callers that have not said yet who they are, at once.
const WAITING: usize = 1024;
/// How long they may take when others want their places.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest first message: who calls, and a packet.
const LARGEST: usize = Hail::LENGTH + 65_535;

/// Who waits to be heard.
#[derive(Debug, Default)]
pub(super) struct Callers {
    waiting: Slab<Caller>,
    generation: u32,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Caller {
    generation: u32,
    seat: usize,
    kind: Kind,
    socket: OwnedFd,
    since: Instant,
}

/// Which of a seat's two sockets a token is about.
fn door(index: u32) -> (usize, Kind) {
    (index as usize / 2, if index.is_multiple_of(2) { Kind::Stream } else { Kind::Messages })
}

impl Callers {
    /// Listens at every seat of the sandbox.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(core: &Core) -> std::io::Result<Self> {
        for (index, seat) in core.members.seats().iter().enumerate() {
            core.waiting.watch(&seat.streams, Token::new(Owner::Door, 0, 2 * index))?;
            core.waiting.watch(&seat.messages, Token::new(Owner::Door, 0, 2 * index + 1))?;
        }
        Ok(Self::default())
    }

    /// Somebody calls.
    pub(super) fn door_ready(&mut self, core: &mut Core, (tcp, udp): (&mut Tcp, &mut Udp), token: Token) {
        let (seat, kind) = door(token.index);
        loop {
            let Some(place) = core.members.seats().get(seat) else { return };
            let listener = if kind == Kind::Stream { &place.streams } else { &place.messages };
            let socket = match accept4(listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC)
            {
                // SAFETY: the kernel has just made it for us.
                Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
                Err(nix::Error::ECONNABORTED | nix::Error::EINTR) => continue,
                // Out of descriptors as well: who waits is taken when somebody else comes.
                Err(_) => return,
            };
            if self.waiting.len() >= WAITING {
                let now = core.now();
                self.waiting.retain(|_, caller| caller.since + PATIENCE > now);
            }
            if !is_of_this_user(&socket) || self.waiting.len() >= WAITING {
                continue;
            }
            self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
            let token = Token::new(Owner::Caller, self.generation, self.waiting.vacant_key());
            if core.waiting.watch(&socket, token).is_ok() {
                let since = core.now();
                self.waiting.insert(Caller { generation: self.generation, seat, kind, socket, since });
                self.caller_ready(core, (tcp, udp), token);
            }
        }
    }

    /// A caller may have said who it is.
    pub(super) fn caller_ready(&mut self, core: &mut Core, (tcp, udp): (&mut Tcp, &mut Udp), token: Token) {
        let index = token.index as usize;
        let Some(caller) = self.waiting.get(index).filter(|caller| caller.generation == token.generation)
        else {
            return;
        };
        self.scratch.resize(LARGEST, 0);
        let length = match caller.read(&mut self.scratch) {
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => return,
            // Gone, or not heard.
            Err(_) => 0,
            Ok(length) => length,
        };
        let caller = self.waiting.remove(index);
        let Some((hail, rest)) = self.scratch[..length].split_at_checked(Hail::LENGTH) else { return };
        let Some(hail) = Hail::from_bytes(hail).filter(|hail| caller.may_say(core, hail)) else { return };
        take(core, (tcp, udp), caller.socket, (&hail, rest));
    }
}

impl Caller {
    /// What it has said first, whole, and nothing that comes after it.
    fn read(&self, bytes: &mut [u8]) -> nix::Result<usize> {
        let socket = self.socket.as_raw_fd();
        if self.kind == Kind::Messages {
            return recv(socket, bytes, MsgFlags::MSG_DONTWAIT);
        }
        let bytes = &mut bytes[..Hail::LENGTH];
        match recv(socket, bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK)? {
            0 => Ok(0),
            length if length < Hail::LENGTH => Err(nix::Error::EAGAIN),
            _ => recv(socket, bytes, MsgFlags::MSG_DONTWAIT),
        }
    }

    /// Whether what it says is about this sandbox and about one that can be in the same group.
    fn may_say(&self, core: &Core, hail: &Hail) -> bool {
        let Some(seat) = core.members.seats().get(self.seat) else { return false };
        let is_stream = self.kind == Kind::Stream;
        hail.called.ip() == seat.address
            && seat.subnet.contains(&hail.caller.ip())
            && hail.caller.ip() != seat.address
            && (hail.protocol == Protocol::Tcp) == is_stream
    }
}

/// Takes a call, if the sandbox's policy is for it.
fn take(core: &mut Core, (tcp, udp): (&mut Tcp, &mut Udp), socket: OwnedFd, (hail, rest): (&Hail, &[u8])) {
    let Hail { protocol, caller, called } = *hail;
    // An address of the group's that is also the host's, say, is nobody's whom rules about the group could be meant for.
    if !core.is_member(caller.ip()) {
        return say(&socket, &[Answer::Prohibited.byte()]);
    }
    let port = (protocol != Protocol::Icmp).then_some(called.port());
    let peer = Peer { direction: Direction::In, protocol, address: caller.ip(), port };
    let admission = core.admit(peer);
    if admission.is_none() {
        return say(&socket, &[Answer::Prohibited.byte()]);
    }
    let pair = Pair { guest: called, remote: caller };
    match protocol {
        Protocol::Tcp => tcp.call_of_member(core, pair, socket, admission),
        Protocol::Udp => udp.join(core, (pair, admission), socket),
        Protocol::Icmp => {
            say(&socket, &[&[Answer::Accepted.byte()], rest].concat());
            core.over(admission, (0, 0), End::Closed);
        }
    }
}

/// The last word to a caller.
fn say(socket: &OwnedFd, message: &[u8]) {
    // Who has gone does not hear it.
    let _ = send(socket.as_raw_fd(), message, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
}

/// Only gateways of the same user are heard; the folder keeps others away as well.
fn is_of_this_user(socket: &OwnedFd) -> bool {
    getsockopt(socket, sockopt::PeerCredentials)
        .is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw())
}
