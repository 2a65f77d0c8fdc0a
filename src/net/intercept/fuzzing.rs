//! An interception between two ends that say anything, without TLS: for fuzz targets, and tests that what these look for is found.

use std::io::Write as _;
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, OnceLock};

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

use super::connection::{self, Meeting};
use super::rules::Rules;
use super::trust::Trust;
use super::{Authority, CONNECTIONS, Shared, Taken};
use crate::net::policy::Name;
use crate::net::secret::{Secret, Secrets};

/// The host of the connection, and its secret's value and placeholder.
pub const HOST: &str = "api.example.com";
/// Of characters alone whose code for header compression has five bits, which are their place in [`FIVE_BITS`].
pub const VALUE: &str = "toasties0120";
/// What the sandbox has for it.
pub const PLACEHOLDER: &str = "msbsecretaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The same of a secret for another host.
pub const OTHER_VALUE: &str = "cats0eats021";
/// What the sandbox has for that.
pub const OTHER_PLACEHOLDER: &str = "msbsecretbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// The characters with a code of five bits (RFC 7541, appendix B), in the order of their codes.
const FIVE_BITS: &str = "012aceiost";
/// What begins a connection of HTTP/2 (RFC 9113 §3.4), with the settings that follow.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// More turns than anything takes that is not waiting for an end.
const TURNS: usize = 64;

/// How both ends speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// As it comes, from the connection's first byte on.
    Any,
    /// HTTP/1.
    One,
    /// HTTP/2.
    Many,
}

/// What an end says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which end: the host, or the sandbox.
    pub by_host: bool,
    /// What.
    pub bytes: Vec<u8>,
}

/// What the ends heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The host.
    pub host: Vec<u8>,
    /// The sandbox.
    pub sandbox: Vec<u8>,
}

/// A conversation written down: a byte for the way they speak, and what is said piece by piece: who says it and, for HTTP/2, the kind and
/// the stream of the frame (1 + 4 + 3 bits), the frame's flags, the length (16 bits, little-endian), the bytes.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(Speech, Vec<Said>)> {
    let (first, mut rest) = bytes.split_first()?;
    let speech = [Speech::Any, Speech::One, Speech::Many, Speech::Many][usize::from(first % 4)];
    let mut said = Vec::new();
    while let Some(([what, flags, low, high], more)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
        let (piece, more) = more.split_at(length);
        let kind = (what >> 1) & 15;
        let bytes = match (speech, kind) {
            (Speech::Many, 0..15) => frame(kind, *flags, what >> 5, piece),
            _ => piece.to_vec(),
        };
        said.push(Said { by_host: what & 1 == 1, bytes });
        rest = more;
    }
    Some((speech, said))
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let stream = [0, 1, 3, 5, 7, 2, 9, 0x7fff_ffff_u32][usize::from(stream % 8)].to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// Has both ends say that, and gives what they heard.
///
/// # Panics
/// The system has no more sockets, or the interception panicked.
#[must_use]
pub fn converse(speech: Speech, said: &[Said]) -> Heard {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (shared, host_name) = shared();
        let ((sandbox, ours), (host, theirs)) = (pair(), pair());
        let work = match speech {
            Speech::Any => {
                let remote = (Ipv4Addr::new(192, 0, 2, 1), 443).into();
                let taken = Taken { sandbox, host: OwnedFd::from(host), remote, names: vec![host_name] };
                tokio::spawn(connection::serve(taken, shared))
            }
            Speech::One | Speech::Many => {
                let meeting = Meeting { name: host_name, port: 443, shared };
                let (sandbox, host) = (alive(sandbox), alive(host));
                tokio::spawn(async move {
                    let _ = meeting.talk(sandbox, host, speech == Speech::Many).await;
                })
            }
        };
        let (from_sandbox, at_sandbox) = end(ours);
        let (from_host, at_host) = end(theirs);
        if speech == Speech::Many {
            say(&from_sandbox, PREFACE);
            say(&from_host, SETTINGS);
        }
        for one in said {
            say(if one.by_host { &from_host } else { &from_sandbox }, &one.bytes);
            settle().await;
        }
        for end in [from_host, from_sandbox] {
            // Whoever has been cut off says no more.
            let _ = end.shutdown(Shutdown::Write);
            settle().await;
        }
        if work.is_finished() {
            work.await.expect("an interception does not panic");
        }
        // What is left of the interception ends with the runtime; what it has sent is there.
        Heard { host: at_host.taken().await, sandbox: at_sandbox.taken().await }
    })
}

