//! Reading from a shared folder against reading from the sandbox's own disk, in one machine.
//!
//! Environment: as benches/startup.rs. The files are the same on both sides; the guest's caches are dropped before every reading.

#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]

#[allow(dead_code, reason = "each benchmark needs some of it")]
mod measure;

use std::fs;
use std::process::{Command, Stdio};

use measure::median;

/// Bytes of the large file.
const LARGE: usize = 256 << 20;
/// Number of the small files, 4 KiB each.
const SMALL: usize = 2000;
/// Each is read so many times.
const RUNS: usize = 5;

fn main() {
    for (vmm, kernel) in [("krun", "MSB_KERNEL"), ("qemu", "MSB_BENCH_QEMU_KERNEL")] {
        let Ok(kernel) = std::env::var(kernel) else { continue };
        match readings(vmm, &kernel) {
            Some(text) => print_readings(vmm, &text),
            None => println!("{vmm} does not run here: skipped (see msb doctor)"),
        }
    }
}

/// Lines of `what place seconds`, as the guest measured them.
fn readings(vmm: &str, kernel: &str) -> Option<String> {
    let archive = std::env::var("MSB_BENCH_IMAGE").expect("MSB_BENCH_IMAGE names an image archive");
    let home = tempfile::tempdir().expect("temporary folder");
    let share = tempfile::tempdir().expect("temporary folder");
    fs::write(share.path().join("large"), vec![b'x'; LARGE]).expect("the large file");
    fs::create_dir(share.path().join("small")).expect("a folder");
    for number in 0..SMALL {
        fs::write(share.path().join(format!("small/{number}")), [b'x'; 4096]).expect("a small file");
    }
    let msb = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msb"));
        command.args(args).env("MSB_HOME", home.path()).env("MSB_KERNEL", kernel).stdin(Stdio::null());
        if vmm == "qemu" {
            command.env_remove("MSB_KVM_PROBE");
        }
        command.stderr(Stdio::inherit());
        command
    };
    let loaded = msb(&["-q", "load", "-i", &archive, "-t", "bench"]).stdout(Stdio::null()).status();
    assert!(loaded.expect("msb starts").success(), "the image loads");
    let script = format!(
        "cp -r /share /disk; sync
         now() {{ cut -d' ' -f1 /proc/uptime; }}
         for run in $(seq {RUNS}); do for place in /share /disk; do
             echo 3 > /proc/sys/vm/drop_caches; from=$(now); dd if=$place/large of=/dev/null bs=1M 2>/dev/null
             echo large $place $from $(now)
             echo 3 > /proc/sys/vm/drop_caches; from=$(now); cat $place/small/* > /dev/null
             echo small $place $from $(now)
             from=$(now); for i in 1 2 3 4 5; do ls -l $place/small > /dev/null; done
             echo list $place $from $(now)
         done; done"
    );
    let volume = format!("{}:/share:ro", share.path().display());
    let arguments =
        ["-q", "exe", "bench", "--vmm", vmm, "--memory", "1G", "-v", &volume, "--", "sh", "-c", &script];
    let output = msb(&arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn print_readings(vmm: &str, text: &str) {
    let seconds = |what: &str, place: &str| {
        let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mine = lines.filter(|words| words[..2] == [what, place]);
        let length = |words: Vec<&str>| -> f64 {
            let time = |word: &str| word.parse::<f64>().expect("a number of seconds");
            time(words[3]) - time(words[2])
        };
        median(mine.map(length).collect())
    };
    for (what, amount, unit) in [
        ("large", (LARGE >> 20) as f64, "MiB/s, one large file"),
        ("small", SMALL as f64, "files/s, small ones"),
        ("list", 5.0 * SMALL as f64, "files/s, listed with sizes"),
    ] {
        let rate = |place| amount / seconds(what, place).max(0.01);
        let (share, disk) = (rate("/share"), rate("/disk"));
        println!("{vmm}: {share:>9.0} shared {disk:>9.0} disk {:>5.2} x   {unit}", share / disk);
    }
}
