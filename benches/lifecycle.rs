//! What sandboxes in the background cost: listing a hundred, commands in a running one, a log of 1 GB, doing nothing, and twenty at once.
//!
//! Environment: as benches/startup.rs.

#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]

#[allow(dead_code, reason = "each benchmark needs some of it")]
mod measure;

use std::fs;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use measure::{Msb, median, ms, report, resident_kib};

const RUNS: usize = 20;
/// Sandboxes made, and how many of them run at once.
const MADE: usize = 100;
const RUNNING: usize = 20;
/// Commands in one sandbox.
const COMMANDS: usize = 2000;
/// Bytes of the log.
const LOG: u64 = 1_000_000_000;
/// How long a sandbox with nothing to do is watched.
const WATCHED: Duration = Duration::from_secs(10);

fn main() {
    let bench = Bench { msb: Msb::new() };
    for number in 0..MADE {
        bench.run(&["-q", "create", "--name", &name(number), "--memory", "64M", "--idle", "bench"]);
    }
    bench.list("none of them running");
    bench.run(&["-q", "start", &name(0)]);
    bench.commands();
    bench.many_commands();
    bench.idle();
    bench.log();
    bench.twenty();
}

fn name(number: usize) -> String {
    format!("box{number}")
}

struct Bench {
    msb: Msb,
}

impl Bench {
    fn run(&self, args: &[&str]) {
        self.msb.time(args);
    }

    /// The supervisor and the VMM.
    fn pids(&self, name: &str) -> [u64; 2] {
        let live = &self.msb.inspect(name)["live"];
        ["pid", "vmm_pid"].map(|key| live[key].as_u64().expect("a pid"))
    }

