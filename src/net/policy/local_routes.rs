//! What the kernel delivers to this machine besides the addresses of its interfaces: routes of the type `local` and `anycast`, as
//! load balancers and programs that listen on whole networks have them (rtnetlink(7), ip-route(8)).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use ipnet::IpNet;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Lengths of the header of each message, and of a route behind it (`struct nlmsghdr`, `struct rtmsg`).
const HEADER: usize = 16;
const ROUTE: usize = 12;
/// Length of the header of an attribute (`struct rtattr`).
const ATTRIBUTE: usize = 4;
/// Routes come in pieces of at most so many bytes.
const PIECE: usize = 64 << 10;

/// Reads them from the kernel.
///
/// # Errors
/// The system's.
pub(super) fn read() -> io::Result<Vec<IpNet>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    one_table(&socket);
    let mut found = Vec::new();
    let mut piece = vec![0; PIECE];
    for family in [libc::AF_INET, libc::AF_INET6] {
        send(socket.as_raw_fd(), &question(family as u8), MsgFlags::empty())?;
        loop {
            let length = recv(socket.as_raw_fd(), &mut piece, MsgFlags::empty())?;
            if length == 0 || take(&piece[..length], &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

/// Has the kernel look at what is asked for (Linux 4.20): without, it sends all tables, which are sorted out here as well.
fn one_table(socket: &OwnedFd) {
    let on: libc::c_int = 1;
    // SAFETY: the option is a number, which is there for as long as the call lasts.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_GET_STRICT_CHK,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
}

/// Asks for the routes of the table `local`.
fn question(family: u8) -> [u8; HEADER + ROUTE] {
    let mut question = [0; HEADER + ROUTE];
    question[..4].copy_from_slice(&((HEADER + ROUTE) as u32).to_ne_bytes());
    question[4..6].copy_from_slice(&libc::RTM_GETROUTE.to_ne_bytes());
    question[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    question[HEADER] = family;
    question[HEADER + 4] = libc::RT_TABLE_LOCAL;
    question
}

/// Takes the routes of a piece. Whether it was the last.
fn take(mut piece: &[u8], found: &mut Vec<IpNet>) -> io::Result<bool> {
    while let Some(header) = piece.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = piece.get(HEADER..length) else { return Err(io::ErrorKind::InvalidData.into()) };
        match i32::from(u16::from_ne_bytes([header[4], header[5]])) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => {
                let errno = body.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno));
                return Err(io::Error::from_raw_os_error(-errno));
            }
            _ => found.extend(route(body)),
        }
        piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The network of a route that leads to this machine.
fn route(body: &[u8]) -> Option<IpNet> {
    let (route, mut attributes) = body.split_first_chunk::<ROUTE>()?;
    let [family, bits, ..] = *route;
    if ![libc::RTN_LOCAL, libc::RTN_ANYCAST].contains(&route[7]) {
        return None;
    }
    // A route without a destination is for everything.
    let mut destination: IpAddr =
        if i32::from(family) == libc::AF_INET { [0; 4].into() } else { [0; 16].into() };
    while let Some(header) = attributes.first_chunk::<ATTRIBUTE>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = attributes.get(ATTRIBUTE..length)?;
        if u16::from_ne_bytes([header[2], header[3]]) == libc::RTA_DST {
            destination = match value.len() {
                4 => <[u8; 4]>::try_from(value).ok()?.into(),
                _ => <[u8; 16]>::try_from(value).ok()?.into(),
            };
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    IpNet::new(destination, bits).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loopback_is_local_everywhere() {
        let found = read().unwrap();
        let net: IpNet = "127.0.0.0/8".parse().unwrap();
        // A namespace whose loopback is down has no routes at all.
        assert!(found.is_empty() || found.contains(&net), "{found:?}");
    }

    fn message(kind: u8, bits: u8, destination: &[u8]) -> Vec<u8> {
        let family = if destination.len() == 16 { libc::AF_INET6 } else { libc::AF_INET };
        let route = [family as u8, bits, 0, 0, 255, 2, 254, kind, 0, 0, 0, 0];
        let attribute = [&((4 + destination.len()) as u16).to_ne_bytes()[..], &[1, 0], destination].concat();
        let attribute = if destination.is_empty() { Vec::new() } else { attribute };
        let length = ((HEADER + ROUTE + attribute.len()) as u32).to_ne_bytes();
        [&length[..], &24_u16.to_ne_bytes(), &[0; 10], &route, &attribute].concat()
    }

    #[test]
    fn routes_of_this_machine_alone_are_taken() {
        let piece = [
            message(2, 32, &[34, 1, 2, 7]),
            message(2, 24, &[34, 1, 3, 0]),
            message(1, 24, &[34, 1, 4, 0]),
            message(3, 32, &[34, 1, 2, 255]),
            message(4, 128, &[0xfd; 16]),
            message(2, 0, &[]),
        ]
        .concat();
        let mut found = Vec::new();
        assert!(!take(&piece, &mut found).unwrap());
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        let fd = "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd/128";
        assert_eq!(shown, ["34.1.2.7/32", "34.1.3.0/24", fd, "0.0.0.0/0"]);
        let mut end = message(2, 32, &[34, 1, 2, 7]);
        end[4] = libc::NLMSG_DONE as u8;
        assert!(take(&end, &mut found).unwrap());
    }

    proptest! {
        #[test]
        fn any_piece_is_answered(piece in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = take(&piece, &mut Vec::new());
        }
    }
}
