//! The internet checksum (RFC 1071) of large segments.

use std::net::IpAddr;

use smoltcp::wire::IpProtocol;

use super::packet;

/// Where a segment has its checksum.
const AT: std::ops::Range<usize> = 16..18;
/// Words of 64 bits that are added at once.
const LANES: usize = 4;

/// Writes the checksum of the segment in the IP packet `bytes`, if it holds one.
pub(super) fn fill_tcp(bytes: &mut [u8]) {
    let Some(datagram) = packet::parse_ip(bytes) else { return };
    if datagram.protocol != IpProtocol::Tcp {
        return;
    }
    let (source, destination) = (datagram.source, datagram.destination);
    let (length, whole) = (datagram.payload.len(), datagram.whole.len());
    let segment = &mut bytes[whole - length..whole];
    if segment.len() < AT.end {
        return;
    }
    segment[AT].fill(0);
    let sum = sum(segment) + pseudo_header((source, destination), length);
    segment[AT].copy_from_slice(&(!fold(sum)).to_ne_bytes());
}

/// What of the IP header counts (RFC 9293, 3.1; RFC 8200, 8.1).
fn pseudo_header((source, destination): (IpAddr, IpAddr), length: usize) -> u64 {
    let addresses = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => sum(&source.octets()) + sum(&destination.octets()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => sum(&source.octets()) + sum(&destination.octets()),
        _ => 0,
    };
    let protocol = u32::from(u8::from(IpProtocol::Tcp));
    addresses + sum(&protocol.to_be_bytes()) + sum(&(length as u32).to_be_bytes())
}

/// The sum in the order of bytes of this machine, which the sum does not depend on (RFC 1071, 2(B)).
fn sum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has what the function is compiled for.
        return unsafe { sum_avx2(bytes) };
    }
    sum_words(bytes)
}

/// The same, in steps of twice as many bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum_words(bytes)
}

#[inline(always)]
fn sum_words(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    let (mut low, mut high) = ([0_u64; LANES], [0_u64; LANES]);
    for chunk in chunks {
        for ((low, high), word) in low.iter_mut().zip(&mut high).zip(chunk.as_chunks::<8>().0) {
            let word = u64::from_ne_bytes(*word);
            *low += word & u64::from(u32::MAX);
            *high += word >> 32;
        }
    }
    let (words, rest) = rest.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])));
    low.iter().chain(&high).sum::<u64>()
        + words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum::<u64>()
        + last
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpPacket};

    use super::*;

    proptest! {
        #[test]
        fn is_that_of_the_other_implementation(
            payload in proptest::collection::vec(any::<u8>(), 20..70),
            filler in any::<u8>(),
            more in 0..65_000_usize,
            v6 in any::<bool>(),
        ) {
            let mut segment = payload;
            segment.resize(segment.len() + more, filler);
            // A header without options.
            segment[12] = 5 << 4;
            let (mut packet, from, to) = whole(&segment, v6);
            fill_tcp(&mut packet);
            let at = packet.len() - segment.len();
            let mine = TcpPacket::new_unchecked(&packet[at..]);
            prop_assert!(mine.verify_checksum(&from, &to));
        }
    }

    fn whole(segment: &[u8], v6: bool) -> (Vec<u8>, IpAddress, IpAddress) {
        let (next_header, payload_len, hop_limit) = (IpProtocol::Tcp, segment.len(), 64);
        if v6 {
            let (src_addr, dst_addr) = (Ipv6Addr::LOCALHOST, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0xffff, 2));
            let header = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let mut bytes = vec![0; header.buffer_len()];
            header.emit(&mut Ipv6Packet::new_unchecked(&mut bytes[..]));
            (bytes.into_iter().chain(segment.iter().copied()).collect(), src_addr.into(), dst_addr.into())
        } else {
            let (src_addr, dst_addr) = (Ipv4Addr::new(192, 0, 0, 1), Ipv4Addr::new(255, 254, 253, 1));
            let header = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let mut bytes = vec![0; header.buffer_len() + payload_len];
            header.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
            bytes.truncate(header.buffer_len());
            (bytes.into_iter().chain(segment.iter().copied()).collect(), src_addr.into(), dst_addr.into())
        }
    }
}
