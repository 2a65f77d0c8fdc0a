//! What is said to a proxy before a connection through it is the sandbox's: SOCKS 5 (RFC 1928, 1929) and CONNECT (RFC 9110 9.3.6).
//!
//! Everything a proxy says is foreign: it is read piece by piece, never further than its reply, and no more than fits.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::greeting::{Progress, Refusal};
use crate::net::policy::Name;
use crate::net::proxy::{Proxy, ProxyKind};

/// The longest reply of an HTTP proxy, with those before it.
const LONGEST: usize = 8 << 10;
const END: &[u8] = b"\r\n\r\n";
/// Methods of authentication, and what a request is about (RFC 1928).
const NONE: u8 = 0;
const PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

/// A connection through a proxy that is being made.
pub(super) struct Tunnel {
    unsent: Vec<u8>,
    sent: usize,
    /// What has come of the reply that is waited for.
    reply: Vec<u8>,
    stage: Stage,
    /// What is said next, in the order in which it is.
    request: Vec<u8>,
    credentials: Option<(String, String)>,
    /// Bytes of replies so far.
    heard: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Which authentication the proxy wants.
    Method,
    /// Whether it was right.
    Password,
    /// Whether the peer could be reached.
    Request,
    /// The same, in HTTP.
    Http,
}

