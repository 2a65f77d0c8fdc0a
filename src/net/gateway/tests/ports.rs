//! Published ports.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpProtocol, UdpPacket};

use super::guest::{Guest, settings};
use crate::net::gateway::link::Link;
use crate::net::gateway::packet;
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
    let caller = guest.link.gateway_like(at.ip());
    assert_eq!(guest.get(handle).remote_endpoint().unwrap().addr, caller.into());
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
fn a_server_is_reached_at_its_loopback_of_ipv6() {
    let more = ["192.0.0.2".parse().unwrap(), "::1".parse().unwrap()];
    let (guest, address) = guest("127.0.0.1:0:80", &more);
    is_served(guest, "[::1]:80".parse().unwrap(), address);
}

#[test]
fn without_a_server_the_client_is_reset() {
    let (mut guest, address) = guest("127.0.0.1:0:80", &[]);
    let client = std::thread::spawn(move || TcpStream::connect(address).unwrap().read(&mut [0]));
    guest.until(|_| client.is_finished().then_some(()));
    assert_eq!(client.join().unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// The next datagram to the sandbox: from where to where, and what is in it.
fn heard(guest: &mut Guest) -> (SocketAddr, SocketAddr, Vec<u8>) {
    let packet = guest.packet();
    let datagram = packet::parse_ip(&packet).unwrap();
    assert_eq!(datagram.protocol, IpProtocol::Udp);
    let message = UdpPacket::new_checked(datagram.payload).unwrap();
    assert!(message.verify_checksum(&datagram.source.into(), &datagram.destination.into()));
    let ends = (message.src_port(), message.dst_port());
    let from = SocketAddr::new(datagram.source, ends.0);
    (from, SocketAddr::new(datagram.destination, ends.1), message.payload().to_vec())
}

/// What a kernel says of a datagram to a port at which nobody listens.
fn nobody_there(guest: &mut Guest, (from, to): (SocketAddr, SocketAddr)) {
    let mut output = Output::new(&Link::default());
    packet::udp(&mut output, from, to, b"");
    let mut quote = output.waiting()[18..].to_vec();
    if to.ip() == IpAddr::V6(Ipv6Addr::LOCALHOST) {
        // It has arrived there, and the header that led it there is quoted as well.
        quote[24..40].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
    }
    let mut output = Output::new(&Link::default());
    let kind = if to.is_ipv4() { (3, 3) } else { (1, 4) };
    let fill = |bytes: &mut [u8]| bytes[8..].copy_from_slice(&quote);
    packet::icmp(&mut output, (to.ip(), from.ip()), kind, fill, quote.len());
    guest.send_packet(&output.waiting()[18..]);
}

fn says(guest: &mut Guest, (from, to): (SocketAddr, SocketAddr), payload: &[u8]) {
    let mut output = Output::new(&Link::default());
    packet::udp(&mut output, from, to, payload);
    guest.send_packet(&output.waiting()[18..]);
}

fn udp_client(address: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.connect(address).unwrap();
    client
}

fn hears(client: &UdpSocket, wanted: &[u8]) {
    let mut answer = [0; 16];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], wanted);
}

#[test]
fn datagrams_are_answered() {
    let (mut guest, address) = guest("127.0.0.1:0:53/udp", &[]);
    let client = udp_client(address);
    client.send(b"question").unwrap();
    let (from, to, payload) = heard(&mut guest);
    assert_eq!((to.to_string(), &payload[..]), ("192.0.0.2:53".into(), &b"question"[..]));
    says(&mut guest, (to, from), b"answer");
    hears(&client, b"answer");
}

#[test]
fn datagrams_get_to_a_server_at_any_loopback() {
    let places = ["192.0.0.2:53", "127.0.0.1:53", "[fd6d:7362::2]:53", "[::1]:53"];
    for (last, place) in places.iter().enumerate().skip(1) {
        let (mut guest, address) = guest("127.0.0.1:0:53/udp", &[]);
        let client = udp_client(address);
        client.send(b"question").unwrap();
        for wrong in &places[..last] {
            let (from, to, payload) = heard(&mut guest);
            assert_eq!((to.to_string().as_str(), &payload[..]), (*wrong, &b"question"[..]));
            nobody_there(&mut guest, (from, to));
        }
        let (from, to, payload) = heard(&mut guest);
        assert_eq!((to.to_string().as_str(), &payload[..]), (*place, &b"question"[..]));
        says(&mut guest, (to, from), b"answer");
        hears(&client, b"answer");
        // Where it was found, it is looked for first.
        for client in [client, udp_client(address)] {
            client.send(b"more").unwrap();
            assert_eq!(heard(&mut guest).1, to);
        }
    }
}

#[test]
fn datagrams_without_a_server_go_everywhere_once() {
    let (mut guest, address) = guest("127.0.0.1:0:53/udp", &[]);
    let client = udp_client(address);
    for question in [b"first", b"later"] {
        client.send(question).unwrap();
        for _ in 0..4 {
            let (from, to, payload) = heard(&mut guest);
            assert_eq!(payload, question);
            nobody_there(&mut guest, (from, to));
        }
    }
    // What says so without having been sent anything is not heard, nor is what comes from a loopback that was not called.
    let stranger = "192.0.0.1:9".parse().unwrap();
    nobody_there(&mut guest, (stranger, "127.0.0.1:53".parse().unwrap()));
    says(&mut guest, ("127.0.0.1:54".parse().unwrap(), stranger), b"forged");
    client.send(b"last").unwrap();
    assert_eq!(heard(&mut guest).2, b"last");
}

#[test]
fn who_holds_a_port_is_named() {
    let first = Listener::open(&"127.0.0.1:0:80".parse().unwrap()).unwrap();
    let port = first[0].address.port();
    let error = Listener::open(&format!("127.0.0.1:{port}:80").parse().unwrap()).unwrap_err();
    let PublishError::InUse { holder: Some(holder), .. } = &error else { panic!("{error:?}") };
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
}
