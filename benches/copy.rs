//! Copying 1 GiB out of and into a running sandbox, beside what a pipe through `msb exec` carries, and what memory the VMM holds
//! before a guest's process has used 500 MiB, and after.
//!
//! Environment: as benches/startup.rs. Files are in memory on both sides, so that no disk is measured.

#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]

#[allow(dead_code, reason = "each benchmark needs some of it")]
mod measure;

use std::fs;
use std::time::Duration;

use measure::{Msb, median, report, resident_kib};

const SIZE_MIB: u64 = 1024;
const RUNS: usize = 3;

fn main() {
    let memory = tempfile::tempdir_in("/dev/shm").expect("folder in memory");
    let bench = Bench { msb: Msb::new() };
    bench.msb.time(&["-q", "create", "--name", "box", "--memory", "1700M", "--cpus", "2", "--idle", "bench"]);
    bench.msb.time(&["-q", "start", "box"]);
    bench.guest("mount -o remount,size=90% /dev/shm && dd if=/dev/zero of=/dev/shm/file bs=1M count=1024");
    let copy = memory.path().join("file");
    let copy = copy.to_str().expect("UTF-8");
    let (mut cat, mut out, mut into) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        cat.push(rate(bench.guest("cat /dev/shm/file")));
        out.push(rate(bench.msb.time(&["-q", "cp", "box:/dev/shm/file", copy])));
        bench.guest("rm /dev/shm/file");
        into.push(rate(bench.msb.time(&["-q", "cp", copy, "box:/dev/shm/file"])));
        fs::remove_file(copy).expect("removed");
    }
    println!("{:<58} {:>9.0} MiB/s", "cat of 1 GiB through msb exec", median(cat));
    report("msb cp of 1 GiB out of the sandbox", median(out), "MiB/s", 600.0);
    report("msb cp of 1 GiB into the sandbox", median(into), "MiB/s", 600.0);
    bench.freed();
    bench.msb.time(&["-q", "stop", "box"]);
}

fn rate(milliseconds: f64) -> f64 {
    SIZE_MIB as f64 / milliseconds * 1e3
}

struct Bench {
    msb: Msb,
}

impl Bench {
    fn guest(&self, script: &str) -> f64 {
        self.msb.time(&["exec", "box", "--", "sh", "-c", &format!("{script} 2>/dev/null")])
    }

    /// Memory that comes back to the host.
    fn freed(&self) {
        self.guest("rm /dev/shm/file");
        let settled = self.settle();
        self.guest("dd if=/dev/zero of=/dev/shm/used bs=1M count=500");
        let used = self.resident_mib();
        self.guest("rm /dev/shm/used");
        let freed = self.settle();
        println!(
            "memory of the VMM: {settled} MiB, with 500 MiB used {used} MiB, after they were freed {freed} MiB"
        );
    }

    /// Free pages are reported two seconds after they were freed, and then piece by piece.
    fn settle(&self) -> u64 {
        let mut last = self.resident_mib();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_secs(3));
            let now = self.resident_mib();
            if now >= last {
                return now;
            }
            last = now;
        }
        last
    }

    fn resident_mib(&self) -> u64 {
        resident_kib(self.msb.inspect("box")["live"]["vmm_pid"].as_u64().expect("a VMM")) / 1024
    }
}
