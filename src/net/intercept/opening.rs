//! The first bytes of a connection: whether they are TLS, and for whom.

use rustls::server::Acceptor;

use crate::net::policy::Name;

/// Most bytes that are looked at. A ClientHello with post-quantum keys has about 2 KiB.
const LARGEST: usize = 64 << 10;
/// The first byte of a record with a handshake message (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// What a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// TLS, or what looks like it.
    Tls(Hello),
    /// Anything else.
    Other,
}

/// What a ClientHello says (RFC 8446 §4.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The server that is wanted (RFC 6066 §3).
    pub name: Option<Name>,
    /// The protocols that may be spoken (RFC 7301); `None` where nothing is said.
    pub protocols: Option<Vec<Vec<u8>>>,
}

/// The first bytes as far as they have come.
#[derive(Default)]
pub struct Opening {
    bytes: Vec<u8>,
    acceptor: Acceptor,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Opening {
    /// What the connection is, once `more` tells it.
    pub fn push(&mut self, more: &[u8]) -> Option<Kind> {
        self.bytes.extend_from_slice(more);
        if self.bytes.first().is_some_and(|first| *first != HANDSHAKE) || self.bytes.len() > LARGEST {
            return Some(Kind::Other);
        }
        let mut unread = more;
        loop {
            // What it does not understand, another server may.
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let name = hello.server_name().and_then(|name| name.parse().ok());
                    let protocols = hello.alpn().map(|all| all.map(<[u8]>::to_vec).collect());
                    return Some(Kind::Tls(Hello { name, protocols }));
                }
                Err(_) => return Some(Kind::Tls(Hello { name: None, protocols: None })),
            }
            if unread.is_empty() {
                return None;
            }
            if !matches!(self.acceptor.read_tls(&mut unread), Ok(1..)) {
                return Some(Kind::Other);
            }
        }
    }

    /// Everything that was pushed.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Hello {
    /// The protocols of HTTP among those that may be spoken, the first the dearest; `None` where HTTP is not.
    #[must_use]
    pub fn http(&self) -> Option<Vec<Vec<u8>>> {
        let Some(protocols) = &self.protocols else { return Some(Vec::new()) };
        let known = |protocol: &&Vec<u8>| matches!(protocol.as_slice(), b"h2" | b"http/1.1");
        let http: Vec<Vec<u8>> = protocols.iter().filter(known).cloned().collect();
        (!http.is_empty()).then_some(http)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(name: &str, protocols: &[&[u8]]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn tls(kind: Option<Kind>) -> Hello {
        match kind {
            Some(Kind::Tls(hello)) => hello,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hello_names_its_host_and_protocols() {
        let bytes = hello("API.example.com", &[b"h2", b"acme-tls/1", b"http/1.1"]);
        let mut opening = Opening::default();
        let found = tls(opening.push(&bytes));
        assert_eq!(found.name.as_ref().unwrap().as_str(), "api.example.com");
        assert_eq!(found.http().unwrap(), [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(opening.into_bytes(), bytes);
        assert_eq!(tls(Opening::default().push(&hello("a.b", &[]))).http(), Some(Vec::new()));
        assert_eq!(tls(Opening::default().push(&hello("a.b", &[b"imap"]))).http(), None);
        assert_eq!(tls(Opening::default().push(&hello("192.0.2.1", &[]))).name, None);
    }

    #[test]
    fn a_hello_may_come_byte_by_byte() {
        let bytes = hello("api.example.com", &[b"h2"]);
        let mut opening = Opening::default();
        let (last, first) = bytes.split_last().unwrap();
        for byte in first {
            assert_eq!(opening.push(&[*byte]), None);
        }
        assert_eq!(tls(opening.push(&[*last])).name.unwrap().as_str(), "api.example.com");
    }

    #[test]
    fn what_is_not_tls_is_told_by_its_first_byte() {
        assert_eq!(Opening::default().push(b"G"), Some(Kind::Other));
        assert_eq!(Opening::default().push(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(start in 0_usize..600, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut damaged = hello("api.example.com", &[b"h2"]);
            let start = start % damaged.len();
            for (place, byte) in damaged[start..].iter_mut().zip(&bytes) {
                *place = *byte;
            }
            let mut opening = Opening::default();
            for piece in damaged.chunks(7) {
                if opening.push(piece).is_some() {
                    break;
                }
            }
        }
    }
}
