//! Packets: what a frame of the sandbox holds, and what the gateway writes itself.
//!
//! Checksums of the sandbox's packets are not looked at: nothing between its kernel and this process can change a bit, and with
//! checksum offload its kernel does not compute them.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol,
    Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket, TcpRepr, UdpPacket,
};

use super::detour;
use super::fragments::Fragment;
use super::link::{ETHERNET_HEADER, Link, MTU};
use super::wire::Output;

/// Hops a packet of the gateway may take.
const HOPS: u8 = 64;
/// The most of a packet that an error about it quotes (RFC 1812, RFC 4443), with room for the headers.
const QUOTE: usize = 512;
/// Length of an ICMP header.
pub(super) const ICMP_HEADER: usize = 8;
/// Length of a UDP header.
const UDP_HEADER: usize = 8;

/// What is in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A question for a hardware address, or an answer.
    Arp(&'a [u8]),
    /// A packet.
    Ip(Datagram<'a>),
    /// A part of one.
    Fragment(Fragment<'a>),
}

/// An IP packet that is no fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    /// Who sent it.
    pub(super) source: IpAddr,
    /// To whom.
    pub(super) destination: IpAddr,
    /// What is inside.
    pub(super) protocol: IpProtocol,
    /// All of it.
    pub(super) whole: &'a [u8],
    /// What is inside.
    pub(super) payload: &'a [u8],
}

/// Why something cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// Nobody listens there.
    Port,
    /// There is no such host, or it does not answer.
    Host,
    /// There is no way to its network.
    Network,
    /// The policy is against it.
    Prohibited,
}

/// Takes a frame apart. `None` for what is no business of the gateway's: broken packets, other protocols.
#[must_use]
pub(super) fn parse(frame: &[u8]) -> Option<Frame<'_>> {
    let (header, packet) = frame.split_first_chunk::<ETHERNET_HEADER>()?;
    match [header[12], header[13]] {
        [0x08, 0x06] => Some(Frame::Arp(packet)),
        [0x08, 0x00] => parse_v4(packet),
        [0x86, 0xdd] => parse_v6(packet),
        _ => None,
    }
}

/// Takes an IP packet apart that is no fragment, as [`parse`] does.
#[must_use]
pub(super) fn parse_ip(packet: &[u8]) -> Option<Datagram<'_>> {
    let frame = match packet.first()? >> 4 {
        4 => parse_v4(packet),
        6 => parse_v6(packet),
        _ => None,
    };
    match frame? {
        Frame::Ip(datagram) => Some(datagram),
        Frame::Arp(_) | Frame::Fragment(_) => None,
    }
}

fn parse_v4(bytes: &[u8]) -> Option<Frame<'_>> {
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    if packet.version() != 4 {
        return None;
    }
    let whole = bytes.get(..usize::from(packet.total_len()))?;
    if packet.more_frags() || packet.frag_offset() != 0 {
        return Fragment::of_v4(&packet, whole).map(Frame::Fragment);
    }
    Some(Frame::Ip(Datagram {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        whole,
        payload: whole.get(usize::from(packet.header_len())..)?,
    }))
}

fn parse_v6(bytes: &[u8]) -> Option<Frame<'_>> {
    let packet = Ipv6Packet::new_checked(bytes).ok()?;
    if packet.version() != 6 {
        return None;
    }
    let whole = bytes.get(..packet.total_len())?;
    if packet.next_header() == IpProtocol::Ipv6Frag {
        return Fragment::of_v6(&packet, whole).map(Frame::Fragment);
    }
    Some(Frame::Ip(Datagram {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        whole,
        payload: whole.get(packet.header_len()..)?,
    }))
}

/// The packet around the SYN `segment`, without what it carries: nothing of that is acknowledged, so that it comes again, and a
/// sandbox that puts 64 KiB behind each SYN has none of them kept.
#[must_use]
pub(super) fn bare_syn(packet: &Datagram<'_>, segment: &TcpPacket<&[u8]>) -> Box<[u8]> {
    let carried = packet.payload.len() - usize::from(segment.header_len());
    let mut bytes = Box::<[u8]>::from(&packet.whole[..packet.whole.len() - carried]);
    let length = bytes.len() as u16;
    if packet.source.is_ipv4() {
        let mut header = Ipv4Packet::new_unchecked(&mut bytes[..]);
        header.set_total_len(length);
        header.fill_checksum();
    } else {
        Ipv6Packet::new_unchecked(&mut bytes[..]).set_payload_len(length - IPV6_HEADER_LEN as u16);
    }
    bytes
}

/// Writes an IP packet with `length` bytes inside, which `fill` writes.
pub(super) fn emit(
    output: &mut Output,
    (source, destination): (IpAddr, IpAddr),
    protocol: IpProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    match (source, destination) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let header =
                Ipv4Repr { src_addr, dst_addr, next_header: protocol, payload_len: length, hop_limit: HOPS };
            output.packet(header.buffer_len() + length, |bytes| {
                let mut packet = Ipv4Packet::new_unchecked(bytes);
                header.emit(&mut packet, &ChecksumCapabilities::default());
                fill(packet.payload_mut());
            });
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let header =
                Ipv6Repr { src_addr, dst_addr, next_header: protocol, payload_len: length, hop_limit: HOPS };
            output.packet(header.buffer_len() + length, |bytes| {
                let mut packet = Ipv6Packet::new_unchecked(bytes);
                header.emit(&mut packet);
                fill(packet.payload_mut());
            });
        }
        _ => debug_assert!(false, "two families in one packet"),
    }
}

