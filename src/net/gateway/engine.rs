//! The loop of a gateway: one thread, one epoll, nothing that fires when nothing happens.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use smoltcp::wire::{IpProtocol, TcpPacket, UdpPacket};

use super::callers::Callers;
use super::core::Core;
use super::echo::Echo;
use super::flow::Pair;
use super::fragments::Fragments;
use super::inbound::Inbound;
use super::names::{self, Names};
use super::neighbor;
use super::packet::{self, Datagram, Frame, Unreachable};
use super::tcp::Tcp;
use super::udp::Udp;
use super::waiting::{Owner, Token};
use super::wire::{Found, Input, Wire};
use super::{Command, Settings, Shared};
use crate::net::intercept::Interceptor;

/// Changes taken from the kernel at once.
const EVENTS: usize = 256;
/// Reads from the machine before others get their turn.
const READS: usize = 4;

/// A gateway at work.
pub(super) struct Engine {
    core: Core,
    wire: Wire,
    input: Input,
    /// The machine's socket has something to read, or room.
    wire_readable: bool,
    wire_writable: bool,
    tcp: Tcp,
    udp: Udp,
    echo: Echo,
    names: Names,
    inbound: Inbound,
    callers: Callers,
    fragments: Fragments,
    shared: Arc<Shared>,
    /// It will be seen to it that the machine takes its frames, and the time for that has come.
    reminds: bool,
    reminder_due: bool,
    /// Frames read.
    frames: u64,
}

