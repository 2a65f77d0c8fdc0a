//! Hardware addresses: the gateway answers for itself and for the other sandboxes of the groups, whom it leads to.

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::wire::{Icmpv6Packet, IpProtocol};

use super::core::Core;
use super::link::ETHERNET_HEADER;
use super::packet::{self, Datagram};

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

/// Whether the gateway answers the sandbox for `target`.
fn answers(core: &Core, target: IpAddr) -> bool {
    core.link.is_gateway(target) || core.members.is_neighbor(target)
}

/// Answers a question for the hardware address of the gateway, or of a member of a group.
pub(super) fn arp(core: &mut Core, question: &[u8]) {
    let Some(question) = question.first_chunk::<ARP>() else { return };
    let is_request = question[..6] == ARP_ABOUT && question[6..8] == [0, 1];
    let address =
        |at: usize| IpAddr::from([question[at], question[at + 1], question[at + 2], question[at + 3]]);
    let (sender, target) = (address(14), address(24));
    if !is_request || !core.is_guest(sender) || !answers(core, target) {
        return;
    }
    let link = &core.link;
    let mut frame = [0; ETHERNET_HEADER + ARP];
    frame[..6].copy_from_slice(&link.guest_mac);
    frame[6..12].copy_from_slice(&link.gateway_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    let answer = &mut frame[ETHERNET_HEADER..];
    answer[..6].copy_from_slice(&ARP_ABOUT);
    answer[7] = 2;
    answer[8..14].copy_from_slice(&link.gateway_mac);
    answer[14..18].copy_from_slice(&question[24..28]);
    answer[18..24].copy_from_slice(&question[8..14]);
    answer[24..28].copy_from_slice(&question[14..18]);
    core.output.frame(&frame);
}

/// Answers a neighbor solicitation for the gateway, or for a member of a group. `false` when `packet` is none.
pub(super) fn solicitation(core: &mut Core, packet: &Datagram<'_>) -> bool {
    let message = packet.payload;
    if packet.protocol != IpProtocol::Icmpv6 || message.first() != Some(&SOLICITATION) {
        return false;
    }
    let target = message.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(Ipv6Addr::from);
    let IpAddr::V6(source) = packet.source else { return true };
    let Some(target) = target.filter(|target| answers(core, (*target).into()) && !source.is_unspecified())
    else {
        return true;
    };
    let mac = core.link.gateway_mac;
    let output = &mut core.output;
    const LENGTH: usize = 32;
    packet::emit(output, (target.into(), source.into()), IpProtocol::Icmpv6, LENGTH, |bytes| {
        bytes.fill(0);
        (bytes[0], bytes[4]) = (ADVERTISEMENT, FLAGS);
        bytes[8..24].copy_from_slice(&target.octets());
        (bytes[24], bytes[25]) = (2, 1);
        bytes[26..32].copy_from_slice(&mac);
        Icmpv6Packet::new_unchecked(bytes).fill_checksum(&target, &source);
    });
    output.set_last_hop_limit(LENGTH, HOPS);
    true
}
