//! How the bytes of a connection get from one half to the other.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use smoltcp::socket::tcp::{Socket, State};

use super::{Fate, Flow};
use crate::net::gateway::stack::Stack;
use crate::net::gateway::wire::Output;

/// What a connection moves before others get their turn, rounds of both directions.
const ROUNDS: usize = 4;

impl Flow {
    /// Moves bytes both ways, as many as there are and as fit.
    pub(in crate::net::gateway) fn pump(&mut self, stack: &mut Stack, output: &mut Output) -> Fate {
        for _ in 0..ROUNDS {
            let mut moved = false;
            if self.receive_from_peer(&mut moved).and_then(|()| self.send_to_peer(&mut moved)).is_err() {
                self.peer_lost = true;
                self.socket().abort();
            }
            if !stack.transmit(&mut self.sockets, output) {
                return Fate::Blocked;
            }
            if self.is_over() {
                return Fate::Over;
            }
            if moved {
                self.used = Some(stack.now());
            } else {
                return Fate::Waits;
            }
        }
        Fate::Busy
    }

    /// As many bytes may go from the sandbox, and to it, from now on.
    pub(in crate::net::gateway) fn allow(&mut self, allowed: (u64, u64)) {
        self.allowed = allowed;
    }

    /// Whether there is something from the sandbox, and for it, that may not go.
    pub(in crate::net::gateway) fn is_held(&mut self) -> (bool, bool) {
        let (allowed, writable, readable) = (self.allowed, self.writable, self.readable && !self.peer_done);
        let socket = self.socket();
        (allowed.0 == 0 && writable && socket.can_recv(), allowed.1 == 0 && readable && socket.can_send())
    }

    fn receive_from_peer(&mut self, moved: &mut bool) -> io::Result<()> {
        while self.readable && !self.peer_done && self.allowed.1 > 0 {
            let upstream = self.upstream.as_raw_fd();
            let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
            if !socket.can_send() {
                break;
            }
            let (mut room, allowed) = (0, usize::try_from(self.allowed.1).unwrap_or(usize::MAX));
            let received = socket.send(|bytes| {
                room = bytes.len().min(allowed);
                let bytes = &mut bytes[..room];
                let received = recv(upstream, bytes, MsgFlags::MSG_DONTWAIT);
                (received.unwrap_or(0), received)
            });
            match received {
                Ok(Ok(0)) if self.relayed && !self.guest_done && is_gone(upstream) => {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Ok(Ok(0)) => {
                    self.peer_done = true;
                    socket.close();
                }
                Ok(Ok(length)) => {
                    self.moved.1 += length as u64;
                    self.allowed.1 -= length as u64;
                    // Less than there was room for is all there was. What comes later is told.
                    self.readable = length == room || self.hung_up;
                }
                Ok(Err(nix::Error::EAGAIN | nix::Error::EINTR)) => self.readable = false,
                Ok(Err(errno)) => return Err(errno.into()),
                Err(_) => break,
            }
            *moved = true;
        }
        Ok(())
    }

    fn send_to_peer(&mut self, moved: &mut bool) -> io::Result<()> {
        let upstream = self.upstream.as_raw_fd();
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        while self.writable && self.allowed.0 > 0 && socket.can_recv() {
            let allowed = usize::try_from(self.allowed.0).unwrap_or(usize::MAX);
            let sent = socket.recv(|bytes| {
                let bytes = &bytes[..bytes.len().min(allowed)];
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                let sent = send(upstream, bytes, flags);
                (sent.unwrap_or(0), sent)
            });
            match sent {
                Ok(Ok(length)) => {
                    self.moved.0 += length as u64;
                    self.allowed.0 -= length as u64;
                    self.taken = self.taken.wrapping_add(length as u32);
                    *moved = true;
                }
                Ok(Err(nix::Error::EAGAIN | nix::Error::EINTR)) => self.writable = false,
                Ok(Err(errno)) => return Err(errno.into()),
                Err(_) => break,
            }
        }
        let ended =
            matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        self.guest_ended |= ended;
        if self.guest_ended && !self.guest_done && socket.recv_queue() == 0 {
            self.guest_done = true;
            // A peer that has gone already says so when it is read from.
            let _ = shutdown(upstream, Shutdown::Write);
            *moved = true;
        }
        Ok(())
    }
}

/// Whether whoever is at the other end of a local socket has closed it whole.
fn is_gone(socket: RawFd) -> bool {
    send(socket, &[], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) == Err(nix::Error::EPIPE)
}
