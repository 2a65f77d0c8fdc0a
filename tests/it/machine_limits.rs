//! What the machine is like: processors, memory, disk, network, kernel.

use msb_test_support::Vm;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: memory_and_processors, disk_size, disk_grows, interfaces, usual_file_systems, limits_of_processes);
    tests!(suite, vm: clock_is_right, hostname_is_set, timings_are_printed);
}

/// `msx busybox FLAGS -- sh -c SCRIPT`.
fn with_flags(vm: &Vm, flags: &[&str], script: &str) -> msb_test_support::Finished {
    let run = vm.program("msx").arg(vm.image("busybox")).args(flags);
    run.args(["--", "sh", "-c", script]).run().success()
}

fn memory_and_processors(vm: &Vm) {
    let script = "awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo; grep -c ^processor /proc/cpuinfo";
    let text = with_flags(vm, &["--memory", "300M", "--cpus", "1"], script).out();
    let (memory, processors) = text.trim().split_once('\n').unwrap();
    let memory: u32 = memory.parse().unwrap();
    assert!((200..=300).contains(&memory), "{memory} MiB of 300");
    assert_eq!(processors, "1");
}

fn disk_size(vm: &Vm) {
    let megabytes = |flags: &[&str]| -> u64 {
        with_flags(vm, flags, "df -m / | awk 'END {print $2}'").out().trim().parse().unwrap()
    };
    let default = megabytes(&[]);
    assert!((7000..=8192).contains(&default), "{default} MiB by default");
    let small = megabytes(&["--disk", "300M"]);
    assert!((200..=300).contains(&small), "{small} of 300 MiB");
}

/// A larger `disk:` of a sandbox that exists makes its file system larger, with what is in it.
fn disk_grows(vm: &Vm) {
    let write = |disk: &str| {
        let image = vm.image("busybox");
        vm.write(
            "Sandboxfile",
            format!("sandboxes:\n  app:\n    image: {image}\n    memory: 256\n    disk: {disk}\n"),
        );
    };
    write("300M");
    vm.msb(["run", "app", "--", "sh", "-c", "echo kept > /note"]).run().success();
    write("3G");
    let text = vm
        .msb(["run", "app", "--", "sh", "-c", "cat /note; df -m / | awk 'END {print $2}'"])
        .run()
        .success()
        .out();
    let (note, size) = text.trim().split_once('\n').unwrap();
    assert_eq!(note, "kept");
    let size: u64 = size.parse().unwrap();
    assert!((2500..=3072).contains(&size), "{size} MiB of 3 GiB");
}

fn interfaces(vm: &Vm) {
    let script = "ip -o addr | awk '{print $2}' | sort -u; (echo hi | nc -l -p 99 &); sleep 0.5; nc 127.0.0.1 99 < /dev/null";
    with_flags(vm, &[], script).stdout_is("eth0\nlo\nhi\n");
}

fn usual_file_systems(vm: &Vm) {
    let script = "for d in /proc /sys /dev /dev/pts /dev/shm /tmp; do test -d $d || echo missing $d; done; \
                  test -w /dev/null && test -c /dev/tty && ls -l /dev/fd/ > /dev/null && echo x > /dev/shm/x && \
                  head -c 4 /dev/urandom | wc -c";
    with_flags(vm, &[], script).stdout_is("4\n");
}

fn limits_of_processes(vm: &Vm) {
    let text = with_flags(vm, &[], "ulimit -n; umask; cat /proc/self/oom_score_adj").out();
    let mut lines = text.lines();
    assert!(lines.next().unwrap().parse::<u32>().unwrap() >= 1024, "{text}");
    assert_eq!((lines.next(), lines.next()), (Some("0022"), Some("0")), "{text}");
}

fn clock_is_right(vm: &Vm) {
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let guest: u64 = with_flags(vm, &[], "date +%s").out().trim().parse().unwrap();
    assert!(guest + 2 >= before && guest < before + 120, "host {before}, guest {guest}");
}

fn hostname_is_set(vm: &Vm) {
    let name = with_flags(vm, &[], "hostname").out();
    assert!(name.trim_end().len() > 1 && !name.contains("none"), "{name:?}");
}

/// Every phase of a run in milliseconds, on stderr.
fn timings_are_printed(vm: &Vm) {
    let mut finished = with_flags(vm, &["--timings"], "echo out").stdout_is("out\n");
    for phase in ["resolve", "disk", "spawn", "vmm", "kernel", "agent", "exec", "exit"] {
        finished = finished.stderr_has(phase);
    }
}
