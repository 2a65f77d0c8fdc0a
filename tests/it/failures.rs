//! When something dies, the rest ends at once and says what happened.

use std::time::{Duration, Instant};

use msb_test_support::{Finished, Process, Running, Vm, wait_until};
use nix::sys::signal::Signal;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm_alone: caller_killed, vmm_killed);
    tests!(suite, vm: vmm_killed_while_the_command_prints, guest_panic, out_of_memory, machine_too_small);
    tests!(suite, vm_unsuited_kernel: unsuited_kernel_is_named);
}

/// A machine in which a command waits.
fn waiting(vm: &Vm) -> (Running, Process) {
    let mut running = vm.sh("echo ready; sleep 1000").spawn();
    running.expect("ready\n");
    let vmm = running.vmm();
    (running, vmm)
}

/// Nobody is left to stop the machine, so it must notice by itself.
fn caller_killed(vm: &Vm) {
    let (running, vmm) = waiting(vm);
    let family = running.process().descendants();
    running.signal(Signal::SIGKILL);
    wait_until(Duration::from_secs(2), "the machine ends with its caller", || !vmm.alive());
    wait_until(Duration::from_secs(2), "all its processes end", || !family.iter().any(Process::alive));
}

fn vmm_killed(vm: &Vm) {
    let (mut running, vmm) = waiting(vm);
    let start = Instant::now();
    vmm.signal(Signal::SIGKILL);
    let status = running.wait(Duration::from_secs(5));
    let took = start.elapsed();
    let errors = running.errors();
    assert_eq!(status.code(), Some(125), "{errors}");
    assert!(took < Duration::from_secs(1), "it took {took:?} to notice");
    assert!(errors.contains("machine"), "{errors}");
}

fn vmm_killed_while_the_command_prints(vm: &Vm) {
    let mut running = vm.msx("busybox", ["yes"]).spawn();
    running.expect("y\n");
    running.vmm().signal(Signal::SIGKILL);
    let mut output = running.stdout().unwrap();
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    assert_eq!(running.wait(Duration::from_secs(5)).code(), Some(125));
}

/// A program that takes all memory there is, in steps that cost little to give.
const HOG: &str = "a = []\nwhile True: a.append(b'x' * (4 << 20))";

/// Runs the hog in 128 MiB, after `before`.
fn hog(vm: &Vm, before: &str) -> Finished {
    let program = format!("{before}\n{HOG}");
    let run =
        vm.program("msx").arg(vm.image("python")).args(["--memory", "128", "--", "python3", "-c", &program]);
    run.run()
}

/// The guest's kernel itself gives up.
fn guest_panic(vm: &Vm) {
    let finished = hog(vm, "open('/proc/sys/vm/panic_on_oom', 'w').write('1')");
    finished.code(125).stderr_has("panic").stderr_has("out of memory");
}

/// The guest's kernel kills the command: 137 as everywhere, and a note that says why.
fn out_of_memory(vm: &Vm) {
    hog(vm, "").code(137).stdout_is("").stderr_has("out of memory");
}

fn machine_too_small(vm: &Vm) {
    let run = vm.program("msx").arg(vm.image("busybox")).args(["--memory", "16M", "--", "true"]);
    let finished = run.run();
    assert!(matches!(finished.exit_code(), Some(2 | 125)), "{finished}");
    assert!(finished.err().contains("memory"), "{finished}");
}

/// The normal kernel on a KVM that only interprets guest kernels: said within 15 s, not after a silent hang.
fn unsuited_kernel_is_named(vm: &Vm) {
    let kernel = std::env::var("MSB_TEST_KERNEL").unwrap();
    let run = vm.sh("true").env("MSB_KERNEL", kernel).env("MSB_KVM_PROBE", "skip");
    let finished = run.limit(Duration::from_secs(30)).run().code(125).stdout_is("");
    assert!(finished.elapsed < Duration::from_secs(15), "{finished}");
    finished.stderr_has("kvm");
    // Without the override msb does not even try, and says why.
    let run = vm.sh("true").env("MSB_KVM_PROBE", "");
    let finished = run.run().code(125).stderr_has("kvm").stderr_has("--vmm qemu");
    assert!(finished.elapsed < Duration::from_secs(2), "{finished}");
}
