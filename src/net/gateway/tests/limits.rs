//! How much may go through.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use super::frames::datagram;
use super::guest::{Guest, settings};
use crate::net::gateway::{Event, Limits, Rates};
use crate::net::policy::Scope;

fn limited(limits: Limits) -> Guest {
    let (mut settings, events) = settings(Scope::Any, Vec::new());
    settings.limits = limits;
    Guest::with((settings, events), &[])
}

fn limits(rates: Rates) -> Limits {
    Limits { rates, ..Limits::default() }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, SocketAddr::from(([192, 0, 0, 1], port)))
}

fn is_told(guest: &Guest, of: &str) -> bool {
    let events = guest.events.lock().unwrap();
    events.iter().any(|event| matches!(event, Event::Limit { what, .. } if *what == of))
}

#[test]
fn bytes_wait_for_their_turn_and_all_arrive() {
    const COUNT: usize = 400_000;
    const RATE: u64 = 1 << 20;
    let (listener, address) = listener();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut all = vec![0; COUNT];
        client.read_exact(&mut all).unwrap();
        assert!(all.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        client.write_all(&all).unwrap();
    });
    let mut guest = limited(limits(Rates { sent: Some(RATE), received: Some(RATE), begun: None }));
    let handle = guest.connect(address).unwrap();
    let sent: Vec<u8> = (0..COUNT).map(|at| at as u8).collect();
    let (mut written, mut received) = (0, Vec::new());
    let begun = Instant::now();
    guest.until(|guest| {
        let socket = guest.get(handle);
        written += socket.send_slice(&sent[written..]).unwrap();
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
        }
        (received.len() == COUNT).then_some(())
    });
    assert!(received == sent);
    // Less would be too fast; how much more it takes is up to the machine.
    let least = Duration::from_secs_f64((COUNT as f64 - (RATE / 8) as f64) / RATE as f64);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    assert!(is_told(&guest, "bandwidth"));
    server.join().unwrap();
}

#[test]
fn datagrams_beyond_the_limit_are_counted() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = SocketAddr::from(([192, 0, 0, 1], server.local_addr().unwrap().port()));
    let mut guest = limited(limits(Rates { sent: Some(1), ..Rates::default() }));
    for _ in 0..3 {
        guest.send_packet(&datagram("192.0.0.2:9", to, &[7; 10_000]));
    }
    guest.until(|guest| (guest.gateway.remote().traffic().limited == 1).then_some(()));
    for _ in 0..2 {
        assert_eq!(server.recv_from(&mut [0; 20_000]).unwrap().0, 10_000);
    }
    assert_eq!(guest.gateway.remote().traffic().sent_bytes, 20_000);
    assert!(is_told(&guest, "bandwidth"));
}

#[test]
fn only_so_many_connections_at_once() {
    let (_listener, address) = listener();
    let mut guest = limited(Limits { tcp: 1, ..Limits::default() });
    let first = guest.connect(address).unwrap();
    assert_eq!(guest.connect(address), None);
    assert!(is_told(&guest, "TCP connections"));
    guest.get(first).abort();
    guest.until(|guest| (guest.gateway.remote().traffic().open == 0).then_some(()));
    assert!(guest.connect(address).is_some());
}

#[test]
fn who_begins_too_many_waits() {
    let (_listener, address) = listener();
    let mut guest = limited(limits(Rates { begun: Some(2), ..Rates::default() }));
    // Each gets there in the end, some of them when they try again.
    let all: Vec<_> = (0..5).map(|_| guest.begin(address)).collect();
    guest.until(|guest| all.iter().all(|handle| guest.get(*handle).may_send()).then_some(()));
    assert!(is_told(&guest, "new connections per second"));
    assert!(guest.gateway.remote().traffic().limited >= 3);
}

#[test]
fn some_descriptors_are_left_to_the_supervisor() {
    let most = Limits::default();
    assert_eq!(most.within(1 << 20, 1), most);
    for (files, each) in [(20_000, 1), (20_000, 4), (1024, 1), (4096, 4), (8, 1)] {
        let fits = most.within(files, each);
        let taken = fits.tcp * each + 2 * fits.udp;
        assert!(fits.tcp > 0 && fits.udp > 0 && taken + (files / 4).min(1024) <= files, "{files}: {fits:?}");
    }
}
