//! The gateway's DNS server: carries questions to the [`Resolver`] and what that sends to the host's servers.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::sys::socket::{MsgFlags, SockType, getsockopt, recv, send, sockopt};
use slab::Slab;

use super::core::{self, Core};
use super::packet;
use super::waiting::{Owner, Token};
use crate::net::dns::{Forward, Question, Step, Transport};

/// The port of DNS.
pub(super) const PORT: u16 = 53;
/// Connections of the sandbox to the server at once.
const CLIENTS: usize = 64;
/// A message of any length with its length.
const LARGEST: usize = 2 + 65_535;
/// Without a whole header it is no message (RFC 1035 §4.1.1).
const SMALLEST: usize = 12;
/// Messages of a connection that are taken before others have their turn.
const AT_ONCE: usize = 16;

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Asker {
    /// A socket of the sandbox, and the address of the gateway that it asked.
    Datagram { guest: SocketAddr, server: SocketAddr },
    /// A connection of the sandbox.
    Client(Token),
}

/// The server.
#[derive(Debug, Default)]
pub(super) struct Names {
    questions: Slab<Asked>,
    clients: Slab<Client>,
    /// Who waits for which question.
    askers: HashMap<u64, Asker>,
    /// Connections that have more than was taken of them in their turn.
    busy: Vec<Token>,
    generation: u32,
}

/// A question that a server was asked.
#[derive(Debug)]
struct Asked {
    id: u64,
    generation: u32,
    socket: OwnedFd,
    transport: Transport,
    /// What is still to be sent, and what has come, of a stream.
    unsent: Vec<u8>,
    received: Vec<u8>,
    ends: Instant,
}

/// A connection of the sandbox; its other end is the host's side of a TCP connection.
#[derive(Debug)]
struct Client {
    generation: u32,
    stream: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
}

impl Names {
    /// A question in a datagram.
    pub(super) fn datagram(
        &mut self,
        core: &mut Core,
        (guest, server): (SocketAddr, SocketAddr),
        message: &[u8],
    ) {
        self.ask(core, Asker::Datagram { guest, server }, message);
    }

