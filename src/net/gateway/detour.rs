//! The way to the sandbox's IPv6 loopback. Its kernel drops what comes from a network for ::1 (RFC 4291, 2.5.3), but follows a segment
//! routing header (RFC 8754) where PID 1 has switched that on: from the sandbox's address to ::1.

use std::net::Ipv6Addr;

use smoltcp::wire::IPV6_HEADER_LEN as HEADER;

/// Length of the routing header: the end and the address before it, which kernels want to be listed as well.
pub(super) const LENGTH: usize = 40;
/// Where the fields of the fixed header are.
const PAYLOAD_LENGTH: std::ops::Range<usize> = 4..6;
const NEXT_HEADER: usize = 6;
const DESTINATION: std::ops::Range<usize> = 24..40;
/// The routing header and its kind.
const ROUTING: u8 = 43;
const SEGMENTS: u8 = 4;

/// Whether an IP packet needs it.
#[must_use]
pub(super) fn is_needed(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
        && packet.get(DESTINATION) == Some(&Ipv6Addr::LOCALHOST.octets())
}

/// Sends the packet for ::1 in `bytes`, whose last [`LENGTH`] bytes are free, by the address `by`.
pub(super) fn put(bytes: &mut [u8], by: Ipv6Addr) {
    let end = bytes.len() - LENGTH;
    bytes.copy_within(HEADER..end, HEADER + LENGTH);
    let (header, routing) = bytes.split_at_mut(HEADER);
    // Two segments are listed, the last one first, and one is left.
    routing[..8].copy_from_slice(&[header[NEXT_HEADER], (LENGTH / 8 - 1) as u8, SEGMENTS, 1, 1, 0, 0, 0]);
    routing[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
    routing[24..LENGTH].copy_from_slice(&by.octets());
    header[PAYLOAD_LENGTH].copy_from_slice(&((end - HEADER + LENGTH) as u16).to_be_bytes());
    header[NEXT_HEADER] = ROUTING;
    header[DESTINATION].copy_from_slice(&by.octets());
}

/// What follows the fixed header of an IPv6 packet, and where, behind a routing header of ours that an error quotes.
#[must_use]
pub(super) fn inside(packet: &[u8]) -> Option<(u8, usize)> {
    match *packet.get(NEXT_HEADER)? {
        ROUTING => Some((*packet.get(HEADER)?, HEADER + LENGTH)),
        protocol => Some((protocol, HEADER)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_way_is_written_into_the_packet() {
        let mut packet = vec![0; HEADER];
        packet[0] = 0x60;
        packet[PAYLOAD_LENGTH].copy_from_slice(&[0, 9]);
        packet[NEXT_HEADER] = 17;
        packet[DESTINATION].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packet.extend(1..10);
        assert!(is_needed(&packet));
        packet.extend([0; LENGTH]);
        let by: Ipv6Addr = "fd6d:7362::2".parse().unwrap();
        put(&mut packet, by);
        assert!(!is_needed(&packet));
        assert_eq!((&packet[PAYLOAD_LENGTH], packet[NEXT_HEADER]), (&[0, 49][..], 43));
        assert_eq!(packet[DESTINATION], by.octets());
        // RFC 8754, 2: next header, length, kind, segments left, last entry, flags, tag.
        assert_eq!(packet[HEADER..HEADER + 8], [17, 4, 4, 1, 1, 0, 0, 0]);
        assert_eq!(packet[HEADER + 8..HEADER + 24], Ipv6Addr::LOCALHOST.octets());
        assert_eq!(packet[HEADER + 24..HEADER + 40], by.octets());
        assert_eq!(packet[HEADER + 40..], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(inside(&packet), Some((17, 80)));
    }
}
