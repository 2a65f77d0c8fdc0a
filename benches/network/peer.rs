//! A machine at the end of a link, reduced to what measuring takes: TCP on a link that loses nothing.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::poll::{PollFlags, PollTimeout};
use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use crate::line::{Framing, Input, Line};

const MAC: [u8; 6] = [0x02, 0x6d, 0x73, 0x62, 0, 2];
const EVERYBODY: [u8; 6] = [0xff; 6];
const ETHERNET: usize = 14;
/// The window that is offered, and by how many bits it is shifted.
const WINDOW: u16 = 32_768;
const SCALE: u8 = 7;
/// Repeated acknowledgements after which something is taken for lost (RFC 5681), and the time.
const REPEATED: u32 = 3;
const RETRANSMIT: Duration = Duration::from_millis(200);
/// Bytes on their way at most.
const IN_FLIGHT: u32 = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Opening,
    Open,
    /// The other end has closed its half.
    Closed,
    /// Refused, or reset.
    Lost,
}

pub(crate) struct Connection {
    pub(crate) state: State,
    /// Bytes.
    pub(crate) received: u64,
    remote: u16,
    next: u32,
    acknowledged: u32,
    expected: u32,
    window: u32,
    scale: u8,
    segment: u16,
    /// How often the last acknowledgement was repeated.
    repeated: u32,
}

pub(crate) struct Peer {
    line: Line,
    input: Input,
    guest: Ipv4Addr,
    gateway: Ipv4Addr,
    gateway_mac: [u8; 6],
    connections: HashMap<u16, Connection>,
    port: u16,
    zeros: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(socket: OwnedFd, framing: Framing, (guest, gateway): (Ipv4Addr, Ipv4Addr)) -> Self {
        Self {
            line: Line::new(socket, framing),
            input: Input::default(),
            guest,
            gateway,
            gateway_mac: EVERYBODY,
            connections: HashMap::new(),
            port: 10_000,
            zeros: vec![0; framing.largest_segment().into()],
        }
    }

    /// Asks for the gateway's hardware address, so that each knows the other's.
    pub(crate) fn meet(&mut self) {
        let mut question = vec![0, 1, 8, 0, 6, 4, 0, 1];
        question.extend(MAC);
        question.extend(self.guest.octets());
        question.extend([0; 6]);
        question.extend(self.gateway.octets());
        self.frame([8, 6], question.len(), |bytes| bytes.copy_from_slice(&question));
        while self.gateway_mac == EVERYBODY {
            self.wait();
        }
    }

    pub(crate) fn get(&self, connection: u16) -> &Connection {
        &self.connections[&connection]
    }

    /// Opens a connection to this port of the host.
    pub(crate) fn connect(&mut self, remote: u16) -> u16 {
        let connection = self.begin(remote);
        while self.get(connection).state == State::Opening {
            self.wait();
        }
        assert_eq!(self.get(connection).state, State::Open, "the server is there");
        connection
    }

    pub(crate) fn begin(&mut self, remote: u16) -> u16 {
        self.port += 1;
        let port = self.port;
        let new = Connection {
            state: State::Opening,
            received: 0,
            remote,
            next: 1,
            acknowledged: 0,
            expected: 0,
            window: 0,
            scale: 0,
            segment: 536,
            repeated: 0,
        };
        self.connections.insert(port, new);
        self.segment(port, TcpControl::Syn, 0, &[]);
        port
    }

    /// Sends as many zeros, and waits until they are acknowledged.
    pub(crate) fn send(&mut self, connection: u16, bytes: u64) {
        let zeros = std::mem::take(&mut self.zeros);
        let mut left = bytes;
        while left > 0 || self.in_flight(connection) > 0 {
            left += self.go_back(connection);
            let mut stuck = true;
            while left > 0 && self.line.output.len() < 1 << 20 {
                let length = self.may_send(connection, left);
                if length == 0 {
                    break;
                }
                self.push(connection, &zeros[..length as usize]);
                left -= u64::from(length);
                stuck = false;
            }
            if !stuck {
                self.flush();
                self.read();
            } else if !self.wait_for(RETRANSMIT) {
                // Lost, or a window that opened without a word (RFC 9293, 3.8.6.1).
                self.change(connection).repeated = REPEATED;
                left += self.go_back(connection);
                let probe = left.min(1);
                self.push(connection, &zeros[..probe as usize]);
                left -= probe;
            }
            assert_eq!(self.get(connection).state, State::Open, "the connection holds");
        }
        self.zeros = zeros;
    }

