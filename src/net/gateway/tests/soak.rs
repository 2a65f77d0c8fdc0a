//! Many connections at once over a link that loses, reorders and repeats, which end in every way there is. `MSB_SOAK_SECONDS=600` goes on
//! for so long with other seeds, and `MSB_SOAK_SEED` begins with another one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::guest::{Guest, settings};
use crate::net::policy::Scope;
use crate::net::port::Listener;

/// Sizes of packets from the smallest there may be to the largest.
const SIZES: [usize; 5] = [576, 1280, 1500, 9000, 65_535];
/// Connections at once.
const CONNECTIONS: u64 = 12;
/// Far longer than lost packets hold anything up.
const LIMIT: Duration = Duration::from_secs(120);

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The guest has said everything first, and hears the rest.
    GuestFirst,
    /// The host has.
    HostFirst,
    /// The guest breaks off while the host talks.
    GuestBreaks,
    /// The host breaks off while the guest talks.
    HostBreaks,
}

/// What happens on a connection.
#[derive(Debug, Clone, Copy)]
struct Plan {
    seed: u64,
    /// Bytes from the guest, or after how many the host breaks off.
    up: usize,
    /// Bytes from the host, or after how many the guest breaks off.
    down: usize,
    ending: Ending,
    /// Who calls: the guest or, by a published port, the host.
    by_host: bool,
}

/// Sebastiano Vigna's splitmix64.
fn mix(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Plan {
    fn new(seed: u64) -> Self {
        let length = |which: u64| {
            (mix(seed ^ which) % [3, 2000, 60_000][(mix(seed ^ which) >> 60) as usize % 3]) as usize
        };
        let endings = [Ending::GuestFirst, Ending::HostFirst, Ending::GuestBreaks, Ending::HostBreaks];
        let ending = endings[mix(seed ^ 3) as usize % 4];
        // Who breaks off has heard something, so that there is a connection to break.
        let up = length(1).max(usize::from(ending == Ending::HostBreaks));
        Self { seed, up, down: length(2), ending, by_host: mix(seed ^ 4).is_multiple_of(2) }
    }

    /// The bytes from `at` on that one side says.
    fn words(&self, is_host: bool, at: usize, length: usize) -> Vec<u8> {
        let voice = mix(self.seed ^ if is_host { 5 } else { 6 });
        (at..at + length).map(|at| (mix(voice ^ (at as u64 / 8)) >> (at % 8 * 8)) as u8).collect()
    }

    fn check(&self, is_host: bool, at: usize, heard: &[u8]) {
        assert!(heard == self.words(is_host, at, heard.len()), "{self:?}: other bytes from {at} on");
    }

    /// The host's side.
    fn host(self, mut socket: TcpStream) {
        match self.ending {
            Ending::GuestBreaks => self.talk_until_broken(&mut socket),
            Ending::HostBreaks => {
                self.hear(&mut socket, self.up);
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&socket, sockopt::Linger, &linger).unwrap();
            }
            Ending::GuestFirst | Ending::HostFirst => {
                let mut writer = socket.try_clone().unwrap();
                let talking = thread::spawn(move || {
                    for at in (0..self.down).step_by(7000) {
                        writer.write_all(&self.words(true, at, 7000.min(self.down - at))).unwrap();
                    }
                    if self.ending == Ending::HostFirst {
                        writer.shutdown(Shutdown::Write).unwrap();
                    }
                });
                assert_eq!(self.hear(&mut socket, usize::MAX), self.up, "{self:?}: the end comes early");
                talking.join().unwrap();
            }
        }
    }

    /// Hears the guest until so much has come or it has ended.
    fn hear(&self, socket: &mut TcpStream, most: usize) -> usize {
        let (mut heard, mut piece) = (0, vec![0; 5000]);
        while heard < most {
            let room = piece.len().min(most - heard);
            let length = socket.read(&mut piece[..room]).unwrap();
            if length == 0 {
                break;
            }
            self.check(false, heard, &piece[..length]);
            heard += length;
        }
        heard
    }

    fn talk_until_broken(&self, socket: &mut TcpStream) {
        let mut said = 0;
        loop {
            match socket.write(&self.words(true, said, 7000)) {
                Ok(length) => said += length,
                Err(error) => {
                    let is_reset = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
                    assert!(is_reset, "{self:?}: {error}");
                    return assert!(said >= self.down, "{self:?}: it breaks off early");
                }
            }
        }
    }
}

