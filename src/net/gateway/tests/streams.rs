//! TCP connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use nix::sys::socket::{MsgFlags, send};
use smoltcp::socket::tcp::State;

use super::guest::Guest;
use crate::net::gateway::Event;
use crate::net::policy::Scope;

/// A server of the host that does this with its first client, and its address as a guest with scope `any` reaches it.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || serve(listener.accept().unwrap().0));
    (SocketAddr::from(([192, 0, 0, 1], port)), thread)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 / 7) as u8).collect()
}

#[test]
fn bytes_arrive_both_ways_and_halves_close() {
    let sent = pattern(5_000_000);
    let expected = sent.clone();
    let (address, thread) = server(move |mut client| {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert!(all == expected, "{} bytes", all.len());
        client.write_all(&all).unwrap();
    });
    let mut guest = Guest::new(Scope::Any);
    let handle = guest.connect(address).unwrap();
    let received = guest.exchange(handle, &sent);
    assert!(received == sent, "{} bytes", received.len());
    thread.join().unwrap();
}

#[test]
fn bytes_arrive_over_a_link_that_loses_and_reorders() {
    let sent = pattern(400_000);
    let (address, thread) = server(|mut client| {
        let mut all = vec![0; 400_000];
        client.read_exact(&mut all).unwrap();
        client.write_all(&all).unwrap();
    });
    let mut guest = Guest::new(Scope::Any);
    guest.spoil_link(1, 1500);
    let handle = guest.connect(address).unwrap();
    let received = guest.exchange(handle, &sent);
    assert!(received == sent);
    thread.join().unwrap();
}

/// Its words and its end are there before the gateway has looked at the connection once.
#[test]
fn a_server_that_speaks_and_closes_at_once_is_heard() {
    const CLIENTS: usize = 64;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = SocketAddr::from(([192, 0, 0, 1], listener.local_addr().unwrap().port()));
    let thread = thread::spawn(move || {
        for _ in 0..CLIENTS {
            listener.accept().unwrap().0.write_all(b"bye").unwrap();
        }
    });
    let mut guest = Guest::new(Scope::Any);
    let handles: Vec<_> = (0..CLIENTS).map(|_| guest.begin(address)).collect();
    guest.until(|guest| {
        let ended = |guest: &mut Guest, handle| {
            let socket = guest.get(handle);
            socket.recv_queue() == 3 && socket.state() == State::CloseWait
        };
        handles.iter().all(|handle| ended(guest, *handle)).then_some(())
    });
    thread.join().unwrap();
}

/// A read from the host's socket ends in front of what is urgent, although there is more.
#[test]
fn what_is_urgent_arrives_in_its_place_and_stops_nothing() {
    let (address, thread) = server(|mut client| {
        client.write_all(b"be").unwrap();
        send(client.as_raw_fd(), b"f", MsgFlags::MSG_OOB).unwrap();
        client.write_all(b"ore").unwrap();
        // It stays until all has arrived.
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    });
    let mut guest = Guest::new(Scope::Any);
    let handle = guest.connect(address).unwrap();
    guest.until(|guest| (guest.get(handle).recv_queue() == 6).then_some(()));
    let socket = guest.get(handle);
    assert!(socket.recv(|bytes| (bytes.len(), bytes == b"before")).unwrap());
    socket.close();
    let is_over = |state| matches!(state, State::FinWait2 | State::TimeWait | State::Closed);
    guest.until(|guest| is_over(guest.get(handle).state()).then_some(()));
    thread.join().unwrap();
}