    /// Bytes of `left` that may go in one segment now: a whole one, or half of one when nothing is on its way (RFC 9293, 3.8.6.2.1).
    fn may_send(&self, connection: u16, left: u64) -> u32 {
        let (it, on_its_way) = (self.get(connection), self.in_flight(connection));
        let whole = left.min(it.segment.into()) as u32;
        let window = it.window.min(IN_FLIGHT);
        match on_its_way {
            _ if on_its_way + whole <= window => whole,
            0 if window >= whole / 2 => window,
            _ => 0,
        }
    }

    /// Forgets what the other end has let fall, so that it is sent again; how many bytes these are. passt keeps nothing that its
    /// socket does not take.
    fn go_back(&mut self, connection: u16) -> u64 {
        let lost = self.in_flight(connection);
        let it = self.change(connection);
        if it.repeated < REPEATED {
            return 0;
        }
        it.repeated = 0;
        it.next = it.acknowledged;
        lost.into()
    }

    fn in_flight(&self, connection: u16) -> u32 {
        let it = self.get(connection);
        it.next.wrapping_sub(it.acknowledged)
    }

    /// Sends these bytes in one segment, whatever the window.
    pub(crate) fn push(&mut self, connection: u16, bytes: &[u8]) {
        let next = self.get(connection).next;
        self.segment(connection, TcpControl::Psh, next, bytes);
        self.change(connection).next = next.wrapping_add(bytes.len() as u32);
    }

    /// Closes a connection whose other half is closed.
    pub(crate) fn close(&mut self, connection: u16) {
        let next = self.get(connection).next;
        self.segment(connection, TcpControl::Fin, next, &[]);
        self.flush();
    }

    pub(crate) fn reset(&mut self, connection: u16) {
        let next = self.get(connection).next;
        self.segment(connection, TcpControl::Rst, next, &[]);
        self.flush();
        self.connections.remove(&connection);
    }

    fn change(&mut self, connection: u16) -> &mut Connection {
        self.connections.get_mut(&connection).expect("begun")
    }

    /// Sends what there is to send, and handles what has come, of which there is some.
    #[track_caller]
    pub(crate) fn wait(&mut self) {
        assert!(self.wait_for(Duration::from_secs(20)), "nothing comes any more");
    }

    /// The same for no longer than `limit`. Whether something has come.
    pub(crate) fn wait_for(&mut self, limit: Duration) -> bool {
        self.flush();
        if self.read() {
            return true;
        }
        let timeout = PollTimeout::try_from(limit).expect("short");
        self.line.poll(PollFlags::POLLIN, timeout) && self.read()
    }

    fn flush(&mut self) {
        while !self.line.send() {
            // Who waits for us to read does not read.
            self.line.poll(PollFlags::POLLIN | PollFlags::POLLOUT, PollTimeout::NONE);
            self.read();
        }
    }

    /// Handles what has come. Whether anything has.
    fn read(&mut self) -> bool {
        let mut input = std::mem::take(&mut self.input);
        let mut to_acknowledge = Vec::new();
        let is_some = self.line.receive(&mut input);
        while let Some(frame) = input.next() {
            self.frame_from(frame, &mut to_acknowledge);
        }
        self.input = input;
        for port in to_acknowledge {
            let next = self.get(port).next;
            self.segment(port, TcpControl::None, next, &[]);
        }
        is_some
    }

    fn frame_from(&mut self, frame: &[u8], to_acknowledge: &mut Vec<u16>) {
        match frame.get(12..ETHERNET) {
            Some([8, 6]) => {
                let packet = &frame[ETHERNET..];
                if packet[7] == 2 {
                    self.gateway_mac.copy_from_slice(&packet[8..14]);
                }
            }
            Some([8, 0]) => self.packet(&frame[ETHERNET..], to_acknowledge),
            _ => {}
        }
    }