/// Writes a UDP datagram.
pub(super) fn udp(output: &mut Output, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let length = UDP_HEADER + payload.len();
    // Nobody can have sent more.
    let most = if from.is_ipv4() { MTU - IPV4_HEADER_LEN } else { MTU };
    let Some(in_header) = u16::try_from(length).ok().filter(|_| length <= most) else { return };
    emit(output, (from.ip(), to.ip()), IpProtocol::Udp, length, |bytes| {
        let mut packet = UdpPacket::new_unchecked(bytes);
        packet.set_src_port(from.port());
        packet.set_dst_port(to.port());
        packet.set_len(in_header);
        packet.payload_mut().copy_from_slice(payload);
        packet.fill_checksum(&from.ip().into(), &to.ip().into());
    });
}

/// Tells the sandbox that what `packet` wanted cannot be reached.
pub(super) fn unreachable(output: &mut Output, link: &Link, packet: &Datagram<'_>, why: Unreachable) {
    let quote = &packet.whole[..packet.whole.len().min(QUOTE)];
    let from = link.gateway_like(packet.source);
    let (kind4, kind6) = (Icmpv4Message::DstUnreachable.into(), Icmpv6Message::DstUnreachable.into());
    let (kind, code) = match (packet.source.is_ipv4(), why) {
        (true, Unreachable::Network) => (kind4, 0),
        (true, Unreachable::Host) => (kind4, 1),
        (true, Unreachable::Port) => (kind4, 3),
        (true, Unreachable::Prohibited) => (kind4, 13),
        (false, Unreachable::Network) => (kind6, 0),
        (false, Unreachable::Prohibited) => (kind6, 1),
        (false, Unreachable::Host) => (kind6, 3),
        (false, Unreachable::Port) => (kind6, 4),
    };
    icmp(
        output,
        (from, packet.source),
        (kind, code),
        |bytes| {
            bytes[ICMP_HEADER..].copy_from_slice(quote);
        },
        quote.len(),
    );
}

/// Writes an ICMP message with `length` bytes after its header. `fill` gets header and bytes.
pub(super) fn icmp(
    output: &mut Output,
    (from, to): (IpAddr, IpAddr),
    (kind, code): (u8, u8),
    fill: impl FnOnce(&mut [u8]),
    length: usize,
) {
    let protocol = if from.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
    emit(output, (from, to), protocol, ICMP_HEADER + length, |bytes| {
        (bytes[0], bytes[1]) = (kind, code);
        fill(bytes);
        match (from, to) {
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                Icmpv6Packet::new_unchecked(bytes).fill_checksum(&from, &to);
            }
            _ => Icmpv4Packet::new_unchecked(bytes).fill_checksum(),
        }
    });
}

/// Answers a segment that belongs to no connection (RFC 9293, 3.10.7.1).
pub(super) fn reset(output: &mut Output, packet: &Datagram<'_>, segment: &TcpPacket<&[u8]>) {
    if segment.rst() {
        return;
    }
    let (seq_number, ack_number) = if segment.ack() {
        (segment.ack_number(), None)
    } else {
        (smoltcp::wire::TcpSeqNumber(0), Some(segment.seq_number() + segment.segment_len()))
    };
    let answer = TcpRepr {
        src_port: segment.dst_port(),
        dst_port: segment.src_port(),
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (from, to) = (packet.destination, packet.source);
    emit(output, (from, to), IpProtocol::Tcp, answer.buffer_len(), |bytes| {
        let mut packet = TcpPacket::new_unchecked(bytes);
        answer.emit(&mut packet, &from.into(), &to.into(), &ChecksumCapabilities::default());
    });
}

/// The packet of which `quote` is the beginning, to be quoted in an error.
pub(super) fn parse_quoted(quote: &[u8]) -> Option<Datagram<'_>> {
    let (source, destination) = match quote.first()? >> 4 {
        4 => {
            let address = |at: usize| quote.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            (address(12)?.into(), address(16)?.into())
        }
        6 => {
            let address =
                |at: usize| quote.get(at..at + 16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            (address(8)?.into(), address(24)?.into())
        }
        _ => return None,
    };
    Some(Datagram { source, destination, protocol: IpProtocol::Udp, whole: quote, payload: &[] })
}

/// What a message of ICMP quotes that says that nobody listens at a port.
pub(super) fn port_unreachable<'a>(datagram: &Datagram<'a>) -> Option<&'a [u8]> {
    match (datagram.payload, datagram.source.is_ipv4()) {
        ([3, 3, _, _, _, _, _, _, quote @ ..], true) | ([1, 4, _, _, _, _, _, _, quote @ ..], false) => {
            Some(quote)
        }
        _ => None,
    }
}

/// From where to where the UDP datagram went of which `quote` is the beginning.
pub(super) fn quoted_udp(quote: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let quoted = parse_quoted(quote)?;
    let (protocol, at) = match quoted.source {
        IpAddr::V4(_) => (*quote.get(9)?, 4 * usize::from(quote.first()? & 15)),
        IpAddr::V6(_) => detour::inside(quote)?,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*quote.get(at)?, *quote.get(at + 1)?]));
    let ends =
        (SocketAddr::new(quoted.source, port(at)?), SocketAddr::new(quoted.destination, port(at + 2)?));
    (IpProtocol::from(protocol) == IpProtocol::Udp).then_some(ends)
}