/// It may hold a password.
impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Tunnel {
    /// To `peer` through `proxy`, which is told the name where one is known and wanted.
    pub(super) fn new(proxy: &Proxy, peer: SocketAddr, name: Option<&Name>) -> Self {
        let credentials = proxy.credentials.clone();
        let name = name.filter(|_| proxy.kind != ProxyKind::Socks5);
        let (stage, unsent, request) = match proxy.kind {
            ProxyKind::Socks5 | ProxyKind::Socks5h => {
                let methods: &[u8] =
                    if credentials.is_some() { &[5, 2, NONE, PASSWORD] } else { &[5, 1, NONE] };
                (Stage::Method, methods.to_vec(), request(peer, name))
            }
            ProxyKind::Http => (Stage::Http, connect(peer, name, credentials.as_ref()), Vec::new()),
        };
        Self { unsent, sent: 0, reply: Vec::new(), stage, request, credentials, heard: 0 }
    }

    pub(super) fn unsent(&self) -> &[u8] {
        self.unsent.get(self.sent..).unwrap_or_default()
    }

    pub(super) fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// How many bytes the reply has for sure.
    pub(super) fn wanted(&self) -> usize {
        let length = match self.stage {
            Stage::Method | Stage::Password => 2,
            Stage::Request => match (self.reply.get(3), self.reply.get(4)) {
                (Some(&IPV4), _) => 4 + 4 + 2,
                (Some(&IPV6), _) => 4 + 16 + 2,
                (Some(_), Some(length)) => 5 + usize::from(*length) + 2,
                _ => 5,
            },
            Stage::Http => {
                let begun = (1..END.len()).rev().find(|count| self.reply.ends_with(&END[..*count]));
                return END.len() - begun.unwrap_or(0);
            }
        };
        length.saturating_sub(self.reply.len()).max(1)
    }

    pub(super) fn received(&mut self, bytes: &[u8]) -> Result<Progress, Refusal> {
        self.reply.extend_from_slice(bytes);
        self.heard += bytes.len();
        match self.stage {
            Stage::Method if self.reply.len() >= 2 => {
                match (self.reply[0], self.reply[1], self.credentials.take()) {
                    (5, NONE, _) => Ok(self.ask_for_peer()),
                    (5, PASSWORD, Some((user, password))) => {
                        let length =
                            |text: &str| u8::try_from(text.len()).map_err(|_| Refusal(nix::Error::EPROTO));
                        let user = [&[length(&user)?], user.as_bytes()].concat();
                        let password = [&[length(&password)?], password.as_bytes()].concat();
                        Ok(self.say(Stage::Password, [&[1], &user[..], &password].concat()))
                    }
                    // It wants a password and there is none, or something that nobody here can do.
                    (5, ..) => Err(Refusal(nix::Error::EACCES)),
                    _ => Err(Refusal(nix::Error::EPROTO)),
                }
            }
            Stage::Password if self.reply.len() >= 2 => match (self.reply[0], self.reply[1]) {
                (1, 0) => Ok(self.ask_for_peer()),
                _ => Err(Refusal(nix::Error::EACCES)),
            },
            Stage::Request => self.answered(),
            Stage::Http => self.http(),
            Stage::Method | Stage::Password => Ok(Progress::More),
        }
    }

    fn say(&mut self, stage: Stage, words: Vec<u8>) -> Progress {
        (self.stage, self.unsent, self.sent) = (stage, words, 0);
        self.reply.clear();
        Progress::More
    }

    fn ask_for_peer(&mut self) -> Progress {
        let request = std::mem::take(&mut self.request);
        self.say(Stage::Request, request)
    }

    /// The reply to a request of SOCKS.
    fn answered(&mut self) -> Result<Progress, Refusal> {
        match (self.reply.first(), self.reply.get(1)) {
            (Some(5), None | Some(0)) => {}
            (Some(5), Some(code)) => {
                return Err(Refusal(match code {
                    2 => nix::Error::EACCES,
                    3 => nix::Error::ENETUNREACH,
                    5 => nix::Error::ECONNREFUSED,
                    _ => nix::Error::EHOSTUNREACH,
                }));
            }
            _ => return Err(Refusal(nix::Error::EPROTO)),
        }
        let length = match (self.reply.get(3), self.reply.get(4)) {
            (Some(&IPV4), _) => 10,
            (Some(&IPV6), _) => 22,
            (Some(&DOMAIN), Some(length)) => 7 + usize::from(*length),
            (None | Some(&DOMAIN), _) => return Ok(Progress::More),
            _ => return Err(Refusal(nix::Error::EPROTO)),
        };
        Ok(if self.reply.len() >= length { Progress::Done } else { Progress::More })
    }

    fn http(&mut self) -> Result<Progress, Refusal> {
        if !self.reply.ends_with(END) {
            // A line that ends otherwise could hide where the reply does.
            let is_odd = self.reply.iter().enumerate().any(|(at, byte)| {
                *byte == b'\n' && at.checked_sub(1).and_then(|before| self.reply.get(before)) != Some(&b'\r')
            });
            // All replies together: a proxy may have any number before the last.
            let is_too_long = self.heard >= LONGEST;
            return if is_odd || is_too_long { Err(Refusal(nix::Error::EPROTO)) } else { Ok(Progress::More) };
        }
        let code = match &self.reply[..] {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9', b' ', code @ ..] => code.get(..3),
            _ => None,
        };
        match code {
            Some([b'2', ..]) => Ok(Progress::Done),
            // More follows it.
            Some([b'1', ..]) => {
                self.reply.clear();
                Ok(Progress::More)
            }
            Some(b"401" | b"403" | b"407") => Err(Refusal(nix::Error::EACCES)),
            Some([b'3'..=b'5', ..]) => Err(Refusal(nix::Error::EHOSTUNREACH)),
            _ => Err(Refusal(nix::Error::EPROTO)),
        }
    }
}

fn request(peer: SocketAddr, name: Option<&Name>) -> Vec<u8> {
    let mut request = vec![5, CONNECT, 0];
    let name = name.map(ToString::to_string);
    match (name.as_ref().and_then(|name| Some((name, u8::try_from(name.len()).ok()?))), peer.ip()) {
        (Some((name, length)), _) => {
            request.extend([DOMAIN, length]);
            request.extend(name.as_bytes());
        }
        (None, IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend(address.octets());
        }
        (None, IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend(address.octets());
        }
    }
    request.extend(peer.port().to_be_bytes());
    request
}

