//! Hardware addresses: the gateway answers for itself and for nobody else.

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::wire::{Icmpv6Packet, IpProtocol};

use super::link::{ETHERNET_HEADER, Link};
use super::packet::{self, Datagram};
use super::wire::Output;

/// An ARP packet about IPv4 on ethernet (RFC 826).
const ARP: usize = 28;
const ARP_ABOUT: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Neighbor discovery (RFC 4861).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Solicited, and to replace what was known.
const FLAGS: u8 = 0x60;
/// The only hop limit that is believed.
const HOPS: u8 = 255;

/// Answers a question for the gateway's hardware address.
pub(super) fn arp(output: &mut Output, link: &Link, question: &[u8]) {
    let Some(question) = question.first_chunk::<ARP>() else { return };
    let is_request = question[..6] == ARP_ABOUT && question[6..8] == [0, 1];
    if !is_request
        || question[14..18] != link.guest_v4.octets()
        || question[24..28] != link.gateway_v4.octets()
    {
        return;
    }
    let mut frame = [0; ETHERNET_HEADER + ARP];
    frame[..6].copy_from_slice(&link.guest_mac);
    frame[6..12].copy_from_slice(&link.gateway_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    let answer = &mut frame[ETHERNET_HEADER..];
    answer[..6].copy_from_slice(&ARP_ABOUT);
    answer[7] = 2;
    answer[8..14].copy_from_slice(&link.gateway_mac);
    answer[14..18].copy_from_slice(&link.gateway_v4.octets());
    answer[18..24].copy_from_slice(&question[8..14]);
    answer[24..28].copy_from_slice(&question[14..18]);
    output.frame(&frame);
}

/// Answers a neighbor solicitation for the gateway. `false` when `packet` is none.
pub(super) fn solicitation(output: &mut Output, link: &Link, packet: &Datagram<'_>) -> bool {
    let message = packet.payload;
    if packet.protocol != IpProtocol::Icmpv6 || message.first() != Some(&SOLICITATION) {
        return false;
    }
    let target = message.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(Ipv6Addr::from);
    let IpAddr::V6(source) = packet.source else { return true };
    if target != Some(link.gateway_v6) || source.is_unspecified() {
        return true;
    }
    const LENGTH: usize = 32;
    packet::emit(output, (link.gateway_v6.into(), source.into()), IpProtocol::Icmpv6, LENGTH, |bytes| {
        bytes.fill(0);
        (bytes[0], bytes[4]) = (ADVERTISEMENT, FLAGS);
        bytes[8..24].copy_from_slice(&link.gateway_v6.octets());
        (bytes[24], bytes[25]) = (2, 1);
        bytes[26..32].copy_from_slice(&link.gateway_mac);
        Icmpv6Packet::new_unchecked(bytes).fill_checksum(&link.gateway_v6, &source);
    });
    output.set_last_hop_limit(LENGTH, HOPS);
    true
}
