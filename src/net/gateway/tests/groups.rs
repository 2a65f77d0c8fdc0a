//! Sandboxes of a group.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpProtocol, UdpPacket};

use super::guest::{Guest, settings};
use crate::net::gateway::link::Link;
use crate::net::gateway::packet::{self, Frame};
use crate::net::gateway::wire::Output;
use crate::net::gateway::{Event, Members};
use crate::net::group::{Candidate, Membership, Registry};
use crate::net::policy::{HostAddresses, Policy, Scope, Segment};
use crate::paths::Paths;

const WAIT: Duration = Duration::from_secs(60);

/// A place for groups.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A guest in a group, with the next address of its network.
    fn guest(&self, name: &str, group: (&str, &str), rules: &[&str]) -> (Guest, IpAddr) {
        let registry = Registry::new(&Paths::under(self.0.path()));
        let folder = self.0.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let wanted = Membership { subnet: Some(group.1.parse().unwrap()), ..Membership::of_user(group.0) };
        let seats = registry.join(Candidate { name, folder: Some(&folder) }, &[wanted]).unwrap();
        let (mut settings, events) = settings(Scope::Group, Vec::new());
        let segment = Segment { groups: vec![seats[0].subnet], ..settings.link.segment() };
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        settings.policy = Arc::new(Policy::new(Scope::Group, rules, segment, HostAddresses::default()));
        let (address, link) = (seats[0].address, settings.link);
        let roster = registry.roster(&seats);
        settings.members = Members::new(seats, roster);
        (Guest::with((settings, events), &[link.guest_v4.into(), address]), address)
    }

    fn two(&self) -> ((Guest, IpAddr), (Guest, IpAddr)) {
        (self.guest("a", NET, &[]), self.guest("b", NET, &[]))
    }
}

const NET: (&str, &str) = ("g", "10.77.0.0/24");

/// Keeps a guest's kernel at work until it is told to stop.
fn alive(mut guest: Guest) -> impl FnOnce() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || guest.until(|_| stopped.load(Ordering::Relaxed).then_some(())));
    move || {
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}

#[test]
fn members_talk_and_see_each_others_addresses() {
    let home = Home::new();
    let ((mut a, from), (mut b, to)) = home.two();
    let to = SocketAddr::new(to, 80);
    let has_arrived = Arc::new(AtomicBool::new(false));
    let arrived = Arc::clone(&has_arrived);
    let server = thread::spawn(move || {
        let handle = b.listen(to);
        let mut received = Vec::new();
        // Until the other half has ended; then everything goes back.
        b.until(|b| {
            let socket = b.get(handle);
            if socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
            }
            (socket.state() == State::CloseWait && !socket.can_recv()).then_some(())
        });
        assert_eq!(b.get(handle).remote_endpoint().unwrap().addr, from.into());
        let mut sent = 0;
        b.until(|b| {
            sent += b.get(handle).send_slice(&received[sent..]).unwrap();
            (sent == received.len()).then(|| b.get(handle).close())
        });
        // What is under way goes with the machine.
        b.until(|_| arrived.load(Ordering::Relaxed).then_some(()));
    });
    let sent: Vec<u8> = (0..1_000_000u32).map(|at| (at * 31 / 7) as u8).collect();
    let handle = a.connect(to).unwrap();
    let received = a.exchange(handle, &sent);
    assert!(received == sent, "{} bytes", received.len());
    has_arrived.store(true, Ordering::Relaxed);
    server.join().unwrap();
}

#[test]
fn who_refuses_is_seen_to_refuse() {
    let home = Home::new();
    let ((mut a, _), (b, to)) = home.two();
    let stop = alive(b);
    assert_eq!(a.connect(SocketAddr::new(to, 80)), None);
    assert!(a.events.lock().unwrap().is_empty());
    stop();
}

