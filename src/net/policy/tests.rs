#![allow(clippy::unwrap_used)]

mod escapes;
mod grammar;
mod rules;

use std::net::IpAddr;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A host with a public and a private address in both families, its gateway, and one group.
fn policy(scope: Scope, rules: &[&str]) -> Policy {
    let rules = rules.iter().map(|rule| rule.parse().unwrap_or_else(|error| panic!("{rule}: {error}")));
    let host = ["8.8.4.4", "192.168.1.5", "2a00:1450::5", "fd12::5", "127.0.0.1"];
    let segment = Segment {
        gateways: vec![ip("172.31.255.1"), ip("fd99::1")],
        groups: vec!["10.77.0.0/24".parse().unwrap()],
    };
    Policy::new(scope, rules.collect(), segment, host.into_iter().map(ip).collect())
}

fn to(address: &str, protocol: Protocol, port: u16) -> Peer {
    let port = (protocol != Protocol::Icmp).then_some(port);
    Peer { direction: Direction::Out, protocol, address: ip(address), port }
}

/// Whether TCP port 443 of `address` is let through.
fn reaches(policy: &Policy, address: &str) -> bool {
    policy.decide(&to(address, Protocol::Tcp, 443), &[]).allowed
}
