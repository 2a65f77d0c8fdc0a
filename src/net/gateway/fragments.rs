//! Fragments of IP packets: those of the sandbox are put together before anybody looks at what is inside, and what is too long for the
//! link goes to it in pieces.
//!
//! Nothing is lost or sent twice on the link, so a datagram whose fragments overlap is no accident and is dropped as a whole (RFC 5722).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::wire::{IPV6_HEADER_LEN, IpProtocol, Ipv4Packet, Ipv6FragmentHeader, Ipv6Packet};

/// Datagrams of which something is missing, at once.
const DATAGRAMS: usize = 8;
/// Fragments of one, enough for the smallest MTU there is.
const FRAGMENTS: usize = 2048;
/// How long the rest may take.
const LIFETIME: Duration = Duration::from_secs(5);
/// The longest packet of IPv4, and the most that can be inside one of IPv6.
const LONGEST: usize = 65_535;
/// Offsets are multiples of it.
const UNIT: usize = 8;
/// Length of a fragment's header.
const FRAGMENT_HEADER: usize = 8;
/// Where an IPv6 header says what follows it.
const NEXT_HEADER: usize = 6;

/// Which datagram a fragment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    number: u32,
}

/// A part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    key: Key,
    /// The packet's header, without that of fragments.
    header: &'a [u8],
    /// Where `payload` belongs.
    offset: usize,
    /// It is not the last one.
    more: bool,
    payload: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The fragment that an IPv4 packet is.
    #[must_use]
    pub(super) fn of_v4(packet: &Ipv4Packet<&'a [u8]>, whole: &'a [u8]) -> Option<Self> {
        let (header, payload) = whole.split_at_checked(usize::from(packet.header_len()))?;
        let key = Key {
            source: packet.src_addr().into(),
            destination: packet.dst_addr().into(),
            protocol: packet.next_header(),
            number: packet.ident().into(),
        };
        let offset = usize::from(packet.frag_offset());
        Some(Self { key, header, offset, more: packet.more_frags(), payload })
    }

    /// The fragment that an IPv6 packet is whose first header is that of fragments.
    #[must_use]
    pub(super) fn of_v6(packet: &Ipv6Packet<&'a [u8]>, whole: &'a [u8]) -> Option<Self> {
        let (header, rest) = whole.split_at_checked(IPV6_HEADER_LEN)?;
        let (about, payload) = rest.split_at_checked(FRAGMENT_HEADER)?;
        // What it calls the header begins behind the number of the protocol and a byte of nothing.
        let fields = Ipv6FragmentHeader::new_checked(&about[2..]).ok()?;
        let key = Key {
            source: packet.src_addr().into(),
            destination: packet.dst_addr().into(),
            protocol: about[0].into(),
            number: fields.ident(),
        };
        let offset = UNIT * usize::from(fields.frag_offset());
        Some(Self { key, header, offset, more: fields.more_frags(), payload })
    }

    fn end(&self) -> usize {
        self.offset + self.payload.len()
    }

    /// Whether it can be a part of a packet.
    fn is_sound(&self) -> bool {
        let room = if self.key.source.is_ipv4() { LONGEST - self.header.len() } else { LONGEST };
        let fits = !self.more || self.payload.len().is_multiple_of(UNIT);
        !self.payload.is_empty() && fits && self.end() <= room
    }
}

/// Datagrams of which something is missing.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    /// The oldest first.
    entries: Vec<Partial>,
}

#[derive(Debug)]
struct Partial {
    key: Key,
    ends: Instant,
    header: Vec<u8>,
    bytes: Vec<u8>,
    /// What is there: beginning and end of each fragment. Nothing once they have overlapped, when no more is taken.
    parts: Option<BTreeMap<usize, usize>>,
    /// Bytes that are there.
    count: usize,
    /// Bytes there are in all.
    total: Option<usize>,
}

