//! Frames of a hostile guest: whatever came before, the gateway still answers for itself, or has ended a link that is none.
#![no_main]

use std::io::{Read, Write};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use msb::net::gateway::{Gateway, Link, Settings};
use msb::net::policy::{HostAddresses, Policy, Scope};

fuzz_target!(|frames: Vec<(u8, Vec<u8>)>| {
    let link = Link::default();
    // Nothing may be reached, so no socket is made.
    let policy = Policy::new(Scope::None, Vec::new(), link.segment(), HostAddresses::default());
    let settings = Settings { log: true, ..Settings::new(link, policy) };
    let (_gateway, mut socket) = Gateway::start(settings).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut send = |kind: [u8; 2], payload: &[u8]| {
        let header = [&link.gateway_mac[..], &link.guest_mac, &kind].concat();
        let length = (header.len() + payload.len()) as u32;
        socket.write_all(&[&length.to_be_bytes()[..], &header, payload].concat()).unwrap();
    };
    for (kind, payload) in frames.iter().take(64) {
        let kinds = [[8, 0], [0x86, 0xdd], [8, 6], [*kind, 0]];
        send(kinds[usize::from(kind % 4)], payload);
    }
    let mut question = vec![0, 1, 8, 0, 6, 4, 0, 1];
    question.extend(link.guest_mac);
    question.extend(link.guest_v4.octets());
    question.extend([0; 6]);
    question.extend(link.gateway_v4.octets());
    send([8, 6], &question);
    // Answers to the frames before come first.
    loop {
        let mut length = [0; 4];
        socket.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        socket.read_exact(&mut frame).unwrap();
        if frame[12..14] == [8, 6] {
            break;
        }
    }
});