impl Engine {
    /// Sets everything up; nothing runs yet.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(
        (socket, machine): (UnixStream, Option<UnixStream>),
        (mut settings, interceptor): (Settings, Option<Interceptor>),
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let wire = Wire::new(socket, machine)?;
        let (listeners, limits) = (std::mem::take(&mut settings.listeners), settings.limits);
        let core = Core::new(settings, interceptor, Arc::clone(&shared.counters))?;
        core.waiting.watch(&wire, Token::new(Owner::Wire, 0, 0))?;
        core.waiting.watch(&shared.bell, Token::new(Owner::Bell, 0, 0))?;
        let inbound = Inbound::new(&core, listeners)?;
        let callers = Callers::new(&core)?;
        Ok(Self {
            core,
            wire,
            input: Input::default(),
            wire_readable: true,
            wire_writable: true,
            tcp: Tcp::new(limits.tcp),
            udp: Udp::new(limits.udp),
            echo: Echo::new(limits.udp),
            names: Names::default(),
            inbound,
            callers,
            fragments: Fragments::default(),
            shared,
            reminds: false,
            reminder_due: false,
            frames: 0,
        })
    }

    /// Works until the machine has gone or the handle says so.
    ///
    /// # Errors
    /// The link is lost, or the other end is not a machine.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        loop {
            let hurry = !self.core.output.is_full() && (self.wire_readable || self.is_busy());
            let count = self.core.waiting.wait(&mut events, hurry)?;
            self.core.stack.set_now(Instant::now());
            if count == 0 && !hurry {
                // Nothing has happened for a while.
                self.core.output.rest();
            }
            for event in &events[..count] {
                let Some(token) = Token::from_bits(event.data()) else { continue };
                if !self.changed(token, event.events()) {
                    return Ok(());
                }
            }
            if !self.read()? {
                return Ok(());
            }
            while let Some(token) = self.core.waiting.due(self.core.now()) {
                self.due(token);
            }
            if std::mem::take(&mut self.reminder_due) && !self.remind()? {
                return Ok(());
            }
            self.tcp.turn(&mut self.core);
            self.udp.turn(&mut self.core);
            self.inbound.turn(&mut self.core, &mut self.tcp);
            self.names.turn(&mut self.core);
            if self.wire_writable && !self.core.output.waiting().is_empty() {
                self.wire_writable = self.wire.write(&mut self.core.output)?;
                self.remind_later();
            }
            self.core.counters.packets(self.frames, self.core.output.frames());
        }
    }

    fn is_busy(&self) -> bool {
        self.tcp.is_busy() || self.udp.is_busy() || self.inbound.is_busy() || self.names.is_busy()
    }

    /// Something has happened to a socket. `false` when it is the end.
    fn changed(&mut self, token: Token, flags: EpollFlags) -> bool {
        match token.owner {
            Owner::Wire => {
                self.wire_readable |= flags.intersects(!EpollFlags::EPOLLOUT);
                self.wire_writable |= flags.intersects(EpollFlags::EPOLLOUT);
            }
            Owner::Bell => return self.commands(),
            // A time and no socket.
            Owner::Quota => {}
            Owner::Tcp => self.tcp.socket_ready(&mut self.core, token, flags),
            Owner::Udp => self.udp.socket_ready(&mut self.core, token),
            Owner::Echo => self.echo.socket_ready(&mut self.core, token),
            Owner::Port => {
                self.inbound.socket_ready(&mut self.core, &mut self.tcp, token.index as usize);
            }
            Owner::Dns => self.names.socket_ready(&mut self.core, token),
            Owner::DnsClient => self.names.client_ready(&mut self.core, token),
            Owner::Door => self.callers.door_ready(&mut self.core, (&mut self.tcp, &mut self.udp), token),
            Owner::Caller => self.callers.caller_ready(&mut self.core, (&mut self.tcp, &mut self.udp), token),
        }
        true
    }

    fn due(&mut self, token: Token) {
        match token.owner {
            Owner::Tcp => self.tcp.due(&mut self.core, token),
            Owner::Udp => self.udp.due(&mut self.core, token),
            Owner::Echo => self.echo.due(&mut self.core, token),
            Owner::Dns => self.names.due(&mut self.core, token),
            Owner::Quota => {
                self.core.quota.disarm();
                self.tcp.release();
                self.udp.release();
                self.inbound.release();
            }
            Owner::Wire => self.reminder_due = true,
            Owner::Bell | Owner::Port | Owner::DnsClient | Owner::Door | Owner::Caller => {}
        }
    }

    /// What the handle wants. `false` when it is the end.
    fn commands(&mut self) -> bool {
        // How often it was rung is of no interest.
        let _ = self.shared.bell.read();
        for command in self.shared.take() {
            match command {
                Command::Rules(scope, rules) => {
                    self.core.set_rules(scope, rules);
                    self.tcp.review(&mut self.core);
                    self.udp.review(&mut self.core);
                    self.echo.review(&mut self.core);
                    self.inbound.review(&mut self.core);
                }
                Command::Report(event) => self.core.report(event),
                Command::Stop => return false,
            }
        }
        true
    }

    fn remind_later(&mut self) {
        if !std::mem::replace(&mut self.reminds, true) {
            let at = self.core.now() + self.wire.next_reminder();
            self.core.waiting.wake_at(at, Token::new(Owner::Wire, 0, 0));
        }
    }

    /// Sees to it that the machine takes its frames. `false` when it has gone.
    fn remind(&mut self) -> io::Result<bool> {
        self.reminds = false;
        if !self.wire.remind() {
            return Ok(true);
        }
        self.remind_later();
        // It is not told of frames as long as many of its own are not taken, full as the way to it may be.
        if self.core.output.is_full() && !self.core.output.is_overfull() {
            match self.wire.read(&mut self.input)? {
                Found::End => return Ok(false),
                Found::Nothing => {}
                Found::Some | Found::All => self.frames()?,
            }
        }
        Ok(true)
    }

    /// Reads frames of the machine, as long as there is room for answers. `false` when it has gone.
    fn read(&mut self) -> io::Result<bool> {
        for _ in 0..READS {
            if !self.wire_readable || self.core.output.is_full() {
                break;
            }
            match self.wire.read(&mut self.input)? {
                Found::End => return Ok(false),
                Found::Nothing => self.wire_readable = false,
                Found::Some => self.frames()?,
                Found::All => {
                    // More is told, and so is the end.
                    self.wire_readable = false;
                    self.frames()?;
                }
            }
        }
        Ok(true)
    }

    fn frames(&mut self) -> io::Result<()> {
        while let Some(at) = self.input.next_frame().map_err(io::Error::other)? {
            self.frames += 1;
            let Self { core, tcp, udp, echo, names, inbound, .. } = self;
            match packet::parse(self.input.frame(at)) {
                Some(Frame::Arp(question)) => neighbor::arp(core, question),
                Some(Frame::Ip(datagram)) => packet_from(core, (tcp, udp, echo), (names, inbound), &datagram),
                Some(Frame::Fragment(fragment)) => {
                    let whole = self.fragments.add(core.now(), &fragment);
                    if let Some(datagram) = whole.as_deref().and_then(packet::parse_ip) {
                        packet_from(core, (tcp, udp, echo), (names, inbound), &datagram);
                    }
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// A packet from the sandbox.
fn packet_from(
    core: &mut Core,
    (tcp, udp, echo): (&mut Tcp, &mut Udp, &mut Echo),
    (names, inbound): (&mut Names, &mut Inbound),
    datagram: &Datagram<'_>,
) {
    if neighbor::solicitation(core, datagram) {
        return;
    }
    // What is for many is for nobody here.
    if is_for_many(datagram.destination) || !is_source(core, (tcp, inbound), datagram) {
        return;
    }
    // No machine sends to the form in which programs write IPv4 addresses (RFC 4291, 2.5.5.2): it would be decided about as one
    // address, and reached as another.
    if matches!(datagram.destination, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return packet::unreachable(&mut core.output, &core.link, datagram, Unreachable::Prohibited);
    }
    match datagram.protocol {
        IpProtocol::Tcp => tcp.packet(core, names, datagram),
        IpProtocol::Udp => {
            let Ok(message) = UdpPacket::new_checked(datagram.payload) else { return };
            let guest = SocketAddr::new(datagram.source, message.src_port());
            let remote = SocketAddr::new(datagram.destination, message.dst_port());
            if inbound.answer(core, &Pair { guest, remote }, message.payload()) {
            } else if core.link.is_gateway(remote.ip()) && remote.port() == names::PORT {
                names.datagram(core, (guest, remote), message.payload());
            } else {
                udp.packet(core, datagram);
            }
        }
        IpProtocol::Icmp | IpProtocol::Icmpv6 => match packet::port_unreachable(datagram) {
            None => echo.packet(core, datagram),
            Some(quote) => {
                if let Some(pair) = sent_in_vain(quote)
                    && !inbound.refused(core, &pair)
                {
                    udp.refused(core, &pair);
                }
            }
        },
        // Nothing else can leave the host without root.
        _ => packet::unreachable(&mut core.output, &core.link, datagram, Unreachable::Prohibited),
    }
}

/// Whom a datagram to the sandbox was between that the sandbox quotes.
fn sent_in_vain(quote: &[u8]) -> Option<Pair> {
    packet::quoted_udp(quote).map(|(remote, guest)| Pair { guest, remote })
}

/// Whether the sandbox may be where the packet says it is from. Nobody else is on the link; a server that listens on the sandbox's
/// loopback answers from there when it was called there.
fn is_source(core: &Core, (tcp, inbound): (&Tcp, &Inbound), datagram: &Datagram<'_>) -> bool {
    if core.is_guest(datagram.source) {
        return true;
    }
    if !datagram.source.is_loopback() {
        return false;
    }
    let between = |source, destination| Pair {
        guest: SocketAddr::new(datagram.source, source),
        remote: SocketAddr::new(datagram.destination, destination),
    };
    match datagram.protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(datagram.payload)
            .is_ok_and(|segment| tcp.knows(&between(segment.src_port(), segment.dst_port()))),
        IpProtocol::Udp => UdpPacket::new_checked(datagram.payload)
            .is_ok_and(|message| inbound.knows(&between(message.src_port(), message.dst_port()))),
        IpProtocol::Icmp | IpProtocol::Icmpv6 => packet::port_unreachable(datagram)
            .and_then(sent_in_vain)
            .is_some_and(|pair| pair.guest.ip() == datagram.source && inbound.knows(&pair)),
        _ => false,
    }
}

fn is_for_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_multicast() || address.is_unspecified(),
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.tcp.end(&mut self.core);
        self.udp.end(&mut self.core);
        self.inbound.end(&mut self.core);
        // A machine that is still there must not wait for frames in vain.
        let _ = nix::sys::socket::shutdown(
            std::os::fd::AsFd::as_fd(&self.wire).as_raw_fd(),
            nix::sys::socket::Shutdown::Both,
        );
    }
}
