//! What the gateway costs: a peer that speaks the frames of a virtual machine's link talks through it to servers on the host's
//! loopback, and through passt where it is installed; through slirp4netns only when asked, as its link may stand still under load.
//!
//! `make bench` runs it; `cargo bench --bench network -- msb passt` leaves others out. The last figures, `guest`, are of real guests.
//!
//! Environment: as benches/startup.rs, and `MSB_BENCH_IMAGES` the OCI layout with the image `clients`.

#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]

mod contestant;
mod guest;
mod line;
#[path = "../measure/mod.rs"]
#[allow(dead_code, reason = "each benchmark needs some of it")]
mod measure;
mod peer;
mod server;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use contestant::Contestant;
use measure::{median, resident_kib};
use peer::{Peer, State};
use server::Servers;

/// Bytes in one direction.
const BULK: u64 = 1 << 30;
const RUNS: usize = 7;
/// Connections made and closed, and how many of them at once.
const OPENED: usize = 3000;
const AT_ONCE: usize = 32;
const ROUND_TRIPS: usize = 5000;
/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that do nothing, at most.
const IDLE: usize = 10_000;
/// How long these may take to be made; each of them may take longer than the one before.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

fn main() {
    if std::env::args().nth(1).as_deref() == Some(contestant::GATEWAY) {
        return contestant::serve();
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |one: &str| match wanted.is_empty() {
        true => one != contestant::SLIRP,
        false => wanted.iter().any(|name| name == one),
    };
    compare(Contestant::all().into_iter().filter(|one| is_wanted(one.name)).collect());
    if is_wanted("guest") {
        guest::measure();
    }
}

/// Measures all of them in turns, and sets the first against its bars and the others.
fn compare(contestants: Vec<Contestant>) {
    let mut runs: Vec<Runs> = contestants.iter().map(|_| Runs::default()).collect();
    // In turns: what else this machine does meets all alike.
    for _ in 0..RUNS {
        for (contestant, runs) in contestants.iter().zip(&mut runs) {
            runs.run(contestant);
        }
    }
    let figures: Vec<Figures> =
        contestants.iter().zip(runs).map(|(contestant, runs)| runs.figures(contestant)).collect();
    let Some((ours, others)) = figures.split_first() else { return };
    println!(
        "{:<58} {:>9.2} bar    0.05  ratio {:.2}",
        "added to a round trip, ms",
        ours.added / 1e3,
        ours.added / 50.0
    );
    println!(
        "{:<58} {:>9.2} bar    8.00  ratio {:.2}",
        "KiB of memory per idle connection",
        ours.idle,
        ours.idle / 8.0
    );
    for other in others {
        let ratio = |of: fn(&Runs) -> &Vec<f64>| ratio(of(&ours.runs), of(&other.runs));
        println!(
            "as a multiple of {:<41} {:>9.2} x up, {:.2} x down, {:.2} x connections",
            other.name,
            ratio(|runs| &runs.up),
            ratio(|runs| &runs.down),
            ratio(|runs| &runs.opened)
        );
    }
}

/// Median of the ratios of what was measured in the same turn, as this machine may be twice as fast in one as in another.
fn ratio(ours: &[f64], others: &[f64]) -> f64 {
    median(ours.iter().zip(others).map(|(ours, other)| ours / other).collect())
}

/// What is known of one.
struct Figures {
    name: &'static str,
    runs: Runs,
    /// Microseconds added to a round trip.
    added: f64,
    /// KiB of memory per idle connection.
    idle: f64,
}

/// What was measured of one, run by run.
#[derive(Default)]
struct Runs {
    /// MiB/s.
    up: Vec<f64>,
    down: Vec<f64>,
    /// Seconds of processor time per GiB.
    up_cost: Vec<f64>,
    down_cost: Vec<f64>,
    /// Connections per second.
    opened: Vec<f64>,
    /// Microseconds added to a round trip.
    added: Vec<f64>,
}

impl Runs {
    fn run(&mut self, contestant: &Contestant) {
        let (running, servers) = (contestant.start(), Servers::start());
        let (rate, cost) = running.bulk(BULK, |peer| upload(peer, servers.sink, BULK));
        self.up.push(rate);
        self.up_cost.push(cost);
        let (rate, cost) = running.bulk(BULK, |peer| download(peer, servers.source, BULK));
        self.down.push(rate);
        self.down_cost.push(cost);
        let start = Instant::now();
        open_many(&mut running.peer(), servers.greeter);
        self.opened.push(OPENED as f64 / start.elapsed().as_secs_f64());
        let direct = direct_round_trip(&servers);
        self.added.push(round_trip(&mut running.peer(), servers.echo) - direct);
    }

    fn figures(self, contestant: &Contestant) -> Figures {
        let (name, servers) = (contestant.name, Servers::start());
        let idle = contestant.start().idle(|peer| hold(peer, servers.keeper));
        let [up, down, opened, added, up_cost, down_cost] =
            [&self.up, &self.down, &self.opened, &self.added, &self.up_cost, &self.down_cost]
                .map(|of| median(of.clone()));
        println!("{name}: from the guest {up:.0} MiB/s, {up_cost:.2} s of processor time per GiB");
        println!("{name}: to the guest {down:.0} MiB/s, {down_cost:.2} s of processor time per GiB");
        println!(
            "{name}: {opened:.0} connections/s, {added:.1} µs added to a round trip, {idle:.1} KiB per idle connection"
        );
        Figures { name, runs: self, added, idle }
    }
}

fn upload(peer: &mut Peer, port: u16, bytes: u64) {
    let connection = peer.connect(port);
    peer.send(connection, bytes);
    peer.reset(connection);
}

fn download(peer: &mut Peer, port: u16, bytes: u64) {
    let connection = peer.connect(port);
    while peer.get(connection).received < bytes {
        peer.wait();
    }
    peer.reset(connection);
}

/// Opens connections to a server that says a byte and closes, [`AT_ONCE`] of them at once.
fn open_many(peer: &mut Peer, port: u16) {
    let (mut begun, mut done) = (0, 0);
    let mut open: Vec<u16> = Vec::new();
    while done < OPENED {
        while begun < OPENED && open.len() < AT_ONCE {
            open.push(peer.begin(port));
            begun += 1;
        }
        peer.wait();
        open.retain(|connection| {
            let closed = peer.get(*connection).state == State::Closed;
            if closed {
                peer.close(*connection);
                done += 1;
            }
            !closed
        });
    }
}

/// Median in µs.
fn round_trip(peer: &mut Peer, port: u16) -> f64 {
    let connection = peer.connect(port);
    let trips = (1..=ROUND_TRIPS as u64).map(|number| {
        let start = Instant::now();
        peer.push(connection, &[1]);
        while peer.get(connection).received < number {
            peer.wait();
        }
        micros(start.elapsed())
    });
    let trips = trips.collect();
    peer.reset(connection);
    median(trips)
}

fn direct_round_trip(servers: &Servers) -> f64 {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, servers.echo)).expect("the server is there");
    stream.set_nodelay(true).expect("a TCP socket");
    let trips = (0..ROUND_TRIPS).map(|_| {
        let start = Instant::now();
        stream.write_all(&[1]).expect("written");
        stream.read_exact(&mut [0]).expect("read");
        micros(start.elapsed())
    });
    median(trips.collect())
}

/// Connections that say a byte each and are then quiet. How many there are in the end.
fn hold(peer: &mut Peer, port: u16) -> usize {
    let (mut held, begun) = (0, Instant::now());
    while held < IDLE && begun.elapsed() < IDLE_LIMIT {
        let connection = peer.begin(port);
        while peer.get(connection).state == State::Opening && peer.wait_for(PATIENCE) {}
        if peer.get(connection).state != State::Open {
            break;
        }
        peer.push(connection, &[1]);
        held += 1;
    }
    // Quiet for long enough that memory is given back.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        peer.wait_for(Duration::from_millis(100));
    }
    held
}

fn micros(length: Duration) -> f64 {
    length.as_secs_f64() * 1e6
}

/// KiB of memory per connection that `hold` has made.
fn per_connection(pid: u64, hold: impl FnOnce() -> usize) -> f64 {
    let before = resident_kib(pid);
    let held = hold();
    println!("  {held} connections are open");
    resident_kib(pid).saturating_sub(before) as f64 / held.max(1) as f64
}
