//! Other processes, seen through `/proc`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process, told from a later one with the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    started: u64,
}

impl Process {
    /// The process with this number, if there is one that is no zombie.
    #[must_use]
    pub fn find(pid: i32) -> Option<Self> {
        let (state, _, started) = stat(pid)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, started })
    }

    /// Whether it still runs (a zombie does not).
    #[must_use]
    pub fn alive(&self) -> bool {
        Self::find(self.pid) == Some(*self)
    }

    /// Sends a signal; a process that is gone is no error.
    pub fn signal(&self, signal: Signal) {
        if self.alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Its command line, arguments separated by spaces.
    #[must_use]
    pub fn command_line(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
    }

    /// Whether it is a VMM: our own jailed child, or QEMU.
    #[must_use]
    pub fn is_vmm(&self) -> bool {
        let line = self.command_line();
        line.contains("__vmm")
            || line.split(' ').next().is_some_and(|program| program.contains("qemu-system"))
    }

    /// Its resident memory in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
    }

    /// Everything it started that still runs, directly or through others.
    #[must_use]
    pub fn descendants(&self) -> Vec<Self> {
        let all: Vec<(i32, i32)> =
            pids().filter_map(|pid| stat(pid).map(|(_, parent, _)| (pid, parent))).collect();
        let mut family = vec![self.pid];
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            family.extend(all.iter().filter(|(_, its_parent)| *its_parent == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        family.iter().skip(1).filter_map(|&pid| Self::find(pid)).collect()
    }

    /// Every process that was started with this `MSB_HOME`, or that names the folder on its command line.
    #[must_use]
    pub fn of_home(home: &Path) -> Vec<Self> {
        let home = home.to_str().unwrap().as_bytes();
        let mentions = |file: String| fs::read(file).is_ok_and(|bytes| contains(&bytes, home));
        pids()
            .filter(|&pid| pid != std::process::id().cast_signed())
            .filter(|pid| {
                mentions(format!("/proc/{pid}/environ")) || mentions(format!("/proc/{pid}/cmdline"))
            })
            .filter_map(Self::find)
            .collect()
    }
}

/// Polls until `done`, or panics with `what` after `limit`.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// For `pre_exec`: the kernel kills the new process when the thread that starts it ends, however it ends.
pub(crate) fn die_with_parent() -> std::io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

/// The TCP port on which a process listens.
pub(crate) fn listening_port(pid: u32) -> Option<u16> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables =
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = *fields.get(3)? == "0A" && sockets.iter().any(|inode| inode == fields[9]);
        let (_, port) = fields[1].rsplit_once(':')?;
        listens.then(|| u16::from_str_radix(port, 16).ok())?
    })
}

/// State, parent and start time of a process.
fn stat(pid: i32) -> Option<(char, i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in parentheses, may itself hold anything.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
