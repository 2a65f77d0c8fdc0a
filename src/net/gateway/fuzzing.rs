//! What other processes say to a gateway: for fuzz targets, and tests that what these look for is found.

use super::greeting::{Greeting, Progress};
use super::hail::{Answer, Hail};
use super::tunnel::Tunnel;
use crate::net::proxy::{Proxy, ProxyKind};

/// More than an answer may have that is waited for.
const MOST: usize = 9 << 10;

/// Greets a proxy that replies like this, in pieces of at most `piece` bytes. How much of the reply was read, where the connection
/// is the sandbox's from there on.
///
/// # Panics
/// More is read than the reply has, or kept than it may have, or nothing is to be said and nothing wanted.
#[must_use]
pub fn greet_proxy((kind, login): (ProxyKind, bool), reply: &[u8], piece: usize) -> Option<usize> {
    let credentials = login.then(|| ("me".to_owned(), "password".to_owned()));
    let proxy = Proxy { kind, address: ([127, 0, 0, 1], 1).into(), credentials };
    let name = "peer.example".parse().ok();
    let mut greeting =
        Greeting::Tunnel(Box::new(Tunnel::new(&proxy, ([192, 0, 2, 1], 443).into(), name.as_ref())));
    let mut read = 0;
    while read < reply.len() {
        let unsent = greeting.unsent().len();
        greeting.sent(unsent);
        let wanted = greeting.wanted();
        assert!((1..=MOST).contains(&wanted), "{wanted} bytes are wanted");
        let length = wanted.min(piece.max(1)).min(reply.len() - read);
        let part = &reply[read..read + length];
        read += length;
        match greeting.received(part) {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => {
                assert_eq!(end_of_reply(kind, reply), Some(read), "the reply ends elsewhere");
                return Some(read);
            }
            Err(_) => return None,
        }
    }
    None
}

/// Where a reply that is whole and good ends, read another way.
fn end_of_reply(kind: ProxyKind, reply: &[u8]) -> Option<usize> {
    match kind {
        ProxyKind::Socks5 | ProxyKind::Socks5h => {
            let method = reply.get(1)?;
            let begin = if *method == 2 { 4 } else { 2 };
            let length = match reply.get(begin + 3)? {
                1 => 4 + 4 + 2,
                4 => 4 + 16 + 2,
                _ => 5 + usize::from(*reply.get(begin + 4)?) + 2,
            };
            Some(begin + length)
        }
        ProxyKind::Http => {
            let end = 4 + reply.windows(4).position(|window| window == b"\r\n\r\n")?;
            let informs = reply.get(9) == Some(&b'1');
            if informs { end_of_reply(kind, &reply[end..]).map(|rest| end + rest) } else { Some(end) }
        }
    }
}

/// What another gateway says first, and what it answers.
///
/// # Panics
/// It is taken for something that is written in another way.
pub fn hear_member(bytes: &[u8]) {
    if let Some(hail) = Hail::from_bytes(bytes) {
        assert_eq!(hail.to_bytes(), bytes);
        assert_eq!(hail.caller.is_ipv4(), hail.called.is_ipv4());
        let mut greeting = Greeting::member(&hail);
        let unsent = greeting.unsent().len();
        greeting.sent(unsent);
        assert!(greeting.unsent().is_empty() && greeting.wanted() == 1);
    }
    if let Some(answer) = bytes.first().copied().and_then(Answer::from_byte) {
        assert_eq!(answer.byte(), bytes[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_target_looks_for_is_there() {
        let socks = b"\x05\x02\x01\x00\x05\x00\x00\x03\x04nameppTHE SERVER";
        for piece in [1, 3, 1000] {
            assert_eq!(greet_proxy((ProxyKind::Socks5, true), socks, piece), Some(socks.len() - 10));
            assert_eq!(greet_proxy((ProxyKind::Socks5, false), socks, piece), None);
            let http = b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 y\r\nA: b\r\n\r\nTHE SERVER";
            assert_eq!(greet_proxy((ProxyKind::Http, false), http, piece), Some(http.len() - 10));
        }
    }
}