#[test]
fn a_reader_that_waits_stops_the_writer() {
    let (is_stuck, stuck_bell) = std::sync::mpsc::channel();
    let (address, thread) = server(move |mut client| {
        client.set_nonblocking(true).unwrap();
        let (mut taken, mut stuck) = (0, 0);
        // Both kernels' buffers and the gateway's, which are all there is.
        while stuck < 50 {
            match client.write(&[7; 65_536]) {
                Ok(length) => (taken, stuck) = (taken + length, 0),
                Err(_) => {
                    thread::sleep(std::time::Duration::from_millis(2));
                    stuck += 1;
                }
            }
            assert!(taken < 64 << 20, "nobody reads, and {taken} bytes went");
        }
        is_stuck.send(()).unwrap();
        client.set_nonblocking(false).unwrap();
        client.write_all(b"end").unwrap();
    });
    let mut guest = Guest::new(Scope::Any);
    let handle = guest.connect(address).unwrap();
    guest.until(|_| stuck_bell.try_recv().ok());
    let mut last = Vec::new();
    guest.until(|guest| {
        let socket = guest.get(handle);
        while socket.can_recv() {
            socket
                .recv(|bytes| {
                    last.extend_from_slice(bytes);
                    let keep = last.len().saturating_sub(3);
                    last.drain(..keep);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        (!socket.may_recv()).then_some(())
    });
    assert_eq!(last, b"end");
    thread.join().unwrap();
}

#[test]
fn who_refuses_is_seen_to_refuse() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut guest = Guest::new(Scope::Any);
    assert_eq!(guest.connect(SocketAddr::from(([192, 0, 0, 1], port))), None);
    assert!(guest.events.lock().unwrap().is_empty());
}

#[test]
fn resets_are_passed_on() {
    // From the host.
    let (address, thread) = server(|mut client| {
        // One that resets before anybody has seen the connection refuses it.
        client.read_exact(&mut [0]).unwrap();
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    });
    let mut guest = Guest::new(Scope::Any);
    let handle = guest.connect(address).unwrap();
    guest.get(handle).send_slice(b"x").unwrap();
    guest.until(|guest| (guest.get(handle).state() == State::Closed).then_some(()));
    thread.join().unwrap();
    // From the guest.
    let (address, thread) = server(|mut client| {
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
    let handle = guest.connect(address).unwrap();
    guest.get(handle).abort();
    guest.until(|_| thread.is_finished().then_some(()));
    thread.join().unwrap();
}

#[test]
fn what_is_private_cannot_be_reached() {
    let (address, _thread) = server(drop);
    let mut guest = Guest::new(Scope::Public);
    for target in [address, "10.0.0.1:80".parse().unwrap(), "169.254.169.254:80".parse().unwrap()] {
        let before = guest.events.lock().unwrap().len();
        guest.begin(target);
        // The error quotes what it is about.
        guest.until(|guest| (guest.events.lock().unwrap().len() > before).then_some(()));
    }
    let events = guest.events.lock().unwrap();
    assert!(events.iter().all(|event| matches!(event, Event::Denied { .. })), "{events:?}");
}

#[test]
fn many_connections_live_side_by_side() {
    const COUNT: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = SocketAddr::from(([192, 0, 0, 1], listener.local_addr().unwrap().port()));
    let server = thread::spawn(move || {
        let mut clients: Vec<TcpStream> = (0..COUNT).map(|_| listener.accept().unwrap().0).collect();
        for client in &mut clients {
            let mut word = [0; 4];
            client.read_exact(&mut word).unwrap();
            client.write_all(&word).unwrap();
        }
    });
    let mut guest = Guest::new(Scope::Any);
    let handles: Vec<_> = (0..COUNT).map(|_| guest.connect(address).unwrap()).collect();
    for (number, handle) in handles.iter().enumerate() {
        guest.get(*handle).send_slice(&(number as u32).to_be_bytes()).unwrap();
    }
    guest.until(|guest| handles.iter().all(|handle| guest.get(*handle).recv_queue() == 4).then_some(()));
    for (number, handle) in handles.iter().enumerate() {
        let mut word = [0; 4];
        guest.get(*handle).recv_slice(&mut word).unwrap();
        assert_eq!(u32::from_be_bytes(word) as usize, number);
    }
    server.join().unwrap();
}