    /// A connection to the server: the end that the sandbox's half is joined to.
    ///
    /// # Errors
    /// The system's, or there are too many.
    pub(super) fn connect(&mut self, core: &mut Core) -> io::Result<OwnedFd> {
        if self.clients.len() >= CLIENTS {
            return Err(nix::Error::EMFILE.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let token = self.next(Owner::DnsClient, self.clients.vacant_key());
        core.waiting.watch(&ours, token)?;
        let generation = token.generation;
        self.clients.insert(Client { generation, stream: ours, received: Vec::new(), unsent: Vec::new() });
        Ok(theirs.into())
    }

    fn next(&mut self, owner: Owner, index: usize) -> Token {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        Token::new(owner, self.generation, index)
    }

    fn ask(&mut self, core: &mut Core, asker: Asker, message: &[u8]) {
        core.refresh_servers();
        core.refresh_members();
        let transport = match asker {
            Asker::Datagram { .. } => Transport::Udp,
            Asker::Client(_) => Transport::Tcp,
        };
        let policy = core.current_policy();
        let step = core.resolver.ask(core.stack.now(), Question { transport, message }, &policy);
        core.report_denied_name();
        match step {
            Step::Forward(forward) => {
                self.askers.insert(forward.id, asker);
                self.go_on(core, Step::Forward(forward), None);
            }
            Step::Answer(answer) => self.reply(core, asker, &answer),
            Step::Wait | Step::Drop => {}
        }
    }

    /// Does what the resolver says about question `id`, until that takes time.
    fn go_on(&mut self, core: &mut Core, mut step: Step, mut id: Option<u64>) {
        loop {
            match step {
                Step::Forward(forward) => {
                    id = Some(forward.id);
                    match self.forward(core, &forward) {
                        Ok(()) => return,
                        Err(_) => step = core.resolver.timed_out(forward.id),
                    }
                }
                Step::Answer(answer) => {
                    if let Some(asker) = id.and_then(|id| self.askers.remove(&id)) {
                        self.reply(core, asker, &answer);
                    }
                    return;
                }
                Step::Drop => {
                    id.map(|id| self.askers.remove(&id));
                    return;
                }
                Step::Wait => return,
            }
        }
    }

    fn forward(&mut self, core: &mut Core, forward: &Forward) -> io::Result<()> {
        let kind = match forward.transport {
            Transport::Udp => SockType::Datagram,
            Transport::Tcp => SockType::Stream,
        };
        let socket = core::dial(kind, forward.server)?;
        let mut unsent = Vec::new();
        match forward.transport {
            Transport::Udp => {
                send(socket.as_raw_fd(), &forward.message, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
            }
            Transport::Tcp => {
                let length = u16::try_from(forward.message.len()).map_err(io::Error::other)?;
                unsent.extend(length.to_be_bytes());
                unsent.extend(&forward.message);
            }
        }
        let token = self.next(Owner::Dns, self.questions.vacant_key());
        core.waiting.watch(&socket, token)?;
        let ends = core.now() + forward.timeout;
        core.waiting.wake_at(ends, token);
        self.questions.insert(Asked {
            id: forward.id,
            generation: token.generation,
            socket,
            transport: forward.transport,
            unsent,
            received: Vec::new(),
            ends,
        });
        Ok(())
    }

    /// A server has answered, or cannot be reached.
    pub(super) fn socket_ready(&mut self, core: &mut Core, token: Token) {
        let index = token.index as usize;
        loop {
            let Some(asked) = self.questions.get_mut(index) else { return };
            if asked.generation != token.generation {
                return;
            }
            let id = asked.id;
            let step = match asked.reply() {
                Ok(Some(message)) => {
                    let policy = core.current_policy();
                    let step = core.resolver.answered(core.stack.now(), id, &message, &policy);
                    core.report_denied_name();
                    step
                }
                Ok(None) => return,
                Err(_) => core.resolver.timed_out(id),
            };
            if step == Step::Wait {
                continue;
            }
            self.questions.remove(index);
            return self.go_on(core, step, Some(id));
        }
    }

    /// A server has not answered in time.
    pub(super) fn due(&mut self, core: &mut Core, token: Token) {
        let index = token.index as usize;
        let Some(asked) = self.questions.get(index) else { return };
        if asked.generation != token.generation || asked.ends > core.now() {
            return;
        }
        let asked = self.questions.remove(index);
        let step = core.resolver.timed_out(asked.id);
        self.go_on(core, step, Some(asked.id));
    }

    fn reply(&mut self, core: &mut Core, asker: Asker, answer: &[u8]) {
        match asker {
            Asker::Datagram { guest, server } => packet::udp(&mut core.output, server, guest, answer),
            Asker::Client(token) => {
                let Some(client) = self.clients.get_mut(token.index as usize) else { return };
                let Ok(length) = u16::try_from(answer.len()) else { return };
                if client.generation == token.generation {
                    client.unsent.extend(length.to_be_bytes());
                    client.unsent.extend(answer);
                    if client.flush().is_err() {
                        self.clients.remove(token.index as usize);
                    }
                }
            }
        }
    }

    /// A connection of the sandbox has something, or room.
    pub(super) fn client_ready(&mut self, core: &mut Core, token: Token) {
        let index = token.index as usize;
        let mut taken = 0;
        loop {
            let Some(client) = self.clients.get_mut(index) else { return };
            if client.generation != token.generation {
                return;
            }
            if taken == AT_ONCE {
                if !self.busy.contains(&token) {
                    self.busy.push(token);
                }
                return;
            }
            let read = client.flush().and_then(|()| client.read());
            // Whoever asks and does not read gets no more answers kept.
            let has_room = client.unsent.len() < LARGEST;
            let question = has_room.then(|| take_message(&mut client.received)).flatten();
            match (question, read) {
                // Whoever sends such has no question.
                (Some(question), _) if question.len() < SMALLEST => {
                    self.clients.remove(index);
                    return;
                }
                (Some(question), _) => {
                    taken += 1;
                    self.ask(core, Asker::Client(token), &question);
                }
                (None, Ok(true)) => {}
                (None, Ok(false)) => return,
                (None, Err(_)) => {
                    self.clients.remove(index);
                    return;
                }
            }
        }
    }

    /// Whether connections wait for another turn.
    pub(super) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Another turn of the connections that wait for one.
    pub(super) fn turn(&mut self, core: &mut Core) {
        for token in std::mem::take(&mut self.busy) {
            self.client_ready(core, token);
        }
    }
}

impl Client {
    /// Reads what fits. `false` when there is nothing now.
    fn read(&mut self) -> io::Result<bool> {
        if self.received.len() >= LARGEST || self.unsent.len() >= LARGEST {
            return Ok(false);
        }
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.received.extend(&bytes[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Asked {
    /// The next message of the server, if it is there.
    fn reply(&mut self) -> nix::Result<Option<Vec<u8>>> {
        let socket = self.socket.as_raw_fd();
        let mut bytes = vec![0; LARGEST];
        if self.transport == Transport::Udp {
            return match recv(socket, &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    bytes.truncate(length);
                    Ok(Some(bytes))
                }
                Err(nix::Error::EAGAIN) => Ok(None),
                Err(errno) => Err(errno),
            };
        }
        match getsockopt(&self.socket.as_fd(), sockopt::SocketError)? {
            0 => {}
            error => return Err(nix::Error::from_raw(error)),
        }
        while !self.unsent.is_empty() {
            match send(socket, &self.unsent, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(nix::Error::EAGAIN | nix::Error::ENOTCONN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        loop {
            if let Some(message) = take_message(&mut self.received) {
                return Ok(Some(message));
            }
            match recv(socket, &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(nix::Error::ECONNRESET),
                Ok(length) => self.received.extend(&bytes[..length]),
                Err(nix::Error::EAGAIN | nix::Error::ENOTCONN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Takes the first message out of a stream, if it is whole.
fn take_message(stream: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*stream.first_chunk::<2>()?));
    let message = stream.get(2..2 + length)?.to_vec();
    stream.drain(..2 + length);
    Some(message)
}

#[cfg(test)]
mod tests;
