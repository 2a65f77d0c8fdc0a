//! Exit codes and the three streams are those of the guest's command.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use msb_test_support::Vm;
use nix::sys::signal::Signal;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: exit_codes, ends_by_signal, not_found, not_executable, streams_are_apart, bytes_pass_unchanged);
    tests!(suite, vm: input_ends, empty_input, input_not_read, closed_output, slow_reader, background_process_does_not_hold);
    tests!(suite, vm: cat_is_identical, terminate_reaches_the_command);
}

fn exit_codes(vm: &Vm) {
    for code in [0, 1, 42, 125, 255] {
        vm.sh(&format!("exit {code}")).run().code(code).stdout_is("");
    }
}

fn ends_by_signal(vm: &Vm) {
    vm.sh("kill -9 $$").run().code(128 + 9).stdout_is("");
    vm.sh("kill -15 $$").run().code(128 + 15).stdout_is("");
}

fn not_found(vm: &Vm) {
    vm.msx("busybox", ["no-such-program"]).run().code(127).stdout_is("").stderr_has("no-such-program");
    vm.msx("busybox", ["/no/such/program"]).run().code(127).stdout_is("").stderr_has("/no/such/program");
}

fn not_executable(vm: &Vm) {
    vm.msx("busybox", ["/etc/passwd"]).run().code(126).stdout_is("").stderr_has("/etc/passwd");
    vm.msx("busybox", ["/etc"]).run().code(126).stdout_is("").stderr_has("/etc");
}

fn streams_are_apart(vm: &Vm) {
    let finished = vm.sh("echo out; echo err >&2; echo out2").run().success().stdout_is("out\nout2\n");
    assert!(finished.err().ends_with("err\n"), "{finished}");
}

fn bytes_pass_unchanged(vm: &Vm) {
    let every_byte: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    vm.msx("busybox", ["cat"]).stdin(every_byte.clone()).run().success().stdout_is(&every_byte);
    let finished = vm.sh("cat >&2").stdin(every_byte.clone()).run().success().stdout_is("");
    assert!(finished.stderr.ends_with(&every_byte), "stderr differs");
}

fn input_ends(vm: &Vm) {
    vm.sh("wc -c").stdin(vec![b'x'; 300_000]).run().success().stdout_is("300000\n");
}

fn empty_input(vm: &Vm) {
    vm.msx("busybox", ["cat"]).run().success().stdout_is("");
}

/// The caller goes on writing to a command that has ended without reading.
fn input_not_read(vm: &Vm) {
    vm.sh("echo done").stdin(vec![b'x'; 4 << 20]).run().success().stdout_is("done\n");
}

/// `msx … yes | head -1` ends at once and says nothing.
fn closed_output(vm: &Vm) {
    let mut running = vm.msx("busybox", ["yes"]).spawn();
    running.expect("y\n");
    drop(running.stdout());
    let status = running.wait(vm.hypervisor.limit());
    assert!(!status.success(), "{status}");
    let errors = running.errors();
    assert!(!errors.contains("error:"), "{errors}");
}

/// A reader that takes nothing from stdout stops neither stderr nor the machine's control messages.
fn slow_reader(vm: &Vm) {
    let script = "(yes | head -c 8000000) & sleep 1; echo still here >&2; wait";
    let mut running = vm.sh(script).spawn();
    let mut errors = running.stderr().unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("still here") {
        let mut chunk = [0; 512];
        let count = errors.read(&mut chunk).unwrap();
        assert!(count > 0, "stderr ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..count]);
    }
    let mut output = running.stdout().unwrap();
    let reader = thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()).unwrap());
    assert!(running.wait(vm.hypervisor.limit()).success());
    assert_eq!(reader.join().unwrap(), 8_000_000);
}

/// The run ends with its command, although something it started still holds the output.
fn background_process_does_not_hold(vm: &Vm) {
    let finished = vm.sh("sleep 1000 & echo started").run().success().stdout_is("started\n");
    assert!(finished.elapsed < Duration::from_secs(if vm.emulated() { 20 } else { 8 }), "{finished}");
}

/// As much as 1 GB of noise goes in and comes back bit for bit, in bounded memory.
fn cat_is_identical(vm: &Vm) {
    let megabytes: usize = if vm.emulated() { 24 } else { 1000 };
    let mut running = vm.msx("busybox", ["cat"]).limit(Duration::from_secs(300)).spawn();
    let (mut input, mut output) = (running.stdin().unwrap(), running.stdout().unwrap());
    let writer = thread::spawn(move || {
        let mut noise = Noise(1);
        for _ in 0..megabytes {
            input.write_all(&noise.megabyte()).unwrap();
        }
    });
    let mut noise = Noise(1);
    let mut chunk = vec![0; 1_000_000];
    for number in 0..megabytes {
        output.read_exact(&mut chunk).unwrap_or_else(|error| panic!("megabyte {number}: {error}"));
        assert!(chunk == noise.megabyte(), "megabyte {number} differs");
    }
    assert_eq!(output.read(&mut chunk).unwrap(), 0, "there is more output than input");
    writer.join().unwrap();
    assert!(running.wait(Duration::from_secs(20)).success());
}

/// SIGTERM to msb is SIGTERM to the command, whose own ending counts.
fn terminate_reaches_the_command(vm: &Vm) {
    let script = "trap 'echo asked to stop; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let mut running = vm.sh(script).spawn();
    running.expect("ready\n");
    running.signal(Signal::SIGTERM);
    running.expect("asked to stop\n");
    assert_eq!(running.wait(vm.hypervisor.limit()).code(), Some(7));
}

/// Bytes that do not compress and are the same every time (xorshift).
struct Noise(u64);

impl Noise {
    fn megabyte(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1_000_000);
        while bytes.len() < 1_000_000 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes
    }
}
