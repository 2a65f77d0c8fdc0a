//! Packets in pieces.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use smoltcp::wire::{Ipv4Packet, UdpPacket};

use super::frames::datagram;
use super::guest::Guest;
use crate::net::gateway::fragments::{Fragments, pieces};
use crate::net::gateway::packet::{self, Frame};
use crate::net::policy::Scope;

const V4: (&str, &str) = ("192.0.0.2:9", "192.0.2.1:7");
const V6: (&str, &str) = ("[fd6d:7362::2]:9", "[2001:db8::1]:7");

fn packet((from, to): (&str, &str), length: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..length).map(|at| (at * 31 / 7) as u8).collect();
    datagram(from, to.parse().unwrap(), &payload)
}

/// A packet as a kernel divides it whose link takes `most` bytes.
fn divided(packet: &[u8], most: usize, number: u16) -> Vec<Vec<u8>> {
    if packet[0] >> 4 == 6 {
        return pieces(packet, most, number.into()).collect();
    }
    let (header, inside) = packet.split_at(20);
    let size = (most - 20) / 8 * 8;
    let count = inside.len().div_ceil(size);
    let parts = inside.chunks(size).enumerate().map(|(index, part)| {
        let mut piece = [header, part].concat();
        let length = piece.len() as u16;
        let mut fields = Ipv4Packet::new_unchecked(&mut piece);
        fields.set_total_len(length);
        fields.set_ident(number);
        fields.clear_flags();
        fields.set_more_frags(index + 1 < count);
        fields.set_frag_offset((index * size) as u16);
        piece
    });
    parts.collect()
}

fn add(fragments: &mut Fragments, now: Instant, piece: &[u8]) -> Option<Vec<u8>> {
    let kind = if piece[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0] };
    let frame = [&[0; 12][..], &kind, piece].concat();
    match packet::parse(&frame) {
        Some(Frame::Fragment(fragment)) => fragments.add(now, &fragment),
        other => panic!("{other:?}"),
    }
}

/// Without what dividing changes.
fn same(whole: &[u8], packet: &[u8]) -> bool {
    let (whole, packet) = (packet::parse_ip(whole).unwrap(), packet::parse_ip(packet).unwrap());
    let ends = (whole.source, whole.destination, whole.protocol);
    ends == (packet.source, packet.destination, packet.protocol) && whole.payload == packet.payload
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_in_any_order_are_put_together(
        is_v6 in any::<bool>(),
        length in 1200usize..20_000,
        most in 100usize..1200,
        seed in prop::collection::vec(any::<u32>(), 256),
    ) {
        let packet = packet(if is_v6 { V6 } else { V4 }, length);
        let mut order: Vec<_> = divided(&packet, most, 1).into_iter().enumerate().collect();
        order.sort_by_key(|(index, _)| seed[index % seed.len()]);
        let (last, others) = order.split_last().unwrap();
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        for (_, piece) in others {
            prop_assert_eq!(add(&mut fragments, now, piece), None);
        }
        let whole = add(&mut fragments, now, &last.1).unwrap();
        prop_assert!(same(&whole, &packet));
    }

    #[test]
    fn no_fragment_breaks_it(
        parts in prop::collection::vec((any::<u16>(), 0usize..2000, 0u16..3, any::<bool>()), 0..40),
    ) {
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        for (place, length, number, is_v6) in parts {
            let packet = packet(if is_v6 { V6 } else { V4 }, length + 16);
            let mut piece = divided(&packet, 4000, number).remove(0);
            if is_v6 {
                piece[42..44].copy_from_slice(&place.to_be_bytes());
            } else {
                // Always a fragment.
                piece[6..8].copy_from_slice(&(place & 0x3fff | 1).to_be_bytes());
            }
            if let Some(whole) = add(&mut fragments, now, &piece) {
                prop_assert!(whole.len() <= 40 + 65_535);
                let _ = packet::parse_ip(&whole);
            }
        }
    }
}

#[test]
fn overlapping_pieces_are_dropped_with_all_that_belongs_to_them() {
    for ends in [V4, V6] {
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        let packet = packet(ends, 5000);
        let parts = divided(&packet, 1000, 1);
        assert_eq!(add(&mut fragments, now, &parts[0]), None);
        // Eight bytes of it once more.
        let other = divided(&packet, 1000 - 8, 1);
        assert_eq!(add(&mut fragments, now, &other[1]), None);
        for part in &parts {
            assert_eq!(add(&mut fragments, now, part), None);
        }
        // Another packet of the same ends is not concerned.
        let whole = divided(&packet, 1000, 2).iter().find_map(|part| add(&mut fragments, now, part));
        assert!(same(&whole.unwrap(), &packet));
    }
}

#[test]
fn what_is_never_finished_makes_room() {
    let (mut fragments, now) = (Fragments::default(), Instant::now());
    let packet = packet(V4, 5000);
    let parts = |number| divided(&packet, 1000, number);
    for number in 0..100 {
        assert_eq!(add(&mut fragments, now, &parts(number)[0]), None);
    }
    // The first are forgotten, and the last not yet.
    let mut rest = |now, number| parts(number)[1..].iter().find_map(|part| add(&mut fragments, now, part));
    assert_eq!(rest(now, 0), None);
    assert!(rest(now, 99).is_some());
    assert_eq!(rest(now + Duration::from_secs(60), 98), None);
}

#[test]
fn the_longest_datagrams_pass_both_ways() {
    for (from, to, there, back) in
        [("192.0.0.2:9", "127.0.0.1:0", 65_507, 65_507), ("[fd6d:7362::2]:9", "[::1]:0", 65_487, 65_527)]
    {
        let server = UdpSocket::bind(to).unwrap();
        let mut guest = Guest::new(Scope::Any);
        let gateway = guest.link.gateway_like(server.local_addr().unwrap().ip());
        let to = SocketAddr::new(gateway, server.local_addr().unwrap().port());
        let packet = datagram(from, to, &vec![5; there]);
        for piece in divided(&packet, 1400, 1) {
            guest.send_packet(&piece);
        }
        let mut bytes = vec![0; 65_536];
        let (received, client) = server.recv_from(&mut bytes).unwrap();
        assert!(bytes[..received] == vec![5; there]);
        server.send_to(&vec![6; back], client).unwrap();
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        let answer = loop {
            let packet = guest.packet();
            assert!(packet.len() <= 65_535);
            match packet::parse_ip(&packet) {
                Some(_) => break packet,
                None => {
                    if let Some(whole) = add(&mut fragments, now, &packet) {
                        break whole;
                    }
                }
            }
        };
        let answer = packet::parse_ip(&answer).unwrap();
        let message = UdpPacket::new_checked(answer.payload).unwrap();
        assert!(message.verify_checksum(&answer.source.into(), &answer.destination.into()));
        assert!(answer.source == to.ip() && message.payload() == vec![6; back]);
    }
}

#[test]
fn the_policy_is_asked_about_the_whole() {
    let mut guest = Guest::new(Scope::Public);
    let packet = datagram("192.0.0.2:9", "10.0.0.1:7".parse().unwrap(), &[5; 3000]);
    for piece in divided(&packet, 1400, 1) {
        guest.send_packet(&piece);
    }
    let answer = guest.packet();
    let answer = packet::parse_ip(&answer).unwrap();
    assert_eq!(answer.payload[..2], [3, 13]);
    assert_eq!(guest.events.lock().unwrap().len(), 1);
}
