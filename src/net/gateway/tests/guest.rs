//! The other end of the link: frames, and TCP by smoltcp.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::net::gateway::{Event, Gateway, Link, Settings};
use crate::net::policy::{HostAddresses, Policy, Scope};
use crate::net::port::Listener;

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const BUFFER: usize = 256 << 10;

/// A gateway with a guest.
pub(super) struct Guest {
    pub(super) link: Link,
    pub(super) gateway: Gateway,
    pub(super) events: Arc<Mutex<Vec<Event>>>,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    start: Instant,
    port: u16,
}

struct Wire {
    socket: UnixStream,
    received: Vec<u8>,
    link: Link,
    mtu: usize,
    noise: Option<Noise>,
    /// A frame in each direction that others overtake.
    late: [Option<Vec<u8>>; 2],
    /// A frame for the guest that comes once more.
    again: Option<Vec<u8>>,
    /// The last packet of each connection, by its ports.
    last: HashMap<[u8; 4], Vec<u8>>,
}

/// What happens to frames on a bad link, always the same.
struct Noise(u32);

enum Fortune {
    Arrives,
    ArrivesTwice,
    IsLost,
    IsLate,
}

impl Noise {
    fn next(&mut self) -> Fortune {
        // Numerical Recipes' generator; its upper bits are good enough.
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match self.0 >> 24 {
            0..5 => Fortune::IsLost,
            5..20 => Fortune::IsLate,
            20..25 => Fortune::ArrivesTwice,
            _ => Fortune::Arrives,
        }
    }
}

/// A gateway of this scope.
pub(super) fn settings(scope: Scope, listeners: Vec<Listener>) -> (Settings, Arc<Mutex<Vec<Event>>>) {
    let link = Link::default();
    let events = Arc::<Mutex<Vec<Event>>>::default();
    let noted = Arc::clone(&events);
    let policy = Policy::new(scope, Vec::new(), link.segment(), HostAddresses::default());
    let observer = Box::new(move |event| noted.lock().unwrap().push(event));
    let settings = Settings { listeners, observer, ..Settings::new(link, policy) };
    (settings, events)
}

impl Guest {
    pub(super) fn new(scope: Scope) -> Self {
        Self::with(settings(scope, Vec::new()), &[])
    }

