//! What all benchmarks do alike: medians, and a line per figure with its bar.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn report(what: &str, value: f64, unit: &str, bar: f64) {
    println!("{what:<58} {value:>9.2} {unit:<3}  bar {bar:>7.2}  ratio {:.2}", value / bar);
}

pub(crate) fn ms(length: Duration) -> f64 {
    length.as_secs_f64() * 1e3
}

/// Wall clock in ms of a command that must succeed.
pub(crate) fn time(command: &mut Command) -> f64 {
    let start = Instant::now();
    let status = command.status().expect("the program starts");
    let length = ms(start.elapsed());
    assert!(status.success(), "{command:?} failed");
    length
}

/// A command line for `sh`, in the place of which it runs.
pub(crate) fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec env {line}")).stdin(std::process::Stdio::null());
    command
}

/// An msb with a home of its own and the image `bench`, on libkrun.
pub(crate) struct Msb {
    home: tempfile::TempDir,
}

impl Msb {
    pub(crate) fn new() -> Self {
        Self::of(&std::env::var("MSB_BENCH_IMAGE").expect("MSB_BENCH_IMAGE names an image archive"))
    }

    /// The same with the image that skopeo calls `from`.
    pub(crate) fn with(from: &str) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let archive = folder.path().join("image.tar").into_os_string().into_string().expect("UTF-8");
        time(Command::new("skopeo").args(["copy", "--quiet", from, &format!("oci-archive:{archive}")]));
        Self::of(&archive)
    }

    fn of(archive: &str) -> Self {
        let this = Self { home: tempfile::tempdir().expect("temporary folder") };
        this.time(&["-q", "load", "-i", archive, "-t", "bench"]);
        this
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msb"));
        command.args(args).env("MSB_HOME", self.home.path()).env("MSB_VMM", "krun").stdin(Stdio::null());
        command
    }

    /// Wall clock in ms of a command that must succeed; what it prints goes nowhere.
    pub(crate) fn time(&self, args: &[&str]) -> f64 {
        time(self.command(args).stdout(Stdio::null()))
    }

    /// What `msb inspect` says of a sandbox.
    pub(crate) fn inspect(&self, name: &str) -> serde_json::Value {
        let output = self.command(&["inspect", name]).output().expect("msb starts");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")[0].take()
    }
}

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(pid: u64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
