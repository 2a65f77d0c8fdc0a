//! What a run costs, against the promises of docs/SPECIFICATION.md and, where it is given, a rival in the same run.
//!
//! Environment (`make bench` sets what it can):
//! `MSB_BENCH_IMAGE` an archive of a busybox image · `MSB_KERNEL` the kernel libkrun boots · `MSB_BENCH_QEMU_KERNEL` the one QEMU
//! boots · `MSB_BENCH_RIVAL` a command line that runs `true` in the rival's sandbox, for example
//! `MSB_HOME=… MSB_LIBKRUNFW_PATH=… rival/msb run ROOTFS -- /bin/true`.

#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]

#[allow(dead_code, reason = "each benchmark needs some of it")]
mod measure;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use measure::{median, ms, report, shell, time};

const RUNS: usize = 15;
/// `_IO(KVMIO, 0x80)` of linux/kvm.h.
const KVM_RUN: &str = "0xae80";

fn main() {
    let bench = Bench::new();
    bench.size();
    bench.version();
    bench.wall();
    bench.host_work();
    bench.resident();
    bench.emulated();
}

struct Bench {
    msb: PathBuf,
    home: tempfile::TempDir,
    rival: Option<String>,
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("temporary folder");
        let this = Self {
            msb: env!("CARGO_BIN_EXE_msb").into(),
            home,
            rival: std::env::var("MSB_BENCH_RIVAL").ok().filter(|line| !line.is_empty()),
        };
        let archive = std::env::var("MSB_BENCH_IMAGE").expect("MSB_BENCH_IMAGE names an image archive");
        let status = this.msb(&["-q", "load", "-i", &archive, "-t", "bench"]).stdout(Stdio::null()).status();
        assert!(status.expect("msb starts").success(), "the image loads");
        this
    }

    fn msb(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.msb);
        command.args(args).env("MSB_HOME", self.home.path()).stdin(Stdio::null());
        command
    }

    fn run_true(&self) -> Command {
        self.msb(&["-q", "exe", "bench", "--vmm", "krun", "--", "true"])
    }

    fn rival(&self) -> Option<Command> {
        let mut command = shell(self.rival.as_ref()?);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Some(command)
    }

    fn size(&self) {
        let bytes = fs::metadata(&self.msb).expect("binary").len();
        report("size of the binary", bytes as f64 / f64::from(1 << 20), "MiB", 30.0);
    }

    /// In turns with a program that does nothing: what starting a process costs here.
    fn version(&self) {
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            ours.push(time(self.msb(&["--version"]).stdout(Stdio::null())));
            floor.push(time(&mut Command::new("true")));
        }
        report("msb --version", median(ours), "ms", 3.0);
        println!("{:<58} {:>9.2} ms", "  of which starting a process that does nothing", median(floor));
    }

    /// Wall clock of the whole run, in turns with the rival.
    fn wall(&self) {
        if !works(&mut self.run_true()) {
            println!("libkrun does not run here: skipped (see msb doctor)");
            return;
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ours.push(time(&mut self.run_true()));
            theirs.extend(self.rival().map(|mut rival| time(&mut rival)));
        }
        let ours = median(ours);
        report("msx busybox -- true, libkrun, wall", ours, "ms", 100.0);
        if !theirs.is_empty() {
            let theirs = median(theirs);
            println!(
                "{:<58} {theirs:>9.2} ms   ours / theirs {:.2} (bar 0.50)",
                "  the rival's run of /bin/true, wall",
                ours / theirs
            );
        }
    }

    /// From before the exec of `msb` to the first `KVM_RUN`, seen by the host's kernel.
    fn host_work(&self) {
        let Some(tracer) = Tracer::new() else {
            println!("first KVM_RUN: skipped, tracefs is not available here");
            return;
        };
        let measure = |command: &mut dyn FnMut() -> Option<Command>| -> Option<f64> {
            let times: Option<Vec<f64>> = (0..RUNS).map(|_| tracer.first_kvm_run(&mut command()?)).collect();
            times.map(median)
        };
        let Some(ours) = measure(&mut || Some(self.run_true())) else {
            println!("first KVM_RUN: skipped, libkrun does not run here");
            return;
        };
        report("exec of msb to first KVM_RUN, image cached", ours, "ms", 10.0);
        if let Some(theirs) = measure(&mut || self.rival()) {
            println!("{:<58} {theirs:>9.2} ms   ours / theirs {:.2}", "  the rival, the same", ours / theirs);
        }
    }

    /// Resident memory of the caller and the VMM without the guest's own pages.
    fn resident(&self) {
        let mut command =
            self.msb(&["-q", "exe", "bench", "--vmm", "krun", "--", "sh", "-c", "echo up; sleep 3"]);
        let Ok(mut child) = command.stdout(Stdio::piped()).spawn() else { return };
        let mut up = [0; 3];
        let ready = child.stdout.as_mut().is_some_and(|out| std::io::Read::read_exact(out, &mut up).is_ok());
        if ready {
            let caller = resident_kib(child.id(), 0);
            let vmm: u64 = children(child.id()).into_iter().map(|pid| resident_kib(pid, 512 << 10)).sum();
            let mib = |kib: u64| kib as f64 / 1024.0;
            report("resident: caller + VMM without guest memory", mib(caller + vmm), "MiB", 12.0);
            println!("{:<58} {:>9.2} MiB caller, {:.2} MiB VMM", "", mib(caller), mib(vmm));
        } else {
            println!("resident memory: skipped, libkrun does not run here");
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    fn emulated(&self) {
        let Ok(kernel) = std::env::var("MSB_BENCH_QEMU_KERNEL") else {
            println!("software emulation: skipped, MSB_BENCH_QEMU_KERNEL is not set");
            return;
        };
        let (mut ready, mut output) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let mut command = self.msb(&["-q", "exe", "bench", "--vmm", "qemu", "--timings", "--", "echo"]);
            command.env("MSB_KERNEL", &kernel).env_remove("MSB_KVM_PROBE");
            let start = Instant::now();
            let mut child =
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("msb starts");
            let first = child.stdout.as_mut().expect("output").read_exact(&mut [0]);
            output.push(ms(start.elapsed()));
            let finished = child.wait_with_output().expect("msb ends");
            assert!(first.is_ok() && finished.status.success(), "QEMU runs here: {finished:?}");
            ready.push(until_ready(&String::from_utf8_lossy(&finished.stderr)));
        }
        report("QEMU in software: exec of msb to agent ready", median(ready), "ms", 2000.0);
        report("QEMU in software: exec of msb to first output", median(output), "ms", 2000.0);
    }
}

