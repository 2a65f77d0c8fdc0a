//! What is said on a connection before it is the sandbox's: a few bytes there, and an answer, before the sandbox's SYN is answered.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv, send};

use super::hail::{ANSWER, Answer, Hail};
use super::tunnel::Tunnel;

/// How long a peer may take to answer a greeting.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The most that is read at once.
const PIECE: usize = 512;

/// What is still to be said and heard. Nothing here reads or writes but [`advance`](Self::advance).
#[derive(Debug)]
pub(super) enum Greeting {
    /// To the gateway of another sandbox.
    Member(Call),
    /// To a proxy.
    Tunnel(Box<Tunnel>),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to be sent, or to come.
    More,
    /// The connection is the sandbox's from here on.
    Done,
}

/// The peer does not take the connection: what the sandbox is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) nix::Error);

impl Greeting {
    /// The greeting of a sandbox that calls another one.
    #[must_use]
    pub(super) fn member(hail: &Hail) -> Self {
        Self::Member(Call { hail: hail.to_bytes(), sent: 0 })
    }

    /// What is to be sent now; empty while an answer is waited for.
    #[must_use]
    pub(super) fn unsent(&self) -> &[u8] {
        match self {
            Self::Member(call) => &call.hail[call.sent..],
            Self::Tunnel(tunnel) => tunnel.unsent(),
        }
    }

    /// So many bytes of [`unsent`](Self::unsent) have gone.
    pub(super) fn sent(&mut self, count: usize) {
        match self {
            Self::Member(call) => call.sent = (call.sent + count).min(call.hail.len()),
            Self::Tunnel(tunnel) => tunnel.sent(count),
        }
    }

    /// How many bytes of the peer belong to the greeting for sure: what comes behind it is the sandbox's.
    #[must_use]
    pub(super) fn wanted(&self) -> usize {
        match self {
            Self::Member(_) => ANSWER,
            Self::Tunnel(tunnel) => tunnel.wanted(),
        }
    }

    /// Bytes of the peer, at least one and at most [`wanted`](Self::wanted).
    ///
    /// # Errors
    /// The peer does not take the connection, or what it says makes no sense.
    pub(super) fn received(&mut self, bytes: &[u8]) -> Result<Progress, Refusal> {
        match self {
            Self::Member(_) => match bytes.first().copied().and_then(Answer::from_byte) {
                Some(Answer::Accepted) => Ok(Progress::Done),
                Some(answer) => Err(Refusal(answer.errno())),
                None => Err(Refusal(nix::Error::EPROTO)),
            },
            Self::Tunnel(tunnel) => tunnel.received(bytes),
        }
    }

    /// Sends and receives what can be now.
    ///
    /// # Errors
    /// The connection is lost, or [refused](Refusal).
    pub(super) fn advance(&mut self, peer: &impl AsFd) -> nix::Result<Progress> {
        let peer = peer.as_fd().as_raw_fd();
        loop {
            while !self.unsent().is_empty() {
                match send(peer, self.unsent(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                    Ok(count) => self.sent(count),
                    Err(nix::Error::EINTR) => {}
                    Err(nix::Error::EAGAIN) => return Ok(Progress::More),
                    Err(errno) => return Err(errno),
                }
            }
            let mut piece = [0; PIECE];
            let wanted = self.wanted().min(PIECE);
            match recv(peer, &mut piece[..wanted], MsgFlags::MSG_DONTWAIT) {
                // Who ends here has not taken the connection.
                Ok(0) => return Err(nix::Error::ECONNRESET),
                Ok(count) => match self.received(&piece[..count]) {
                    Ok(Progress::Done) => return Ok(Progress::Done),
                    Ok(Progress::More) => {}
                    Err(Refusal(errno)) => return Err(errno),
                },
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return Ok(Progress::More),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// A call of another sandbox.
#[derive(Debug)]
pub(super) struct Call {
    hail: [u8; Hail::LENGTH],
    sent: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;
    use crate::net::policy::Protocol;

    fn hail() -> Hail {
        Hail {
            protocol: Protocol::Tcp,
            caller: "10.77.0.2:40000".parse().unwrap(),
            called: "10.77.0.3:80".parse().unwrap(),
        }
    }

    proptest! {
        #[test]
        fn any_answer_decides_and_never_breaks(byte in any::<u8>(), pieces in prop::collection::vec(1usize..50, 1..50)) {
            let mut greeting = Greeting::member(&hail());
            let mut said = Vec::new();
            for piece in pieces {
                let piece = piece.min(greeting.unsent().len());
                said.extend(&greeting.unsent()[..piece]);
                greeting.sent(piece);
            }
            said.extend(greeting.unsent());
            prop_assert_eq!(Hail::from_bytes(&said), Some(hail()));
            prop_assert_eq!(greeting.wanted(), 1);
            prop_assert_eq!(greeting.received(&[byte]).is_ok(), byte == 0);
        }
    }

    #[test]
    fn what_follows_the_answer_is_left_for_the_sandbox() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut greeting = Greeting::member(&hail());
        assert_eq!(greeting.advance(&ours), Ok(Progress::More));
        let mut said = [0; Hail::LENGTH];
        theirs.read_exact(&mut said).unwrap();
        assert_eq!(Hail::from_bytes(&said), Some(hail()));
        theirs.write_all(b"\0the server speaks first").unwrap();
        assert_eq!(greeting.advance(&ours), Ok(Progress::Done));
        drop(theirs);
        let mut rest = String::new();
        (&ours).read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "the server speaks first");
    }

    #[test]
    fn who_goes_without_an_answer_has_not_taken_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut greeting = Greeting::member(&hail());
        assert_eq!(greeting.advance(&ours), Ok(Progress::More));
        // Unread bytes make it a reset, none an end.
        drop(theirs);
        assert_eq!(greeting.advance(&ours), Err(nix::Error::ECONNRESET));
    }
}
