//! What is told of connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::guest::{Guest, settings};
use crate::net::gateway::{Connection, End, Event};
use crate::net::policy::{Direction, Protocol, Scope};

fn logging() -> Guest {
    let (mut settings, events) = settings(Scope::Any, Vec::new());
    settings.log = true;
    Guest::with((settings, events), &[])
}

fn ended(guest: &mut Guest) -> Connection {
    guest.until(|guest| {
        guest.events.lock().unwrap().iter().find_map(|event| match event {
            Event::Ended(connection) => Some((**connection).clone()),
            _ => None,
        })
    })
}

#[test]
fn a_connection_is_told_with_its_bytes_at_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        client.write_all(b"answered").unwrap();
    });
    let mut guest = logging();
    let handle = guest.connect(SocketAddr::from(([192, 0, 0, 1], port))).unwrap();
    assert_eq!(guest.gateway.remote().traffic().open, 1);
    guest.get(handle).send_slice(b"asked").unwrap();
    guest.until(|guest| (guest.get(handle).recv_queue() == 8).then_some(()));
    guest.get(handle).close();
    let connection = ended(&mut guest);
    assert_eq!((connection.sent, connection.received, &connection.end), (5, 8, &End::Closed));
    assert_eq!((connection.peer.direction, connection.peer.protocol), (Direction::Out, Protocol::Tcp));
    assert_eq!(connection.peer.port, Some(port));
    assert!(connection.reason.to_string().starts_with("scope `any`"), "{}", connection.reason);
    let traffic = guest.gateway.remote().traffic();
    assert_eq!((traffic.sent_bytes, traffic.received_bytes, traffic.connections, traffic.open), (5, 8, 1, 0));
    assert!(traffic.sent_packets >= 3 && traffic.received_packets >= 2, "{traffic:?}");
    server.join().unwrap();
}

#[test]
fn one_that_cannot_be_made_is_told_with_the_reason() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut guest = logging();
    assert_eq!(guest.connect(SocketAddr::from(([192, 0, 0, 1], port))), None);
    let connection = ended(&mut guest);
    assert_eq!(connection.end, End::Failed("Connection refused".into()));
}

#[test]
fn what_is_open_ends_with_the_gateway() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut guest = logging();
    let to = SocketAddr::from(([192, 0, 0, 1], port));
    let datagram = super::frames::datagram("192.0.0.2:9", to, b"hello");
    guest.send_packet(&datagram);
    server.recv_from(&mut [0; 16]).unwrap();
    let events = guest.events.clone();
    drop(guest);
    let events = events.lock().unwrap();
    assert!(
        matches!(&events[..], [Event::Ended(one)] if one.sent == 5 && one.peer.protocol == Protocol::Udp),
        "{events:?}"
    );
}

#[test]
fn nothing_but_denials_is_told_unless_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::new(Scope::Any);
    let handle = guest.connect(SocketAddr::from(([192, 0, 0, 1], port))).unwrap();
    guest.get(handle).abort();
    guest.until(|guest| (guest.gateway.remote().traffic().open == 0).then_some(()));
    assert!(guest.events.lock().unwrap().is_empty());
}
