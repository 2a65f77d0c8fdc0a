//! Published ports.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpProtocol, UdpPacket};

use super::guest::{Guest, settings};
use crate::net::gateway::link::Link;
use crate::net::gateway::packet::{self, Frame};
use crate::net::gateway::wire::Output;
use crate::net::policy::Scope;
use crate::net::port::{Listener, PublishError};

fn guest(spec: &str, more: &[IpAddr]) -> (Guest, SocketAddr) {
    let listeners = Listener::open(&spec.parse().unwrap()).unwrap();
    let address = listeners[0].address;
    (Guest::with(settings(Scope::None, listeners), more), address)
}

fn is_served(mut guest: Guest, at: SocketAddr, address: SocketAddr) {
    let handle = guest.listen(at);
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"question").unwrap();
    guest.until(|guest| (guest.get(handle).recv_queue() == 8).then_some(()));
    assert_eq!(guest.get(handle).remote_endpoint().unwrap().addr, IpAddr::V4(guest.link.gateway_v4).into());
    let socket = guest.get(handle);
    socket.recv(|bytes| (bytes.len(), assert_eq!(bytes, b"question"))).unwrap();
    socket.send_slice(b"answer").unwrap();
    socket.close();
    guest.until(|guest| (guest.get(handle).state() != State::Established).then_some(()));
    guest.until(|guest| (guest.get(handle).send_queue() == 0).then_some(()));
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}

#[test]
fn a_server_is_reached_at_its_address() {
    let (guest, address) = guest("127.0.0.1:0:80", &[]);
    is_served(guest, "192.0.0.2:80".parse().unwrap(), address);
}

#[test]
fn a_server_is_reached_at_its_loopback() {
    let more = ["127.0.0.1".parse().unwrap(), "192.0.0.2".parse().unwrap()];
    let (guest, address) = guest("127.0.0.1:0:80", &more);
    is_served(guest, "127.0.0.1:80".parse().unwrap(), address);
}

#[test]
fn without_a_server_the_client_is_reset() {
    let (mut guest, address) = guest("127.0.0.1:0:80", &[]);
    let client = std::thread::spawn(move || TcpStream::connect(address).unwrap().read(&mut [0]));
    guest.until(|_| client.is_finished().then_some(()));
    assert_eq!(client.join().unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn datagrams_are_answered() {
    let (mut guest, address) = guest("127.0.0.1:0:53/udp", &[]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.send(b"question").unwrap();
    let frame = guest.frame(Duration::from_secs(60)).unwrap();
    let Some(Frame::Ip(datagram)) = packet::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!(datagram.protocol, IpProtocol::Udp);
    let message = UdpPacket::new_checked(datagram.payload).unwrap();
    assert_eq!((message.dst_port(), message.payload()), (53, &b"question"[..]));
    let to = SocketAddr::new(datagram.source, message.src_port());
    let mut output = Output::new(&Link::default());
    packet::udp(&mut output, "192.0.0.2:53".parse().unwrap(), to, b"answer");
    guest.send_packet(&output.waiting()[18..]);
    let mut answer = [0; 16];
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"answer");
}

#[test]
fn who_holds_a_port_is_named() {
    let first = Listener::open(&"127.0.0.1:0:80".parse().unwrap()).unwrap();
    let port = first[0].address.port();
    let error = Listener::open(&format!("127.0.0.1:{port}:80").parse().unwrap()).unwrap_err();
    let PublishError::InUse { holder: Some(holder), .. } = &error else { panic!("{error:?}") };
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
}