fn shared() -> (Arc<Shared>, Name) {
    static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();
    (Arc::clone(SHARED.get_or_init(make_shared)), HOST.parse().expect("a name"))
}

fn make_shared() -> Arc<Shared> {
    let own: Secret = format!("KEY@{HOST}:in=header,basic,query,body").parse().expect("a secret");
    let other: Secret = "OTHER@other.example:in=header,basic,query,body".parse().expect("a secret");
    let secrets = Secrets::known(&[(&own, VALUE, PLACEHOLDER), (&other, OTHER_VALUE, OTHER_PLACEHOLDER)]);
    let authority = Authority::new(secrets.iter().flat_map(|held| &held.secret.hosts)).expect("an authority");
    let shared = Shared {
        rules: Arc::new(Rules::new(secrets)),
        authority,
        trust: Trust::default(),
        report: Arc::new(|_| ()),
        places: Semaphore::new(CONNECTIONS),
    };
    Arc::new(shared)
}

fn pair() -> (StdUnixStream, StdUnixStream) {
    StdUnixStream::pair().expect("sockets")
}

fn alive(socket: StdUnixStream) -> UnixStream {
    socket.set_nonblocking(true).expect("a socket");
    UnixStream::from_std(socket).expect("a runtime")
}

/// Lets everybody do what there is to do.
async fn settle() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

/// What an end hears.
struct Ear(JoinHandle<()>, Arc<std::sync::Mutex<Vec<u8>>>);

impl Ear {
    async fn taken(self) -> Vec<u8> {
        settle().await;
        self.0.abort();
        std::mem::take(&mut self.1.lock().expect("no panic"))
    }
}

/// Says what fits into the socket.
fn say(mut end: &StdUnixStream, bytes: &[u8]) {
    // Whoever has been cut off says no more.
    let _ = end.write(bytes);
}

fn end(socket: StdUnixStream) -> (StdUnixStream, Ear) {
    let writer = socket.try_clone().expect("a socket");
    let mut reader = alive(socket);
    let heard = Arc::<std::sync::Mutex<Vec<u8>>>::default();
    let all = Arc::clone(&heard);
    let ear = tokio::spawn(async move {
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = reader.read(&mut piece).await {
            all.lock().expect("no panic").extend_from_slice(&piece[..length]);
        }
    });
    (writer, Ear(ear, heard))
}

/// What must not be, where it is.
#[must_use]
pub fn betrayal(speech: Speech, said: &[Said], heard: &Heard) -> Option<&'static str> {
    let of = |by_host: bool| -> Vec<u8> {
        said.iter().filter(|one| one.by_host == by_host).flat_map(|one| one.bytes.clone()).collect()
    };
    let (by_host, by_sandbox) = (of(true), of(false));
    // Whoever says it knows it already, and a refusal repeats what it is about.
    let told = |value: &str, whom: &[u8], by: &[u8]| holds(whom, value) && !holds(by, value);
    if [VALUE, OTHER_VALUE]
        .iter()
        .any(|value| told(value, &heard.sandbox, &by_host) && !holds(&by_sandbox, value))
    {
        return Some("the sandbox heard a value");
    }
    if told(OTHER_VALUE, &heard.host, &by_sandbox) {
        return Some("the host heard the value of another host's secret");
    }
    if speech != Speech::Any {
        return None;
    }
    if told(VALUE, &heard.host, &by_sandbox) {
        return Some("a value went without encryption");
    }
    // What looks like TLS to somebody else passes as it is.
    let looks_like_tls = by_sandbox.first() == Some(&22);
    let shown = [PLACEHOLDER, OTHER_PLACEHOLDER].iter().any(|text| find(&heard.host, text.as_bytes()));
    (shown && !looks_like_tls).then_some("a placeholder went without encryption")
}

