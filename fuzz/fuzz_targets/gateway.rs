//! Packets of a hostile guest: frames of any bytes, and packets whose lengths and checksums are true, to the gateway's name server, to a
//! server of the host, and to nobody. Whatever came before, the gateway still answers for itself, and what it sends is sound.
#![no_main]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use msb::net::gateway::{Gateway, Link, Settings};
use msb::net::policy::{HostAddresses, Policy, Scope};
use smoltcp::wire::{
    Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

#[derive(Debug, Arbitrary)]
enum Act {
    /// A frame of any bytes.
    Frame(u8, Vec<u8>),
    /// A packet of any protocol.
    Ip(To, u8, Vec<u8>),
    Udp(To, Vec<u8>),
    Tcp(To, Segment),
    /// Whatever was sent is answered before more is.
    Wait,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct To {
    is_v6: bool,
    /// Which of the places there are.
    place: u8,
    /// Which of four ports it is from.
    port: u8,
    /// Bytes of options in the IPv4 header, in fours.
    options: u8,
}

#[derive(Debug, Arbitrary)]
struct Segment {
    flags: u8,
    /// How far from what is right.
    seq: i16,
    ack: i16,
    window: u16,
    urgent: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

/// A server of the host that repeats what it hears, by TCP and UDP, at the same port.
static SERVER: LazyLock<u16> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut &client, &mut &client);
            });
        }
    });
    std::thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..length], from);
        }
    });
    port
});

type Pair = (bool, u16, u16);

struct Guest {
    link: Link,
    socket: UnixStream,
    /// What comes next of each connection: from here, and from there.
    numbers: HashMap<Pair, (u32, u32)>,
}

impl Guest {
    fn send(&mut self, kind: [u8; 2], payload: &[u8]) {
        let header = [&self.link.gateway_mac[..], &self.link.guest_mac, &kind].concat();
        let length = (header.len() + payload.len()) as u32;
        self.socket.write_all(&[&length.to_be_bytes()[..], &header, payload].concat()).unwrap();
    }

    /// Who a packet is from and to, and its ports.
    fn pair(&self, to: To) -> ((IpAddr, IpAddr), (u16, u16)) {
        let gateway: IpAddr =
            if to.is_v6 { self.link.gateway_v6.into() } else { self.link.gateway_v4.into() };
        let strange: IpAddr = if to.is_v6 { "2001:db8::1".parse().unwrap() } else { [192, 0, 2, 9].into() };
        let (remote, port) = match to.place % 8 {
            0..3 => (gateway, 53),
            3..6 => (IpAddr::V4(self.link.gateway_v4), *SERVER),
            6 => (gateway, 1),
            _ => (strange, 80),
        };
        let guest = self.link.guest_like(remote);
        ((guest, remote), (1024 + u16::from(to.port % 4), port))
    }