    fn list(&self, what: &str) {
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ours.push(self.msb.time(&["ls"]));
            floor.push(self.msb.time(&["--version"]));
        }
        report(&format!("msb ls of {MADE} sandboxes, {what}"), median(ours), "ms", 6.0);
        println!("{:<58} {:>9.2} ms", "  of which msb --version is", median(floor));
    }

    /// The guest's own time is that of the same command in a loop of its shell.
    fn commands(&self) {
        let script = "now() { cut -d' ' -f1 /proc/uptime; }; from=$(now); for i in $(seq 200); do /bin/true; done; echo $from $(now)";
        let output =
            self.msb.command(&["exec", &name(0), "--", "sh", "-c", script]).output().expect("msb starts");
        let text = String::from_utf8(output.stdout).expect("numbers");
        let times: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let guest = (times[1] - times[0]) * 1e3 / 200.0;
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..3 * RUNS {
            ours.push(self.msb.time(&["exec", &name(0), "--", "true"]));
            floor.push(self.msb.time(&["--version"]));
        }
        let (ours, floor) = (median(ours), median(floor));
        println!("{:<58} {guest:>9.2} ms", "starting `true` in the guest, by its own shell");
        println!("{:<58} {ours:>9.2} ms", "msb exec of `true`, wall");
        println!("{:<58} {floor:>9.2} ms", "  of which msb --version is");
        let before = self.pids(&name(0)).map(processor_time);
        for _ in 0..RUNS {
            self.run(&["exec", &name(0), "--", "true"]);
        }
        let after = self.pids(&name(0)).map(processor_time);
        let supervisor = (after[0] - before[0]) / RUNS as f64;
        report("processor time of the supervisor for one command", supervisor, "ms", 1.0);
    }

    fn many_commands(&self) {
        let pids = self.pids(&name(0));
        for _ in 0..50 {
            self.run(&["exec", &name(0), "--", "true"]);
        }
        let before = pids.map(holdings);
        let start = Instant::now();
        for _ in 0..COMMANDS {
            self.run(&["exec", &name(0), "--", "true"]);
        }
        let rate = COMMANDS as f64 / start.elapsed().as_secs_f64();
        let after = pids.map(holdings);
        println!("{COMMANDS} commands, {rate:.0} per second: descriptors, threads, KiB resident");
        for (who, (before, after)) in ["supervisor", "VMM"].iter().zip(before.iter().zip(&after)) {
            println!("  {who}: {before:?} before, {after:?} after");
        }
    }

    /// Nothing of ours may wake up; what is left are the ticks of the guest's own kernel, in the VMM.
    fn idle(&self) {
        let pids = self.pids(&name(0));
        std::thread::sleep(Duration::from_secs(3));
        let before = pids.map(switches);
        std::thread::sleep(WATCHED);
        let after = pids.map(switches);
        for (who, (before, after)) in ["supervisor", "VMM"].iter().zip(before.iter().zip(&after)) {
            let mut woken = Vec::new();
            for (thread, count) in after {
                let earlier = before.iter().find(|(other, _)| other == thread).map_or(0, |(_, count)| *count);
                if *count > earlier {
                    woken.push(format!("{thread} {}", count - earlier));
                }
            }
            println!("idle for {} s, wake-ups of the {who}: {woken:?}", WATCHED.as_secs());
        }
    }

    fn log(&self) {
        self.run(&["-q", "start", &name(1)]);
        self.run(&["-q", "stop", &name(1)]);
        let folder = self.msb.inspect(&name(1))["folder"].as_str().expect("a folder").to_owned();
        write_log(&Path::new(&folder).join("log"));
        for (what, arguments) in [
            ("from its start", &["logs", "box1"][..]),
            ("its last ten lines", &["logs", "-n", "10", "box1"][..]),
        ] {
            let first: Vec<f64> = (0..5).map(|_| self.first_byte(arguments)).collect();
            report(&format!("first byte of msb logs of 1 GB, {what}"), median(first), "ms", 20.0);
        }
        let start = Instant::now();
        self.run(&["logs", "box1"]);
        println!("{:<58} {:>9.0} MB/s", "  all of it", LOG as f64 / 1e6 / start.elapsed().as_secs_f64());
    }

    fn first_byte(&self, arguments: &[&str]) -> f64 {
        let start = Instant::now();
        let mut child = self
            .msb
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("msb starts");
        let mut byte = [0];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut byte).expect("a byte");
        let length = ms(start.elapsed());
        drop(child.kill());
        drop(child.wait());
        length
    }

    fn twenty(&self) {
        let names: Vec<String> = (1..RUNNING).map(name).collect();
        let start = Instant::now();
        let mut arguments = vec!["-q", "start"];
        arguments.extend(names.iter().map(String::as_str));
        self.run(&arguments);
        println!("{:<58} {:>9.0} ms", format!("msb start of {} at once", names.len()), ms(start.elapsed()));
        let resident: u64 =
            (0..RUNNING).flat_map(|number| self.pids(&name(number))).map(|pid| holdings(pid).2).sum();
        println!(
            "{:<58} {:>9.1} MiB",
            "resident memory of each, guest included",
            resident as f64 / 1024.0 / RUNNING as f64
        );
        self.list(&format!("{RUNNING} of them running"));
        let start = Instant::now();
        let mut arguments = vec!["-q", "stop", "box0"];
        arguments.extend(names.iter().map(String::as_str));
        self.run(&arguments);
        println!("{:<58} {:>9.0} ms", format!("msb stop of {RUNNING}"), ms(start.elapsed()));
    }
}

/// Lines of 100 bytes, as the supervisor writes them.
fn write_log(path: &Path) {
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(path).expect("a log"));
    let prefix = "2026-01-02T03:04:05.123456789Z stdout F ";
    let line = format!("{prefix}{}\n", "x".repeat(99 - prefix.len()));
    for _ in 0..LOG / line.len() as u64 {
        file.write_all(line.as_bytes()).expect("room for the log");
    }
    file.flush().expect("room for the log");
}

/// Milliseconds of processor time of all its threads.
fn processor_time(pid: u64) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process").flatten();
    let sum: f64 = threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum();
    sum / 1e6
}

/// Descriptors, threads, KiB of resident memory.
fn holdings(pid: u64) -> (usize, usize, u64) {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    (count("fd"), count("task"), resident_kib(pid))
}

/// How often each thread has gone to sleep of its own will.
fn switches(pid: u64) -> Vec<(String, u64)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process").flatten();
    let of = |folder: std::path::PathBuf| {
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let name = format!("{}/{}", field("Name:")?, folder.file_name()?.to_str()?);
        Some((name, field("voluntary_ctxt_switches:")?.parse().ok()?))
    };
    threads.filter_map(|thread| of(thread.path())).collect()
}
