//! Over real sockets, to a server on this machine.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::thread;

use super::*;

/// A server that cuts what it sends in datagrams and says all of it in streams, for as long as the test runs.
fn server(records: Vec<Record>) -> std::net::SocketAddr {
    // A number that is free for both.
    let (listener, socket) = (0..100)
        .find_map(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").ok()?;
            let socket = UdpSocket::bind(listener.local_addr().ok()?).ok()?;
            Some((listener, socket))
        })
        .unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let mut message = Message::from_vec(&bytes[..length]).unwrap();
            message.metadata.message_type = MessageType::Response;
            message.metadata.truncation = true;
            // Somebody else's number first: it is passed over.
            let mut forged = message.clone();
            forged.metadata.id ^= 1;
            for message in [forged, message] {
                let _ = socket.send_to(&message.to_vec().unwrap(), from);
            }
        }
    });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut bytes).unwrap();
            let mut message = Message::from_vec(&bytes).unwrap();
            message.metadata.message_type = MessageType::Response;
            let kind = message.queries[0].query_type;
            message.answers = records.iter().filter(|record| record.record_type() == kind).cloned().collect();
            let bytes = message.to_vec().unwrap();
            let length = u16::try_from(bytes.len()).unwrap();
            stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).unwrap();
        }
    });
    at
}

#[test]
fn names_are_looked_up_in_datagrams_and_streams() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let records = vec![
        address("x.example", 60, "1.2.3.4"),
        address("x.example", 60, "10.0.0.1"),
        address("x.example", 60, "2606:4700::1"),
    ];
    let servers = vec![server(records)];
    bench.resolver.set_upstreams(Upstreams { servers, ..upstreams() }, true);
    let found = bench.resolver.look_up(&name("x.example"), &bench.policy).unwrap();
    assert_eq!(found, [ip("1.2.3.4"), ip("2606:4700::1")]);
    let names = bench.resolver.names_of(Instant::now(), ip("2606:4700::1"));
    assert_eq!(names, [name("x.example")]);
}

#[test]
fn servers_that_are_not_there_are_an_error() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let servers = vec!["127.0.0.1:1".parse().unwrap()];
    bench.resolver.set_upstreams(Upstreams { servers, attempts: 1, ..upstreams() }, true);
    let error = bench.resolver.look_up(&name("x.example"), &bench.policy).unwrap_err().to_string();
    assert!(error.contains("no name server answered about x.example"), "{error}");
}