impl Fragments {
    /// Adds a fragment. Gives the packet when that was the last that was missing.
    pub(super) fn add(&mut self, now: Instant, fragment: &Fragment<'_>) -> Option<Vec<u8>> {
        if !fragment.is_sound() {
            return None;
        }
        self.entries.retain(|partial| partial.ends > now);
        let known = self.entries.iter().position(|partial| partial.key == fragment.key);
        let index = known.unwrap_or_else(|| {
            if self.entries.len() >= DATAGRAMS {
                self.entries.remove(0);
            }
            self.entries.push(Partial::new(fragment.key, now + LIFETIME));
            self.entries.len() - 1
        });
        let partial = &mut self.entries[index];
        if !partial.add(fragment) {
            // The rest of it is to be known, and dropped as well.
            (partial.parts, partial.bytes) = (None, Vec::new());
            return None;
        }
        let is_whole = partial.total == Some(partial.count);
        is_whole.then(|| self.entries.remove(index)).and_then(Partial::into_packet)
    }
}

impl Partial {
    fn new(key: Key, ends: Instant) -> Self {
        let (header, bytes) = (Vec::new(), Vec::new());
        Self { key, ends, header, bytes, parts: Some(BTreeMap::new()), count: 0, total: None }
    }

    /// `false` when nothing can become of it.
    fn add(&mut self, fragment: &Fragment<'_>) -> bool {
        let Some(parts) = &mut self.parts else { return false };
        let (begin, end) = (fragment.offset, fragment.end());
        let before = parts.range(..end).next_back().is_some_and(|(_, before)| *before > begin);
        let beyond = self.total.is_some_and(|total| end > total);
        let ends_twice = !fragment.more && (self.total.is_some() || self.bytes.len() > end);
        if before || beyond || ends_twice || parts.len() >= FRAGMENTS {
            return false;
        }
        parts.insert(begin, end);
        if begin == 0 {
            self.header = fragment.header.to_vec();
        }
        if !fragment.more {
            self.total = Some(end);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[begin..end].copy_from_slice(fragment.payload);
        self.count += end - begin;
        true
    }

    /// `None` where the header of the first fragment leaves no room for the rest.
    fn into_packet(self) -> Option<Vec<u8>> {
        let mut packet = self.header;
        packet.extend(self.bytes);
        if self.key.source.is_ipv4() {
            let length = u16::try_from(packet.len()).ok()?;
            let mut header = Ipv4Packet::new_unchecked(&mut packet);
            header.set_total_len(length);
            header.clear_flags();
            header.set_frag_offset(0);
            header.fill_checksum();
        } else {
            let length = u16::try_from(packet.len() - IPV6_HEADER_LEN).ok()?;
            let mut header = Ipv6Packet::new_unchecked(&mut packet);
            header.set_payload_len(length);
            header.set_next_header(self.key.protocol);
        }
        Some(packet)
    }
}

/// The pieces of at most `most` bytes that go instead of an IPv6 packet. IPv4 has no packets that are too long for the link.
pub(super) fn pieces(packet: &[u8], most: usize, number: u32) -> impl Iterator<Item = Vec<u8>> {
    let (header, inside) = packet.split_at(IPV6_HEADER_LEN);
    let size = (most - IPV6_HEADER_LEN - FRAGMENT_HEADER) / UNIT * UNIT;
    let last = inside.len().div_ceil(size).saturating_sub(1);
    inside.chunks(size).enumerate().map(move |(index, part)| {
        let mut piece = header.to_vec();
        let length = (FRAGMENT_HEADER + part.len()) as u16;
        piece[4..NEXT_HEADER].copy_from_slice(&length.to_be_bytes());
        piece[NEXT_HEADER] = IpProtocol::Ipv6Frag.into();
        let place = (index * size) as u16 | u16::from(index < last);
        piece.extend([header[NEXT_HEADER], 0]);
        piece.extend(place.to_be_bytes());
        piece.extend(number.to_be_bytes());
        piece.extend(part);
        piece
    })
}