    fn packet(&mut self, packet: &[u8], to_acknowledge: &mut Vec<u16>) {
        let packet = Ipv4Packet::new_unchecked(packet);
        if packet.next_header() != IpProtocol::Tcp {
            return;
        }
        let segment = TcpPacket::new_unchecked(packet.payload());
        let (port, largest) = (segment.dst_port(), self.line.framing.largest_segment());
        let Some(it) = self.connections.get_mut(&port) else { return };
        if segment.rst() {
            it.state = State::Lost;
            return;
        }
        let number = segment.seq_number().0.cast_unsigned();
        if segment.syn() {
            it.expected = number.wrapping_add(1);
            it.acknowledged = 1;
            it.state = State::Open;
            let repr = TcpRepr::parse(&segment, &self.gateway.into(), &self.guest.into(), &unchecked());
            let repr = repr.expect("a segment");
            it.scale = repr.window_scale.unwrap_or(0);
            it.segment = repr.max_seg_size.unwrap_or(536).min(largest);
            it.window = segment.window_len().into();
            // No more than half a window, so that there is room for the next when one is taken.
            if it.scale == 0 {
                it.segment = it.segment.min(segment.window_len() / 2);
            }
            to_acknowledge.push(port);
            return;
        }
        if segment.ack() {
            let acknowledged = segment.ack_number().0.cast_unsigned();
            let window = u32::from(segment.window_len()) << it.scale;
            if acknowledged.wrapping_sub(it.acknowledged).cast_signed() > 0 {
                (it.acknowledged, it.repeated) = (acknowledged, 0);
                // It had what was about to be sent again.
                if acknowledged.wrapping_sub(it.next).cast_signed() > 0 {
                    it.next = acknowledged;
                }
            } else if segment.payload().is_empty() && window == it.window {
                it.repeated += 1;
            }
            it.window = window;
        }
        let length = segment.payload().len() as u32;
        if length == 0 && !segment.fin() {
            return;
        }
        // What came before comes again where the other end believes it lost.
        if number == it.expected {
            it.expected = number.wrapping_add(length + u32::from(segment.fin()));
            it.received += u64::from(length);
            if segment.fin() {
                it.state = State::Closed;
            }
        }
        if to_acknowledge.last() != Some(&port) {
            to_acknowledge.push(port);
        }
    }

    fn segment(&mut self, port: u16, control: TcpControl, number: u32, payload: &[u8]) {
        let it = self.get(port);
        let syn = control == TcpControl::Syn;
        let repr = TcpRepr {
            src_port: port,
            dst_port: it.remote,
            control,
            seq_number: TcpSeqNumber(number.cast_signed()),
            ack_number: (!syn).then_some(TcpSeqNumber(it.expected.cast_signed())),
            window_len: WINDOW,
            window_scale: syn.then_some(SCALE),
            max_seg_size: syn.then_some(self.line.framing.largest_segment()),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let (from, to) = (self.guest, self.gateway);
        let header = Ipv4Repr {
            src_addr: from,
            dst_addr: to,
            next_header: IpProtocol::Tcp,
            payload_len: repr.buffer_len(),
            hop_limit: 64,
        };
        let mut sums = unchecked();
        sums.ipv4 = Checksum::Tx;
        if self.line.framing == Framing::Packets {
            sums.tcp = Checksum::Tx;
        }
        self.frame([8, 0], header.buffer_len() + repr.buffer_len(), |bytes| {
            header.emit(&mut Ipv4Packet::new_unchecked(&mut *bytes), &sums);
            let mut packet = TcpPacket::new_unchecked(&mut bytes[header.buffer_len()..]);
            repr.emit(&mut packet, &from.into(), &to.into(), &sums);
        });
    }

    fn frame(&mut self, kind: [u8; 2], length: usize, fill: impl FnOnce(&mut [u8])) {
        let output = &mut self.line.output;
        output.extend(((ETHERNET + length) as u32).to_be_bytes());
        output.extend(self.gateway_mac);
        output.extend(MAC);
        output.extend(kind);
        let start = output.len();
        output.resize(start + length, 0);
        fill(&mut output[start..]);
    }
}

/// The link changes nothing, and the gateway knows.
fn unchecked() -> ChecksumCapabilities {
    ChecksumCapabilities::ignored()
}