    fn ip(&mut self, to: To, protocol: u8, fill: impl FnOnce(&(IpAddr, IpAddr), (u16, u16)) -> Vec<u8>) {
        let (ends, ports) = self.pair(to);
        let payload = fill(&ends, ports);
        match ends {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = 20 + usize::from(to.options % 3) * 4;
                let mut bytes = vec![1; header + payload.len()];
                let length = bytes.len().min(65_535) as u16;
                let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
                packet.set_version(4);
                packet.set_header_len(header as u8);
                packet.set_total_len(length);
                packet.clear_flags();
                packet.set_frag_offset(0);
                packet.set_hop_limit(64);
                packet.set_next_header(protocol.into());
                packet.set_src_addr(source);
                packet.set_dst_addr(destination);
                packet.fill_checksum();
                packet.payload_mut().copy_from_slice(&payload);
                self.send([8, 0], &bytes);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut bytes = vec![0; 40 + payload.len()];
                let mut packet = Ipv6Packet::new_unchecked(&mut bytes);
                packet.set_version(6);
                packet.set_payload_len(payload.len().min(65_535) as u16);
                packet.set_hop_limit(64);
                packet.set_next_header(protocol.into());
                packet.set_src_addr(source);
                packet.set_dst_addr(destination);
                packet.payload_mut().copy_from_slice(&payload);
                self.send([0x86, 0xdd], &bytes);
            }
            _ => unreachable!("two families"),
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Frame(kind, bytes) => {
                let kinds = [[8, 0], [0x86, 0xdd], [8, 6], [*kind, 0]];
                self.send(kinds[usize::from(kind % 4)], bytes);
            }
            Act::Ip(to, protocol, bytes) => self.ip(*to, *protocol, |ends, _| {
                let mut bytes = bytes.clone();
                match protocol {
                    1 if bytes.len() >= 8 => Icmpv4Packet::new_unchecked(&mut bytes).fill_checksum(),
                    58 if bytes.len() >= 8 => {
                        if let (IpAddr::V6(from), IpAddr::V6(to)) = ends {
                            Icmpv6Packet::new_unchecked(&mut bytes).fill_checksum(from, to);
                        }
                    }
                    _ => {}
                }
                bytes
            }),
            Act::Udp(to, payload) => self.ip(*to, 17, |ends, ports| {
                let mut bytes = vec![0; 8 + payload.len()];
                let mut packet = UdpPacket::new_unchecked(&mut bytes);
                packet.set_src_port(ports.0);
                packet.set_dst_port(ports.1);
                packet.set_len((8 + payload.len()).min(65_535) as u16);
                packet.payload_mut().copy_from_slice(payload);
                packet.fill_checksum(&ends.0.into(), &ends.1.into());
                bytes
            }),
            Act::Tcp(to, segment) => self.segment(*to, segment),
            Act::Wait => self.wait(),
        }
    }

    fn segment(&mut self, to: To, segment: &Segment) {
        let (ends, ports) = self.pair(to);
        let key = (ends.1.is_ipv6(), ports.0, ports.1);
        let (seq, ack) = self.numbers.get(&key).copied().unwrap_or((1000, 0));
        let begins = segment.flags & 2 != 0;
        let ends_too = segment.flags & 1 != 0;
        let next = seq.wrapping_add(segment.payload.len() as u32 + u32::from(begins) + u32::from(ends_too));
        if segment.seq == 0 {
            self.numbers.insert(key, (next, ack));
        }
        self.ip(to, 6, |ends, ports| {
            let options = &segment.options[..segment.options.len().min(40) / 4 * 4];
            let header = 20 + options.len();
            let mut bytes = vec![0; header + segment.payload.len()];
            bytes[20..header].copy_from_slice(options);
            bytes[header..].copy_from_slice(&segment.payload);
            // The offset's bits and the flags together.
            bytes[12] = (header as u8 / 4) << 4;
            bytes[13] = segment.flags & 0x3f;
            let mut packet = TcpPacket::new_unchecked(&mut bytes);
            packet.set_src_port(ports.0);
            packet.set_dst_port(ports.1);
            packet.set_seq_number(smoltcp::wire::TcpSeqNumber(seq.wrapping_add(segment.seq as u32) as i32));
            packet.set_ack_number(smoltcp::wire::TcpSeqNumber(ack.wrapping_add(segment.ack as u32) as i32));
            packet.set_window_len(segment.window);
            packet.set_urgent_at(segment.urgent);
            packet.fill_checksum(&ends.0.into(), &ends.1.into());
            bytes
        });
        if begins {
            self.wait();
        }
    }

    /// Answers to what was sent come before the one to a question for the gateway's hardware address.
    fn wait(&mut self) {
        let mut question = vec![0, 1, 8, 0, 6, 4, 0, 1];
        question.extend(self.link.guest_mac);
        question.extend(self.link.guest_v4.octets());
        question.extend([0; 6]);
        question.extend(self.link.gateway_v4.octets());
        self.send([8, 6], &question);
        loop {
            let mut length = [0; 4];
            self.socket.read_exact(&mut length).unwrap();
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            self.socket.read_exact(&mut frame).unwrap();
            assert_eq!(frame[..6], self.link.guest_mac);
            match frame[12..14] {
                [8, 6] => break,
                [8, 0] => {
                    let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
                    assert!(packet.verify_checksum());
                    let ends = (IpAddr::V4(packet.src_addr()), IpAddr::V4(packet.dst_addr()));
                    self.hear(ends, packet.next_header(), packet.payload());
                }
                [0x86, 0xdd] => {
                    let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
                    let ends = (IpAddr::V6(packet.src_addr()), IpAddr::V6(packet.dst_addr()));
                    self.hear(ends, packet.next_header(), packet.payload());
                }
                _ => panic!("{frame:?}"),
            }
        }
    }

    fn hear(&mut self, (from, to): (IpAddr, IpAddr), protocol: IpProtocol, payload: &[u8]) {
        let is_advertisement = protocol == IpProtocol::Icmpv6;
        assert!(to == self.link.guest_like(to) || is_advertisement, "{to}");
        match protocol {
            IpProtocol::Tcp => {
                let packet = TcpPacket::new_checked(payload).unwrap();
                assert!(packet.verify_checksum(&from.into(), &to.into()));
                let key = (from.is_ipv6(), packet.dst_port(), packet.src_port());
                let length = packet.payload().len() + usize::from(packet.syn()) + usize::from(packet.fin());
                let next = (packet.seq_number().0 as u32).wrapping_add(length as u32);
                self.numbers.entry(key).and_modify(|numbers| numbers.1 = next);
            }
            IpProtocol::Udp => {
                let packet = UdpPacket::new_checked(payload).unwrap();
                assert!(packet.verify_checksum(&from.into(), &to.into()));
            }
            IpProtocol::Icmp => assert!(Icmpv4Packet::new_checked(payload).unwrap().verify_checksum()),
            IpProtocol::Icmpv6 => {
                let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) else { panic!("{from} {to}") };
                assert!(Icmpv6Packet::new_checked(payload).unwrap().verify_checksum(&from, &to));
            }
            other => panic!("{other}"),
        }
    }
}

fuzz_target!(|acts: Vec<Act>| {
    let link = Link::default();
    // Nothing may be reached but a server of this process.
    let rules = vec![format!("allow {}:{}", link.gateway_v4, *SERVER).parse().unwrap()];
    let policy = Policy::new(Scope::None, rules, link.segment(), HostAddresses::default());
    let settings = Settings { log: true, ..Settings::new(link, policy) };
    let (_gateway, socket) = Gateway::start(settings).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut guest = Guest { link, socket, numbers: HashMap::new() };
    for act in acts.iter().take(64) {
        guest.act(act);
    }
    guest.wait();
});