fn connect(peer: SocketAddr, name: Option<&Name>, credentials: Option<&(String, String)>) -> Vec<u8> {
    let place = name.map_or_else(|| peer.to_string(), |name| format!("{name}:{}", peer.port()));
    let login = credentials.map(|(user, password)| {
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
    });
    format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{}\r\n", login.unwrap_or_default()).into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn proxy(kind: ProxyKind, login: bool) -> Proxy {
        let credentials = login.then(|| ("me".to_owned(), "secret".to_owned()));
        Proxy { kind, address: ([127, 0, 0, 1], 1).into(), credentials }
    }

    fn peer() -> SocketAddr {
        ([93, 184, 216, 34], 443).into()
    }

    fn said(tunnel: &mut Tunnel) -> Vec<u8> {
        let said = tunnel.unsent().to_vec();
        tunnel.sent(said.len());
        assert!(tunnel.unsent().is_empty());
        said
    }

    /// Gives it a reply as it asks for it, and what is left of that when it is done.
    fn hear(tunnel: &mut Tunnel, mut reply: &[u8]) -> Result<(Progress, usize), nix::Error> {
        loop {
            let count = tunnel.wanted().min(reply.len());
            assert!(tunnel.wanted() > 0);
            let (piece, rest) = reply.split_at(count);
            reply = rest;
            match tunnel.received(piece) {
                Ok(Progress::More) if reply.is_empty() => return Ok((Progress::More, 0)),
                Ok(Progress::More) if tunnel.unsent().is_empty() => {}
                Ok(progress) => return Ok((progress, reply.len())),
                Err(Refusal(errno)) => return Err(errno),
            }
        }
    }

    #[test]
    fn socks_by_name_with_a_password() {
        let name = "example.com".parse().unwrap();
        let mut tunnel = Tunnel::new(&proxy(ProxyKind::Socks5h, true), peer(), Some(&name));
        assert_eq!(said(&mut tunnel), [5, 2, 0, 2]);
        assert_eq!(hear(&mut tunnel, &[5, 2]), Ok((Progress::More, 0)));
        assert_eq!(said(&mut tunnel), b"\x01\x02me\x06secret");
        assert_eq!(hear(&mut tunnel, &[1, 0]), Ok((Progress::More, 0)));
        assert_eq!(said(&mut tunnel), b"\x05\x01\x00\x03\x0bexample.com\x01\xbb");
        assert_eq!(hear(&mut tunnel, b"\x05\x00\x00\x03\x01x\x00\x00the server"), Ok((Progress::Done, 10)));
        assert!(!format!("{tunnel:?}").contains("secret"));
    }

    #[test]
    fn socks_by_address() {
        // Whoever has the name could have it lead the proxy elsewhere than where the policy has looked.
        let name = "example.com".parse().unwrap();
        for (peer, bytes) in [
            (peer(), vec![1, 93, 184, 216, 34, 1, 187]),
            ("[2606:4700::1]:80".parse().unwrap(), {
                let mut bytes = vec![4, 0x26, 6, 0x47, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                bytes.extend([0, 1, 0, 80]);
                bytes
            }),
        ] {
            let mut tunnel = Tunnel::new(&proxy(ProxyKind::Socks5, false), peer, Some(&name));
            assert_eq!(said(&mut tunnel), [5, 1, 0]);
            hear(&mut tunnel, &[5, 0]).unwrap();
            assert_eq!(said(&mut tunnel)[3..], bytes);
            assert_eq!(hear(&mut tunnel, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7]), Ok((Progress::Done, 1)));
        }
    }

    #[test]
    fn refusals_of_socks_are_told_apart() {
        use nix::Error;
        for (code, errno) in [
            (1, Error::EHOSTUNREACH),
            (2, Error::EACCES),
            (3, Error::ENETUNREACH),
            (4, Error::EHOSTUNREACH),
            (5, Error::ECONNREFUSED),
        ] {
            let mut tunnel = Tunnel::new(&proxy(ProxyKind::Socks5, false), peer(), None);
            said(&mut tunnel);
            hear(&mut tunnel, &[5, 0]).unwrap();
            said(&mut tunnel);
            assert_eq!(hear(&mut tunnel, &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]), Err(errno));
        }
        // A password is wanted, and there is none; or another method.
        for method in [2, 1, 255] {
            let mut tunnel = Tunnel::new(&proxy(ProxyKind::Socks5, false), peer(), None);
            assert_eq!(hear(&mut tunnel, &[5, method]), Err(Error::EACCES));
        }
        let mut tunnel = Tunnel::new(&proxy(ProxyKind::Socks5, false), peer(), None);
        assert_eq!(hear(&mut tunnel, b"HT"), Err(Error::EPROTO));
    }

    #[test]
    fn connect_of_http() {
        let name = "example.com".parse().unwrap();
        let mut tunnel = Tunnel::new(&proxy(ProxyKind::Http, true), peer(), Some(&name));
        let wanted = "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n";
        assert_eq!(String::from_utf8(said(&mut tunnel)).unwrap(), wanted);
        let reply =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nSSH-2.0";
        assert_eq!(hear(&mut tunnel, reply), Ok((Progress::Done, 7)));
        for (reply, errno) in [
            ("HTTP/1.1 407 Log in\r\n\r\n", nix::Error::EACCES),
            ("HTTP/1.1 403 No\r\n\r\n", nix::Error::EACCES),
            ("HTTP/1.1 502 Bad gateway\r\n\r\n", nix::Error::EHOSTUNREACH),
            ("HTTP/1.1 200 OK\n\n", nix::Error::EPROTO),
            ("SSH-2.0-OpenSSH\r\n\r\n", nix::Error::EPROTO),
            ("HTTP/1.1 \r\n\r\n", nix::Error::EPROTO),
        ] {
            let mut tunnel = Tunnel::new(&proxy(ProxyKind::Http, false), peer(), None);
            said(&mut tunnel);
            assert_eq!(hear(&mut tunnel, reply.as_bytes()), Err(errno), "{reply}");
        }
        for endless in [vec![b'x'; 2 * LONGEST], b"HTTP/1.1 100 Continue\r\n\r\n".repeat(LONGEST)] {
            let mut tunnel = Tunnel::new(&proxy(ProxyKind::Http, false), peer(), None);
            said(&mut tunnel);
            assert_eq!(hear(&mut tunnel, &endless), Err(nix::Error::EPROTO));
        }
    }

    proptest! {
        /// Whatever a proxy says: it ends, keeps no more than fits, and never asks for more than the reply has.
        #[test]
        fn no_reply_breaks_it(
            socks in any::<bool>(), login in any::<bool>(),
            begin in prop::sample::select(vec![&b""[..], b"\x05\x00\x05\x00", b"\x05\x02\x01\x00\x05\x00\x00\x03", b"HTTP/1.1 200"]),
            rest in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let kind = if socks { ProxyKind::Socks5 } else { ProxyKind::Http };
            let mut tunnel = Tunnel::new(&proxy(kind, login), peer(), None);
            let reply = [begin, &rest].concat();
            let mut left = &reply[..];
            while !left.is_empty() {
                let unsent = tunnel.unsent().len();
                tunnel.sent(unsent);
                let wanted = tunnel.wanted();
                prop_assert!((1..=262).contains(&wanted));
                let (piece, rest) = left.split_at(wanted.min(left.len()));
                left = rest;
                match tunnel.received(piece) {
                    Ok(Progress::More) => {}
                    Ok(Progress::Done) | Err(_) => break,
                }
            }
            prop_assert!(tunnel.reply.len() <= LONGEST + 4);
        }
    }
}
