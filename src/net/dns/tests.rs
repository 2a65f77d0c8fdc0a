#![allow(clippy::unwrap_used)]

mod answers;
mod caching;
mod forgery;
mod local;
mod servers;
mod sockets;
mod system;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name as WireName, RData, Record, RecordType};

use super::*;
use crate::net::policy::{Name, Policy, Scope, Segment};

/// A sandbox, its resolver, and the time.
struct Bench {
    resolver: Resolver,
    policy: Policy,
    now: Instant,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn wire(text: &str) -> WireName {
    WireName::from_ascii(format!("{text}.")).unwrap()
}

fn policy(scope: Scope, rules: &[&str]) -> Policy {
    let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    let segment = Segment { gateways: vec![ip("172.31.0.1")], groups: vec!["10.77.0.0/24".parse().unwrap()] };
    Policy::new(scope, rules, segment, [ip("203.0.113.9")].into_iter().collect())
}

fn upstreams() -> Upstreams {
    Upstreams::parse("nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions attempts:2")
}

fn address(owner: &str, ttl: u32, to: &str) -> Record {
    Record::from_rdata(wire(owner), ttl, RData::from(ip(to)))
}

fn alias(owner: &str, to: &str) -> Record {
    Record::from_rdata(wire(owner), 300, RData::CNAME(CNAME(wire(to))))
}

fn soa(owner: &str, ttl: u32, minimum: u32) -> Record {
    Record::from_rdata(wire(owner), ttl, RData::SOA(SOA::new(wire("ns"), wire("who"), 1, 2, 3, 4, minimum)))
}

/// A question as a sandbox sends it.
fn query(owner: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(wire(owner), kind));
    if let Some(size) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(size).set_version(0);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

/// A server's reply to a forwarded question.
fn reply(forward: &Forward, code: ResponseCode, answers: &[Record], authorities: &[Record]) -> Vec<u8> {
    let asked = Message::from_vec(&forward.message).unwrap();
    let mut message = Message::response(asked.metadata.id, OpCode::Query);
    message.metadata.response_code = code;
    message.metadata.recursion_available = true;
    message.add_queries(asked.queries.clone());
    message.add_answers(answers.iter().cloned());
    message.add_authorities(authorities.iter().cloned());
    message.to_vec().unwrap()
}

fn forward(step: Step) -> Forward {
    match step {
        Step::Forward(forward) => forward,
        other => panic!("nobody is asked: {other:?}"),
    }
}

fn answer(step: Step) -> Message {
    match step {
        Step::Answer(bytes) => {
            let message = Message::from_vec(&bytes).unwrap();
            assert_eq!((message.metadata.id, message.metadata.message_type), (77, MessageType::Response));
            message
        }
        other => panic!("no answer: {other:?}"),
    }
}

/// The addresses of an answer.
fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// What an answer says in an extended error.
fn words(message: &Message) -> String {
    let options = message.edns.as_ref().map(|edns| edns.options().options.clone()).unwrap_or_default();
    let option = options.into_iter().find_map(|(_, option)| Vec::<u8>::try_from(&option).ok());
    option.map(|bytes| String::from_utf8_lossy(&bytes[2..]).into_owned()).unwrap_or_default()
}

impl Bench {
    fn new(scope: Scope, rules: &[&str]) -> Self {
        let mut hosts = Hosts::default();
        hosts.add(name("host.msb.internal"), ip("172.31.0.1"));
        hosts.add(name("db"), ip("10.77.0.3"));
        let resolver = Resolver::new(upstreams(), hosts, true);
        Self { resolver, policy: policy(scope, rules), now: Instant::now() }
    }

    fn ask(&mut self, owner: &str, kind: RecordType) -> Step {
        self.ask_bytes(&query(owner, kind, Some(1232)), Transport::Udp)
    }

    fn ask_bytes(&mut self, message: &[u8], transport: Transport) -> Step {
        self.resolver.ask(self.now, Question { transport, message }, &self.policy)
    }

    fn answered(&mut self, id: u64, message: &[u8]) -> Step {
        self.resolver.answered(self.now, id, message, &self.policy)
    }

    /// Asks, has a server reply, and gives what the sandbox gets.
    fn resolve(&mut self, owner: &str, kind: RecordType, answers: &[Record]) -> Message {
        let sent = forward(self.ask(owner, kind));
        let message = reply(&sent, ResponseCode::NoError, answers, &[]);
        answer(self.answered(sent.id, &message))
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn names(&self, address: &str) -> Vec<String> {
        let names = self.resolver.names_of(self.now, ip(address));
        names.iter().map(ToString::to_string).collect()
    }
}