    /// A guest with more addresses, such as that of its loopback.
    pub(super) fn with((settings, events): (Settings, Arc<Mutex<Vec<Event>>>), more: &[IpAddr]) -> Self {
        let link = settings.link;
        let (gateway, socket) = Gateway::start(settings).unwrap();
        let (received, late) = (Vec::new(), [None, None]);
        let mut wire = Wire {
            socket,
            received,
            link,
            mtu: 65_535,
            noise: None,
            late,
            again: None,
            last: HashMap::new(),
        };
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut wire, StackInstant::ZERO);
        let first = [IpAddr::V4(link.guest_v4), IpAddr::V6(link.guest_v6)];
        let addresses: Vec<IpAddr> = if more.is_empty() { first.into() } else { more.into() };
        interface.update_ip_addrs(|list| {
            for address in &addresses {
                list.push(IpCidr::new((*address).into(), 0)).unwrap();
            }
        });
        // It is there under every address: where nobody listens it refuses, as a kernel does.
        interface.set_any_ip(true);
        for address in addresses {
            let _ = match address {
                IpAddr::V4(address) => interface.routes_mut().add_default_ipv4_route(address),
                IpAddr::V6(address) => interface.routes_mut().add_default_ipv6_route(address),
            };
        }
        let sockets = SocketSet::new(Vec::new());
        Self { link, gateway, events, wire, interface, sockets, start: Instant::now(), port: 40_000 }
    }

    /// From now on packets of the guest have at most `mtu` bytes, and some frames are lost or late or come twice, the same ones for a
    /// `seed` as far as both ends send the same.
    pub(super) fn spoil_link(&mut self, seed: u32, mtu: usize) {
        self.wire.noise = Some(Noise(seed));
        self.wire.mtu = mtu;
        // The interface asks for the size once.
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed.into();
        let addresses: Vec<IpCidr> = self.interface.ip_addrs().to_vec();
        self.interface = Interface::new(config, &mut self.wire, StackInstant::ZERO);
        self.interface.update_ip_addrs(|list| list.extend(addresses));
    }

    fn socket(&mut self) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    /// Connects, or is refused.
    pub(super) fn connect(&mut self, to: SocketAddr) -> Option<SocketHandle> {
        let handle = self.begin(to);
        self.until(|guest| {
            let state = guest.get(handle).state();
            (state != State::SynSent).then_some(state)
        });
        (self.get(handle).state() == State::Established).then_some(handle)
    }

    /// Sends a SYN.
    pub(super) fn begin(&mut self, to: SocketAddr) -> SocketHandle {
        let handle = self.socket();
        self.port += 1;
        let (local, port) = (self.link.guest_like(to.ip()), self.port);
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.connect(self.interface.context(), (to.ip(), to.port()), (local, port)).unwrap();
        handle
    }

    /// Listens.
    pub(super) fn listen(&mut self, at: SocketAddr) -> SocketHandle {
        let handle = self.socket();
        self.get(handle).listen((at.ip(), at.port())).unwrap();
        handle
    }

    pub(super) fn get(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Sends and receives until there is what `what` looks for.
    pub(super) fn until<R>(&mut self, what: impl FnMut(&mut Self) -> Option<R>) -> R {
        self.until_within(LIMIT, what)
    }

    /// The same where it may take longer.
    pub(super) fn until_within<R>(
        &mut self,
        limit: Duration,
        mut what: impl FnMut(&mut Self) -> Option<R>,
    ) -> R {
        let begun = Instant::now();
        loop {
            let now = StackInstant::from_micros(self.start.elapsed().as_micros() as i64);
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            if let Some(result) = what(self) {
                return result;
            }
            assert!(begun.elapsed() < limit, "it does not come");
            let wait = self.interface.poll_delay(now, &self.sockets).map(Duration::from);
            let wait = wait.unwrap_or(LIMIT).clamp(Duration::from_micros(100), Duration::from_millis(20));
            self.wire.fill(wait);
        }
    }

    /// Sends all of `sent` and ends its half of a connection; gives what comes until the other half has ended.
    pub(super) fn exchange(&mut self, handle: SocketHandle, sent: &[u8]) -> Vec<u8> {
        let (mut written, mut received) = (0, Vec::new());
        self.until(|guest| {
            let socket = guest.get(handle);
            if written < sent.len() {
                written += socket.send_slice(&sent[written..]).unwrap();
                if written == sent.len() {
                    socket.close();
                }
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
            }
            (written == sent.len() && !socket.may_recv()).then_some(())
        });
        received
    }

    /// Sends a frame as it is.
    pub(super) fn send_frame(&mut self, frame: &[u8]) {
        self.wire.socket.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        self.wire.socket.write_all(frame).unwrap();
    }

    /// Sends an IP packet.
    pub(super) fn send_packet(&mut self, packet: &[u8]) {
        let kind = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0] };
        let frame = [&self.link.gateway_mac[..], &self.link.guest_mac, &kind, packet].concat();
        self.send_frame(&frame);
    }

    /// The next packet, which has to come.
    pub(super) fn packet(&mut self) -> Vec<u8> {
        let frame = self.frame(LIMIT).unwrap();
        arrived(&frame[14..])
    }

    /// The next frame; `None` when there is none for a while, or no more at all.
    pub(super) fn frame(&mut self, wait: Duration) -> Option<Vec<u8>> {
        let begun = Instant::now();
        loop {
            if let Some(frame) = self.wire.take() {
                return Some(frame);
            }
            if begun.elapsed() > wait || !self.wire.fill(Duration::from_millis(10)) {
                return None;
            }
        }
    }
}