#[test]
fn resets_are_passed_on() {
    let home = Home::new();
    let ((mut a, _), (mut b, to)) = home.two();
    let to = SocketAddr::new(to, 80);
    let server = thread::spawn(move || {
        let (first, second) = (b.listen(to), b.listen(SocketAddr::new(to.ip(), 81)));
        b.until(|b| (b.get(first).state() == State::Established).then_some(()));
        b.get(first).abort();
        b.until(|b| (b.get(second).state() == State::Established).then_some(()));
        b.get(second).send_slice(b"hello").unwrap();
        b.until(|b| (b.get(second).state() == State::Closed).then_some(()));
    });
    let first = a.connect(to).unwrap();
    a.until(|a| (a.get(first).state() == State::Closed).then_some(()));
    let second = a.connect(SocketAddr::new(to.ip(), 81)).unwrap();
    a.until(|a| (a.get(second).recv_queue() == 5).then_some(()));
    a.get(second).abort();
    a.until(|_| server.is_finished().then_some(()));
    server.join().unwrap();
}

/// The kind and code of the error that comes back for a SYN.
fn error_of(guest: &mut Guest, to: SocketAddr) -> [u8; 2] {
    guest.begin(to);
    guest.until(|_| Some(()));
    let frame = guest.frame(WAIT).unwrap();
    let Some(Frame::Ip(answer)) = packet::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!(answer.protocol, IpProtocol::Icmp);
    [answer.payload[0], answer.payload[1]]
}

#[test]
fn who_is_not_there_cannot_be_reached() {
    let home = Home::new();
    let ((mut a, _), (b, to)) = home.two();
    let to = SocketAddr::new(to, 80);
    drop(b);
    assert_eq!(error_of(&mut a, to), [3, 1]);
    assert_eq!(error_of(&mut a, "10.77.0.99:80".parse().unwrap()), [3, 1]);
    // It is found again when it has come back.
    let (b, again) = home.guest("b", NET, &[]);
    assert_eq!(again, to.ip());
    let stop = alive(b);
    assert_eq!(a.connect(to), None);
    stop();
}

#[test]
fn the_called_ones_rules_decide_as_well() {
    let home = Home::new();
    let (mut a, _) = home.guest("a", NET, &[]);
    let (b, to) = home.guest("b", NET, &["deny from group:80"]);
    let events = Arc::clone(&b.events);
    let stop = alive(b);
    assert_eq!(error_of(&mut a, SocketAddr::new(to, 80)), [3, 13]);
    assert!(matches!(events.lock().unwrap()[..], [Event::Denied { .. }]));
    assert_eq!(a.connect(SocketAddr::new(to, 81)), None);
    stop();
}

#[test]
fn another_group_is_not_reached() {
    let home = Home::new();
    let (mut a, _) = home.guest("a", NET, &[]);
    let (mut b, to) = home.guest("b", ("h", "10.78.0.0/24"), &[]);
    let listening = b.listen(SocketAddr::new(to, 80));
    assert_eq!(error_of(&mut a, SocketAddr::new(to, 80)), [3, 13]);
    assert!(matches!(a.events.lock().unwrap()[..], [Event::Denied { .. }]));
    b.until(|_| Some(()));
    assert_eq!(b.get(listening).state(), State::Listen);
}

#[test]
fn a_call_of_somebody_else_is_not_heard() {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    let home = Home::new();
    let (b, _) = home.guest("b", NET, &[]);
    let stop = alive(b);
    let door = home.0.path().join("data/groups/1/10.77.0.2.stream");
    for noise in [&b"GET / HTTP/1.1\r\nHost: a-sandbox-of-the-group\r\n\r\n"[..], &[0; 44], &[255; 1000]] {
        let mut caller = UnixStream::connect(&door).unwrap();
        std::io::Write::write_all(&mut caller, noise).unwrap();
        caller.set_read_timeout(Some(WAIT)).unwrap();
        // An end or a reset; no answer.
        assert_eq!(caller.read(&mut [0]).unwrap_or(0), 0);
    }
    stop();
}

fn udp(from: IpAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut output = Output::new(&Link::default());
    packet::udp(&mut output, SocketAddr::new(from, 9), to, payload);
    output.waiting()[18..].to_vec()
}