/// The sum of the phases up to the agent's in what `--timings` prints: `timings (ms): resolve 0.2, …, agent 6.4, exec 4.9, …`.
fn until_ready(timings: &str) -> f64 {
    let (_, phases) = timings.split_once("timings (ms): ").expect("timings");
    let mut sum = 0.0;
    for phase in phases.split(", ") {
        let (name, length) = phase.split_once(' ').expect("a phase and its length");
        sum += length.trim().parse::<f64>().expect("milliseconds");
        if name == "agent" {
            return sum;
        }
    }
    panic!("no agent phase in {timings}")
}

fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// `Rss` of all mappings in KiB, without those of at least `guest_kib` (the guest's memory).
fn resident_kib(pid: u32, guest_kib: u64) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let field = |line: &str, name: &str| -> Option<u64> {
        line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let (mut total, mut size) = (0, 0);
    for line in smaps.lines() {
        if let Some(kib) = field(line, "Size:") {
            size = kib;
        } else if let Some(kib) = field(line, "Rss:")
            && (guest_kib == 0 || size < guest_kib)
        {
            total += kib;
        }
    }
    total
}

/// A trace instance of its own that records calls of `ioctl(KVM_RUN)` with the monotonic clock.
struct Tracer(PathBuf);

impl Tracer {
    fn new() -> Option<Self> {
        let root = Path::new("/sys/kernel/tracing");
        let instance = root.join("instances").join(format!("msb-bench-{}", std::process::id()));
        fs::create_dir(&instance).ok()?;
        let this = Self(instance);
        this.write("trace_clock", "mono")?;
        this.write("events/syscalls/sys_enter_ioctl/filter", &format!("cmd == {KVM_RUN}"))?;
        this.write("events/syscalls/sys_enter_ioctl/enable", "1")?;
        Some(this)
    }

    fn write(&self, file: &str, value: &str) -> Option<()> {
        fs::write(self.0.join(file), value).ok()
    }

    fn first_kvm_run(&self, command: &mut Command) -> Option<f64> {
        self.write("trace", "")?;
        let start = monotonic();
        works(command).then_some(())?;
        let trace = fs::read_to_string(self.0.join("trace")).ok()?;
        // `TASK-PID [CPU] FLAGS SECONDS.MICROS: sys_ioctl(…)`
        let line = trace.lines().find(|line| !line.starts_with('#') && line.contains("ioctl"))?;
        let stamp = line.split_whitespace().find_map(|word| word.strip_suffix(':')?.parse::<f64>().ok())?;
        Some((stamp - start) * 1e3)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn monotonic() -> f64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("the clock exists");
    now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9
}