impl Wire {
    /// Waits for bytes. `false` at the end.
    fn fill(&mut self, wait: Duration) -> bool {
        let mut bytes = vec![0; 256 << 10];
        self.socket.set_read_timeout(Some(wait)).unwrap();
        match self.socket.read(&mut bytes) {
            Ok(0) => false,
            Ok(length) => {
                self.received.extend(&bytes[..length]);
                true
            }
            Err(_) => true,
        }
    }

    /// The next frame that arrives.
    fn arriving(&mut self) -> Option<Vec<u8>> {
        loop {
            let frame = self.take()?;
            match self.noise.as_mut().map_or(Fortune::Arrives, Noise::next) {
                Fortune::Arrives => return Some(frame),
                Fortune::ArrivesTwice => {
                    self.again = Some(frame.clone());
                    return Some(frame);
                }
                Fortune::IsLost => {}
                Fortune::IsLate => {
                    if let Some(earlier) = self.late[0].replace(frame) {
                        return Some(earlier);
                    }
                }
            }
        }
    }

    /// Whether it acknowledges what the one before has, and nothing else. A bad link loses such a one: smoltcp, which the guest has as
    /// well, stands still when it hears it three times while nothing but its end is unacknowledged.
    fn is_repetition(&mut self, frame: &[u8]) -> bool {
        const TCP: usize = 34;
        let (Some(_), Some(header)) = (&self.noise, frame.get(TCP..).and_then(<[u8]>::first_chunk::<20>))
        else {
            return false;
        };
        let is_bare = header[13] == 0x10 && frame.len() == TCP + usize::from(header[12] >> 4) * 4;
        let ports = [header[0], header[1], header[2], header[3]];
        let before = self.last.insert(ports, frame.to_vec());
        is_bare && before.is_some_and(|before| before == frame)
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let length = u32::from_be_bytes(*self.received.first_chunk::<4>()?) as usize;
        let frame = self.received.get(4..4 + length)?.to_vec();
        self.received.drain(..4 + length);
        Some(frame)
    }
}

/// A packet after the way to the loopback of IPv6, as Linux follows it (RFC 8754, 4.3.1).
fn arrived(packet: &[u8]) -> Vec<u8> {
    const ROUTING: u8 = 43;
    if packet[0] >> 4 != 6 || packet[6] != ROUTING {
        return packet.to_vec();
    }
    assert_eq!(packet[41..45], [4, 4, 1, 1]);
    let mut inside = [&packet[..40], &packet[80..]].concat();
    inside[6] = packet[40];
    inside[24..40].copy_from_slice(&packet[48..64]);
    let length = u16::from_be_bytes([packet[4], packet[5]]) - 40;
    inside[4..6].copy_from_slice(&length.to_be_bytes());
    inside
}

struct Packet(Vec<u8>);
struct Room<'a>(&'a mut Wire);

impl Device for Wire {
    type RxToken<'a> = Packet;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Packet, Room<'_>)> {
        let frame = loop {
            let frame = match self.again.take() {
                Some(frame) => frame,
                None => self.arriving()?,
            };
            if !self.is_repetition(&frame) {
                break frame;
            }
        };
        Some((Packet(arrived(&frame[14..])), Room(self)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Room<'_>> {
        Some(Room(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // As with checksum offload: what it sends has none, what it gets is verified.
        capabilities.checksum.tcp = Checksum::Rx;
        capabilities
    }
}

impl RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        let kind = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0] };
        let link = self.0.link;
        let header = [&link.gateway_mac[..], &link.guest_mac, &kind].concat();
        let frame = [&((length + 14) as u32).to_be_bytes()[..], &header, &packet].concat();
        let frame = match self.0.noise.as_mut().map_or(Fortune::Arrives, Noise::next) {
            Fortune::Arrives => Some(frame),
            Fortune::ArrivesTwice => Some([&frame[..], &frame].concat()),
            Fortune::IsLost => None,
            Fortune::IsLate => self.0.late[1].replace(frame),
        };
        if let Some(frame) = frame {
            self.0.socket.write_all(&frame).unwrap();
        }
        result
    }
}