/// The guest's side of a connection.
struct Talk {
    plan: Plan,
    handle: SocketHandle,
    host: JoinHandle<()>,
    said: usize,
    heard: usize,
    is_over: bool,
}

impl Talk {
    /// Does what can be done now. `true` once it is over.
    fn go_on(&mut self, guest: &mut Guest) -> bool {
        let Self { plan, said, heard, is_over, .. } = self;
        let socket = guest.get(self.handle);
        let breaks = plan.ending == Ending::HostBreaks;
        if *is_over {
            return true;
        }
        if socket.can_send() && (breaks || *said < plan.up) {
            let length = if breaks { 5000 } else { 5000.min(plan.up - *said) };
            *said += socket.send_slice(&plan.words(false, *said, length)).unwrap();
        }
        while socket.can_recv() {
            let length =
                socket.recv(|bytes| (bytes.len(), (plan.check(true, *heard, bytes), bytes.len()).1)).unwrap();
            *heard += length;
        }
        let begins = matches!(socket.state(), State::Listen | State::SynSent | State::SynReceived);
        let has_ended = !socket.may_recv() && !begins;
        *is_over = match plan.ending {
            Ending::GuestBreaks if *heard >= plan.down && socket.may_send() => {
                socket.abort();
                true
            }
            Ending::GuestBreaks => false,
            Ending::HostBreaks => socket.state() == State::Closed,
            Ending::GuestFirst | Ending::HostFirst => {
                let is_turn = plan.ending == Ending::GuestFirst || has_ended;
                if *said == plan.up && is_turn && socket.may_send() {
                    socket.close();
                }
                has_ended && *said == plan.up && !socket.may_send()
            }
        };
        if *is_over && matches!(plan.ending, Ending::GuestFirst | Ending::HostFirst) {
            assert_eq!(*heard, plan.down, "{plan:?}: the end comes early");
        }
        *is_over
    }
}

/// Connections with these seeds, over a link for packets of this size.
fn round(seed: u64, size: usize) {
    let plans: Vec<Plan> = (0..CONNECTIONS).map(|number| Plan::new(mix(seed) ^ number << 8)).collect();
    let listeners: Vec<Vec<Listener>> = (0..plans.len())
        .map(|number| Listener::open(&format!("127.0.0.1:0:{}", 5000 + number).parse().unwrap()).unwrap())
        .collect();
    let published: Vec<SocketAddr> = listeners.iter().map(|listeners| listeners[0].address).collect();
    let mut guest = Guest::with(settings(Scope::Any, listeners.into_iter().flatten().collect()), &[]);
    guest.spoil_link(mix(seed ^ 7) as u32, size);
    let mut talks = Vec::new();
    for (number, plan) in plans.into_iter().enumerate() {
        let (handle, host) = if plan.by_host {
            let handle = guest.listen(SocketAddr::from(([192, 0, 0, 2], 5000 + number as u16)));
            let published = published[number];
            (handle, thread::spawn(move || plan.host(TcpStream::connect(published).unwrap())))
        } else {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let host = thread::spawn(move || plan.host(listener.accept().unwrap().0));
            (guest.begin(SocketAddr::from(([192, 0, 0, 1], port))), host)
        };
        talks.push(Talk { plan, handle, host, said: 0, heard: 0, is_over: false });
    }
    let begun = Instant::now();
    guest.until_within(2 * LIMIT, |guest| {
        let mut open = Vec::new();
        for talk in &mut talks {
            if !talk.go_on(guest) || !talk.host.is_finished() {
                open.push((talk.plan, talk.said, talk.heard, guest.get(talk.handle).state()));
            }
        }
        assert!(begun.elapsed() < LIMIT, "over packets of {size} bytes these stand still: {open:?}");
        open.is_empty().then_some(())
    });
    for talk in talks {
        talk.host.join().unwrap();
    }
}

#[test]
fn whatever_the_link_does_every_byte_arrives_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, seconds) = (number("MSB_SOAK_SEED").unwrap_or(1), number("MSB_SOAK_SECONDS").unwrap_or(0));
    let begun = Instant::now();
    for seed in first.. {
        // Shown when it fails.
        #[allow(clippy::print_stdout)]
        {
            println!("seed {seed}");
        }
        let sizes = if seconds == 0 { &SIZES[..] } else { &SIZES[seed as usize % SIZES.len()..][..1] };
        for (number, size) in sizes.iter().enumerate() {
            round(mix(seed) ^ number as u64, *size);
        }
        if begun.elapsed().as_secs() >= seconds {
            break;
        }
    }
}
