//! Frames and packets of all kinds.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket};

use super::guest::{Guest, settings};
use crate::net::gateway::Gateway;
use crate::net::gateway::link::{Link, MAX_FRAME};
use crate::net::gateway::packet::{self, Frame};
use crate::net::gateway::wire::{Input, Output};
use crate::net::policy::Scope;

const WAIT: Duration = Duration::from_secs(60);

fn feed(input: &mut Input, bytes: &[u8]) {
    input.room()[..bytes.len()].copy_from_slice(bytes);
    input.filled(bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_come_out_as_they_went_in(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..20),
        piece in 1usize..3000,
    ) {
        let mut stream = Vec::new();
        for frame in &frames {
            stream.extend((frame.len() as u32).to_be_bytes());
            stream.extend(frame);
        }
        let (mut input, mut out) = (Input::default(), Vec::new());
        for piece in stream.chunks(piece) {
            feed(&mut input, piece);
            while let Some(at) = input.next_frame().unwrap() {
                out.push(input.frame(at).to_vec());
            }
        }
        prop_assert_eq!(out, frames);
    }

    #[test]
    fn no_frame_breaks_the_parser(frame in prop::collection::vec(any::<u8>(), 0..200), kind in 0usize..3) {
        let mut frame = frame;
        if frame.len() > 14 {
            frame[12..14].copy_from_slice(&[[8, 0], [0x86, 0xdd], [8, 6]][kind]);
            frame[14] = [0x45, 0x60, 0][kind];
        }
        if let Some(Frame::Ip(datagram)) = packet::parse(&frame) {
            prop_assert!(datagram.payload.len() < datagram.whole.len());
        }
        packet::parse_quoted(&frame);
    }
}

#[test]
fn nothing_behind_a_syn_is_kept() {
    for (from, to) in [("192.0.0.2", "192.0.2.1"), ("fd6d:7362::2", "2001:db8::1")] {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let content = [7; 60_000];
        let segment = TcpRepr {
            src_port: 1,
            dst_port: 2,
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(5),
            ack_number: None,
            window_len: 9,
            window_scale: Some(7),
            max_seg_size: Some(1460),
            sack_permitted: true,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &content,
        };
        let mut output = Output::new(&Link::default());
        packet::emit(&mut output, (from, to), IpProtocol::Tcp, segment.buffer_len(), |bytes| {
            let mut packet = TcpPacket::new_unchecked(bytes);
            segment.emit(&mut packet, &from.into(), &to.into(), &ChecksumCapabilities::ignored());
        });
        let whole = packet::parse_ip(&output.waiting()[4 + 14..]).unwrap();
        let bare = packet::bare_syn(&whole, &TcpPacket::new_checked(whole.payload).unwrap());
        assert_eq!(bare.len(), whole.whole.len() - content.len());
        let bare = packet::parse_ip(&bare).unwrap();
        assert!(whole.payload.starts_with(bare.payload));
        assert_eq!((bare.source, bare.destination, bare.payload.len()), (from, to, segment.header_len()));
        assert!(from.is_ipv6() || Ipv4Packet::new_unchecked(bare.whole).verify_checksum());
    }
}

#[test]
fn a_frame_that_is_too_long_ends_the_link() {
    let mut input = Input::default();
    feed(&mut input, &(MAX_FRAME as u32 + 1).to_be_bytes());
    assert_eq!(input.next_frame().unwrap_err().0, MAX_FRAME as u32 + 1);
}

#[test]
fn the_gateway_answers_for_its_own_address_only() {
    let mut guest = Guest::new(Scope::Public);
    let link = guest.link;
    let ask = |target: [u8; 4]| {
        let mut frame = vec![0xff; 6];
        frame.extend(link.guest_mac);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(link.guest_mac);
        frame.extend(link.guest_v4.octets());
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    };
    guest.send_frame(&ask([192, 0, 0, 3]));
    guest.send_frame(&ask(link.gateway_v4.octets()));
    let answer = guest.frame(WAIT).unwrap();
    assert_eq!((&answer[22..28], &answer[28..32]), (&link.gateway_mac[..], &link.gateway_v4.octets()[..]));
}

/// A packet of the guest.
pub(super) fn datagram(from: &str, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut output = Output::new(&Link::default());
    packet::udp(&mut output, from.parse().unwrap(), to, payload);
    output.waiting()[18..].to_vec()
}

#[test]
fn datagrams_come_back_and_false_sources_do_not() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = SocketAddr::from(([192, 0, 0, 1], server.local_addr().unwrap().port()));
    let mut guest = Guest::new(Scope::Any);
    guest.send_packet(&datagram("192.0.0.3:9", to, b"false"));
    guest.send_packet(&datagram("127.0.0.1:9", to, b"false"));
    let payload = vec![5; 65_507];
    guest.send_packet(&datagram("192.0.0.2:9", to, &payload));
    let mut bytes = vec![0; 65_536];
    let (length, client) = server.recv_from(&mut bytes).unwrap();
    assert_eq!(length, payload.len());
    server.send_to(&bytes[..length], client).unwrap();
    let frame = guest.frame(WAIT).unwrap();
    let Some(Frame::Ip(answer)) = packet::parse(&frame) else { panic!("{} bytes", frame.len()) };
    let message = UdpPacket::new_checked(answer.payload).unwrap();
    assert_eq!((answer.source, message.src_port(), message.dst_port()), (to.ip(), to.port(), 9));
    assert!(
        message.payload() == payload
            && message.verify_checksum(&answer.source.into(), &answer.destination.into())
    );
}

#[test]
fn a_port_nobody_listens_at_is_unreachable() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let to = SocketAddr::from(([192, 0, 0, 1], port));
    let mut guest = Guest::new(Scope::Any);
    guest.send_packet(&datagram("192.0.0.2:9", to, b"hello"));
    let frame = guest.frame(WAIT).unwrap();
    let Some(Frame::Ip(answer)) = packet::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!((answer.protocol, &answer.payload[..2]), (IpProtocol::Icmp, &[3, 3][..]));
    let about = packet::parse_quoted(&answer.payload[8..]).unwrap();
    assert_eq!(about.destination, to.ip());
}

/// libkrun's device looks for frames when the kernel tells it of a change alone, and leaves what the guest has no room for.
#[test]
fn a_machine_that_forgets_its_frames_is_reminded_of_them() {
    const MANY: usize = 3000;
    const ROOM: usize = 64;
    let (gateway, mut machine) = Gateway::start(settings(Scope::Any, Vec::new()).0).unwrap();
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
    epoll.add(&machine, EpollEvent::new(flags, 0)).unwrap();
    let question = [
        &[2, 0x6d, 0x73, 0x62, 0, 1, 2, 0x6d, 0x73, 0x62, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1][..],
        &[2, 0x6d, 0x73, 0x62, 0, 2, 192, 0, 0, 2, 0, 0, 0, 0, 0, 0, 192, 0, 0, 1],
    ]
    .concat();
    let frame = [&(question.len() as u32).to_be_bytes()[..], &question].concat();
    machine.write_all(&frame.repeat(MANY)).unwrap();
    machine.set_nonblocking(true).unwrap();
    let mut answers = 0;
    let mut bytes = vec![0; frame.len() * ROOM];
    while answers < MANY * frame.len() {
        let mut events = [EpollEvent::empty()];
        let limit = EpollTimeout::try_from(WAIT).unwrap();
        assert_eq!(epoll.wait(&mut events, limit).unwrap(), 1, "{answers} bytes came");
        answers += machine.read(&mut bytes).unwrap_or(0);
    }
    drop(gateway);
}