fn find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Whether `bytes` have `value` in them: as it is, in base64, or compressed as in a header of HTTP/2 (RFC 7541 §5.2) at any bit.
#[must_use]
pub fn holds(bytes: &[u8], value: &str) -> bool {
    use super::search::in_base64;
    find(bytes, value.as_bytes())
        || (0..3).any(|before| find(bytes, &in_base64(value.as_bytes(), before)))
        || holds_compressed(bytes, value)
}

fn holds_compressed(bytes: &[u8], value: &str) -> bool {
    let codes = value.chars().map(|letter| FIVE_BITS.find(letter).map_or(0, |code| code as u64));
    let wanted = codes.fold(0, |bits, code| bits << 5 | code);
    let mask = (1_u64 << (5 * value.len())) - 1;
    let mut seen = 0_u64;
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    bits.enumerate().any(|(at, bit)| {
        seen = seen << 1 | u64::from(bit);
        at + 1 >= 5 * value.len() && seen & mask == wanted
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seed(name: &str) -> (Speech, Vec<Said>, Heard) {
        let path = format!("{}/fuzz/seeds/intercept/{name}", env!("CARGO_MANIFEST_DIR"));
        let (speech, said) = read(&std::fs::read(path).unwrap()).unwrap();
        let heard = converse(speech, &said);
        (speech, said, heard)
    }

    #[test]
    fn conversations_take_place() {
        let (_, _, heard) = seed("one-header");
        assert!(find(&heard.host, format!("X-Key: {VALUE}\r\n").as_bytes()), "{heard:?}");
        assert!(find(&heard.sandbox, format!("X-Repeated: {PLACEHOLDER}\r\n").as_bytes()), "{heard:?}");
        for name in ["many-header", "many-query", "many-body", "many-streams", "many-continued"] {
            let (speech, said, heard) = seed(name);
            assert!(holds(&heard.host, VALUE), "{name}: {heard:?}");
            // Behind its settings and what it says about windows there is an answer.
            assert!(
                heard.sandbox.len() > 60 && betrayal(speech, &said, &heard).is_none(),
                "{name}: {heard:?}"
            );
        }
        for name in ["one-other", "one-elsewhere", "many-other", "any-basic"] {
            let (_, _, heard) = seed(name);
            assert!(find(&heard.sandbox, b"hint: "), "{name}: {heard:?}");
            assert!(!holds(&heard.host, VALUE) && !holds(&heard.host, OTHER_VALUE), "{name}: {heard:?}");
        }
    }

    #[test]
    fn betrayal_is_seen() {
        let heard = |host: &[u8], sandbox: &[u8]| Heard { host: host.into(), sandbox: sandbox.into() };
        let said = |by_host, text: &str| Said { by_host, bytes: text.into() };
        let value = heard(b"", format!("x{VALUE}").as_bytes());
        assert!(betrayal(Speech::One, &[], &value).is_some());
        for by_host in [true, false] {
            assert_eq!(betrayal(Speech::One, &[said(by_host, VALUE)], &value), None);
        }
        let (_, _, compressed) = seed("many-header");
        for (speech, heard, is_seen) in [
            (Speech::Many, heard(b"", &compressed.host), true),
            (Speech::Many, heard(&compressed.host, b""), false),
            (Speech::Any, heard(&compressed.host, b""), true),
            (Speech::One, heard(OTHER_VALUE.as_bytes(), b""), true),
            (Speech::Any, heard(PLACEHOLDER.as_bytes(), b""), true),
            (Speech::One, heard(PLACEHOLDER.as_bytes(), b""), false),
        ] {
            assert_eq!(betrayal(speech, &[], &heard).is_some(), is_seen, "{speech:?} {heard:?}");
        }
    }
}
