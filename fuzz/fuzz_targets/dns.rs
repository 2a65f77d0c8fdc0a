//! DNS messages: questions of a sandbox, and replies of servers, true but for some bytes.
#![no_main]
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use msb::net::dns::{Hosts, Question, Resolver, Step, Transport, Upstreams};
use msb::net::policy::{HostAddresses, Policy, Scope, Segment};

/// `a.example`, type A, class IN.
const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";

fuzz_target!(|bytes: &[u8]| {
    let upstreams = Upstreams::parse(&String::from_utf8_lossy(bytes));
    assert!(!upstreams.servers.is_empty());
    let policy = Policy::new(Scope::Public, Vec::new(), Segment::default(), HostAddresses::default());
    let mut resolver = Resolver::new(upstreams, Hosts::default(), true);
    let now = Instant::now();
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Step::Answer(answer) = resolver.ask(now, Question { transport, message: bytes }, &policy) {
            assert_eq!(answer[..2], bytes[..2]);
            assert!(transport == Transport::Tcp || answer.len() <= 4096);
        }
    }
    let question = Question { transport: Transport::Udp, message: QUESTION };
    let Step::Forward(sent) = resolver.ask(now, question, &policy) else { panic!("nobody was asked") };
    // A reply is one to what was sent in its first bytes; what follows is anything.
    let mut reply = sent.message.clone();
    reply[2] |= 0x80;
    if let [counts, rest @ ..] = bytes {
        reply[7] = counts & 0xf;
        reply[9] = counts >> 4;
        reply[11] = 0;
        reply.truncate(QUESTION.len());
        reply.extend(rest);
    }
    if let Step::Answer(answer) = resolver.answered(now, sent.id, &reply, &policy) {
        assert!(answer.len() <= 512);
    }
});
