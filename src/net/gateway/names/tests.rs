//! What connections to the server of names take and get.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::net::gateway::{Link, Settings};
use crate::net::policy::{HostAddresses, Policy, Scope};

/// A question for the host's address, behind its length.
const QUESTION: &[u8] =
    b"\x00\x23\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04host\x03msb\x08internal\x00\x00\x01\x00\x01";
const MANY: usize = 50_000;

#[test]
fn who_asks_and_does_not_read_is_not_answered_without_end() {
    let (mut core, mut names) = at_work();
    let mut sandbox = UnixStream::from(names.connect(&mut core).unwrap());
    let token = Token::new(Owner::DnsClient, names.generation, 0);
    let questions = QUESTION.repeat(MANY);
    let (mut asked, mut answered) = (0, Vec::new());
    while asked < questions.len() {
        match sandbox.write(&questions[asked..]) {
            Ok(length) => asked += length,
            // It reads only when nobody hears it any more.
            Err(_) => take_answers(&mut sandbox, &mut answered),
        }
        names.client_ready(&mut core, token);
        let client = &names.clients[0];
        assert!(client.unsent.len() + client.received.len() <= 3 * LARGEST);
    }
    // Nobody is left without an answer.
    while answered.len() < answer_length(&answered) * MANY {
        names.client_ready(&mut core, token);
        take_answers(&mut sandbox, &mut answered);
    }
}

fn at_work() -> (Core, Names) {
    let link = Link::default();
    let policy = Policy::new(Scope::Any, Vec::new(), link.segment(), HostAddresses::default());
    let core = Core::new(Settings::new(link, policy), None, std::sync::Arc::default()).unwrap();
    (core, Names::default())
}

#[test]
fn many_questions_at_once_take_turns() {
    let (mut core, mut names) = at_work();
    let mut sandbox = UnixStream::from(names.connect(&mut core).unwrap());
    let token = Token::new(Owner::DnsClient, names.generation, 0);
    sandbox.write_all(&QUESTION.repeat(2 * AT_ONCE)).unwrap();
    let mut answered = Vec::new();
    names.client_ready(&mut core, token);
    while names.is_busy() {
        take_answers(&mut sandbox, &mut answered);
        assert!(answered.len() <= AT_ONCE * answer_length(&answered));
        names.turn(&mut core);
        take_answers(&mut sandbox, &mut answered);
        if answered.len() == 2 * AT_ONCE * answer_length(&answered) {
            return;
        }
    }
    panic!("{} bytes of answers", answered.len());
}

#[test]
fn what_is_no_message_ends_the_connection() {
    for nothing in [&[0, 0][..], b"\x00\x0bhello world"] {
        let (mut core, mut names) = at_work();
        let mut sandbox = UnixStream::from(names.connect(&mut core).unwrap());
        let token = Token::new(Owner::DnsClient, names.generation, 0);
        sandbox.write_all(&[QUESTION, nothing, QUESTION].concat()).unwrap();
        names.client_ready(&mut core, token);
        assert!(names.clients.is_empty());
        // What was asked before has its answer; unread bytes reset what follows.
        assert!(sandbox.read(&mut [0; 64]).unwrap() > 0);
    }
}

fn take_answers(sandbox: &mut UnixStream, answered: &mut Vec<u8>) {
    let mut piece = [0; 4096];
    // There may be none yet.
    let length = sandbox.read(&mut piece).unwrap_or(0);
    answered.extend_from_slice(&piece[..length]);
}

fn answer_length(answers: &[u8]) -> usize {
    answers.first_chunk::<2>().map_or(1, |length| 2 + usize::from(u16::from_be_bytes(*length)))
}