#[test]
fn datagrams_go_both_ways_and_so_do_refusals() {
    let home = Home::new();
    let ((mut a, from), (mut b, to)) = home.two();
    let payload = vec![5; 65_507];
    a.send_packet(&udp(from, SocketAddr::new(to, 53), &payload));
    let frame = b.frame(WAIT).unwrap();
    let Some(Frame::Ip(question)) = packet::parse(&frame) else { panic!("{} bytes", frame.len()) };
    let message = UdpPacket::new_checked(question.payload).unwrap();
    assert_eq!((question.source, message.src_port(), message.dst_port()), (from, 9, 53));
    assert!(message.payload() == payload);
    let mut output = Output::new(&Link::default());
    packet::udp(&mut output, SocketAddr::new(to, 53), SocketAddr::new(from, 9), b"");
    b.send_packet(&output.waiting()[18..]);
    let frame = a.frame(WAIT).unwrap();
    let Some(Frame::Ip(answer)) = packet::parse(&frame) else { panic!("{frame:?}") };
    let message = UdpPacket::new_checked(answer.payload).unwrap();
    assert_eq!((answer.source, message.src_port(), message.payload()), (to, 53, &b""[..]));
    // Nobody listens there, says the other kernel.
    let mut output = Output::new(&Link::default());
    packet::icmp(
        &mut output,
        (to, from),
        (3, 3),
        |bytes| bytes[8..].copy_from_slice(&question.whole[..64]),
        64,
    );
    b.send_packet(&output.waiting()[18..]);
    let frame = a.frame(WAIT).unwrap();
    let Some(Frame::Ip(answer)) = packet::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!(answer.payload[..2], [3, 3]);
    assert_eq!(packet::quoted_udp(&answer.payload[8..]).unwrap().1, SocketAddr::new(to, 53));
    // Gone for good.
    drop(b);
    a.send_packet(&udp(from, SocketAddr::new(to, 54), b"x"));
    let frame = a.frame(WAIT).unwrap();
    let Some(Frame::Ip(answer)) = packet::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!(answer.payload[..2], [3, 1]);
}

/// As one of the group by the form in which programs write IPv4 addresses, the host would be asked to reach who has it there.
#[test]
fn a_members_address_in_ipv6_form_is_refused() {
    let ((mut a, _), (_b, to)) = Home::new().two();
    let IpAddr::V4(to) = to else { panic!("{to} is of IPv4") };
    let mapped = SocketAddr::new(to.to_ipv6_mapped().into(), 53);
    a.send_packet(&udp(Link::default().guest_v6.into(), mapped, b"x"));
    let frame = a.frame(WAIT).unwrap();
    let Some(Frame::Ip(answer)) = packet::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!(answer.payload[..2], [1, 1]);
}

#[test]
fn members_answer_pings_and_questions_for_their_hardware_address() {
    let home = Home::new();
    let ((mut a, from), (_b, to)) = home.two();
    let mut output = Output::new(&Link::default());
    packet::icmp(
        &mut output,
        (from, to),
        (8, 0),
        |bytes| bytes[4..].copy_from_slice(b"\x00\x07\x00\x01payload!"),
        8,
    );
    a.send_packet(&output.waiting()[18..]);
    let frame = a.frame(WAIT).unwrap();
    let Some(Frame::Ip(answer)) = packet::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!((answer.source, answer.destination), (to, from));
    assert_eq!((&answer.payload[..2], &answer.payload[4..]), (&[0, 0][..], &b"\x00\x07\x00\x01payload!"[..]));
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { panic!() };
    let mac = a.link.guest_mac;
    let ask = |target: [u8; 4]| {
        let header = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac].concat();
        [&header[..], &from.octets(), &[0; 6], &target].concat()
    };
    // Its own is nobody else's.
    a.send_frame(&ask(from.octets()));
    a.send_frame(&ask(to.octets()));
    let answer = a.frame(WAIT).unwrap();
    assert_eq!((&answer[22..28], &answer[28..32]), (&a.link.gateway_mac[..], &to.octets()[..]));
}
