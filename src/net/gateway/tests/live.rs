//! What is open when the policy changes.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use smoltcp::socket::tcp::State;

use super::frames::datagram;
use super::guest::Guest;
use crate::net::gateway::packet::{self, Frame};
use crate::net::gateway::{End, Event};
use crate::net::policy::Scope;

fn revoked(guest: &Guest) -> Vec<String> {
    let events = guest.events.lock().unwrap();
    let reasons = events.iter().filter_map(|event| match event {
        Event::Ended(connection) => match &connection.end {
            End::Revoked(reason) => Some(reason.to_string()),
            _ => None,
        },
        _ => None,
    });
    reasons.collect()
}

#[test]
fn what_is_forbidden_is_cut_at_both_ends_and_the_rest_goes_on() {
    let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let mut guest = Guest::new(Scope::Any);
    let handles = ports.map(|port| guest.connect(SocketAddr::from(([192, 0, 0, 1], port))).unwrap());
    let mut clients = listeners.each_ref().map(|listener| listener.accept().unwrap().0);
    let rules = vec![format!("deny host:{}", ports[0]).parse().unwrap()];
    guest.gateway.remote().set_rules(Scope::Any, rules);
    guest.until(|guest| (guest.get(handles[0]).state() == State::Closed).then_some(()));
    assert_eq!(clients[0].read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(revoked(&guest), [format!("rule 1, `deny host:{}`", ports[0])]);
    guest.get(handles[1]).send_slice(b"x").unwrap();
    guest.until(|guest| (guest.get(handles[1]).send_queue() == 0).then_some(()));
    assert_eq!(clients[1].read(&mut [0]).unwrap(), 1);
    assert_eq!(guest.connect(SocketAddr::from(([192, 0, 0, 1], ports[1]))).map(drop), Some(()));
    guest.begin(SocketAddr::from(([192, 0, 0, 1], ports[0])));
    guest.until(|guest| {
        let events = guest.events.lock().unwrap();
        events.iter().any(|event| matches!(event, Event::Denied { .. })).then_some(())
    });
}

#[test]
fn conversations_end_with_an_error() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = SocketAddr::from(([192, 0, 0, 1], server.local_addr().unwrap().port()));
    let mut guest = Guest::new(Scope::Any);
    guest.send_packet(&datagram("192.0.0.2:9", to, b"hello"));
    server.recv_from(&mut [0; 16]).unwrap();
    guest.gateway.remote().set_rules(Scope::None, Vec::new());
    let frame = guest.frame(std::time::Duration::from_secs(60)).unwrap();
    let Some(Frame::Ip(answer)) = packet::parse(&frame) else { panic!("{frame:?}") };
    // Communication administratively prohibited (RFC 1812).
    assert_eq!(&answer.payload[..2], [3, 13]);
    assert_eq!(revoked(&guest).len(), 1);
}
